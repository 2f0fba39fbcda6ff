"""The approval policy: what can be read, what a linter refuses, what a target may reach."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from support import estate, signing

from reconciler import errors, model
from reconciler.admission import lint, policy

Change = Callable[[estate.Spec], object]


def read(spec: estate.Spec) -> policy.Policy:
    return policy.parse_policy(estate.policy_blob(spec))


def linted(change: Change, *, production: bool = True) -> lint.Findings:
    spec = estate.policy_spec()
    change(spec)
    return lint.lint(
        estate.policy_blob(spec),
        source_id=estate.REPOSITORY_ID,
        source_ref=estate.REF,
        now=estate.NOW,
        production=production,
        paths=(b"targets/ledger/target.yaml", b"policies/approval.yaml"),
    )


def test_the_reference_policy_lints() -> None:
    assert linted(lambda _: None) == lint.Findings(())


def test_its_identity_is_the_digest_of_its_bytes() -> None:
    blob = estate.policy_blob()
    assert policy.parse_policy(blob).digest == model.sha256(blob)
    assert policy.parse_policy(blob) is policy.parse_policy(bytes(bytearray(blob))), "parsed once"


def _together(spec: estate.Spec, pair: list[str]) -> None:
    """Each rule alone could be filled; whoever sits for one is missing for the other."""
    spec["teams"].update(pair=pair, two=["bob", "alice"])
    spec["rules"][0]["need"] = [estate.need("pair", 1)]
    spec["rules"][1]["need"] = [estate.need("two", 1)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.update(extra=1), "no field of this name"),
        (lambda s: s["people"]["bob"].update(phone="1"), "no field of this name"),
        (lambda s: s.update(namespace="git"), "other signatures"),
        (lambda s: s["defaults"].update(requireSignedCommits="no"), "true or false is expected"),
        (lambda s: s["defaults"].update(symlinks="inside"), "'deny' or 'allow' is expected"),
        (lambda s: s["defaults"].update(approvalTtl="31d"), "or less is expected"),
        (lambda s: s["rules"][0].update(paths=["targets/**"]), "starts at the root"),
        (lambda s: s["rules"][0].update(paths=["/**/**/**/x"]), "at most"),
        (lambda s: s["rules"][0]["need"][0].update(count=0), "1 or more is expected"),
        (lambda s: s["rules"][0]["need"][0].update(count=True), "a whole number"),
        (lambda s: s["rules"][0]["need"][0].update(level="A0"), "'A1' or 'A2'"),
        (lambda s: s["people"]["bob"]["keys"][0].update(notAfter="2027-01-01"), "an instant is written"),
        (lambda s: s["people"]["bob"]["keys"][0].pop("notAfter"), "this field is missing"),
        (lambda s: s["environments"]["prod"].update(endpoints=["Prod.bank.example"]), "lower-case"),
        (lambda s: s["environments"]["prod"].update(secrets=["kv/prod/**"]), "vault:kv/prod"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name_and_line(change: Change, said: str) -> None:
    spec = {**estate.policy_spec(), "defaults": {}}
    change(spec)
    with pytest.raises(errors.ConfigError) as refused:
        read(spec)
    assert (refused.value.code, said in refused.value.message) == ("policy_lint", True), refused.value.message
    assert refused.value.where.startswith("policies/approval.yaml:")


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        (lambda s: s.update(hazard=[]), "did you mean 'hazards'?"),
        (lambda s: s["people"]["bob"].update(email=["bob@bank.example"]), "did you mean 'emails'?"),
        (lambda s: s["rules"][0].update(path=["/**"]), "did you mean 'paths'?"),
        (lambda s: s.update(namespace="git"), "its fields: reconciler schema approval-policy"),
    ],
)
def test_what_is_misspelt_is_told_the_near_name(change: Change, fix: str) -> None:
    spec = estate.policy_spec()
    change(spec)
    with pytest.raises(errors.ConfigError) as refused:
        read(spec)
    assert refused.value.fix == fix


def rename_bob(spec: estate.Spec, name: str) -> None:
    spec["people"][name] = spec["people"].pop("bob")
    spec["teams"]["sre"] = ["alice", name, "grace", "heidi"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["repository"].update(id="urn:uuid:00000000-0000-0000-0000-000000000000"), "to the daemon"),
        (lambda s: s["repository"].update(ref="refs/heads/other"), "the daemon watches"),
        (lambda s: s["rules"][1]["need"][0].update(count=4), "only 3 could approve"),
        (lambda s: s["teams"].update({"policy-admins": ["dan"]}), "at least 2"),
        (lambda s: s.update(defaults={"sod": ["author"]}), "both must stand here"),
        (lambda s: s["rules"][0].update(sod=["committer"]), "both must stand here"),
        (lambda s: s["teams"].update(empty=[]), "nobody is in this team"),
        (lambda s: s["teams"].update(odd=["nobody"]), "is nobody in `people`"),
        (lambda s: s["rules"][0]["need"].append(estate.need("nobody", 1)), "there is no team"),
        (lambda s: s["rules"][1].update(environments=["prd"]), "there is no environment"),
        (lambda s: rename_bob(s, "bob*"), "is no name"),
        (lambda s: rename_bob(s, "bob\nalice"), "is no name"),
        (lambda s: s["people"]["bob"].update(name="Bob\nT"), "control characters"),
        (lambda s: s["people"]["bob"].update(keys=s["people"]["grace"]["keys"]), "too"),
        (lambda s: s["people"]["bob"].update(emails=["GRACE@bank.example"]), "stands twice"),
        (lambda s: s["people"]["bob"]["keys"][0].update(notAfter="2028-01-01T00:00:00Z"), "13 months"),
        (lambda s: s["people"]["bob"]["keys"][0].update(id=estate.key("x").key_id), "this is the key"),
        (lambda s: s["people"]["bob"]["keys"][0].update(public="AAAA"), "key"),
        (lambda s: s["people"]["bob"]["keys"][0].update(userPresence=True), "hardware"),
        (lambda s: s["robots"]["forge"].update(use=["approve"]), "no robot ever approves"),
        (lambda s: s["robots"]["forge"].update(use=["merge", "commit"]), "never both"),
        (lambda s: s["robots"]["image-updates"].pop("paths"), "`paths`"),
        (lambda s: s["rules"].pop(0), "some paths match no rule"),
        (lambda s: s["rules"][0].update(types=["vm"]), "some paths match no rule"),
        (lambda s: s["rules"][1].update(id="base"), "two rules are called"),
        (lambda s: s["rules"][3].update(environments=["prod"]), "the rule `meta`"),
        (lambda s: s.update(expires="2026-11-01T00:00:00Z"), "expired already"),
        (lambda s: s["gates"].update(critical=[]), "no gate is critical"),
        (lambda s: s.update(defaults={"requireSignedCommits": False}), "every commit is signed in production"),
        (lambda s: s["gates"].update(waive={"need": [estate.need("sre", 4)], "maxDuration": "1d"}), "only 3 could"),
        (
            lambda s: [s["people"][n]["keys"][0].update(revoked="2026-11-01T00:00:00Z") for n in ("dan", "frank")],
            "only 0",
        ),
        (
            lambda s: [s["people"][n]["keys"][0].update(notAfter="2026-11-01T00:00:00Z") for n in ("bob", "heidi")],
            "only 1",
        ),
        (lambda s: _together(s, ["alice", "bob"]), "together: only 1"),
        (lambda s: s.update(defaults={"maxFiles": 100_001}), "100000"),
        (lambda s: s.update(defaults={"maxBlob": "2MiB"}), "1MiB"),
    ],
)
def test_what_the_linter_refuses(change: Change, said: str) -> None:
    found = linted(change).errors
    assert any(said in reason.message for reason in found), found
    assert {reason.code for reason in found} == {"policy_lint"}
    assert all(reason.where.startswith("policies/approval.yaml:") for reason in found)


def test_a_development_profile_allows_one_admin() -> None:
    def one_admin(spec: estate.Spec) -> None:
        spec["teams"]["policy-admins"] = ["dan"]
        spec["rules"][3]["need"] = spec["recovery"]["need"] = [estate.need("policy-admins", 1)]

    assert linted(one_admin).errors
    relaxed = linted(one_admin, production=False)
    assert relaxed.errors == ()
    assert any("nobody is left" in reason.message for reason in relaxed.warnings)


def test_slots_that_different_people_can_fill_together_are_fine() -> None:
    assert linted(lambda spec: _together(spec, ["alice", "bob", "carol"])).errors == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.update(expires="2026-12-10T00:00:00Z"), "it expires"),
        (lambda s: s["people"]["bob"]["keys"][0].update(notAfter="2026-12-10T00:00:00Z"), "a key of bob ends"),
        (lambda s: s["rules"][0].update(paths=["/**", "/nowhere/**"]), "matches nothing"),
    ],
)
def test_what_the_linter_warns_of(change: Change, said: str) -> None:
    found = linted(change)
    assert found.errors == ()
    assert any(said in reason.message for reason in found.warnings), found.warnings


def test_the_policies_are_guarded_whatever_the_policy_says() -> None:
    spec = estate.policy_spec()
    spec["rules"].pop()
    assert [(slot.among, slot.count) for slot in read(spec).meta.need] == [(("policy-admins",), 2)]


def test_whose_key_it_is_and_what_it_may() -> None:
    rules = read(estate.policy_spec())
    bob, forge = estate.key("bob").key_id, estate.key("forge").key_id
    found = rules.whose(bob, use="approve", at=estate.NOW)
    assert isinstance(found, policy.Signer)
    assert (found.name, found.robot) == ("bob", False)

    def code(key_id: str, use: policy.Use, at: datetime = estate.NOW) -> str:
        answer = rules.whose(key_id, use=use, at=at)
        return answer.code if isinstance(answer, model.Reason) else ""

    assert code(signing.Key("nobody").key_id, "merge") == "sig_key_unknown"
    assert code(signing.Key("nobody").key_id, "approve") == "key_unknown"
    assert code(forge, "approve") == "robot_not_approver"
    assert code(forge, "commit") == "role"
    assert code(forge, "merge") == ""
    assert code(bob, "merge", datetime(2027, 6, 1, tzinfo=UTC)) == "sig_key_expired"
    assert code(bob, "merge", datetime(2027, 6, 1, tzinfo=UTC) - timedelta(milliseconds=1)) == ""


@pytest.mark.parametrize(
    ("reference", "allowed"),
    [
        ("vault:kv/prod/cluster#kubeconfig", True),
        ("vault:kv/prod/a/b/c", True),
        ("vault:kv/dev/cluster#kubeconfig", False),
        ("vault:kv/prod", False),
        ("vault:kv/prod/../dev/x", False),
        ("vault:kv/prod/./x", False),
        ("vault:kv/prod//x", False),
        ("vault:kv/prod/%2e%2e/x", False),
        ("vault:kv/prod/x y", False),
        ("vault:/kv/prod/x", False),
        ("env:kv/prod/x", False),
        ("kv/prod/x", False),
        ("", False),
    ],
)
def test_which_secrets_an_environment_may_use(reference: str, *, allowed: bool) -> None:
    assert read(estate.policy_spec()).environments["prod"].allows_secret(reference) is allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("db.prod.bank.example", True),
        ("a.b.prod.bank.example", True),
        ("prod.bank.example", False),
        ("evilprod.bank.example", False),
        ("db.prod.bank.example.evil.example", False),
        ("DB.prod.bank.example", False),
        ("*.prod.bank.example", False),
        ("db.dev.bank.example", False),
        ("10.20.3.4", True),
        ("10.21.3.4", False),
        ("010.20.3.4", False),
        ("::ffff:10.20.3.4", False),
        ("", False),
    ],
)
def test_which_hosts_an_environment_may_reach(host: str, *, allowed: bool) -> None:
    assert read(estate.policy_spec()).environments["prod"].allows_endpoint(host) is allowed
