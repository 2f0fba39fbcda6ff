"""Ctrl-C, and the signals that end a process: each becomes one exception, never in the middle of starting a process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruptions:
    """Raises KeyboardInterrupt for the first signal and ignores what follows: cleaning up is not to be interrupted again."""

    def __init__(self) -> None:
        self.seen = False
        self._held = 0
        self._waiting = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        kept = {number: signal.signal(number, self._told) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, before in kept.items():
                signal.signal(number, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile a signal waits. A process that was started and is not yet known would be left behind."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._waiting and not self._held:
            self._waiting = False
            raise KeyboardInterrupt

    @contextmanager
    def ended(self) -> Iterator[None]:
        """After it only cleaning up is left: a first signal that comes so late is ignored too, else it would leave a part."""
        try:
            yield
        finally:
            self.seen = True

    def _told(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a signal's callback
        if self.seen:
            return
        self.seen = True
        if self._held:
            self._waiting = True
            return
        raise KeyboardInterrupt
