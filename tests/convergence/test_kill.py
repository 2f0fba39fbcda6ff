"""The law of the whole design: kill the process before or after any append and any write, start another, and all ends the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from support.lab import Killed, Lab, Process, folder

from reconciler import model
from reconciler.audit import record, storage

Step = Callable[[Process], object]  # Repeated by the next process when this one is killed in it.
ONE, LATE = model.Key("item/n/one"), model.Key("item/n/late")
ACKNOWLEDGED = [{"hazard": hazard, "key": "t", "reason": "CHG1"} for hazard in ("deletes_target", "delete_budget")]
SERIAL = {"serial": [1, 3]}


def merge(revision: str, files: dict[str, bytes | None], *, until: Step = lambda p: False) -> list[Step]:
    return [lambda p: p.accept(revision, files), lambda p: p.settle(until=lambda: until(p))]


def wrote(key: model.Key, value: object) -> Step:
    return lambda p: (key, value) in p.lab.world().writes


def outside(do: Callable[[Lab], object]) -> list[Step]:
    """Something that happens to a target or a scanner, once, and what the daemon makes of it."""
    return [lambda p: do(p.lab), lambda p: p.settle()]


def by_hand(lab: Lab) -> None:
    lab.world().values[ONE] = "by hand"


def operator_rolls_back(p: Process) -> None:
    """Asked for once: the same request after a kill finds the pin."""
    last = p.known().last
    if last and p.name_of(last.wanted.revision) == "m2" and not p.known().pinned:
        p.target().pin(last.id, actor="uid:1000", reason="INC1")


def scanner(*, broken: bool) -> list[Step]:
    return [lambda p: setattr(p.lab.gates["opa"], "broken", broken)]


BASE = merge("m1", folder("t", {"one": "1", "late": "1"}))
ROLLBACK = [*BASE, *merge("m2", folder("t", {"one": "bad", "new": "2", "late": "2"}))]


class Story(NamedTuple):
    steps: Sequence[Step]
    outcomes: str  # of t's deployments, in order: cause and how it closed
    values: dict[str, object]  # what t is in the end


STORIES = {
    "change": Story(
        [
            *merge("m1", folder("t", {"one": "1", "two": "1", "late": "1"})),
            *merge("m2", folder("t", {"one": "2", "late": "2"})),
        ],
        "change SUCCEEDED, change SUCCEEDED",
        {"one": "2", "late": "2"},
    ),
    "failed_health_then_rollback_then_fix": Story(
        [*ROLLBACK, *merge("m3", folder("t", {"one": "3"}))],
        "change SUCCEEDED, change FAILED, rollback SUCCEEDED, change SUCCEEDED",
        {"one": "3"},
    ),
    "first_deployment_fails": Story(
        merge("m1", folder("t", {"one": "bad", "two": "1"})), "change FAILED, rollback SUCCEEDED", {}
    ),
    "drift": Story([*BASE, *outside(by_hand)], "change SUCCEEDED, drift SUCCEEDED", {"one": "1", "late": "1"}),
    "drift_after_a_rollback": Story(
        [*ROLLBACK, *outside(by_hand)],
        "change SUCCEEDED, change FAILED, rollback SUCCEEDED, drift SUCCEEDED",
        {"one": "1", "late": "1"},
    ),
    "supersede": Story(
        [
            *merge("m1", folder("t", {"one": "1", "late": "1"}), until=wrote(ONE, "1")),
            *merge("m2", folder("t", {"one": "2", "new": "2"})),
        ],
        "change SUPERSEDED, change SUCCEEDED",
        {"one": "2", "new": "2"},
    ),
    "superseded_then_failed": Story(
        [
            *merge("m1", folder("t", {"one": "1", "late": "1"}), until=wrote(ONE, "1")),
            *merge("m2", folder("t", {"one": "bad"})),
        ],
        "change SUPERSEDED, change FAILED, rollback SUCCEEDED",
        {},
    ),
    "released_in_the_middle": Story(
        [
            *merge("m1", folder("t", {"one": "1", "late": "1"}), until=wrote(ONE, "1")),
            *merge("m2", dict.fromkeys(folder("t", {}))),
        ],
        "change SUPERSEDED",
        {"one": "1"},
    ),
    "gate_fails_then_fix": Story(
        [
            *BASE,
            *merge("m2", {**folder("t", {"one": "evil"}), **folder("u", {"one": "2"})}),
            *merge("m3", folder("v", {"one": "3"})),
            *outside(by_hand),
            *merge("m4", folder("t", {"one": "4"})),
        ],
        "change SUCCEEDED, drift SUCCEEDED, change SUCCEEDED",
        {"one": "4"},
    ),
    "gate_breaks_then_passes": Story(
        [*scanner(broken=True), *merge("m1", folder("t", {"one": "1"})), *scanner(broken=False), lambda p: p.settle()],
        "change SUCCEEDED",
        {"one": "1"},
    ),
    "revert": Story(
        [*BASE, *merge("m2", folder("t", {"one": "2"})), *merge("m3", folder("t", {"one": "1", "late": "1"}))],
        "change SUCCEEDED, change SUCCEEDED, change SUCCEEDED",
        {"one": "1", "late": "1"},
    ),
    "canary": Story(
        [
            *merge("m1", folder("t", {f"m{i}:one": "1" for i in range(4)}, rollout=SERIAL)),
            *merge("m2", folder("t", {f"m{i}:one": "bad" for i in range(4)}, rollout=SERIAL)),
        ],
        "change SUCCEEDED, change FAILED, rollback SUCCEEDED",
        {f"m{i}:one": "1" for i in range(4)},
    ),
    "dead_man_fires": Story(
        [
            *BASE,
            *merge("m2", folder("t", {"one": "2", "late": "slow"}), until=wrote(LATE, "slow")),
            *outside(lambda lab: lab.world().expire()),
        ],
        "change SUCCEEDED, change FAILED",
        {"one": "1", "late": "1"},
    ),
    "operator_rolls_back": Story(
        [*BASE, *merge("m2", folder("t", {"one": "2", "new": "2"})), operator_rolls_back, lambda p: p.settle()],
        "change SUCCEEDED, change SUCCEEDED, rollback SUCCEEDED",
        {"one": "1", "late": "1"},
    ),
    "takedown": Story(
        [*BASE, *merge("m2", folder("t", {"one": "2"}, mode="absent", acknowledge=ACKNOWLEDGED))],
        "change SUCCEEDED, change SUCCEEDED",
        {},
    ),
}


class End:
    """What must be the same, wherever the process was killed."""

    def __init__(self, story: Sequence[Step], kill_at: int | None) -> None:
        self.points: list[str] = []
        self.kills = 0
        numbers = itertools.count()

        def fault(point: str) -> None:
            self.points.append(point)
            if next(numbers) == kill_at:
                raise Killed(point)

        engine = storage.make_engine("sqlite://")
        lab, at = Lab(engine, fault), 0
        p = Process(lab)
        while at < len(story):
            try:
                p.genesis()
                story[at](p)
                at += 1
            except Killed:
                self.kills += 1
                p = Process(lab)
        self.values = {n: w.values for n, w in lab.worlds.items()}
        self.writes = {n: w.writes for n, w in lab.worlds.items()}
        self.targets = {
            n: (t.cleared, t.confirmed, t.owned, t.failed, t.standing, t.open) for n, t in p.log.state.targets.items()
        }
        intents, outcomes = p.events(record.Intent), p.events(record.Outcome)
        causes = {i.deployment: i.cause for i in intents}
        self.outcomes = {n: [(causes[o.deployment], o.closed) for o in outcomes if o.target == n] for n in self.targets}
        assert len(outcomes) == len({o.deployment for o in outcomes}) == len(causes), "one outcome for each deployment"
        assert len(intents) == len(p.events(record.Applied)), "every intent is accounted for"
        assert Process(lab).log.state == p.log.state, "the log folds to what memory says"
        engine.dispose()


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_a_kill_anywhere_ends_the_same_and_writes_nothing_twice(story: Story) -> None:
    base = End(story.steps, None)
    assert ", ".join(f"{cause} {closed}" for cause, closed in base.outcomes["t"]) == story.outcomes
    assert {key.replace("item/n/", ""): value for key, value in base.values["t"].items()} == story.values
    for kill_at, point in enumerate(base.points):
        end = End(story.steps, kill_at)
        assert end.kills == 1
        for what in ("values", "writes", "outcomes", "targets"):
            assert getattr(end, what) == getattr(base, what), f"{what} differ after a kill {point} ({kill_at})"
