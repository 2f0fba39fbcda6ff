"""OpenPGP signatures of commits and merges (trust.md 7.3; RFC 4880, RFC 9580): what gpgv's answer means. Pure.

The exit code decides nothing: it is 0 for expired and revoked keys, and VALIDSIG is printed for both. So the packets are read
here before gpgv is asked, and its status lines are read after, each strictly. Not here: gpgv itself (`git/gpgv.py`), and whose
key it is (`policy.py`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from reconciler import errors, model, ports
from reconciler.admission import signature

BEGIN = b"-----BEGIN PGP SIGNATURE-----"
MAX_KEY_BYTES = 1 << 16
_COLUMNS = range(1, 77)  # RFC 9580 6.2: no line of an armor is longer than 76
_SIGNATURE, _PRIMARY, _SUBKEY = 2, 6, 14
_IN_KEY = frozenset({_SIGNATURE, _PRIMARY, _SUBKEY, 13, 17})  # and user ids, user attributes
_RSA, _ECDSA, _EDDSA = 1, 19, 22
_ALGORITHMS = {_RSA: "rsa", _ECDSA: "ecdsa", _EDDSA: "eddsa"}
_HASHES = {8: "sha256", 9: "sha384", 10: "sha512"}
_CURVES = {
    bytes.fromhex("2a8648ce3d030107"): _ECDSA,  # NIST P-256
    bytes.fromhex("2b81040022"): _ECDSA,  # NIST P-384
    bytes.fromhex("2b06010401da470f01"): _EDDSA,  # Ed25519
}
_HARMLESS = frozenset({"KEY_CONSIDERED", "SIG_ID", "PROGRESS"})
_FAILED = {"REVKEYSIG": "sig_key_revoked", "EXPSIG": "sig_invalid", "BADSIG": "sig_invalid"}
_VALIDSIG_FIELDS = 10
_STAMP = re.compile(r"[1-9][0-9]{0,11}")  # seconds since 1970
_NO_PUBKEY = "9"  # the reason in ERRSIG


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
    return head >> 2 & 0xF, at + 1 + width, int.from_bytes(content[at + 1 : at + 1 + width], "big")


def _new(content: bytes, at: int) -> tuple[int, int, int]:
    tag, first = content[at] & 0x3F, content[at + 1] if at + 1 < len(content) else 255
    if first < 192:  # noqa: PLR2004 - RFC 9580 4.2.1.1
        return tag, at + 2, first
    if first < 224:  # noqa: PLR2004 - RFC 9580 4.2.1.2
        second = content[at + 2] if at + 2 < len(content) else 0
        return tag, at + 3, (first - 192 << 8) + second + 192
    if first != 255:  # noqa: PLR2004 - RFC 9580 4.2.1.4
        raise _MalformedError("a packet of partial length")
    return tag, at + 6, int.from_bytes(content[at + 2 : at + 6], "big")


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
    return algorithm in _ALGORITHMS and _CURVES.get(curve) == algorithm


class Missing:
    """`ports.OpenPgp` where nobody bound one."""

    def verify(self, payload: bytes, signature: bytes, keys: Sequence[bytes]) -> ports.Answer:  # noqa: ARG002 - the port's
        raise _no_answer("no verifier of OpenPGP signatures is bound")


# --- one signature --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judge:
    """What is known when a signature is judged. `keys`: by primary fingerprint, all of the policy in force."""

    keys: Mapping[str, Key]
    verifier: ports.OpenPgp
    observed: datetime  # t_obs


def verify(payload: bytes, armored: bytes, judge: Judge) -> signature.Verified | model.Reason:
    """Check the armored signature of a commit over these bytes.

    Reasons: sig_invalid, weak_alg, multi_sig, sig_key_unknown, sig_key_expired, sig_key_revoked.

    Raises: TransientError(verifier_error), which holds.
    """
    blob = dearmor(armored)
    if blob is None:
        return _invalid("the armor is not in its one form")
    if reason := look_at(blob):
        return reason
    if not judge.keys:
        return _unknown()
    answer = judge.verifier.verify(payload, blob, tuple(key.blob for key in judge.keys.values()))
    return read_status(answer, judge.keys, judge.observed)


def look_at(blob: bytes) -> model.Reason | None:
    """What the packets themselves say against a signature, before anybody is asked whether it is good."""
    try:
        packets = tuple(_packets(blob))
    except _MalformedError as exc:
        return _invalid(str(exc))
    if len(packets) > 1:
        return model.Reason(code="multi_sig", message="more than one signature", fix="sign once, with one key")
    if not packets or packets[0][0] != _SIGNATURE:
        return _invalid("no signature in the armor")
    version, kind, algorithm, digest = (*packets[0][1][:4], 0, 0, 0, 0)[:4]
    if (version, kind) != (4, 0):
        return _invalid("not a version 4 signature over a binary document")
    if algorithm not in _ALGORITHMS or digest not in _HASHES:
        message = f"public-key algorithm {algorithm} with hash {digest} is not allowed"
        return _weak(message)
    return None


def read_status(answer: ports.Answer, keys: Mapping[str, Key], observed: datetime) -> signature.Verified | model.Reason:
    """gpgv's status lines (DETAILS of GnuPG, "Format of the --status-fd output") -> whose signature it is.

    Good is exactly one NEWSIG, GOODSIG and VALIDSIG, the latter by a listed key, with nothing beside them that is not known
    to be harmless. A key that expired after the commit was observed was good then: gpgv has no option for another time.

    Raises: TransientError(verifier_error) for what is no answer: nothing printed, or words that this version does not know.
    """
    said = _lines(answer)
    words = [word for word, _ in said]
    if words.count("NEWSIG") > 1:
        return model.Reason(code="multi_sig", message="more than one signature", fix="sign once, with one key")
    for word, code in _FAILED.items():
        if word in words:
            return _refusal(code, f"gpgv says {word}")
    if "ERRSIG" in words:
        return _of_errsig(said)
    late = _is_late(said, observed)
    if "EXPKEYSIG" in words and not late:
        return _refusal("sig_key_expired", "the OpenPGP key had expired when this was first seen")
    verdict = "EXPKEYSIG" if "EXPKEYSIG" in words else "GOODSIG"
    expected = {"NEWSIG": 1, verdict: 1, "VALIDSIG": 1}
    counted = [word for word in words if word not in _HARMLESS and not word.startswith("TRUST_")]
    if verdict == "EXPKEYSIG":
        counted = [word for word in counted if word != "KEYEXPIRED"]
    if answer.code != 0 or sorted(counted) != sorted(expected):
        return _invalid(f"gpgv does not say plainly that it is good: {' '.join(counted)[:200]}")
    return _of_validsig(next(fields for word, fields in said if word == "VALIDSIG"), keys)


_KNOWN = (
    _HARMLESS | _FAILED.keys() | {"NEWSIG", "GOODSIG", "VALIDSIG", "EXPKEYSIG", "ERRSIG", "NO_PUBKEY", "KEYEXPIRED"}
)
_KNOWN |= {"NODATA", "UNEXPECTED", "FAILURE", "ERROR", "KEYREVOKED", "SIGEXPIRED", "BADARMOR", "NOTATION_NAME"}


def _lines(answer: ports.Answer) -> list[tuple[str, list[str]]]:
    said: list[tuple[str, list[str]]] = []
    for line in answer.status.split(b"\n"):
        if not line:
            continue
        marker, word, *fields = (*line.decode("utf-8", "backslashreplace").split(" "), "")
        if marker != "[GNUPG:]" or not (word in _KNOWN or word.startswith("TRUST_")):
            raise _no_answer(f"gpgv said something that this version does not know: {word[:40]!r}")
        said.append((word, fields))
    if not said:
        raise _no_answer(f"gpgv ended with {answer.code} and said nothing")
    return said


def _no_answer(message: str) -> errors.TransientError:
    return errors.TransientError("verifier_error", message, fix="install gpgv 2.2 or newer; see `reconciler check`")


def _is_late(said: Sequence[tuple[str, list[str]]], observed: datetime) -> bool:
    """Whether every expiry that is named lies after the observation."""
    stamps = [fields[0] for word, fields in said if word == "KEYEXPIRED"]
    return bool(stamps) and all(_STAMP.fullmatch(stamp) and int(stamp) > observed.timestamp() for stamp in stamps)


def _of_errsig(said: Sequence[tuple[str, list[str]]]) -> model.Reason:
    """`ERRSIG keyid pkalgo hashalgo class time rc [fpr]`."""
    fields = next(fields for word, fields in said if word == "ERRSIG")
    if len(fields) > 5 and fields[5] == _NO_PUBKEY:  # noqa: PLR2004 - see above
        return _unknown()
    return _weak("gpgv refuses the algorithm of this signature")


def _of_validsig(fields: list[str], keys: Mapping[str, Key]) -> signature.Verified | model.Reason:
    """`VALIDSIG fpr date time expires version reserved pkalgo hashalgo class primary`."""
    if len(fields) < _VALIDSIG_FIELDS:
        return _invalid("gpgv's VALIDSIG is cut short")
    by, algorithm, digest, kind, primary = fields[0], fields[6], fields[7], fields[8], fields[9]
    key = keys.get(primary)
    if key is None:
        return _unknown()
    if by not in key.signing:
        return _weak(f"the signing key {by} is too weak, or not in the policy")
    if kind != "00" or not algorithm.isdecimal() or not digest.isdecimal():
        return _invalid("not a signature over a binary document")
    if int(algorithm) not in _ALGORITHMS or int(digest) not in _HASHES:
        return _weak(f"public-key algorithm {algorithm} with hash {digest} is not allowed")
    name = f"openpgp-{_ALGORITHMS[int(algorithm)]}-{_HASHES[int(digest)]}"
    return signature.Verified(key_id=primary, algorithm=name)


def _refusal(code: str, message: str) -> model.Reason:
    return model.Reason(code=code, message=message, fix="sign with a key that the policy lists for this use")


def _invalid(message: str) -> model.Reason:
    return model.Reason(code="sig_invalid", message=message)


def _unknown() -> model.Reason:
    return _refusal("sig_key_unknown", "the OpenPGP key is nobody's in the policy in force")


def _weak(message: str) -> model.Reason:
    fix = "use Ed25519, ECDSA P-256 or P-384, or RSA of 3072 bits, with SHA-256 or longer"
    return model.Reason(code="weak_alg", message=message, fix=fix)
