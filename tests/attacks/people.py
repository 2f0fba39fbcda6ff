"""Who may not approve, sign or merge, whatever stands in the text of a commit."""

from __future__ import annotations

from datetime import UTC, datetime

from support import estate, other_keys, signing
from support.catalogue import HOLD, LEDGER, NOBODY, REJECT, SANDBOX, Offer, Offers, Table, with_people

from reconciler import model

case = Table()


@case("C1", HOLD, "self_approval", *NOBODY)
def an_author_approves_their_own_change(bank: estate.Estate) -> Offers:
    yield Offer(bank, bank.change(SANDBOX, approvers=["alice"]))
    yield Offer(bank, bank.change(SANDBOX, approvers=["bob"]))


@case("C2", HOLD, "author_in_range", "self_approval", *NOBODY)
def alice_commits_under_bobs_name_and_both_approve(bank: estate.Estate) -> Offers:
    merge = bank.merge(bank.branch(SANDBOX, "bob", signer="alice"))
    bank.approve(merge, "alice", "bob")
    yield Offer(bank, merge)
    bank.approve(merge, "grace")
    yield Offer(bank, merge)


@case("C3", HOLD, "author_in_range", *NOBODY)
def one_commit_is_slipped_into_anothers_branch(bank: estate.Estate) -> Offers:
    first = bank.branch(SANDBOX, "bob")
    merge = bank.merge(bank.branch({"targets/sandbox/more.yaml": b"{}"}, "grace", on=first))
    bank.approve(merge, "grace")
    yield Offer(bank, merge)
    bank.approve(merge, "alice")
    yield Offer(bank, merge)


@case("C4", HOLD, *NOBODY)
def trailers_say_who_approved(bank: estate.Estate) -> Offers:
    text = "x\n\nApproved-by: Bob <bob@bank.example>\nReviewed-by: Grace <grace@bank.example>\n"
    merge = bank.merge(bank.store.make_commit(LEDGER, bank.tip, key=estate.key("alice"), message=text))
    yield Offer(bank, merge)
    bank.approve(merge, *estate.SRE)
    yield Offer(bank, merge)


@case("C5", HOLD, "key_revoked", *NOBODY)
def the_key_was_revoked_before_the_approval_was_seen(_: estate.Estate) -> Offers:
    bank = with_people(bob=estate.person("bob", estate.key_document("bob", revoked="2026-11-24T11:00:00Z")))
    merge = bank.change(SANDBOX, approvers=[])
    (envelope,) = bank.approve(merge, "bob")
    yield Offer(bank, merge)
    seen = {f"sha256:{model.sha256(envelope)}": datetime(2026, 11, 24, 10, tzinfo=UTC)}
    yield Offer(bank, merge, known={"seen": seen})


@case("C6", HOLD, "key_expired", *NOBODY)
def an_ended_key_approves_backdated(_: estate.Estate) -> Offers:
    bank = with_people(bob=estate.person("bob", estate.key_document("bob", notAfter="2026-11-24T11:00:00Z")))
    merge = bank.change(SANDBOX, approvers=[])
    bank.approve(merge, "bob", issued_at=datetime(2026, 11, 24, 1, tzinfo=UTC))
    yield Offer(bank, merge)
    bank.approve(merge, "grace")
    yield Offer(bank, merge)


@case("C16", REJECT, "role", before_merge=False)
def a_merge_by_a_person_who_may_not_merge(_: estate.Estate) -> Offers:
    bank = with_people(heidi=estate.person("heidi", estate.key_document("heidi", ["commit"])))
    yield Offer(bank, bank.change(LEDGER, signer="heidi"))
    bank = with_people()
    yield Offer(bank, bank.change(LEDGER, signer="heidi"))


@case("C18", HOLD, *NOBODY)
def a_robot_merges_what_nobody_approved(bank: estate.Estate) -> Offers:
    yield Offer(bank, bank.change(LEDGER, approvers=[]))
    yield Offer(bank, bank.change({"targets/ledger/more.yaml": b"{}"}))


@case("C19", HOLD, "robot_not_approver", *NOBODY)
def a_robot_approves(bank: estate.Estate) -> Offers:
    merge = bank.change(SANDBOX, approvers=["forge"])
    yield Offer(bank, merge)
    bank.approve(merge, "bob")
    yield Offer(bank, merge)


@case("C20", HOLD, "threshold")
def one_person_approves_with_two_keys(_: estate.Estate) -> Offers:
    bank = with_people(bob=estate.person("bob", estate.key_document("bob"), estate.key_document("bob-2")))
    merge = bank.change(LEDGER, approvers=["bob"])
    bank.approve(merge, "bob", with_key="bob-2")
    yield Offer(bank, merge)
    bank.approve(merge, "heidi")
    yield Offer(bank, merge)


@case("C22", HOLD, "distinct_persons")
def one_person_fills_the_slots_of_two_teams(_: estate.Estate) -> Offers:
    spec = estate.policy_spec()
    spec["teams"]["security"] = ["bob", "carol", "erin"]
    bank = estate.Estate(estate.targets(), spec=spec)
    merge = bank.change({"targets/edge/firewall.yaml": b"{}"}, approvers=["bob"])
    yield Offer(bank, merge)
    bank.approve(merge, "carol")
    yield Offer(bank, merge)


@case("C39", HOLD, "key_unknown", "threshold")
def a_change_is_approved_with_the_key_that_it_adds(bank: estate.Estate) -> Offers:
    merge = bank.change_policy(_with_mallory(), approvers=["dan", "bob"])
    bank.approve(merge, "mallory")
    yield Offer(bank, merge)
    bank.approve(merge, "frank")
    yield Offer(bank, merge)


@case("C39", REJECT, "sig_key_unknown", "unknown_identity")
def a_change_is_signed_with_the_key_that_it_adds(bank: estate.Estate) -> Offers:
    files = {estate.POLICY_PATH: estate.policy_blob(_with_mallory())}
    for author in ("mallory", "alice"):
        merge = bank.merge(bank.branch(files, author))
        bank.approve(merge, "bob", *estate.ADMINS)
        yield Offer(bank, merge)


def _with_mallory() -> estate.Spec:
    spec = estate.changed(estate.policy_spec(), mallory=estate.person("mallory"))
    spec["teams"]["policy-admins"] = ["dan", "erin", "frank", "mallory"]
    return spec


@case("C43", HOLD, "envelope_invalid", *NOBODY)
def a_row_of_the_forge_is_passed_off_as_an_approval(bank: estate.Estate) -> Offers:
    """Nothing of a forge is read in this version; what claims a level of its own is no statement."""
    merge = bank.change(SANDBOX, approvers=[])
    payload = signing.document("bob", bank.binding(merge))
    payload["predicate"]["level"] = "A1"
    bank.store.add_envelope(bank.store.parents(merge)[1], signing.seal_document(estate.key("bob"), payload))
    yield Offer(bank, merge)
    bank.approve(merge, "bob")
    yield Offer(bank, merge)


@case("C76", HOLD, "no_user_presence", *NOBODY)
def a_hardware_key_that_was_not_touched(_: estate.Estate) -> Offers:
    """A software key under `userPresence` is as one that was not touched; the linter refuses such a policy."""
    bank = with_people(bob=estate.person("bob", estate.key_document("bob", userPresence=True)))
    merge = bank.change(SANDBOX, approvers=["bob"])
    yield Offer(bank, merge)
    bank.approve(merge, "grace")
    yield Offer(bank, merge)


@case("C76", HOLD, "no_user_presence", *NOBODY)
def a_real_hardware_key_that_signs_without_a_touch(_: estate.Estate) -> Offers:
    """The same key, by the same person: only the flag in what it signs is another."""
    asleep, touched = (other_keys.Token("bob", touched=each) for each in (False, True))
    listed = {"id": asleep.key_id, "type": other_keys.TYPE, "public": asleep.public_line.split(" ")[1]}
    bank = with_people(bob=estate.person("bob", estate.key_document("bob", userPresence=True, **listed)))
    merge = bank.change(SANDBOX, approvers=[])
    for token in (asleep, touched):
        bank.store.add_envelope(bank.store.parents(merge)[1], signing.approve(token, "bob", bank.binding(merge)))
        yield Offer(bank, merge)


@case("C88", REJECT, "sig_key_expired", over=("a leaver", "long ago"))
def an_ended_key_outside_the_grace(_: estate.Estate, who: str) -> Offers:
    """The grace is for people who are still here, which another valid key shows, and lasts thirty days."""
    ended = estate.key_document("alice", notAfter="2026-11-20T00:00:00Z")
    long_ago = {**ended, "notAfter": "2026-10-20T00:00:00Z"}
    keys = [ended] if who == "a leaver" else [long_ago, estate.key_document("alice-2")]
    for each in (keys, [ended, estate.key_document("alice-2")]):
        bank = with_people(alice=estate.person("alice", *each))
        yield Offer(bank, bank.change(SANDBOX, approvers=["bob"]))
