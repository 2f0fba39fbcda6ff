"""What an operator asks for: in this process under the lock, or over the socket of a daemon that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import workspace
from support.workspace import Workspace

from reconciler.daemon import process


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.land("words", made.motd("Approved words."))
    assert made.there("once").code == 0
    return made


def test_a_suspended_target_waits_until_it_is_resumed(bank: Workspace) -> None:
    assert bank.there("suspend", "hello", "--reason", "storage moves, CHG7").code == 0
    bank.land("more", bank.motd("More words."))
    passed = bank.there("once")
    assert passed.code == 5
    assert "stands suspended" in passed.err
    assert bank.there("resume", "hello", "--reason", "done").code == 0
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "More words.\n"
    who = [h["who"] for h in bank.there("history", "hello", "-o", "json").items if h["what"] == "operator"]
    assert all(f"(uid {os.getuid()})" in name for name in who)


def test_a_rollback_is_prepared_as_a_signed_revert(bank: Workspace) -> None:
    before = bank.there("get", "targets", "-o", "json").items[0]["confirmedRevision"]
    bank.land("more", bank.motd("More words."))
    assert bank.there("once").code == 0
    newest = bank.there("get", "deployments", "-o", "json").items[-1]
    assert newest["before"] == before
    workspace.git(bank.clone, "fetch", "-q")
    told = ("--config", bank.daemon / "reconciler.yaml", "--key", bank.keys["alice"])
    prepared = bank.here("rollback", newest["id"], *told)
    assert prepared.code == 0, prepared.err
    name = prepared.out.split()[1].removeprefix("refs/heads/")
    assert bank.approve(name, "bob").code == 0
    assert bank.merge(name).code == 0
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "Approved words.\n"


def test_a_revert_that_makes_no_sense_is_told_why_and_what_to_do(bank: Workspace) -> None:
    bank.land("more", bank.motd("More words."))
    assert bank.there("once").code == 0
    bank.land("even", bank.motd("Even more words."))
    assert bank.there("once").code == 0
    first, middle, newest = (d["id"] for d in bank.there("get", "deployments", "-o", "json").items)
    told = ("--config", bank.daemon / "reconciler.yaml", "--key", bank.keys["alice"])

    stranger = bank.here("rollback", first, *told)
    assert (stranger.code, "--pin --reason WHY goes back" in stranger.err) == (2, True)

    prepared = bank.here("rollback", middle, *told, "--reason", "INC7", "--push")
    assert prepared.code == 0, prepared.err
    assert f"takes back too: {newest}, change to" in prepared.err
    made, ref = prepared.out.split()
    assert workspace.git(bank.server, "rev-parse", ref) == made
    assert "INC7" in workspace.git(bank.clone, "log", "-1", "--format=%B", made)

    twice = bank.here("rollback", middle, *told)
    assert (twice.code, "prepared already" in twice.err, "git branch -D revert-hello-" in twice.err) == (2, True, True)

    name = ref.removeprefix("refs/heads/")
    assert bank.approve(name, "bob").code == 0
    assert bank.merge(name).code == 0
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "Approved words.\n"
    workspace.git(bank.clone, "fetch", "-q")
    nothing = bank.here("rollback", middle, *told)
    assert (nothing.code, "already as it was before" in nothing.err) == (2, True)


def test_a_rollback_with_pin_acts_at_once_and_says_so(bank: Workspace) -> None:
    bank.land("more", bank.motd("More words."))
    assert bank.there("once").code == 0
    newest = bank.there("get", "deployments", "-o", "json").items[-1]
    without = bank.there("rollback", newest["id"], "--pin")
    assert without.code == 2  # no reason
    assert bank.there("rollback", newest["id"], "--pin", "--reason", "INC1").code == 0
    passed = bank.there("once")
    assert passed.code == 5
    assert "stands pinned" in passed.err
    assert (bank.machine / "etc/motd").read_text() == "Approved words.\n"
    assert bank.there("reconcile", "hello").code == 0
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "More words.\n"


def test_only_a_released_target_is_dropped(bank: Workspace) -> None:
    refused = bank.there("target", "drop", "hello", "--reason", "gone")
    assert refused.code == 2
    assert "not_released" in refused.err


def test_the_lock_keeps_a_second_process_out(bank: Workspace) -> None:
    with process.owning(bank.daemon / "state"):
        assert "locked" in bank.there("once").err
        assert "locked" in bank.there("suspend", "hello", "--reason", "x").err
        assert bank.there("get", "targets").code == 0


def test_a_daemon_answers_over_its_socket_and_ends_cleanly(bank: Workspace) -> None:
    with _daemon(bank) as running:
        status = bank.there("get", "status", "-o", "json")
        assert status.document["mode"] == "daemon"
        assert "as recorded" not in status.err
        assert bank.there("suspend", "hello", "--reason", "over the socket").code == 0
        assert "locked" in bank.there("once").err
        bank.there("resume", "hello", "--reason", "done")
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    assert not (bank.daemon / "state/daemon.sock").exists()
    assert bank.there("audit", "verify").code == 0


@contextmanager
def _daemon(bank: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    log = bank.daemon / "daemon.log"
    with log.open("wb") as stderr:
        running = subprocess.Popen((sys.executable, "-m", "reconciler", "run"), cwd=bank.daemon, stderr=stderr)
        try:
            _await_answer(bank, running, log)
            yield running
        finally:
            running.kill()
            running.wait()


def _await_answer(bank: Workspace, running: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert running.poll() is None, log.read_text()
        answer = bank.there("get", "status", "-o", "json")
        if answer.code == 0 and answer.document["mode"] == "daemon" and answer.document["fetched"]:
            return
        time.sleep(0.2)
    pytest.fail(log.read_text())


SOMEBODY_ELSE = """
import os, pathlib, sys
from reconciler import errors
from reconciler.cli import session
from reconciler.daemon import process
told = session.configuration(pathlib.Path(sys.argv[1]))
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
for act in (lambda: session.asking(told), lambda: process.owning(told.state)):
    try:
        with act():
            pass
    except errors.ConfigError as exc:
        print(exc.code, exc.where, bool(exc.fix))
"""


def test_a_user_whom_the_folder_is_closed_to_is_told_who_may_open_it(bank: Workspace) -> None:
    state = bank.daemon / "state"
    state.chmod(0)
    try:
        command = [sys.executable, "-c", SOMEBODY_ELSE, str(bank.daemon / "reconciler.yaml")]
        said = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    finally:
        state.chmod(0o700)
    assert said.stdout.splitlines() == [f"socket {state} True", f"state {state} True"], said.stderr
