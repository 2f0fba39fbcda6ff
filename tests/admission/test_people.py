"""People beside the attack catalogue: who is excluded, who may take back, the deny list, robots."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
from support import estate, objects, signing

from reconciler import model
from reconciler.admission import form

LEDGER = {"targets/ledger/resources.yaml": estate.resources(2)}
SANDBOX = {"targets/sandbox/resources.yaml": estate.resources(2)}
HOLD, REJECT, ACCEPT = model.Verdict.HOLD, model.Verdict.REJECT, model.Verdict.ACCEPT


@pytest.fixture
def bank() -> estate.Estate:
    return estate.Estate(estate.targets())


def assert_accepted(bank: estate.Estate, merge: model.Oid) -> None:
    decision = bank.judge(merge)
    assert decision.verdict is ACCEPT, decision.reasons


def test_a_co_author_is_excluded_whatever_the_case_of_the_address(bank: estate.Estate) -> None:
    head = bank.store.make_commit(
        SANDBOX, bank.tip, key=estate.key("alice"), message="x\n\nCo-authored-by: B <BOB@bank.example>\n"
    )
    merge = bank.merge(head)
    bank.approve(merge, "bob")
    assert "author_in_range" in estate.codes(bank.judge(merge))


def test_a_rejection_holds_until_its_person_approves_later(bank: estate.Estate) -> None:
    merge = bank.change(SANDBOX, approvers=["bob"])
    (envelope,) = bank.approve(merge, "grace", decision="reject")
    decision = bank.judge(merge)
    assert (decision.verdict, estate.codes(decision)) == (HOLD, {"rejected"})
    seen = {f"sha256:{model.sha256(envelope)}": estate.NOW - timedelta(hours=1)}
    assert bank.judge(merge, seen=seen).verdict is HOLD
    bank.approve(merge, "grace", issued_at=signing.ISSUED_AT + timedelta(hours=1))
    assert bank.judge(merge, seen=seen).verdict is ACCEPT
    assert bank.judge(merge).verdict is HOLD, "a tie counts as later"


def test_a_rejection_by_somebody_who_fills_no_slot_holds_nothing(bank: estate.Estate) -> None:
    merge = bank.change(SANDBOX, approvers=["bob"])
    bank.approve(merge, "carol", "alice", decision="reject")
    assert_accepted(bank, merge)


@pytest.mark.parametrize("denied", ["commit", "tree", "merge key", "author", "author's key"])
def test_the_deny_list_works_at_once(bank: estate.Estate, denied: str) -> None:
    merge = bank.change(SANDBOX, approvers=["bob"])
    alice = estate.key("alice").key_id
    listed = {
        "commit": form.Denied(commits=frozenset({merge})),
        "tree": form.Denied(commits=frozenset({bank.store.tree_id(merge)})),
        "merge key": form.Denied(keys=frozenset({estate.key("forge").key_id})),
        "author": form.Denied(people=frozenset({"alice"})),
        "author's key": form.Denied(keys=frozenset({alice})),
    }
    decision = bank.judge(merge, denied=listed[denied])
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {"denied"})


def test_a_denied_approver_fills_no_slot(bank: estate.Estate) -> None:
    merge = bank.change(SANDBOX, approvers=["bob"])
    decision = bank.judge(merge, denied=form.Denied(people=frozenset({"bob"})))
    assert (decision.verdict, "no_approval" in estate.codes(decision)) == (HOLD, True)


def test_the_merging_person_does_not_approve_unless_sod_says_so(bank: estate.Estate) -> None:
    merge = bank.change(SANDBOX, approvers=["bob"], signer="bob")
    assert estate.codes(bank.judge(merge)) >= {"threshold"}
    spec = estate.policy_spec()
    spec["defaults"] = {"sod": ["author", "committer"]}
    lenient = estate.Estate(estate.targets(), spec=spec)
    assert_accepted(lenient, lenient.change(SANDBOX, approvers=["bob"], signer="bob"))


def test_a_commit_robot_stays_within_its_paths(bank: estate.Estate) -> None:
    inside = bank.change({"targets/sandbox/manifests/app.yaml": b"{}"}, "image-updates", ["bob"])
    assert_accepted(bank, inside)
    outside = bank.change({"targets/sandbox/resources.yaml": b"{}"}, "image-updates", ["bob"])
    assert (bank.judge(outside).verdict, estate.codes(bank.judge(outside))) == (REJECT, {"robot_scope"})


def test_a_merge_robot_may_update_a_branch_but_not_write_one(bank: estate.Estate) -> None:
    head = bank.branch(SANDBOX)
    bank.change(LEDGER)
    updated = bank.store.make_merge(head, bank.tip, estate.key("forge"))
    merge = bank.merge(updated)
    bank.approve(merge, "bob")
    assert_accepted(bank, merge)
    written = bank.change({"targets/sandbox/x.yaml": b"{}"}, "forge", ["bob"])
    assert (bank.judge(written).verdict, estate.codes(bank.judge(written))) == (REJECT, {"role"})


def test_a_person_with_two_addresses_in_the_policy_is_one(bank: estate.Estate) -> None:
    spec = copy.deepcopy(bank.spec)
    spec["people"]["bob"]["emails"] = ["bob@bank.example", "bob@home.example"]
    bank = estate.Estate(estate.targets(), spec=spec)
    author = objects.Who("B", "bob@home.example")
    merge = bank.merge(bank.store.make_commit(SANDBOX, bank.tip, author=author, key=estate.key("alice")))
    bank.approve(merge, "bob")
    assert "author_in_range" in estate.codes(bank.judge(merge))
