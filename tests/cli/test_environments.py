"""One verdict, whoever asks: no locale, zone, git configuration or GIT_ variable of the caller changes what `verify` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from support import workspace
from support.workspace import Workspace

from reconciler.git import writing

ROOT = Path(__file__).parents[2]
CONFIGURATION = """\
[user]
	name = Somebody Else
	email = else@elsewhere.example
	signingKey = /nowhere
[gpg]
	format = x509
[gpg "ssh"]
	allowedSignersFile = {folder}/everybody
[merge]
	renames = false
	conflictStyle = diff3
	directoryRenames = true
	ff = only
[diff]
	renames = copies
	algorithm = patience
	external = {trap}
	noprefix = true
[core]
	quotePath = false
	attributesFile = {folder}/attributes
	hooksPath = {folder}/hooks
	pager = {trap}
	abbrev = 5
	ignoreCase = true
	commentChar = "*"
	precomposeUnicode = false
	sshCommand = {trap}
	useReplaceRefs = true
[log]
	showSignature = true
	date = relative
[i18n]
	commitEncoding = ISO-8859-1
	logOutputEncoding = UTF-16
[color]
	ui = always
[init]
	defaultObjectFormat = sha256
[fetch]
	prune = true
	pruneTags = true
[url "https://elsewhere.invalid/"]
	insteadOf = file:///nowhere
[credential]
	helper = {trap}
[filter "evil"]
	smudge = {trap}
	clean = {trap}
	required = true
[protocol]
	version = 0
"""


def settings(folder: Path, trap: Path) -> dict[str, str]:
    (folder / "gitconfig").write_text(CONFIGURATION.format(folder=folder, trap=trap))
    (folder / "attributes").write_text("* filter=evil text eol=crlf ident diff=evil merge=ours\n")
    (folder / "everybody").write_text("* ssh-ed25519 AAAA\n")
    return {"GIT_CONFIG_GLOBAL": str(folder / "gitconfig"), "GIT_CONFIG_NOSYSTEM": "0"}


def locale(_folder: Path, _trap: Path) -> dict[str, str]:
    german = "de_DE.UTF-8"
    return {"LC_ALL": german, "LANG": german, "LANGUAGE": "de:fr", "TZ": "Asia/Kathmandu", "COLUMNS": "20"}


def turkish(_folder: Path, _trap: Path) -> dict[str, str]:
    """Where `I` is not the capital of `i`, in an encoding that cannot say what the files do."""
    return {"LC_ALL": "tr_TR.ISO-8859-9", "PYTHONUTF8": "0", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "4"}


def variables(folder: Path, trap: Path) -> dict[str, str]:
    elsewhere = str(folder / "elsewhere.git")
    return {
        "GIT_DIR": elsewhere,
        "GIT_WORK_TREE": elsewhere,
        "GIT_INDEX_FILE": f"{elsewhere}/index",
        "GIT_OBJECT_DIRECTORY": f"{elsewhere}/objects",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": f"{elsewhere}/objects",
        "GIT_NAMESPACE": "other",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "merge.renames",
        "GIT_CONFIG_VALUE_0": "false",
        "GIT_CONFIG_KEY_1": "diff.external",
        "GIT_CONFIG_VALUE_1": str(trap),
        "GIT_CONFIG_PARAMETERS": "'diff.renames=copies'",
        "GIT_EXTERNAL_DIFF": str(trap),
        "GIT_PAGER": str(trap),
        "GIT_SSH": str(trap),
        "GIT_SSH_COMMAND": str(trap),
        "GIT_PROXY_COMMAND": str(trap),
        "GIT_ASKPASS": str(trap),
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_SHALLOW_FILE": f"{elsewhere}/shallow",
        "GIT_GRAFT_FILE": f"{elsewhere}/grafts",
        "GIT_REPLACE_REF_BASE": "refs/heads",
        "GIT_ATTR_SOURCE": "HEAD",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_ICASE_PATHSPECS": "1",
        "GIT_OPTIONAL_LOCKS": "1",
        "GIT_PROTOCOL": "version=0",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM": "0",
    }


VARIATIONS: dict[str, Callable[[Path, Path], dict[str, str]]] = {
    "a German locale far from Greenwich": locale,
    "a Turkish locale without UTF-8": turkish,
    "a strange global configuration": settings,
    "GIT_ variables that lead elsewhere": variables,
    "all of them at once": lambda folder, trap: {
        **locale(folder, trap),
        **settings(folder, trap),
        **variables(folder, trap),
    },
}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Accepted, held and blocked merges; and a head that git merges well only where it follows the rename."""
    made = Workspace(tmp_path_factory.mktemp("bank"))
    long = "".join(f"line {n}\n" for n in range(40))
    made.land("notes", {"notes/a.txt": long})
    workspace.git(made.clone, "fetch", "-q")
    made.branch("edit", {"notes/a.txt": long.replace("line 30", "line thirty, ü ß İ ı")})
    workspace.git(made.clone, "switch", "-q", "-c", "rename", "origin/main")
    workspace.git(made.clone, "mv", "notes/a.txt", "notes/b.txt")
    with mock.patch.dict(os.environ, {"GIT_CONFIG_GLOBAL": os.devnull}):
        writing.commit(made.clone, made.signer("alice"), "rename")
    assert made.approve("rename", "bob").code == 0
    assert made.merge("rename").code == 0
    workspace.git(made.clone, "fetch", "-q")
    assert made.approve("edit", "bob").code == 0
    made.branch("unread", made.motd("Nobody approved this."))
    made.force("unread")
    workspace.git(made.clone, "fetch", "-q")
    return made


def asked(bank: Workspace, variables: Mapping[str, str], *command: str) -> Any:
    """With no approval in the clone: they are brought by the command itself."""
    for ref in workspace.git(bank.clone, "for-each-ref", "--format=%(refname)", "refs/approvals").split():
        workspace.git(bank.clone, "update-ref", "-d", ref)
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        (sys.executable, "-m", "reconciler", *command, "-o", "json"),
        cwd=bank.clone,
        env={**os.environ, **quiet, **variables},
        capture_output=True,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    items = json.loads(done.stdout)["items"]
    for item in items:
        item.pop("at", None)  # of the question
    return done.returncode, items


def questions(bank: Workspace, variables: Mapping[str, str]) -> list[Any]:
    return [
        asked(bank, variables, "verify", "--after", bank.genesis),
        asked(bank, variables, "verify", "--after", bank.genesis, "--head", "edit"),
    ]


@pytest.fixture(scope="module")
def expected(bank: Workspace) -> list[Any]:
    told = questions(bank, {})
    assert [item["verdict"] for item in told[0][1]] == ["ACCEPT", "ACCEPT", "HOLD"]
    return told


@pytest.mark.parametrize("variation", VARIATIONS)
def test_the_verdict_is_the_same(variation: str, bank: Workspace, expected: list[Any], tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    assert questions(bank, VARIATIONS[variation](tmp_path, trap)) == expected
    # A person's own fetch may start what that person configured for a fetch; no verdict starts a driver, filter or pager.
    assert not (tmp_path / "sprung").exists()
