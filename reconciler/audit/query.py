"""Questions to the log: by target, person, revision, verdict, time. The index says where to look; the records say what is true."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypedDict, Unpack

import sqlalchemy as sa

from reconciler import errors, model
from reconciler.audit import chain, record, schema, storage, subject

_PAGE_ROWS = 500


class Terms(TypedDict, total=False):
    """All that are given must hold.

    A `path` that ends with `/` stands for everything below it, and the `person` root for `root (uid 0)` too.
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
        raise errors.ConfigError("no_record", f"the log has no record {name}", fix="give a seq or an id: audit query")
    return found


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
        about = sa.select(column.seq).where(column.kind == kind, _matches(kind, value))
        if place:  # Of what the narrowest term found, each is looked up; the wide ones are never listed.
            found = found.where(about.where(column.seq == schema.log.c.seq).exists())
        else:
            found = found.where(schema.log.c.seq.in_(about))
    return found


def _matches(kind: str, value: str) -> sa.ColumnElement[bool]:
    column, beginning = schema.subject.c.value, _beginning(kind, value)
    if not beginning:
        return column == value
    return sa.or_(column == value, sa.and_(column >= beginning, column < beginning + chr(0x10FFFF)))


def _read(store: storage.Store, seqs: array[int], asked: Sequence[subject.Subject]) -> Iterator[record.Record]:
    column = schema.log.c
    for start in range(0, len(seqs), _PAGE_ROWS):
        page = seqs[start : start + _PAGE_ROWS].tolist()
        rows = sa.select(column.seq, column.leaf, column.body).where(column.seq.in_(page)).order_by(column.seq)
        with store.reading() as connection:
            read = connection.execute(rows).all()
        for row in read:
            entry = chain.read(*row)
            if _is_about(entry, asked):  # An index that was edited adds nothing to an answer.
                yield entry


def _is_about(entry: record.Record, asked: Sequence[subject.Subject]) -> bool:
    true = subject.subjects(entry)
    for kind, value in asked:
        beginning = _beginning(kind, value)
        longer = beginning and any(k == kind and found.startswith(beginning) for k, found in true)
        if (kind, value) not in true and not longer:
            return False
    return True


def _beginning(kind: str, value: str) -> str:
    """With what another value may begin that is found too: all below a folder; a user of this machine, whatever the uid."""
    if kind == "path" and value.endswith("/"):
        return value
    return f"{value} (uid " if kind == "person" else ""
