"""Whoever signs has seen everything that they answer for (trust.md 3.3), and signs a waiver in the same way."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import pytest
from support import workspace
from support.workspace import Workspace

from reconciler.git import writing

LIBRARY = Path(__file__).parents[2] / "policies"
FREEZE = '{id: audit, from: "2020-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z", environments: [dev]}'
WAIVE = "{need: [{from: [reviewers], count: 1, level: A2}], maxDuration: 14d}"


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def change_policy(bank: Workspace, extra: str) -> None:
    """Two reviewers beside the author say yes, and the author merges. Our policies for machines come with it."""
    workspace.git(bank.clone, "fetch", "-q", "origin")
    path = "policies/approval.yaml"
    text = workspace.git(bank.clone, "show", f"origin/main:{path}")
    rego = {f"policies/{name}": (LIBRARY / name).read_text() for name in ("vm.rego", "vm_test.rego")}
    bank.branch("policy", {path: re.sub(r"(?m)^  gates:.*$", extra, text) + "\n", **rego})
    for person in ("bob", "carol"):
        approved = bank.approve("policy", person)
        assert approved.code == 0, approved.err
    merged = bank.merge("policy", "alice")
    assert merged.code == 0, merged.err
    workspace.git(bank.clone, "fetch", "-q", "origin")


def commit(bank: Workspace, files: dict[str, str], author: str = "alice") -> str:
    for path, text in files.items():
        (bank.clone / path).write_text(text)
    with mock.patch.dict("os.environ", {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}):
        return writing.commit(bank.clone, bank.signer(author), "more")


def ask(bank: Workspace, head: str, person: str, *more: str, stdin: str = "") -> workspace.Answer:
    return bank.here("approve", head, "--key", bank.keys[person], *more, stdin=stdin)


def loose(bank: Workspace) -> dict[str, str]:
    text = bank.motd("Everybody's words.")["targets/hello/vm.yaml"]
    return {"targets/hello/vm.yaml": text.replace('mode: "0644"', 'mode: "0666"')}


def test_gates_waits_hazards_and_expiry_are_shown_before_anybody_is_asked(bank: Workspace) -> None:
    gates = "  gates: {required: {prod: [schema, rollback, opa]}, critical: [schema, rollback]}"
    change_policy(bank, f"  freeze: [{FREEZE}]\n{gates}")
    target = (bank.clone / "targets/hello/target.yaml").read_text()
    acknowledged = '  acknowledge: [{hazard: restart, key: "service//web", reason: "CHG7"}]\n'
    bank.branch("words", {**loose(bank), "targets/hello/target.yaml": target + acknowledged})
    seen = ask(bank, "words", "bob")
    assert seen.code == 2, "nobody confirmed"
    assert "acknowledges restart service//web on hello: CHG7" in seen.out
    assert "will wait    hello: dev is frozen by `audit` until 2100-01-01T00:00:00.000Z" in seen.out
    assert "gate         PASS: schema (critical)" in seen.out
    assert "gate         FAIL: opa: compliance_policy\n" in seen.out
    assert "[compliance_policy.world_writable]" in seen.out
    assert re.search(r"(?m)^excluded     alice: signed [0-9a-f]{12}; is named in [0-9a-f]{12}$", seen.out)
    assert re.search(r"(?m)^expires      20\d\d-", seen.out)
    assert "bob has signed nothing of this change before" in seen.out
    assert "bob: sign this approval?" in seen.err + seen.out


def test_an_excluded_person_is_told_why_and_signs_nothing(bank: Workspace) -> None:
    bank.branch("words", bank.motd("Approved words."))
    refused = ask(bank, "words", "alice", "--no-gates", stdin="y\n")
    assert refused.code == 4
    assert "code: excluded" in refused.err
    assert "gate " not in refused.out


def test_what_changed_since_the_person_signed_is_shown_and_nothing_else_of_it(bank: Workspace) -> None:
    first = bank.branch("words", {**bank.motd("Approved words."), "README.md": "read by bob\n"})
    assert bank.approve("words", "bob").code == 0
    again = ask(bank, "words", "bob", "--no-gates")
    assert "since        nothing: bob signed exactly this at" in again.out
    commit(bank, bank.motd("Better words."))
    seen = ask(bank, "words", "bob", "--no-gates")
    _, since = seen.out.split("since        ", 1)
    assert since.startswith(f"bob signed the head {first[:12]} at ")
    assert '-  - {path: etc/motd, content: "Approved words.\\n", mode: "0644"}' in since
    assert '+  - {path: etc/motd, content: "Better words.\\n", mode: "0644"}' in since
    assert "read by bob" not in since, "that was seen already"
    assert "nothing of this change" in ask(bank, "words", "carol", "--no-gates").out


def test_a_merge_beside_that_made_an_approval_stale_is_what_changed(bank: Workspace) -> None:
    head = bank.branch("words", bank.motd("Approved words."))
    assert bank.approve("words", "bob").code == 0
    target = (bank.clone / "targets/hello/target.yaml").read_text().replace("interval: 30s", "interval: 45s")
    bank.land("interval", {"targets/hello/target.yaml": target}, author="carol", approver="alice")
    workspace.git(bank.clone, "fetch", "-q", "origin")
    held = bank.here("verify", "--head", head, "-o", "json")
    assert "stale_effect" in held.items[0]["codes"]
    _, since = ask(bank, head, "bob", "--no-gates").out.split("since        ", 1)
    assert since.startswith("bob signed the same head at ")
    assert "+  interval: 45s" in since
    assert "Approved words" not in since


def test_a_branch_that_was_made_anew_is_known_by_its_request(bank: Workspace) -> None:
    bank.branch("words", bank.motd("Approved words."))
    uri = "https://git.bank.example/pulls/7"
    assert bank.approve("words", "bob", "--uri", uri).code == 0
    bank.branch("again", bank.motd("Better words."))
    assert "nothing of this change" in ask(bank, "again", "bob", "--no-gates").out
    _, since = ask(bank, "again", "bob", "--no-gates", "--uri", uri).out.split("since        ", 1)
    assert '-  - {path: etc/motd, content: "Approved words.\\n"' in since


def test_a_merge_made_by_hand_is_asked_for_by_itself_with_what_differs_from_gits_own(bank: Workspace) -> None:
    bank.branch("words", bank.motd("Approved words."))
    bank.land("other", {"README.md": "another\n"})
    onto = workspace.git(bank.clone, "rev-parse", "origin/main")
    head = workspace.git(bank.clone, "rev-parse", "words")
    tree = workspace.git(bank.clone, "rev-parse", f"{head}^{{tree}}")  # loses what the other change brought
    signer = bank.signer("carol")
    named = ("-c", f"user.name={signer.name}", "-c", f"user.email={signer.email}", *signer.options)
    evil = workspace.git(bank.clone, *named, "commit-tree", "-S", "-p", onto, "-p", head, "-m", "Merge", tree)
    seen = ask(bank, evil, "bob", "--no-gates", "--after", onto, stdin="n\n")
    assert seen.code == 2
    assert "the merge was made by hand; have you read" in seen.err + seen.out
    _, by_hand = seen.out.split("by hand      below: from git's own merge to this one", 1)
    assert "-another" in by_hand
    assert "Approved words" not in by_hand
    assert "excluded     carol: signed the merge" in seen.out
    signed = ask(bank, evil, "bob", "--no-gates", "--after", onto, stdin="y\ny\n")
    assert signed.code == 0, signed.err


def test_a_finding_is_waived_by_command_and_the_machine_gets_the_change(bank: Workspace) -> None:
    change_policy(bank, f"  gates: {{critical: [schema, rollback], waive: {WAIVE}}}")
    bank.land("loose", loose(bank))
    assert bank.there("once").code == 3
    listed = bank.there("get", "gates")
    assert "FAIL" in listed.out
    assert "[compliance_policy.world_writable]" in listed.out
    reason = ("--reason", "the vendor's agent writes it, CHG9")
    waive = ("--waive", "opa:compliance_policy.world_writable")
    merge = workspace.git(bank.clone, "rev-parse", "origin/main")

    without = ask(bank, merge, "carol", *waive, "--yes")
    assert (without.code, "--reason TEXT" in without.err) == (2, True)
    critical = ask(bank, merge, "bob", "--waive", "rollback:hazard", *reason, "--yes")
    assert (critical.code, "code: waive" in critical.err) == (2, True)
    long = ask(bank, merge, "bob", *waive, *reason, "--expires", "15d", "--yes")
    assert (long.code, "code: ttl" in long.err) == (2, True)
    assert ask(bank, merge, "alice", *waive, *reason, "--yes").code == 4

    signed = bank.approve(merge, "bob", *waive, *reason)
    assert signed.code == 0, signed.err
    assert "waived       opa:compliance_policy.world_writable by bob until " in signed.out
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").stat().st_mode & 0o777 == 0o666
    row = next(g for g in bank.there("get", "gates", "-o", "json").items if g["outcome"] == "WAIVED")
    (waived,) = row["waived"]
    assert (waived["rule"], waived["people"]) == ("compliance_policy.world_writable", ["bob"])
    assert "waived by bob until" in bank.there("get", "gates").out


def test_gates_run_says_beforehand_what_is_waived(bank: Workspace) -> None:
    change_policy(bank, f"  gates: {{critical: [schema, rollback], waive: {WAIVE}}}")
    bank.branch("loose", loose(bank))
    assert bank.here("gates", "run", "loose").code == 3
    waived = ("--waive", "opa:compliance_policy.world_writable", "--reason", "CHG9")
    assert bank.approve("loose", "bob", *waived).code == 0
    ran = bank.here("gates", "run", "loose")
    assert (ran.code, "world_writable waived by bob" in ran.out) == (0, True)


def test_a_gate_that_asks_a_server_is_said_not_to_run_here(bank: Workspace) -> None:
    target = (bank.clone / "targets/hello/target.yaml").read_text()
    target = target.replace("checks: [{opa: compliance_policy}]", "checks: [{opa: compliance_policy}, {scanner: all}]")
    bank.branch("scan", {"targets/hello/target.yaml": target})
    seen = ask(bank, "scan", "bob")
    assert re.search(r"(?m)^gate         (ERROR|not run here): scanner: all$", seen.out)
    assert bank.here("gates", "run", "scan").code == 3
