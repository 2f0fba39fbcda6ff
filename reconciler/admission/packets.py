"""OpenPGP as bytes: armor, packets, public keys, one signature (RFC 4880, RFC 9580). Pure; checks no signature.

What this does not read it refuses: other versions, secret keys, partial lengths, more than one form of the same thing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from reconciler import errors, model
from reconciler.admission import signature

BEGIN = b"-----BEGIN PGP SIGNATURE-----"
MAX_KEY_BYTES = 1 << 16
_COLUMNS = range(1, 77)  # RFC 9580 6.2: no line of an armor is longer than 76
_SIGNATURE, _PRIMARY, _SUBKEY = 2, 6, 14
_IN_KEY = frozenset({_SIGNATURE, _PRIMARY, _SUBKEY, 13, 17})  # and user ids, user attributes
_RSA, _ECDSA, _EDDSA = 1, 19, 22
ALGORITHMS = {_RSA: "rsa", _ECDSA: "ecdsa", _EDDSA: "eddsa"}
HASHES = {8: "sha256", 9: "sha384", 10: "sha512"}
_CURVES = {
    bytes.fromhex("2a8648ce3d030107"): _ECDSA,  # NIST P-256
    bytes.fromhex("2b81040022"): _ECDSA,  # NIST P-384
    bytes.fromhex("2b06010401da470f01"): _EDDSA,  # Ed25519
}


class Key(NamedTuple):
    """A transferable public key. `signing`: the primary and the subkeys whose algorithm and size are allowed."""

    fingerprint: str  # of the primary key: 40 upper-case hex digits
    blob: bytes
    signing: frozenset[str]


# --- armor ----------------------------------------------------------------------------------------------------------


def dearmor(text: bytes, kind: bytes = b"SIGNATURE") -> bytes | None:
    """The bytes in an armor that has its one form, LF at the end; None for any other.

    No armor headers, lines of one width, canonical base64, an optional and right CRC24, at most one empty line after END,
    which GitHub writes.
    """
    lines = text.split(b"\n")[:-1]
    if lines and lines[-1] == b"":
        lines = lines[:-1]
    begin, end = b"-----BEGIN PGP %s-----" % kind, b"-----END PGP %s-----" % kind
    if lines[:2] != [begin, b""] or lines[-1] != end:
        return None
    body = lines[2:-1]
    crc = body.pop() if body and body[-1].startswith(b"=") else None
    if not body or len(body[0]) not in _COLUMNS:
        return None
    try:
        content = binascii.a2b_base64(b"".join(body), strict_mode=True)
    except binascii.Error:
        return None
    encoded, width = base64.b64encode(content), len(body[0])
    again = [encoded[at : at + width] for at in range(0, len(encoded), width)]
    return content if again == body and crc in {None, b"=" + base64.b64encode(_crc24(content))} else None


def _crc24(content: bytes) -> bytes:
    """RFC 9580 6.1.1."""
    crc = 0xB704CE
    for byte in content:
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    return (crc & 0xFFFFFF).to_bytes(3, "big")


# --- packets --------------------------------------------------------------------------------------------------------


class _MalformedError(Exception):
    """Never leaves this module."""


def _packets(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body, in the old format or the new one; partial and indeterminate lengths are refused."""
    at = 0
    while at < len(content):
        head = content[at]
        if not head & 0x80:
            raise _MalformedError("not an OpenPGP packet")
        tag, at, size_bytes = _new(content, at) if head & 0x40 else _old(content, at)
        body = content[at : at + size_bytes]
        if len(body) != size_bytes:
            raise _MalformedError("a packet is cut short")
        yield tag, body
        at += size_bytes


def _old(content: bytes, at: int) -> tuple[int, int, int]:
    head = content[at]
    width = {0: 1, 1: 2, 2: 4}.get(head & 3)
    if width is None:
        raise _MalformedError("a packet of indeterminate length")
    size_bytes = int.from_bytes(content[at + 1 : at + 1 + width], "big")
    if width > 1 and size_bytes < 1 << 8 * (width // 2):
        raise _MalformedError("a length that is not in its shortest form")
    return head >> 2 & 0xF, at + 1 + width, size_bytes


def _new(content: bytes, at: int) -> tuple[int, int, int]:
    tag, first = content[at] & 0x3F, content[at + 1] if at + 1 < len(content) else 255
    if first < 192:  # noqa: PLR2004 - RFC 9580 4.2.1.1
        return tag, at + 2, first
    if first < 224:  # noqa: PLR2004 - RFC 9580 4.2.1.2
        second = content[at + 2] if at + 2 < len(content) else 0
        return tag, at + 3, (first - 192 << 8) + second + 192
    if first != 255:  # noqa: PLR2004 - RFC 9580 4.2.1.4
        raise _MalformedError("a packet of partial length")
    size_bytes = int.from_bytes(content[at + 2 : at + 6], "big")
    if size_bytes < 8384:  # noqa: PLR2004 - what two bytes can say
        raise _MalformedError("a length that is not in its shortest form")
    return tag, at + 6, size_bytes


# --- keys of the policy ---------------------------------------------------------------------------------------------


def read_key(public: str) -> Key:
    """`public` of a key object: the base64 of `gpg --export`, or the text of `gpg --export --armor`.

    Raises: ConfigError(key | weak_alg) for what is no v4 key with one primary key of an allowed algorithm.
    """
    found = parse_key(public)
    if found.fingerprint not in found.signing:
        message = "the OpenPGP key is none of Ed25519, ECDSA P-256 and P-384, and RSA of 3072 bits or more"
        raise errors.ConfigError("weak_alg", message, fix="make a new key: gpg --quick-generate-key NAME ed25519")
    return found


def parse_key(public: str) -> Key:
    """The same for a key that may be too weak: then it is known, and good for nothing. Raises: as `read_key`."""
    fix = "paste what `gpg --export --armor FINGERPRINT` prints"
    blob = _key_bytes(public)
    if blob is None or len(blob) > MAX_KEY_BYTES:
        raise errors.ConfigError("key", "not an OpenPGP public key", fix=fix)
    try:
        packets = tuple(_packets(blob))
    except _MalformedError as exc:
        raise errors.ConfigError("key", f"not an OpenPGP public key: {exc}", fix=fix) from exc
    tags = [tag for tag, _ in packets]
    if tags[:1] != [_PRIMARY] or tags.count(_PRIMARY) != 1 or not _IN_KEY.issuperset(tags):
        raise errors.ConfigError("key", "an OpenPGP key object holds exactly one public key, and no secret", fix=fix)
    bodies = [body for tag, body in packets if tag in {_PRIMARY, _SUBKEY}]
    if any(body[:1] != b"\4" for body in bodies):
        raise errors.ConfigError("weak_alg", "only OpenPGP keys of version 4 are verified", fix=fix)
    signing = frozenset(_fingerprint(body) for body in bodies if _is_allowed(body))
    return Key(_fingerprint(bodies[0]), blob, signing)


def _key_bytes(public: str) -> bytes | None:
    text = public.strip()
    if text.startswith("-----BEGIN"):
        return dearmor(text.encode() + b"\n", b"PUBLIC KEY BLOCK")
    try:
        return binascii.a2b_base64(text.encode(), strict_mode=True)
    except ValueError:
        return None


def _fingerprint(body: bytes) -> str:
    """RFC 9580 5.5.4.2. SHA-1 is the name of a version 4 key; that the blob is the right one is the policy's blob's to say."""
    framed = b"\x99" + len(body).to_bytes(2, "big") + body
    return hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper()


def _is_allowed(body: bytes) -> bool:
    """Whether signatures by this key packet count: its algorithm and size."""
    algorithm, material = (body[5] if len(body) > 5 else 0), body[6:]  # noqa: PLR2004 - after version and time
    if algorithm == _RSA:
        return int.from_bytes(material[:2], "big") in signature.RSA_BITS
    curve = material[1 : 1 + material[0]] if material else b""
    return algorithm in ALGORITHMS and _CURVES.get(curve) == algorithm


# --- one signature ---


class Signature(NamedTuple):
    """One signature packet of an allowed kind. `issuers`: what it names outside of the signed bytes."""

    algorithm: int
    digest: int
    hashed: bytes  # from the version to the end of the hashed subpackets
    issuers: frozenset[str]
    left: bytes  # the first two bytes of the digest, as the packet says

    def fits(self, payload: bytes) -> bool:
        """Whether `left` is right: gpgv does not look, and the bytes are not under the signature (checked)."""
        trailer = b"\4\xff" + len(self.hashed).to_bytes(4, "big")
        return hashlib.new(HASHES[self.digest], payload + self.hashed + trailer).digest()[:2] == self.left


def look_at(blob: bytes) -> Signature | model.Reason:
    """What the packets themselves say, before anybody is asked whether the signature is good.

    What is not under the signature can be changed without the key: it has one form here, else it would be another id for
    the same commit. Reasons: sig_invalid, weak_alg, multi_sig.
    """
    try:
        packets = tuple(_packets(blob))
        if len(packets) > 1:
            return model.Reason(code="multi_sig", message="more than one signature", fix="sign once, with one key")
        if not packets or packets[0][0] != _SIGNATURE:
            return invalid("no signature in the armor")
        return _look_into(packets[0][1])
    except _MalformedError as exc:
        return invalid(str(exc))


def _look_into(body: bytes) -> Signature | model.Reason:
    """RFC 9580 5.2.3: version, type, algorithm, hash, hashed subpackets, unhashed ones, two bytes of the digest, numbers."""
    version, kind, algorithm, digest = (*body[:4], 0, 0, 0, 0)[:4]
    if (version, kind) != (4, 0):
        return invalid("not a version 4 signature over a binary document")
    if algorithm not in ALGORITHMS or digest not in HASHES:
        return weak(f"public-key algorithm {algorithm} with hash {digest} is not allowed")
    _, hashed_end = _area(body, 4)
    unhashed, at = _area(body, hashed_end)
    left, numbers, at = body[at : at + 2], 0, at + 2
    while at < len(body):
        at, numbers = _after_number(body, at), numbers + 1
    if numbers != (1 if algorithm == _RSA else 2):
        raise _MalformedError("not as many numbers as this algorithm has")
    return Signature(algorithm, digest, body[:hashed_end], frozenset(_issuers(unhashed)), left)


def _area(body: bytes, at: int) -> tuple[bytes, int]:
    size_bytes = int.from_bytes(body[at : at + 2], "big")
    end = at + 2 + size_bytes
    if end > len(body):
        raise _MalformedError("the signature is cut short")
    return body[at + 2 : end], end


def _issuers(unhashed: bytes) -> Iterator[str]:
    at = 0
    while at < len(unhashed):
        size_bytes = unhashed[at]
        content = unhashed[at + 1 : at + 1 + size_bytes]
        match content[:1], len(content):
            case (b"\x10", 9):  # Issuer key id
                yield content[1:].hex().upper()
            case (b"\x21", 22) if content[1] == 4:  # noqa: PLR2004 - issuer fingerprint of a version 4 key
                yield content[2:].hex().upper()
            case _:
                raise _MalformedError("bytes that are not under the signature, beside the issuer")
        at += 1 + size_bytes


def _after_number(body: bytes, at: int) -> int:
    """A number in its one form: as many bits as it says (RFC 9580 3.2)."""
    bits = int.from_bytes(body[at : at + 2], "big")
    content = body[at + 2 : at + 2 + (bits + 7) // 8]
    if len(content) != (bits + 7) // 8 or int.from_bytes(content, "big").bit_length() != bits or not bits:
        raise _MalformedError("a number that is not in its one form")
    return at + 2 + len(content)


def invalid(message: str) -> model.Reason:
    return model.Reason(code="sig_invalid", message=message)


def weak(message: str) -> model.Reason:
    fix = "use Ed25519, ECDSA P-256 or P-384, or RSA of 3072 bits, with SHA-256 or longer"
    return model.Reason(code="weak_alg", message=message, fix=fix)
