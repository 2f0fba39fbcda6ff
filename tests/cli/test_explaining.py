"""`policy explain` in a clone and on a file; `policy test` on the cases that are kept beside the policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import estate, workspace
from support.workspace import Workspace

REPOSITORY = Path(__file__).parents[2]
CASES = """apiVersion: reconciler/v1
kind: ApprovalPolicyTest
cases:
  - name: production needs two
    change: {paths: [targets/ledger/x], environments: [prod], types: [memory], author: alice}
    approvals: [bob, grace]
    expect: accept
    rules: [base, prod]
  - name: one is not enough
    change: {paths: [targets/ledger/x], environments: [prod], types: [memory], author: alice}
    approvals: [EXTRA]
    expect: hold
    codes: [threshold]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/approval.yaml").write_bytes(estate.policy_blob())
    (tmp_path / "policies/approval_test.yaml").write_text(CASES.replace("EXTRA", "bob"))
    return tmp_path


def test_a_path_is_explained_from_the_policy_in_force_and_the_targets_document(tmp_path: Path) -> None:
    bank = Workspace(tmp_path)
    told = bank.here("policy", "explain", "targets/hello/vm.yaml", "--author", "alice", "-o", "json")
    assert told.code == 0, told.err
    document = json.loads(told.out)
    assert document["rules"][0]["paths"] == ["targets/hello/vm.yaml"]
    assert all("alice" not in each["may"] for each in document["slots"])
    assert "needs" in bank.here("policy", "explain", "targets/hello/vm.yaml").out


def test_a_file_is_explained_with_what_is_said_of_the_target(folder: Path) -> None:
    file = folder / "policies/approval.yaml"
    told = workspace.run(
        *("policy", "explain", "/targets/ledger/x", "--file", file, "--environment", "prod", "--type", "memory"),
        cwd=folder,
    )
    assert told.code == 0, told.err
    assert told.out.splitlines() == [
        "rule base: 1 of sre (A2) for targets/ledger/x",
        "rule prod: 2 of sre (A2) for targets/ledger/x",
        "needs 2 of sre (A2): alice, bob, grace, heidi",
        "rollback 1 of sre (A2): alice, bob, grace, heidi; targets only, back to a state that was confirmed within 14d",
        "emergency: the policy in force allows no emergency",
        "waiver: the policy lets nobody answer for a finding of a gate",
    ]
    assert workspace.run("policy", "explain", "x", "--file", file, "--author", "nobody", cwd=folder).code == 2


def _with_glass(folder: Path) -> Path:
    """A policy with emergencies, waivers, and a freeze that began long ago and that an emergency gets past."""
    spec = estate.emergency_spec()
    spec["gates"] = {**spec["gates"], "waive": {"need": [estate.need("security", 1)], "maxDuration": "30d"}}
    frozen = {"from": "2020-01-01T00:00:00Z", "to": "2120-01-01T00:00:00Z", "environments": ["prod"]}
    spec["freeze"] = [{"id": "century", **frozen, "allow": ["emergency"]}]
    file = folder / "policies/approval.yaml"
    file.write_bytes(estate.policy_blob(spec))
    return file


def test_it_says_what_may_serve_instead_and_what_is_closed(folder: Path) -> None:
    said = ("--file", _with_glass(folder), "--environment", "prod", "--type", "memory", "--author", "bob")
    told = workspace.run("policy", "explain", "targets/ledger/x", *said, cwd=folder)
    assert told.code == 0, told.err
    assert told.out.splitlines()[3:] == [
        "rollback 1 of sre (A2): alice, grace, heidi; targets only, back to a state that was confirmed within 14d",
        "emergency 1 of emergency (A2): carol; for 4h at most, 3 a week, with incident",
        "review 2 of change-board (A2): dan, erin, frank; of an emergency, by other people, within 1d",
        "waiver 1 of security (A2): carol, erin; of a finding, for 30d at most; never of rollback, schema",
        "closed: prod is frozen by `century` until 2120-01-01T00:00:00.000Z: not for an emergency",
    ]
    guarded = workspace.run("policy", "explain", "policies/x.rego", *said[:2], "-o", "json", cwd=folder)
    ways = {each["way"]: each for each in guarded.document["instead"]}
    assert ways["emergency"]["refused"] == "no emergency ever lets a change of the policies in"
    assert set(ways) == {"emergency", "waiver"}


def test_a_copy_of_a_policy_deeper_in_a_repository_is_not_held_against_its_root(tmp_path: Path) -> None:
    bank = Workspace(tmp_path)
    copy = bank.clone / "examples/policies/approval.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((bank.clone / "policies/approval.yaml").read_bytes().replace(b'"/**"', b'"/**", "/nowhere/**"'))
    lint = ("policy", "lint", "--profile", "development", "-o", "json")
    assert "matches nothing" not in workspace.run(*lint, copy, cwd=bank.clone).out
    (bank.clone / "policies/approval.yaml").write_bytes(copy.read_bytes())
    assert "matches nothing" in workspace.run(*lint, cwd=bank.clone).out


def test_the_cases_beside_a_policy_are_tried(folder: Path) -> None:
    tried = workspace.run("policy", "test", cwd=folder)
    assert (tried.code, tried.out.splitlines()) == (0, ["holds: production needs two", "holds: one is not enough"])
    (folder / "policies/approval_test.yaml").write_text(CASES.replace("EXTRA", "bob, heidi"))
    tried = workspace.run("policy", "test", "-o", "json", cwd=folder)
    assert tried.code == 2
    assert [each["holds"] for each in json.loads(tried.out)["items"]] == [True, False]


def test_the_rego_beside_a_policy_is_proven_as_the_gate_does_it(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "approval.yaml").write_bytes(estate.policy_blob())
    for name in ("vm.rego", "vm_test.rego"):
        (folder / name).write_bytes((REPOSITORY / "policies" / name).read_bytes())
    lint = ("policy", "lint", "--profile", "development")
    told = workspace.run(*lint, cwd=tmp_path)
    assert (told.code, told.out.splitlines()[-1]) == (
        0,
        "the policy holds, and so do the tests of compliance_policy",
    ), told.out
    with (folder / "vm.rego").open("a") as policy:
        policy.write('\ndeny contains "never tried" if input.target.name == "x"\n')
    line = len((folder / "vm.rego").read_text().splitlines())
    untested = workspace.run(*lint, "-o", "json", cwd=tmp_path)
    assert (untested.code, [(e["code"], e["where"]) for e in untested.document["errors"]]) == (
        2,
        [("rego", f"policies/vm.rego:{line}")],
    )
    (folder / "vm.rego").write_text("package compliance_policy\n\ndeny contains x if {\n")
    broken = workspace.run(*lint, cwd=tmp_path)
    assert broken.code == 2
    assert "policies/vm.rego:" in broken.out
    assert "holds" not in broken.out


def test_cases_that_are_not_there_are_a_usage_error(tmp_path: Path) -> None:
    assert workspace.run("policy", "test", cwd=tmp_path).code == 2
