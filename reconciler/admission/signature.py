"""SSH signatures: whose key signed these bytes (trust.md 7.2; OpenSSH PROTOCOL.sshsig, PROTOCOL.key, PROTOCOL.u2f).

Not here: whose the key is, whether it may, and since when. OpenPGP (trust.md 7.3) is `openpgp.py`.
Nothing in this module raises on hostile bytes but `key_id` and `public_blob`, whose input is a policy's author's.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib

from cryptography import exceptions
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from reconciler import errors, model

MAX_BYTES = 1 << 16  # of an armor; a commit is no longer than this either
RSA_BITS = range(3072, 16385)  # OpenSSH reads no number of more than 16384 bits.
_COLUMNS = 70  # what ssh-keygen wraps at; another width would be another commit id for the same signature

_MAGIC = b"SSHSIG"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
_PGP = b"-----BEGIN PGP SIGNATURE-----"

_ED25519, _RSA = "ssh-ed25519", "ssh-rsa"
_SK_ED25519, _SK_ECDSA = "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"
_CURVES: dict[str, tuple[str, ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "ecdsa-sha2-nistp256": ("nistp256", ec.SECP256R1(), hashes.SHA256()),
    "ecdsa-sha2-nistp384": ("nistp384", ec.SECP384R1(), hashes.SHA384()),
    _SK_ECDSA: ("nistp256", ec.SECP256R1(), hashes.SHA256()),
}
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}
_DIGESTS = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}

_USER_PRESENT, _USER_VERIFIED = 0x01, 0x04

_PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Verified(model.Value):
    """A good signature: of which key, and what its hardware said. Whether that suffices is the policy's to say."""

    key_id: str  # "SHA256:...", as ssh-keygen prints it
    algorithm: str
    user_present: bool | None = None  # None: no hardware key
    user_verified: bool | None = None


@functools.lru_cache(maxsize=512)  # The same commits are judged again at each poll while a history is blocked.
def verify(payload: bytes, armored: bytes, *, namespace: str) -> Verified | model.Reason:
    """Check the armored signature of a commit over these bytes.

    Reasons: sig_invalid, weak_alg, namespace, multi_sig.
    """
    blob = dearmor(armored)
    return blob if isinstance(blob, model.Reason) else verify_blob(payload, blob, namespace=namespace)


def verify_blob(payload: bytes, blob: bytes, *, namespace: str) -> Verified | model.Reason:
    """The same for the binary form, which is what `sig` of an envelope holds. Reasons: sig_invalid, weak_alg, namespace."""
    try:
        return _verify(payload, blob, namespace.encode())
    except _RefusedError as exc:
        return exc.reason
    except exceptions.InvalidSignature:
        return _invalid("the signature is not of these bytes by this key").reason


@functools.lru_cache(maxsize=16)  # The grammar of a commit asks first, the check of its signature right after.
def dearmor(armored: bytes) -> bytes | model.Reason:
    """The blob in an armor, which must be the one that `armor` makes of it. Reasons: sig_invalid, multi_sig."""
    if armored.startswith(_PGP):
        return model.Reason(
            code="sig_invalid",
            message="an OpenPGP signature stands where an SSH signature is expected",
            fix="sign with an SSH key",
        )
    if len(armored) > MAX_BYTES:
        return _invalid(f"the armor has more than {MAX_BYTES} bytes").reason
    if armored.count(_BEGIN) > 1:
        return model.Reason(code="multi_sig", message="more than one signature", fix="sign once")
    lines = armored.split(b"\n")
    try:
        blob = binascii.a2b_base64(b"".join(lines[1:-2]), strict_mode=True)
    except binascii.Error:
        blob = b""
    if not blob or armor(blob) != armored:
        return _invalid("the armor is not as ssh-keygen writes it: 70 columns, nothing before or after it").reason
    return blob


def armor(blob: bytes) -> bytes:
    """As `ssh-keygen -Y sign` prints it, LF at the end."""
    text = base64.b64encode(blob)
    lines = (text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS))
    return b"\n".join((_BEGIN, *lines, _END, b""))


def key_id(public_line: str) -> str:
    """The fingerprint of `ssh-ed25519 AAAA... comment`.

    Raises: ConfigError(key | weak_alg) for what is no key, or none that may sign here.
    """
    return fingerprint(public_blob(public_line))


def public_blob(public_line: str) -> bytes:
    """The binary key of such a line. Raises: ConfigError(key | weak_alg)."""
    fix = "paste the line of the .pub file: `ssh-ed25519 AAAA... comment`"
    kind, _, rest = public_line.strip().partition(" ")
    encoded = rest.split(" ", 1)[0]
    try:
        blob = binascii.a2b_base64(encoded.encode("ascii"), strict_mode=True)
    except ValueError as exc:
        raise errors.ConfigError("key", "not an SSH public key", fix=fix) from exc
    if base64.b64encode(blob).decode() != encoded or len(blob) > MAX_BYTES:
        raise errors.ConfigError("key", "not an SSH public key in canonical base64", fix=fix)
    try:
        found = _Key(blob)
    except _RefusedError as exc:
        code = "weak_alg" if exc.reason.code == "weak_alg" else "key"
        raise errors.ConfigError(code, exc.reason.message, fix=exc.reason.fix or fix) from exc
    if found.kind != kind:
        raise errors.ConfigError("key", f"the line says {kind!r}, the key is {found.kind}", fix=fix)
    return blob


def fingerprint(blob: bytes) -> str:
    """`SHA256:...` of a binary public key."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def ssh_string(content: bytes) -> bytes:
    """RFC 4251 5: a length of four bytes, then the bytes."""
    return len(content).to_bytes(4, "big") + content


def signed_bytes(message: bytes, namespace: str, digest: str = "sha512") -> bytes:
    """What the key itself signs: the namespace and the digest of the message under a name of their own."""
    hashed = _DIGESTS[digest.encode()](message).digest()
    return _MAGIC + b"".join(map(ssh_string, (namespace.encode(), b"", digest.encode(), hashed)))


class _RefusedError(Exception):
    """Never leaves this module: the way out of a parser that is several calls deep."""

    def __init__(self, reason: model.Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


def _invalid(message: str) -> _RefusedError:
    return _RefusedError(model.Reason(code="sig_invalid", message=message))


def _weak(message: str) -> _RefusedError:
    fix = "use ed25519, ECDSA P-256 or P-384, a FIDO key of these, or RSA of 3072 bits with SHA-2"
    return _RefusedError(model.Reason(code="weak_alg", message=message, fix=fix))


class _Wire:
    """Reads RFC 4251 data from the front; never past its end, and `end` demands that nothing is left."""

    def __init__(self, content: bytes, what: str) -> None:
        self._content, self._at, self._what = content, 0, what

    def take(self, size_bytes: int) -> bytes:
        taken = self._content[self._at : self._at + size_bytes]
        if len(taken) != size_bytes:
            raise _invalid(f"{self._what} is cut short")
        self._at += size_bytes
        return taken

    def number(self, size_bytes: int) -> int:
        return int.from_bytes(self.take(size_bytes), "big")

    def string(self) -> bytes:
        begin = self._at + 4  # As `take` and `number` would: most of what is read are strings.
        self._at = begin + int.from_bytes(self._content[self._at : begin], "big")
        if self._at > len(self._content) or begin > len(self._content):
            raise _invalid(f"{self._what} is cut short")
        return self._content[begin : self._at]

    def name(self) -> str:
        return self.string().decode("ascii", errors="backslashreplace")

    def mpint(self) -> int:
        """A positive number in its one shortest form: OpenSSH reads longer ones, which would be other bytes for the same."""
        content = self.string()
        value = int.from_bytes(content, "big")
        if value == 0 or len(content) != value.bit_length() // 8 + 1:
            raise _invalid(f"a number in {self._what} is not in its shortest form")
        return value

    def end(self) -> None:
        if self._at != len(self._content):
            raise _invalid(f"bytes after the end of {self._what}")


class _Key:
    """A public key of an allowed kind and size. Never changed once it is made: many signatures share it."""

    def __init__(self, blob: bytes) -> None:
        wire = _Wire(blob, "the public key")
        self.name = fingerprint(blob)
        self.kind = wire.name()
        self.public = self._public(wire)
        self.application = wire.string() if self.hardware else b""
        wire.end()

    @property
    def hardware(self) -> bool:
        return self.kind in {_SK_ED25519, _SK_ECDSA}

    def _public(self, wire: _Wire) -> _PublicKey:
        if self.kind in {_ED25519, _SK_ED25519}:
            content = wire.string()
            if len(content) != 32:  # noqa: PLR2004 - RFC 8709 4
                raise _invalid("an Ed25519 key has 32 bytes")
            return ed25519.Ed25519PublicKey.from_public_bytes(content)
        if self.kind in _CURVES:
            return self._point(wire)
        if self.kind == _RSA:
            return self._rsa(wire)
        raise _weak(f"keys of type {self.kind[:64]!r} are not allowed")

    def _point(self, wire: _Wire) -> ec.EllipticCurvePublicKey:
        name, curve, _ = _CURVES[self.kind]
        if wire.name() != name:
            raise _invalid(f"a key of type {self.kind} is on the curve {name}")
        point = wire.string()
        if not point.startswith(b"\x04"):  # A compressed point would be a second fingerprint of the same key.
            raise _invalid("the point of the key is not in its uncompressed form")
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        except ValueError as exc:
            raise _invalid("the point of the key is not on its curve") from exc

    def _rsa(self, wire: _Wire) -> rsa.RSAPublicKey:
        exponent, modulus = wire.mpint(), wire.mpint()
        bits = modulus.bit_length()
        if bits not in RSA_BITS:
            raise _weak(f"an RSA key of {bits} bits; {RSA_BITS[0]} to {RSA_BITS[-1]} are allowed")
        if exponent.bit_length() > 32:  # noqa: PLR2004 - bounds the work of one verification; everybody uses 65537
            raise _weak("an RSA key with an exponent of more than 32 bits")
        try:
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        except ValueError as exc:
            raise _invalid("not an RSA key") from exc


_key = functools.lru_cache(maxsize=1024)(_Key)  # A few hundred people sign thousands of times.


def _verify(payload: bytes, blob: bytes, namespace: bytes) -> Verified:
    wire = _Wire(blob, "the signature")
    if len(blob) > MAX_BYTES or wire.take(len(_MAGIC)) != _MAGIC or wire.number(4) != 1:
        raise _invalid("not an SSH signature of version 1")
    public, signed_for, reserved, digest, raw = (wire.string() for _ in range(5))
    wire.end()
    if signed_for != namespace:
        message = f"signed for {signed_for[:64].decode(errors='backslashreplace')!r}, not for {namespace.decode()!r}"
        raise _RefusedError(model.Reason(code="namespace", message=message))
    # Not under the signature in OpenSSH's reading: whatever stood here would give a second form of the same signature.
    if reserved:
        raise _invalid("the reserved field is not empty")
    if digest not in _DIGESTS:
        raise _weak(f"the message digest {digest[:64].decode(errors='backslashreplace')!r} is not allowed")
    return _check(_key(public), raw, signed_bytes(payload, namespace.decode(), digest.decode()))


def _check(key: _Key, signature: bytes, signed: bytes) -> Verified:
    wire = _Wire(signature, "the signature")
    algorithm, raw = wire.name(), wire.string()
    if algorithm not in (_RSA_HASHES if key.kind == _RSA else {key.kind}):
        raise _weak(f"the algorithm {algorithm[:64]!r} is not allowed for a key of type {key.kind}")
    flags = None
    if key.hardware:
        flags, counter = wire.take(1), wire.take(4)
        signed = hashlib.sha256(key.application).digest() + flags + counter + hashlib.sha256(signed).digest()
    wire.end()
    _check_raw(key, algorithm, raw, signed)
    if flags is None:
        return Verified(key_id=key.name, algorithm=algorithm)
    present, verified = bool(flags[0] & _USER_PRESENT), bool(flags[0] & _USER_VERIFIED)
    return Verified(key_id=key.name, algorithm=algorithm, user_present=present, user_verified=verified)


def _check_raw(key: _Key, algorithm: str, raw: bytes, signed: bytes) -> None:
    """Raises: InvalidSignature."""
    match key.public:
        case ed25519.Ed25519PublicKey():
            key.public.verify(raw, signed)
        case ec.EllipticCurvePublicKey():
            wire = _Wire(raw, "the signature")
            r, s = wire.mpint(), wire.mpint()
            wire.end()
            # A number longer than the order is no signature; it is refused before it is encoded anew.
            if max(r, s).bit_length() > key.public.key_size:
                raise _invalid("a number in the signature is too long for the curve")
            der = utils.encode_dss_signature(r, s)
            key.public.verify(der, signed, ec.ECDSA(_CURVES[key.kind][2]))
        case rsa.RSAPublicKey():
            key.public.verify(raw, signed, padding.PKCS1v15(), _RSA_HASHES[algorithm])
