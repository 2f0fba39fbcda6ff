"""The command line's end of the socket: asks, and raises the daemon's error as it was raised there."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from pydantic import JsonValue

from reconciler import errors
from reconciler.web import problems

CONNECT_S = 2.0


class Client:
    """One connection to a daemon. `within_s` is for one answer: plans and gates take as long as their deadlines."""

    def __init__(self, socket_path: Path, *, within_s: float = 300) -> None:
        self._path = socket_path
        self._found = False
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket_path)),
            base_url="http://daemon",
            timeout=httpx.Timeout(within_s, connect=CONNECT_S),
            trust_env=False,  # A proxy of the environment has no business on a socket.
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def ask(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: JsonValue = None
    ) -> dict[str, JsonValue]:
        """The document of `/api/v1` + path, e.g. `ask("GET", "/targets")`.

        Raises: TransientError(no_daemon) when nobody answers on the socket; ConfigError(socket) when this user may not ask; OutcomeUnknownError(no_answer) when a POST got
        no answer; else what the daemon raised.
        """
        content = None if method == "GET" else body if body is not None else {}
        self._find_daemon()
        try:
            response = self._http.request(method, problems.PREFIX + path, params=params, json=content)
        except httpx.ConnectError as exc:
            raise self._no_daemon() from exc
        except httpx.TransportError as exc:
            kind = errors.TransientError if method == "GET" else errors.OutcomeUnknownError
            raise kind("no_answer", f"the daemon did not answer: {type(exc).__name__}", where=str(self._path)) from exc
        return self._document(response)

    def _find_daemon(self) -> None:
        """Before the first request, with a socket that is closed whatever happens: httpcore leaves that to the collector."""
        if self._found:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_S)
            try:
                probe.connect(str(self._path))
            except PermissionError as exc:
                fix = "ask as a user who may write to the socket"
                raise errors.ConfigError(
                    "socket", "this user may not ask the daemon", where=str(self._path), fix=fix
                ) from exc
            except OSError as exc:
                raise self._no_daemon() from exc
        self._found = True

    def _no_daemon(self) -> errors.TransientError:
        fix = "start it with `reconciler run`"
        return errors.TransientError("no_daemon", "no daemon answers", where=str(self._path), fix=fix)

    def _document(self, response: httpx.Response) -> dict[str, JsonValue]:
        try:
            document = response.json()
        except ValueError:
            document = None
        if response.status_code == httpx.codes.OK and isinstance(document, dict):
            return document
        if not isinstance(document, dict) or document.get("kind") != "Error":
            raise errors.PermanentError(
                "internal", f"the daemon answered {response.status_code}", where=str(self._path)
            )
        raise problems.error_of(response.status_code, document)
