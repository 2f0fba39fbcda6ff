"""One target, whatever its kind: look, decide, do one thing, record it. `DeploymentTarget` is what users know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from reconciler import errors, model, ports
from reconciler.admission import admitted
from reconciler.audit import log, record, state
from reconciler.convergence import aiming, deciding, obliging, owning, planning, rehearsing

T = TypeVar("T")
Recheck = Callable[[str, model.Version], model.ValidationResult]

PAUSE_S = 60.0  # Between turns of a target that has no state to look at.
LEASE_MARGIN_S = 60.0  # A write ends while its lease still has this long to go; less than half gone is not renewed.
KEYS_NAMED = 100  # Of a drift; the count is exact.


@dataclass(frozen=True)
class DeployResult:
    """How taking turns ended: the deployment that closed, and why the target stands still if it does."""

    target: str
    deployment: model.Deployment | None
    standing: deciding.Stand | None


@dataclass(frozen=True)
class Surroundings:
    """What the composition root binds for every target alike."""

    drivers: ports.Drivers
    audit: log.Log
    read: admitted.Read
    brakes: aiming.Brakes
    recheck: Recheck
    heard: Callable[[], object]  # what brakes rest on beside the log: equal as long as nothing new came
    clock: ports.Clock
    new_id: Callable[[], str]  # of a deployment


class DeploymentTarget:
    """One per target in a process; used by one thread at a time. `turn` is all that the daemon calls."""

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.type = ""  # of the state that was asked for last
        self.last: model.Look | None = None  # None: unknown until observed
        self.last_plan: model.Plan | None = None
        self.observed: datetime | None = None  # when that look began
        self._rolling: datetime | None = None  # since when what is at rest has been on its way to being well
        self._around = around
        self._log = around.audit
        self._aiming = aiming.Aiming(name, around.read, around.brakes, around.audit.evidence)
        self._made: ports.Driver | None = None

    # --- what users know ---

    def validate(self, config: model.Desired) -> model.ValidationResult:
        return self._driver(config).validate(config)

    def plan(self, config: model.Desired) -> model.Plan:
        """Look and plan without the right to write. Every hazard shows.

        Of a key that is neither accepted nor owned only the wanted side is seen: what is there is nobody's to show yet.

        Raises: ConfigError(preview) where the kind, the connection, a probe or a secret reference is not an accepted one:
        it could point anywhere.
        """
        known = self._log.state.target(self.name)
        accepted = self._accepted(config, known)
        look = rehearsing.look(self._driver(config), config, accepted, known.owned)
        wanted = admitted.Admitted(config)
        return planning.make_plan(config, look, _guards(wanted, known, self._around.brakes(config, known)))

    def next_plan(self) -> model.Plan:
        """What the next turns would write: of the state that is wanted now, or of the open deployment's.

        Raises: ConfigError where there is no such state; whatever the driver raises.
        """
        known = self._log.state.target(self.name)
        wanted = self._aiming.aim(known, deciding.wanted_now(known))
        look = self._driver(wanted.state).observe(wanted.state, known.owned, wanted.state.deadlines.command_s)
        brakes = self._around.brakes(wanted.state, known)
        return planning.make_plan(wanted.state, look, _guards(wanted, known, brakes))

    def rehearse(self, plan: model.Plan, config: model.Desired | None = None) -> Mapping[model.Key, model.Rehearsed]:
        """What the target says to the plan that `plan(config)`, or `next_plan()`, has just made; nothing is kept.

        Empty where its kind cannot be asked. Of an unmerged `config` only what is accepted or owned is asked about: the
        answer to a new key would tell whether it is there. Raises: as they do.
        """
        known = self._log.state.target(self.name)
        if config is None:
            wanted = self._aiming.aim(known, deciding.wanted_now(known)).state
            return self._rehearse(wanted, plan, None)
        accepted = self._accepted(config, known)
        return self._rehearse(config, plan, rehearsing.known_keys(self._driver(config), accepted, known.owned))

    def _rehearse(
        self, wanted: model.Wanted, plan: model.Plan, known: AbstractSet[model.Key] | None
    ) -> Mapping[model.Key, model.Rehearsed]:
        driver = self._driver(wanted)
        if not isinstance(driver, ports.Rehearsing):
            return {}
        if plan.wanted != wanted.digest:
            return rehearsing.all_unproven(plan.steps, rehearsing.MOVED)
        steps, left = rehearsing.to_ask(plan, known)
        said = self._ask(lambda: driver.rehearse(wanted, steps, wanted.deadlines.command_s)) if steps else {}
        if isinstance(said, model.Reason):
            said = rehearsing.all_unproven(steps, said)
        return {**said, **left}

    def _accepted(self, config: model.Desired, known: state.Target) -> model.Desired:
        """The accepted state of which an unmerged one may use the connection. Raises: ConfigError(preview)."""
        accepted = self._around.read(self.name, known.cleared).state if known.cleared else None
        if not isinstance(accepted, model.Desired) or rehearsing.leads_to(accepted) != rehearsing.leads_to(config):
            message = f"{self.name}: its connection or probes were not accepted; only contents can be compared"
            raise errors.ConfigError("preview", message, fix="merge the connection first")
        driver = self._driver(config)
        if isinstance(driver, ports.Rendering):
            ours = {reference for reference, _ in driver.references(accepted)}
            if new := [(text, where) for text, where in driver.references(config) if text not in ours]:
                message = f"{self.name}: the reference {new[0][0]} was not accepted; only contents can be compared"
                raise errors.ConfigError("preview", message, where=new[0][1], fix="merge the reference first")
        return accepted

    def deploy(self, config: model.Desired) -> DeployResult:
        """Take turns until this state is confirmed, has failed or stands still. Blocks; the daemon never calls it.

        Raises: ConfigError(not_cleared) when it is not the state that the log shows as accepted and cleared.
        """
        cleared = self._log.state.target(self.name).cleared
        if cleared is None or cleared.digest != config.digest:
            raise errors.ConfigError("not_cleared", f"{self.name}: this is not the state that was accepted and cleared")
        return self._take_turns(config.digest)

    def rollback(
        self, deployment: str, *, actor: str, reason: str, acknowledged: tuple[tuple[str, model.Key], ...] = ()
    ) -> DeployResult:
        """Pin what was there before that deployment, and take turns. Nothing else is special about going back.

        Raises: ConfigError(not_pinnable) as `pin`.
        """
        back = self.pin(deployment, actor=actor, reason=reason, acknowledged=acknowledged)
        return self._take_turns(back.digest)

    def pin(
        self, deployment: str, *, actor: str, reason: str, acknowledged: tuple[tuple[str, model.Key], ...] = ()
    ) -> model.Version:
        """Record that an operator wants the state before that deployment; the next turns go there.

        Raises: ConfigError(not_pinnable) when that was not confirmed here within the rollback window, or a pure gate says
        no today; ConfigError(no_deployment) when the log does not know it or it is another target's.
        """
        intent = self._log.intent(deployment)
        if intent.target != self.name:
            raise errors.ConfigError(
                "no_deployment", f"{deployment} is a deployment of {intent.target}, not of {self.name}"
            )
        if reasons := self._around.recheck(self.name, intent.before):
            message = "; ".join(r.message for r in reasons)
            raise errors.ConfigError("not_pinnable", message, fix="revert the merge in Git instead")
        event = record.Operator(
            actor=actor,
            verb="rollback",
            target=self.name,
            reason=reason,
            deployment=deployment,
            pin=intent.before,
            acknowledged=acknowledged,
        )
        self._log.append(event, actor=actor)
        return intent.before

    def health(self) -> model.Health:
        return self.last.health if self.last else model.Health.UNKNOWN

    def drift(self) -> model.Plan | None:
        """The plan of the last look; None until there was one."""
        return self.last_plan

    def _take_turns(self, digest: model.Digest) -> DeployResult:
        ended: model.Deployment | None = None
        while True:
            move, in_s = self.turn()
            known = self._log.state.target(self.name)
            if isinstance(move, deciding.Close) and known.last and known.last.wanted.digest == digest:
                ended = known.last
            match move:
                case deciding.Stand():
                    return DeployResult(self.name, ended, move)
                case deciding.Rest(standing=standing):
                    return DeployResult(self.name, ended, standing)
                case deciding.Wait() if known.open is None:  # Nothing of ours is under way.
                    return DeployResult(self.name, ended, None)
                case _:
                    self._around.clock.sleep(in_s)

    # --- what the daemon calls ---

    def turn(self) -> tuple[deciding.Move, float]:
        """Look, decide, and do at most one write; return the move and the seconds until the next turn.

        Restart recovery is this function: it knows nothing that is not in the log or on the target.

        Raises: AuditError, which ends the process; TransientError(leased). Every other failure is a move.
        """
        self._log.lease(f"target:{self.name}")
        if self.name not in self._log.state.targets:  # Dropped: a record about it would bring it back.
            return deciding.Stand("released"), PAUSE_S
        self._agree()
        then = self._log.state
        known = then.target(self.name)
        goal = deciding.wanted_now(known)
        if isinstance(goal, deciding.Stand) and not known.open:
            self._stand(known, goal)
            return goal, PAUSE_S
        try:
            goal, waits = self._aiming.hold(known, goal)
            wanted = self._aiming.aim(known, goal)
        except (errors.ConfigError, errors.TransientError) as exc:
            unreadable = deciding.Stand("blocked", (model.Reason.of(exc),))
            self._stand(known, unreadable)
            return unreadable, PAUSE_S
        self.observed, look = self._around.clock.now(), self._look(wanted.state, known)
        brakes = self._around.brakes(wanted.state, known)
        self.last, self.last_plan = look, planning.make_plan(wanted.state, look, _guards(wanted, known, brakes))
        now = self._around.clock.now()
        self._rolling = (self._rolling or now) if deciding.is_rolling(look) and not known.open else None
        rolling_for = now - (self._rolling or now)
        move = deciding.decide(wanted, known, look, brakes, goal=goal, waits=waits, now=now, rolling_for=rolling_for)
        self._report_drift(wanted.state, known, look, self.last_plan)
        move = self._act(wanted.state, then, look, move)
        return move, self._soon_s(move, wanted.state)

    def close(self) -> None:
        """Let go of the connection; the next turn makes a new one."""
        made, self._made = self._made, None
        if made:
            made.close()

    def _look(self, wanted: model.Wanted, known: state.Target) -> model.Look:
        deadline_s = wanted.deadlines.connect_s + wanted.deadlines.command_s
        look = self._ask(lambda: self._driver(wanted).observe(wanted, known.owned, deadline_s))
        if isinstance(look, model.Look):
            return look
        unknown = model.Health.UNKNOWN
        return model.Look(observations=(), fingerprint=model.Digest(""), health=unknown, errors={model.Key(""): look})

    def _act(self, wanted: model.Wanted, then: state.State, look: model.Look, move: deciding.Move) -> deciding.Move:
        """Do what was decided; the only function that writes to a target or moves its part of the log."""
        known = then.target(self.name)
        match move:
            case deciding.Write():
                try:
                    self._write(wanted, then, look, move)
                except errors.TransientError:  # Something was said since this turn began: look and decide anew.
                    return deciding.Wait(0)
            case deciding.Settle() if known.open:
                owned = owning.by_look(known.open.unsettled, look)
                settled = record.Applied(
                    deployment=known.open.id, target=self.name, results=(), owned=owned, recovered=True
                )
                self._log.append(settled)
            case deciding.Close():
                return self._close(wanted, known, look, move)
            case deciding.Rest(standing=standing):
                self._confirm(wanted, known, look)
                self._stand(known, standing)
            case deciding.Stand():
                self._stand(known, move)
            case deciding.Wait() | deciding.Settle():
                pass
        return move

    def _write(self, wanted: model.Wanted, then: state.State, look: model.Look, write: deciding.Write) -> None:
        """Intent, then write, then what became of it. Nothing between the three may fail silently.

        Raises: TransientError(stale) before anything was written, when the log moved on under the decision.
        """
        known = then.target(self.name)
        there = model.Snapshot(
            target=self.name,
            kind=wanted.kind,
            connection=wanted.connection,
            deadlines=wanted.deadlines,
            probes=wanted.probes,
            resources={o.key: o.actual for o in look.observations if not planning.unreadable(o.key, look)},
        )
        planned, was = write.plan.canonical(), there.canonical()  # Once each: both are as long as the target is large.
        snapshot = model.sha256(was)
        intent = record.Intent(
            deployment=known.open.id if known.open else self._around.new_id(),
            target=self.name,
            cause=write.cause,
            decisions=tuple(seq for seq in known.decisions if seq <= known.decision) or (known.decision,),
            wanted=_version(wanted),
            clearance=known.clearance,
            plan=model.sha256(planned),
            snapshot=snapshot,
            actions={s.key: s.action for s in write.stage.steps},
            before=known.confirmed or known.before or model.Version(revision=None, digest=snapshot),
        )
        self._log.lease(f"target:{self.name}", for_s=2 * (wanted.deadlines.stage_s + LEASE_MARGIN_S))
        heard = self._around.heard()
        self._ask_again(wanted, known, write.cause)
        permit = self._log.permit(
            intent,
            evidence=(planned, was),
            deadline_s=wanted.deadlines.stage_s,
            still=lambda now: (
                self._around.heard() == heard
                and (now.halted, _decisive(now.target(self.name))) == (then.halted, _decisive(known))
            ),
        )
        results = self._ask(lambda: self._driver(wanted).apply(wanted, write.stage, permit))
        if isinstance(results, model.Reason) or any(r.effect is model.Effect.UNKNOWN for r in results):
            return  # A write may have landed: the next turn settles it by looking.
        owned = owning.by_results(write.stage, results)
        applied = record.Applied(deployment=intent.deployment, target=self.name, results=results, owned=owned)
        self._log.append(applied)

    def _ask_again(self, wanted: model.Wanted, known: state.Target, cause: model.Cause) -> None:
        """Right before the write, and from memory: what was said, fetched or closed while the target was looked at.

        Raises: TransientError(stale).
        """
        brakes = self._around.brakes(wanted, known)
        stand = deciding.braked(wanted, known, brakes, cause, now=self._around.clock.now())
        if stand is not None:
            raise errors.TransientError("stale", f"{self.name}: it would be {stand.code} by now")

    def _close(
        self, wanted: model.Wanted, known: state.Target, look: model.Look, close: deciding.Close
    ) -> deciding.Move:
        """Confirm a success first; a target that took it back, or that cannot be asked until the deadline, makes it a failure."""
        deployment = known.open
        if deployment is None:
            return deciding.Wait(0)
        if close.closed is model.Closed.SUCCEEDED:
            kept = self._ask(lambda: self._driver(wanted).confirm(wanted, deployment.id))
            if isinstance(kept, model.Reason):
                if self._around.clock.now() < deployment.due(wanted):
                    return deciding.Wait(deciding.LOOK_AGAIN_S)
                close = deciding.Close(model.Closed.FAILED, (kept,))
            elif not kept:
                too_late = model.Reason(
                    code="reverted", message="the target took the change back before it was confirmed"
                )
                close = deciding.Close(model.Closed.FAILED, (too_late,))
        outcome = record.Outcome(
            deployment=deployment.id,
            target=self.name,
            closed=close.closed,
            reasons=close.reasons[:KEYS_NAMED],
            fingerprint=look.fingerprint,
            health=look.health,
            started=deployment.started,
        )
        self._log.append(outcome, *obliging.opened(known, close.closed, self._around.clock.now()))
        return close

    def _confirm(self, wanted: model.Wanted, known: state.Target, look: model.Look) -> None:
        """A look found the state true that the log did not know as confirmed."""
        if known.strayed or known.confirmed is None or known.confirmed.digest != wanted.digest:
            event = record.Confirmed(target=self.name, version=_version(wanted), fingerprint=look.fingerprint)
            self._log.append(event)

    def _report_drift(self, wanted: model.Wanted, known: state.Target, look: model.Look, plan: model.Plan) -> None:
        """Record that a resting target moved, and that what moved is back; once for each set of keys."""
        if known.open or deciding.cause_of(wanted, known) is not model.Cause.DRIFT or known.taken_over:
            return
        keys = tuple(sorted(step.key for step in plan.steps))
        who = look.changed_by(keys)
        seen = record.Drift(target=self.name, keys=keys[:KEYS_NAMED], count=len(keys), who=who)
        before = known.drift or record.Drift(target=self.name, keys=(), count=0)
        if (seen.keys, seen.count) != (before.keys, before.count):
            self._log.append(seen)

    def _agree(self) -> None:
        """Git says something new, or what it says has become true: nothing is owed for having gone back."""
        for closed in obliging.closed(self._log.state.target(self.name)):
            self._log.append(closed)

    def _driver(self, wanted: model.Wanted) -> ports.Driver:
        if self._made is None or self.type != wanted.kind:
            self.close()
            if wanted.kind not in self._around.drivers:
                fix = f"types here: {', '.join(sorted(self._around.drivers))}"
                raise errors.ConfigError("kind", f"{self.name}: nobody drives targets of type {wanted.kind!r}", fix=fix)
            self.type, self._made = wanted.kind, self._around.drivers[wanted.kind]()
        return self._made

    def _ask(self, call: Callable[[], T]) -> T | model.Reason:
        """The one place for a driver's failures. A connection that raised anything is thrown away."""
        try:
            return call()
        except errors.AuditError:
            raise
        except errors.ReconcilerError as exc:
            self.close()
            return model.Reason.of(exc)
        except Exception as exc:  # noqa: BLE001 - a driver that breaks, whatever the way, must not take the daemon along
            self.close()
            return model.Reason(code="driver", message=f"the driver broke: {type(exc).__name__}")

    def _stand(self, known: state.Target, stand: deciding.Stand | None) -> None:
        """Record a transition; the same standing at every interval is no news."""
        standing = record.Standing(
            target=self.name,
            code=stand.code if stand else None,
            reasons=stand.reasons[:KEYS_NAMED] if stand else (),
            until=stand.until if stand else None,
        )
        if standing != (known.standing or record.Standing(target=self.name, code=None)):
            self._log.append(standing)

    def _soon_s(self, move: deciding.Move, wanted: model.Wanted) -> float:
        """The interval, or the moment at which a standing ends by itself."""
        soon = deciding.soon_s(move, wanted)
        stand = move.standing if isinstance(move, deciding.Rest) else move
        until = stand.until if isinstance(stand, deciding.Stand) else None
        if until is None:
            return soon
        return min(soon, max(1.0, (until - self._around.clock.now()).total_seconds()))


def _decisive(known: state.Target) -> state.Target:
    """What a decision to write rests on; what is only told to people is left out."""
    return known.model_copy(update={"drift": None, "standing": None})


def _guards(wanted: admitted.Admitted, known: state.Target, brakes: deciding.Brakes) -> planning.Guards:
    return deciding.guards(wanted, known, deciding.cause_of(wanted.state, known), brakes.claimed)


def _version(wanted: model.Wanted) -> model.Version:
    revision = wanted.revision if isinstance(wanted, model.Desired) else None
    folder = wanted.folder if isinstance(wanted, model.Desired) else ""
    return model.Version(revision=revision, digest=wanted.digest, folder=folder)
