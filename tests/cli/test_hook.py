"""`verify --pre-receive` in a bare repository: what would be refused never lands, and everything else passes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import workspace
from support.workspace import Workspace


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    hook = made.server / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nexec {sys.executable} -m reconciler verify --pre-receive --after {made.genesis}\n")
    hook.chmod(0o755)
    return made


def push(bank: Workspace, *refspecs: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ("git", "-C", bank.clone, "push", "origin", *refspecs),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_merge_lands_only_once_it_is_approved(bank: Workspace) -> None:
    bank.branch("words", bank.motd("Approved words."))
    assert push(bank, "words").returncode == 0
    merged = bank.here("merge", "words", "--key", bank.keys["carol"], "--before-approval")
    merge = merged.out.strip()
    refused = push(bank, f"{merge}:refs/heads/main")
    assert refused.returncode == 1
    assert "HOLD: no_approval" in refused.stderr
    assert workspace.git(bank.server, "rev-parse", "main") == bank.genesis

    assert bank.approve("words", "bob", "--after", bank.genesis).code == 0
    assert push(bank, f"{merge}:refs/heads/main").returncode == 0
    assert workspace.git(bank.server, "rev-parse", "main") == merge


def test_what_was_pushed_past_the_hook_does_not_become_its_base(bank: Workspace) -> None:
    bank.branch("bad", bank.motd("Nobody read this."))
    workspace.git(bank.server, "config", "core.hooksPath", "/dev/null")
    bank.force("bad")
    workspace.git(bank.server, "config", "--unset", "core.hooksPath")
    bank.branch("words", {"README.md": "approved\n"})
    assert bank.approve("words", "bob").code == 0
    merge = bank.here("merge", "words", "--key", bank.keys["carol"]).out.strip()
    refused = push(bank, f"{merge}:refs/heads/main")
    assert refused.returncode == 1
    assert "no_approval" in refused.stderr
    assert "blocked" in refused.stderr


def test_the_watched_branch_may_be_neither_deleted_nor_rewound(bank: Workspace) -> None:
    workspace.git(bank.server, "config", "receive.denyDeleteCurrent", "ignore")
    assert "may not be deleted" in push(bank, ":refs/heads/main").stderr
    orphan = workspace.git(
        bank.clone, "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "HEAD^{tree}", "-m", "another history"
    )
    refused = push(bank, f"+{orphan}:refs/heads/main")
    assert "non_descendant" in refused.stderr
    assert workspace.git(bank.server, "rev-parse", "main") == bank.genesis


def test_the_base_of_a_hook_comes_from_what_the_daemon_recorded(bank: Workspace) -> None:
    assert bank.there("once").code == 3
    hook = bank.server / "hooks/pre-receive"
    config = bank.daemon / "reconciler.yaml"
    hook.write_text(f"#!/bin/sh\nexec {sys.executable} -m reconciler verify --pre-receive --config {config}\n")
    bank.branch("words", bank.motd("Approved words."))
    assert bank.approve("words", "bob").code == 0
    assert bank.merge("words").code == 0
    bank.branch("more", {"README.md": "nobody approved this\n"})
    merged = bank.here("merge", "more", "--key", bank.keys["carol"], "--before-approval")
    assert "no_approval" in push(bank, f"{merged.out.strip()}:refs/heads/main").stderr
