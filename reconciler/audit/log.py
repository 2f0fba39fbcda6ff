"""The one durable state we own: append, and the state that follows. One commit point; see trust.md 9.2.

Not here: the tables and triggers (`schema`, `storage`), the verification of a whole log (`verification`), queries (`query`).
"""

from __future__ import annotations

import collections
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from reconciler import errors, model, ports
from reconciler.audit import (
    body,
    cached_fold,
    chain,
    checkpoint,
    fold,
    head,
    identity,
    lease,
    merkle,
    record,
    schema,
    signing,
    state,
    storage,
    subject,
    succession,
    tree,
)

CACHE_EVERY = 1_000  # records; a restart folds at most so many
_PAGE_ROWS = 500
_REFUSALS = frozenset({"leased", "lease_lost", "record_form", "record_size"})  # before anything was written

# Built once: an append runs them each time.
_EPOCH = sa.select(schema.lease.c.epoch).where(schema.lease.c.scope == sa.bindparam("scope"))
_INSERT = {table: table.insert() for table in (schema.log, schema.checkpoint)}
# What somebody else put into a cache shall not stop an append.
_INSERT |= {table: table.insert().prefix_with("OR REPLACE") for table in (schema.node, schema.subject)}

Subscriber = Callable[[record.Record, state.State], None]


class _Writing(NamedTuple):
    """What one transaction has come to; published when it is durable."""

    chain: chain.Chain
    state: state.State
    records: tuple[record.Record, ...] = ()  # new to this object: first those that others wrote


class Log:
    """Written by the holders of its leases, one for each scope; read by any number. `state` is replaced after each commit.

    After an append that raised for any other reason than a refusal before the first write (`lease_lost`, `record_form`,
    `record_size`) nobody knows whether it was kept: this object then refuses every further append. A restart finds out.
    """

    def __init__(
        self,
        engine: sa.Engine,
        clock: ports.Clock,
        *,
        holder: str,
        signer: ports.Signer,
        origin: str,
        daemon_info: Mapping[str, str] | None = None,
        random: identity.Random = secrets.token_bytes,
    ) -> None:
        """Open the log and check it: its schema, every record since the cached state, the newest checkpoint.

        `holder`: host and state folder; the `node` of every record. `origin`: the log's name, one for each installation.
        `daemon_info`: `version`, `config_sha256` and `process`. `random`: for ids; a simulation gives a seeded one.

        Raises: AuditError(schema | log_read | log_broken | log_truncated | log_foreign_row); ConfigError(origin | store |
        log_key), the last for a key that was rotated out.
        """
        checkpoint.check_origin(origin)
        self._store, self._clock, self._random = storage.Store(engine), clock, random
        self._holder, self._signer, self._origin, self._daemon = holder, signer, origin, dict(daemon_info or {})
        self._lock = threading.Lock()
        self._subscribers: list[Subscriber] = []
        self._epochs: dict[str, tuple[int, datetime]] = {}
        self._dead = ""  # why no further append is taken
        self._store.open()
        with self._store.reading() as connection:
            end, known = cached_fold.load(connection, origin, signer.public) or (chain.Chain(), state.State())
            self._cached = end.size
            # None of them is kept: without a usable cache these are all records there are.
            self._chain, self.state = head.follow(
                connection, head.Head(end, known), collections.deque(maxlen=0), origin
            )
            self._check_end(connection, head.Head(self._chain, self.state))

    @property
    def size(self) -> int:
        return self.state.size

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call back for each record after its commit, outside the lock: wake-ups, metrics, notifications.

        Records that other processes wrote come too, when this one finds them. A subscriber must not raise.
        """
        self._subscribers.append(subscriber)

    def lease(self, scope: str, *, for_s: float = 120) -> None:
        """Become, or stay, the only writer of `watch` or `target:NAME`. Whoever held it before can append there no more,
        and all that it wrote has been folded when this returns. Cheap while more than half of the time is left.

        Raises: TransientError(leased) while another holder's time runs; AuditError.
        """
        now = self._clock.now()
        with self._lock:
            mine, ends = self._epochs.get(scope, (0, now))
            if ends - now > timedelta(seconds=for_s / 2):
                return
            until = now + timedelta(seconds=for_s)
            with self._transaction() as connection:
                epoch = lease.take(connection, scope, self._holder, mine, (now, until))
                caught_up = self._catch_up(connection)
            self._epochs[scope] = (epoch, until)
            after = self._publish(caught_up)
        self._tell(caught_up.records, after)

    def append(self, *events: record.Event, evidence: Iterable[bytes] = (), actor: str = "daemon") -> state.State:
        """Commit events, their evidence, tree nodes and a signed checkpoint in one transaction. Blocks until durable.

        Returns the state right after the last of them.

        Raises: AuditError; then nothing more may be written anywhere.
        """
        return self._append(events, evidence, actor).state

    def permit(
        self,
        intent: record.Intent,
        *,
        evidence: Iterable[bytes] = (),
        deadline_s: float,
        still: Callable[[state.State], bool] = lambda _: True,
    ) -> model.Permit:
        """Record an intent and return the leave to write it: there is no other way to a Permit.

        `still`: whether it was decided on what is true now; asked in the transaction that records it, because an operator,
        or another process, may have said something since.

        Raises: TransientError(stale) where it was not, and nothing was recorded; else as `append`.
        """
        kept = self._append((intent,), evidence, "daemon", still=still).records[-1]
        return model.Permit(deployment=intent.deployment, epoch=kept.epoch, seq=kept.seq, deadline_s=deadline_s)

    def records(self, *, after: int = -1, before: int | None = None) -> Iterator[record.Record]:
        """The records with after < seq < before, oldest first, as they are stored. The log may grow meanwhile.

        Raises: AuditError(log_broken) at a record that does not have its hash.
        """
        last, column = after, schema.log.c
        while True:
            page = (
                sa.select(column.seq, column.leaf, column.body)
                .where(column.seq > last)
                .order_by(column.seq)
                .limit(_PAGE_ROWS)
            )
            if before is not None:
                page = page.where(column.seq < before)
            with self._store.reading() as connection:
                rows = connection.execute(page).all()
            if not rows:
                return
            for row in rows:
                yield chain.read(*row)
            last = rows[-1].seq

    def intent(self, deployment: str) -> record.Intent:
        """The intent that opened this deployment.

        Raises: ConfigError(no_deployment).
        """
        about = schema.subject.c
        with self._store.reading() as connection:
            found = sa.select(about.seq).where(about.kind == "deployment", about.value == deployment)
            first = connection.scalar(found.order_by(about.seq).limit(1))
        # The index is only a cache: what it points to is read and compared.
        for entry in self.records(after=first - 1, before=first + 1) if first is not None else ():
            if isinstance(entry.event, record.Intent) and entry.event.deployment == deployment:
                return entry.event
        raise errors.ConfigError(
            "no_deployment", f"{deployment} is not in the log", fix="see: reconciler get deployments"
        )

    def evidence(self, digest: model.Digest) -> bytes:
        """The content that has this digest, hashed again.

        Raises: AuditError(evidence_missing | evidence_broken).
        """
        with self._store.reading() as connection:
            content = connection.scalar(sa.select(schema.evidence.c.content).where(schema.evidence.c.digest == digest))
        if not isinstance(content, bytes):
            raise errors.AuditError("evidence_missing", "the store has no such evidence", where=digest)
        if model.sha256(content) != digest:
            raise errors.AuditError("evidence_broken", "what is stored has another digest", where=digest)
        return content

    def checkpoint(self) -> str:
        """The newest checkpoint: a signed note, to be anchored elsewhere. Empty for an empty log."""
        with self._store.reading() as connection:
            return head.newest_note(connection)

    def check_anchor(self, note: str) -> None:
        """Whether the log still begins with what this anchored checkpoint covers.

        Raises: AuditError(log_truncated | log_forked | log_broken | cache_broken). The proof is made of stored nodes, so
        log_forked may also say that these were edited: `verification.verify` tells the two apart.
        """
        origin, size = checkpoint.headline(note)
        signed = self._authority(self.state, size)
        if succession.is_lost(self.state.recovered, origin, size):
            signed._replace(origin=origin).open(note)
            return  # The log says itself that this end of it was lost.
        anchored = signed.open(note)
        with self._store.reading() as connection:
            note = head.newest_note(connection)
            if not note:
                raise checkpoint.truncated(0, anchored.size)
            newest = self._authority(self.state, self._chain.size).open(note)
            checkpoint.check_prefix(anchored, newest, lambda: tree.consistency(connection, anchored.size, newest.size))

    def rotate(self, successor: ports.Signer, *, reason: str, actor: str) -> state.State:
        """Hand the log over to another key, which signs from here on. Needs the lease of `watch`; blocks until durable.

        Raises: ConfigError(log_key) for the key that signs now, or for one that did before; else as `append`.
        """
        before, after = (signing.public_line(each.public) for each in (self._signer, successor))
        if after in {before, *(event.before for event in self.state.rotated.values())}:
            raise errors.ConfigError("log_key", "this key signs the log, or did before", fix="make a new one")
        event = record.KeyRotated(before=before, after=after, reason=reason)
        with self._lock:
            with self._transaction() as connection:
                start = self._catch_up(connection)
                written = self._write(connection, start, (event,), actor, successor=successor)
                cached_fold.save(connection, written.chain, written.state, self._origin, successor)
            self._signer, self._cached = successor, written.chain.size
            after_it = self._publish(written)
        self._tell(written.records, after_it)
        return after_it

    def close(self) -> None:
        """Keep the state for the next start and give the leases back. No append is taken afterwards; repeatable."""
        with self._lock:
            if self._dead:
                return
            with self._transaction() as connection:
                now = self._catch_up(connection)
                if now.chain.size > self._cached:
                    self._save_fold(connection, now)
                for scope, (epoch, _) in self._epochs.items():
                    lease.give_back(connection, scope, epoch, self._clock.now())
            self._dead = "it was closed"

    def _append(
        self,
        events: Sequence[record.Event],
        evidence: Iterable[bytes],
        actor: str,
        *,
        still: Callable[[state.State], bool] = lambda _: True,
    ) -> _Writing:
        with self._lock:
            with self._transaction() as connection:
                start = self._catch_up(connection)
                true = still(start.state)
                written = self._write(connection, start, events, actor) if true else start
                _keep_evidence(connection, evidence if true else ())
                caches = written.chain.size - self._cached >= CACHE_EVERY
                if caches:
                    self._save_fold(connection, written)
            if caches:
                self._cached = written.chain.size
            after = self._publish(written)
        self._tell(written.records, after)
        if not true:
            raise errors.TransientError("stale", "it was decided on what is no longer so")
        return written

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """One write transaction. Whatever ends it but a refusal or a commit leaves this object dead, kill -9 included."""
        if self._dead:
            raise errors.AuditError(
                "log_closed", f"the log takes no append: {self._dead}", fix="start the process again"
            )
        self._dead = "an earlier append failed, and may or may not have been kept"
        try:
            with self._store.writing() as connection:
                yield connection
        except errors.ReconcilerError as exc:
            if exc.code in _REFUSALS:
                self._dead = ""
            raise
        self._dead = ""

    def _catch_up(self, connection: sa.Connection) -> _Writing:
        """What holders of other scopes appended since: followed, folded, and covered by their checkpoint."""
        others: list[record.Record] = []
        end = head.follow(connection, head.Head(self._chain, self.state), others, self._origin)
        if others:
            self._check_end(connection, end)
        return _Writing(*end, tuple(others))

    def _check_end(self, connection: sa.Connection, end: head.Head) -> None:
        """An append is one transaction, so the newest checkpoint covers exactly what is there."""
        succession.check_signer(end.state, self._signer.public)
        note = head.newest_note(connection)
        newest = self._authority(end.state, end.chain.size).open(note) if note else None
        checkpoint.check_end(end.chain, newest)

    def _authority(self, known: state.State, size: int) -> succession.Authority:
        return succession.at(known, succession.Authority(self._origin, self._signer.public), size)

    def _write(
        self,
        connection: sa.Connection,
        start: _Writing,
        events: Sequence[record.Event],
        actor: str,
        *,
        successor: ports.Signer | None = None,
    ) -> _Writing:
        if not events:
            return start
        end, known, kept, nodes = start.chain, start.state, list[record.Record](), list[merkle.Node]()
        rows: list[chain.Row] = []
        for event in events:
            row = self._frame(connection, end, event, actor)
            end, completed = end.add(row.leaf)
            # What is folded is what is stored, not what was handed in: a restart comes to the same state.
            kept.append(record.Record.model_validate_json(row.body))
            known = fold.fold(known, kept[-1])
            nodes += completed
            rows.append(row)
        _insert(connection, schema.log, [row._asdict() for row in rows])
        _insert(connection, schema.node, [node._asdict() for node in nodes])
        _insert(connection, schema.subject, subject.rows(kept))
        origin = self._authority(known, end.size).origin
        signers = (self._signer, successor) if successor else (self._signer,)
        note = checkpoint.sign(origin, end.size, end.root, *signers)
        _insert(connection, schema.checkpoint, [{"size": end.size, "note": note}])
        return _Writing(end, known, (*start.records, *kept))

    def _frame(self, connection: sa.Connection, end: chain.Chain, event: record.Event, actor: str) -> chain.Row:
        """The row of one event at the end of this chain.

        Raises: AuditError(lease_lost | record_form | record_size).
        """
        scope = record.scope(event)
        epoch = connection.scalar(_EPOCH, {"scope": scope})
        if epoch is None or epoch != self._epochs.get(scope, (0,))[0]:
            raise errors.AuditError("lease_lost", f"{scope} is written by another process", fix="end this one")
        at = self._clock.now()
        entry = record.Record(
            seq=end.size,
            scope=scope,
            epoch=epoch,
            prev=model.Digest(end.prev.hex()),
            id=identity.uuid7(at, self._random),
            at=at,
            node=self._holder,
            actor=actor,
            daemon=self._daemon,
            event=event,
        )
        content = body.body_of(entry)
        return chain.Row(end.size, scope, epoch, end.prev, merkle.leaf(content), content.decode())

    def _save_fold(self, connection: sa.Connection, written: _Writing) -> None:
        cached_fold.save(connection, written.chain, written.state, self._origin, self._signer)

    def _publish(self, written: _Writing) -> state.State:
        self._chain, self.state = written.chain, written.state
        return written.state

    def _tell(self, records: Sequence[record.Record], after: state.State) -> None:
        for entry in records:
            for subscriber in self._subscribers:
                subscriber(entry, after)


def _keep_evidence(connection: sa.Connection, contents: Iterable[bytes]) -> None:
    rows = [{"digest": model.sha256(content), "content": content} for content in contents]
    if rows:
        connection.execute(schema.evidence.insert().prefix_with("OR IGNORE"), rows)


def _insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        connection.execute(_INSERT[table], rows)
