"""Blocking calls of an event loop, each on a thread of its own that nobody waits for: a device that hangs holds no exit back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from reconciler import errors

T = TypeVar("T")


class Calls(Generic[T]):
    """At most `limit` at once, those that were abandoned included. Belongs to one loop."""

    def __init__(self, limit: int, *, broken: T) -> None:
        """`broken`: the answer for a call that raised. What it raised goes to `threading.excepthook`."""
        self._limit = limit
        self._broken = broken
        self._running = 0  # changed on the loop's thread alone

    async def run(self, call: Callable[[], T]) -> T:
        """Raises: TransientError(busy) at once when too many run: a queue would hide which target hangs."""
        if self._running >= self._limit:
            raise errors.TransientError("busy", f"{self._running} calls run already", fix="ask again later")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._running += 1
        threading.Thread(target=self._work, args=(call, loop, done), name="web-call", daemon=True).start()
        return await done

    def _work(self, call: Callable[[], T], loop: asyncio.AbstractEventLoop, done: asyncio.Future[T]) -> None:
        answer = self._broken
        try:
            answer = call()
        finally:
            with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile: nobody waits any more.
                loop.call_soon_threadsafe(self._end, done, answer)

    def _end(self, done: asyncio.Future[T], answer: T) -> None:
        self._running -= 1
        if not done.done():
            done.set_result(answer)
