"""A branch that took in the watched one keeps its approvals, and nothing else does.

The honest twin of each is the "update branch" click alone: another head, the same change.
"""

from __future__ import annotations

from support import estate, signing
from support.catalogue import HOLD, LEDGER, NOBODY, PAYMENTS, SANDBOX, Offer, Offers, Table

from reconciler import model
from reconciler.admission import statement

case = Table()
MORE = {"targets/ledger/more.yaml": b"{}"}


def _approved(bank: estate.Estate, *people: str) -> model.Oid:
    """An approved head, and an unrelated merge that came after it."""
    head = bank.branch(LEDGER)
    bank.approve(bank.merge(head), *people)
    bank.change(PAYMENTS)
    return head


def _update(
    bank: estate.Estate, head: model.Oid, *, taken: model.Oid | None = None, signer: str = "forge"
) -> model.Oid:
    return bank.merge(taken or bank.tip, base=head, signer=signer)


@case("C23", HOLD, *NOBODY)
def a_commit_more_lies_on_the_update(bank: estate.Estate) -> Offers:
    updated = _update(bank, _approved(bank, *estate.SRE))
    yield Offer(bank, bank.merge(bank.branch(MORE, on=updated)))
    yield Offer(bank, bank.merge(updated))


@case("C23", HOLD, *NOBODY)
def a_commit_that_changes_nothing_lies_on_the_update(bank: estate.Estate) -> Offers:
    updated = _update(bank, _approved(bank, *estate.SRE))
    yield Offer(bank, bank.merge(bank.branch({}, on=updated)))
    bank.change(SANDBOX, approvers=["bob"])
    yield Offer(bank, bank.merge(_update(bank, updated)))


@case("C23", HOLD, *NOBODY)
def the_update_took_in_what_nobody_accepted(bank: estate.Estate) -> Offers:
    """Its content is gone again, so the effect is the one that was approved; what came along was never seen."""
    head = _approved(bank, *estate.SRE)
    foreign = bank.branch({"targets/ledger/resources.yaml": estate.resources(1)}, on=bank.branch(LEDGER, "carol"))
    yield Offer(bank, bank.merge(_update(bank, head, taken=foreign)))
    yield Offer(bank, bank.merge(_update(bank, head)))


@case("C26", HOLD, *NOBODY)
def the_update_carries_a_file_of_its_own(bank: estate.Estate) -> Offers:
    head = _approved(bank, *estate.SRE)
    yield Offer(bank, bank.merge(bank.merge(bank.tip, base=head, files=MORE)))
    yield Offer(bank, bank.merge(_update(bank, head)))


@case("C25", HOLD, "stale_effect", *NOBODY)
def what_the_update_took_in_moved_the_same_target(bank: estate.Estate) -> Offers:
    head = _approved(bank, *estate.SRE)
    bank.change(MORE)
    late = bank.merge(_update(bank, head))
    yield Offer(bank, late)
    bank.approve(late, *estate.SRE)
    yield Offer(bank, late)


@case("C2", HOLD, "author_in_range", "threshold")
def an_approver_made_the_update_with_a_key_of_their_own(bank: estate.Estate) -> Offers:
    head = _approved(bank, *estate.SRE)
    yield Offer(bank, bank.merge(_update(bank, head, signer=estate.SRE[0])))
    yield Offer(bank, bank.merge(_update(bank, head)))


@case("C45", HOLD, "rejected")
def a_rejection_from_before_the_update_still_stands(bank: estate.Estate) -> Offers:
    head = _approved(bank, *estate.SRE)
    no = bank.approve(bank.merge(head), "heidi", decision="reject")[0]
    late = bank.merge(_update(bank, head))
    yield Offer(bank, late)
    opened = statement.open_envelope(no, namespace=signing.NAMESPACE)
    assert isinstance(opened, statement.Statement)
    bank.approve(late, "heidi", decision="revoke", revokes=opened.digest)
    yield Offer(bank, late)


@case("C45", HOLD, "approval_revoked", "threshold")
def what_was_signed_before_the_update_is_taken_back_after_it(bank: estate.Estate) -> Offers:
    head = bank.branch(LEDGER)
    merge = bank.merge(head)
    bank.approve(merge, *estate.SRE)
    payload = statement.make_payload(signing.claim(estate.SRE[0], bank.binding(merge)))
    bank.change(PAYMENTS)
    late = bank.merge(_update(bank, head))
    bank.approve(late, estate.SRE[0], decision="revoke", revokes=model.sha256(payload))
    yield Offer(bank, late)
    bank.approve(late, "heidi")
    yield Offer(bank, late)


@case("C68", HOLD, "emergency_scope", *NOBODY)
def the_glass_was_broken_for_the_head_before(_: estate.Estate) -> Offers:
    """An emergency is for one commit and for hours: who updates the branch says it again."""
    bank = estate.Estate(estate.targets(), spec=estate.emergency_spec())
    head = bank.branch(LEDGER)
    bank.approve(bank.merge(head), "bob", **estate.breaking())
    bank.change(PAYMENTS)
    late = bank.merge(_update(bank, head))
    yield Offer(bank, late)
    bank.approve(late, "bob", **estate.breaking())
    yield Offer(bank, late)
