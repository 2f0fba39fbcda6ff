"""Who answers: the daemon over its socket, or, where none runs, the same application in this process over what was recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from reconciler import config, errors
from reconciler.cli import logs, printing

if TYPE_CHECKING:
    from reconciler.daemon import application

Ask = Callable[..., dict[str, JsonValue]]  # (method, path, params, body) -> document


def configuration(flag: Path | None) -> config.Configuration:
    """Raises: ConfigError."""
    return config.load(config.find(flag, os.environ), os.environ)


@contextmanager
def asking(told: config.Configuration, *, writes: bool = False) -> Iterator[Ask]:
    """Yield what answers `ask("GET", "/targets")` with a document, or raises what was raised behind it.

    `writes`: without a daemon the lock on the state folder is taken meanwhile.
    """
    if _has_daemon(told):
        from reconciler.web import client

        with client.Client(told.socket) as connection:
            yield connection.ask
        return
    from reconciler.daemon import process

    if writes:
        with process.owning(told.state), _recorded(told) as ask:
            yield ask
        return
    printing.say("no daemon runs: as recorded")
    with _recorded(told) as ask:
        yield ask


def _has_daemon(told: config.Configuration) -> bool:
    """Whether somebody answers. A socket that was left behind answers nobody.

    Raises: ConfigError(socket).
    """
    try:
        if not told.socket.exists():
            return False
    except PermissionError as exc:
        fix = 'its user lets a group in: chmod 2710 of that folder and `operators`; "Let others ask" in docs/how-to/sre.md'
        raise errors.ConfigError("socket", "this user may not ask the daemon", where=str(told.state), fix=fix) from exc
    from reconciler.web import client

    try:
        with client.Client(told.socket, within_s=10) as connection:
            connection.ask("GET", "/status")
    except errors.TransientError as exc:
        if exc.code == "no_daemon":
            return False
        raise
    return True


@contextmanager
def _recorded(told: config.Configuration) -> Iterator[Ask]:
    from reconciler.daemon import application
    from reconciler.web import api, peers, problems

    check_recorded(told)
    logs.configure()
    app = application.Application(told)
    actor = peers.actor(peers.Peer(os.getpid(), os.getuid(), os.getgid()), told.operators)

    def ask(
        method: str, path: str, params: Mapping[str, str] | None = None, body: JsonValue = None
    ) -> dict[str, JsonValue]:
        answer = api.handle(app, method, problems.PREFIX + path, params or {}, body, actor=actor)
        document = answer.document if isinstance(answer.document, dict) else {}
        if answer.status != HTTPStatus.OK:
            raise problems.error_of(answer.status, document)
        return document

    try:
        yield ask
    finally:
        close(app)


def close(app: application.Application) -> None:
    app.close()


def check_recorded(told: config.Configuration) -> None:
    """Reading makes no log.

    Raises: ConfigError(no_log).
    """
    path = Path(told.store_url.removeprefix("sqlite:///"))
    if not path.exists():
        fix = "reconciler once, or reconciler run"
        raise errors.ConfigError("no_log", "nothing was ever recorded here", where=str(path), fix=fix)
