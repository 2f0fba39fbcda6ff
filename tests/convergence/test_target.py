from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.lab import Lab, Process, folder

from reconciler import errors, model
from reconciler.audit import record
from reconciler.convergence import deciding
from reconciler.daemon import contact
from reconciler.targets import memory

ONE, LATE = model.Key("item/n/one"), model.Key("item/n/late")


def lose_the_link(lab: Lab) -> None:
    """After the next write nobody answers any more."""

    def fault(point: str) -> None:
        if point.startswith("after write"):
            lab.world().fault = lambda point: None
            lab.world().unreachable = {""}
            raise errors.OutcomeUnknownError("link", "the connection went away")

    lab.world().fault = fault


def outcomes(p: Process) -> list[tuple[str, list[str]]]:
    return [(e.closed, [r.code for r in e.reasons]) for e in p.events(record.Outcome)]


def test_a_deployment_is_never_closed_while_a_write_is_unaccounted_for(lab: Lab, process: Process) -> None:
    lose_the_link(lab)
    process.accept("m1", folder("t", {"one": "1"}))
    process.clear()
    assert isinstance(process.turn(), deciding.Write)
    lab.clock.sleep(3600)
    assert process.turn() == deciding.Wait(5)
    lab.world().unreachable = set()
    process.settle()
    assert lab.world().writes == [(ONE, "1")]
    assert outcomes(process) == [("SUCCEEDED", [])]


def test_the_merge_that_mends_the_connection_ends_a_wait_for_a_lost_write(lab: Lab, process: Process) -> None:
    dead = {"db1"}

    class Dialled(memory.Memory):
        def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
            if wanted.connection["host"] in dead and lab.world().writes:
                raise errors.TransientError("unreachable", "nobody answers")
            return super().observe(wanted, owned, deadline_s)

    process.drivers["memory"] = lambda: Dialled.on(lab.world)
    lose_the_link(lab)
    process.accept("m1", folder("t", {"one": "1", "late": "1"}, connection={"host": "db1"}))
    process.clear()
    process.turn()
    lab.world().unreachable = set()
    assert process.turn() == deciding.Wait(5)
    process.accept("m2", folder("t", {"one": "1", "late": "1"}, connection={"host": "db2"}))
    process.settle()
    assert lab.world().writes == [(ONE, "1"), (LATE, "1")]
    assert outcomes(process) == [("SUPERSEDED", []), ("SUCCEEDED", [])]


def test_three_fruitless_stages_fail_the_deployment(lab: Lab, process: Process) -> None:
    def fault(point: str) -> None:
        raise errors.PermanentError("syntax", "no")

    lab.world().fault = fault
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()
    assert outcomes(process)[0] == ("FAILED", ["not_converged"])
    assert lab.world().writes == []


def test_a_manual_change_between_plan_and_apply_is_not_overwritten(lab: Lab, process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()

    def fault(point: str) -> None:
        lab.world().fault = lambda point: None
        lab.world().values[ONE] = "by hand"

    lab.world().fault = fault
    process.accept("m2", folder("t", {"one": "2"}))
    process.clear()
    process.turn()
    assert lab.world().values[ONE] == "by hand"
    process.settle()
    assert lab.world().values[ONE] == "2", "a fresh plan saw it"


@pytest.mark.parametrize("late", [False, True])
def test_a_success_that_cannot_be_confirmed_waits_and_fails_at_the_deadline(
    lab: Lab, process: Process, *, late: bool
) -> None:
    def fault(point: str) -> None:
        if point == "confirm":
            raise errors.TransientError("ssh", "no fresh connection")

    process.accept("m1", folder("t", {"one": "1"}))
    process.clear()
    process.turn()
    lab.world().fault = fault
    assert process.turn() == deciding.Wait(5)
    if late:
        lab.clock.sleep(600)
        assert isinstance(process.turn(), deciding.Close)
    lab.world().fault = lambda point: None
    process.settle()
    assert outcomes(process)[0] == (("FAILED", ["ssh"]) if late else ("SUCCEEDED", []))


def test_a_confirm_that_comes_too_late_is_a_failure(lab: Lab, process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.clear()
    process.turn()
    lab.world().fault = lambda point: lab.world().expire() if point == "confirm" else None
    process.turn()
    assert outcomes(process) == [("FAILED", ["reverted"])]


def test_after_the_dead_man_took_a_change_back_what_moves_is_drift_again(lab: Lab, process: Process) -> None:
    for revision, value in ("m1", "1"), ("m2", "slow"):
        process.accept(revision, folder("t", {"one": value}))
        process.settle(until=lambda: lab.world().values.get(ONE) == "slow")
    lab.world().expire()
    process.settle()
    assert (
        process.known().strayed,
        [process.name_of(e.version.revision) for e in process.events(record.Confirmed)],
    ) == (False, ["m1"])
    lab.world().values[ONE] = "by hand"
    process.settle()
    assert process.events(record.Intent)[-1].cause is model.Cause.DRIFT


def test_deploy_takes_turns_until_the_target_rests_and_refuses_what_was_not_cleared(process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    config = process.desired("t", "m1")
    with pytest.raises(errors.ConfigError):
        process.target().deploy(config)
    process.clear()
    result = process.target().deploy(config)
    assert result.deployment is not None
    assert (result.deployment.closed, result.standing) == (model.Closed.SUCCEEDED, None)


def test_rollback_pins_the_state_before_a_deployment_until_the_next_merge_is_cleared(
    lab: Lab, process: Process
) -> None:
    for revision, files in (
        ("m1", folder("t", {"one": "1"})),
        ("m2", folder("t", {"one": "2", **{f"n{i}": "2" for i in range(9)}})),
    ):
        process.accept(revision, files)
        process.settle()
    last = process.known().last
    assert last is not None
    result = process.target().rollback(last.id, actor="uid:1000", reason="INC1")
    assert result.deployment is not None
    assert (result.deployment.cause, result.deployment.closed) == (model.Cause.ROLLBACK, model.Closed.SUCCEEDED), (
        "nine deletes: it had created them"
    )
    assert lab.world().values == {ONE: "1"}
    process.accept("m3", folder("t", {"one": "evil"}))
    process.settle()
    assert lab.world().values[ONE] == "1", "still pinned"
    process.accept("m4", folder("t", {"one": "4"}))
    process.settle()
    assert lab.world().values[ONE] == "4"


def test_an_operator_goes_back_only_to_what_was_confirmed_in_the_window_and_passes_the_pure_gates(
    lab: Lab, process: Process
) -> None:
    for revision, value in ("m1", "1"), ("m2", "2"):
        process.accept(revision, folder("t", {"one": value}))
        process.settle()
    first, last = (e.deployment for e in process.events(record.Outcome))
    with pytest.raises(errors.ConfigError, match="was not its confirmed state"):
        process.target().rollback(first, actor="uid:1000", reason="to before there was anything")
    lab.gates["opa"].refuses = b'"1"'
    with pytest.raises(errors.ConfigError, match="opa: FAIL"):
        process.target().rollback(last, actor="uid:1000", reason="a rule forbids it now")
    lab.gates["opa"].refuses = b"evil"
    lab.clock.sleep(15 * 86400)
    with pytest.raises(errors.ConfigError, match="was not its confirmed state"):
        process.target().rollback(last, actor="uid:1000", reason="too long ago")


def test_an_intent_names_every_decision_since_the_last_confirmed_state(process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()
    for revision, value in ("m2", "evil"), ("m3", "3"):
        process.accept(revision, folder("t", {"one": value}))
        process.settle()
    seqs = {
        process.name_of(e.event.revision): e.seq for e in process.log.records() if isinstance(e.event, record.Decision)
    }
    assert [i.decisions for i in process.events(record.Intent)] == [(seqs["m1"],), (seqs["m2"], seqs["m3"])]


def test_a_preview_contacts_a_target_only_over_its_accepted_connection(lab: Lab, process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()
    lab.revisions["h"] = lab.store.make_commit(folder("t", {"one": "2"}), lab.revisions["m1"])
    elsewhere = folder("t", {"one": "2"}, connection={"host": "attacker.example"})
    lab.revisions["h2"] = lab.store.make_commit(elsewhere, lab.revisions["m1"])
    plan = process.target().plan(process.desired("t", "h"))
    assert [s.key for stage in plan.stages for s in stage.steps] == [ONE]
    with pytest.raises(errors.ConfigError):
        process.target().plan(process.desired("t", "h2"))


def test_a_preview_shows_nothing_of_what_only_the_head_names(lab: Lab, process: Process) -> None:
    """Neither what is there nor that it is: the plan of a new key is the same where nothing is."""
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()
    lab.revisions["h"] = lab.store.make_commit(folder("t", {"one": "1", "theirs": "guess"}), lab.revisions["m1"])
    theirs, head = model.Key("item/n/theirs"), process.desired("t", "h")
    absent = process.target().plan(head)
    lab.worlds["t"].values[theirs] = {"v": "confidential"}
    plan = process.target().plan(head)
    assert "confidential" not in plan.model_dump_json()
    (step,) = plan.steps
    assert (step.key, step.action, plan.refusals) == (theirs, "create", ())
    assert [each.key for each in absent.steps] == [theirs]
    lab.revisions["m2"] = lab.revisions["h"]
    process.accept("m2", folder("t", {"one": "1", "theirs": "guess"}))
    process.settle()
    assert [reason.code for reason in process.target().next_plan().refusals] == ["adoption"]


def test_a_standing_is_recorded_when_it_changes_and_not_at_every_turn(lab: Lab, process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.core.contact.fetches = contact.Fetches()  # The source has not been read yet.
    for _ in range(3):
        process.settle()
    process.core.contact.fetches = contact.Fetches(lab.clock.now())
    process.settle()
    assert [e.code for e in process.events(record.Standing)] == ["deferred"]
    assert process.known().standing is None


def test_a_target_that_was_dropped_is_not_brought_back_by_its_next_turn(process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()
    process.accept("m2", dict.fromkeys(folder("t", {})))
    process.settle()
    process.log.append(record.Operator(actor="uid:1000", verb="drop", target="t", reason="CHG1"))
    assert not process.log.state.targets
    process.turn()  # The record itself makes one due, and the interval another.
    assert not process.log.state.targets


def test_drift_is_corrected_while_a_change_waits(lab: Lab, process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()
    process.core.contact.fetches = contact.Fetches()  # The source is silent: no change begins.
    process.accept("m2", folder("t", {"one": "2"}))
    process.settle()
    lab.world().values[ONE] = "by hand"
    process.settle()
    standing = process.known().standing
    assert standing is not None
    assert (lab.world().values[ONE], standing.code) == ("1", "deferred")
    assert process.events(record.Intent)[-1].cause is model.Cause.DRIFT
    process.core.contact.fetches = contact.Fetches(lab.clock.now())
    process.settle()
    assert (lab.world().values[ONE], process.known().standing) == ("2", None)
