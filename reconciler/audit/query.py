"""Questions to the log: by target, person, revision, verdict, time. The index says where to look; the records say what is true.

A deployment is of one revision, and only its intents name it. What became of it (`applied`, `outcome`, what an operator said
about it) is found under that revision through them, so the index stays a function of one record at a time.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypedDict, Unpack

import sqlalchemy as sa

from reconciler import errors, model
from reconciler.audit import chain, record, schema, storage, subject

_PAGE_ROWS = 500
_EVERY_VALUE = chr(0x10FFFF)  # sorts after all that a value may begin with
# One step of the index a value, however many records each has: DISTINCT would read all of them.
_VALUES = sa.text(
    """WITH RECURSIVE found(value) AS (
  SELECT min(value) FROM subject WHERE kind = :kind AND value >= :first AND value < :end
  UNION ALL
  SELECT (SELECT min(value) FROM subject WHERE kind = :kind AND value > found.value AND value < :end)
    FROM found WHERE found.value IS NOT NULL)
SELECT value FROM found WHERE value IS NOT NULL LIMIT :limit"""
)


class Terms(TypedDict, total=False):
    """All that are given must hold.

    A `path` that ends with `/` stands for everything below it, the `person` root for `root (uid 0)` too, and a `revision` for
    the deployments of it.
    """

    id: str
    deployment: str
    effect: str
    ticket: str
    revision: str
    path: str
    person: str
    rule: str
    target: str
    gate: str
    verdict: str
    type: str


def query(
    engine: sa.Engine,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int = -1,
    limit: int | None = None,
    **terms: Unpack[Terms],
) -> Iterator[record.Record]:
    """The records about all of these, oldest first: since <= at < until, seq > after, at most `limit`.

    `since` and `until` are whole milliseconds in any zone. `after` is the seq of the last record of the page before.

    Raises: AuditError(log_broken) at a record that does not have its hash; ConfigError(query).
    """
    if unknown := terms.keys() - set(subject.KINDS):
        raise errors.ConfigError(
            "query", f"records are not found by {', '.join(sorted(unknown))}", fix=f"use {', '.join(subject.KINDS)}"
        )
    store = storage.Store(engine)
    asked = [(kind, str(value)) for kind in subject.KINDS for name, value in terms.items() if name == kind]
    found = _find(asked, since, until).where(schema.log.c.seq > after).order_by(schema.log.c.seq).limit(limit)
    with store.reading() as connection:
        seqs = array("q", connection.scalars(found))
    return _read(store, seqs, asked)


def show(engine: sa.Engine, name: int | str) -> record.Record:
    """One record, by its seq or its id.

    Raises: ConfigError(no_record); AuditError(log_broken).
    """
    store = storage.Store(engine)
    if isinstance(name, int) or name.isdecimal():
        found = next(_read(store, array("q", [int(name)]), ()), None)
    else:
        found = next(iter(query(engine, id=name)), None)
    if found is None:
        raise errors.ConfigError(
            "no_record", f"the log has no record {name}", fix="give a seq or an id: reconciler audit query"
        )
    return found


def values(engine: sa.Engine, kind: str, beginning: str = "", *, limit: int = -1) -> tuple[str, ...]:
    """What records are found by, of one kind of `subject.KINDS`: the values that begin so, sorted; all without a limit.

    Raises: AuditError(log_read).
    """
    asked = {"kind": kind, "first": beginning, "end": beginning + _EVERY_VALUE, "limit": limit}
    with storage.Store(engine).reading() as connection:
        return tuple(connection.scalars(_VALUES, asked))


def _find(asked: Sequence[subject.Subject], since: datetime | None, until: datetime | None) -> sa.Select[tuple[int]]:
    """The seqs, from the index alone. Times are compared as text: all have one form, so text sorts as time does."""
    found = sa.select(schema.log.c.seq)
    at = sa.func.json_extract(schema.log.c.body, sa.literal_column("'$.at'"))
    if since is not None:
        found = found.where(at >= model.print_time(since))
    if until is not None:
        found = found.where(at < model.print_time(until))
    column = schema.subject.c
    for place, (kind, value) in enumerate(asked):
        about = sa.select(column.seq).where(_indexed(kind, value))
        if place:  # Of what the narrowest term found, each is looked up; the wide ones are never listed.
            found = found.where(about.where(column.seq == schema.log.c.seq).exists())
        else:
            found = found.where(schema.log.c.seq.in_(about))
    return found


def _indexed(kind: str, value: str) -> sa.ColumnElement[bool]:
    column, beginning = schema.subject.c, _beginning(kind, value)
    found = sa.and_(column.kind == kind, column.value == value)
    if beginning:
        after = sa.and_(column.kind == kind, column.value >= beginning, column.value < beginning + _EVERY_VALUE)
        return sa.or_(found, after)
    if kind != "revision":
        return found
    named = schema.subject.alias("named")
    body = schema.log.alias("intent")
    deployments = (
        sa.select(sa.func.json_extract(body.c.body, sa.literal_column("'$.event.deployment'")))
        .join_from(named, body, named.c.seq == body.c.seq)
        .where(named.c.kind == kind, named.c.value == value)
        .where(sa.func.json_extract(body.c.body, sa.literal_column("'$.event.type'")) == "intent")
    )
    return sa.or_(found, sa.and_(column.kind == "deployment", column.value.in_(deployments)))


def _read(store: storage.Store, seqs: array[int], asked: Sequence[subject.Subject]) -> Iterator[record.Record]:
    opens = functools.cache(functools.partial(_opened_by, store))
    for entry in _stored(store, seqs):
        if _is_about(entry, asked, opens):  # An index that was edited adds nothing to an answer.
            yield entry


def _stored(store: storage.Store, seqs: array[int]) -> Iterator[record.Record]:
    column = schema.log.c
    for start in range(0, len(seqs), _PAGE_ROWS):
        page = seqs[start : start + _PAGE_ROWS].tolist()
        rows = sa.select(column.seq, column.leaf, column.body).where(column.seq.in_(page)).order_by(column.seq)
        with store.reading() as connection:
            read = connection.execute(rows).all()
        for row in read:
            yield chain.read(*row)


def _opened_by(store: storage.Store, deployment: str) -> str:
    """The revision of a deployment, as the intent that opened it says; empty: none did."""
    column = schema.subject.c
    first = sa.select(sa.func.min(column.seq)).where(column.kind == "deployment", column.value == deployment)
    with store.reading() as connection:
        seq = connection.scalar(first)
    for entry in _stored(store, array("q", [] if seq is None else [seq])):
        if isinstance(entry.event, record.Intent) and entry.event.deployment == deployment:
            return entry.event.wanted.revision or ""
    return ""


def _is_about(entry: record.Record, asked: Sequence[subject.Subject], opens: Callable[[str], str]) -> bool:
    true = subject.subjects(entry)
    for kind, value in asked:
        beginning = _beginning(kind, value)
        longer = beginning and any(k == kind and found.startswith(beginning) for k, found in true)
        of_it = kind == "revision" and any(k == "deployment" and opens(found) == value for k, found in true)
        if (kind, value) not in true and not longer and not of_it:
            return False
    return True


def _beginning(kind: str, value: str) -> str:
    """With what another value may begin that is found too: all below a folder; a user of this machine, whatever the uid."""
    if kind == "path" and value.endswith("/"):
        return value
    return f"{value} (uid " if kind == "person" else ""
