"""The gate `opa`: what a policy sees, and what becomes of what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import JsonValue
from support import gating

from reconciler import errors, model
from reconciler.gates import embedded, library, opa

POLICIES = Path(__file__).parents[2] / "policies"


def policy(body: str, denied: str = '{"target": {"name": "app"}}') -> dict[str, bytes]:
    """One rule that denies this input and not an empty one."""
    source = f"package one\n\nimport rego.v1\n\n{body}\n"
    tests = f"package one_test\n\nimport data.one\nimport rego.v1\n\ntest_denies if count(one.deny) == 1 with input as {denied}\n\ntest_passes if count(one.deny) == 0 with input as {{}}\n"
    return {"policies/one.rego": source.encode(), "policies/one_test.rego": tests.encode()}


def estate(*folders: dict[str, bytes]) -> gating.Estate:
    made = gating.Estate()
    for folder in folders:
        made.commit(folder)
    return made


def check(made: gating.Estate, change: model.Change | None = None, profile: str = "") -> model.GateResult:
    gate = opa.OpaGate(model.Check(gate="opa", profile=profile), made.facilities)
    return gate.check(change or made.change(), 60)


def shown(made: gating.Estate, change: model.Change, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the engine is given."""
    seen: list[object] = []
    evaluate = embedded.evaluate

    def record(sessions: Sequence[embedded.Session], *, within_s: float) -> tuple[tuple[JsonValue, ...], ...]:
        seen.extend(value for session in sessions for _, value in session.queries)
        return evaluate(sessions, within_s=within_s)

    library.read_library(made.store, change.policies)  # Their tests have inputs of their own.
    monkeypatch.setattr(embedded, "evaluate", record)
    check(made, change)
    assert isinstance(seen[0], dict)
    return seen[0]


def test_a_policy_sees_what_a_payload_is_rendered_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a patch of an overlay could bring in what no file shows."""
    made = estate(policy(RULE % '"what it sees"'), gating.target())
    made.commit({"targets/app/template.yaml": b"a: 1\n---\nb: 2\n", "targets/app/broken.yaml": b"{{ range }}\n"})
    seen = shown(made, made.change(), monkeypatch)
    assert isinstance(seen["files"], dict)
    assert seen["files"]["/rendered.yaml"] == [{"a": 1}, {"b": 2}]
    assert "broken.yaml" not in seen["files"], "what goes into a renderer need be no document"


def test_a_finding_in_what_is_rendered_names_its_line_there() -> None:
    said = '{"msg": "no b", "file": "/rendered.yaml", "path": [1, "b"]}'
    made = estate(policy(RULE % said), gating.target())
    made.commit({"targets/app/template.yaml": b"a: 1\n---\nb: 2\n"})
    assert [reason.where for reason in check(made).findings] == ["targets/app (rendered):3"]


def test_a_policy_sees_the_whole_target_and_nothing_live(monkeypatch: pytest.MonkeyPatch) -> None:
    made = estate(policy(RULE % '"what it sees"'))
    since = made.commit(
        gating.target(labels={"owner": "a"}, host={"purge": False}) | {"targets/app/old.yaml": b"a: 1\n"}
    )
    made.commit(gating.target(labels={"owner": "b"}, host={"purge": True}, dependsOn=["db"]))
    made.commit(
        {"targets/app/two.yaml": b"a: 1\n---\nb: 2\n", "targets/app/x.json": b'{"c": 3}', "targets/app/logo": b"\xff\0"}
    )
    seen = shown(
        made, made.change(since=since, acknowledged=frozenset({("deletes_data", model.Key("table//a"))})), monkeypatch
    )
    assert seen["files"] == {"old.yaml": {"a": 1}, "two.yaml": [{"a": 1}, {"b": 2}], "x.json": {"c": 3}}
    assert seen["opaque"] == ["logo"]
    assert seen["texts"] == {"old.yaml": "a: 1\n", "two.yaml": "a: 1\n---\nb: 2\n", "x.json": '{"c": 3}'}
    assert seen["change"] == {"revision": made.head, "head": None, "policies": made.head, "targets": ["app"]}
    assert seen["acknowledged"] == [{"hazard": "deletes_data", "key": "table//a"}]
    target = seen["target"]
    assert isinstance(target, dict)
    assert target["document"]["spec"]["type"] == "host"
    del target["document"]
    assert target == {
        "name": "app",
        "type": "host",
        "environment": "dev",
        "labels": {"owner": "b"},
        "mode": "correct",
        "connection": {"transport": "local", "root": "/srv/app"},
        "dependsOn": ["db"],
        "spec": {"purge": True},
    }
    before = seen["before"]
    assert isinstance(before, dict)
    assert before["files"] == {"old.yaml": {"a": 1}}
    assert before["target"]["labels"] == {"owner": "a"}


def test_every_field_that_a_policy_sees_is_one_that_the_guard_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    made = estate(policy(RULE % '"which fields"'), gating.target())
    seen = shown(made, made.change(), monkeypatch)
    assert seen.keys() == library.FIELDS.keys()
    for field in ("target", "change"):
        part = seen[field]
        assert isinstance(part, dict)
        assert part.keys() == library.FIELDS[field]
    assert seen["before"] is None


# --- what a policy says -----------------------------------------------------------------------------------------------

RULE = 'deny contains %s if input.target.name == "app"'


@pytest.mark.parametrize(
    ("said", "message", "where"),
    [
        ('"no"', "one: no", "targets/app/target.yaml:1"),
        ('{"msg": "no", "path": ["spec", "type"]}', "one: no", "targets/app/target.yaml:7"),
        ('{"msg": "no", "path": ["spec", "type", "further", 3]}', "one: no", "targets/app/target.yaml:7"),
        ('{"msg": "no", "file": "vm.yaml", "path": ["files", 1, "mode"]}', "one: no", "targets/app/vm.yaml:3"),
        ('{"msg": "no", "file": "two.yaml", "path": [1, "b"]}', "one: no", "targets/app/two.yaml:3"),
        ('{"msg": "no", "file": "gone.yaml"}', "one: no", "targets/app/target.yaml:1"),
    ],
)
def test_what_a_policy_says_stands_at_its_line(said: str, message: str, where: str) -> None:
    files = {
        "targets/app/vm.yaml": b'files:\n  - {mode: "0644"}\n  - {mode: "0666"}\n',
        "targets/app/two.yaml": b"a: 1\n---\nb: 2\n",
    }
    result = check(estate(policy(RULE % said), gating.target() | files))
    assert result.outcome is model.Outcome.FAIL
    assert [(r.code, r.message, r.where) for r in result.findings] == [("policy", message, where)]
    assert result.findings[0].fix


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ('{"msg": "no", "rule": "loose"}', "one.loose"),
        ('{"msg": "no"}', f"one:{model.sha256(b'no')[:12]}"),
        ('"other"', f"one:{model.sha256(b'other')[:12]}"),
    ],
)
def test_people_waive_the_rule_that_a_deny_names_else_exactly_its_text(said: str, rule: str) -> None:
    (finding,) = check(estate(policy(RULE % said), gating.target())).findings
    assert finding.rule == rule


def test_what_is_not_listed_and_what_cannot_be_read_is_nobodys_to_answer_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opa, "MAX_FINDINGS", 3)
    made = estate(policy(RULE % '"no"'), gating.target() | {f"targets/app/{n}.yaml": b"a: 1\na: 2\n" for n in range(5)})
    found = check(made).findings
    assert [finding.code for finding in found] == ["parse", "parse", "more"]
    assert {finding.rule for finding in found} == {model.NOBODYS}
    assert found[-1].message == "3 more findings"


@pytest.mark.parametrize(
    "said",
    [
        "1",
        "true",
        "null",
        "[]",
        "{}",
        '{"msg": "no", "rule": "Loose one"}',
        '{"mgs": "no"}',
        '{"msg": ""}',
        '{"msg": "no", "paht": []}',
        '{"msg": 1}',
        '""',
    ],
)
def test_what_is_no_message_is_an_error_and_never_a_pass(said: str) -> None:
    with pytest.raises(errors.ConfigError, match="neither a text nor"):
        check(estate(policy(RULE % said), gating.target()))


def test_a_warning_is_shown_and_does_not_block() -> None:
    made = estate(
        policy(RULE.replace("app", "db") % '"no"' + '\n\nwarn contains "careful"', '{"target": {"name": "db"}}'),
        gating.target(),
    )
    result = check(made)
    assert result.outcome is model.Outcome.PASS
    assert [r.message for r in result.findings] == ["one: careful"]


def test_a_released_target_is_not_judged() -> None:
    made = estate(policy(RULE % '"no"'), gating.target())
    assert check(made, made.change().model_copy(update={"after": {}})).outcome is model.Outcome.PASS


# --- which policies ---------------------------------------------------------------------------------------------------


def test_a_profile_names_a_package_or_a_file_and_none_means_all() -> None:
    other = {
        path.replace("one", "two"): blob.replace(b"package one", b"package second")
        .replace(b"data.one", b"data.second")
        .replace(b"one.", b"second.")
        .replace(b'"app"', b'"db"')
        for path, blob in policy(RULE % '"no"').items()
    }
    made = estate(policy(RULE % '"no"') | other, gating.target())
    outcomes = {
        profile: check(made, profile=profile).outcome for profile in ("", "one", "second", "two", "policies/two.rego")
    }
    assert outcomes == {"": "FAIL", "one": "FAIL", "second": "PASS", "two": "PASS", "policies/two.rego": "PASS"}
    with pytest.raises(errors.ConfigError, match="neither a package nor a file"):
        check(made, profile="three")


def test_the_policies_are_those_of_the_accepted_commit_and_not_of_the_change() -> None:
    made = estate(policy(RULE % '"no"'))
    accepted = made.head
    made.commit(policy(RULE.replace("app", "db") % '"no"', '{"target": {"name": "db"}}') | gating.target())
    change = made.change().model_copy(update={"policies": accepted})
    assert check(made, change).outcome is model.Outcome.FAIL
    assert check(made).outcome is model.Outcome.PASS


def test_a_repository_without_policies_is_an_error() -> None:
    with pytest.raises(errors.ConfigError, match="no policy"):
        check(estate(gating.target()))


def test_the_embedded_engine_is_refused_in_production() -> None:
    with pytest.raises(errors.ConfigError, match="does not trust the embedded engine"):
        opa.OpaGate(model.Check(gate="opa"), gating.Estate(production=True).facilities)


def test_an_option_that_nobody_knows_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="no option `maxAge`"):
        opa.OpaGate(model.Check(gate="opa", options=(("maxAge", "1d"),)), gating.Estate().facilities)


# --- input ------------------------------------------------------------------------------------------------------------


def test_a_document_that_cannot_be_read_fails_at_its_line_instead_of_being_skipped() -> None:
    made = estate(policy(RULE % '"no"'), gating.target() | {"targets/app/m.yaml": b"a: 1\nb: *x\n"})
    result = check(made)
    assert [(r.code, r.where) for r in result.findings] == [("parse", "targets/app/m.yaml:2")]


def test_a_file_that_is_delivered_as_it_is_need_not_be_strict() -> None:
    passes = policy(RULE.replace("app", "db") % '"no"', '{"target": {"name": "db"}}')
    made = estate(passes, gating.target() | {"targets/app/files/app.yaml": b"a: &x 1\nb: *x\n"})
    assert check(made).outcome is model.Outcome.PASS


def test_a_nul_character_is_refused_because_the_engine_stops_reading_there() -> None:
    made = estate(policy(RULE % '"no"'), gating.target() | {"targets/app/m.yaml": b'a: "x\\0y"\n'})
    with pytest.raises(errors.ConfigError, match="NUL"):
        check(made)


def test_a_target_that_is_too_large_is_an_error() -> None:
    large = {f"targets/app/{i}.txt": b"x" * 250_000 for i in range(18)}
    made = estate(policy(RULE % '"no"'), gating.target() | large)
    with pytest.raises(errors.ConfigError, match="more than"):
        check(made)


def test_the_same_question_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = estate(policy(RULE % '"asked once"'), gating.target())
    first = check(made)
    monkeypatch.setattr(embedded, "evaluate", None)
    assert check(made) == first


# --- our own library --------------------------------------------------------------------------------------------------


def ours(**files: bytes) -> dict[str, bytes]:
    return {f"policies/{path.name}": path.read_bytes() for path in sorted(POLICIES.glob("*.rego"))} | files


def test_our_policies_hold_their_own_tests_and_refuse_a_world_writable_file_at_its_line() -> None:
    document = b'files:\n  - {path: a, source: files/a, mode: "0644"}\n  - {path: b, source: files/a, mode: "0666"}\n'
    drivers = gating.target(type="vm", environment="prod", labels={"service": "app"})
    made = estate(ours(), drivers | {"targets/app/vm.yaml": document})
    result = check(made, profile="compliance_policy")
    assert result.outcome is model.Outcome.FAIL
    assert [reason.where for reason in result.findings] == [
        "targets/app/target.yaml:5",
        "targets/app/vm.yaml:3",
        "targets/app/target.yaml:7",
    ]


def test_our_policies_let_a_sound_target_pass() -> None:
    document = b'directories:\n  - {path: d, mode: "0755"}\nfiles:\n  - {path: d/a, source: files/a, mode: "0644"}\n'
    labels = {"owner": "payments", "service": "app"}
    folder = gating.target(type="vm", environment="prod", labels=labels, health=[{"file": {"path": "d/a"}}])
    result = check(estate(ours(), folder | {"targets/app/vm.yaml": document}), profile="compliance_policy")
    assert (result.outcome, result.findings) == (model.Outcome.PASS, ())
