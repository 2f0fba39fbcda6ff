"""SSH keys that are not the usual Ed25519 ones: a hardware key without hardware, and RSA keys of any length and digest."""

from __future__ import annotations

import base64
import functools
import hashlib
from typing import Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from reconciler.admission import signature
from support import signing

_string = signature.ssh_string
_APPLICATION = b"ssh:"
TYPE = "sk-ssh-ed25519@openssh.com"
_SK = TYPE.encode()
_DIGESTS: dict[str, hashes.HashAlgorithm] = {"ssh-rsa": hashes.SHA1(), "rsa-sha2-512": hashes.SHA512()}


def _wrap(public: bytes, namespace: str, own: bytes) -> bytes:
    parts = (public, namespace.encode(), b"", b"sha512", own)
    return b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(_string, parts))


class Token(signing.Key):
    """A FIDO key (PROTOCOL.u2f of OpenSSH). `touched`: whether the flag of user presence is set in what it signs."""

    def __init__(self, name: str, *, touched: bool) -> None:
        super().__init__(name)
        self._flags = b"\x01" if touched else b"\x00"

    @functools.cached_property
    def blob(self) -> bytes:
        raw = self._private.public_key().public_bytes_raw()
        return _string(_SK) + _string(raw) + _string(_APPLICATION)

    @functools.cached_property
    def public_line(self) -> str:
        return f"{TYPE} {base64.b64encode(self.blob).decode()} {self.name}"

    def sign(self, message: bytes, namespace: str) -> bytes:
        tail = self._flags + (7).to_bytes(4, "big")
        hashed = hashlib.sha256(signature.signed_bytes(message, namespace)).digest()
        raw = self._private.sign(hashlib.sha256(_APPLICATION).digest() + tail + hashed)
        return _wrap(self.blob, namespace, _string(_SK) + _string(raw) + tail)


@functools.cache
def _rsa(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def rsa_armored(message: bytes, bits: int, algorithm: Literal["ssh-rsa", "rsa-sha2-512"]) -> bytes:
    """The armored signature for commits, good but for the length or the digest."""
    key = _rsa(bits)
    numbers = key.public_key().public_numbers()
    public = b"".join(map(_string, (b"ssh-rsa", _mpint(numbers.e), _mpint(numbers.n))))
    raw = key.sign(signature.signed_bytes(message, "git"), padding.PKCS1v15(), _DIGESTS[algorithm])
    return signature.armor(_wrap(public, "git", _string(algorithm.encode()) + _string(raw)))


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
