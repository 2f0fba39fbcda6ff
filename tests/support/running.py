"""A daemon in a process of its own, as users run it, and waiting for what it does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from support import installation

T = TypeVar("T")
RUN = (sys.executable, "-m", "reconciler", "run", "--config")


class Running:
    """`reconciler run`, or another command that takes the configuration as its last argument. Killed when the block is left."""

    def __init__(self, lab: installation.Installation, command: Sequence[str] = RUN, **environment: str) -> None:
        self.lab = lab
        self.log = lab.folder / f"daemon-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, str(lab.config_path)],
                stdout=log,
                stderr=log,
                env={**installation.OUR_ENVIRONMENT, **environment},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def until(self, condition: Callable[[], T], *, within_s: float = 30) -> T:
        """What the condition says when it first holds. The log of the daemon is the message when it never does."""
        end = time.monotonic() + within_s
        while not (found := condition()):
            ended = self.process.poll()
            assert ended is None, f"the daemon ended with {ended}:\n{self.log.read_text()}"
            assert time.monotonic() < end, f"not within {within_s} s:\n{self.log.read_text()}"
            time.sleep(0.02)
        return found

    def stop(self, *, within_s: float = 30) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=within_s)

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL


def holds(path: Path, content: str) -> Callable[[], bool]:
    return lambda: path.is_file() and path.read_text() == content


def free_port() -> int:
    """Nobody listens there now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def is_root() -> bool:
    return os.geteuid() == 0
