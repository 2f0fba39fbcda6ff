"""Servers that are dead, each in its own way, and one that can die."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Self

SO_ATTACH_FILTER = 26  # linux/socket.h
DROP = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET of nothing: not a byte of a packet is let in


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A port that nobody listens on, and nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Connections are accepted; not a byte ever comes back."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        yield listening.getsockname()[1]


@contextlib.contextmanager
def dropping() -> Iterator[int]:
    """Every packet to this port is dropped, as by a firewall: a filter on the socket, which needs no rights."""
    program = ctypes.create_string_buffer(DROP)
    with socket.socket() as listening:
        fprog = struct.pack("HL", 1, ctypes.addressof(program))
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        yield listening.getsockname()[1]


class Passage:
    """A process of its own between a client and a server, so that this server can stop answering in the middle of everything."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, str(port)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())

    def hang(self) -> None:
        """Open connections stay, new ones are still taken; nothing passes."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _pass_on(port: int) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        print(listening.getsockname()[1], flush=True)  # noqa: T201 - its parent reads it
        while True:
            here, _ = listening.accept()
            there = socket.create_connection(("127.0.0.1", port))
            for source, sink in ((here, there), (there, here)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    _pass_on(int(sys.argv[1]))
