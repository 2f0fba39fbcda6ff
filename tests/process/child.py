"""A story of merges, told to the real daemon, which is killed with SIGKILL at one point after another: `child.py FOLDER FIRST STEP`.

Each life is a fork of this process, so that what is imported is imported once. A point is a moment before or after a
record, or before a change of a name in a target's folder. What each life was killed at, and all that is left when the
last one ended by itself, goes to standard output, a line of JSON for each kill; the first is the story without one.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from support import estate, installation

from reconciler import model
from reconciler.audit import log, record
from reconciler.git import mirror
from reconciler.targets.vm import driver

RENAMES = ("link", "rename", "unlink", "rmdir", "mkdir")
NOW = datetime.now(UTC)
GOOD = {"conf.d/app.conf": "good 1\n", "conf.d/old": "goes\n"}
BAD = {"conf.d/app.conf": "bad 2\n", "conf.d/new": "comes\n"}
HEALTH = [{"file": {"path": "conf.d/app.conf", "contains": "good"}}]


class Story:
    """Two merges with a hand that meddles in between. `folder` is made anew; what it holds follows from its path alone."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.root = folder / "roots" / "web"
        self.root.mkdir(parents=True)
        self.bystander = self.root / "bystander"
        self.bystander.write_text("nobody's\n")
        self._stood = self.bystander.stat()
        self.lab = installation.Installation(folder, installation.vm("web", self.root, {}, health=HEALTH), at=NOW)
        tips = [self.lab.merge(installation.vm("web", self.root, files, health=HEALTH)) for files in (GOOD, BAD)]
        first, second = (self._pass(tip) for tip in tips)
        self.steps: tuple[Callable[[], object], ...] = (first, self._meddle, first, second)
        self._progress, self._journal, self._killed = (folder / name for name in ("progress", "journal", "killed"))
        self._progress.write_text("0")

    def live(self, kill_at: int | None) -> bool:
        """One life in a process of its own; whether it came to the end of the story."""
        child = os.fork()
        if child == 0:
            self._live(kill_at)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return False
        assert os.WEXITSTATUS(status) == 0, "a life broke"
        return True

    def _live(self, kill_at: int | None) -> None:
        try:
            plant(self._journal, self._killed, kill_at)
            while (at := int(self._progress.read_text())) < len(self.steps):
                self.steps[at]()
                later = self._progress.with_suffix(".new")
                later.write_text(str(at + 1))
                later.replace(self._progress)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)

    def _pass(self, tip: model.Oid) -> Callable[[], object]:
        def take() -> None:
            self.lab.git("update-ref", estate.REF, tip)
            end = self.lab.converge()
            assert end.unreachable is None

        return take

    def _meddle(self) -> None:
        (self.root / "conf.d" / "app.conf").write_text("by hand\n")

    def leaves(self) -> tuple[str, ...]:
        return tuple(f"{each.seq} {each.id}" for each in self.lab.records())

    def told(self) -> dict[str, Any]:
        """What must be the same, wherever the process was killed."""
        known = self.lab.converge().state.targets["web"]
        report = self.lab.verification()
        what = {"cleared", "confirmed", "owned", "failed", "standing", "open"}
        return {
            "writes": self._journal.read_text().splitlines(),
            "files": {
                str(p.relative_to(self.root)): p.read_text() for p in sorted(self.root.rglob("*")) if _is_theirs(p)
            },
            "outcomes": self.lab.outcomes("web"),
            "target": known.model_dump(mode="json", include=what),
            "bystander": _identity(self.bystander.stat()) == _identity(self._stood),
            "problems": [reason.message for reason in report.problems] + list(report.caches),
            "unaccounted": len(self.lab.events(record.Intent)) - len(self.lab.events(record.Applied)),
            "deployments": len({each.deployment for each in self.lab.events(record.Intent)}),
            "merges": [str(each.verdict) for each in self.lab.events(record.Decision)],
        }


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _is_theirs(path: Path) -> bool:
    return path.is_file() and not driver.is_our_own(path)


def plant(journal: Path, killed: Path, kill_at: int | None) -> None:
    """From now on this process dies at that point, and what it does to names is written down. Nobody takes it back."""
    numbers, lock = itertools.count(), threading.Lock()
    written = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    applying = threading.local()
    passed = journal.with_name("points").open("a", buffering=1)

    def point(name: str) -> None:
        with lock:
            passed.write(f"{name}\n")
            if next(numbers) == kill_at:
                killed.write_text(name)
                os.kill(os.getpid(), signal.SIGKILL)
                threading.Event().wait()  # The signal is on its way.

    def around(of: Any, name: str, label: Callable[..., str], *, inside: bool = False) -> None:
        real = getattr(of, name)

        def call(*args: Any, **named: Any) -> object:
            point(f"before {label(*args)}")
            applying.now = inside
            try:
                done = real(*args, **named)
            finally:
                applying.now = False
            point(f"after {label(*args)}")
            return done

        setattr(of, name, call)

    def renaming(name: str, real: Callable[..., None]) -> None:
        def call(path: str, *args: Any, **named: Any) -> None:
            theirs = _theirs(path, *args, **named) if getattr(applying, "now", False) else None
            if theirs is None or name == "mkdir":
                return real(path, *args, **named)
            point(f"before {name}")
            real(path, *args, **named)
            content = theirs.read_bytes() if theirs.is_file() else None
            line = [name, theirs.name, content.decode().strip() if content is not None else "-"]
            os.write(written, " ".join(line).encode() + b"\n")
            return None

        setattr(os, name, call)

    around(log.Log, "append", lambda _, *events: events[0].type if events else "nothing")
    around(log.Log, "permit", lambda *_: "intent")
    around(mirror.Mirror, "fetch", lambda *_: "fetch")
    around(driver.Vm, "apply", lambda *_: "apply", inside=True)
    around(driver.Vm, "confirm", lambda *_: "confirm")
    for each in RENAMES:
        renaming(each, getattr(os, each))


def _theirs(path: str, *args: Any, **named: Any) -> Path | None:
    """The managed file or folder whose name this call changes; None where it is our own."""
    name = str(args[0] if args else path)
    fd = named.get("dst_dir_fd", named.get("dir_fd"))
    place = Path(f"/proc/self/fd/{fd}").readlink() / name if fd is not None else Path(name)
    return None if driver.is_our_own(place) else place


def tell(folder: Path, kill_at: int | None) -> dict[str, Any] | None:
    """None when the story has no such point."""
    story = Story(folder)
    ended = story.live(kill_at)
    if ended and kill_at is not None:
        return None
    kept = story.leaves() if story.lab.database.exists() else ()
    assert ended or story.live(None), "the next life was killed too"
    after = story.leaves()
    if kill_at is None:
        at: list[str] = sorted(set((folder / "points").read_text().splitlines()))
    else:
        at = [(folder / "killed").read_text()]
    return {"at": at, "lost": list(kept) != list(after[: len(kept)]), **story.told()}


def main(folder: str, first: str, step: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    points: Iterable[int | None] = itertools.chain([None], itertools.count(int(first), int(step)))
    for kill_at in points:
        told = tell(Path(folder) / "lab", kill_at)
        if told is None:
            return
        print(json.dumps(told), flush=True)  # noqa: T201 - what this program is for


if __name__ == "__main__":
    main(*sys.argv[1:])
