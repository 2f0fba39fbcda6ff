"""The whole log, from its first record: every leaf, place and predecessor, every checkpoint, all evidence. Reads only.

What is found is reported, not raised: an auditor wants all of it, and by record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa

from reconciler import errors, model
from reconciler.audit import chain, checkpoint, projection, record, schema, storage, succession


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
    handed_over: tuple[model.Reason, ...] = ()  # rotations of the key, ends that were lost: proven, and to be known

    @property
    def good(self) -> bool:
        return not self.problems


def verify(engine: sa.Engine, public: bytes, origin: str, *, anchored: Sequence[str] = ()) -> Report:
    """Verify the log with its public key, and against checkpoints that were kept elsewhere. Blocks; a snapshot is read.

    `public`: the key in force, or one that it was rotated from; `origin`: the log's first name. What each part is signed by
    follows from the records that hand it over.

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
        handed_over=tuple(walk.handed_over),
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
        self._pin, self._now = public, succession.Authority(origin, public)
        self._keys = {public}
        self.chain, self.checkpoints = chain.Chain(), 0
        self.expected = projection.Expected()
        self.named: dict[model.Digest, int] = {}  # evidence -> the first record that names it
        self.handed_over: list[model.Reason] = []
        self._recovered: dict[int, record.LogRecovered] = {}

    def problems(self, connection: sa.Connection, anchored: Sequence[str]) -> Iterator[model.Reason]:
        try:
            first = succession.first_public(connection, self._pin)
            self._now, self._keys = self._now._replace(public=first), {first}
            outside = {checkpoint.headline(note): note for note in anchored}
            newest = self._walk(connection, outside)
            checkpoint.check_end(self.chain, newest)
            for (origin, size), note in sorted(outside.items()):
                self._check_lost(origin, size, note)
            self._check_pin()
        except errors.AuditError as exc:
            yield model.Reason.of(exc)

    def _walk(self, connection: sa.Connection, outside: dict[tuple[str, int], str]) -> checkpoint.Checkpoint | None:
        """Return the newest checkpoint; of those from outside the ones that cover more, or another end, are left."""
        table = schema.checkpoint.c
        notes = iter(connection.execute(sa.select(table.size, table.note).order_by(table.size)))
        following, newest = next(notes, None), None
        for row in connection.execute(sa.select(schema.log).order_by(schema.log.c.seq)):
            entry = self._take(chain.Row(*row))
            own = following is not None and following.size == self.chain.size
            self._hand_over(entry, following.note if own and following is not None else None)
            if own and following is not None:
                before, newest = newest, self._check_note(following.size, following.note)
                _check_root(self.chain, newest, before)
                following = next(notes, None)
            anchored = outside.pop((self._now.origin, self.chain.size), None)
            if anchored is not None and self._now.open(anchored).root != self.chain.root:
                raise _forked(self.chain.size)
        return self._check_note(following.size, following.note) if following is not None else newest

    def _take(self, row: chain.Row) -> record.Record:
        following, entry = self.chain.follow(row)
        self.expected.take(entry, self.chain.add(row.leaf)[1])
        for digest in evidence_named(entry.event):
            self.named.setdefault(digest, entry.seq)
        self.chain = following
        return entry

    def _hand_over(self, entry: record.Record, note: str | None) -> None:
        self._now = succession.follow(self._now, entry, note)
        self._keys.add(self._now.public)
        where = f"record {entry.seq}"
        match entry.event:
            case record.KeyRotated() as event:
                said = f"{event.before} handed the log over to {event.after}: {event.reason}"
                self.handed_over.append(model.Reason(code="key_rotated", message=said, where=where))
            case record.LogRecovered() as event:
                self._recovered[entry.seq] = event
                lost = f"records {event.kept} to {event.signed - 1} of" if event.signed > event.kept else "nothing of"
                said = f"{lost} {event.before} lost; it goes on as {event.origin}: {event.reason}"
                self.handed_over.append(model.Reason(code="log_recovered", message=said, where=where))
            case _:
                pass

    def _check_pin(self) -> None:
        """Raises: AuditError(log_broken) where the keys of the log hold together, and are not the one that was given."""
        if self._pin not in self._keys:
            raise errors.AuditError("log_broken", "it is not signed by the key that was given")

    def _check_lost(self, origin: str, size: int, note: str) -> None:
        """A checkpoint from outside that the walk did not come to: of an end whose loss is on record, or of one that is not.

        Raises: AuditError(log_truncated | log_broken).
        """
        self._now._replace(origin=origin).open(note)
        if not succession.is_lost(self._recovered, origin, size):
            raise checkpoint.truncated(self.chain.size, size)

    def _check_note(self, size: int, note: str) -> checkpoint.Checkpoint:
        try:
            opened = self._now.open(note)
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


def _forked(size: int) -> errors.AuditError:
    return errors.AuditError(
        "log_forked",
        f"the anchored checkpoint of {size} records is of another history",
        where=f"records 0 to {size - 1}",
    )
