"""What every driver has to hold (targets.md 1.9), as plain functions: ours and a plug-in's run the same ones.

A `Subject` is one target with its driver, and a hand and an eye that reach it past the driver. With pytest:

    @pytest.mark.parametrize("check", conformance.CHECKS.values(), ids=conformance.CHECKS.keys())
    def test_conformance(check, tmp_path):
        check(lambda: MySubject(tmp_path / uuid.uuid4().hex))

The real planner plans; what the log would know is kept in `Daemon`, the smallest thing that can drive a driver.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Protocol

from reconciler import errors, model, ports
from reconciler.convergence import planning

MAX_STAGES = 50  # of one small state; a driver that needs more does not converge
LOOKS = 100

Texts = Mapping[str, str]  # name of a resource -> a short text that it holds


class Subject(Protocol):
    """One target, reached by its driver and past it."""

    def driver(self) -> ports.Driver:
        """A new one, as a daemon makes it after a restart."""
        ...

    def desired(self, texts: Texts) -> model.Desired:
        """The state in which these resources hold these texts, its digest different where the texts are."""
        ...

    def key(self, name: str) -> model.Key: ...

    def truth(self) -> Texts:
        """What the target really holds, looked at past the driver."""
        ...

    def touch(self, name: str, text: str | None) -> None:
        """Change one resource by hand; None removes it."""
        ...

    def traces(self) -> object:
        """Compares equal for as long as nothing at all was written at the target, its bookkeeping too."""
        ...

    def kill_in_apply(self, at: int, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> bool:
        """Apply in a process that dies before its `at`-th write reaches the target; False when it lived to the end."""
        ...


Make = Callable[[], Subject]  # a fresh, empty target each time


class NotConformError(AssertionError):
    """The driver breaks its contract."""


def _hold(condition: object, message: str) -> None:
    if not condition:
        raise NotConformError(message)


class Daemon:
    """One life of something that drives a driver: looks, plans, writes a stage at a time, remembers what it owns."""

    def __init__(self, subject: Subject, *, epoch: int = 1, owned: Mapping[model.Key, str] | None = None) -> None:
        self.subject, self.epoch = subject, epoch
        self.driver = subject.driver()
        self.owned = dict(owned or {})
        self.deployment = "d1"

    def look(self, wanted: model.Wanted) -> model.Look:
        look = self.driver.observe(wanted, self.owned, 30)
        _hold(not look.errors, f"a look at a sound target has errors: {dict(look.errors)}")
        return look

    def plan(self, wanted: model.Wanted) -> model.Plan:
        guards = planning.Guards(owned=self.owned, created=frozenset(self.owned))
        plan = planning.make_plan(wanted, self.look(wanted), guards)
        _hold(not plan.refusals, f"the plan is refused: {[r.message for r in plan.refusals]}")
        return plan

    def permit(self) -> model.Permit:
        return model.Permit(deployment=self.deployment, epoch=self.epoch, seq=1, deadline_s=30)

    def write(self, wanted: model.Wanted, stage: model.Stage) -> tuple[model.StepResult, ...]:
        results = self.driver.apply(wanted, stage, self.permit())
        _hold([r.key for r in results] == [s.key for s in stage.steps], "one result a step, in their order")
        for step, result in zip(stage.steps, results, strict=True):
            if result.effect in {model.Effect.CHANGED, model.Effect.UNCHANGED}:
                self._own(step, result.identity)
        return results

    def settle(self, wanted: model.Wanted, stage: model.Stage) -> None:
        """After a lost answer: what now is as wanted was written by us."""
        steps = {step.key: step for step in stage.steps}
        for seen in self.look(wanted).observations:
            if seen.key in steps and not seen.steps:
                self._own(steps[seen.key], seen.identity)

    def converge(self, wanted: model.Wanted, *, stages: int = MAX_STAGES) -> int:
        """Write up to so many stages; how many it took until nothing was left. Confirms at the end."""
        for written in range(stages):
            plan = self.plan(wanted)
            if not plan.stages:
                _hold(self.driver.confirm(wanted, self.deployment), "a converged target does not confirm")
                return written
            results = self.write(wanted, planning.first_stage(plan))
            bad = [r for r in results if r.effect is not model.Effect.CHANGED]
            _hold(not bad, f"steps of an undisturbed stage did not succeed: {bad}")
        _hold(stages < MAX_STAGES, "the target does not converge")
        return stages

    def _own(self, step: model.Step, identity: str) -> None:
        if step.action == "delete":
            self.owned.pop(step.key, None)
        else:
            self.owned[step.key] = identity


ONE: Texts = {"a": "one", "b": "one", "old": "one"}
TWO: Texts = {"a": "two", "b": "one", "new": "two"}


def converging_twice_is_converging_once(make: Make) -> None:
    subject = make()
    daemon, wanted = Daemon(subject), subject.desired(ONE)
    _hold(daemon.converge(wanted) > 0, "the first cycle wrote nothing")
    _hold(subject.truth() == ONE, f"the target holds {subject.truth()}")
    traces = subject.traces()
    for _ in range(2):
        _hold(Daemon(subject, owned=daemon.owned).converge(wanted) == 0, "a later cycle wrote")
        _hold(subject.traces() == traces, "a later cycle left traces at the target")


def a_state_read_back_compares_equal(make: Make) -> None:
    subject = make()
    daemon, wanted = Daemon(subject), subject.desired(ONE)
    daemon.converge(wanted)
    look = daemon.look(wanted)
    _hold(all(seen.wanted == seen.actual for seen in look.observations), "both sides differ though nothing is to do")
    _hold(all(seen.marked for seen in look.observations), "what was written bears no mark")
    _hold(look.fingerprint == daemon.look(wanted).fingerprint, "the fingerprint moves by itself")
    subject.touch("a", "by hand")
    _hold(look.fingerprint != daemon.look(wanted).fingerprint, "the fingerprint does not see a change")


def reading_writes_nothing(make: Make) -> None:
    subject = make()
    daemon, wanted = Daemon(subject), subject.desired(ONE)
    for state in (wanted, subject.desired(TWO)):
        traces = subject.traces()
        for _ in range(LOOKS // 2):
            _hold(daemon.driver.validate(state) == (), "a sound state does not validate")
            _hold(daemon.plan(state).stages, "there is something to do")
        _hold(subject.traces() == traces, "validate, observe or planning left traces at the target")
        daemon.converge(wanted)


def drift_is_seen_and_corrected(make: Make) -> None:
    subject = make()
    daemon, wanted = Daemon(subject), subject.desired(ONE)
    daemon.converge(wanted)
    subject.touch("a", "by hand")
    subject.touch("b", None)
    _hold({step.key for step in daemon.plan(wanted).steps} == {subject.key("a"), subject.key("b")}, "the drift's plan")
    daemon.converge(wanted)
    _hold(subject.truth() == ONE, f"after the correction the target holds {subject.truth()}")


def what_is_wanted_no_longer_goes(make: Make) -> None:
    subject = make()
    daemon = Daemon(subject)
    daemon.converge(subject.desired(ONE))
    daemon.converge(subject.desired(TWO))
    _hold(subject.truth() == TWO, f"the target holds {subject.truth()}")
    _hold(subject.key("old") not in daemon.owned, "what was deleted is still owned")


def a_rollback_ends_at_the_state_before(make: Make) -> None:
    """Deploy, drift, deploy, roll back; and roll that back too."""
    subject = make()
    daemon = Daemon(subject)
    daemon.converge(subject.desired(ONE))
    subject.touch("b", "by hand")
    for number, texts in enumerate((TWO, ONE, TWO)):
        daemon.deployment = f"d{number + 2}"
        daemon.converge(subject.desired(texts))
        _hold(subject.truth() == texts, f"the target holds {subject.truth()}")


def a_snapshot_gives_back_what_was_taken_over(make: Make) -> None:
    """A first deployment that fails goes back to what was there, contents included."""
    subject = make()
    subject.touch("a", "theirs")
    adopting = subject.desired(ONE).model_copy(update={"adopt": frozenset({subject.key("a")})})
    daemon = Daemon(subject)
    there = {seen.key: seen.actual for seen in daemon.look(adopting).observations}
    daemon.converge(adopting)
    _hold(subject.truth() == ONE, f"the target holds {subject.truth()}")
    snapshot = model.Snapshot(
        target=adopting.target, kind=adopting.kind, connection=adopting.connection, resources=there
    )
    daemon.deployment = "d2"
    daemon.converge(snapshot)
    _hold(subject.truth() == {"a": "theirs"}, f"after going back the target holds {subject.truth()}")


def what_a_failed_change_adopted_is_given_back(make: Make) -> None:
    """The way back to a state that declares other things, with what the failed change took over put back as it was."""
    subject = make()
    subject.touch("a", "theirs")
    daemon, before = Daemon(subject), subject.desired({"b": "one"})
    daemon.converge(before)
    adopting = subject.desired(ONE).model_copy(update={"adopt": frozenset({subject.key("a")})})
    there = {seen.key: seen.actual for seen in daemon.look(adopting).observations if seen.key == subject.key("a")}
    daemon.deployment = "d2"
    daemon.converge(adopting)
    daemon.deployment = "d3"
    daemon.converge(before.model_copy(update={"given_back": there}))
    _hold(subject.truth() == {"a": "theirs", "b": "one"}, f"after going back the target holds {subject.truth()}")


def what_somebody_else_made_is_not_overwritten(make: Make) -> None:
    subject = make()
    subject.touch("a", "theirs")
    wanted = subject.desired(ONE)
    plan = planning.make_plan(wanted, Daemon(subject).look(wanted), planning.Guards(owned={}))
    _hold([r.code for r in plan.refusals] == ["adoption"], "an unowned resource in the way is not refused")


def a_change_between_plan_and_write_is_kept(make: Make) -> None:
    subject = make()
    daemon = Daemon(subject)
    daemon.converge(subject.desired(ONE))
    wanted = subject.desired(TWO)
    stage = next(s for s in daemon.plan(wanted).stages if subject.key("a") in {step.key for step in s.steps})
    subject.touch("a", "by hand")
    results = {r.key: r.effect for r in daemon.write(wanted, stage)}
    _hold(results[subject.key("a")] is model.Effect.MOVED, f"its step says {results[subject.key('a')]}")
    _hold(subject.truth()["a"] == "by hand", "it was overwritten")
    daemon.converge(wanted)
    _hold(subject.truth() == TWO, "the next plan did not see it")


def an_old_epoch_writes_nothing(make: Make) -> None:
    """Two daemons: one was asleep while the other wrote."""
    subject = make()
    asleep = Daemon(subject, epoch=1)
    stage = planning.first_stage(asleep.plan(subject.desired(TWO)))
    Daemon(subject, epoch=2).converge(subject.desired(ONE))
    traces = subject.traces()
    try:
        asleep.write(subject.desired(TWO), stage)
    except errors.PermanentError as exc:
        _hold(exc.code == "fenced", f"it is refused as {exc.code}")
    else:
        raise NotConformError("an old epoch wrote")
    _hold(subject.truth() == ONE and subject.traces() == traces, "an old epoch left traces")


def a_kill_anywhere_ends_at_the_wanted_state(make: Make) -> None:
    """kill -9 before each write of each stage: nothing torn, nothing foreign left, and the next daemon finishes."""
    for stages in range(MAX_STAGES):
        for at in itertools.count():
            subject = make()
            if (killed := _killed_and_resumed(subject, stages, at)) is None:
                return
            if not killed:
                break


def _killed_and_resumed(subject: Subject, stages: int, at: int) -> bool | None:
    """Whether the process was killed; None where there is no such stage."""
    first, wanted = Daemon(subject), subject.desired(TWO)
    first.converge(subject.desired(ONE))
    first.deployment = "d2"
    first.converge(wanted, stages=stages)
    plan = first.plan(wanted)
    if not plan.stages:
        return None
    stage = planning.first_stage(plan)
    killed = subject.kill_in_apply(at, wanted, stage, first.permit())
    for name, text in subject.truth().items():
        _hold(text in {ONE.get(name), TWO.get(name)}, f"after a kill at write {at}, {name} holds {text!r}")
    resumed = Daemon(subject, epoch=2, owned=first.owned)
    resumed.deployment = "d2"
    resumed.settle(wanted, stage)
    resumed.converge(wanted)
    _hold(subject.truth() == TWO, f"after a kill at write {at}, the target ends at {subject.truth()}")
    return killed


CHECKS: Mapping[str, Callable[[Make], None]] = {
    check.__name__: check
    for check in (
        converging_twice_is_converging_once,
        a_state_read_back_compares_equal,
        reading_writes_nothing,
        drift_is_seen_and_corrected,
        what_is_wanted_no_longer_goes,
        a_rollback_ends_at_the_state_before,
        a_snapshot_gives_back_what_was_taken_over,
        what_a_failed_change_adopted_is_given_back,
        what_somebody_else_made_is_not_overwritten,
        a_change_between_plan_and_write_is_kept,
        an_old_epoch_writes_nothing,
        a_kill_anywhere_ends_at_the_wanted_state,
    )
}
