"""The ASGI side of one listener: probes, metrics, and everything else through `api.handle` on a thread of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from pydantic import JsonValue
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from reconciler import errors, redact
from reconciler.web import api, calls, openapi, problems
from reconciler.web.application import NOBODY, Actor, Application

MAX_BODY_BYTES = 256 << 10
MAX_CALLS = 32  # at once; a target that hangs holds one of them until its deadline
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

Identify = Callable[[Scope], Actor]


def nobody(_: Scope) -> Actor:
    return NOBODY


class Surface:
    """`identify` says who asks; `hosts`: the names under which it may be spoken to, None: any, as on the socket."""

    def __init__(
        self, application: Application, identify: Identify, *, tcp: bool, hosts: frozenset[str] | None = None
    ) -> None:
        self._application = application
        self._identify = identify
        self._tcp = tcp
        self._hosts = hosts
        self._calls = calls.Calls(MAX_CALLS, broken=problems.INTERNAL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            response = await self._answer(Request(scope, receive))
        except errors.ReconcilerError as exc:
            response = _json(problems.problem(exc))
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        self._check_host(request)
        # Probes and metrics come from memory and wait for no thread: they must answer when everything else hangs.
        match request.method, request.url.path:
            case "GET", "/livez":
                return Response("ok\n", media_type="text/plain", headers=_HEADERS)
            case "GET", "/readyz":
                return self._ready()
            case "GET", "/metrics":
                return Response(self._application.metrics(), headers={**_HEADERS, "content-type": METRICS_TYPE})
            case "GET", "/openapi.json":
                return JSONResponse(openapi.description(), headers=_HEADERS)
            case _:
                return await self._operation(request)

    async def _operation(self, request: Request) -> Response:
        params, body = _params(request), await _body(request)

        def call() -> problems.Answer:
            actor = self._identify(request.scope)
            return api.handle(
                self._application,
                request.method,
                request.url.path,
                params,
                body,
                actor=actor,
                tcp=self._tcp,
            )

        return _json(await self._calls.run(call))

    def _ready(self) -> Response:
        reasons = self._application.ready()
        text = "".join(f"{redact.line(f'{reason.code}: {reason.message}')}\n" for reason in reasons) or "ok\n"
        return Response(text, status_code=503 if reasons else 200, media_type="text/plain", headers=_HEADERS)

    def _check_host(self, request: Request) -> None:
        """A page that rebinds its own name to loopback must not read this (DNS rebinding)."""
        host = request.url.hostname or ""
        if self._hosts is not None and host not in self._hosts:
            raise errors.ConfigError(
                "forbidden", "this is not a name of this daemon", where=host, fix="ask for 127.0.0.1"
            )


def _params(request: Request) -> Mapping[str, str]:
    pairs = request.query_params.multi_items()
    if len({name for name, _ in pairs}) < len(pairs):
        raise errors.ConfigError("params", "a parameter stands twice", where=request.url.path)
    return dict(pairs)


async def _body(request: Request) -> JsonValue:
    """The JSON of a POST. Another media type is refused: a form on somebody's page can send the others without asking."""
    if request.method != "POST":
        return None
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise errors.ConfigError("body", "application/json is expected", where=request.url.path)
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > MAX_BODY_BYTES:
            raise errors.ConfigError("too_large", f"at most {MAX_BODY_BYTES} bytes are read", where=request.url.path)
    try:
        value: JsonValue = json.loads(bytes(taken), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise errors.ConfigError("body", "not JSON, or a key stands twice", where=request.url.path) from exc
    return value


def _once(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _no_constant(name: str) -> JsonValue:
    raise ValueError(name)


def _json(answer: problems.Answer) -> Response:
    return JSONResponse(answer.document, status_code=answer.status, headers=_HEADERS)
