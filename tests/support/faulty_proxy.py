"""A proxy in front of a real API server that fails on purpose: it answers in the server's place, or cuts the connection.

Not a stand-in for the server: what it does not spoil, the real one answers. `before` it reaches the server, or `after`.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from support import kube


@dataclass
class Fault:
    """The first requests that match are spoiled, `times` of them."""

    matches: Callable[[str, str], bool]  # method, path
    status: int = 0  # 0: the connection is cut
    after: bool = False  # once the server has done it
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass
class Proxy:
    url: str
    kubeconfig: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    streams: list[socket.socket] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spoil(self, fault: Fault) -> None:
        with self.lock:
            self.faults.append(fault)

    def take(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.seen.append((method, path))
            for fault in self.faults:
                if fault.times > 0 and fault.matches(method, path):
                    fault.times -= 1
                    return fault
        return None

    def cut_watches(self) -> None:
        with self.lock:
            for each in self.streams:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self.streams.clear()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    behind: str
    trust: ssl.SSLContext

    def _pass(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        fault = self.proxy.take(self.command, self.path)
        if fault and not fault.after:
            self._fail(fault)
            return
        parts = urlsplit(self.behind)
        there: HTTPConnection = HTTPSConnection(parts.hostname or "", parts.port, context=self.trust, timeout=60)
        try:
            kept = {name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}}
            there.request(self.command, self.path, body, kept)
            answer = there.getresponse()
            if fault:
                answer.read()
                self._fail(fault)
            elif "watch=" in self.path:
                self._stream(answer)
            else:
                self._answer(answer.status, answer.read(), {})
        finally:
            there.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815 - the names of the base class

    def _fail(self, fault: Fault) -> None:
        if fault.status == 0:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": fault.status, **fault.body}
        self._answer(fault.status, json.dumps(status).encode(), fault.headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, answer: HTTPResponse) -> None:
        with self.proxy.lock:
            self.proxy.streams.append(self.connection)
        self.send_response(answer.status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(OSError):
            while line := answer.readline():
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what these tests are about."""


@contextlib.contextmanager
def in_front_of(plane: kube.ControlPlane, user: str = "deployer") -> Iterator[Proxy]:
    """Serves with the plane's own certificate, so that its kubeconfig is good for the proxy but for the port."""
    trust = ssl.create_default_context(cafile=str(plane.ca_path))

    class Handler(_Handler):
        pass

    Handler.behind, Handler.trust = plane.url, trust
    server = _Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plane.folder / "server.crt", plane.folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    url = f"https://127.0.0.1:{server.server_port}"
    Handler.proxy = proxy = Proxy(url, plane.kubeconfig(user).replace(plane.url, url))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="proxy")
    thread.start()
    try:
        yield proxy
    finally:
        proxy.cut_watches()
        server.shutdown()
        server.server_close()
        thread.join()
