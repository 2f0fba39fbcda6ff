"""What ssh is told: the given key, the given hosts, nothing of anybody's configuration, and no question at a terminal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support import parts
from support.clones import MAIN, Clone

from reconciler.git import mirror, process

# In place of ssh: has the real client print what it makes of its options, then does what the far side would.
WRAPPER = """#!/bin/sh
{ssh} -G "$@" > {told}/options || exit 1
env > {told}/environment
for last; do :; done
exec sh -c "$last"
"""


def test_ssh_is_told_the_key_and_the_hosts_and_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.need("git", "ssh")
    remote = Clone(tmp_path / "remote", "--bare")
    tip = remote.commit({"a": b"1"})
    wrapper = tmp_path / "bin/ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(WRAPPER.format(ssh=shutil.which("ssh"), told=tmp_path))
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    auth = process.Auth(ssh_key=tmp_path / "id_ed25519", known_hosts=tmp_path / "known_hosts")
    url = f"ssh://git@git.bank.example:2222{remote.path}"
    source = mirror.Mirror(tmp_path / "m", mirror.Watched(process.Remote(url, auth), MAIN))
    assert source.fetch(tip, frozenset()) == tip
    source.close()
    told = (tmp_path / "options").read_text().splitlines()
    assert len([line for line in told if line.startswith("identityfile ")]) == 1
    options = dict(line.split(" ", 1) for line in told if " " in line)
    expected = {
        "host": "git.bank.example",
        "user": "git",
        "port": "2222",
        "batchmode": "yes",
        "stricthostkeychecking": "true",
        "identitiesonly": "yes",
        "identityfile": str(tmp_path / "id_ed25519"),
        "userknownhostsfile": str(tmp_path / "known_hosts"),
        "globalknownhostsfile": "/dev/null",
    }
    assert {name: options[name] for name in expected} == expected
    assert "proxycommand" not in options
    assert "SSH_AUTH_SOCK" not in (tmp_path / "environment").read_text()


def test_without_a_key_of_ours_no_other_is_tried(tmp_path: Path) -> None:
    git = process.GitProcess(tmp_path, home=tmp_path)
    command = git._environment(process.Remote("ssh://git@git.bank.example/x"))["GIT_SSH_COMMAND"]
    assert command.endswith("-o IdentitiesOnly=yes -o IdentityFile=none")
