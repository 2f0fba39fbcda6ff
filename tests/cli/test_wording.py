"""What a person reads after a command: what was done, what is next, and how to ask rightly."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from support import signing, workspace
from support.workspace import Workspace


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.land("words", made.motd("Approved words."))
    assert made.there("once").code == 0
    return made


def test_a_verdict_that_there_is_not_is_an_error_and_not_an_empty_answer(bank: Workspace) -> None:
    misspelt = bank.there("audit", "query", "--verdict", "ACEPT")
    assert misspelt.code == 2
    assert "'ACCEPT'" in misspelt.err
    vague = bank.there("audit", "query", "--since", "yesterday")
    assert vague.code == 2
    assert "fix: write times as 2026-11-24T00:00:00Z" in vague.err


def test_an_operator_is_told_what_was_recorded_and_the_log_says_it_alike(bank: Workspace) -> None:
    assert bank.there("suspend", "hello", "--reason", "CHG1").out == "suspend hello: recorded\n"
    assert "suspend hello" in bank.there("audit", "query", "--type", "operator").out
    assert "gates passed" in bank.there("audit", "query", "--type", "clearance").out


def test_targets_fit_the_terminal_and_their_reasons_stand_below(bank: Workspace) -> None:
    (bank.machine / "etc/motd").unlink()
    bank.there("suspend", "hello", "--reason", "CHG1")
    bank.there("once")
    header, row, *below = bank.there("get", "targets").out.splitlines()
    assert max(len(header.rstrip()), len(row.rstrip())) <= 80
    assert header.split() == ["NAME", "TYPE", "ENV", "SYNC", "HEALTH", "STANDING", "GIT", "CONFIRMED", "DRIFT"]
    assert row.split()[5] == "suspended"
    assert below
    assert all(line.startswith("hello: suspended: ") for line in below)


def test_what_an_operator_did_is_found_by_the_name_alone(bank: Workspace) -> None:
    bank.there("suspend", "hello", "--reason", "CHG1")
    name = pwd.getpwuid(os.getuid()).pw_name
    asked = ("audit", "query", "--type", "operator", "-o", "json", "--person")
    whole = f"{name} (uid {os.getuid()})"
    assert [entry["event"]["actor"] for entry in bank.there(*asked, name).items] == [whole]
    assert len(bank.there(*asked, whole).items) == 1
    assert bank.there(*asked, name[:-1]).code == 2, "nobody is called so"


def test_a_target_that_was_dropped_keeps_its_history(bank: Workspace) -> None:
    bank.branch("gone", {"README.md": "None left.\n"})
    workspace.git(bank.clone, "rm", "-q", "-r", "targets/hello")
    bank.land("away", {"README.md": "None is left.\n"})
    assert bank.there("once").code == 5, "released"
    assert bank.there("target", "drop", "hello", "--reason", "handed over").code == 0
    assert "drop" in bank.there("history", "hello").out
    assert bank.there("history", "never").code == 2


def test_init_says_to_push_where_the_daemon_fetches_from_elsewhere(tmp_path: Path) -> None:
    named = [
        part
        for name in ("alice", "bob")
        for part in (
            "--person",
            f"{name}={signing.Key(name).write(tmp_path / name)}.pub",
            "--email",
            f"{name}={name}@b.example",
        )
    ]
    made = workspace.run("init", *named, "--url", f"file://{tmp_path}/server.git", tmp_path / "ops", cwd=tmp_path)
    assert made.code == 0, made.err
    assert f"push file://{tmp_path}/server.git HEAD:refs/heads/main" in made.err
