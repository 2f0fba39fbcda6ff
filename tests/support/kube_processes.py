"""Processes that outlive who began them: known by files in a folder, ended by whoever knows the folder."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

STOPS_WITHIN_S = 3.0


class Processes:
    """Each has a name, its id in FOLDER/pids/NAME and its output in FOLDER/NAME.log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, name: str, command: list[str], more: Mapping[str, str]) -> None:
        """Without a Popen object: another process than this one may end it. `more`: of its environment."""
        (self._folder / "pids").mkdir(exist_ok=True)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self._folder / f"{name}.log"), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        pid = os.posix_spawn(command[0], command, {**os.environ, **more}, file_actions=actions, setsid=True)
        (self._folder / "pids" / name).write_text(f"{pid} {_begun(pid)}")

    def find(self, name: str) -> int | None:
        """The id of one that lives and is ours: the number may long be another's."""
        try:
            pid, begun = map(int, (self._folder / "pids" / name).read_text().split())
        except FileNotFoundError:
            return None
        _reap(pid)
        return pid if _begun(pid) == begun else None

    def end(self, name: str, how: signal.Signals) -> None:
        """Returns when it is gone; one that does not go by itself is killed."""
        pid = self.find(name)
        if pid is None or pid == os.getpid():  # The keeper ends itself last.
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            for each in (how, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, each)
                if select.select([handle], [], [], STOPS_WITHIN_S)[0]:
                    break
        finally:
            os.close(handle)
            _reap(pid)

    def said(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")


def _begun(pid: int) -> int:
    """When it began, in the kernel's ticks; 0 for one that has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if state in "ZX" else int(fields[18])


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # Another process began it.
        os.waitpid(pid, os.WNOHANG)


def free_ports(count: int) -> list[int]:
    """Below those that the system gives to connections, so that a port is still free after a restart."""
    held: list[socket.socket] = []
    draw = random.SystemRandom()  # Tests seed the other one alike in every worker.
    try:
        while len(held) < count:
            taken = socket.socket()
            held.append(taken)
            try:
                taken.bind(("127.0.0.1", draw.randrange(12000, 32000)))
            except OSError:
                held.pop().close()
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()
