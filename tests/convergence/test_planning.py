from __future__ import annotations

from typing import Any

import pytest
from support.looks import admitted, look, observation

from reconciler import model
from reconciler.convergence import planning


def leftovers(count: int, hazards: tuple[str, ...] = ()) -> tuple[model.Look, dict[model.Key, str]]:
    """So many resources of ours that nobody wants any more, beside one that is as wanted."""
    keys = [model.Key(f"item/n/old{i}") for i in range(count)]
    kept = observation(model.Key("item/n/kept"), actual="2")
    gone = [
        observation(
            k, wanted=None, steps=(model.Step(key=k, action="delete", command="", before=None, hazards=hazards),)
        )
        for k in keys
    ]
    return look(kept, *gone), {kept.key: "", **dict.fromkeys(keys, "")}


@pytest.mark.parametrize(
    ("deletes", "owned", "settings", "allowed"),
    [
        (1, 0, {}, True),
        (1, 0, {"max_deletes": 0}, True),  # One is always allowed.
        (5, 45, {}, True),
        (6, 94, {}, False),  # At most 5 ...
        (4, 35, {}, False),
        (2, 25, {"max_delete_percent": 5}, False),  # ... and at most 10 %: both hold.
        (9, 100, {"max_deletes": 20}, True),
    ],
)
def test_the_delete_budget_holds_both_limits_and_always_allows_one(
    deletes: int, owned: int, settings: dict[str, Any], *, allowed: bool
) -> None:
    seen, ours = leftovers(deletes)
    ours |= {model.Key(f"item/n/more{i}"): "" for i in range(owned - 1)}
    plan = planning.make_plan(admitted(**settings).state, seen, planning.Guards(owned=ours))
    assert (plan.refusals == ()) is allowed
    acknowledged = planning.Guards(owned=ours, acknowledged=frozenset({("delete_budget", model.Key("t"))}))
    assert planning.make_plan(admitted(**settings).state, seen, acknowledged).refusals == ()


def test_planning_again_does_not_spend_the_budget_again() -> None:
    seen, ours = leftovers(1)
    assert planning.make_plan(admitted().state, seen, planning.Guards(owned=ours, deleted=1)).refusals


def test_what_the_rolled_back_deployment_created_is_free_to_delete() -> None:
    seen, ours = leftovers(20, hazards=("deletes_data",))
    assert planning.make_plan(admitted().state, seen, planning.Guards(owned=ours)).refusals
    assert (
        planning.make_plan(admitted().state, seen, planning.Guards(owned=ours, created=frozenset(ours))).refusals == ()
    )


@pytest.mark.parametrize(("settings", "code"), [({}, "empty"), ({"mode": model.Mode.ABSENT}, "hazard")])
def test_nothing_is_emptied_by_mistake(settings: dict[str, Any], code: str) -> None:
    seen = look(observation(wanted=None, action="delete"))
    plan = planning.make_plan(admitted(**settings).state, seen, planning.Guards(owned={seen.observations[0].key: ""}))
    assert [r.code for r in plan.refusals] == [code]


def test_a_leftover_that_the_log_does_not_know_or_that_is_not_marked_is_never_pruned() -> None:
    seen = look(
        observation(wanted=None, action="delete"),
        observation(model.Key("b"), wanted=None, action="delete", marked=False),
    )
    assert planning.make_plan(admitted().state, seen, planning.Guards(owned={model.Key("b"): ""})).stages == ()


def test_what_exists_is_adopted_by_name_only_and_never_from_another_target() -> None:
    seen = look(observation(identity="uid-1"))
    codes = [r.code for r in planning.make_plan(admitted().state, seen, planning.Guards(owned={})).refusals]
    adopted = admitted(adopt=frozenset({seen.observations[0].key})).state
    claimed = planning.make_plan(adopted, seen, planning.Guards(owned={}, claimed={"uid-1": "other"}))
    assert codes == ["adoption"]
    assert planning.make_plan(adopted, seen, planning.Guards(owned={})).refusals == ()
    assert [r.code for r in claimed.refusals] == ["claimed"]


def test_taking_over_is_called_what_it_is() -> None:
    seen = look(observation())
    plan = planning.make_plan(
        admitted(adopt=frozenset({seen.observations[0].key})).state, seen, planning.Guards(owned={})
    )
    assert [s.action for s in plan.steps] == ["adopt"]


def test_what_was_adopted_is_given_back_and_never_deleted() -> None:
    seen = look(observation(wanted=None, action="delete"))
    guards = planning.Guards(owned={seen.observations[0].key: ""}, adopted=frozenset({seen.observations[0].key}))
    assert planning.make_plan(admitted().state, seen, guards).stages == ()


@pytest.mark.parametrize(
    ("serial", "batches"),
    [
        ((), [0] * 10),
        ((1, 3), [0, 1, 1, 1, 2, 2, 2, 2, 2, 2]),
        ((1, "20%", "100%"), [0, 1, 1, 2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_batches_are_numbers_or_percentages_of_all_members(serial: tuple[int | str, ...], batches: list[int]) -> None:
    seen = look(*(observation(model.Key(f"m{i}:a")) for i in range(10)))
    assert list(planning.batch_numbers(admitted(rollout=serial).state, seen).values()) == batches


@pytest.mark.parametrize(("max_failed", "expected"), [(0, model.Health.FAILED), (1, model.Health.HEALTHY)])
def test_a_rollout_forgives_as_many_sick_members_as_it_says(max_failed: int, expected: model.Health) -> None:
    sick = observation(model.Key("m0:a"), actual="2", health=model.Health.FAILED)
    seen = look(sick, *(observation(model.Key(f"m{i}:a")) for i in range(1, 4)))
    wanted = admitted(rollout=(1,), max_failed=max_failed).state
    assert planning.healthy_before(model.Stage(batch=1, order=0, steps=()), wanted, seen) is expected


def test_an_unreachable_member_counts_as_failed() -> None:
    seen = look(
        *(observation(model.Key(f"m{i}:a")) for i in range(1, 4)),
        errors={"m0:": model.Reason(code="unreachable", message="")},
    )
    stage = model.Stage(batch=1, order=0, steps=())
    assert planning.healthy_before(stage, admitted(rollout=(1,)).state, seen) is model.Health.FAILED


def test_a_stage_is_cut_to_what_one_intent_can_name() -> None:
    seen = look(*(observation(model.Key(f"item/n/{i}"), actual=None, action="create") for i in range(500)))
    plan = planning.make_plan(admitted().state, seen, planning.Guards(owned={}))
    assert len(planning.first_stage(plan).steps) == planning.WRITES_AT_ONCE


def test_what_could_not_be_read_is_neither_written_nor_deleted() -> None:
    seen = look(
        observation(model.Key("m1:a"), actual=None, action="create"),
        observation(model.Key("m2:a"), actual=None, action="create"),
        errors={"m1:": model.Reason(code="unreachable", message="")},
    )
    assert [
        s.key
        for stage in planning.make_plan(admitted().state, seen, planning.Guards(owned={})).stages
        for s in stage.steps
    ] == ["m2:a"]
