"""Two people, two clones, one server: what one of them signed counts for the other."""

from __future__ import annotations

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
