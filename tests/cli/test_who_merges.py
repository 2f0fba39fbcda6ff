"""Whoever merges may not approve: said before the merge, and in the HOLD after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.workspace import Workspace, git


@pytest.fixture
def two(tmp_path: Path) -> Workspace:
    """A bank of two: who writes cannot approve, and who approves cannot merge."""
    return Workspace(tmp_path, people=("alice", "bob"))


@pytest.mark.parametrize("verdict", ["HOLD", "ACCEPT"])
def test_a_head_says_that_its_only_approver_may_not_merge_it_and_who_may(two: Workspace, verdict: str) -> None:
    two.branch("words", two.motd("Words."))
    if verdict == "ACCEPT":
        assert two.approve("words", "bob").code == 0
    (row,) = two.here("verify", "--head", "words", "-o", "json").items
    assert (row["verdict"], row["mergers"]) == (verdict, {"may": ["alice"], "barred": ["bob"]})
    told = two.here("verify", "--head", "words").out
    assert "merge: not by bob, without whose approval it would be held (sod)" in told
    assert "may merge: alice" in told


def test_a_merge_by_its_only_approver_is_held_and_says_that_nobody_is_left(two: Workspace) -> None:
    two.branch("words", two.motd("Words."))
    two.approve("words", "bob")
    refused = two.merge("words", "bob")
    two.force("words", signer="bob")
    passed = two.there("once")
    for answer in (refused, passed):
        assert answer.code == 4
        said = answer.out + answer.err
        assert "1 of reviewers (A2) needed, 0 found; bob merged it, and whoever merges may not approve (sod)" in said
        assert "nobody is left but bob: somebody else has to merge it" in said


def test_where_others_may_still_approve_they_are_named(tmp_path: Path) -> None:
    bank = Workspace(tmp_path, people=("alice", "bob", "carol", "dave"))
    bank.branch("words", bank.motd("Words."))
    bank.approve("words", "carol")
    bank.force("words", signer="carol")
    git(bank.clone, "fetch", "-q")
    (row,) = bank.here("verify", "--after", bank.genesis, "-o", "json").items
    (reason,) = [reason for reason in row["reasons"] if reason["code"] == "threshold"]
    assert reason["fix"] == f"ask bob, dave: reconciler approve {row['head'][:12]} --key KEY --push"
    assert (row["open"][0]["may"], row["mergers"]) == (["bob", "dave"], None)


def test_where_anybody_may_merge_nothing_is_said_of_it(tmp_path: Path) -> None:
    bank = Workspace(tmp_path, people=("alice", "bob", "carol", "dave"))
    bank.branch("words", bank.motd("Words."))
    answer = bank.here("verify", "--head", "words")
    assert (answer.code, "merge: not by" in answer.out) == (4, False)
    (row,) = bank.here("verify", "--head", "words", "-o", "json").items
    assert row["mergers"] == {"may": ["alice", "bob", "carol", "dave"], "barred": []}
