"""A real OpenBao on loopback, with a certificate of its own authority; and what stands between it and a client, to fail on purpose.

bao = openbao.OpenBao(folder); bao.start()            # 0.3 s, in memory; bao.stop()
bao.url, bao.ca_path, bao.ROOT                        # https://127.0.0.1:PORT
bao.call("POST", "secret/data/x", {"data": {...}})    # as root; a status that is no success is an AssertionError
bao.write("kv/prod/app", {"token": "..."})            # KV version 2 at kv/, version 1 at old/
bao.make_role("app", ["kv/data/prod/*"])              # -> (role id, secret id) of an AppRole that may read these
with openbao.between(bao) as way: way.url, way.seen   # a plain way to it that counts, and may spoil
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support import parts

READY_WITHIN_S = 30.0
LIFE = {"token_ttl": "1h", "token_max_ttl": "4h"}


class OpenBao:
    ROOT = "root-of-these-tests"

    def __init__(self, folder: Path) -> None:
        self.binary = parts.need_openbao()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, _free_port()
        self.url, self.ca_path = f"https://127.0.0.1:{self.port}", folder / "vault-ca.pem"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        """Anew, with nothing in it but the engines."""
        options = [f"-dev-root-token-id={self.ROOT}", f"-dev-listen-address=127.0.0.1:{self.port}"]
        tls = ["-dev-tls", f"-dev-tls-cert-dir={self.folder}", "-dev-no-store-token"]
        around = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, "server", *tls, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=around
            )
        self._await()
        self.call("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
        self.call("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
        self.call("POST", "sys/auth/approle", {"type": "approle"})

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=10)

    def call(
        self, method: str, path: str, body: object = None, *, token: str = ROOT, namespace: str = ""
    ) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=self.ca_path)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10)
        headers = {"X-Vault-Token": token, "X-Vault-Namespace": namespace}
        with contextlib.closing(connection):
            connection.request(method, f"/v1/{path}", json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            raw = answer.read()
        assert answer.status < 300, f"{method} {path}: {answer.status} {raw.decode()}"
        return json.loads(raw) if raw else {}

    def write(self, place: str, data: dict[str, Any], *, namespace: str = "") -> None:
        mount, _, path = place.partition("/")
        if mount == "old":
            self.call("POST", place, data)
        else:
            self.call("POST", f"{mount}/data/{path}", {"data": data}, namespace=namespace)

    def allow(self, policy: str, paths: Sequence[str], *, namespace: str = "") -> None:
        rules = "\n".join(f'path "{path}" {{ capabilities = ["read"] }}' for path in paths)
        self.call("PUT", f"sys/policies/acl/{policy}", {"policy": rules}, namespace=namespace)

    def make_role(
        self, name: str, paths: Sequence[str], *, namespace: str = "", life: dict[str, str] | None = None
    ) -> tuple[str, str]:
        self.allow(name, paths, namespace=namespace)
        role = {"token_policies": [name], **(life or LIFE)}
        self.call("POST", f"auth/approle/role/{name}", role, namespace=namespace)
        role_id = self.call("GET", f"auth/approle/role/{name}/role-id", namespace=namespace)["data"]["role_id"]
        return str(role_id), self.new_secret_id(name, namespace=namespace)

    def new_secret_id(self, name: str, *, namespace: str = "") -> str:
        made = self.call("POST", f"auth/approle/role/{name}/secret-id", {}, namespace=namespace)
        return str(made["data"]["secret_id"])

    def make_token(self, policy: str, **more: object) -> str:
        made = self.call("POST", "auth/token/create", {"policies": [policy], **more})
        return str(made["auth"]["client_token"])

    def _await(self) -> None:
        end = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                self.call("GET", "sys/health")
            except (OSError, AssertionError, http.client.HTTPException):
                assert self._process, self.log
                assert self._process.poll() is None, self.log
                assert time.monotonic() < end, self.log
                time.sleep(0.05)
            else:
                return


@dataclass
class Spoiled:
    """What is answered in the vault's place. `drips`: a byte at a time, for ever."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: bool = False
    drips: bool = False


@dataclass
class Way:
    url: str
    seen: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spoil: Callable[[str, str], Spoiled | None] = lambda _method, _path: None
    drops: frozenset[str] = frozenset()  # headers that do not get through, in lower case
    closes: bool = False  # after each answer


@contextlib.contextmanager
def between(bao: OpenBao) -> Iterator[Way]:
    """A plain HTTP server that asks the real one; what it does not spoil, that answers."""
    way = Way("")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def do_GET(self) -> None:
            way.seen.append((self.command, self.path))
            way.headers.append({name.lower(): value for name, value in self.headers.items()})
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if spoiled := way.spoil(self.command, self.path):
                self.close_connection = spoiled.cut or spoiled.drips
                if spoiled.drips:
                    self._drip()
                elif not spoiled.cut:
                    self._say(spoiled.status, spoiled.headers, spoiled.body)
                return
            self._forward(body)

        do_POST = do_GET  # noqa: N815 - the name that the base looks for

        def _forward(self, body: bytes) -> None:
            parts_of, context = urlsplit(bao.url), ssl.create_default_context(cafile=bao.ca_path)
            real = http.client.HTTPSConnection(parts_of.hostname or "", parts_of.port, context=context, timeout=10)
            passed = {k: v for k, v in self.headers.items() if k.lower() not in {*way.drops, "host"}}
            with contextlib.closing(real):
                real.request(self.command, self.path, body, passed)
                answer = real.getresponse()
                raw = answer.read()
            self.close_connection = way.closes
            self._say(answer.status, {"Content-Type": "application/json"}, raw)

        def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _drip(self) -> None:
            with contextlib.suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 600:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(0.05)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        way.url = f"http://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            yield way
        finally:
            server.shutdown()
            serving.join(timeout=5)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
