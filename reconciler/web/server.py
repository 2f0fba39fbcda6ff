"""Two listeners in one background thread: the whole API on a Unix socket, reads on loopback TCP (design.md 5)."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
import time
from pathlib import Path

import uvicorn
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from reconciler import config, errors
from reconciler.web import peers, surface
from reconciler.web.application import Actor, Application

START_S = 10.0
STOP_S = 5.0
_PROBE_S = 1.0


class _WithPeer(H11Protocol):
    """Notes who connected in the state of every request's scope. uvicorn copies `app_state` into it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            self.app_state = {**self.app_state, "peer": peers.peer(connection)}


class Server:
    """Serves an application until `stop`. Binding is done by `start` in the caller's thread, so that its errors are the caller's."""

    def __init__(self, application: Application, configuration: config.Configuration) -> None:
        self._application = application
        self._configuration = configuration
        self._servers: list[uvicorn.Server] = []
        self._listeners: list[socket.socket] = []
        self._thread: threading.Thread | None = None
        self._placed = 0  # inode of our socket: another daemon's is not ours to remove

    @property
    def address(self) -> tuple[str, int] | None:
        """Where TCP is answered; None where it is not."""
        for listener in self._listeners:
            if listener.family in {socket.AF_INET, socket.AF_INET6}:
                host, port, *_ = listener.getsockname()
                return host, port
        return None

    def start(self) -> None:
        """Return when both listeners answer.

        Raises: ConfigError(daemon_running) when somebody answers on the socket; (listen) when an address cannot be bound.
        """
        self._listeners = [bind_socket(self._configuration.socket)]
        self._placed = self._configuration.socket.lstat().st_ino
        self._servers = [_server(surface.Surface(self._application, self._identify, tcp=False))]
        if self._configuration.web.listen:
            self._listeners.append(self._bind_tcp(self._configuration.web.listen))
            self._servers.append(
                _server(surface.Surface(self._application, surface.nobody, tcp=True, hosts=self._hosts()))
            )
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()
        until = time.monotonic() + START_S
        while not all(server.started for server in self._servers):
            if not self._thread.is_alive() or time.monotonic() > until:
                self.stop()
                raise errors.ConfigError("listen", "the listeners did not start; see the log")
            time.sleep(0.005)

    def stop(self) -> None:
        """Answer what has been asked, as far as that takes no longer than a few seconds, then close. Repeatable."""
        for server in self._servers:
            server.should_exit = True
        if self._thread:
            self._thread.join(STOP_S)
        for listener in self._listeners:
            listener.close()
        if self._placed and _inode(self._configuration.socket) == self._placed:
            self._configuration.socket.unlink(missing_ok=True)
        self._placed = 0
        self._listeners, self._servers, self._thread = [], [], None

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        pairs = zip(self._servers, self._listeners, strict=True)
        await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in pairs))

    def _identify(self, scope: Scope) -> Actor:
        found = scope.get("state", {}).get("peer")
        if not isinstance(found, peers.Peer):
            raise errors.ConfigError("forbidden", "the peer of this connection is not known")
        return peers.actor(found, self._configuration.operators)

    def _hosts(self) -> frozenset[str] | None:
        """On loopback only its own names; what is public on purpose is known under names that nobody tells us."""
        if self._configuration.web.unsafe_public:
            return None
        host, _ = config.split_listen(self._configuration.web.listen or "")
        return frozenset({host, "localhost", "127.0.0.1", "::1"})

    def _bind_tcp(self, listen: str) -> socket.socket:
        host, port = config.split_listen(listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except OSError as exc:
            listener.close()
            self.stop()
            raise errors.ConfigError(
                "listen", f"{listen}: {exc.strerror}", fix="set web.listen to a free address"
            ) from exc
        return listener


def bind_socket(path: Path) -> socket.socket:
    """Bind under another name, restrict it, then move it into place: it is never there with wider rights, and never half.

    Raises: ConfigError(daemon_running | listen).
    """
    check_stale(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fresh.unlink(missing_ok=True)
        listener.bind(str(fresh))
        fresh.chmod(0o660)
        listener.listen()  # Before it is in place: whoever finds it is answered.
        fresh.replace(path)
    except OSError as exc:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise errors.ConfigError(
            "listen", str(exc), where=str(path), fix="choose a short `state` path that is ours"
        ) from exc
    return listener


def check_stale(path: Path) -> None:
    """Whether the name is free, or what a killed daemon left behind. Anything else is not ours to replace."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise errors.ConfigError("listen", "there is something else in the place of the socket", where=str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as exc:  # Not refused: perhaps a daemon that is busy.
            raise errors.ConfigError("daemon_running", f"cannot tell who answers: {exc}", where=str(path)) from exc
    raise errors.ConfigError("daemon_running", "a daemon answers here already", where=str(path), fix="stop it first")


def _inode(path: Path) -> int:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return 0


def _server(app: surface.Surface) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=_WithPeer,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # A header must not say who asks.
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )
