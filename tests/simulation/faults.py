"""What goes wrong inside a turn: the process dies, the disk is full, the process is held up while another one works.

A *point* is a place between two effects: before and after each commit of the log, each write at a target, each gate.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from reconciler.audit import storage

PAUSES = ("before apply", "before write", "after write", "after apply", "gate", "before confirm")

Lie = Literal["", "claims", "lost", "unsent", "partial", "refuses", "breaks", "moved", "keeps"]


class Killed(BaseException):
    """kill -9: no handler of the product may see it."""


@dataclass
class Faults:
    """What is planned for the points to come; each happens once."""

    kill_in: int | None = None  # so many points from now
    full: Literal["", "before", "after"] = ""  # the next commit fails, before or after it took effect
    pause_in: int | None = None  # counts the points at which another process may work
    lie: Lie = ""  # of the next apply, or confirm (`keeps`)
    pause: Callable[[], None] = lambda: None

    def clear(self) -> None:
        self.kill_in, self.full, self.pause_in, self.lie = None, "", None, ""

    def point(self, name: str) -> None:
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                self.kill_in = None
                raise Killed(name)
        if self.pause_in is not None and name.startswith(PAUSES):
            self.pause_in -= 1
            if self.pause_in < 0:
                self.pause_in = None
                self.pause()


class Store(storage.Store):
    """A disk that may be full, under a process that may die, right before and right after a commit."""

    def __init__(self, engine: sa.Engine, faults: Faults) -> None:
        super().__init__(engine)
        self._faults = faults

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        with super().writing() as connection:
            yield connection
            self._faults.point("before commit")
            self._fail("before")
        self._faults.point("after commit")
        with storage._storage_errors("log_append", "the audit log could not be written"):
            self._fail("after")

    def _fail(self, when: str) -> None:
        if self._faults.full == when:
            self._faults.full = ""
            raise sa.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))
