"""Merges and their order beside the attack catalogue: what goes in, and on what."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from support import estate, objects

from reconciler import documents, model
from reconciler.admission import judging
from reconciler.audit import record, state

LEDGER = {"targets/ledger/resources.yaml": estate.resources(2)}
SANDBOX = {"targets/sandbox/resources.yaml": estate.resources(2)}
PAYMENTS = {"targets/payments/resources.yaml": estate.resources(2)}
HOLD, REJECT, ACCEPT, HALT = model.Verdict.HOLD, model.Verdict.REJECT, model.Verdict.ACCEPT, model.Verdict.HALT
RECOVERERS = ("bob", "grace", *estate.ADMINS)


class Clock:
    def now(self) -> datetime:
        return estate.NOW

    def monotonic_s(self) -> float:
        return 0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("judging does not wait")


@pytest.fixture
def bank() -> estate.Estate:
    return estate.Estate(estate.targets())


def walk(bank: estate.Estate, tip: model.Oid | None = None, after: model.Oid | None = None) -> list[record.Decision]:
    """What a clone without a log says of every merge after `after`, or after genesis."""
    known = bank.known(after)

    def keep(judged: judging.Judged) -> state.State:
        nonlocal known
        if judged.decision.verdict is ACCEPT:
            known = bank.known(judged.decision.revision)
        return known

    return list(judging.walk(bank.store, tip or bank.tip, known, keep, terms=bank.terms, clock=Clock()))


def verdicts(decisions: list[record.Decision]) -> list[model.Verdict]:
    return [decision.verdict for decision in decisions]


def test_a_merge_by_git_of_lines_on_both_sides_is_manual_unless_git_made_it(bank: estate.Estate) -> None:
    """The store in memory merges no lines, so any tree is a manual one here."""
    head = bank.branch(LEDGER)
    bank.change({"targets/ledger/resources.yaml": estate.resources(3)})
    mixed = bank.store.make_commit({"targets/ledger/resources.yaml": estate.resources(4)}, bank.tip)
    merge = bank.merge(head, tree=bank.store.tree_id(mixed))
    bank.approve(merge, *estate.SRE)
    assert "ack_manual_merge" in estate.codes(bank.judge(merge))


def test_two_merge_bases_are_refused(bank: estate.Estate) -> None:
    one, other = bank.branch(LEDGER), bank.branch(SANDBOX)
    left = bank.store.make_merge(one, other, estate.key("alice"))
    right = bank.store.make_merge(other, one, estate.key("alice"))
    merge = bank.store.make_commit({}, left, right, author=objects.FORGE, key=estate.key("forge"))
    decision = bank.judge(merge)
    assert (decision.verdict, "merge_base" in estate.codes(decision)) == (REJECT, True)


# --- recovery (5.2) ---


def blocked_by(bank: estate.Estate, files: objects.Files, *, signer: str | None = None) -> model.Oid:
    """Somebody pushed a commit straight onto the branch."""
    return bank.push(bank.branch(files, signer=signer))


def recover(
    bank: estate.Estate, files: objects.Files, skipped: tuple[model.Oid, ...], *people: str, skips: bool = True
) -> model.Oid:
    merge = bank.merge(bank.branch(files, "heidi"))
    bound = bank.binding(merge, base=bank.genesis, skips=skipped if skips else ())
    bank.approve(merge, *people, binding=bound)
    return bank.push(merge)


def test_a_recovery_merge_is_one_change_from_the_last_accepted_commit(bank: estate.Estate) -> None:
    """The signed direct commit stays, approved now as part of the whole."""
    direct = blocked_by(bank, PAYMENTS)
    merge = recover(bank, LEDGER, (direct,), *RECOVERERS)
    decision = walk(bank)[-1]
    assert decision.verdict is ACCEPT, decision.reasons
    assert (decision.revision, decision.base, decision.skipped) == (merge, bank.genesis, (direct,))
    assert set(decision.targets) == {"ledger", "payments"}
    assert {c.oid for c in decision.commits} >= {direct, merge}


def test_the_people_of_what_is_skipped_do_not_approve_the_recovery(bank: estate.Estate) -> None:
    direct = bank.push(bank.branch(PAYMENTS, "bob"))
    recover(bank, LEDGER, (direct,), *RECOVERERS)
    assert "author_in_range" in estate.codes(walk(bank)[-1])


def test_after_a_recovery_the_history_goes_on(bank: estate.Estate) -> None:
    direct = blocked_by(bank, PAYMENTS)
    recover(bank, LEDGER, (direct,), *RECOVERERS)
    bank.change(SANDBOX, approvers=["bob"])
    assert verdicts(walk(bank)) == [REJECT, ACCEPT, ACCEPT]


# --- the rollback rule (5.3) ---


def known_past(bank: estate.Estate, name: str, *, days: int) -> estate.Known:
    """The state of genesis was confirmed, and left so many days ago."""
    digest = documents.target_digest(bank.store.tree(bank.genesis), name)
    assert digest
    target = state.Target(name=name, past={digest: estate.NOW - timedelta(days=days)})
    return {"targets": {name: target}}


def test_a_return_to_a_confirmed_state_needs_one_approval(bank: estate.Estate) -> None:
    bank.change(LEDGER)
    back = bank.change({"targets/ledger/resources.yaml": estate.resources(1)}, approvers=["bob"])
    decision = bank.judge(back, **known_past(bank, "ledger", days=13))
    assert decision.verdict is ACCEPT, decision.reasons
    assert [rule.id for rule in decision.rules] == ["rollback"]
    assert estate.codes(bank.judge(back, **known_past(bank, "ledger", days=15))) == {"threshold"}
    assert estate.codes(bank.judge(back)) == {"threshold"}


# --- before the merge ---


def test_what_a_statement_binds_is_known_before_the_merge(bank: estate.Estate) -> None:
    head = bank.branch(LEDGER)
    judged = judging.examine_head(bank.store, head, bank.known(bank.tip), terms=bank.terms, now=estate.NOW)
    assert judged.binding == bank.binding(bank.merge(head))
    assert [(slot.slot, slot.missing, slot.may) for slot in judged.open] == [
        ("2 of sre (A2)", 2, ("bob", "grace", "heidi"))
    ]
    assert not judged.manual


# --- what a merge brings in ---


def test_a_long_branch_is_read_whole(bank: estate.Estate) -> None:
    head = bank.tip
    for n in range(12):
        head = bank.branch({"targets/sandbox/resources.yaml": estate.resources(n + 2)}, on=head, signer="alice")
    merge = bank.merge(head)
    bank.approve(merge, "bob")
    decision = bank.judge(merge)
    assert (decision.verdict, len(decision.commits)) == (ACCEPT, 12)


def test_a_branch_that_goes_on_after_its_merge_brings_in_the_rest_only(bank: estate.Estate) -> None:
    """Its first half was accepted; bob, who wrote that, may approve the second."""
    first = bank.branch(SANDBOX, "bob")
    merge = bank.merge(first)
    bank.approve(merge, "grace")
    bank.push(merge)
    second = bank.branch({"targets/sandbox/more.yaml": b"{}"}, on=first)
    again = bank.merge(second)
    bank.approve(again, "bob")
    decision = bank.judge(again)
    assert decision.verdict is ACCEPT, decision.reasons
    assert [each.oid for each in decision.commits] == [second]


def test_a_fast_branch_hides_no_unsigned_commit(bank: estate.Estate) -> None:
    unsigned = bank.branch(SANDBOX, signer="")
    for n, head in enumerate((unsigned, bank.branch({"targets/sandbox/x": b"1"}, on=unsigned))):
        merge = bank.merge(head)
        bank.approve(merge, "bob")
        assert estate.codes(bank.judge(merge)) == {"unsigned_commit"}, n


def test_a_long_walk_returns_the_newest_it_accepted_and_all_it_did_not(
    bank: estate.Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "TOLD", 2)
    merges = [bank.change({"targets/ledger/resources.yaml": estate.resources(n)}) for n in range(2, 6)]
    refused = bank.change(SANDBOX, "alice", ())
    blocked = bank.change(PAYMENTS)
    told = walk(bank)
    assert [decision.revision for decision in told] == [*merges[-2:], refused, blocked]
    assert verdicts(told) == [ACCEPT, ACCEPT, HOLD, HOLD]
