"""`get freezes`: each freeze and change window of the policy in force, what it keeps waiting now, and until when.

What they mean is `admission/calendar.py`'s: a freeze or a closed window defers the changes of an environment, never their
judging, a drift correction or a rollback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from reconciler import model
from reconciler.admission import calendar, policy
from reconciler.audit import state
from reconciler.views import document, targets


class Freeze(document.Row):
    """A window is closed for an environment while no other window of that environment is open."""

    type: Literal["freeze", "window"]
    id: str  # of a window its times: "mon, tue 20:00-23:30 Asia/Jakarta"
    environments: tuple[str, ...]
    deferring: tuple[str, ...]  # the environments whose changes wait for it now
    until: model.Time | None  # when that ends, or begins again; null: it is over
    allow: tuple[str, ...]  # who does not wait: emergency
    waiting: tuple[str, ...]  # the targets that stand deferred by it


class FreezeList(document.Document):
    kind: Literal["FreezeList"] = "FreezeList"
    items: tuple[Freeze, ...]


def freezes(rules: policy.Policy, known: state.State, live: Mapping[str, targets.Live], now: datetime) -> FreezeList:
    """In the order of the policy: freezes first."""
    of_freezes = (_freeze(each, now) for each in rules.freeze)
    of_windows = (_window(each, rules, now) for each in rules.windows)
    deferred = {
        target.name: live[target.name].environment
        for target in known.targets.values()
        if target.name in live and _waits_for_a_date(target)
    }
    return FreezeList(items=tuple(_with_targets(row, deferred) for row in (*of_freezes, *of_windows)))


def _freeze(freeze: calendar.Freeze, now: datetime) -> Freeze:
    on = freeze.starts <= now < freeze.ends
    return Freeze(
        type="freeze",
        id=freeze.id,
        environments=freeze.environments,
        deferring=freeze.environments if on else (),
        until=freeze.ends if on else freeze.starts if now < freeze.starts else None,
        allow=freeze.allow,
        waiting=(),
    )


def _window(window: calendar.Window, rules: policy.Policy, now: datetime) -> Freeze:
    spans = tuple(window.openings(now))
    closes = [end for start, end in spans if start <= now < end]
    closed = [name for name in window.environments if _is_closed(rules.windows, name, now)]
    return Freeze(
        type="window",
        id=f"{', '.join(window.days)} {window.opens:%H:%M}-{window.closes:%H:%M} {window.zone}",
        environments=window.environments,
        deferring=tuple(closed),
        until=max(closes) if closes else min(start for start, _ in spans if start > now),
        allow=(),
        waiting=(),
    )


def _is_closed(windows: Iterable[calendar.Window], environment: str, now: datetime) -> bool:
    return calendar.deferred((), tuple(windows), environment, now) is not None


def _waits_for_a_date(target: state.Target) -> bool:
    """`deferred` also stands for a source that is silent."""
    standing = target.standing
    return standing is not None and any(reason.code == "deferred" for reason in standing.reasons)


def _with_targets(row: Freeze, deferred: Mapping[str, str]) -> Freeze:
    waiting = sorted(name for name, environment in deferred.items() if environment in row.deferring)
    return row.model_copy(update={"waiting": tuple(waiting)})
