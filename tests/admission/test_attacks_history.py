"""Histories that nobody agreed to: the cases of the attack catalogue (trust.md 8) that lie in merges and their order."""

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


def test_c25_another_merge_moved_the_same_target_meanwhile(bank: estate.Estate) -> None:
    head = bank.branch(LEDGER)
    early = bank.merge(head)
    bank.approve(early, *estate.SRE)
    bank.change({"targets/ledger/more.yaml": b"{}"})
    late = bank.merge(head)
    decision = bank.judge(late)
    assert (decision.verdict, "stale_effect" in estate.codes(decision)) == (HOLD, True)
    bank.approve(late, *estate.SRE)
    assert bank.judge(late).verdict is ACCEPT


def test_c25_an_approval_survives_unrelated_merges(bank: estate.Estate) -> None:
    head = bank.branch(LEDGER)
    bank.approve(bank.merge(head), *estate.SRE)
    bank.change(PAYMENTS)
    bank.change(SANDBOX)
    decision = bank.judge(bank.merge(head))
    assert decision.verdict is ACCEPT, decision.reasons
    assert decision.auto_merge


def test_c26_an_evil_merge_is_stale_and_then_needs_an_acknowledgement(bank: estate.Estate) -> None:
    head = bank.branch(LEDGER)
    bank.approve(bank.merge(head), *estate.SRE)
    evil = bank.merge(head, files={"targets/ledger/backdoor.yaml": b"{}"})
    assert "stale_effect" in estate.codes(bank.judge(evil))
    bank.approve(evil, *estate.SRE)
    decision = bank.judge(evil)
    assert (decision.verdict, "ack_manual_merge" in estate.codes(decision), decision.auto_merge) == (HOLD, True, False)
    bank.approve(evil, *estate.SRE, ack_manual_merge=True)
    assert bank.judge(evil).verdict is ACCEPT


def test_c26_one_approval_without_the_acknowledgement_does_not_count(bank: estate.Estate) -> None:
    evil = bank.merge(bank.branch(LEDGER), files={"targets/ledger/more.yaml": b"{}"})
    bank.approve(evil, "bob", ack_manual_merge=True)
    bank.approve(evil, "grace")
    assert estate.codes(bank.judge(evil)) == {"threshold", "ack_manual_merge"}


def test_c27_a_merge_that_drops_the_branch_carries_no_approval_of_it(bank: estate.Estate) -> None:
    head = bank.branch(LEDGER)
    bank.approve(bank.merge(head), *estate.SRE)
    ours = bank.merge(head, tree=bank.store.tree_id(bank.tip))
    decision = bank.judge(ours)
    assert (decision.verdict, "stale_effect" in estate.codes(decision)) == (HOLD, True)


def test_a_merge_by_git_of_lines_on_both_sides_is_manual_unless_git_made_it(bank: estate.Estate) -> None:
    """The store in memory merges no lines, so any tree is a manual one here."""
    head = bank.branch(LEDGER)
    bank.change({"targets/ledger/resources.yaml": estate.resources(3)})
    mixed = bank.store.make_commit({"targets/ledger/resources.yaml": estate.resources(4)}, bank.tip)
    merge = bank.merge(head, tree=bank.store.tree_id(mixed))
    bank.approve(merge, *estate.SRE)
    assert "ack_manual_merge" in estate.codes(bank.judge(merge))


def test_c28_an_octopus(bank: estate.Estate) -> None:
    heads = [bank.branch(LEDGER), bank.branch(SANDBOX)]
    octopus = bank.store.make_commit({}, bank.tip, *heads, author=objects.FORGE, key=estate.key("forge"))
    assert (bank.judge(octopus).verdict, estate.codes(bank.judge(octopus))) == (REJECT, {"parents"})


def test_c29_a_foxtrot_halts(bank: estate.Estate) -> None:
    head = bank.branch(LEDGER)
    accepted = bank.change(SANDBOX, approvers=["bob"])
    foxtrot = bank.store.make_merge(head, accepted, estate.key("alice"))
    (decision,) = walk(bank, foxtrot, after=accepted)
    assert (decision.verdict, estate.codes(decision)) == (HALT, {"first_parent_broken"})


def test_c30_a_fast_forward_to_an_approved_branch(bank: estate.Estate) -> None:
    head = bank.branch(LEDGER)
    bank.approve(bank.merge(head), *estate.SRE)
    (decision,) = walk(bank, head)
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {"direct_commit"})


def test_c31_a_direct_commit_blocks_what_follows(bank: estate.Estate) -> None:
    bank.push(bank.branch(PAYMENTS))
    good = bank.change(LEDGER)
    direct, blocked = walk(bank)
    assert (direct.verdict, estate.codes(direct)) == (REJECT, {"direct_commit"})
    assert (blocked.revision, blocked.verdict, "blocked" in estate.codes(blocked)) == (good, HOLD, True)
    assert blocked.skipped == (direct.revision,)


@pytest.mark.parametrize("code", ["rewind", "non_descendant"])
def test_c32_c33_a_forced_branch_halts(bank: estate.Estate, code: str) -> None:
    accepted = bank.change(LEDGER)
    sibling = bank.merge(bank.branch(SANDBOX, on=bank.genesis), base=bank.genesis)
    (decision,) = walk(bank, bank.genesis if code == "rewind" else sibling, after=accepted)
    assert (decision.verdict, estate.codes(decision)) == (HALT, {code})


def test_c37_a_head_that_was_merged_cannot_be_merged_again(bank: estate.Estate) -> None:
    head = bank.branch(LEDGER)
    first = bank.merge(head)
    bank.approve(first, *estate.SRE)
    bank.push(first)
    bank.change({"targets/ledger/resources.yaml": estate.resources(1)})
    again = bank.merge(head, tree=bank.store.tree_id(first))
    decision = bank.judge(again)
    assert (decision.verdict, "nothing_merged" in estate.codes(decision)) == (REJECT, True)
    fresh = bank.merge(bank.branch(LEDGER))
    assert "no_approval" in estate.codes(bank.judge(fresh))
    bank.approve(fresh, *estate.SRE, binding=bank.binding(first))
    assert "stale_head" in estate.codes(bank.judge(fresh))


def test_two_merge_bases_are_refused(bank: estate.Estate) -> None:
    one, other = bank.branch(LEDGER), bank.branch(SANDBOX)
    left = bank.store.make_merge(one, other, estate.key("alice"))
    right = bank.store.make_merge(other, one, estate.key("alice"))
    merge = bank.store.make_commit({}, left, right, author=objects.FORGE, key=estate.key("forge"))
    decision = bank.judge(merge)
    assert (decision.verdict, "merge_base" in estate.codes(decision)) == (REJECT, True)


def test_c86_two_approved_policies_that_were_never_seen_together(bank: estate.Estate) -> None:
    heads = [bank.branch({f"policies/{name}.rego": b"package x"}) for name in ("a", "b")]
    merges = [bank.merge(head) for head in heads]
    for merge in merges:
        bank.approve(merge, "bob", *estate.ADMINS)
    bank.push(merges[0])
    assert bank.judge(merges[0]).verdict is ACCEPT
    second = bank.merge(heads[1])
    assert "stale_effect" in estate.codes(bank.judge(second))


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


def test_a_recovery_needs_its_own_slots(bank: estate.Estate) -> None:
    direct = blocked_by(bank, PAYMENTS)
    recover(bank, LEDGER, (direct,), *estate.SRE)
    decision = walk(bank)[-1]
    assert (decision.verdict, estate.codes(decision)) == (HOLD, {"blocked", "threshold"})


def test_an_approval_that_does_not_name_what_is_skipped_recovers_nothing(bank: estate.Estate) -> None:
    direct = blocked_by(bank, PAYMENTS)
    recover(bank, LEDGER, (direct,), *RECOVERERS, skips=False)
    assert {"blocked", "stale_effect"} <= estate.codes(walk(bank)[-1])


def test_c79_approved_for_its_own_branch_only(bank: estate.Estate) -> None:
    blocked_by(bank, PAYMENTS, signer="")
    bank.change({**PAYMENTS, "targets/payments/again.yaml": b"{}"}, "heidi")
    decision = walk(bank)[-1]
    assert (decision.verdict, {"blocked", "stale_effect"} <= estate.codes(decision)) == (HOLD, True)


def test_c79_content_that_nobody_signed_is_committed_again_or_goes(bank: estate.Estate) -> None:
    direct = blocked_by(bank, PAYMENTS, signer="")
    recover(bank, LEDGER, (direct,), *RECOVERERS)
    kept = walk(bank)[-1]
    assert (kept.verdict, "unsigned_commit" in estate.codes(kept)) == (REJECT, True)


@pytest.mark.parametrize("value", [1, 3])
def test_c79_content_that_was_taken_back_or_set_by_a_signed_commit_goes_in(bank: estate.Estate, value: int) -> None:
    direct = blocked_by(bank, PAYMENTS, signer="")
    mended = {**LEDGER, "targets/payments/resources.yaml": estate.resources(value)}
    recover(bank, mended, (direct,), *RECOVERERS)
    decision = walk(bank)[-1]
    assert decision.verdict is ACCEPT, decision.reasons


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


@pytest.mark.parametrize(
    "beside", [{"README": b"x"}, {"targets/ledger/more.yaml": b"{}"}, {"targets/payments/more.yaml": b"{}"}]
)
def test_c70_c83_anything_beside_takes_the_normal_thresholds(bank: estate.Estate, beside: dict[str, bytes]) -> None:
    bank.change(LEDGER)
    back = bank.change({"targets/ledger/resources.yaml": estate.resources(1), **beside}, approvers=["bob"])
    assert estate.codes(bank.judge(back, **known_past(bank, "ledger", days=1))) == {"threshold"}


def test_c83_a_diff_that_touches_no_target_is_no_rollback(bank: estate.Estate) -> None:
    merge = bank.change({"README": b"x"}, approvers=[])
    decision = bank.judge(merge, **known_past(bank, "ledger", days=1))
    assert [rule.id for rule in decision.rules] == ["base"]


def test_c81_an_acknowledgement_needs_the_slot_of_its_hazard(bank: estate.Estate) -> None:
    entry = {"hazard": "deletes_data", "key": "item/n/one", "reason": "CHG1"}
    merge = bank.change(estate.target("ledger", acknowledge=[entry]))
    assert estate.codes(bank.judge(merge)) == {"threshold"}
    bank.approve(merge, "carol")
    assert bank.judge(merge).verdict is ACCEPT
    bank.push(merge)
    later = bank.change(LEDGER)
    assert bank.judge(later).verdict is ACCEPT, "what stood there before is not added"


# --- before the merge ---


def test_c82_a_head_is_judged_as_its_merge_will_be(bank: estate.Estate) -> None:
    for files, people in ((LEDGER, estate.SRE), (LEDGER, ("bob",)), ({"x/.git/config": b""}, estate.SRE)):
        head = bank.branch(files)
        merge = bank.merge(head)
        bank.approve(merge, *people)
        before = judging.examine_head(bank.store, head, bank.known(bank.tip), terms=bank.terms, now=estate.NOW)
        after = bank.judge(merge)
        assert (before.decision.verdict, estate.codes(before.decision)) == (after.verdict, estate.codes(after))
        assert before.decision.effect == after.effect


def test_what_a_statement_binds_is_known_before_the_merge(bank: estate.Estate) -> None:
    head = bank.branch(LEDGER)
    judged = judging.examine_head(bank.store, head, bank.known(bank.tip), terms=bank.terms, now=estate.NOW)
    assert judged.binding == bank.binding(bank.merge(head))
    assert [(slot.slot, slot.missing, slot.may) for slot in judged.open] == [
        ("2 of sre (A2)", 2, ("bob", "grace", "heidi"))
    ]
    assert not judged.manual


def test_c80_a_head_with_an_unsigned_commit_is_not_parsed(bank: estate.Estate) -> None:
    head = bank.branch({"targets/ledger/target.yaml": b"&a [*a]"}, signer="")
    judged = judging.examine_head(bank.store, head, bank.known(bank.tip), terms=bank.terms, now=estate.NOW)
    assert estate.codes(judged.decision) == {"unsigned_commit"}
    assert judged.effect is None


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
