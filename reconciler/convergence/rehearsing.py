"""What a preview reads of a target, what it has it judge, and what it leaves alone (design.md 9). No turn comes here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from reconciler import model, ports

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


def leads_to(config: model.Desired) -> tuple[object, ...]:
    """What says where a look goes; the same fields may mean another place to another kind."""
    return config.kind, config.connection, config.probes


def known_keys(driver: ports.Driver, accepted: model.Desired, owned: Mapping[model.Key, str]) -> AbstractSet[model.Key]:
    """What a preview of an unmerged state may read, and ask about. Raises: as `declared`."""
    declared = driver.declared(accepted) if isinstance(driver, ports.Declaring) else {}
    return declared.keys() | owned.keys()


def look(
    driver: ports.Driver, config: model.Desired, accepted: model.Desired, owned: Mapping[model.Key, str]
) -> model.Look:
    """Look for an unmerged state, without what is there under keys that nothing but that state names.

    A driver that can, does not read it at all; whatever the driver does, it is not shown. Else whoever may push a branch
    could have the daemon read out what it alone may read, and ask it whether a thing exists.

    Raises: as `observe`.
    """
    known, within_s = known_keys(driver, accepted, owned), config.deadlines.command_s
    if isinstance(driver, ports.Previewing):
        found = driver.preview(config, owned, known, within_s)
    else:
        found = driver.observe(config, owned, within_s)
    seen = tuple(each if each.key in known else _as_if_absent(each) for each in found.observations)
    return found.model_copy(update={"observations": seen})


def _as_if_absent(seen: model.Observation) -> model.Observation:
    if seen.actual is None:
        return seen
    step = model.Step(key=seen.key, action="create", command=f"write {seen.key}", before=None)
    return model.Observation(
        key=seen.key, wanted=seen.wanted, actual=None, order=seen.order, steps=(step,), source=seen.source
    )


def all_unproven(steps: Sequence[model.Step], why: model.Reason) -> dict[model.Key, model.Rehearsed]:
    return {step.key: model.Rehearsed.unproven(why) for step in steps}


def _before_the_merge(key: model.Key) -> model.Reason:
    message = f"{key}: not asked before the merge, since it is neither accepted nor owned"
    return model.Reason(code="not_asked", message=message)
