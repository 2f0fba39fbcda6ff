"""Freezes and windows, exact at both edges, over the hours that a zone skips or has twice (C67)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reconciler.admission import calendar

TICK = timedelta(milliseconds=1)


def window(zone: str = "Asia/Jakarta", opens: str = "20:00", closes: str = "23:30", *days: str) -> calendar.Window:
    document = {
        "environments": ["prod"],
        "days": [*days] or ["mon", "tue", "wed", "thu"],
        "from": opens,
        "to": closes,
        "zone": zone,
    }
    return calendar.Window.model_validate(document)


def until(window: calendar.Window, now: datetime, environment: str = "prod") -> datetime | None:
    found = calendar.deferred((), (window,), environment, now)
    return found[1] if found else None


def test_a_freeze_holds_from_its_first_instant_up_to_its_last() -> None:
    document = {
        "id": "yearend",
        "from": "2026-12-20T00:00:00+07:00",
        "to": "2027-01-03T00:00:00+07:00",
        "environments": ["prod"],
        "allow": ["emergency"],
    }
    freeze = calendar.Freeze.model_validate(document)
    starts, ends = datetime(2026, 12, 19, 17, tzinfo=UTC), datetime(2027, 1, 2, 17, tzinfo=UTC)

    def held(now: datetime, environment: str = "prod") -> bool:
        return calendar.deferred((freeze,), (), environment, now) is not None

    assert [held(at) for at in (starts - TICK, starts, ends - TICK, ends)] == [False, True, True, False]
    assert not held(starts, "dev")
    found = calendar.deferred((freeze,), (), "prod", starts)
    assert found is not None
    assert (found[0].code, found[1]) == ("deferred", ends)


def test_a_window_is_open_from_its_first_instant_up_to_its_last() -> None:
    opens, closes = datetime(2026, 11, 24, 13, tzinfo=UTC), datetime(2026, 11, 24, 16, 30, tzinfo=UTC)
    assert until(window(), opens - TICK) == opens
    assert until(window(), opens) is None
    assert until(window(), closes - TICK) is None
    assert until(window(), closes) == opens + timedelta(days=1)
    assert until(window(), closes, "dev") is None


def test_after_the_last_day_of_the_week_it_waits_for_the_first() -> None:
    friday = datetime(2026, 11, 27, 13, tzinfo=UTC)
    assert until(window(), friday) == datetime(2026, 11, 30, 13, tzinfo=UTC)


def test_a_window_over_midnight_belongs_to_the_day_it_opens_on() -> None:
    night = window("UTC", "22:00", "02:00", "mon")
    assert until(night, datetime(2026, 11, 24, 1, 59, tzinfo=UTC)) is None
    assert until(night, datetime(2026, 11, 24, 2, tzinfo=UTC)) == datetime(2026, 11, 30, 22, tzinfo=UTC)


def test_the_hour_that_berlin_skips_in_march() -> None:
    """02:30 does not exist on 2026-03-29: it means what its first reading gives, 01:30 UTC."""
    sunday = window("Europe/Berlin", "02:30", "04:00", "sun")
    opens = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert until(sunday, opens - TICK) == opens
    assert until(sunday, opens) is None
    assert until(sunday, datetime(2026, 3, 29, 2, tzinfo=UTC)) == datetime(2026, 4, 5, 0, 30, tzinfo=UTC)


def test_the_hour_that_berlin_has_twice_in_october() -> None:
    """02:00 to 02:30 is open the first time only."""
    sunday = window("Europe/Berlin", "02:00", "02:30", "sun")
    first, second = datetime(2026, 10, 25, 0, 15, tzinfo=UTC), datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
    assert until(sunday, first) is None
    assert until(sunday, second) is not None


def test_a_leap_day_is_a_day() -> None:
    leap = datetime(2028, 2, 29, 13, tzinfo=UTC)
    assert until(window(), leap) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("zone", "Mars/Base"), ("from", "24:00"), ("from", "8:00"), ("from", 1200), ("days", []), ("days", ["monday"])],
)
def test_what_is_no_window(field: str, value: object) -> None:
    document: dict[str, object] = {
        "environments": ["prod"],
        "days": ["mon"],
        "from": "20:00",
        "to": "23:30",
        "zone": "UTC",
    }
    assert calendar.Window.model_validate(document)
    with pytest.raises(ValueError, match="validation error"):
        calendar.Window.model_validate({**document, field: value})


def test_a_freeze_that_ends_while_the_window_is_closed_is_told_with_what_follows() -> None:
    document = {
        "id": "yearend",
        "from": "2026-11-23T00:00:00Z",
        "to": "2026-11-24T17:00:00Z",  # half an hour after Tuesday's window in Jakarta
        "environments": ["prod"],
    }
    freeze = calendar.Freeze.model_validate(document)
    found = calendar.deferred((freeze,), (window(),), "prod", datetime(2026, 11, 24, tzinfo=UTC))
    assert found is not None
    assert found[1] == datetime(2026, 11, 25, 13, tzinfo=UTC)
    assert found[0].message == (
        "prod is frozen by `yearend` until 2026-11-24T17:00:00.000Z; "
        "then the change window of prod is closed until 2026-11-25T13:00:00.000Z"
    )
