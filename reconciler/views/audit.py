"""`audit query|show|verify`: the records themselves, snake_case as they are kept, in a frame like every other answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import pydantic
from pydantic import JsonValue

from reconciler import model
from reconciler.audit import record
from reconciler.views import document

EventType = Literal[
    "genesis",
    "reset",
    "config",
    "seen",
    "decision",
    "clearance",
    "halt",
    "operator",
    "intent",
    "applied",
    "outcome",
    "confirmed",
    "drift",
    "standing",
]
# A time without a zone would be read in the zone of whoever reads it.
Instant = Annotated[pydantic.AwareDatetime, pydantic.AfterValidator(model.utc_ms)]


class Query(model.Value):
    """Which records; empty means all. Of a target, a revision, a deployment, a person; between two times; after a seq."""

    types: frozenset[EventType] = frozenset()
    target: str = ""
    revision: str = ""
    deployment: str = ""
    person: str = ""
    verdict: model.Verdict | None = None
    since: Instant | None = None
    until: Instant | None = None
    after: int = -1
    limit: int | None = pydantic.Field(default=None, ge=1)


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


def records(found: Iterable[record.Record], limit: int | None) -> RecordList:
    items = [entry.model_dump(mode="json", by_alias=True) for entry in found]
    more = limit is not None and len(items) >= limit
    return RecordList(items=tuple(items), next=items[-1]["seq"] if more else None)
