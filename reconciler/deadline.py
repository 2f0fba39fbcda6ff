"""One deadline for everything that is read from a socket: a server that drips a byte at a time gains nothing."""

from __future__ import annotations

import io
import socket
import time


def left_s(until: float) -> float:
    """`until`: of the monotonic clock. Raises: TimeoutError where nothing is left."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def reader(sock: socket.socket, until: float) -> io.BufferedReader:
    """What `http.client` asks of `makefile`."""
    return io.BufferedReader(_Reader(sock, until))


def words(exc: OSError | None) -> str:
    """Why nothing came, for people."""
    match exc:
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "nobody listens"
        case socket.gaierror():
            return "its name does not resolve"
        case _:
            return (exc.strerror if exc else None) or "the connection broke"


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self._until = sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # What BufferedReader passes.
        self._sock.settimeout(left_s(self._until))
        return self._sock.recv_into(buffer)
