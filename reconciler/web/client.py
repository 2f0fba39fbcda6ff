"""The command line's end of the socket: asks, and raises the daemon's error as it was raised there.

On the standard library alone: a client for HTTP in general takes longer to load than the daemon to answer.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlencode

from pydantic import JsonValue

from reconciler import errors
from reconciler.web import problems

CONNECT_S = 2.0


class Client:
    """A connection to a daemon for each question. `within_s` is for one answer: plans and gates take as long as their deadlines."""

    def __init__(self, socket_path: Path, *, within_s: float = 300) -> None:
        self._path, self._within_s = socket_path, within_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open between two questions."""

    def ask(
        self, method: str, path: str, params: Mapping[str, str] | None = None, body: JsonValue = None
    ) -> dict[str, JsonValue]:
        """The document of `/api/v1` + path, e.g. `ask("GET", "/targets")`.

        Raises: TransientError(no_daemon) when nobody answers on the socket; ConfigError(socket) when this user may not ask; OutcomeUnknownError(no_answer) when a POST got
        no answer; else what the daemon raised.
        """
        content = None if method == "GET" else json.dumps(body if body is not None else {}).encode()
        headers = {"content-type": "application/json"} if content is not None else {}
        url = quote(problems.PREFIX + path) + (f"?{urlencode(params)}" if params else "")
        with self._connected() as connection:
            try:
                connection.request(method, url, content, headers)
                response = connection.getresponse()
                status, answer = response.status, response.read()
            except (http.client.HTTPException, OSError) as exc:
                kind = errors.TransientError if method == "GET" else errors.OutcomeUnknownError
                raise kind(
                    "no_answer", f"the daemon did not answer: {type(exc).__name__}", where=str(self._path)
                ) from exc
        return self._document(status, answer)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            made.settimeout(CONNECT_S)
            try:
                made.connect(str(self._path))
            except PermissionError as exc:
                fix = "ask as a user who may write to the socket"
                raise errors.ConfigError(
                    "socket", "this user may not ask the daemon", where=str(self._path), fix=fix
                ) from exc
            except OSError as exc:
                fix = "start it with `reconciler run`"
                raise errors.TransientError("no_daemon", "no daemon answers", where=str(self._path), fix=fix) from exc
            made.settimeout(self._within_s)
            connection = http.client.HTTPConnection("daemon")
            connection.sock = made  # HTTPConnection knows no Unix sockets; one that has its socket does not connect.
            with contextlib.closing(connection):
                yield connection

    def _document(self, status: int, answer: bytes) -> dict[str, JsonValue]:
        try:
            document = json.loads(answer)
        except ValueError:
            document = None
        if status == HTTPStatus.OK and isinstance(document, dict):
            return document
        if not isinstance(document, dict) or document.get("kind") != "Error":
            raise errors.PermanentError("internal", f"the daemon answered {status}", where=str(self._path))
        raise problems.error_of(status, document)
