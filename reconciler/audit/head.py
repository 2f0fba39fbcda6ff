"""The end of the log and the state at it: followed row by row from wherever it was known last."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import NamedTuple

import sqlalchemy as sa

from reconciler.audit import chain, fold, record, schema, state, succession

# Built once: an append runs it each time.
_ROWS = sa.select(schema.log).where(schema.log.c.seq >= sa.bindparam("size")).order_by(schema.log.c.seq)
_NEWEST = sa.select(schema.checkpoint.c.note).order_by(schema.checkpoint.c.size.desc()).limit(1)


class Head(NamedTuple):
    chain: chain.Chain
    state: state.State


def follow(connection: sa.Connection, start: Head, found: MutableSequence[record.Record], origin: str) -> Head:
    """Check and fold every row from this head on; they are added to `found`.

    Raises: AuditError(log_broken), also at a rotation of the key that the key before did not sign.
    """
    end, known = start
    for row in connection.execute(_ROWS, {"size": end.size}):
        end, entry = end.follow(chain.Row(*row))
        if isinstance(entry.event, record.KeyRotated):
            _check_hand_over(connection, known, entry, origin)
        known = fold.fold(known, entry)
        found.append(entry)
    return Head(end, known)


def newest_note(connection: sa.Connection) -> str:
    return str(connection.scalar(_NEWEST) or "")


def _check_hand_over(connection: sa.Connection, known: state.State, entry: record.Record, origin: str) -> None:
    """From the key of the rotation before, else from the one that it names: the newest key of all is checked at the end."""
    if isinstance(entry.event, record.KeyRotated):
        last = [known.rotated[seq].after for seq in sorted(known.rotated)[-1:]] or [entry.event.before]
        first = succession.Authority(origin, succession.public_of(last[0]))
        now = succession.at(known, first, entry.seq + 1)
        succession.follow(now, entry, succession.note_of(connection, entry.seq + 1))
