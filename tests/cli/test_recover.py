"""A blocked history and the way out of it, by commands alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import workspace
from support.workspace import Workspace


@pytest.fixture
def blocked(tmp_path: Path) -> Workspace:
    """A merge of an unsigned commit, and an honest one behind it."""
    bank = Workspace(tmp_path)
    workspace.git(bank.clone, "switch", "-q", "-c", "bad", "origin/main")
    (bank.clone / "targets/hello/vm.yaml").write_text(bank.motd("Nobody signed this.")["targets/hello/vm.yaml"])
    workspace.git(
        bank.clone, "-c", "user.name=x", "-c", "user.email=alice@bank.example", "commit", "-q", "-a", "-m", "unsigned"
    )
    bank.force("bad")
    bank.branch("good", {"README.md": "good work\n"}, "bob")
    assert bank.approve("good", "alice").code == 0
    bank.force("good")
    return bank


def test_recover_shows_what_blocks_and_prepares_the_merge_that_is_accepted(blocked: Workspace) -> None:
    bank = blocked
    shown = bank.here("recover", "--after", bank.genesis)
    assert shown.code == 4
    assert "REJECT unsigned_commit" in shown.out
    assert f"back to {bank.genesis[:12]}: targets/hello/vm.yaml" in shown.out
    assert "+good work" in shown.out
    assert "README.md" not in [line for line in shown.out.splitlines() if line.startswith("back to")]

    made = bank.here("recover", "--after", bank.genesis, "--key", bank.keys["alice"])
    assert made.code == 0, made.err
    own = bank.approve("recovery", "alice", "--after", bank.genesis)
    assert own.code == 4
    # bob wrote what stands behind: his work comes in with it, so he may not approve it either.
    assert bank.approve("recovery", "bob", "--after", bank.genesis).code == 4
    early = bank.here("merge", "recovery", "--key", bank.keys["alice"], "--after", bank.genesis, "--push")
    assert early.code == 4


def test_a_recovery_that_enough_people_approved_lands_and_is_accepted(tmp_path: Path) -> None:
    people = ("alice", "bob", "carol", "dan")
    bank = Workspace(tmp_path, people)
    bank.branch("bad", bank.motd("Nobody approved this."), "alice")
    bank.force("bad", signer="alice")
    made = bank.here("recover", "--after", bank.genesis, "--key", bank.keys["alice"])
    assert made.code == 0, made.err
    for name in ("bob", "carol"):
        approved = bank.approve("recovery", name, "--after", bank.genesis)
        assert approved.code == 0, approved.err
        assert "passes over" in approved.out
    landed = bank.here("merge", "recovery", "--key", bank.keys["alice"], "--after", bank.genesis, "--push")
    assert landed.code == 0, landed.err
    judged = bank.here("verify", "--after", bank.genesis, "-o", "json")
    assert [item["verdict"] for item in judged.items] == ["HOLD", "ACCEPT"]
    assert bank.there("once").code == 3  # taken back before it was ever written: the target waits as before
    assert not (bank.machine / "etc/motd").exists()
    assert bank.there("get", "status", "-o", "json").document["tip"] == landed.out.strip()


def test_recover_says_when_nothing_is_blocked(tmp_path: Path) -> None:
    bank = Workspace(tmp_path)
    calm = bank.here("recover", "--after", bank.genesis)
    assert (calm.code, calm.out) == (0, "")


def test_what_was_only_not_approved_can_be_kept(tmp_path: Path) -> None:
    bank = Workspace(tmp_path, ("alice", "bob", "carol", "dan"))
    bank.branch("bad", bank.motd("Approved afterwards."), "alice")
    bank.force("bad", signer="alice")
    made = bank.here("recover", "--after", bank.genesis, "--key", bank.keys["alice"], "--keep")
    assert made.code == 0, made.err
    assert "+  - {path: etc/motd" in made.out
    for name in ("bob", "carol"):
        assert bank.approve("recovery", name, "--after", bank.genesis).code == 0
    landed = bank.here("merge", "recovery", "--key", bank.keys["alice"], "--after", bank.genesis, "--push")
    assert landed.code == 0, landed.err
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "Approved afterwards.\n"
