"""Time and threads as the core asks for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from reconciler import model

T = TypeVar("T")


class SystemClock:
    """The machine's clock, which never goes back within one process: a step back stands still until time has caught up."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            self._last = max(self._last, model.utc_ms(datetime.now(UTC)))
            return self._last

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Threads:
    """`ports.Concurrency` with a thread for each call.

    They are daemon threads: a pool's would be joined when the process ends, and a hung scanner would keep it alive.
    """

    def gather(self, calls: Sequence[Callable[[], T]], *, within_s: float) -> tuple[T | None, ...]:
        answers: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()
        for place, call in enumerate(calls):
            threading.Thread(
                target=lambda p=place, c=call: answers.put((p, c())), name=f"gate-{place}", daemon=True
            ).start()
        found: dict[int, T] = {}
        end = time.monotonic() + within_s
        while len(found) < len(calls):
            try:
                place, answer = answers.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            found[place] = answer
        return tuple(found.get(place) for place in range(len(calls)))
