"""The daemon as its own process, and what it says over its socket."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import TypeVar

from pydantic import JsonValue

from reconciler import errors
from reconciler.cli import printing
from reconciler.cli.demo import interrupting, shell, telling
from reconciler.web import client

T = TypeVar("T")
Row = dict[str, JsonValue]
WITHIN_S = 60.0  # for anything to come true, on a machine that does other things too
_EVERY_S = 0.05
_END_S = 20.0
_LINES = 12


class Daemon:
    """At most one process at a time. `peak_kib`: the most that any of them took."""

    def __init__(self, folder: Path, terminal: shell.Shell, interruptions: interrupting.Interruptions) -> None:
        self.socket = folder / "state" / "daemon.sock"
        self.log = folder / "daemon.log"
        self.peak_kib = 0
        self._folder, self._terminal, self._interruptions = folder, terminal, interruptions
        self._process: Popen[bytes] | None = None
        self._client: client.Client | None = None  # to make one for each question would cost more than the answer

    @property
    def command(self) -> tuple[str, ...]:
        return ("reconciler", "run")

    def start(self, *options: str) -> None:
        with self._interruptions.held():
            self._process = self._terminal.start((*self.command, *options), self._folder, self.log)

    def kill(self) -> int:
        """SIGKILL: nothing of it runs any further. Returns its process id."""
        process = self._running()
        self.measure()
        shell.end(process)
        self._hang_up()
        return process.pid

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what does not heed it."""
        process = self._process
        if process is None:
            return
        self.measure()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutExpired):
                process.wait(_END_S)
        shell.end(process)
        self._hang_up()
        self._process = None

    @property
    def pid(self) -> int:
        return self._running().pid

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ask(self, path: str, **params: str) -> Row:
        """Raises: what the daemon raised."""
        if self._client is None:
            self._client = client.Client(self.socket, within_s=WITHIN_S)
        return self._client.ask("GET", path, params or None)

    def rows(self, path: str, **params: str) -> list[Row]:
        return printing.items(self.ask(path, **params))

    def records(self, kind: str, **params: str) -> list[Row]:
        """Of one type, oldest first."""
        return self.rows("/audit", type=kind, **params)

    def target(self, name: str) -> Row:
        return self.rows(f"/targets/{name}")[0]

    def revision(self, oid: str) -> Row | None:
        return next((row for row in self.rows("/revisions") if row["revision"] == oid), None)

    def until(self, what: str, look: Callable[[], T | None], *, every_s: float = _EVERY_S) -> T:
        """Look again and again until there is something.

        Raises: SceneFailedError when the deadline passes, or the daemon ends.
        """
        end = time.monotonic() + WITHIN_S
        while time.monotonic() < end:
            self._running()
            with contextlib.suppress(errors.TransientError):  # It starts, or is just being asked for the first time.
                if found := look():
                    return found
            time.sleep(every_s)
        raise telling.SceneFailedError(f"not within {WITHIN_S:.0f} s: {what}\n{self.last_words()}")

    def until_converged(self, name: str, revision: str) -> Row:
        """Until a target is what this merge says, healthy, and nothing keeps it from staying there."""

        def look() -> Row | None:
            row = self.target(name)
            there = row["gitRevision"] == revision and row["sync"] == "Synced" and row["deploying"] is None
            return row if there and row["health"] == "Healthy" and row["standing"] is None else None

        return self.until(f"{name} is Synced and Healthy at {revision}", look)

    def until_judged(self, revision: str, verdict: str) -> Row:
        def look() -> Row | None:
            row = self.revision(revision)
            return row if row and row["verdict"] == verdict else None

        return self.until(f"{revision} is judged {verdict}", look)

    def _running(self) -> Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise telling.SceneFailedError(f"the daemon ended by itself\n{self.last_words()}")
        return self._process

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(["the last lines of its log:", *lines[-_LINES:]])

    def _hang_up(self) -> None:
        if self._client:
            self._client.close()
        self._client = None

    def measure(self) -> int:
        """VmHWM, proc_pid_status(5); 0 where there is no /proc."""
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self._process.pid}/status").read_text() if self._process else ""
            found = re.search(r"VmHWM:\s*(\d+) kB", text)
            self.peak_kib = max(self.peak_kib, int(found[1]) if found else 0)
        return self.peak_kib
