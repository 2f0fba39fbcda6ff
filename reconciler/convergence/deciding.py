"""What a target's next move is: one table over values. No I/O, no clock; `target.py` acts on the answer.

Theory of operation. A turn looks, decides and does at most one write. Nothing is remembered between turns but the log,
so a restart is a turn like any other: an intent without its `applied` is settled from the look, and the plan is made
anew. Rolling back is not a move: what the target *should be* changes (`wanted_now`), and the next turn goes there.
Nor is waiting for gates: a newer accepted state changes nothing here until it is cleared.

    look failed                     Wait; Close(FAILED) past the deadline, but never while a write is unaccounted for
    a write is unaccounted for      Settle: say from the look what became of it
    open for another state          Close(SUPERSEDED)
    the dead-man fired              Close(FAILED)
    plan empty, healthy             Close(SUCCEEDED) if open, else Rest
    plan empty, progressing         if open, Wait until the deadline; at rest too, where a resource says so: a drained node
                                      is no fault, but one that takes longer than a deployment may take is
    plan empty, else                Close(FAILED) if open, else Stand(degraded)
    open and late, or refused by
      the target, or fruitless      Close(FAILED)
    plan refused                    Close(FAILED) if open, else Stand(blocked)
    may not write now               Stand(halted | suspended | withdrawn | deferred | dependency | detect;
                                      uncleared from genesis; blocked by a fight; degraded until the next try)
    open, an earlier stage failed   Close(FAILED)
    open, an earlier stage unready  Wait
    else                            Write the first stage of the plan
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never

from reconciler import model
from reconciler.admission import admitted
from reconciler.audit import record, state
from reconciler.convergence import planning

FIGHT_REST = timedelta(minutes=10)  # After so long without a correction the other writer is thought to be gone.
MAX_FRUITLESS = 3  # design.md 3: three fruitless stages fail the deployment.
LOOK_AGAIN_S = 5.0  # After a look that failed.
SECURITY = "target."  # Errors of the kind that is not retried: a credential turned away, an identity that is not the pinned one.
WATCH_S = 1.0  # While something becomes healthy.
_KEYS_NAMED = 3  # in a reason


@dataclass(frozen=True)
class Brakes:
    """Why nothing may be written now, as far as the log does not say it; each is empty when it does not hold."""

    halted: tuple[model.Reason, ...] = ()  # stops every write; the others stop changes, not drift or rollback
    withdrawn: tuple[model.Reason, ...] = ()  # denied, rejected or revoked since the decision
    deferred: tuple[model.Reason, ...] = ()  # freeze, closed window, a source that has been silent for too long
    dependency: tuple[model.Reason, ...] = ()  # dependsOn, not yet healthy at its revision
    until: datetime | None = None
    claimed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stand:
    """Stays as it is, for a reason that a person must see."""

    code: record.Code
    reasons: tuple[model.Reason, ...] = ()
    until: datetime | None = None


@dataclass(frozen=True)
class Rest:
    """Converged and healthy, nothing open. `standing`: why that is not where Git says."""

    standing: Stand | None = None


@dataclass(frozen=True)
class Wait:
    """Look again soon; nothing is held meanwhile."""

    in_s: float


@dataclass(frozen=True)
class Settle:
    """Say from the look what became of an intent whose result was lost."""


@dataclass(frozen=True)
class Write:
    plan: model.Plan
    stage: model.Stage
    cause: model.Cause


@dataclass(frozen=True)
class Close:
    closed: model.Closed
    reasons: tuple[model.Reason, ...] = ()


Move = Rest | Wait | Stand | Settle | Write | Close


def wanted_now(known: state.Target) -> model.Version | Stand:
    """Which state this target should be in: accepted and cleared, unless it failed here or an operator pinned another.

    A state that was not cleared is never the answer, not even to look at: its connection could point anywhere.
    """
    if known.released:
        return Stand("released")
    pin = known.pinned.pin if known.pinned else None
    for candidate in (pin, known.cleared, known.before, known.confirmed):
        if candidate and candidate.digest not in known.failed:
            return candidate
    if known.failed:
        return Stand("stuck", known.failure)
    return _elsewhere(known) or Stand("uncleared")


def held(known: state.Target, goal: model.Version | Stand, brakes: Brakes) -> Stand | None:
    """Why a change that is wanted may not begin yet. Meanwhile the target is kept as it was confirmed."""
    begun = known.open is not None and isinstance(goal, model.Version) and known.open.wanted.digest == goal.digest
    moves = isinstance(goal, model.Version) and known.cleared is not None and goal.digest == known.cleared.digest
    there = known.confirmed is not None and isinstance(goal, model.Version) and known.confirmed.digest == goal.digest
    if begun or there or not moves:
        return None
    if brakes.withdrawn:
        return Stand("withdrawn", brakes.withdrawn)
    if brakes.deferred:
        return Stand("deferred", brakes.deferred, brakes.until)
    return Stand("dependency", brakes.dependency) if brakes.dependency else None


def kept_meanwhile(known: state.Target) -> model.Version | None:
    """The state that a target is kept in while its change is held: the confirmed one, if nothing else was written since."""
    confirmed = known.confirmed
    return confirmed if confirmed and not known.strayed and confirmed.digest not in known.failed else None


def decide(  # noqa: C901, PLR0912 - the table of the module's docstring, a row after the other
    wanted: admitted.Admitted,
    known: state.Target,
    look: model.Look,
    brakes: Brakes,
    *,
    goal: model.Version | Stand,
    waits: Stand | None,
    now: datetime,
    rolling_for: timedelta = timedelta(0),
) -> Move:
    """The table above, top to bottom; the first row that holds is the move.

    `rolling_for`: how long what is at rest has been seen to be rolling (`is_rolling`). `goal` is the state that should be, or is kept while `waits` says why its change may not begin; `wanted` is what was
    looked at: the state of the open deployment, else the goal.
    """
    opened, errors = known.open, tuple(look.errors.values())
    late = opened is not None and now >= opened.due(wanted.state)
    unsettled = opened.unsettled if opened else {}

    if look.busy or (errors and not look.observations) or any(planning.unreadable(key, look) for key in unsettled):
        # An outcome that nobody has seen is not an outcome.
        return (
            Close(model.Closed.FAILED, errors) if late and not unsettled else Wait(_look_again_s(wanted.state, errors))
        )
    if unsettled:
        return Settle()
    if isinstance(goal, Stand):
        return Close(model.Closed.SUPERSEDED) if opened else goal
    if opened and opened.wanted.digest != goal.digest:
        return Close(model.Closed.SUPERSEDED)
    if opened and look.reverted == opened.id:
        return Close(model.Closed.FAILED, (_reason("reverted", "the target's dead-man took it back"),))

    cause = cause_of(wanted.state, known)
    plan = planning.make_plan(wanted.state, look, guards(wanted, known, cause, brakes.claimed))
    if not plan.stages:
        left_s = wanted.state.deadlines.health_s - rolling_for.total_seconds() if is_rolling(look) else 0.0
        return _settled(known, look, waits, late=late, left_s=left_s)
    if opened and (late or opened.refused or opened.fruitless >= MAX_FRUITLESS):
        return Close(model.Closed.FAILED, opened.refused or _unfinished(look, plan))
    if plan.refusals:
        return Close(model.Closed.FAILED, plan.refusals) if opened else Stand("blocked", plan.refusals)
    if stand := braked(wanted.state, known, brakes, cause, now=now, writer=look.changed_by(known.fighting)):
        return stand
    if opened:  # Before the first write nothing waits: what ails the target may be what this change mends.
        match planning.healthy_before(plan.stages[0], wanted.state, look):
            case model.Health.FAILED:
                return Close(model.Closed.FAILED, sick(look) or (_reason("unhealthy", "an earlier stage failed"),))
            case model.Health.PROGRESSING | model.Health.UNKNOWN:
                return Wait(WATCH_S)
            case model.Health.HEALTHY:
                pass
    return Write(plan, planning.first_stage(plan), cause)


def cause_of(wanted: model.Wanted, known: state.Target) -> model.Cause:
    """Drift only if nothing but the confirmed state was written since it was confirmed: the way back is no drift."""
    if known.open:
        return known.open.cause
    if known.confirmed and known.confirmed.digest == wanted.digest and not known.strayed:
        return model.Cause.DRIFT
    return model.Cause.CHANGE if known.cleared and known.cleared.digest == wanted.digest else model.Cause.ROLLBACK


def guards(
    wanted: admitted.Admitted, known: state.Target, cause: model.Cause, claimed: Mapping[str, str]
) -> planning.Guards:
    pinned = (
        known.pinned if known.pinned and known.pinned.pin and known.pinned.pin.digest == wanted.state.digest else None
    )
    by_operator = frozenset(pinned.acknowledged) if pinned else frozenset[tuple[str, model.Key]]()
    return planning.Guards(
        owned=known.owned,
        acknowledged=wanted.acknowledged if cause is model.Cause.CHANGE else by_operator,
        deleted=known.open.deleted if known.open else 0,
        created=known.free(wanted.state.digest),
        adopted=frozenset(known.adopted) if cause is model.Cause.ROLLBACK else frozenset(),
        claimed=claimed,
    )


def is_ready(other: state.Target, digest: model.Digest | None, known: state.Target) -> bool:
    """dependsOn: confirmed at the folder digest that it has in this target's revision, or where a newer merge has moved it since."""
    if other.open or other.confirmed is None:
        return False
    moved_on = other.decision > known.decision and other.cleared is not None
    return other.confirmed.digest == digest or (
        moved_on and other.cleared is not None and other.cleared.digest == other.confirmed.digest
    )


def sick(look: model.Look) -> tuple[model.Reason, ...]:
    """What is not healthy, and why where the target says so."""
    told = {finding.message.partition(": ")[0] for finding in look.findings}
    named = tuple(
        _reason("unhealthy", f"{seen.key} is {seen.health}", where=seen.source)
        for seen in look.observations
        if seen.wanted is not None
        and seen.health is not model.Health.HEALTHY
        and seen.key not in told
        and not seen.steps
    )
    return look.findings + named


def _unfinished(look: model.Look, plan: model.Plan) -> tuple[model.Reason, ...]:
    """What was waited for, if the next stage waited; and what is still to be written."""
    named = ", ".join(step.key for step in plan.steps[:_KEYS_NAMED])
    more = f" and {len(plan.steps) - _KEYS_NAMED} more" if len(plan.steps) > _KEYS_NAMED else ""
    return *sick(look), _reason("not_converged", f"the plan is still not empty: {named}{more}")


def soon_s(move: Move, wanted: model.Wanted) -> float:
    """When to look again, whatever happens in between."""
    match move:
        case Wait(in_s=in_s):
            return in_s
        case Write() | Settle() | Close():
            return 0
        case Rest() | Stand():
            return wanted.interval_s
        case _:
            assert_never(move)


def is_rolling(look: model.Look) -> bool:
    """Whether what is wanted is there and on its way: pods that a node lost, a volume that is being made.

    A probe that gets no answer is nobody's word for being on the way.
    """
    moving = (seen for seen in look.observations if seen.wanted is not None and seen.health is model.Health.PROGRESSING)
    return look.health is model.Health.PROGRESSING and not look.errors and any(moving)


def _look_again_s(wanted: model.Wanted, errors: Iterable[model.Reason]) -> float:
    """Whoever was turned away comes back at its interval only: a credential that is tried every few seconds locks its account."""
    turned_away = any(reason.code.startswith(SECURITY) for reason in errors)
    return max(LOOK_AGAIN_S, wanted.interval_s) if turned_away else LOOK_AGAIN_S


def _settled(known: state.Target, look: model.Look, waits: Stand | None, *, late: bool, left_s: float) -> Move:
    """The plan is empty: green only if everything could be read and is healthy. `left_s`: that a resource at rest may still take."""
    unread = tuple(look.errors.values())
    match model.Health.UNKNOWN if unread else look.health:
        case model.Health.HEALTHY:
            return Close(model.Closed.SUCCEEDED) if known.open else Rest(waits or _elsewhere(known))
        case model.Health.PROGRESSING | model.Health.UNKNOWN if known.open and not late:
            return Wait(WATCH_S)
        case model.Health.PROGRESSING if not known.open and left_s > 0:
            return Wait(min(LOOK_AGAIN_S, left_s))
        case model.Health.FAILED | model.Health.PROGRESSING | model.Health.UNKNOWN:
            why = unread or sick(look) or (_reason("unhealthy", f"the target is {look.health}"),)
            return Close(model.Closed.FAILED, why) if known.open else Stand("degraded", why)
        case never:
            assert_never(never)


def _elsewhere(known: state.Target) -> Stand | None:
    """Why a target at rest is not where Git says, or would not follow: it is suspended, which hides no other reason."""
    found = _not_there(known)
    return _suspended(known, found) if known.suspended is not None else found


def _suspended(known: state.Target, besides: Stand | None) -> Stand:
    return Stand("suspended", (_reason("suspended", known.suspended or ""), *(besides.reasons if besides else ())))


def _not_there(known: state.Target) -> Stand | None:
    """Its newest merge has not passed, failed here, or somebody pinned another state."""
    if known.waiting:
        return Stand("uncleared", _gate_reasons(known, known.waiting))
    if known.pinned:
        return Stand("pinned", (_reason("pinned", known.pinned.reason, where=known.pinned.actor),))
    if known.cleared and known.cleared.digest in known.failed:
        return Stand("failed", known.failure)
    return None


def _gate_reasons(known: state.Target, revision: model.Oid) -> tuple[model.Reason, ...]:
    return tuple(
        reason
        for result in known.gates
        for reason in (_reason("gate", f"{result.check}: {result.outcome}", where=revision), *result.findings)
    )


def braked(
    wanted: model.Wanted,
    known: state.Target,
    brakes: Brakes,
    cause: model.Cause,
    *,
    now: datetime,
    writer: str = "",
) -> Stand | None:
    """Why nothing may be written now; None where it may. Asked when the move is decided, and again right before the write.

    `writer`: who else writes what is fought over, where the target can tell.
    """
    opens = known.open is None
    if brakes.halted:
        return Stand("halted", brakes.halted)
    if known.suspended is not None:
        return _suspended(known, _not_there(known))
    if cause is model.Cause.CHANGE and opens:
        if brakes.withdrawn:
            return Stand("withdrawn", brakes.withdrawn)
        if brakes.deferred:
            return Stand("deferred", brakes.deferred, brakes.until)
    if known.taken_over:
        return _elsewhere(known) or Stand("uncleared", (_reason("genesis", "not written before a merge touches it"),))
    if cause is model.Cause.CHANGE and opens and brakes.dependency:
        return Stand("dependency", brakes.dependency)
    if cause is model.Cause.DRIFT and opens:
        return _drift_left_alone(wanted, known, writer, now=now)
    return None


def _drift_left_alone(wanted: model.Wanted, known: state.Target, writer: str, *, now: datetime) -> Stand | None:
    if wanted.mode is model.Mode.DETECT:
        elsewhere, only = _not_there(known), _reason("detect", "drift is only reported: mode: detect")
        return Stand(elsewhere.code, (*elsewhere.reasons, only)) if elsewhere else Stand("detect")
    last = max((at for _, at in known.corrections), default=None)
    if known.fighting and last and now < last + FIGHT_REST:
        keys = ", ".join(sorted(known.fighting)[:3])
        often = f"corrected more than {state.FIGHT_CORRECTIONS} times within a minute"
        message = f"{keys}: {often}; {writer or 'somebody else'} writes it too"
        found = "stop it, or leave the field to it under `ignore`" if writer else "find the other writer"
        reason = _reason("fight", message, fix=f"{found}; then `reconciler reconcile {known.name}`")
        return Stand("blocked", (reason,), last + FIGHT_REST)
    if known.retry and now < known.retry:
        return Stand("degraded", known.last.reasons if known.last else (), known.retry)
    return None


def _reason(code: str, message: str, *, where: str = "", fix: str = "") -> model.Reason:
    return model.Reason(code=code, message=message, where=where, fix=fix)
