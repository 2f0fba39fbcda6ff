"""Many seeds keep every law; broken cores do not. `SIMULATION_SEEDS=5000` runs more, `SIMULATION_FROM=N` others."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import pytest

from reconciler import model
from reconciler.admission import ballot, emergency, policy, reviewing, slots, voting
from reconciler.audit import fold, log, record, state
from reconciler.convergence import clearing, deciding, planning
from reconciler.daemon import braking
from reconciler.targets import memory
from simulation import run

FIRST, SEEDS = int(os.environ.get("SIMULATION_FROM", "0")), int(os.environ.get("SIMULATION_SEEDS", "48"))
AT_ONCE = 6
MUTANT_SEEDS = 120  # so many at most until a broken core is caught; the rarest mistake shows in one of thirty


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, AT_ONCE))
def test_every_law_holds_whatever_the_seed_chooses(first: int, record_property: Callable[[str, object], None]) -> None:
    began, turns = time.monotonic(), 0
    for seed in range(first, min(first + AT_ONCE, FIRST + SEEDS)):
        trace = run.run(seed, 60 if seed % 5 == 0 else 20, whole=seed % 4 == 0)
        assert not trace.broken, trace.story()
        turns += trace.turns
    record_property("simulation", (AT_ONCE, turns, time.monotonic() - began))


def test_the_same_seed_lives_the_same_life() -> None:
    one, other = run.run(7, 20), run.run(7, 20)
    assert one.lines == other.lines
    assert one.lines != run.run(8, 20).lines


class Mutant(NamedTuple):
    """A core with one mistake, and the laws that may notice."""

    where: object
    name: str
    instead: object
    laws: tuple[str, ...]


def _permit_without_intent(
    self: log.Log, intent: record.Intent, *, evidence: object = (), deadline_s: float, still: object = None
) -> model.Permit:
    epoch = self._epochs[record.scope(intent)][0]
    return model.Permit(deployment=intent.deployment, epoch=epoch, seq=self.size, deadline_s=deadline_s)


def _forget_the_unsettled(target: state.Target, entry: record.Record, event: record.Intent) -> state.Target:
    after = _fold_intent(target, entry, event)
    assert after.open
    return after.model_copy(update={"open": after.open.model_copy(update={"unsettled": {}})})


def _write_twice(world: memory.World, step: model.Step, want: memory._Want | None) -> model.StepResult:
    result = _write(world, step, want)
    if result.effect is model.Effect.CHANGED and want is not None:
        world.put(step.key, want.value)
    return result


def _what_was_accepted(known: state.Target) -> model.Version | deciding.Stand:
    """Without asking whether it was cleared."""
    if known.waiting and known.cleared:
        return known.cleared.model_copy(update={"revision": known.waiting})
    return _wanted_now(known)


def _everything_passes(results: tuple[model.GateResult, ...]) -> bool:
    return True


def _late_is_fine(calls: object, change: object, suite: clearing.Suite) -> tuple[model.GateResult, ...]:
    return tuple(
        r if r.outcome is not model.Outcome.ERROR else r.model_copy(update={"outcome": model.Outcome.PASS})
        for r in _run_checks(calls, change, suite)  # type: ignore[arg-type]
    )


_fold_intent, _write, _wanted_now, _run_checks = (
    fold._fold_intent,
    memory._write,
    deciding.wanted_now,
    clearing.run_checks,
)

MUTANTS = {
    "writes_without_an_intent": Mutant(
        log.Log, "permit", _permit_without_intent, ("nothing is written without a durable intent",)
    ),
    "forgets_what_is_unsettled": Mutant(
        fold,
        "_fold_intent",
        _forget_the_unsettled,
        ("one deployment is open at a time", "every intent", "a deployment has one"),
    ),
    "ignores_what_the_gates_say": Mutant(clearing, "passes", _everything_passes, ("a merge is cleared only if",)),
    "takes_an_error_for_a_pass": Mutant(clearing, "run_checks", _late_is_fine, ("a merge is cleared only if",)),
    "writes_twice": Mutant(memory, "_write", _write_twice, ("nothing is written twice",)),
    "accepts_without_approvals": Mutant(
        slots, "_missing", lambda *_: (), ("a merge comes in only signed and approved",)
    ),
    "ignores_every_hold": Mutant(voting, "_holds", lambda *_: (), ("a merge comes in only signed and approved",)),
    "lets_authors_approve_themselves": Mutant(
        ballot, "_of_duties", lambda *_: None, ("a merge comes in only", "the glass is")
    ),
    "forgets_what_failed": Mutant(
        fold,
        "_fail",
        lambda target, ended, entry: target,
        ("what failed stays failed", "the newest cleared state", "it never comes to rest", "settle"),
    ),
    "deletes_what_is_not_ours": Mutant(
        planning, "_is_ours", lambda seen, guards: True, ("only what is ours is deleted",)
    ),
    "ignores_the_delete_budget": Mutant(
        planning, "_budget", lambda *_: [], ("a deployment stays within its delete budget",)
    ),
    "lets_an_emergency_last": Mutant(emergency, "beyond", lambda *_: "", ("a merge comes in only", "the glass is")),
    "lets_anybody_break_the_glass": Mutant(
        ballot, "_of_emergency", lambda *_: None, ("a merge comes in only", "the glass is")
    ),
    "closes_what_nobody_reviewed": Mutant(
        reviewing,
        "_need",
        lambda *_: (policy.Slot.model_validate({"from": ["change-board"], "count": 1}),),
        ("what is owed",),
    ),
    "forgets_overdue_reviews": Mutant(braking.Braking, "_unreviewed", lambda *_: (), ("no ordinary change begins",)),
    "writes_although_suspended": Mutant(
        deciding, "braked", lambda *_, **__: None, ("a suspended target", "no change begins", "only what was accepted")
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_broken_core_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The laws can fail: each of these mistakes is noticed, by the law that it breaks."""
    monkeypatch.setattr(mutant.where, mutant.name, mutant.instead)
    for seed in range(MUTANT_SEEDS):
        trace = run.run(seed, whole=False)
        if trace.broken:
            assert trace.broken.startswith(mutant.laws), trace.story()
            return
    pytest.fail(f"{MUTANT_SEEDS} seeds, and nobody noticed")


def test_a_failed_seed_says_how_to_see_it_again() -> None:
    trace = run.Trace(17, 60, 1, 1, 1.0, Counter(), ["a line"], "a law: broken")
    assert "python -m simulation --seed 17 --steps 60 --trace" in trace.story()
