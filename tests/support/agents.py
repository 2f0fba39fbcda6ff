"""ssh-agents: the stock one, which holds keys of files, and a stand-in for a hardware key, since no hardware is here."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socketserver
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519

from reconciler.admission import signature
from support import parts

string = signature.ssh_string
# draft-ietf-sshm-ssh-agent, message numbers.
_FAILURE, _IDENTITIES, _ANSWER, _SIGN, _SIGNED = 5, 11, 12, 13, 14


@contextlib.contextmanager
def agent(folder: Path, *keys: Path) -> Iterator[dict[str, str]]:
    """Start a stock ssh-agent with these private keys, take the files away, and yield the environment that leads to it."""
    parts.need("ssh-agent", "ssh-add")
    address = folder / "agent"
    running = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + 10
        while not address.exists() and time.monotonic() < until_s:
            time.sleep(0.01)
        environment = {"SSH_AUTH_SOCK": str(address)}
        for key in keys:
            subprocess.run(["ssh-add", "-q", key], env={**os.environ, **environment}, check=True)
            key.unlink()
        yield environment
    finally:
        running.terminate()
        running.wait(timeout=10)


class Token:
    """An sk-ssh-ed25519 key made in software. `touched`: whether the next signature says that somebody was there."""

    def __init__(self, name: str) -> None:
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self._application, self._counter = b"ssh:", 0
        self.touched = True
        kind = string(b"sk-ssh-ed25519@openssh.com")
        self._kind = kind
        self.blob = kind + string(self._key.public_key().public_bytes_raw()) + string(self._application)

    def write_public(self, path: Path, comment: str) -> Path:
        import base64

        path.write_text(f"sk-ssh-ed25519@openssh.com {base64.b64encode(self.blob).decode()} {comment}\n")
        return path

    def sign(self, message: bytes) -> bytes:
        """PROTOCOL.u2f: the token signs application, flags, counter and the hash of the message."""
        self._counter += 1
        tail = bytes([1 if self.touched else 0]) + struct.pack(">I", self._counter)
        signed = hashlib.sha256(self._application).digest() + tail + hashlib.sha256(message).digest()
        return self._kind + string(self._key.sign(signed)) + tail


@contextlib.contextmanager
def token_agent(folder: Path, token: Token) -> Iterator[dict[str, str]]:
    """An agent in this process that holds this token alone."""
    address = folder / "token-agent"
    server = _Server(str(address), token)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield {"SSH_AUTH_SOCK": str(address)}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, address: str, token: Token) -> None:
        self.token = token
        super().__init__(address, _Answer)


class _Answer(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        while size := self.rfile.read(4):
            request = self.rfile.read(int.from_bytes(size))
            answer = self._answer(request[0], request[1:])
            self.wfile.write(string(answer))

    def _answer(self, kind: int, body: bytes) -> bytes:
        token = self.server.token
        if kind == _IDENTITIES:
            return bytes([_ANSWER]) + struct.pack(">I", 1) + string(token.blob) + string(b"token")
        if kind == _SIGN:
            blob, rest = _take(body)
            message, _ = _take(rest)
            if blob == token.blob:
                return bytes([_SIGNED]) + string(token.sign(message))
        return bytes([_FAILURE])


def _take(body: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(body[:4])
    return body[4 : 4 + size], body[4 + size :]
