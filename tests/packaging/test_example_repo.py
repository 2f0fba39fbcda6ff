"""The desired-state repository that the demo runs is read by the code that the daemon reads it with."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler import documents, model, strict_yaml
from reconciler.admission import lint, policy, trying
from reconciler.targets import probes
from reconciler.targets.vm import document

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/repo"
NAMES = sorted(path.parent.name for path in EXAMPLE.glob("targets/*/target.yaml"))
POLICY = EXAMPLE / "policies/approval.yaml"


def _read(name: str) -> documents.TargetDocument:
    folder = EXAMPLE / "targets" / name
    blobs = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return documents.parse_target(name, model.Oid("0" * 40), model.Digest("0" * 64), blobs)


def _policy() -> policy.Policy:
    return policy.parse_policy(POLICY.read_bytes())


def test_there_are_the_targets_that_the_page_lists() -> None:
    assert NAMES == ["dev-sandbox", "fraud-rules", "ledger-config", "payments-api", "web-portal"]
    page = (EXAMPLE / "README.md").read_text()
    listed = dict(re.findall(r"^\| `([-a-z]+)` \| `([a-z]+)` \|", page, re.MULTILINE))
    assert listed == {name: _read(name).desired.kind for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_read_without_a_finding(name: str) -> None:
    desired = _read(name).desired
    assert [reason for probe in desired.probes for reason in probes.validate_probe(probe)] == []
    if desired.kind == "vm":
        assert document.problems(desired) == ()
        assert set(document.read(desired)) != set()


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_of_a_target_lies_under_the_placeholder(name: str) -> None:
    desired = _read(name).desired
    if desired.kind == "vm":
        assert desired.connection == {"transport": "local", "root": f"@ROOT@/{name}"}


def test_the_health_of_payments_hangs_on_a_file_that_a_change_can_break() -> None:
    desired = _read("payments-api").desired
    (probe,) = desired.probes
    wanted = document.read(desired)[document.key_of("file", str(probe.fields["path"]))]
    assert str(probe.fields["contains"]).encode() in (wanted.content or b"")


def test_every_environment_and_every_dependency_is_known() -> None:
    read = {name: _read(name).desired for name in NAMES}
    assert {desired.environment for desired in read.values()} == set(_policy().environments)
    assert {other for desired in read.values() for other in desired.depends_on} <= set(read)


def test_the_keys_of_the_policy_are_keys() -> None:
    people = [key for person in _policy().people.values() for key in person.keys]
    robots = [key for robot in _policy().robots.values() for key in robot.keys]
    assert (len(people), len(robots)) == (8, 1)
    assert all(policy.fingerprint(key) == key.id for key in people + robots)


def test_each_person_has_one_key_that_a_text_can_replace() -> None:
    text = POLICY.read_text()
    for person in _policy().people.values():
        (key,) = person.keys
        assert (text.count(key.id), text.count(key.public)) == (1, 1)


def test_the_policy_passes_the_linter_of_a_production_profile() -> None:
    of = _policy().repository
    paths = [str(path.relative_to(EXAMPLE)).encode() for path in EXAMPLE.rglob("*") if path.is_file()]
    found = lint.lint(
        POLICY.read_bytes(),
        source_id=of.id,
        source_ref=of.ref,
        now=datetime(2026, 11, 24, tzinfo=UTC),  # Within the dates of the placeholder keys.
        production=True,
        paths=paths,
    )
    assert (found.errors, found.warnings) == ((), ())


def test_nobody_is_entitled_alone() -> None:
    people = _policy()
    needs = [rule.need for rule in people.rules] + [people.recovery.need]
    for slot in (slot for need in needs for slot in need):
        assert len(people.members(slot.among)) > slot.count  # One of them may be the author.


def test_its_policies_are_those_of_our_library() -> None:
    ours = {p.name: p.read_bytes() for p in (ROOT / "policies").glob("*.rego")}
    assert ours
    assert {p.name: p.read_bytes() for p in (EXAMPLE / "policies").glob("*.rego")} == ours


def test_every_document_is_strict_yaml() -> None:
    found = [p for p in EXAMPLE.rglob("*.yaml") if "files" not in p.parts]
    assert all(strict_yaml.load(path.read_bytes(), path.name) for path in found)


def test_the_cases_beside_the_policy_hold() -> None:
    cases = trying.read_cases((EXAMPLE / trying.TEST_PATH).read_bytes())
    assert {case.expect for case in cases} == {"accept", "hold"}
    assert [reason for case in cases for reason in trying.run(_policy(), case)] == []
