"""Content beside the attack catalogue: what a document is taken for, and what cannot be read."""

from __future__ import annotations

import pytest
from support import estate

from reconciler import model
from reconciler.admission import judging

HOLD, REJECT, ACCEPT = model.Verdict.HOLD, model.Verdict.REJECT, model.Verdict.ACCEPT
FOLDER = "targets/ledger"


@pytest.fixture
def bank() -> estate.Estate:
    return estate.Estate(estate.targets())


def test_a_document_without_a_readable_shape_counts_as_every_environment(bank: estate.Estate) -> None:
    merge = bank.change({"targets/sandbox/target.yaml": b"spec: [1]\n"})
    decision = bank.judge(merge)
    assert estate.codes(decision) == {"threshold"}, "of security, for the rule `net`"
    bank.approve(merge, "carol")
    assert bank.judge(merge).verdict is ACCEPT, "its shape is the gate `schema`'s to refuse"


def test_a_target_that_moves_between_environments_concerns_both(bank: estate.Estate) -> None:
    decision = bank.judge(bank.change(estate.target("ledger", "dev"), approvers=["bob"]))
    assert estate.codes(decision) >= {"threshold"}
    assert bank.judge(bank.change(estate.target("ledger", "dev"))).verdict is ACCEPT


def test_the_approval_policy_may_not_go(bank: estate.Estate) -> None:
    decision = bank.judge(bank.change({estate.POLICY_PATH: None}, approvers=["bob", *estate.ADMINS]))
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {"policy_lint"})


@pytest.mark.parametrize("blob", [b"spec: {a: 1, a: 2}\n", b"kind: ApprovalPolicy\n", b"\xff"])
def test_a_policy_that_cannot_be_read_does_not_come_in(bank: estate.Estate, blob: bytes) -> None:
    decision = bank.judge(bank.change({estate.POLICY_PATH: blob}, approvers=["bob", *estate.ADMINS]))
    assert decision.verdict is REJECT
    assert estate.codes(decision) <= {"policy_lint", "parse"}


def test_what_is_too_long_for_a_record_is_cut_and_kept_as_evidence(bank: estate.Estate) -> None:
    files = {f"{FOLDER}/bad\n{n}" + "x" * 200: b"{}" for n in range(300)}
    merge = bank.merge(bank.branch(files))
    judged = judging.examine(bank.store, merge, bank.known(), terms=bank.terms, now=estate.NOW)
    assert judged.decision.verdict is REJECT
    assert len(judged.decision.canonical()) < 1 << 16
    assert len(judged.evidence) == 1


def test_an_object_that_is_missing_holds_and_one_that_lies_stops() -> None:
    bank = estate.Estate(estate.targets())
    merge = bank.change({f"{FOLDER}/x": b"unique"})
    entry = bank.store.tree(merge)[f"{FOLDER}/x".encode()]
    bank.store.lose(entry.oid)
    decision = bank.judge(merge)
    assert (decision.verdict, estate.codes(decision)) == (HOLD, {"source_error"})
