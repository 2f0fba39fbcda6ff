"""Fair turns: at most one at a time for each name, a thread per running turn and none per waiting one."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

HUNG_S = 5.0  # A turn that goes on for so long after a stop waits for somebody else.


class Turns:
    """Calls `turn(name)` when it is due; what it returns is the seconds until the next one, None for not again.

    A hung turn keeps its own thread and its own name busy, nobody else's: one that has run for `patience_s` no longer
    counts against `limit`, which only flattens bursts, nor does the next one of the same name. Waiting is an entry in a
    heap. A wake that arrives during a turn makes the next one follow at once: nothing is lost, nothing is queued twice.
    """

    def __init__(self, turn: Callable[[str], float | None], *, limit: int = 32, patience_s: float = 0.5) -> None:
        self.fatal: BaseException | None = None  # what a turn raised; it ends the process
        self._turn, self._limit, self._patience_s = turn, limit, patience_s
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}  # guarded by _changed, like all below
        self._heap: list[tuple[float, str]] = []
        self._running: dict[str, float] = {}  # name -> when its turn began
        self._again: set[str] = set()
        self._slow: set[str] = set()  # names whose last turn took longer than the patience
        self._idle: list[threading.Event] = []  # threads that ended a turn and wait for the next
        self._handed: dict[threading.Event, str | None] = {}
        self._stopping = False

    def wake(self, name: str, in_s: float = 0) -> None:
        """Make a turn due; an earlier one that is due already stays. Callable from any thread."""
        with self._changed:
            if name in self._running:
                if in_s == 0:
                    self._again.add(name)
                return
            at = time.monotonic() + in_s
            if at < self._due.get(name, float("inf")):
                self._due[name] = at
                heapq.heappush(self._heap, (at, name))
                self._changed.notify_all()

    def busy(self) -> frozenset[str]:
        """The names whose turn runs now, or is due at once."""
        with self._changed:
            now = time.monotonic()
            return frozenset(self._running) | {name for name, at in self._due.items() if at <= now}

    def run(
        self,
        *,
        until_idle: bool = False,
        beside: frozenset[str] = frozenset(),
        grace_s: float = 30,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Start due turns until `stop`, or until nothing runs and nothing is due any more; return whether it was that.

        `beside`: names that are repeated while others run, and of which nobody waits for the next turn.

        Then let running turns end, so that no write is left without its record; but those that are hung only until
        `may_leave` says that none of them has anything to record.
        """
        idle = False
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
                    heapq.heappop(self._heap)  # Overtaken by an earlier wake.
                if until_idle and not self._running and not self._awaited(now, beside):
                    idle = self._stopping = True
                    break
                fresh = [
                    began
                    for name, began in self._running.items()
                    if name not in self._slow and now - began < self._patience_s
                ]
                full = len(fresh) >= self._limit
                if full or not self._heap or self._heap[0][0] > now:
                    self._changed.wait(self._pause_s(now, min(fresh) if full else None))
                    continue
                _, name = heapq.heappop(self._heap)
                del self._due[name]
                self._running[name] = now
                self._start(name)
            for event in self._idle:
                self._handed[event] = None
                event.set()
            self._idle.clear()
            if not self._changed.wait_for(lambda: not self._running, timeout=min(grace_s, HUNG_S)):
                self._changed.wait_for(lambda: not self._running or may_leave(), timeout=max(0.0, grace_s - HUNG_S))
        return idle

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def fail(self, exc: BaseException) -> None:
        """Stop, and say why; the first reason stays."""
        self.fatal = self.fatal or exc
        self.stop()

    def _awaited(self, now: float, beside: frozenset[str]) -> bool:
        return any(name not in beside or at <= now for name, at in self._due.items())

    def _pause_s(self, now: float, oldest_fresh: float | None) -> float | None:
        if oldest_fresh is not None:
            return oldest_fresh + self._patience_s - now
        return self._heap[0][0] - now if self._heap else None

    def _start(self, name: str) -> None:
        """Hand the turn to a thread that has nothing to do, else to a new one. Called with the lock held."""
        if self._idle:
            event = self._idle.pop()
            self._handed[event] = name
            event.set()
            return
        threading.Thread(target=self._serve, args=(name,), name="turn", daemon=True).start()

    def _serve(self, name: str) -> None:
        """Take turns until there are enough idle threads without this one."""
        mine = threading.Event()
        following: str | None = name
        while following is not None:
            self._one(following)
            with self._changed:
                if self._stopping or len(self._idle) >= self._limit:
                    return
                mine.clear()
                self._idle.append(mine)
            mine.wait()
            with self._changed:
                following = self._handed.pop(mine)

    def _one(self, name: str) -> None:
        in_s: float | None = None
        try:
            in_s = self._turn(name)
        except BaseException as exc:  # noqa: BLE001 - AuditError above all: the process must end, whichever thread saw it
            self.fail(exc)
        finally:
            with self._changed:  # As one: nobody may see a turn that has ended and is not due again yet.
                again = name in self._again
                slow = time.monotonic() - self._running.pop(name) >= self._patience_s
                (self._slow.add if slow else self._slow.discard)(name)
                self._again.discard(name)
                if again or in_s is not None:
                    self.wake(name, 0 if again else in_s or 0)
                self._changed.notify_all()
