"""What a merge may be a merge of, and what an approval of its head says about it."""

from __future__ import annotations

from support import estate, objects
from support.catalogue import HOLD, LEDGER, NOBODY, PAYMENTS, REJECT, SANDBOX, Offer, Offers, Table

from reconciler import model

case = Table()
POLICY_PEOPLE = ("bob", *estate.ADMINS)


@case("C23", HOLD, *NOBODY)
def an_amended_branch_has_no_approval(bank: estate.Estate) -> Offers:
    bank.approve(bank.merge(bank.branch(LEDGER)), *estate.SRE)
    merge = bank.merge(bank.store.make_commit(LEDGER, bank.tip, key=estate.key("alice"), message="amended\n"))
    yield Offer(bank, merge)
    bank.approve(merge, *estate.SRE)
    yield Offer(bank, merge)


@case("C23", HOLD, "stale_head", *NOBODY)
def approvals_are_copied_under_the_name_of_an_amended_branch(bank: estate.Estate) -> Offers:
    old = bank.merge(bank.branch(LEDGER))
    bank.approve(old, *estate.SRE)
    merge = bank.merge(bank.store.make_commit(LEDGER, bank.tip, key=estate.key("alice"), message="amended\n"))
    bank.approve(merge, *estate.SRE, binding=bank.binding(old))
    yield Offer(bank, merge)
    bank.approve(merge, *estate.SRE)
    yield Offer(bank, merge)


@case("C24", HOLD, *NOBODY)
def a_branch_is_forced_away_and_back(bank: estate.Estate) -> Offers:
    """What was approved is one commit, whatever the branch was in between: the exact id decides."""
    first, second = bank.branch(SANDBOX), bank.branch({"targets/sandbox/resources.yaml": estate.resources(3)})
    bank.approve(bank.merge(first), "bob")
    yield Offer(bank, bank.merge(second))
    yield Offer(bank, bank.merge(first))


@case("C25", HOLD, "stale_effect", *NOBODY)
def another_merge_moved_the_same_target_meanwhile(bank: estate.Estate) -> Offers:
    head = bank.branch(LEDGER)
    bank.approve(bank.merge(head), *estate.SRE)
    bank.change({"targets/ledger/more.yaml": b"{}"})
    late = bank.merge(head)
    yield Offer(bank, late)
    bank.approve(late, *estate.SRE)
    yield Offer(bank, late)


@case("C25", HOLD, "stale_effect", *NOBODY, before_merge=False)
def another_merge_moved_the_same_path_meanwhile(bank: estate.Estate) -> Offers:
    """And its honest twin: merges of other targets leave the approvals as good as they were."""
    stale = bank.branch({"README": b"one"})
    bank.approve(bank.merge(stale), "bob")
    head = bank.branch(LEDGER)
    bank.approve(bank.merge(head), *estate.SRE)
    bank.change({"README": b"two"}, approvers=["bob"])
    yield Offer(bank, bank.merge(stale, tree=bank.store.tree_id(stale)))
    bank.change(PAYMENTS)
    bank.change(SANDBOX, approvers=["bob"])
    yield Offer(bank, bank.merge(head))


@case("C26", HOLD, "stale_effect", *NOBODY, before_merge=False)
def an_evil_merge_with_a_file_of_its_own(bank: estate.Estate) -> Offers:
    head = bank.branch(LEDGER)
    honest = bank.merge(head)
    bank.approve(honest, *estate.SRE)
    yield Offer(bank, bank.merge(head, files={"targets/ledger/backdoor.yaml": b"{}"}))
    yield Offer(bank, honest)


@case("C26", HOLD, "ack_manual_merge", *NOBODY, before_merge=False)
def an_evil_merge_that_was_approved_unread(bank: estate.Estate) -> Offers:
    evil = bank.merge(bank.branch(LEDGER), files={"targets/ledger/more.yaml": b"{}"})
    bank.approve(evil, *estate.SRE)
    yield Offer(bank, evil)
    bank.approve(evil, *estate.SRE, ack_manual_merge=True)
    yield Offer(bank, evil)


@case("C26", HOLD, "ack_manual_merge", "threshold", before_merge=False)
def an_evil_merge_that_one_of_two_has_read(bank: estate.Estate) -> Offers:
    evil = bank.merge(bank.branch(LEDGER), files={"targets/ledger/more.yaml": b"{}"})
    bank.approve(evil, "bob", ack_manual_merge=True)
    bank.approve(evil, "grace")
    yield Offer(bank, evil)
    bank.approve(evil, "heidi", ack_manual_merge=True)
    yield Offer(bank, evil)


@case("C27", HOLD, "stale_effect", *NOBODY, before_merge=False)
def a_merge_that_drops_the_branch_carries_its_approvals(bank: estate.Estate) -> Offers:
    head = bank.branch(SANDBOX)
    honest = bank.merge(head)
    bank.approve(honest, *estate.SRE)
    yield Offer(bank, bank.merge(head, tree=bank.store.tree_id(bank.tip)))
    yield Offer(bank, honest)


@case("C28", REJECT, "parents", before_merge=False)
def an_octopus(bank: estate.Estate) -> Offers:
    heads = [bank.branch(LEDGER), bank.branch(SANDBOX)]
    octopus = bank.store.make_commit({}, bank.tip, *heads, author=objects.FORGE, key=estate.key("forge"))
    bank.approve(octopus, *estate.SRE)
    yield Offer(bank, octopus)
    merge = bank.merge(heads[0])
    bank.approve(merge, *estate.SRE)
    yield Offer(bank, merge)


@case("C30", REJECT, "direct_commit", before_merge=False)
def a_fast_forward_to_an_approved_branch(bank: estate.Estate) -> Offers:
    head = bank.branch(LEDGER)
    merge = bank.merge(head)
    bank.approve(merge, *estate.SRE)
    yield Offer(bank, head)
    yield Offer(bank, merge)


@case("C37", REJECT, "nothing_merged")
def a_head_that_was_merged_and_reverted_is_merged_again(bank: estate.Estate) -> Offers:
    first, again = _reverted(bank)
    yield Offer(bank, again)
    bank.approve(again, *estate.SRE)
    yield Offer(bank, again)
    fresh = bank.merge(bank.branch(LEDGER))
    bank.approve(fresh, *estate.SRE)
    assert bank.store.tree_id(fresh) == bank.store.tree_id(first)
    yield Offer(bank, fresh)


@case("C37", HOLD, *NOBODY)
def the_same_content_under_a_new_head(bank: estate.Estate) -> Offers:
    _reverted(bank)
    fresh = bank.merge(bank.branch(LEDGER))
    yield Offer(bank, fresh)
    bank.approve(fresh, *estate.SRE)
    yield Offer(bank, fresh)


@case("C37", HOLD, "stale_head", *NOBODY)
def the_same_content_with_the_old_approvals_under_a_new_name(bank: estate.Estate) -> Offers:
    first, _ = _reverted(bank)
    fresh = bank.merge(bank.branch(LEDGER))
    bank.approve(fresh, *estate.SRE, binding=bank.binding(first))
    yield Offer(bank, fresh)
    bank.approve(fresh, *estate.SRE)
    yield Offer(bank, fresh)


def _reverted(bank: estate.Estate) -> tuple[model.Oid, model.Oid]:
    """A merge that was accepted and taken back, and a second merge of its head with the same tree."""
    head = bank.branch(LEDGER)
    first = bank.merge(head)
    bank.approve(first, *estate.SRE)
    bank.push(first)
    bank.change({"targets/ledger/resources.yaml": estate.resources(1)})
    return first, bank.merge(head, tree=bank.store.tree_id(first))


@case("C86", HOLD, "stale_effect", *NOBODY)
def two_approved_policies_that_were_never_seen_together(bank: estate.Estate) -> Offers:
    heads = [bank.branch({f"policies/{name}.rego": b"package x"}) for name in ("a", "b")]
    merges = [bank.merge(head) for head in heads]
    for merge in merges:
        bank.approve(merge, *POLICY_PEOPLE)
    bank.push(merges[0])
    second = bank.merge(heads[1])
    yield Offer(bank, second)
    bank.approve(second, *POLICY_PEOPLE)
    yield Offer(bank, second)
