"""A log that lost its end goes on as what is proven of it: copied into a new database, under a name of its own (trust.md 9.4).

Proven is the longest beginning that a checkpoint of ours covers. What lies behind it, and what a newer checkpoint says there
was, is lost, and the first record of the new name says so. The old database is read and never written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from reconciler import errors
from reconciler.audit import cached_fold, chain, checkpoint, projection, record, schema, storage, succession

_COPIED_AT_ONCE = 500


class Proven(NamedTuple):
    """`kept`: the records that are proven. `rows`: those that are there. `signed`: those that we ever signed for."""

    authority: succession.Authority
    kept: int
    rows: int
    signed: int
    note: str  # the newest checkpoint that is known
    recovered: int  # how often it was recovered before

    @property
    def lost(self) -> bool:
        return self.kept < max(self.rows, self.signed)


def examine(engine: sa.Engine, public: bytes, origin: str, outside: Sequence[str] = ()) -> Proven:
    """What is proven of this log, and what is known of its end; `outside`: checkpoints that were kept elsewhere.

    Raises: AuditError(log_read | log_forked), the last for a checkpoint that contradicts it; AuditError(log_broken) for one
    that this log's key did not sign.
    """
    with storage.Store(engine).reading() as connection:
        sizes = frozenset(checkpoint.headline(note)[1] for note in outside)
        walk = _Walk(connection, succession.Authority(origin, public), sizes)
        notes = dict(walk.notes)
        newest = (max(notes), notes[max(notes)]) if notes else (0, "")
        for note in outside:
            newest = max(newest, (walk.check(note), note), key=lambda pair: pair[0])
        rows = int(connection.scalar(sa.select(sa.func.count()).select_from(schema.log)) or 0)
        # The cache of the state bears our signature too: no checkpoint, but nobody else could have written its size.
        signed = max(newest[0], cached_fold.signed_size(connection, origin, public))
    return Proven(walk.proven, walk.kept, rows, signed, newest[1], len(walk.recovered))


def copy(old: sa.Engine, new: sa.Engine, kept: int) -> None:
    """The first records with their checkpoints, all evidence and the epochs, into an empty database and under its triggers."""
    storage.Store(new).open()
    with storage.Store(old).reading() as source, storage.Store(new).writing() as target:
        notes = {row.size: row.note for row in source.execute(sa.select(schema.checkpoint))}
        epochs: dict[str, int] = {}
        rows = sa.select(schema.log).where(schema.log.c.seq < kept).order_by(schema.log.c.seq)
        for row in source.execute(rows):
            if epochs.get(row.scope) != row.epoch:  # The trigger lets nobody write but under the epoch of the lease.
                _lease(target, row.scope, row.epoch, known=row.scope in epochs)
                epochs[row.scope] = row.epoch
            target.execute(schema.log.insert(), row._asdict())
            if row.seq + 1 in notes:
                target.execute(schema.checkpoint.insert(), {"size": row.seq + 1, "note": notes[row.seq + 1]})
        for last in source.execute(sa.select(schema.lease)):
            if epochs.get(last.scope, 0) < last.epoch:
                _lease(target, last.scope, last.epoch, known=last.scope in epochs)
        for part in source.execute(sa.select(schema.evidence)).partitions(_COPIED_AT_ONCE):
            target.execute(schema.evidence.insert(), [row._asdict() for row in part])
    projection.rebuild(new)


def event_of(found: Proven, origin: str, reason: str) -> record.LogRecovered:
    """What the log says first under its new name. `origin`: its first name."""
    return record.LogRecovered(
        before=found.authority.origin,
        origin=f"{origin}/{found.recovered + 2}",
        kept=found.kept,
        signed=max(found.kept, found.signed),
        checkpoint=found.note,
        reason=reason,
    )


class _Walk:
    """As far as the rows follow each other; what breaks off there is no error here, it is what is lost."""

    def __init__(self, connection: sa.Connection, now: succession.Authority, sizes: frozenset[int]) -> None:
        """`sizes`: at which somebody will ask for the root."""
        notes = connection.execute(sa.select(schema.checkpoint.c.size, schema.checkpoint.c.note))
        self.notes: dict[int, str] = {row.size: row.note for row in notes}
        self.kept, self.recovered = 0, dict[int, record.LogRecovered]()
        self._now = now._replace(public=succession.first_public(connection, now.public))
        self.proven = self._now
        self._roots, self._sizes = dict[int, bytes](), sizes
        end = chain.Chain()
        try:
            for row in connection.execute(sa.select(schema.log).order_by(schema.log.c.seq)):
                end, entry = end.follow(chain.Row(*row))
                self._take(end, entry)
        except errors.AuditError:
            pass
        self.notes = {size: note for size, note in self.notes.items() if self._is_ours(size, note)}

    def check(self, note: str) -> int:
        """The size of a checkpoint from outside; 0 for one whose loss is on record already.

        Raises: AuditError(log_broken | log_forked).
        """
        origin, size = checkpoint.headline(note)
        if succession.is_lost(self.recovered, origin, size):
            return 0
        opened = self._now.open(note)
        root = self._roots.get(opened.size)
        if opened.size <= self.kept and root is not None and root != opened.root:
            message = f"the checkpoint of {opened.size} records is of another history"
            fix = "somebody rewrote the log or used its key: keep both copies, call security"
            raise errors.AuditError("log_forked", message, where=f"records 0 to {opened.size - 1}", fix=fix)
        return opened.size

    def _take(self, end: chain.Chain, entry: record.Record) -> None:
        note = self.notes.get(end.size)
        self._now = succession.follow(self._now, entry, note)
        if isinstance(entry.event, record.LogRecovered):
            self.recovered[entry.seq] = entry.event
        if end.size in self._sizes:
            self._roots[end.size] = end.root
        if note is not None and self._now.open(note).root == end.root:
            self.kept, self.proven = end.size, self._now

    def _is_ours(self, size: int, note: str) -> bool:
        """Of those behind the proven part: a checkpoint that nobody else can have made."""
        if size <= self.kept:
            return True
        try:
            return self._now.open(note).size == size
        except errors.AuditError:
            return False


def _lease(target: sa.Connection, scope: str, epoch: int, *, known: bool) -> None:
    """Of nobody, and ended: the next start takes it, under a larger epoch."""
    table = schema.lease
    values = {"epoch": epoch, "holder": "recovered", "until": "1970-01-01T00:00:00.000Z"}
    if known:
        target.execute(table.update().where(table.c.scope == scope).values(values))
    else:
        target.execute(table.insert(), values | {"scope": scope})
