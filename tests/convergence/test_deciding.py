"""The table of convergence/deciding.py, row by row: values in, a move out."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from support.looks import KEY, NEW, NOW, OLD, OTHER, admitted, deployment, known, look, observation

from reconciler import model
from reconciler.admission.admitted import Admitted
from reconciler.audit import record, state
from reconciler.convergence.deciding import (
    Brakes,
    Close,
    Move,
    Rest,
    Settle,
    Stand,
    Wait,
    Write,
    cause_of,
    held,
    is_ready,
    kept_meanwhile,
    sick,
    wanted_now,
)
from reconciler.convergence.deciding import (
    decide as decide_for,
)


def decide(wanted: Admitted, known: state.Target, seen: model.Look, brakes: Brakes, *, now: datetime) -> Move:
    return decide_for(wanted, known, seen, brakes, goal=wanted_now(known), waits=None, now=now)


WHY = (model.Reason(code="why", message=""),)
FAILED, SUPERSEDED, SUCCEEDED = model.Closed.FAILED, model.Closed.SUPERSEDED, model.Closed.SUCCEEDED
PROGRESSING, UNHEALTHY = model.Health.PROGRESSING, model.Health.FAILED
CHANGE, ROLLBACK = model.Cause.CHANGE, model.Cause.ROLLBACK


DIFFERS = look(observation())
EQUAL = look(observation(actual="2"))
BLIND = look(errors={"": WHY[0]})
PIN = record.Operator(actor="uid:1000", verb="rollback", target="t", reason="INC1", pin=OLD)
OPEN, LATE, LOST = deployment(), deployment(ago_s=601), deployment(unsettled={KEY: "update"})
LOST_AND_LATE = deployment(ago_s=601, unsettled={KEY: "update"})
SICK = model.Reason(code="unhealthy", message="the target is PROGRESSING")
CALM = {"confirmed": NEW, "cleared": NEW}
SECOND_STAGE = observation(OTHER, order=1)
UNACKNOWLEDGED = look(
    observation(steps=(model.Step(key=KEY, action="update", command="", before=None, hazards=("deletes_data",)),))
)

ROWS: list[
    tuple[str, state.Target, model.Look, Brakes, Move | model.Cause]
] = [  # A cause: the first stage is written, for it.
    ("look failed: wait", known(), BLIND, Brakes(), Wait(5)),
    (
        "look failed, somebody was turned away: wait for the interval",
        known(),
        look(errors={"": model.Reason(code="target.auth_failed", message="")}),
        Brakes(),
        Wait(60),
    ),
    ("look failed, open: wait", known(open=OPEN), BLIND, Brakes(), Wait(5)),
    ("look failed past the deadline: failed", known(open=LATE), BLIND, Brakes(), Close(FAILED, WHY)),
    ("look failed, a write unaccounted for: wait, however late", known(open=LOST_AND_LATE), BLIND, Brakes(), Wait(5)),
    (
        "an earlier apply still runs there: wait, however late",
        known(open=LOST_AND_LATE),
        look(observation(), busy=True),
        Brakes(),
        Wait(5),
    ),
    (
        "the one key that matters is unreadable: wait",
        known(open=LOST),
        look(observation(), errors={KEY: WHY[0]}),
        Brakes(),
        Wait(5),
    ),
    ("a write is unaccounted for: settle", known(open=LOST), DIFFERS, Brakes(), Settle()),
    ("settled before superseded", known(open=LOST, cleared=OLD), DIFFERS, Brakes(), Settle()),
    ("open for another state: superseded", known(open=deployment(wanted=OLD)), DIFFERS, Brakes(), Close(SUPERSEDED)),
    (
        "open and released: superseded",
        known(open=OPEN, cleared=None, released=True),
        DIFFERS,
        Brakes(),
        Close(SUPERSEDED),
    ),
    (
        "a newer merge waits for its gates: the open deployment goes on",
        known(open=LATE, waiting=model.Oid("m3")),
        EQUAL,
        Brakes(),
        Close(SUCCEEDED),
    ),
    (
        "the dead-man fired: failed",
        known(open=OPEN),
        look(observation(), reverted="d"),
        Brakes(),
        Close(FAILED, (model.Reason(code="reverted", message="the target's dead-man took it back"),)),
    ),
    ("plan empty, healthy, open: succeeded", known(open=OPEN), EQUAL, Brakes(), Close(SUCCEEDED)),
    ("plan empty, healthy: rest", known(), EQUAL, Brakes(), Rest()),
    (
        "plan empty, healthy, a newer merge waits: rest, and say so",
        known(waiting=model.Oid("m3")),
        EQUAL,
        Brakes(),
        Rest(Stand("uncleared")),
    ),
    (
        "plan empty, healthy, rolled back: rest, and say so",
        known(failed=frozenset({NEW.digest})),
        EQUAL,
        Brakes(),
        Rest(Stand("failed")),
    ),
    (
        "plan empty, healthy, pinned: rest, and say so",
        known(pinned=PIN),
        EQUAL,
        Brakes(),
        Rest(Stand("pinned", (model.Reason(code="pinned", message="INC1", where="uid:1000"),))),
    ),
    (
        "plan empty, progressing: wait",
        known(open=OPEN),
        look(observation(actual="2"), health=PROGRESSING),
        Brakes(),
        Wait(1),
    ),
    (
        "plan empty, progressing, late: failed",
        known(open=LATE),
        look(observation(actual="2"), health=PROGRESSING),
        Brakes(),
        Close(FAILED, (SICK,)),
    ),
    (
        "plan empty, nothing open, a resource is on its way: wait",
        known(),
        look(observation(actual="2", health=PROGRESSING), health=PROGRESSING),
        Brakes(),
        Wait(5),
    ),
    (
        "plan empty, progressing, nothing open, and no resource says so: degraded",
        known(),
        look(observation(actual="2"), health=PROGRESSING),
        Brakes(),
        Stand("degraded", (SICK,)),
    ),
    (
        "an error is never green",
        known(open=OPEN),
        look(observation(actual="2"), errors={"other": WHY[0]}),
        Brakes(),
        Wait(1),
    ),
    (
        "plan empty, unhealthy, open: failed",
        known(open=OPEN),
        look(observation(actual="2"), health=UNHEALTHY),
        Brakes(),
        Close(FAILED, (model.Reason(code="unhealthy", message="the target is FAILED"),)),
    ),
    (
        "plan empty, unhealthy: degraded",
        known(),
        look(observation(actual="2"), health=UNHEALTHY),
        Brakes(),
        Stand("degraded", (model.Reason(code="unhealthy", message="the target is FAILED"),)),
    ),
    ("the target refused a step: failed", known(open=deployment(refused=WHY)), DIFFERS, Brakes(), Close(FAILED, WHY)),
    (
        "three fruitless stages: failed",
        known(open=deployment(fruitless=3)),
        DIFFERS,
        Brakes(),
        Close(FAILED, (model.Reason(code="not_converged", message="the plan is still not empty: item/n/one"),)),
    ),
    (
        "progressing after the total: failed",
        known(open=deployment(ago_s=1801, written=NOW)),
        look(observation(actual="2"), health=PROGRESSING),
        Brakes(),
        Close(FAILED, (SICK,)),
    ),
    (
        "a plan is left at the deadline: failed",
        known(open=LATE),
        DIFFERS,
        Brakes(),
        Close(FAILED, (model.Reason(code="not_converged", message="the plan is still not empty: item/n/one"),)),
    ),
    ("may not write now: halted", known(), DIFFERS, Brakes(halted=WHY), Stand("halted", WHY)),
    ("halted stops an open deployment too", known(open=OPEN), DIFFERS, Brakes(halted=WHY), Stand("halted", WHY)),
    (
        "may not write now: suspended",
        known(suspended="INC1"),
        DIFFERS,
        Brakes(),
        Stand("suspended", (model.Reason(code="suspended", message="INC1"),)),
    ),
    ("may not write now: withdrawn", known(), DIFFERS, Brakes(withdrawn=WHY), Stand("withdrawn", WHY)),
    ("may not write now: deferred", known(), DIFFERS, Brakes(deferred=WHY, until=NOW), Stand("deferred", WHY, NOW)),
    ("a freeze lets an open deployment end", known(open=OPEN), DIFFERS, Brakes(deferred=WHY), CHANGE),
    (
        "a freeze lets a rollback happen",
        known(failed=frozenset({NEW.digest}), strayed=True),
        DIFFERS,
        Brakes(deferred=WHY),
        ROLLBACK,
    ),
    (
        "may not write now: uncleared, from genesis",
        known(taken_over=True),
        DIFFERS,
        Brakes(),
        Stand("uncleared", (model.Reason(code="genesis", message="not written before a merge touches it"),)),
    ),
    ("may not write now: dependency", known(), DIFFERS, Brakes(dependency=WHY), Stand("dependency", WHY)),
    ("earlier stage ready: write", known(open=OPEN), look(observation(actual="2"), SECOND_STAGE), Brakes(), CHANGE),
    (
        "earlier stage progressing: wait",
        known(open=OPEN),
        look(observation(actual="2", health=PROGRESSING), SECOND_STAGE),
        Brakes(),
        Wait(1),
    ),
    (
        "earlier stage failed: failed",
        known(open=OPEN),
        look(observation(actual="2", health=UNHEALTHY), SECOND_STAGE),
        Brakes(),
        Close(FAILED, (model.Reason(code="unhealthy", message="item/n/one is FAILED"),)),
    ),
    (
        "nothing open: what ails it may be what this mends",
        known(),
        look(observation(actual="2", health=UNHEALTHY), SECOND_STAGE),
        Brakes(),
        CHANGE,
    ),
    ("drift is corrected", known(**CALM), DIFFERS, Brakes(), model.Cause.DRIFT),
    ("a freeze does not keep drift", known(**CALM), DIFFERS, Brakes(deferred=WHY), model.Cause.DRIFT),
    (
        "a correction that failed waits for its next try",
        known(**CALM, retry=NOW + timedelta(seconds=30)),
        DIFFERS,
        Brakes(),
        Stand("degraded", (), NOW + timedelta(seconds=30)),
    ),
    ("and is tried again then", known(**CALM, retry=NOW), DIFFERS, Brakes(), model.Cause.DRIFT),
    (
        "a fight stops the war",
        known(**CALM, fighting=frozenset({KEY}), corrections=((KEY, NOW),)),
        DIFFERS,
        Brakes(),
        Stand(
            "blocked",
            (
                model.Reason(
                    code="fight",
                    message="item/n/one: corrected more than 5 times within a minute; somebody else writes it too",
                    fix="find the other writer; then `reconciler reconcile t`",
                ),
            ),
            NOW + timedelta(minutes=10),
        ),
    ),
    (
        "a fight that is long over stops nothing",
        known(**CALM, fighting=frozenset({KEY}), corrections=((KEY, NOW - timedelta(minutes=11)),)),
        DIFFERS,
        Brakes(),
        model.Cause.DRIFT,
    ),
    ("a fight does not stop a change", known(fighting=frozenset({KEY})), DIFFERS, Brakes(), CHANGE),
    ("else: write", known(), DIFFERS, Brakes(), CHANGE),
]


@pytest.mark.parametrize(
    ("target", "seen", "brakes", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_the_first_row_that_holds_is_the_move(
    target: state.Target, seen: model.Look, brakes: Brakes, expected: Move | model.Cause
) -> None:
    goal = target.open.wanted if target.open else wanted_now(target)
    move = decide(
        admitted(goal if isinstance(goal, model.Version) else NEW, adopt=frozenset({OTHER})),
        target,
        seen,
        brakes,
        now=NOW,
    )
    if isinstance(move, Write):
        assert move.cause is expected
        assert move.stage == move.plan.stages[0]
    else:
        assert move == expected


def test_a_refused_plan_blocks_before_the_first_write_and_fails_after_it() -> None:
    before = decide(admitted(), known(), UNACKNOWLEDGED, Brakes(), now=NOW)
    after = decide(admitted(), known(open=OPEN), UNACKNOWLEDGED, Brakes(), now=NOW)
    assert isinstance(before, Stand)
    assert isinstance(after, Close)
    assert (before.code, after.closed, [r.code for r in before.reasons]) == ("blocked", FAILED, ["hazard"])


def test_an_acknowledgement_serves_a_change_and_nothing_else() -> None:
    wanted = Admitted(admitted().state, frozenset({("deletes_data", KEY)}))
    assert isinstance(decide(wanted, known(), UNACKNOWLEDGED, Brakes(), now=NOW), Write)
    assert isinstance(decide(wanted, known(confirmed=NEW), UNACKNOWLEDGED, Brakes(), now=NOW), Stand), "drift"


def test_an_operator_acknowledges_for_the_rollback_that_he_asked_for() -> None:
    pin = PIN.model_copy(update={"acknowledged": (("deletes_data", KEY),)})
    assert isinstance(decide(admitted(OLD), known(confirmed=NEW, pinned=pin), UNACKNOWLEDGED, Brakes(), now=NOW), Write)
    assert isinstance(decide(admitted(OLD), known(confirmed=NEW, pinned=PIN), UNACKNOWLEDGED, Brakes(), now=NOW), Stand)


def test_a_dependency_is_ready_when_confirmed_as_it_is_in_this_revision_or_newer() -> None:
    other = state.Target(name="d", cleared=OLD, confirmed=OLD, decision=5)
    assert is_ready(other, OLD.digest, known(decision=7))
    assert not is_ready(other, NEW.digest, known(decision=7)), "its own merge has not passed"
    assert is_ready(other, NEW.digest, known(decision=3)), "it has moved on since"
    assert not is_ready(other.model_copy(update={"open": OPEN}), OLD.digest, known(decision=7))


def test_detect_reports_drift_and_still_rolls_out_changes() -> None:
    wanted = admitted(mode=model.Mode.DETECT)
    assert decide(wanted, known(confirmed=NEW), DIFFERS, Brakes(), now=NOW) == Stand("detect")
    assert isinstance(decide(wanted, known(), DIFFERS, Brakes(), now=NOW), Write)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (known(), NEW),
        (known(pinned=PIN), OLD),
        (known(failed=frozenset({NEW.digest})), OLD),
        (known(waiting=model.Oid("m3")), NEW),
        (known(confirmed=None, before=OLD, failed=frozenset({NEW.digest})), OLD),
        (known(failed=frozenset({NEW.digest, OLD.digest})), Stand("stuck")),
        (known(released=True), Stand("released")),
        (state.Target(name="t", waiting=model.Oid("m3")), Stand("uncleared")),
        (
            state.Target(
                name="t", waiting=model.Oid("m3"), gates=(model.GateResult(outcome=model.Outcome.FAIL, check="opa"),)
            ),
            Stand("uncleared", (model.Reason(code="gate", message="opa: FAIL", where="m3"),)),
        ),
    ],
)
def test_what_a_target_should_be(target: state.Target, expected: model.Version | Stand) -> None:
    assert wanted_now(target) == expected


def test_the_way_back_is_a_rollback_and_no_drift() -> None:
    old = admitted(OLD).state
    assert cause_of(old, known(cleared=OLD)) is model.Cause.DRIFT
    assert cause_of(old, known(failed=frozenset({NEW.digest}), strayed=True)) is model.Cause.ROLLBACK
    assert cause_of(admitted().state, known()) is model.Cause.CHANGE


@pytest.mark.parametrize(
    ("target", "brakes", "expected"),
    [
        (known(), Brakes(), None),
        (known(), Brakes(deferred=WHY, until=NOW), Stand("deferred", WHY, NOW)),
        (known(), Brakes(withdrawn=WHY, deferred=WHY), Stand("withdrawn", WHY)),
        (known(), Brakes(dependency=WHY), Stand("dependency", WHY)),
        (known(open=OPEN), Brakes(deferred=WHY), None),
        (known(confirmed=NEW), Brakes(deferred=WHY), None),
        (known(failed=frozenset({NEW.digest})), Brakes(deferred=WHY), None),
        (known(pinned=PIN), Brakes(deferred=WHY), None),
    ],
)
def test_a_change_that_has_not_begun_may_be_held(target: state.Target, brakes: Brakes, expected: Stand | None) -> None:
    assert held(target, wanted_now(target), brakes) == expected


def test_meanwhile_a_target_is_kept_as_it_was_confirmed() -> None:
    assert kept_meanwhile(known()) == OLD
    assert kept_meanwhile(known(strayed=True)) is None
    assert kept_meanwhile(known(confirmed=None)) is None
    waits, calm = Stand("deferred", WHY), look(observation(wanted="1"))
    assert decide_for(admitted(OLD), known(), calm, Brakes(), goal=OLD, waits=waits, now=NOW) == Rest(waits)
    drifted = decide_for(admitted(OLD), known(), DIFFERS, Brakes(deferred=WHY), goal=OLD, waits=waits, now=NOW)
    assert isinstance(drifted, Write)
    assert drifted.cause is model.Cause.DRIFT


def test_a_fight_names_the_other_writer_where_the_target_can_tell() -> None:
    moved = DIFFERS.model_copy(
        update={
            "observations": tuple(o.model_copy(update={"changed_by": "hpa (spec.n)"}) for o in DIFFERS.observations)
        }
    )
    war = known(**CALM, fighting=frozenset({KEY}), corrections=((KEY, NOW),))
    move = decide(admitted(NEW), war, moved, Brakes(), now=NOW)
    assert isinstance(move, Stand)
    assert "hpa (spec.n) writes it too" in move.reasons[0].message
    assert "ignore" in move.reasons[0].fix


FAILING = (model.GateResult(outcome=model.Outcome.FAIL, check="opa"),)
BEHIND = known(**CALM, waiting=model.Oid("m3"), gates=FAILING)


def test_a_target_that_only_reports_drift_still_says_which_gate_holds_its_newest_merge() -> None:
    move = decide(admitted(mode=model.Mode.DETECT), BEHIND, DIFFERS, Brakes(), now=NOW)
    assert isinstance(move, Stand)
    assert (move.code, [reason.code for reason in move.reasons]) == ("uncleared", ["gate", "detect"])


@pytest.mark.parametrize("seen", [DIFFERS, EQUAL], ids=["drifted", "at rest"])
def test_a_suspended_target_says_so_at_rest_too_and_hides_no_other_reason(seen: model.Look) -> None:
    for target, codes in (
        (known(**CALM, suspended="INC1"), ["suspended"]),
        (BEHIND.model_copy(update={"suspended": "INC1"}), ["suspended", "gate"]),
    ):
        move = decide(admitted(), target, seen, Brakes(), now=NOW)
        stand = move.standing if isinstance(move, Rest) else move
        assert isinstance(stand, Stand)
        assert (stand.code, [reason.code for reason in stand.reasons]) == ("suspended", codes)


def test_what_a_finding_names_is_not_said_twice() -> None:
    ill = model.Observation(key=KEY, wanted=1, actual=1, health=model.Health.FAILED)
    said = model.Reason(code="unhealthy", message=f"{KEY}: it crashed")
    seen = model.Look(observations=(ill,), fingerprint=model.Digest("f"), health=model.Health.FAILED, findings=(said,))
    assert sick(seen) == (said,)
    silent = seen.model_copy(update={"findings": ()})
    assert [reason.message for reason in sick(silent)] == [f"{KEY} is FAILED"]


def test_a_stage_that_waited_until_the_deadline_says_what_it_waited_for() -> None:
    ill = model.Observation(key=KEY, wanted=1, actual=1, health=PROGRESSING)
    waited = observation(OTHER, order=1)
    seen = model.Look(observations=(ill, waited), fingerprint=model.Digest("f"), health=PROGRESSING)
    move = decide(admitted(), known(open=LATE), seen, Brakes(), now=NOW)
    assert isinstance(move, Close)
    assert [reason.message for reason in move.reasons] == [
        f"{KEY} is PROGRESSING",
        f"the plan is still not empty: {OTHER}",
    ]


@pytest.mark.parametrize(("seconds", "code"), [(598, None), (600, "degraded")])
def test_what_rolls_at_rest_is_degraded_when_it_takes_longer_than_a_deployment_may(
    seconds: int, code: str | None
) -> None:
    rolling = look(observation(actual="2", health=PROGRESSING), health=PROGRESSING)
    since = timedelta(seconds=seconds)
    move = decide_for(admitted(), known(), rolling, Brakes(), goal=NEW, waits=None, now=NOW, rolling_for=since)
    assert move == Wait(2) if code is None else isinstance(move, Stand) and move.code == code
