"""What a judgement of one object is, and how its fields are read without trusting their shape. Pure.

The words are kstatus's (sigs.k8s.io/cli-utils, pkg/kstatus): Current, InProgress, Failed, Terminating, NotFound, Unknown.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import JsonValue

from reconciler import model, redact

Body = Mapping[str, JsonValue]

MESSAGE_CHARS = 400  # of one judgement: what a server writes into a condition has no limit of its own


class Status(enum.StrEnum):
    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"
    NOT_FOUND = "NotFound"
    UNKNOWN = "Unknown"


_HEALTH = {
    Status.CURRENT: model.Health.HEALTHY,
    Status.IN_PROGRESS: model.Health.PROGRESSING,
    Status.TERMINATING: model.Health.PROGRESSING,
    Status.FAILED: model.Health.FAILED,
}


class Judged(NamedTuple):
    """`message` says why, in one line that may be shown; empty only where there is nothing to say."""

    status: Status
    message: str = ""

    @property
    def health(self) -> model.Health:
        """What is not known to be well is not green: NotFound and Unknown are UNKNOWN."""
        return _HEALTH.get(self.status, model.Health.UNKNOWN)


class Condition(NamedTuple):
    type: str
    status: str  # "True", "False", "Unknown"; anything else counts as Unknown
    reason: str = ""
    message: str = ""
    generation: int | None = None  # the one it speaks of, where it says so
    updated: str = ""  # when it was last said, RFC 3339

    @property
    def words(self) -> str:
        return ": ".join(part for part in (self.reason, self.message) if part) or self.type


def current(message: str = "") -> Judged:
    return Judged(Status.CURRENT, message)


def in_progress(message: str) -> Judged:
    return Judged(Status.IN_PROGRESS, shown(message))


def failed(message: str) -> Judged:
    return Judged(Status.FAILED, shown(message))


def unknown(message: str) -> Judged:
    return Judged(Status.UNKNOWN, shown(message))


def shown(message: str) -> str:
    """Text of a server is data: one line, without escapes and known secrets, cut."""
    return redact.line(message, limit_chars=MESSAGE_CHARS)


def at(body: JsonValue | Body, *path: str) -> JsonValue:
    """The value under these keys; None where there is none, or where something on the way is no mapping."""
    found: object = body
    for key in path:
        if not isinstance(found, dict | Mapping):  # The first is what nearly all are, and many times quicker to tell.
            return None
        found = found.get(key)
    return found  # type: ignore[return-value]  # What lies in a Body is JSON.


def text(body: JsonValue | Body, *path: str) -> str:
    found = at(body, *path)
    return found if isinstance(found, str) else ""


def number(body: JsonValue | Body, *path: str, default: int = 0) -> int:
    """An integer; `default` for what is missing or none. JSON's true is no number."""
    found = at(body, *path)
    return found if isinstance(found, int) and not isinstance(found, bool) else default


def mappings(body: JsonValue | Body, *path: str) -> tuple[Body, ...]:
    """The mappings in a list; what else stands in it is left out."""
    found = at(body, *path)
    if not isinstance(found, list | tuple):
        return ()
    return tuple(each for each in found if isinstance(each, dict | Mapping))


def conditions(body: Body, *types: str) -> dict[str, Condition]:
    """By type, or only these; of two with one type the last, as servers keep them in a map by type."""
    found: dict[str, Condition] = {}
    for each in mappings(body, "status", "conditions"):
        if types and text(each, "type") not in types:
            continue
        generation = number(each, "observedGeneration", default=-1)
        found[text(each, "type")] = Condition(
            type=text(each, "type"),
            status=text(each, "status"),
            reason=text(each, "reason"),
            message=text(each, "message"),
            generation=None if generation < 0 else generation,
            updated=text(each, "lastUpdateTime") or text(each, "lastTransitionTime"),
        )
    return found


def moment(written: str) -> datetime | None:
    """An RFC 3339 time as servers write it; None for anything else."""
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def group(body: Body) -> str:
    """`apps` of `apps/v1`; empty for the core."""
    head, slash, _ = text(body, "apiVersion").partition("/")
    return head if slash else ""


def declared(body: Body) -> datetime | None:
    """When somebody last wrote what the object should be: the newest entry of its managed fields that is of no subresource."""
    written = (
        moment(text(e, "time")) for e in mappings(body, "metadata", "managedFields") if not text(e, "subresource")
    )
    return max((at for at in written if at), default=None)
