"""A target that went back by itself owes a Git that says so; it blocks nobody (trust.md 5.3)."""

from __future__ import annotations

from support.lab import Lab, Process, folder

from reconciler import model
from reconciler.audit import record

BAD = folder("t", {"one": "bad"})  # a value that is never healthy


def owed(process: Process) -> list[tuple[str, str | None]]:
    """What was opened and closed, each with the name of the merge whose state failed."""
    return [(e.change, process.name_of(e.revision)) for e in process.events(record.Obligation)]


def failed(lab: Lab, process: Process) -> None:
    """m1 is fine; m2 fails, and the target goes back."""
    for revision, files in (("m1", folder("t", {"one": "1"})), ("m2", BAD)):
        process.accept(revision, files)
        process.settle()
    closed = [(i.cause, o.closed) for i, o in zip(process.events(record.Intent), process.events(record.Outcome), strict=True)]  # fmt: skip
    assert closed[-1] == (model.Cause.ROLLBACK, model.Closed.SUCCEEDED)


def test_going_back_opens_what_the_next_desired_state_closes(lab: Lab, process: Process) -> None:
    failed(lab, process)
    assert owed(process) == [("opened", "m2")]
    (opened,) = process.events(record.Obligation)
    last = process.known().last
    assert last
    assert (opened.kind, opened.target, opened.due, opened.deployment) == ("agree", "t", None, last.id)
    scopes = [e.scope for e in process.log.records() if e.event.type == "obligation"]
    assert scopes == ["target:t"]
    process.settle()
    assert owed(process) == [("opened", "m2")], "said once"
    process.accept("m3", folder("t", {"one": "evil"}))
    process.settle()
    assert owed(process) == [("opened", "m2")], "a state that was not cleared is not desired yet"
    process.accept("m4", folder("t", {"one": "4"}))
    process.settle()
    assert owed(process) == [("opened", "m2"), ("closed", "m2")]
    assert process.known().confirmed == process.known().cleared


def test_what_failed_and_comes_true_after_all_owes_nothing(lab: Lab, process: Process) -> None:
    failed(lab, process)
    process.accept("m3", folder("t", {"one": "1"}))
    process.settle()
    assert owed(process) == [("opened", "m2"), ("closed", "m2")]


def test_what_an_operator_pins_owes_nothing(lab: Lab, process: Process) -> None:
    for revision, value in (("m1", "1"), ("m2", "2")):
        process.accept(revision, folder("t", {"one": value}))
        process.settle()
    last = process.known().last
    assert last
    process.target().rollback(last.id, actor="uid:1000", reason="INC1")
    assert owed(process) == []


def test_drift_and_the_next_process_find_it_still_owed(lab: Lab, process: Process) -> None:
    failed(lab, process)
    lab.world().values[model.Key("item/n/one")] = "by hand"
    process.settle()
    again = Process(lab)
    assert again.known().owes is not None
    again.settle()
    assert owed(again) == [("opened", "m2")]


def test_a_target_that_is_dropped_takes_along_what_it_owed(lab: Lab, process: Process) -> None:
    failed(lab, process)
    process.accept("m3", dict.fromkeys(BAD))
    process.settle()
    assert owed(process) == [("opened", "m2"), ("closed", "m2")], "its next desired state is none"
