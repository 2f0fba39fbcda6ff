"""A suite that passes everything proves nothing: each broken driver is caught by the check that is there for it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from support import targets

from reconciler import model, ports
from reconciler.targets import conformance, memory


class WritesWhileLooking(memory.Memory):
    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        self._world(wanted).writes.append((model.Key("log//look"), None))
        return super().observe(wanted, owned, deadline_s)


class OverwritesWhatMoved(memory.Memory):
    def apply(self, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> tuple[model.StepResult, ...]:
        values = self._world(wanted).values
        now = {s.key: s.model_copy(update={"before": memory.digest(values.get(s.key))}) for s in stage.steps}
        return super().apply(wanted, stage.model_copy(update={"steps": tuple(now.values())}), permit)


class KnowsNoEpoch(memory.Memory):
    def apply(self, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> tuple[model.StepResult, ...]:
        self._world(wanted).epoch = 0
        return super().apply(wanted, stage, permit)


class ForgetsLeftovers(memory.Memory):
    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        return super().observe(wanted, {}, deadline_s)


class NeverCompares(memory.Memory):
    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        look = super().observe(wanted, owned, deadline_s)
        seen = (o.model_copy(update={"steps": (), "actual": o.wanted}) for o in look.observations)
        return look.model_copy(update={"observations": tuple(seen)})


class LiesAboutWriting(memory.Memory):
    def apply(self, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> tuple[model.StepResult, ...]:
        return tuple(model.StepResult(key=s.key, effect=model.Effect.CHANGED) for s in stage.steps)


class StandingFingerprint(memory.Memory):
    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        look = super().observe(wanted, owned, deadline_s)
        return look.model_copy(update={"fingerprint": model.sha256(b"always the same")})


BROKEN = {
    "reading_writes_nothing": WritesWhileLooking,
    "a_change_between_plan_and_write_is_kept": OverwritesWhatMoved,
    "an_old_epoch_writes_nothing": KnowsNoEpoch,
    "what_is_wanted_no_longer_goes": ForgetsLeftovers,
    "drift_is_seen_and_corrected": NeverCompares,
    "converging_twice_is_converging_once": LiesAboutWriting,
    "a_state_read_back_compares_equal": StandingFingerprint,
}


@dataclass
class Broken(targets.MemorySubject):
    kind: type[memory.Memory] = memory.Memory

    def driver(self) -> ports.Driver:
        return self.kind.on(lambda _name: self.world)


@pytest.mark.parametrize(("check", "kind"), BROKEN.items(), ids=BROKEN.keys())
def test_a_broken_driver_is_caught(check: str, kind: type[memory.Memory]) -> None:
    with pytest.raises(conformance.NotConformError):
        conformance.CHECKS[check](lambda: Broken(kind=kind))


def test_a_torn_write_is_caught() -> None:
    class Torn(targets.MemorySubject):
        def kill_in_apply(self, at: int, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> bool:
            killed = super().kill_in_apply(at, wanted, stage, permit)
            if killed:
                self.world.values[stage.steps[0].key] = "tw"
            return killed

    with pytest.raises(conformance.NotConformError, match="after a kill"):
        conformance.CHECKS["a_kill_anywhere_ends_at_the_wanted_state"](Torn)


def test_the_kills_of_the_suite_really_kill() -> None:
    kills = itertools.count()

    class Counted(targets.MemorySubject):
        def kill_in_apply(self, at: int, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> bool:
            killed = super().kill_in_apply(at, wanted, stage, permit)
            if killed:
                next(kills)
            return killed

    conformance.CHECKS["a_kill_anywhere_ends_at_the_wanted_state"](Counted)
    assert next(kills) == 6, "before and after each write of three stages"
