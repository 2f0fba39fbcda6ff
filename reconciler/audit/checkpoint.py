"""A checkpoint: size and root of the log as a C2SP signed note (tlog-checkpoint, signed-note). Where notes are kept is not here.

reconciler.example/prod-emea
3
<base64 of the root>

— reconciler.example/prod-emea <base64 of keyid and signature>
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence

from cryptography import exceptions
from cryptography.hazmat.primitives.asymmetric import ed25519

from reconciler import errors, model, ports
from reconciler.audit import chain, merkle

_ED25519 = b"\x01"  # C2SP signed-note, signature types
_SIGNATURE = re.compile(r"— (?P<name>[^ +]+) (?P<blob>[A-Za-z0-9+/]+=*)")
_SIZE = r"0|[1-9][0-9]{0,15}"
_LINES = 3  # origin, size, root; C2SP allows more, we write none and know none
_MAX_NOTE_BYTES = 16 * 1024  # Ours have 300; the rest is room for witnesses.


class Checkpoint(model.Value):
    """What a note says, once its signature was found good."""

    origin: str
    size: int
    root: bytes


def check_origin(origin: str) -> None:
    """Raises: ConfigError for a name that a signed note cannot bear."""
    if not origin or re.search(r"[\s+\x00-\x1f]", origin):
        raise errors.ConfigError(
            "origin",
            f"{origin!r} cannot name a log",
            fix="use a name such as reconciler.example/prod: no space, no '+'",
        )


def sign(origin: str, size: int, root: bytes, *signers: ports.Signer) -> str:
    """A note with a line by each: one, or, where the log's key is rotated, the old one and the new one."""
    text = f"{origin}\n{size}\n{_base64(root)}\n"
    blobs = (_key_id(origin, signer.public) + signer.sign(text.encode()) for signer in signers)
    return f"{text}\n" + "".join(f"— {origin} {_base64(blob)}\n" for blob in blobs)


def headline(note: str) -> tuple[str, int]:
    """Name and size that a note claims; nothing is verified. For finding the key that it has to be verified with.

    Raises: AuditError(log_broken).
    """
    origin, size, *_ = (*note.split("\n", 2), "", "")
    if not re.fullmatch(_SIZE, size):
        raise _bad("its size is no number")
    return origin, int(size)


def open_note(note: str, origin: str, public: bytes) -> Checkpoint:
    """Read a note whose signature by this key under this name is good; lines by other keys are ignored.

    Raises: AuditError(log_broken).
    """
    text, separator, signatures = note.partition("\n\n")
    lines = text.split("\n")
    if not separator or len(lines) != _LINES or lines[0] != origin or len(note) > _MAX_NOTE_BYTES:
        raise _bad("it is no checkpoint of this log")
    if not _signed(f"{text}\n".encode(), signatures, origin, public):
        raise _bad("it has no good signature of the log's key")
    if not re.fullmatch(_SIZE, lines[1]):
        raise _bad("its size is no number")
    return Checkpoint(origin=origin, size=int(lines[1]), root=_decode(lines[2], 32))


def check_end(end: chain.Chain, newest: Checkpoint | None) -> None:
    """Whether the newest checkpoint, where there is one, covers exactly this log.

    Raises: AuditError(log_truncated | log_foreign_row | log_broken).
    """
    covered = newest.size if newest else 0
    if end.size < covered:
        raise truncated(end.size, covered)
    if end.size > covered:
        raise errors.AuditError(
            "log_foreign_row",
            f"no checkpoint covers it; {end.size - covered} rows were inserted by somebody else",
            where=f"record {covered}",
            fix="find out who may write to the database: reconciler audit verify",
        )
    if newest and end.root != newest.root:
        raise errors.AuditError(
            "log_broken", "the records do not have the root that was signed", where=f"records 0 to {end.size - 1}"
        )


def check_prefix(old: Checkpoint, new: Checkpoint, prove: Callable[[], Sequence[bytes]]) -> None:
    """Whether the log of the newer checkpoint begins with that of the older one. An empty one proves nothing.

    Raises: AuditError(log_truncated | log_forked).
    """
    if new.size < old.size:
        raise truncated(new.size, old.size)
    if not old.size or not merkle.consistent(old.size, new.size, prove(), old.root, new.root):
        raise errors.AuditError(
            "log_forked",
            "an anchored checkpoint is not of this log",
            where=f"records 0 to {old.size - 1}",
            fix="somebody rewrote the log or used its key: keep both copies, call security",
        )


def truncated(size: int, signed: int) -> errors.AuditError:
    return errors.AuditError(
        "log_truncated",
        f"the log ends here, and {signed} records were signed for",
        where=f"record {size}",
        fix="restore the newest backup, or start a new log that says so: recover --log",
    )


def verify_signature(message: bytes, signature: bytes, public: bytes) -> bool:
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except exceptions.InvalidSignature:
        return False
    return True


def _signed(text: bytes, signatures: str, origin: str, public: bytes) -> bool:
    if not signatures.endswith("\n"):
        raise _bad("its last signature line is cut off")
    for line in signatures[:-1].split("\n"):
        found = _SIGNATURE.fullmatch(line)
        if found is None:
            raise _bad("a signature line is malformed")
        blob = _decode(found["blob"])
        # Only our own key's line is judged; a witness's line, or another algorithm's, says nothing to us.
        if found["name"] == origin and blob[:4] == _key_id(origin, public):
            return verify_signature(text, blob[4:], public)
    return False


def _key_id(origin: str, public: bytes) -> bytes:
    return hashlib.sha256(origin.encode() + b"\n" + _ED25519 + public).digest()[:4]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decode(text: str, size_bytes: int | None = None) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise _bad("it holds a line that is not base64") from exc
    if size_bytes is not None and len(content) != size_bytes:
        raise _bad(f"its root does not have {size_bytes} bytes")
    return content


def _bad(why: str) -> errors.AuditError:
    return errors.AuditError("log_broken", f"the checkpoint cannot be trusted: {why}")
