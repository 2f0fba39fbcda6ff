"""Asking about a target that a merge renamed, and about names that nobody has: real merges, a real log."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest
from support import workspace
from support.workspace import Workspace

from reconciler import model
from reconciler.git import writing

MOTD = "file//etc/motd"


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    """`hello` was deployed, and renamed to `greet` after that."""
    made = Workspace(tmp_path)
    made.land("words", made.motd("Approved words."))
    assert made.there("once").code == 0
    rename(made)
    assert made.there("once").code == 0
    return made


def rename(bank: Workspace) -> model.Oid:
    workspace.git(bank.clone, "fetch", "-q")
    workspace.git(bank.clone, "switch", "-q", "-c", "rename", "origin/main")
    workspace.git(bank.clone, "mv", "targets/hello", "targets/greet")
    path = bank.clone / "targets/greet/target.yaml"
    path.write_text(path.read_text().replace("{name: hello,", "{name: greet, formerly: hello,"))
    with mock.patch.dict(os.environ, workspace.ENVIRONMENT):
        head = writing.commit(bank.clone, bank.signer("alice"), "rename")
    assert bank.approve("rename", "bob").code == 0
    assert bank.merge("rename").code == 0
    return head


def test_the_chain_of_a_live_resource_crosses_the_rename(bank: Workspace) -> None:
    told = bank.there("trace", "greet", MOTD)
    assert told.code == 0
    assert "create by deployment" in told.out
    assert " of hello: SUCCEEDED" in told.out
    assert "the target was hello then; renamed by merge" in told.out
    assert "approved: bob" in told.out
    assert "gate opa: compliance_policy: PASS" in told.out
    assert 'mode is "0644", which came with:' in bank.there("trace", "greet", MOTD, "--field", "mode").out
    absent = bank.there("trace", "greet", MOTD, "--field", "content").out
    assert "content is not declared (it has type, mode, owner, group, digest, size)" in absent


def test_history_says_under_which_name_and_the_old_name_says_the_new_one(bank: Workspace) -> None:
    rows = bank.there("history", "greet", "-o", "json").items
    assert {"hello", "greet"} == {row["target"] for row in rows}
    assert [row["target"] for row in rows if row["what"] == "outcome"] == ["hello"]
    assert "it was hello until it was renamed: merge" in bank.there("history", "greet").out
    assert "hello is greet now, and goes on there: reconciler history greet" in bank.there("history", "hello").out
    for asked in (("trace", "hello", MOTD), ("diff", "hello"), ("suspend", "hello", "--reason", "night")):
        refused = bank.there(*asked)
        assert refused.code == 2
        assert "it is greet now" in refused.err
        assert "fix: name greet instead" in refused.err


def test_a_deployment_under_the_old_name_is_not_undone_beside_the_new_one(bank: Workspace) -> None:
    (done,) = bank.there("get", "deployments", "--target", "greet", "-o", "json").items
    pinned = bank.there("rollback", done["id"], "--pin", "--reason", "back")
    assert pinned.code == 2
    assert "no target has that name any more" in pinned.err
    told = ("--key", bank.keys["alice"], "--config", bank.daemon / "reconciler.yaml")
    reverted = bank.here("rollback", done["id"], *told)
    assert reverted.code == 2


def test_a_resource_that_is_not_ours_is_told_as_that_and_nothing_else(bank: Workspace) -> None:
    told = bank.there("trace", "greet", "file//etc/shadow")
    assert told.code == 0
    assert told.out.splitlines() == [
        (
            "file//etc/shadow on greet: not ours: no deployment ever wrote it, and the confirmed state does not declare it; "
            "nothing is recorded of it"
        ),
        f"  ours there, with a name like it: {MOTD}",
    ]


def test_what_nobody_is_called_is_refused_with_the_closest_names(bank: Workspace) -> None:
    for asked, meant in (
        (("audit", "query", "--person", "bbo"), "did you mean 'bob'?"),
        (("audit", "query", "--target", "hallo"), "did you mean 'hello'?"),
        (("get", "deployments", "--target", "great"), "did you mean 'greet'?"),
        (("history", "hallo"), "did you mean 'hello'?"),
        (("audit", "query", "--revision", "HEAD"), "git rev-parse HEAD"),
        (("get", "gates", "--revision", "feedfeed"), "reconciler get revisions"),
    ):
        refused = bank.there(*asked)
        assert (refused.code, refused.out) == (2, ""), refused
        assert meant in refused.err


def test_a_revision_is_abbreviated_as_a_table_prints_it_and_finds_what_was_deployed(bank: Workspace) -> None:
    first = bank.there("get", "revisions", "-o", "json").items[0]["revision"]
    found = bank.there("audit", "query", "--revision", first[:12], "-o", "json")
    assert [entry["event"]["type"] for entry in found.items] == [
        "seen", "decision", "clearance", "intent", "applied", "intent", "applied", "outcome",
    ]  # fmt: skip
    assert found.document == bank.there("audit", "query", "--revision", first, "-o", "json").document
    assert bank.there("audit", "query", "--revision", first, "--verdict", "FAILED").err.endswith(
        "no record is about all of these\n"
    )
