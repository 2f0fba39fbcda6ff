"""Freezes and change windows of the approval policy: when a target may be written. They never hold the history.

Edges are exact: a freeze and a window hold from their first instant up to, and without, their last. Local times come from
zoneinfo; one that a zone skips or has twice means the instant that its first reading gives.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal

import pydantic

from reconciler import documents, model

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})")
_ROUND = 8  # days: whatever the window, it opens again within a week and a day


def _instant(text: object) -> datetime:
    if isinstance(text, datetime) and text.tzinfo:
        return text
    if not isinstance(text, str) or not _INSTANT.fullmatch(text):
        raise ValueError("an instant is written '2026-12-20T00:00:00+07:00' or with Z, in quotes")
    return datetime.fromisoformat(text)


def _clock(text: object) -> time:
    if isinstance(text, time):
        return text
    if not isinstance(text, str) or not _CLOCK.fullmatch(text):
        raise ValueError("a time of day is written '20:00', in quotes")
    return time.fromisoformat(text)


def _zone(name: str) -> str:
    if name not in zoneinfo.available_timezones():
        raise ValueError(f"{name!r} is no zone of the tz database")
    return name


Instant = Annotated[model.Time, pydantic.BeforeValidator(_instant, json_schema_input_type=str)]
Clock = Annotated[time, pydantic.BeforeValidator(_clock, json_schema_input_type=str)]
Environments = Annotated[tuple[documents.NonEmpty, ...], pydantic.Field(min_length=1)]


class Freeze(documents.Camel):
    id: documents.NonEmpty
    starts: Instant = pydantic.Field(alias="from")
    ends: Instant = pydantic.Field(alias="to")
    environments: Environments
    allow: tuple[Literal["emergency"], ...] = ()  # what is written all the same

    @pydantic.model_validator(mode="after")
    def _forward(self) -> Freeze:
        if self.ends <= self.starts:
            raise ValueError("a freeze ends after it begins")
        return self


class Window(documents.Camel):
    """Open on these days; where `to` is not after `from`, it closes on the day after."""

    environments: Environments
    days: Annotated[tuple[Day, ...], pydantic.Field(min_length=1)]
    opens: Clock = pydantic.Field(alias="from")
    closes: Clock = pydantic.Field(alias="to")
    zone: Annotated[str, pydantic.AfterValidator(_zone)]

    def openings(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """(opens, closes) in UTC, from the one that may have begun yesterday on."""
        zone = zoneinfo.ZoneInfo(self.zone)
        yesterday = now.astimezone(zone).date() - timedelta(days=1)
        for day in (yesterday + timedelta(days=n) for n in range(_ROUND + 1)):
            if _DAYS[day.weekday()] in self.days:
                last = day if self.closes > self.opens else day + timedelta(days=1)
                yield _at(day, self.opens, zone), _at(last, self.closes, zone)


def deferred(
    freezes: tuple[Freeze, ...], windows: tuple[Window, ...], environment: str, now: datetime
) -> tuple[model.Reason, datetime] | None:
    """What keeps this environment from being written now, and the first instant at which nothing does; None where nothing does.

    A freeze that ends outside of the change windows is followed by the wait for the next one, and the other way round.
    """
    found = _deferred(freezes, windows, environment, now)
    said: list[str] = []
    until = now
    while found is not None:
        until = found[1]
        said.append(f"{found[0]} until {model.print_time(until)}")
        found = _deferred(freezes, windows, environment, until)
    return (model.Reason(code="deferred", message="; then ".join(said)), until) if said else None


def _deferred(
    freezes: tuple[Freeze, ...], windows: tuple[Window, ...], environment: str, now: datetime
) -> tuple[str, datetime] | None:
    frozen = [f for f in freezes if environment in f.environments and f.starts <= now < f.ends]
    if frozen:
        last = max(frozen, key=lambda f: f.ends)
        return f"{environment} is frozen by `{last.id}`", last.ends
    mine = [w for w in windows if environment in w.environments]
    spans = [span for window in mine for span in window.openings(now)]
    if not mine or any(opens <= now < closes for opens, closes in spans):
        return None
    return f"the change window of {environment} is closed", min(opens for opens, _ in spans if opens > now)


def _at(day: date, clock: time, zone: zoneinfo.ZoneInfo) -> datetime:
    return datetime.combine(day, clock, zone).astimezone(UTC)
