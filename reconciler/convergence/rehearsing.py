"""What a preview has a target judge, and what it leaves alone (design.md 9). Pure; no turn comes here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from reconciler import model

MOVED = model.Reason(code="moved", message="something else is wanted by now: plan again")


def to_ask(
    plan: model.Plan, known: AbstractSet[model.Key] | None
) -> tuple[tuple[model.Step, ...], Mapping[model.Key, model.Rehearsed]]:
    """The steps to ask about, and the answer for the others. `known`: accepted or owned; None where the plan is of an accepted state."""
    if known is None:
        return plan.steps, {}
    left = {
        step.key: model.Rehearsed.unproven(_before_the_merge(step.key)) for step in plan.steps if step.key not in known
    }
    return tuple(step for step in plan.steps if step.key in known), left


def all_unproven(steps: Sequence[model.Step], why: model.Reason) -> dict[model.Key, model.Rehearsed]:
    return {step.key: model.Rehearsed.unproven(why) for step in steps}


def _before_the_merge(key: model.Key) -> model.Reason:
    message = f"{key}: not asked before the merge, since it is neither accepted nor owned"
    return model.Reason(code="not_asked", message=message)
