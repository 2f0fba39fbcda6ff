"""Two people, two clones, one server: what one of them signed counts for the other."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support import workspace
from support.workspace import Workspace


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def clone_again(bank: Workspace, name: str) -> Path:
    path = bank.clone.with_name(name)
    workspace.git(bank.clone.parent, "clone", "-q", bank.server, path)
    return path


def test_an_approval_pushed_from_one_clone_counts_in_another(bank: Workspace) -> None:
    head = bank.branch("words", bank.motd("Approved words."))
    workspace.git(bank.clone, "push", "-q", "origin", "words")
    other = clone_again(bank, "bobs")
    approved = workspace.run("approve", head, "--key", bank.keys["bob"], "--yes", "--push", cwd=other)
    assert approved.code == 0, approved.err
    assert bank.here("verify", "--head", "words").code == 0
    assert bank.here("get", "approvals", "words", "-o", "json").items[0]["person"] == "bob"
    assert bank.merge("words").code == 0
    judged = workspace.run("verify", "--after", bank.genesis, "-o", "json", cwd=clone_again(bank, "later"))
    assert [item["verdict"] for item in judged.items] == ["ACCEPT"]


def test_a_server_that_is_away_is_said_and_what_is_here_still_counts(bank: Workspace) -> None:
    bank.branch("words", bank.motd("Approved words."))
    assert bank.approve("words", "bob").code == 0
    bank.server.rename(bank.server.with_name("gone.git"))
    judged = bank.here("verify", "--head", "words")
    assert judged.code == 0
    assert "origin cannot be asked" in judged.err


def test_a_merge_that_was_let_in_can_still_be_rejected_by_its_head_or_its_own_id(bank: Workspace) -> None:
    head = bank.branch("words", bank.motd("Approved words."))
    assert bank.approve("words", "bob").code == 0
    merge = bank.merge("words").out.strip()
    other = clone_again(bank, "carols")
    for named in (head, merge):
        rejected = workspace.run("approve", named, "--key", bank.keys["carol"], "--reject", "--yes", cwd=other)
        assert rejected.code == 0, rejected.err
        assert f"head         {head}, merged as {merge}" in rejected.out
    listed = workspace.run("get", "approvals", head, "-o", "json", cwd=other).items
    assert {(each["person"], each["decision"]) for each in listed} >= {("carol", "reject")}
    again = workspace.run("approve", head, "--key", bank.keys["carol"], "--yes", cwd=other)
    assert again.code == 4, "there is nothing left to approve"


def test_a_change_that_touches_no_target_has_no_gate_to_pass(bank: Workspace) -> None:
    bank.branch("words", {"README.md": "Other words.\n"})
    ran = bank.here("gates", "run", "words")
    assert ran.code == 0
    assert "no target is touched" in ran.err


def printed(reason: dict[str, str]) -> list[str]:
    """The command of a fix, as somebody pastes it."""
    return shlex.split(reason["fix"].partition("reconciler ")[2])


def test_what_a_held_merge_says_to_type_lets_it_in_from_a_clone_that_has_the_merge(bank: Workspace) -> None:
    head = bank.branch("words", bank.motd("Merged first, approved later."))
    merge = bank.force("words")
    assert bank.there("once").code == 4
    (held,) = bank.there("get", "revisions", "-o", "json").items
    other = clone_again(bank, "bobs")
    for asked in (head, merge):
        (seen,) = workspace.run("verify", "--head", asked, "-o", "json", cwd=other).items
        assert (seen["verdict"], seen["reasons"]) == ("HOLD", held["reasons"])
    assert "missing: 1 of 1 of reviewers (A2)" in workspace.run("get", "approvals", merge, cwd=other).out
    for reason in held["reasons"]:
        assert printed(reason) == ["approve", head[:12], "--key", "KEY", "--push"]
    typed = [str(bank.keys["bob"]) if word == "KEY" else word for word in printed(held["reasons"][0])]
    approved = workspace.run(*typed, "--yes", cwd=other)
    assert (approved.code, "verdict      ACCEPT" in approved.out) == (0, True), approved.err
    assert bank.there("once").code == 0
    assert "Merged first, approved later." in (bank.machine / "etc/motd").read_text()


def test_a_merge_that_waits_on_the_branch_is_not_merged_again(bank: Workspace) -> None:
    head = bank.branch("words", bank.motd("Merged first, approved later."))
    bank.force("words")
    again = workspace.run(
        "merge", head, "--key", bank.keys["carol"], "--before-approval", cwd=clone_again(bank, "carols")
    )
    assert (again.code, "it is on the watched branch already" in again.err) == (4, True)


def test_gates_and_plan_read_a_merge_that_waits_on_the_branch(bank: Workspace) -> None:
    head = bank.branch("words", bank.motd("Merged first, approved later."))
    bank.force("words")
    other = clone_again(bank, "bobs")
    assert workspace.run("gates", "run", head, cwd=other).code == 0
    assert "Merged first, approved later." in workspace.run("plan", head, cwd=other).out


def test_what_is_held_behind_a_refused_commit_is_approved_by_the_command_that_is_printed(tmp_path: Path) -> None:
    bank = Workspace(tmp_path, people=("alice", "bob", "carol", "dave"))
    workspace.git(bank.clone, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "no", "--allow-empty")
    workspace.git(bank.clone, "push", "-q", "origin", "HEAD:main")
    refused = workspace.git(bank.clone, "rev-parse", "HEAD")
    prepared = bank.here("recover", "--after", bank.genesis, "--key", bank.keys["alice"])
    assert prepared.code == 0, prepared.err
    workspace.git(bank.clone, "push", "-q", "origin", "recovery:main")
    assert bank.there("once").code == 4
    (held,) = [item for item in bank.there("get", "revisions", "-o", "json").items if item["revision"] != refused]
    other = clone_again(bank, "bobs")
    blind = workspace.run("approve", held["head"], "--key", bank.keys["bob"], "--yes", cwd=other)
    assert (blind.code, "--after" in blind.err) == (4, True)
    (said,) = [reason for reason in held["reasons"] if reason["code"] == "threshold"]
    for person in ("bob", "carol"):
        typed = [str(bank.keys[person]) if word == "KEY" else word for word in printed(said)]
        approved = workspace.run(*typed, "--yes", cwd=other)
        assert approved.code == 0, approved.err
    assert "HOLD" not in bank.there("once").err
    verdicts = {item["revision"]: item["verdict"] for item in bank.there("get", "revisions", "-o", "json").items}
    assert verdicts == {refused: "REJECT", held["revision"]: "ACCEPT"}


def test_a_branch_that_a_colleague_pushed_is_named_as_they_name_it(bank: Workspace) -> None:
    head = bank.branch("words", bank.motd("Words."))
    workspace.git(bank.clone, "push", "-q", "origin", "words")
    approved = workspace.run("approve", "words", "--key", bank.keys["bob"], "--yes", cwd=clone_again(bank, "bobs"))
    assert (approved.code, f"head         {head}" in approved.out) == (0, True), approved.err
