"""`get targets`: where each target is, where Git says it should be, and why these are not the same.

Never Synced by default: a target that nobody has looked at is Unknown (design.md, idea 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from reconciler import model
from reconciler.audit import record, state
from reconciler.convergence import deciding
from reconciler.views import document

Sync = Literal["Synced", "OutOfSync", "Unknown"]
Condition = Literal["Healthy", "Progressing", "Failed", "Unknown"]

_CONDITIONS: Mapping[model.Health, Condition] = {
    model.Health.HEALTHY: "Healthy",
    model.Health.PROGRESSING: "Progressing",
    model.Health.FAILED: "Failed",
    model.Health.UNKNOWN: "Unknown",
}

_DETECT = model.Reason(
    code="detect",
    message="drift is only reported: mode detect",
    fix="change it in Git, or mend it by hand; `mode: correct` lets it be corrected",
)


class Live(model.Value):
    """What a process knows of one target beside the log: its document, and what was seen last, if anything was."""

    type: str = ""
    environment: str = ""
    observed: model.Time | None = None
    look: model.Look | None = None
    plan: model.Plan | None = None  # made of that look


class Target(document.Row):
    name: str
    type: str
    environment: str
    sync: Sync
    health: Condition
    standing: record.Code | None  # why it stays as it is, or is not where Git says
    until: model.Time | None  # when that ends, where it is known
    deploying: str | None  # the deployment that is open
    git_revision: model.Oid | None  # the newest accepted merge that moved it
    wanted_revision: model.Oid | None  # the state that it is brought to, or kept in
    confirmed_revision: model.Oid | None  # the last state in which it was seen healthy
    drifted: int  # resources that are not as they were confirmed
    observed: model.Time | None
    reasons: tuple[model.Reason, ...]


class TargetList(document.Document):
    kind: Literal["TargetList"] = "TargetList"
    items: tuple[Target, ...]


def targets(known: state.State, live: Mapping[str, Live], *, watching: bool) -> TargetList:
    """Every target that the log knows. `watching`: a daemon looks; otherwise the answer is as it was recorded."""
    rows = (_target(known, t, live.get(t.name, Live()), watching=watching) for t in known.targets.values())
    return TargetList(items=tuple(sorted(rows, key=lambda row: row.name)))


def in_git(known: state.State, target: state.Target) -> model.Version | None:
    """The newest accepted state of a target, cleared or not; None where its document is gone."""
    merge = known.pending.get(target.waiting) if target.waiting else None
    if merge is None:
        return target.cleared
    digest = merge.decision.targets.get(target.name)
    return model.Version(revision=merge.decision.revision, digest=digest) if digest else None


def _target(known: state.State, target: state.Target, live: Live, *, watching: bool) -> Target:
    goal = deciding.wanted_now(target)
    newest = in_git(known, target)
    standing = target.standing.code if target.standing else goal.code if isinstance(goal, deciding.Stand) else None
    return Target(
        name=target.name,
        type=live.type,
        environment=live.environment,
        sync=_sync(target, newest, live, watching=watching),
        health=_health(target, live, watching=watching),
        standing=standing,
        until=target.standing.until if target.standing else None,
        deploying=target.open.id if target.open else None,
        git_revision=newest.revision if newest else None,
        wanted_revision=goal.revision if isinstance(goal, model.Version) else None,
        confirmed_revision=target.confirmed.revision if target.confirmed else None,
        drifted=target.drift.count if target.drift else 0,
        observed=live.observed,
        reasons=_reasons(target, live, goal),
    )


def _sync(target: state.Target, newest: model.Version | None, live: Live, *, watching: bool) -> Sync:
    """Whether what is there is what Git says, the newest accepted state that is, and not only what is wanted meanwhile."""
    if target.released or newest is None:
        return "Unknown"
    if watching and (live.look is None or live.plan is None or live.look.errors or live.look.busy):
        return "Unknown"
    if live.plan is not None and live.plan.stages:
        return "OutOfSync"
    if target.confirmed is None:
        return "Unknown"
    elsewhere = target.confirmed.digest != newest.digest or target.strayed or target.open is not None
    return "OutOfSync" if elsewhere or target.drift else "Synced"


def _health(target: state.Target, live: Live, *, watching: bool) -> Condition:
    if live.look is not None:
        return _CONDITIONS[model.Health.UNKNOWN if live.look.errors else live.look.health]
    if watching or target.confirmed is None or target.released:
        return "Unknown"
    if target.open:
        return "Progressing"
    return "Failed" if target.standing and target.standing.code in {"degraded", "stuck"} else "Healthy"


def why(standing: record.Standing | deciding.Stand) -> tuple[model.Reason, ...]:
    """The reasons of a standing; of one that says it all by its code, what that code says."""
    return standing.reasons or ((_DETECT,) if standing.code == "detect" else ())


def _reasons(target: state.Target, live: Live, goal: model.Version | deciding.Stand) -> tuple[model.Reason, ...]:
    recorded = why(target.standing) if target.standing else why(goal) if isinstance(goal, deciding.Stand) else ()
    seen = (*live.look.errors.values(), *live.look.findings) if live.look else ()
    return tuple(dict.fromkeys((*recorded, *seen)))
