"""`get drift`: what rests no longer as it was confirmed, each resource with what would be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from reconciler import model
from reconciler.audit import state
from reconciler.views import document, targets


class Drift(document.Row):
    target: str
    key: model.Key
    action: str  # what corrects it; empty where only the record is known
    diff: str
    who: str  # where the target can tell
    fighting: bool  # corrected so often that it is left alone


class DriftList(document.Document):
    kind: Literal["DriftList"] = "DriftList"
    items: tuple[Drift, ...]


def drift(known: state.State, live: Mapping[str, targets.Live]) -> DriftList:
    """The first 100 resources of each target; `targets` has the count."""
    rows = (row for name in sorted(known.targets) for row in _rows(known.targets[name], live.get(name, targets.Live())))
    return DriftList(items=tuple(rows))


def _rows(target: state.Target, live: targets.Live) -> tuple[Drift, ...]:
    if target.drift is None:
        return ()
    steps = {step.key: step for step in live.plan.steps} if live.plan else {}
    return tuple(
        Drift(
            target=target.name,
            key=key,
            action=steps[key].action if key in steps else "",
            diff=steps[key].diff if key in steps else "",
            who=live.look.changed_by((key,)) if live.look else target.drift.who,
            fighting=key in target.fighting,
        )
        for key in target.drift.keys
    )
