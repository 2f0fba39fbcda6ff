"""A watched branch that was rewritten, pushed to past the rules, or made to go on from what nobody accepted."""

from __future__ import annotations

from datetime import timedelta

from support import estate, signing
from support.catalogue import HALT, HOLD, LEDGER, NOBODY, PAYMENTS, REJECT, SANDBOX, Offer, Offers, Table

from reconciler import documents
from reconciler.audit import state

case = Table()
RECOVERERS = ("bob", "grace", *estate.ADMINS)


@case("C29", HALT, "first_parent_broken", before_merge=False)
def a_foxtrot(bank: estate.Estate) -> Offers:
    """The accepted merge comes in through a second parent; the branch itself would have been fine."""
    head = bank.branch(LEDGER)
    accepted = bank.change(SANDBOX, approvers=["bob"])
    yield Offer(bank, bank.store.make_merge(head, accepted, estate.key("alice")), after=accepted)
    merge = bank.merge(head)
    bank.approve(merge, *estate.SRE)
    yield Offer(bank, merge, after=accepted)


@case("C31", REJECT, "direct_commit", before_merge=False)
def a_direct_signed_commit(bank: estate.Estate) -> Offers:
    yield Offer(bank, bank.branch(PAYMENTS))
    yield Offer(bank, bank.change(LEDGER))


@case("C31", HOLD, "blocked", "stale_effect", *NOBODY, before_merge=False)
def a_good_merge_on_top_of_a_direct_commit(bank: estate.Estate) -> Offers:
    bank.push(bank.branch(PAYMENTS))
    yield Offer(bank, bank.change(LEDGER), after=bank.genesis)
    bank.push(bank.genesis)
    yield Offer(bank, bank.change(LEDGER), after=bank.genesis)


@case("C32", HALT, "rewind", before_merge=False)
def a_branch_forced_back(bank: estate.Estate) -> Offers:
    accepted = bank.change(LEDGER)
    yield Offer(bank, bank.genesis, after=accepted)
    yield Offer(bank, bank.change(PAYMENTS), after=accepted)


@case("C33", HALT, "non_descendant", before_merge=False)
def a_branch_forced_sideways(bank: estate.Estate) -> Offers:
    sibling = bank.merge(bank.branch(PAYMENTS))
    bank.approve(sibling, *estate.SRE)
    accepted = bank.change(LEDGER)
    yield Offer(bank, sibling, after=accepted)
    yield Offer(bank, sibling, after=bank.genesis)


@case("C41", HALT, "rewind", before_merge=False)
def an_old_policy_returns_by_force(bank: estate.Estate) -> Offers:
    stricter = bank.change_policy(_stricter())
    yield Offer(bank, bank.genesis, after=stricter)
    yield Offer(bank, bank.change_policy(estate.policy_spec()), after=stricter)


@case("C41", HOLD, "threshold")
def an_old_policy_returns_by_a_merge(bank: estate.Estate) -> Offers:
    bank.change_policy(_stricter())
    back = bank.change_policy(estate.policy_spec(), approvers=["bob"])
    yield Offer(bank, back)
    bank.approve(back, *estate.ADMINS)
    yield Offer(bank, back)


def _stricter() -> estate.Spec:
    spec = estate.policy_spec()
    spec["rules"][1]["need"] = [estate.need("sre", 3)]
    return spec


@case("C70", HOLD, "threshold", over=("one byte", "too late", "never confirmed"))
def a_return_that_is_none(bank: estate.Estate, wrong: str) -> Offers:
    bank.change(LEDGER)
    back: dict[str, bytes] = {"targets/ledger/resources.yaml": estate.resources(1)}
    byte = {"targets/ledger/resources.yaml": estate.resources(1) + b"\n"} if wrong == "one byte" else back
    merge = bank.merge(bank.branch(byte))
    bank.approve(merge, "bob")
    past = {"one byte": 1, "too late": 15, "never confirmed": None}[wrong]
    yield Offer(bank, merge, known=_left(bank, past))
    honest = bank.merge(bank.branch(back))
    bank.approve(honest, "bob")
    yield Offer(bank, honest, known=_left(bank, 13))


@case("C83", HOLD, "threshold", over=("README", "targets/ledger/more.yaml", "targets/payments/more.yaml"))
def a_return_with_a_path_beside_it(bank: estate.Estate, beside: str) -> Offers:
    bank.change(LEDGER)
    back = {"targets/ledger/resources.yaml": estate.resources(1)}
    for files in ({**back, beside: b"{}"}, back):
        merge = bank.merge(bank.branch(files))
        bank.approve(merge, "bob")
        yield Offer(bank, merge, known=_left(bank, 1))


@case("C83", HOLD, *NOBODY)
def a_return_that_touches_no_target(bank: estate.Estate) -> Offers:
    merge = bank.change({"README": b"x"}, approvers=[])
    yield Offer(bank, merge, known=_left(bank, 1))
    bank.approve(merge, "bob")
    yield Offer(bank, merge, known=_left(bank, 1))


def _left(bank: estate.Estate, days: int | None) -> estate.Known:
    """The state of genesis was the ledger's confirmed one, and was left so many days ago."""
    digest = documents.target_digest(bank.store.tree(bank.genesis), "ledger")
    assert digest
    past = {} if days is None else {digest: estate.NOW - timedelta(days=days)}
    return {"targets": {"ledger": state.Target(name="ledger", past=past)}}


# --- recovery merges (5.2) ---


@case("C79", HOLD, "blocked", "stale_effect", "unsigned_commit", *NOBODY, before_merge=False)
def a_recovery_approved_for_its_own_branch_only(bank: estate.Estate) -> Offers:
    bank.push(bank.branch(PAYMENTS, signer=""))
    yield Offer(bank, bank.change({**PAYMENTS, "targets/payments/again.yaml": b"{}"}, "heidi"), after=bank.genesis)
    yield _recovered(estate.Estate(estate.targets()), {**PAYMENTS, "targets/payments/again.yaml": b"{}"}, signer="")


@case("C79", REJECT, "blocked", "unsigned_commit", before_merge=False)
def a_recovery_that_keeps_what_nobody_signed(bank: estate.Estate) -> Offers:
    yield _recovered(bank, LEDGER, signer="")
    yield _recovered(estate.Estate(estate.targets()), LEDGER, signer="alice")


@case("C79", HOLD, "blocked", "threshold", before_merge=False)
def a_recovery_without_its_own_slots(bank: estate.Estate) -> Offers:
    yield _recovered(bank, LEDGER, signer="alice", people=estate.SRE)
    yield _recovered(estate.Estate(estate.targets()), LEDGER, signer="alice")


@case("C79", HOLD, "blocked", "stale_effect", *NOBODY, before_merge=False)
def a_recovery_that_does_not_say_what_it_skips(bank: estate.Estate) -> Offers:
    yield _recovered(bank, LEDGER, signer="alice", skips=False)
    taken_back = {**LEDGER, "targets/payments/resources.yaml": estate.resources(1)}
    yield _recovered(estate.Estate(estate.targets()), taken_back, signer="")


def _recovered(
    bank: estate.Estate,
    files: dict[str, bytes],
    *,
    signer: str,
    people: tuple[str, ...] = RECOVERERS,
    skips: bool = True,
) -> Offer:
    """Somebody pushed a commit straight onto the branch; a merge on top of it is approved as one change from genesis."""
    direct = bank.push(bank.branch(PAYMENTS, signer=signer))
    again = {path: blob for path, blob in files.items() if path not in PAYMENTS}
    head = bank.branch(again or files, "heidi")
    if "targets/payments/resources.yaml" in files:  # Set again, by somebody who signs.
        other = bank.branch({"targets/payments/resources.yaml": estate.resources(9)}, "heidi", on=head)
        head = bank.branch({path: files[path] for path in PAYMENTS}, "heidi", on=other)
    merge = bank.merge(head)
    bound = bank.binding(merge, base=bank.genesis, skips=(direct,) if skips else ())
    bank.approve(merge, *people, binding=bound)
    return Offer(bank, bank.push(merge), after=bank.genesis)


@case("C85", HOLD, *NOBODY)
def approvals_from_before_a_reset(bank: estate.Estate) -> Offers:
    merge = bank.change(SANDBOX, approvers=["bob"])
    yield Offer(bank, merge, known={"reset": signing.ISSUED_AT + timedelta(minutes=1)})
    yield Offer(bank, merge, known={"reset": signing.ISSUED_AT - timedelta(minutes=1)})
