"""`audit query|show|verify`: the records themselves, snake_case as they are kept, in a frame like every other answer."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal, TypedDict, cast

import pydantic
import sqlalchemy as sa
from pydantic import JsonValue

from reconciler import model
from reconciler.audit import query, record
from reconciler.views import document

EventType = Literal[
    "genesis",
    "taken_over",
    "reset",
    "config",
    "seen",
    "decision",
    "clearance",
    "halt",
    "key_rotated",
    "log_recovered",
    "operator",
    "obligation",
    "intent",
    "applied",
    "outcome",
    "confirmed",
    "drift",
    "standing",
]
# Of decisions, of gates, of deployments. A verdict that there is not would find nothing, and read like innocence.
Said = Literal["", "ACCEPT", "HOLD", "REJECT", "HALT", "PASS", "FAIL", "ERROR", "SUCCEEDED", "FAILED", "SUPERSEDED"]
# A time without a zone would be read in the zone of whoever reads it.
Instant = Annotated[pydantic.AwareDatetime, pydantic.AfterValidator(model.utc_ms)]


class Query(model.Value):
    """Which records: all that is given must hold, one of `types` is enough. since <= at < until, seq > after."""

    types: frozenset[EventType] = frozenset()
    id: str = ""
    target: str = ""
    revision: str = ""
    deployment: str = ""
    person: str = ""
    verdict: Said = ""
    path: str = ""
    rule: str = ""
    gate: str = ""
    ticket: str = ""
    since: Instant | None = None
    until: Instant | None = None
    after: int = -1
    limit: int | None = pydantic.Field(default=None, ge=1)


class _Span(TypedDict):
    since: datetime | None
    until: datetime | None
    after: int
    limit: int | None


class RecordList(document.Document):
    kind: Literal["RecordList"] = "RecordList"
    items: tuple[Mapping[str, JsonValue], ...]
    next: int | None  # where `after` continues; null: that was all


class RecordDocument(document.Document):
    kind: Literal["Record"] = "Record"
    record: Mapping[str, JsonValue]


class Verification(document.Document):
    kind: Literal["Verification"] = "Verification"
    size: int
    verified: bool


def find(engine: sa.Engine, asked: Query) -> list[record.Record]:
    """The records, oldest first. Blocks on the store.

    Raises: AuditError(log_broken) at a record that does not have its hash.
    """
    span = _Span(since=asked.since, until=asked.until, after=asked.after, limit=asked.limit)
    if not asked.types:
        return list(query.query(engine, **span, **_terms(asked)))
    # The index takes one type; each part is in order, so the whole is a merge of them.
    parts = [query.query(engine, **span, **_terms(asked, each)) for each in sorted(asked.types)]
    return list(itertools.islice(heapq.merge(*parts, key=lambda entry: entry.seq), asked.limit))


def records(found: Iterable[record.Record], limit: int | None) -> RecordList:
    items = [entry.model_dump(mode="json", by_alias=True) for entry in found]
    more = limit is not None and len(items) >= limit
    return RecordList(items=tuple(items), next=items[-1]["seq"] if more else None)


def _terms(asked: Query, event_type: str = "") -> query.Terms:
    names = ("id", "target", "revision", "deployment", "person", "verdict", "path", "rule", "gate", "ticket")
    values = {name: str(getattr(asked, name)) for name in names} | {"type": event_type}
    return cast("query.Terms", {name: value for name, value in values.items() if value})
