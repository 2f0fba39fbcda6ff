"""Look -> Plan: order, batches, delete budget, adoption, hazards. Pure. The only function that makes plans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reconciler import model

DELETES_LAST = 1000  # Orders within a member are small numbers; deletes run after them, in reverse.
WRITES_AT_ONCE = 200  # Steps of one stage that one intent names: a record stays under 64 KiB (trust.md 9.1).


@dataclass(frozen=True)
class Guards:
    """What the log knows that limits a plan."""

    owned: Mapping[model.Key, str]  # its inventory: mark *and* record make a resource ours
    acknowledged: frozenset[tuple[str, model.Key]] = frozenset()  # (hazard, key)
    deleted: int = 0  # by this deployment: planning again does not spend the budget again
    created: frozenset[model.Key] = frozenset()  # since the last confirmed state: free to delete
    adopted: frozenset[model.Key] = frozenset()  # since the last confirmed state: given back, never deleted
    claimed: Mapping[str, str] = field(default_factory=dict)  # identity -> another target that the log says owns it


def make_plan(wanted: model.Wanted, look: model.Look, guards: Guards) -> model.Plan:
    """Order what the driver proposed, and refuse what must not be written. Refusals stand in the plan, all of them."""
    batches = batch_numbers(wanted, look)
    stages: dict[tuple[int, int], list[model.Step]] = {}
    refusals: list[model.Reason] = []
    deletes = 0
    for seen in look.observations:
        if unreadable(seen.key, look):
            continue
        for step in seen.steps:
            if step.action == "delete" and not _is_ours(seen, guards):
                continue
            undoes = step.action == "delete" and seen.key in guards.created
            deletes += step.action == "delete" and not undoes
            refusals += _ownership(wanted, seen, guards)
            refusals += () if undoes else _hazards(seen.key, step, guards)
            order = DELETES_LAST - seen.order if step.action == "delete" else seen.order
            stages.setdefault((batches[seen.member], order), []).append(_adopting(step, seen, guards))
    refusals += _emptying(wanted, look, guards, deletes)
    refusals += _budget(wanted, guards, deletes)
    return model.Plan(
        target=wanted.target,
        wanted=wanted.digest,
        fingerprint=look.fingerprint,
        refusals=tuple(refusals),
        stages=tuple(model.Stage(batch=b, order=o, steps=tuple(steps)) for (b, o), steps in sorted(stages.items())),
    )


def deletes_allowed(wanted: model.Wanted, owned: int) -> int:
    """By one deployment of a target with so many resources of ours."""
    return max(1, min(wanted.max_deletes, owned * wanted.max_delete_percent // 100))


def first_stage(plan: model.Plan) -> model.Stage:
    """What the next write is: the first stage, cut to what one intent can name. The rest stands in the next fresh plan."""
    stage = plan.stages[0]
    return stage.model_copy(update={"steps": stage.steps[:WRITES_AT_ONCE]})


def healthy_before(stage: model.Stage, wanted: model.Wanted, look: model.Look) -> model.Health:
    """The worst health of all that stands before this stage: a canary, a CRD and a namespace are the same question.

    As many members of earlier batches as `rollout.maxFailed` allows may be sick or unreachable.
    """
    batches = batch_numbers(wanted, look)
    sick: dict[str, model.Health] = {}
    for seen in look.observations:
        before = (batches[seen.member], seen.order) < (stage.batch, stage.order)
        if before and seen.wanted is not None and not seen.steps:
            sick[seen.member] = _worse(sick.get(seen.member, model.Health.HEALTHY), seen.health)
    for member, batch in batches.items():
        if member and batch < stage.batch and unreadable(model.Key(f"{member}:"), look):
            sick[member] = model.Health.FAILED
    failed = sorted(m for m, health in sick.items() if health is model.Health.FAILED)
    forgiven = failed if all(failed) and len(failed) <= wanted.max_failed else []
    left = [health for member, health in sick.items() if member not in forgiven]
    worst = model.Health.HEALTHY
    for health in left:
        worst = _worse(worst, health)
    return worst


def unreadable(key: model.Key, look: model.Look) -> bool:
    """Whether this look says nothing about the key; an error for a prefix (a member, the whole target) covers what is under it."""
    return any(key.startswith(bad) for bad in look.errors)


def batch_numbers(wanted: model.Wanted, look: model.Look) -> dict[str, int]:
    """Member -> index of its rollout batch. `serial: [1, "10%", "100%"]`: sizes, percentages of all members; the rest comes last."""
    unseen = {bad[:-1] for bad in look.errors if bad.endswith(":") and bad.count(":") == 1}
    members = sorted({seen.member for seen in look.observations} | unseen)
    edges = _edges(wanted.rollout, len(members))
    return {member: sum(place >= edge for edge in edges) for place, member in enumerate(members)}


def _edges(serial: Sequence[int | str], members: int) -> list[int]:
    """The places at which a new batch begins."""
    edges, at = [], 0
    for size in serial:
        at += size if isinstance(size, int) else math.ceil(members * int(size.rstrip("%")) / 100)
        edges.append(at)
    return edges


def _is_ours(seen: model.Observation, guards: Guards) -> bool:
    """Marked but not recorded, or recorded but not marked, is foreign: reported, never pruned. What was adopted is given back."""
    return seen.marked and seen.key in guards.owned and seen.key not in guards.adopted


def _ownership(wanted: model.Wanted, seen: model.Observation, guards: Guards) -> list[model.Reason]:
    """Why an existing resource that the log does not know as ours may not be written."""
    if seen.actual is None or seen.key in guards.owned:
        return []
    if other := guards.claimed.get(seen.identity):
        return [model.Reason(code="claimed", message=f"{seen.key} belongs to the target {other}", where=seen.source)]
    if isinstance(wanted, model.Desired) and seen.key not in wanted.adopt:
        fix = f'adopt: ["{seen.key}"] takes it over; what it is now is kept as evidence'
        return [model.Reason(code="adoption", message=f"{seen.key} exists and is not ours", where=seen.source, fix=fix)]
    return []


def _adopting(step: model.Step, seen: model.Observation, guards: Guards) -> model.Step:
    """The same write, called what it is: taking over what somebody else made."""
    takes_over = seen.actual is not None and seen.key not in guards.owned
    return step.model_copy(update={"action": "adopt"}) if takes_over and step.action == "update" else step


def _hazards(key: model.Key, step: model.Step, guards: Guards) -> list[model.Reason]:
    along = f" ({step.impact})" if step.impact else ""
    return [r for hazard in step.hazards for r in _need(guards, hazard, key, f"{key}: {hazard}{along}")]


def _need(guards: Guards, hazard: str, key: model.Key, message: str) -> list[model.Reason]:
    if (hazard, key) in guards.acknowledged:
        return []
    fix = f'acknowledge: [{{hazard: {hazard}, key: "{key}", reason: ...}}] in the merge that asks for it'
    return [model.Reason(code="hazard", message=message, fix=fix)]


def _emptying(wanted: model.Wanted, look: model.Look, guards: Guards, deletes: int) -> list[model.Reason]:
    """Nothing is emptied by mistake: it takes `mode: absent` and an acknowledgement."""
    if not deletes:
        return []
    if wanted.mode is model.Mode.ABSENT:
        return _need(guards, "deletes_target", model.Key(wanted.target), "everything that we own here is deleted")
    if isinstance(wanted, model.Desired) and all(seen.wanted is None for seen in look.observations):
        fix = "mode: absent takes a target down"
        return [model.Reason(code="empty", message="nothing is desired any more", fix=fix)]
    return []


def _budget(wanted: model.Wanted, guards: Guards, deletes: int) -> list[model.Reason]:
    """`deletes: {max, maxPercent}` for each deployment: both hold, and one delete is always allowed (targets.md 1.6)."""
    allowed = deletes_allowed(wanted, len(guards.owned) + guards.deleted)
    if not deletes or guards.deleted + deletes <= allowed:
        return []
    message = f"{guards.deleted + deletes} deletes in one deployment, {allowed} allowed"
    return _need(guards, "delete_budget", model.Key(wanted.target), message)


_ORDER = (model.Health.HEALTHY, model.Health.PROGRESSING, model.Health.UNKNOWN, model.Health.FAILED)


def _worse(one: model.Health, other: model.Health) -> model.Health:
    return max(one, other, key=_ORDER.index)
