"""The whole log, from its first record: every leaf, place and predecessor, every checkpoint, all evidence. Reads only.

What is found is reported, not raised: an auditor wants all of it, and by record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa

from reconciler import errors, model
from reconciler.audit import chain, checkpoint, projection, record, schema, storage


class Report(model.Value):
    """`problems`: every reason not to trust the log or its evidence; `where` is a record, a digest or a table.

    `caches` are the tables that differ from the log: nothing that is proven reads them, `projection.rebuild` mends them.
    """

    origin: str
    size: int = 0  # records that were followed
    root: model.Digest = model.Digest("")
    checkpoints: int = 0
    evidence: int = 0
    problems: tuple[model.Reason, ...] = ()
    caches: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.problems


def verify(engine: sa.Engine, public: bytes, origin: str, *, anchored: Sequence[str] = ()) -> Report:
    """Verify the log with its public key, and against checkpoints that were kept elsewhere. Blocks; a snapshot is read.

    The first record that is wrong ends the walk along the log, as nothing after it can be judged; the evidence is
    hashed all the same.
    """
    found: list[model.Reason] = []
    walk, evidence, caches = _Walk(public, origin), _Evidence(), tuple[str, ...]()
    try:
        store = storage.Store(engine)
        found += _of_schema(store)
        with store.reading() as connection:
            found += walk.problems(connection, anchored)
            caches = () if found else walk.expected.differing(connection)
            found += evidence.problems(connection, walk.named)
    except errors.AuditError as exc:  # The file itself is damaged, or it holds no log.
        found.append(model.Reason.of(exc))
    return Report(
        origin=origin,
        size=walk.chain.size,
        root=model.Digest(walk.chain.root.hex()),
        checkpoints=walk.checkpoints,
        evidence=evidence.count,
        problems=tuple(found),
        caches=caches,
    )


def _of_schema(store: storage.Store) -> tuple[model.Reason, ...]:
    try:
        store.check_schema()
    except errors.AuditError as exc:
        return (model.Reason.of(exc),)
    return ()


class _Walk:
    """Along the log, with the roots that were signed beside it."""

    def __init__(self, public: bytes, origin: str) -> None:
        self._public, self._origin = public, origin
        self.chain, self.checkpoints = chain.Chain(), 0
        self.expected = projection.Expected()
        self.named: dict[model.Digest, int] = {}  # evidence -> the first record that names it

    def problems(self, connection: sa.Connection, anchored: Sequence[str]) -> Iterator[model.Reason]:
        try:
            outside = {c.size: c for c in (self._open(note) for note in anchored)}
            newest = self._walk(connection, outside)
            checkpoint.check_end(self.chain, newest)
            if outside and max(outside) > self.chain.size:
                raise checkpoint.truncated(self.chain.size, max(outside))
        except errors.AuditError as exc:
            yield model.Reason.of(exc)

    def _walk(
        self, connection: sa.Connection, outside: Mapping[int, checkpoint.Checkpoint]
    ) -> checkpoint.Checkpoint | None:
        """Return the newest checkpoint."""
        table = schema.checkpoint.c
        notes = iter(connection.execute(sa.select(table.size, table.note).order_by(table.size)))
        following, newest = next(notes, None), None
        for row in connection.execute(sa.select(schema.log).order_by(schema.log.c.seq)):
            self._take(chain.Row(*row))
            if following is not None and following.size == self.chain.size:
                before, newest = newest, self._check_note(following.size, following.note)
                _check_root(self.chain, newest, before)
                following = next(notes, None)
            if self.chain.size in outside and outside[self.chain.size].root != self.chain.root:
                raise _forked(outside[self.chain.size])
        return self._check_note(following.size, following.note) if following is not None else newest

    def _take(self, row: chain.Row) -> None:
        following, entry = self.chain.follow(row)
        self.expected.take(entry, self.chain.add(row.leaf)[1])
        for digest in evidence_named(entry.event):
            self.named.setdefault(digest, entry.seq)
        self.chain = following

    def _open(self, note: str) -> checkpoint.Checkpoint:
        return checkpoint.open_note(note, self._origin, self._public)

    def _check_note(self, size: int, note: str) -> checkpoint.Checkpoint:
        try:
            opened = self._open(note)
        except errors.AuditError as exc:
            raise errors.AuditError(exc.code, exc.message, where=f"checkpoint of {size} records") from exc
        if opened.size != size:
            raise errors.AuditError(
                "log_broken", f"it is filed under {size}", where=f"checkpoint of {opened.size} records"
            )
        self.checkpoints += 1
        return opened


class _Evidence:
    def __init__(self) -> None:
        self.count = 0

    def problems(self, connection: sa.Connection, named: Mapping[model.Digest, int]) -> Iterator[model.Reason]:
        missing = dict(named)
        column = schema.evidence.c
        for digest, content in connection.execute(sa.select(column.digest, column.content).order_by(column.digest)):
            self.count += 1
            missing.pop(digest, None)
            if model.sha256(content) != digest:
                by = f", which record {named[digest]} names" if digest in named else ""
                yield model.Reason(
                    code="evidence_broken", message=f"what is stored has another digest{by}", where=digest
                )
        for digest, seq in sorted(missing.items(), key=lambda pair: pair[1]):
            yield model.Reason(code="evidence_missing", message=f"record {seq} names it", where=digest)


def evidence_named(event: record.Event) -> tuple[model.Digest, ...]:
    """What must be in the evidence store for this event to be proven."""
    match event:
        case record.Intent():
            return (event.plan, event.snapshot)
        case record.Clearance():
            return tuple(result.evidence for result in event.results if result.evidence)
        case _:
            return ()


def _check_root(end: chain.Chain, signed: checkpoint.Checkpoint, before: checkpoint.Checkpoint | None) -> None:
    """Raises: AuditError(log_broken), which names the records that this checkpoint was the first to cover."""
    if end.root != signed.root:
        first, last = before.size if before else 0, signed.size - 1
        where = f"record {last}" if first == last else f"records {first} to {last}"
        raise errors.AuditError("log_broken", "it is not what was signed: the root differs", where=where)


def _forked(anchored: checkpoint.Checkpoint) -> errors.AuditError:
    return errors.AuditError(
        "log_forked",
        f"the anchored checkpoint of {anchored.size} records is of another history",
        where=f"records 0 to {anchored.size - 1}",
    )
