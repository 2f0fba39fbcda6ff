"""By which key, and under which name, each part of the log is signed. Both change by a record, and never silently.

A key gives way to another in a checkpoint that both sign (trust.md 9.2); a log that had lost its end goes on under another
name (9.4). What was signed before is judged by the key and the name of then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import sqlalchemy as sa

from reconciler import errors
from reconciler.audit import checkpoint, record, schema, signing, state


class Authority(NamedTuple):
    """What a checkpoint has to bear."""

    origin: str
    public: bytes

    def open(self, note: str) -> checkpoint.Checkpoint:
        """Raises: AuditError(log_broken)."""
        return checkpoint.open_note(note, self.origin, self.public)


def at(known: state.State, now: Authority, size: int) -> Authority:
    """Of the checkpoint that covers the first `size` records. `now.public` is the newest key, `now.origin` the first name."""
    names = [event.origin for seq, event in sorted(known.recovered.items()) if seq < size]
    gone = [event.before for seq, event in sorted(known.rotated.items()) if seq >= size]
    return Authority(names[-1] if names else now.origin, public_of(gone[0]) if gone else now.public)


def follow(now: Authority, entry: record.Record, note: str | None) -> Authority:
    """The authority after this record, where it hands over; `note`: the checkpoint that ends with it.

    Raises: AuditError(log_broken) where a rotation names another key than the one in force, or lacks its signature.
    """
    match entry.event:
        case record.KeyRotated() as event:
            after = Authority(now.origin, public_of(event.after))
            if public_of(event.before) != now.public:
                raise _broken(entry.seq, "it takes the log over from a key that did not sign it")
            if note is None:
                raise _broken(entry.seq, "no checkpoint of its own hands the log over")
            _check_both(entry.seq, note, now, after)
            return after
        case record.LogRecovered() as event:
            if event.before != now.origin:
                raise _broken(entry.seq, "it goes on from another log")
            return Authority(event.origin, now.public)
        case _:
            return now


def check_signer(known: state.State, public: bytes) -> None:
    """Whether this is the key in force.

    Raises: ConfigError(log_key) for one that was rotated out, or for any other where there was a rotation.
    """
    for seq, event in sorted(known.rotated.items())[-1:]:
        if public_of(event.after) != public:
            gone = any(public_of(each.before) == public for each in known.rotated.values())
            said = "the log's key was rotated, and this is the one before" if gone else "this is not the log's key"
            fix = f"store.signingKey: the file of {event.after}"
            raise errors.ConfigError("log_key", said, where=f"record {seq}", fix=fix)


def first_public(connection: sa.Connection, public: bytes) -> bytes:
    """The key that a walk from the first record begins with, when `public` is one of the log's keys.

    It is taken from the oldest record of a rotation, unverified: the walk verifies it.
    """
    column = schema.log.c
    hint = '%"type":"key_rotated"%'  # A quote inside any other text would be escaped.
    found = sa.select(column.body).where(column.body.like(hint)).order_by(column.seq).limit(1)
    body = connection.scalar(found)
    event = record.Record.model_validate_json(body).event if body else None
    return public_of(event.before) if isinstance(event, record.KeyRotated) else public


def note_of(connection: sa.Connection, size: int) -> str | None:
    """The checkpoint of exactly this size, where there is one."""
    note = connection.scalar(sa.select(schema.checkpoint.c.note).where(schema.checkpoint.c.size == size))
    return str(note) if note is not None else None


def is_lost(recovered: Mapping[int, record.LogRecovered], origin: str, size: int) -> bool:
    """Whether a checkpoint is of an end that was lost, and that the log says so."""
    return any(event.before == origin and event.kept < size <= event.signed for event in recovered.values())


def public_of(line: str) -> bytes:
    """Raises: AuditError(log_broken)."""
    public = signing.raw_public(line)
    if not public:
        raise errors.AuditError("log_broken", "a rotation names a key that is no Ed25519 key")
    return public


def _check_both(seq: int, note: str, *signers: Authority) -> None:
    """Raises: AuditError(log_broken)."""
    try:
        sizes = {each.open(note).size for each in signers}
    except errors.AuditError as exc:
        raise _broken(seq, "its checkpoint is not signed by both keys") from exc
    if sizes != {seq + 1}:
        raise _broken(seq, "the checkpoint that hands the log over is of another size")


def _broken(seq: int, why: str) -> errors.AuditError:
    return errors.AuditError(
        "log_broken", why, where=f"record {seq}", fix="somebody rewrote the log: keep a copy, call security"
    )
