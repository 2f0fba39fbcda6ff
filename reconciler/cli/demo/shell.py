"""Programs that a person would start: git, ssh-keygen and our own, each in a process group of its own, in an environment of the demo's own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from reconciler.cli.demo.interrupting import Interruptions
from reconciler.cli.demo.telling import SceneFailedError

PROGRAM = "reconciler"
WITHIN_S = 120.0  # one command, on a machine that does other things too


class Finished(NamedTuple):
    code: int
    out: str  # stdout, then stderr

    def expect(self, code: int, command: Sequence[str]) -> Finished:
        """Raises: SceneFailedError."""
        if self.code != code:
            raise SceneFailedError(f"`{' '.join(command)}` ended with {self.code}, not {code}:\n{self.out}")
        return self


def environment(folder: Path, config: Path) -> dict[str, str]:
    """The caller's, without what would make git, ssh or our program look elsewhere than at the demo's own files."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "SSH_", "RECONCILER_", "XDG_"))
    }
    scratch = folder / "scratch"  # what a killed process leaves there goes with the rest
    scratch.mkdir(exist_ok=True)
    return kept | {
        "HOME": str(folder),
        "TMPDIR": str(scratch),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "RECONCILER_CONFIG": str(config),
    }


class Shell:
    def __init__(self, variables: Mapping[str, str], interruptions: Interruptions) -> None:
        self._variables = dict(variables)
        self._interruptions = interruptions

    def run(self, command: Sequence[str], cwd: Path) -> Finished:
        return self.run_together([(command, cwd)])[0]

    def run_together(self, commands: Sequence[tuple[Sequence[str], Path]]) -> list[Finished]:
        """Start all, then wait for all: people do not queue."""
        with contextlib.ExitStack() as stack:
            started = [stack.enter_context(self._started(command, cwd)) for command, cwd in commands]
            return [_finish(each) for each in started]

    def start(self, command: Sequence[str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        """Leave it running: whoever asked for it ends it, with `end`."""
        with log.open("ab") as written:
            return subprocess.Popen(  # noqa: S603 - our own program
                program(command),
                cwd=cwd,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                process_group=0,
            )

    @contextmanager
    def _started(self, command: Sequence[str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
        with contextlib.ExitStack() as stack:
            with self._interruptions.held():
                process = subprocess.Popen(  # noqa: S603 - what stands in the story
                    program(command),
                    cwd=cwd,
                    env=self._variables,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    process_group=0,
                )
                stack.callback(end, process)
            yield process


def program(command: Sequence[str]) -> list[str]:
    """Our own program as the one that runs here, whatever stands on PATH."""
    return [sys.executable, "-m", PROGRAM, *command[1:]] if command[0] == PROGRAM else list(command)


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """The whole group, by its id: git starts others."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _finish(process: subprocess.Popen[str]) -> Finished:
    try:
        out, _ = process.communicate(timeout=WITHIN_S)
    except subprocess.TimeoutExpired as exc:
        raise SceneFailedError(f"{process.args!r} took longer than {WITHIN_S:.0f} s") from exc
    return Finished(process.returncode, out)
