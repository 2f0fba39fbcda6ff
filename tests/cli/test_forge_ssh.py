"""The forge's side over a real sshd: a hook keeps refused merges out, approvals travel by push, a production daemon polls."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import signing, sshd, workspace
from support.workspace import Answer

from reconciler import model
from reconciler.git import writing

PEOPLE = ("alice", "bob", "carol", "dan")


class Bank:
    """Four people, the daemon's own key, and a repository that is reached by ssh alone."""

    def __init__(self, folder: Path, server: sshd.Sshd) -> None:
        self.folder, self.server, self.git_dir = folder, server, folder / "state.git"
        self.daemon, self.hosts = folder / "bank", server.known_hosts(folder / "known_hosts")
        self.url = server.url(self.git_dir)
        workspace.git(folder, "init", "-q", "--bare", "-b", "main", self.git_dir)
        named = [part for name in PEOPLE for part in ("--person", f"{name}={folder / name}.pub")]
        addresses = [part for name in PEOPLE for part in ("--email", f"{name}={name}@bank.example")]
        options = ("--key", folder / "alice", "--profile", "production", "--url", self.url)
        made = workspace.run("init", *named, *addresses, *options, self.daemon, cwd=folder)
        assert made.code == 0, made.err
        self.clone = self.daemon / "repository"
        self.genesis = model.Oid(workspace.git(self.clone, "rev-parse", "main"))
        if "origin" not in workspace.git(self.clone, "remote"):
            workspace.git(self.clone, "remote", "add", "origin", self.url)
        assert self.push("alice", "main").returncode == 0
        self.here("alice", "fetch")
        path = self.daemon / "reconciler.yaml"
        auth = f"auth: {{sshKey: {folder / 'daemon'}, knownHosts: {self.hosts}}}"
        lines = [line for line in path.read_text().splitlines() if "auth:" not in line]
        at = next(n for n, line in enumerate(lines) if line.startswith("  url:"))
        path.write_text("\n".join([*lines[: at + 1], f"  {auth}", *lines[at + 1 :], "web: {listen: null}", ""]))
        hook = self.git_dir / "hooks/pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\nexec {sys.executable} -m reconciler verify --pre-receive --after {self.genesis}\n")
        hook.chmod(0o755)

    def variables(self, person: str) -> dict[str, str]:
        return {"GIT_SSH_COMMAND": sshd.command(self.folder / person, self.hosts), "GIT_SSH_VARIANT": "ssh"}

    def here(self, person: str, *command: str) -> subprocess.CompletedProcess[str]:
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
        return subprocess.run(
            ("git", "-C", self.clone, *command),
            env={**os.environ, **quiet, **self.variables(person)},
            capture_output=True,
            text=True,
            check=False,
        )

    def push(self, person: str, *refspecs: str) -> subprocess.CompletedProcess[str]:
        return self.here(person, "push", "origin", *refspecs)

    def ours(self, person: str, *arguments: str | Path) -> Answer:
        """One of our commands in the clone, as that person."""
        return workspace.run(*arguments, "--key", self.folder / person, cwd=self.clone, env=self.variables(person))

    def branch(self, name: str, text: str, author: str = "alice") -> model.Oid:
        workspace.git(self.clone, "switch", "-q", "-c", name, "origin/main")
        (self.clone / "README.md").write_text(text)
        return writing.commit(
            self.clone, writing.Signer(self.folder / author, author.title(), f"{author}@bank.example"), name
        )

    def tip(self) -> str:
        return workspace.git(self.git_dir, "rev-parse", "main")

    def there(self, *arguments: str) -> Answer:
        return workspace.run(*arguments, cwd=self.daemon)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    keys = {name: signing.Key(name).write(tmp_path / name) for name in (*PEOPLE, "daemon")}
    public = {name: key.with_name(f"{name}.pub") for name, key in keys.items()}
    with sshd.serving(tmp_path / "sshd", public) as server:
        yield Bank(tmp_path, server)


def test_a_held_merge_is_refused_on_the_pushers_terminal_and_lands_once_it_is_approved(bank: Bank) -> None:
    bank.branch("words", "read by two\n")
    assert bank.push("alice", "words").returncode == 0
    merged = bank.ours("carol", "merge", "words", "--before-approval")
    merge = merged.out.strip()
    refused = bank.push("carol", f"{merge}:refs/heads/main")
    assert refused.returncode == 1
    assert "remote: " in refused.stderr
    assert "HOLD: no_approval" in refused.stderr
    assert bank.tip() == bank.genesis

    approved = bank.ours("bob", "approve", "words", "--yes", "--push", "--after", bank.genesis)
    assert approved.code == 0, approved.err
    assert "refs/approvals/v1/" in workspace.git(bank.git_dir, "for-each-ref", "--format=%(refname)")
    assert bank.push("carol", f"{merge}:refs/heads/main").returncode == 0
    assert bank.tip() == merge


def test_what_can_never_be_accepted_is_refused_with_all_its_codes(bank: Bank) -> None:
    workspace.git(bank.clone, "switch", "-q", "-c", "bad", "origin/main")
    (bank.clone / "README.md").write_text("by nobody\n")
    workspace.git(bank.clone, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-q", "-am", "unsigned")
    refused = bank.push("alice", "bad:refs/heads/main")
    assert refused.returncode == 1
    assert "REJECT: direct_commit" in refused.stderr
    merge = workspace.git(
        bank.clone, "-c", "user.name=x", "-c", "user.email=x@y",
        "commit-tree", "bad^{tree}", "-p", bank.genesis, "-p", "bad", "-m", "merge",
    )  # fmt: skip
    said = bank.push("alice", f"{merge}:refs/heads/main").stderr
    assert all(code in said for code in ("unsigned_merge", "unsigned_commit", "unknown_identity"))
    assert bank.tip() == bank.genesis


def test_a_production_daemon_polls_over_ssh_and_takes_approvals_that_were_pushed(bank: Bank) -> None:
    assert bank.there("once").code == 0
    bank.branch("words", "read by two\n")
    assert bank.ours("bob", "approve", "words", "--yes", "--push").code == 0
    landed = bank.ours("carol", "merge", "words", "--push")
    assert landed.code == 0, landed.err
    passed = bank.there("once")
    assert passed.code == 0, passed.err
    assert bank.there("get", "status", "-o", "json").document["tip"] == landed.out.strip() == bank.tip()


def test_a_host_that_shows_another_key_is_not_read_and_says_so(bank: Bank) -> None:
    assert bank.there("once").code == 0
    bank.branch("words", "read by two\n")
    assert bank.ours("bob", "approve", "words", "--yes", "--push").code == 0
    landed = bank.ours("carol", "merge", "words", "--push")
    assert landed.code == 0
    bank.server.change_host_key()
    refused = bank.there("once")
    assert refused.code == 6
    assert "has changed" in refused.err
    assert "before source.auth.knownHosts is changed" in refused.err
    assert bank.there("get", "status", "-o", "json").document["tip"] == bank.genesis
    stopped = bank.ours("bob", "approve", landed.out.strip(), "--reject", "--yes", "--push")
    assert stopped.code == 6, "nor is anything pushed there"

    bank.server.known_hosts(bank.hosts)
    assert bank.there("once").code == 0
    assert bank.there("get", "status", "-o", "json").document["tip"] == landed.out.strip()


def test_a_key_that_the_forge_does_not_know_is_told(bank: Bank) -> None:
    signing.Key("stranger").write(bank.folder / "stranger")
    config = bank.daemon / "reconciler.yaml"
    config.write_text(config.read_text().replace(f"{bank.folder / 'daemon'},", f"{bank.folder / 'stranger'},"))
    refused = bank.there("once")
    assert refused.code == 6
    assert "Permission denied" in refused.err
    assert "source.auth.sshKey" in refused.err
