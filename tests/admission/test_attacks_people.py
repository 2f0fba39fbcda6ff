"""Who may not approve, sign or merge: the cases of the attack catalogue (trust.md 8) that lie in people and keys.

Each is a bank whose honest twin is accepted.
"""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta

import pytest
from support import estate, objects, signing

from reconciler import model
from reconciler.admission import form, statement
from reconciler.audit import record

LEDGER = {"targets/ledger/resources.yaml": estate.resources(2)}
SANDBOX = {"targets/sandbox/resources.yaml": estate.resources(2)}
HOLD, REJECT, ACCEPT = model.Verdict.HOLD, model.Verdict.REJECT, model.Verdict.ACCEPT


@pytest.fixture
def bank() -> estate.Estate:
    return estate.Estate(estate.targets())


def with_people(**people: estate.Spec) -> estate.Estate:
    return estate.Estate(estate.targets(), spec=estate.changed(estate.policy_spec(), **people))


def assert_accepted(bank: estate.Estate, merge: model.Oid) -> None:
    decision = bank.judge(merge)
    assert decision.verdict is ACCEPT, decision.reasons


def test_the_honest_twin_of_every_case_is_accepted(bank: estate.Estate) -> None:
    assert_accepted(bank, bank.change(LEDGER))
    assert_accepted(bank, bank.change(SANDBOX, approvers=["bob"]))


def test_c1_an_author_does_not_approve_their_own_change(bank: estate.Estate) -> None:
    decision = bank.judge(bank.change(SANDBOX, approvers=["alice"]))
    assert decision.verdict is HOLD
    assert {"self_approval", "no_approval"} <= estate.codes(decision)


def test_c2_a_commit_under_anothers_name_excludes_both(bank: estate.Estate) -> None:
    """Alice signs what says that bob wrote it; neither approves, grace may."""
    head = bank.branch(SANDBOX, "bob", signer="alice")
    merge = bank.merge(head)
    bank.approve(merge, "bob", "alice")
    decision = bank.judge(merge)
    assert decision.verdict is HOLD
    assert {"author_in_range", "self_approval"} <= estate.codes(decision)
    assert decision.duties.excluded == ("alice", "bob")
    bank.approve(merge, "grace")
    assert_accepted(bank, merge)


def test_c3_one_commit_added_to_anothers_branch_excludes(bank: estate.Estate) -> None:
    first = bank.branch(SANDBOX, "bob")
    merge = bank.merge(bank.branch({"targets/sandbox/more.yaml": b"{}"}, "grace", on=first))
    bank.approve(merge, "grace")
    decision = bank.judge(merge)
    assert (decision.verdict, "author_in_range" in estate.codes(decision)) == (HOLD, True)
    bank.approve(merge, "alice")
    assert_accepted(bank, merge)


def test_a_co_author_is_excluded_whatever_the_case_of_the_address(bank: estate.Estate) -> None:
    head = bank.store.make_commit(
        SANDBOX, bank.tip, key=estate.key("alice"), message="x\n\nCo-authored-by: B <BOB@bank.example>\n"
    )
    merge = bank.merge(head)
    bank.approve(merge, "bob")
    assert "author_in_range" in estate.codes(bank.judge(merge))


def test_c4_trailers_grant_nothing(bank: estate.Estate) -> None:
    text = "x\n\nApproved-by: Bob <bob@bank.example>\nReviewed-by: Grace <grace@bank.example>\n"
    head = bank.store.make_commit(LEDGER, bank.tip, key=estate.key("alice"), message=text)
    decision = bank.judge(bank.push(bank.merge(head)))
    assert (decision.verdict, "no_approval" in estate.codes(decision)) == (HOLD, True)


def test_c5_a_key_that_was_revoked_before_the_approval_was_seen() -> None:
    revoked = estate.person("bob", estate.key_document("bob", revoked="2026-11-24T11:00:00Z"))
    bank = with_people(bob=revoked)
    merge = bank.change(SANDBOX, approvers=[])
    (envelope,) = bank.approve(merge, "bob")
    assert {"key_revoked", "no_approval"} <= estate.codes(bank.judge(merge))
    seen = {f"sha256:{model.sha256(envelope)}": datetime(2026, 11, 24, 10, tzinfo=UTC)}
    assert bank.judge(merge, seen=seen).verdict is ACCEPT


def test_c6_a_backdated_statement_does_not_help_an_expired_key() -> None:
    bank = with_people(bob=estate.person("bob", estate.key_document("bob", notAfter="2026-11-24T11:00:00Z")))
    merge = bank.change(SANDBOX, approvers=[])
    bank.approve(merge, "bob", issued_at=datetime(2026, 11, 24, 1, tzinfo=UTC))
    decision = bank.judge(merge)
    assert (decision.verdict, "key_expired" in estate.codes(decision)) == (HOLD, True)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"notAfter": "2026-11-24T11:00:00Z"}, "sig_key_expired"),
        ({"notBefore": "2026-11-25T00:00:00Z"}, "sig_key_expired"),
        ({"revoked": "2026-11-24T11:00:00Z"}, "sig_key_revoked"),
    ],
)
@pytest.mark.parametrize("time", [1, 1_780_000_000, 1 << 40])
def test_c7_c8_no_date_in_a_merge_brings_its_key_back(fields: dict[str, str], code: str, time: int) -> None:
    spec = estate.policy_spec()
    spec["robots"]["forge"]["keys"] = [estate.key_document("forge", ["merge"], **fields)]
    bank = estate.Estate(estate.targets(), spec=spec)
    merge = bank.merge(bank.branch(LEDGER), time=time)
    bank.approve(merge, *estate.SRE)
    decision = bank.judge(merge)
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {code})


@pytest.mark.parametrize("namespace", ["file", signing.NAMESPACE])
def test_c14_a_commit_signed_for_another_purpose(bank: estate.Estate, namespace: str) -> None:
    unsigned = bank.merge(bank.branch(LEDGER), signer="")
    raw = signing.sign_commit(bank.store.commit(unsigned), estate.key("forge"), namespace=namespace)
    merge = bank.store.add(b"commit", raw)
    bank.approve(merge, *estate.SRE)
    assert (bank.judge(merge).verdict, estate.codes(bank.judge(merge))) == (REJECT, {"namespace"})


def test_c14_a_signature_of_a_commit_pasted_as_an_approval(bank: estate.Estate) -> None:
    merge = bank.change(SANDBOX, approvers=[])
    payload = statement.make_payload(signing.claim("bob", bank.binding(merge)))
    bank.store.add_envelope(bank.store.parents(merge)[1], signing.seal(estate.key("bob"), payload, namespace="git"))
    decision = bank.judge(merge)
    assert (decision.verdict, {"namespace", "no_approval"} <= estate.codes(decision)) == (HOLD, True)


def test_c15_an_unsigned_merge_of_signed_branches(bank: estate.Estate) -> None:
    decision = bank.judge(bank.change(LEDGER, signer=""))
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {"unsigned_merge"})


def test_c16_a_merge_by_a_person_who_may_not_merge() -> None:
    bank = with_people(heidi=estate.person("heidi", estate.key_document("heidi", ["commit"])))
    decision = bank.judge(bank.change(LEDGER, signer="heidi"))
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {"role"})
    assert_accepted(bank, bank.change(SANDBOX, approvers=["bob"], signer="carol"))


def test_c17_an_unsigned_commit_inside_the_branch(bank: estate.Estate) -> None:
    first = bank.branch(LEDGER, signer="")
    merge = bank.merge(bank.branch({"targets/ledger/more.yaml": b"{}"}, on=first))
    bank.approve(merge, *estate.SRE)
    decision = bank.judge(merge)
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {"unsigned_commit"})
    assert decision.effect is None, "nothing is parsed before every signature is good"


def test_c18_a_robot_that_merges_what_nobody_approved(bank: estate.Estate) -> None:
    decision = bank.judge(bank.change(LEDGER, approvers=[]))
    assert (decision.verdict, "no_approval" in estate.codes(decision)) == (HOLD, True)


def test_c19_a_robot_never_approves(bank: estate.Estate) -> None:
    decision = bank.judge(bank.change(SANDBOX, approvers=["forge"]))
    assert {"robot_not_approver", "no_approval"} <= estate.codes(decision)


def test_c20_two_keys_are_one_person() -> None:
    bank = with_people(bob=estate.person("bob", estate.key_document("bob"), estate.key_document("bob-2")))
    merge = bank.change(LEDGER, approvers=["bob"])
    bank.approve(merge, "bob", with_key="bob-2")
    decision = bank.judge(merge)
    assert (decision.verdict, estate.codes(decision)) == (HOLD, {"threshold"})
    bank.approve(merge, "heidi")
    assert_accepted(bank, merge)


def test_c21_one_statement_in_two_wrappings_counts_once(bank: estate.Estate) -> None:
    merge = bank.change(LEDGER, approvers=["bob"])
    payload = statement.make_payload(signing.claim("bob", bank.binding(merge)))
    bob = estate.key("bob")
    again = statement.make_envelope(payload, bob.sign(statement.pae(payload), signing.NAMESPACE))
    bank.store.add_envelope(bank.store.parents(merge)[1], again + b"\n")
    decision = bank.judge(merge)
    assert len([a for a in decision.approvals if a.person == "bob" and a.reason is None]) == 1
    assert estate.codes(decision) == {"threshold"}


def test_c22_one_person_in_two_teams_fills_one_slot() -> None:
    spec = estate.policy_spec()
    spec["teams"]["security"] = ["bob", "carol", "erin"]
    bank = estate.Estate(estate.targets(), spec=spec)
    merge = bank.change({"targets/edge/firewall.yaml": b"{}"}, approvers=["bob"])
    decision = bank.judge(merge)
    assert (decision.verdict, estate.codes(decision)) == (HOLD, {"distinct_persons"})
    bank.approve(merge, "carol")
    assert_accepted(bank, merge)


def test_c23_an_amended_branch_needs_new_approvals(bank: estate.Estate) -> None:
    old = bank.change(LEDGER)
    amended = bank.store.make_commit(LEDGER, bank.genesis, key=estate.key("alice"), message="amended\n")
    merge = bank.merge(amended, base=bank.genesis)
    decision = bank.judge(merge)
    assert (decision.verdict, "no_approval" in estate.codes(decision)) == (HOLD, True)
    bank.approve(merge, *estate.SRE, binding=bank.binding(old))
    decision = bank.judge(merge)
    assert (decision.verdict, "stale_head" in estate.codes(decision)) == (HOLD, True)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("repo", "urn:uuid:00000000-0000-0000-0000-000000000000", "repo_id"),
        ("ref", "refs/heads/staging", "ref"),
        ("effect", "0" * 64, "stale_effect"),
        ("environments", ("dev", "prod"), "environments"),
        ("skips", ("0" * 40,), "stale_effect"),
    ],
)
def test_c35_c36_a_statement_about_something_else(bank: estate.Estate, field: str, value: object, code: str) -> None:
    merge = bank.change(LEDGER, approvers=[])
    bank.approve(merge, *estate.SRE, binding=bank.binding(merge).model_copy(update={field: value}))
    decision = bank.judge(merge)
    assert (decision.verdict, {code, "no_approval"} <= estate.codes(decision)) == (HOLD, True)


def test_c38_a_raised_threshold_holds_for_what_comes_after_it(bank: estate.Estate) -> None:
    spec = estate.policy_spec()
    spec["rules"][1]["need"] = [estate.need("sre", 3)]
    raised = bank.change_policy(spec)
    assert_accepted(bank, raised)
    merge = bank.change(LEDGER)
    assert estate.codes(bank.judge(merge)) == {"threshold"}
    bank.approve(merge, "heidi")
    assert_accepted(bank, merge)


def test_c39_a_change_does_not_help_to_judge_itself(bank: estate.Estate) -> None:
    spec = estate.changed(estate.policy_spec(), mallory=estate.person("mallory"))
    spec["teams"]["policy-admins"] = ["dan", "erin", "frank", "mallory"]
    adds = bank.change_policy(spec, approvers=["dan", "bob"])
    bank.approve(adds, "mallory")
    decision = bank.judge(adds)
    assert (decision.verdict, {"key_unknown", "threshold"} <= estate.codes(decision)) == (HOLD, True)
    signed = bank.merge(
        bank.branch({estate.POLICY_PATH: estate.policy_blob(spec)}, "mallory", on=bank.genesis), base=bank.genesis
    )
    decision = bank.judge(signed)
    assert (decision.verdict, {"sig_key_unknown", "unknown_identity"} <= estate.codes(decision)) == (REJECT, True)


def test_c40_a_lower_threshold_and_its_use_in_one_merge_need_both_old_rules(bank: estate.Estate) -> None:
    spec = estate.policy_spec()
    spec["rules"][1]["need"] = [estate.need("sre", 1)]
    merge = bank.change({estate.POLICY_PATH: estate.policy_blob(spec), **LEDGER}, approvers=["bob"])
    decision = bank.judge(merge)
    lacking = {reason.message.split(" needed")[0] for reason in decision.reasons}
    assert {"2 of sre (A2)", "2 of policy-admins (A2)"} <= lacking
    bank.approve(merge, "grace", *estate.ADMINS)
    assert_accepted(bank, merge)


def test_c41_an_old_policy_comes_back_like_any_policy_change(bank: estate.Estate) -> None:
    spec = estate.policy_spec()
    spec["rules"][1]["need"] = [estate.need("sre", 3)]
    bank.change_policy(spec)
    back = bank.change_policy(estate.policy_spec(), approvers=["bob"])
    assert estate.codes(bank.judge(back)) == {"threshold"}
    bank.approve(back, *estate.ADMINS)
    assert_accepted(bank, back)


def test_c42_under_an_expired_policy_only_policy_changes_go_in() -> None:
    spec = {**estate.policy_spec(), "expires": "2026-11-24T11:00:00Z"}
    bank = estate.Estate(estate.targets(), spec=spec)
    assert estate.codes(bank.judge(bank.change(LEDGER))) == {"policy_expired"}
    assert_accepted(bank, bank.change_policy({**estate.policy_spec(), "expires": "2027-03-01T00:00:00Z"}))


def test_c45_an_approval_that_was_taken_back(bank: estate.Estate) -> None:
    merge = bank.change(SANDBOX, approvers=["bob"])
    payload = statement.make_payload(signing.claim("bob", bank.binding(merge)))
    bank.approve(merge, "bob", decision="revoke", revokes=model.sha256(payload))
    decision = bank.judge(merge)
    assert (decision.verdict, "approval_revoked" in estate.codes(decision)) == (HOLD, True)


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


@pytest.mark.parametrize(
    ("issued", "expires"),
    [
        (signing.ISSUED_AT, datetime(2099, 1, 1, tzinfo=UTC)),
        (signing.ISSUED_AT, None),
        (signing.ISSUED_AT, signing.ISSUED_AT - timedelta(seconds=1)),
        (signing.ISSUED_AT, signing.ISSUED_AT + timedelta(hours=1)),
        (datetime(2098, 12, 31, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)),
    ],
)
def test_c66_an_expiry_that_is_missing_past_or_too_far(
    bank: estate.Estate, issued: datetime, expires: datetime | None
) -> None:
    merge = bank.change(SANDBOX, approvers=[])
    bank.approve(merge, "bob", issued_at=issued, expires_at=expires)
    decision = bank.judge(merge)
    assert (decision.verdict, {"ttl", "no_approval"} <= estate.codes(decision)) == (HOLD, True)


def test_c76_a_hardware_key_that_was_not_touched() -> None:
    """A software key under `userPresence` is as one that was not touched; the linter refuses such a policy."""
    bank = with_people(bob=estate.person("bob", estate.key_document("bob", userPresence=True)))
    assert "no_user_presence" in estate.codes(bank.judge(bank.change(SANDBOX, approvers=["bob"])))


def test_c85_what_was_signed_or_seen_before_a_reset_counts_no_more(bank: estate.Estate) -> None:
    merge = bank.change(SANDBOX, approvers=["bob"])
    decision = bank.judge(merge, reset=signing.ISSUED_AT + timedelta(minutes=1))
    assert (decision.verdict, "no_approval" in estate.codes(decision)) == (HOLD, True)
    assert bank.judge(merge, reset=signing.ISSUED_AT - timedelta(minutes=1)).verdict is ACCEPT


def test_c87_envelopes_by_strangers_hide_nothing(bank: estate.Estate) -> None:
    merge = bank.change(SANDBOX, approvers=["bob"])
    for n in range(300):
        bank.approve(merge, "bob", with_key=f"stranger-{n}")
    decision = bank.judge(merge)
    assert decision.verdict is ACCEPT
    assert len(decision.approvals) < 20


def test_c87_too_many_names_hold_this_head_alone(bank: estate.Estate) -> None:
    merge = bank.change(SANDBOX, approvers=["bob"])
    for n in range(objects.MAX_ENVELOPES):
        bank.store.add_envelope(bank.store.parents(merge)[1], b"%d" % n)
    decision = bank.judge(merge)
    assert (decision.verdict, "limit" in estate.codes(decision)) == (HOLD, True)


def test_c88_the_grace_of_an_ended_key_is_for_those_who_are_still_here() -> None:
    ended = estate.key_document("alice", notAfter="2026-11-20T00:00:00Z")
    assert estate.codes(_judged_with(estate.person("alice", ended))) == {"sig_key_expired"}
    assert _judged_with(estate.person("alice", ended, estate.key_document("alice-2"))).verdict is ACCEPT
    long_ago = {**ended, "notAfter": "2026-10-20T00:00:00Z"}
    codes = estate.codes(_judged_with(estate.person("alice", long_ago, estate.key_document("alice-2"))))
    assert codes == {"sig_key_expired"}


def _judged_with(alice: estate.Spec) -> record.Decision:
    bank = with_people(alice=alice)
    return bank.judge(bank.change(SANDBOX, approvers=["bob"]))


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


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (b"", "envelope_invalid"),
        (b"{}", "envelope_invalid"),
        (b'{"payload": "", "payload": ""}', "envelope_invalid"),
        (b"a" * ((1 << 16) + 1), "limit"),
        (b"[" * 60_000, "envelope_invalid"),
    ],
)
def test_c64_an_envelope_that_is_none_holds(bank: estate.Estate, envelope: bytes, code: str) -> None:
    merge = bank.change(SANDBOX, approvers=[])
    bank.store.add_envelope(bank.store.parents(merge)[1], envelope)
    decision = bank.judge(merge)
    assert (decision.verdict, {code, "no_approval"} <= estate.codes(decision)) == (HOLD, True)
    bank.approve(merge, "bob")
    assert_accepted(bank, merge)


@pytest.mark.parametrize("change", ["two subjects", "unknown field", "a float", "not canonical"])
def test_c64_c65_a_payload_that_says_more_or_otherwise(bank: estate.Estate, change: str) -> None:
    merge = bank.change(SANDBOX, approvers=[])
    document = json.loads(statement.make_payload(signing.claim("bob", bank.binding(merge))))
    if change == "two subjects":
        document["subject"] *= 2
    if change == "unknown field":
        document["predicate"]["level"] = "A2"
    if change == "a float":
        document["predicate"]["ackManualMerge"] = 1.5
    payload = json.dumps(document).encode() if change == "not canonical" else model.canonical_json(document)
    bank.store.add_envelope(bank.store.parents(merge)[1], signing.seal(estate.key("bob"), payload))
    wanted = "subject" if change == "two subjects" else "envelope_invalid"
    decision = bank.judge(merge)
    assert (decision.verdict, wanted in estate.codes(decision)) == (HOLD, True)
