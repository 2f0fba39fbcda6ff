"""Gates decide when a target may be written; they hold up nobody else."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta

from support import estate
from support.lab import Gate, Lab, Process, folder

from reconciler import documents, model
from reconciler.admission import policy
from reconciler.audit import record
from reconciler.convergence import clearing
from reconciler.daemon.clock import Threads

ONE = model.Key("item/n/one")
TRIVY = {"deploy": {"checks": [{"trivy": "vulnerability_scan", "with": {"maxAge": "7d"}}]}}


def standing(p: Process, name: str = "t") -> str | None:
    known = p.known(name).standing
    return known.code if known else None


def passed(p: Process) -> list[tuple[str, bool]]:
    return [(str(p.name_of(e.revision)), e.passed) for e in p.events(record.Clearance)]


def test_all_targets_of_a_merge_wait_for_all_of_its_gates_and_the_others_go_on(lab: Lab, process: Process) -> None:
    process.accept("m1", {**folder("t", {"one": "1"}), **folder("u", {"one": "1"})})
    process.settle()
    process.accept("m2", {**folder("t", {"one": "evil"}), **folder("u", {"one": "2"})})
    process.accept("m3", folder("v", {"one": "3"}))
    process.settle()
    assert [lab.world(n).values[ONE] for n in "tuv"] == ["1", "1", "3"]
    assert [standing(process, n) for n in "tuv"] == ["uncleared", "uncleared", None]


def test_a_blocked_target_is_kept_at_its_last_confirmed_state(lab: Lab, process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()
    process.accept("m2", folder("t", {"one": "evil"}))
    process.settle()
    lab.world().values[ONE] = "by hand"
    process.settle()
    assert lab.world().values[ONE] == "1"
    assert standing(process) == "uncleared"


def test_the_next_merge_is_cleared_on_the_whole_difference_from_the_last_confirmed_state(
    lab: Lab, process: Process
) -> None:
    for revision, value in ("m1", "1"), ("m2", "evil"), ("m3", "3"):
        process.accept(revision, folder("t", {"one": value}))
        process.settle()
    shown = lab.gates["opa"].shown[-1]
    assert (process.name_of(shown.before["t"].revision), process.name_of(shown.after["t"].revision)) == ("m1", "m3")
    assert lab.world().values[ONE] == "3"


def test_a_check_that_is_dropped_runs_once_more_even_behind_a_blocked_merge(lab: Lab, process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}, **TRIVY))
    process.settle()
    process.accept("m2", folder("t", {"one": "leaky"}))
    process.accept("m3", folder("t", {"one": "leaky", "two": "1"}))
    process.settle()
    assert passed(process) == [("m1", True), ("m2", False), ("m3", False)]
    assert lab.world().values[ONE] == "1"


def test_a_check_that_an_unconfirmed_merge_brought_in_is_not_shed_by_the_next(lab: Lab, process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()
    process.accept("m2", folder("t", {"one": "2"}, **TRIVY))
    process.accept("m3", folder("t", {"one": "leaky"}))
    process.settle()
    assert passed(process) == [("m1", True), ("m2", True), ("m3", False)]
    assert lab.world().values[ONE] == "2"


def test_a_check_keeps_the_options_that_it_had(process: Process) -> None:
    before = model.Check(gate="trivy", profile="p", options=(("maxAge", "7d"),))
    desired = model.Desired(
        target="t",
        kind="memory",
        connection={},
        revision=model.Oid("r"),
        digest=model.Digest("d"),
        environment="dev",
        spec={},
        payload={},
        checks=(before,),
    )
    looser = desired.model_copy(update={"checks": (before.model_copy(update={"options": ()}),)})
    rules = policy.read_policy(process.lab.store, process.lab.revisions["genesis"])
    asked = clearing.checks_for(
        {
            "t": clearing.Sides(
                *(documents.TargetDocument(desired=d, acknowledge=frozenset()) for d in (desired, looser, looser))
            )
        },
        rules,
        frozenset(),
        implemented={"trivy"},
    )
    assert set(asked) == {before, model.Check(gate="schema"), model.Check(gate="rollback")}


def test_an_error_is_tried_again_after_as_long_as_was_waited_a_fail_only_on_request(lab: Lab, process: Process) -> None:
    lab.gates["opa"].broken = True
    process.accept("m1", folder("t", {"one": "evil"}))
    waits = []
    for _ in range(6):
        waits.append(process.clear() or 0)
        lab.clock.sleep(waits[-1])
    assert [round(w) for w in waits] == [5, 5, 10, 20, 40, 80]
    assert passed(process) == [("m1", False)], "the same ERROR is no news"
    lab.gates["opa"].broken = False
    assert process.clear() is None
    process.settle()
    asked = len(lab.gates["opa"].shown)
    assert (process.clear(), len(lab.gates["opa"].shown), standing(process)) == (None, asked, "uncleared")
    lab.gates["opa"].refuses = b"\0"
    process.log.append(record.Operator(actor="uid:1000", verb="reconcile", target="t", reason="the rule was wrong"))
    process.settle()
    assert lab.world().values[ONE] == "evil"


def test_a_late_gate_blocks_but_does_not_delay(lab: Lab, process: Process) -> None:
    hang = threading.Event()

    class Hung(Gate):
        def check(self, change: model.Change, deadline_s: float) -> model.GateResult:
            hang.wait(30)
            return super().check(change, deadline_s)

    lab.gates["opa"] = Hung()
    process.accept("m1", folder("t", {"one": "1"}))
    begun = time.monotonic()
    suite = replace(process.core.suite, concurrency=Threads(), within_s=0.2)
    clearing.clear(lab.revisions["m1"], lab.store, process.log, suite)
    assert time.monotonic() - begun < 5
    hang.set()
    results = {
        r.check: (r.outcome, [f.code for f in r.findings]) for e in process.events(record.Clearance) for r in e.results
    }
    assert results == {
        "schema": (model.Outcome.PASS, []),
        "opa": (model.Outcome.ERROR, ["late"]),
        "rollback": (model.Outcome.PASS, []),
    }


def test_a_check_that_nobody_implements_is_an_error(process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}, deploy={"checks": [{"sonarcube": "quality_gate"}]}))
    process.settle()
    assert standing(process) == "uncleared"
    assert "unknown_check" in [r.code for e in process.events(record.Standing) for r in e.reasons]


def test_a_check_that_nobody_implements_is_corrected_by_the_next_merge(process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}, deploy={"checks": [{"sonarcube": "quality_gate"}]}))
    process.settle()
    process.accept("m2", folder("t", {"one": "1"}, deploy={"checks": [{"trivy": "vulnerability_scan"}]}))
    process.settle()
    assert standing(process) is None


def test_a_document_that_cannot_be_read_blocks_its_own_merge_and_no_other(lab: Lab, process: Process) -> None:
    process.accept("m1", {**folder("t", {"one": "1"}), "targets/t/target.yaml": b"spec: {typo: memory}"})
    process.accept("m2", folder("u", {"one": "1"}))
    process.settle()
    assert (standing(process), standing(process, "u")) == ("uncleared", None)
    process.accept("m3", folder("t", {"one": "3"}))
    process.settle()
    assert [lab.world(n).values[ONE] for n in "tu"] == ["3", "1"], "and the next merge mends it"


def test_what_a_newer_merge_mended_does_not_keep_the_rest_of_the_blocked_one_waiting(
    lab: Lab, process: Process
) -> None:
    process.accept("m1", {**folder("t", {"one": "evil"}), **folder("u", {"one": "1"})})
    process.settle()
    process.accept("m2", folder("t", {"one": "2"}))
    process.settle()
    process.settle()
    assert [lab.world(n).values[ONE] for n in "tu"] == ["2", "1"]


def test_an_answer_to_a_question_that_has_changed_meanwhile_is_not_recorded(lab: Lab, process: Process) -> None:
    process.accept("m1", {**folder("t", {"one": "evil"}), **folder("u", {"one": "1"})})
    process.accept("m2", folder("t", {"one": "2"}))

    class Slow(Gate):
        def check(self, change: model.Change, deadline_s: float) -> model.GateResult:
            if process.name_of(change.revision) == "m1" and not self.shown:
                self.shown.append(change)
                process.clear(only="m2")
            return super().check(change, deadline_s)

    lab.gates["opa"] = Slow(b"evil")
    assert process.clear(only="m1") == 0
    assert passed(process) == [("m2", True)]
    process.settle()
    assert [lab.world(n).values[ONE] for n in "tu"] == ["2", "1"]


def test_a_revert_does_not_wait_for_a_scanner_but_asks_the_pure_gates(lab: Lab, process: Process) -> None:
    for revision, value in ("m1", "1"), ("m2", "2"):
        process.accept(revision, folder("t", {"one": value}, **TRIVY))
        process.settle()
    lab.gates["trivy"].broken = True
    process.accept("m3", folder("t", {"one": "1"}, **TRIVY))
    process.settle()
    assert lab.world().values[ONE] == "1"
    lab.gates["opa"].refuses = b"2"
    process.accept("m4", folder("t", {"one": "2"}, **TRIVY))
    process.settle()
    assert (lab.world().values[ONE], standing(process)) == ("1", "uncleared")


def test_a_revert_waits_like_any_other_when_it_is_old_or_not_alone(lab: Lab, process: Process) -> None:
    for revision, value in ("m1", "1"), ("m2", "2"):
        process.accept(revision, folder("t", {"one": value}, **TRIVY))
        process.settle()
    lab.gates["trivy"].broken = True
    process.accept("m3", {**folder("t", {"one": "1"}, **TRIVY), **folder("u", {"one": "1"}, **TRIVY)})
    process.settle()
    assert standing(process) == "uncleared", "all targets of a merge wait for all of its gates"
    lab.clock.sleep(timedelta(days=15).total_seconds())
    process.accept("m4", folder("t", {"one": "2"}, **TRIVY))
    process.accept("m5", folder("t", {"one": "1"}, **TRIVY))
    process.clear()
    assert {process.name_of(r) for r in process.log.state.pending} == {"m3", "m5"}, (
        "m4 is where the target stands, m5 is too long ago"
    )


def test_a_new_policy_is_new_input_and_serves_merges_that_stood_on_the_old_one(lab: Lab, process: Process) -> None:
    process.accept("m1", folder("t", {"one": "evil"}))
    process.settle()
    lab.gates["opa"].refuses = b"\0"
    process.settle()
    assert standing(process) == "uncleared"
    process.accept("m2", {"policies/opa.rego": b"package opa"})
    process.settle()
    assert lab.world().values[ONE] == "evil"
    assert process.name_of(lab.gates["opa"].shown[-1].policies) == "m2"


def test_what_the_newest_policy_requires_is_asked_of_a_merge_that_stood_on_an_older_one(
    lab: Lab, process: Process
) -> None:
    process.accept("m1", folder("t", {"one": "leaky"}))
    spec = estate.policy_spec()
    stricter = estate.policy_blob({**spec, "gates": {"required": {"prod": ["opa", "trivy"]}}})
    process.accept("m2", {"policies/approval.yaml": stricter})
    process.settle()
    assert (passed(process), standing(process)) == ([("m1", False)], "uncleared")


def test_nothing_is_called_for_what_schema_forbids(lab: Lab, process: Process) -> None:
    lab.gates["schema"].refuses = b"evil"
    process.accept("m1", folder("t", {"one": "evil"}))
    process.settle()
    assert [r.check for e in process.events(record.Clearance) for r in e.results] == ["schema"]
    assert lab.gates["opa"].shown == []


def test_an_older_clearance_does_not_overtake_a_newer_one(lab: Lab, process: Process) -> None:
    lab.gates["opa"].broken = True
    process.accept("m1", {**folder("t", {"one": "1"}), **folder("u", {"one": "1"})})
    process.settle()
    lab.gates["opa"].broken = False
    process.accept("m2", folder("t", {"one": "2"}))
    process.clear(only="m2")
    process.settle()
    assert passed(process) == [("m1", False), ("m2", True), ("m1", True)]
    assert [lab.world(n).values[ONE] for n in "tu"] == ["2", "1"]


def test_a_state_that_is_not_cleared_is_not_even_looked_at(lab: Lab, process: Process) -> None:
    """Its connection could point anywhere."""
    process.accept("m1", folder("t", {"one": "evil"}, connection={"host": "attacker.example"}))
    process.settle()
    assert process.target().last is None
    assert lab.worlds == {}


def test_genesis_is_observed_only(lab: Lab) -> None:
    p = Process(lab)
    lab.world("true").values[ONE] = "1"
    p.genesis(t=folder("t", {"one": "1"}), true=folder("true", {"one": "1"}))
    p.settle()
    assert (standing(p), standing(p, "true")) == ("uncleared", None)
    assert [e.target for e in p.events(record.Confirmed)] == ["true"]
    lab.world("true").values[ONE] = "by hand"
    p.settle()
    assert standing(p, "true") == "blocked", "not ours, and not adopted"
    assert lab.world("true").writes == lab.world("t").writes == []


def test_an_accepted_state_that_is_already_true_is_confirmed_without_a_deployment(process: Process) -> None:
    process.accept("m1", folder("t", {"one": "1"}))
    process.settle()
    process.accept("m2", folder("t", {"one": "1"}, interval="5m"))
    process.settle()
    confirmed = process.known().confirmed
    assert confirmed is not None
    assert process.name_of(confirmed.revision) == "m2"
    assert len(process.events(record.Outcome)) == 1


def test_a_dropped_target_is_not_brought_back_by_a_merge_that_still_waits(lab: Lab, process: Process) -> None:
    process.accept("m1", {**folder("t", {"one": "evil"}), **folder("u", {"one": "1"})})
    process.settle()
    process.accept("m2", dict.fromkeys(folder("t", {})))
    process.settle()
    assert standing(process) == "released"
    process.log.append(record.Operator(actor="uid:1000", verb="drop", target="t", reason="gone"))
    lab.gates["opa"].refuses = b"\0"
    process.log.append(record.Operator(actor="uid:1000", verb="reconcile", target="u", reason="the rule was wrong"))
    process.settle()
    assert set(process.log.state.targets) == {"u"}
    assert process.known("u").confirmed is not None
