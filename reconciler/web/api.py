"""/api/v1 without a transport: one table of operations over an `Application` (design.md 9).

The socket, loopback TCP and a command line without a daemon all come through `handle`, so that they cannot differ in what they
allow, how they redact, or what they answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import pydantic
from pydantic import JsonValue

from reconciler import errors, redact
from reconciler.views import document
from reconciler.web import operations, problems
from reconciler.web.application import Actor, Application


@dataclass(frozen=True)
class Route:
    """One operation. `verb`: what the actor must be allowed; empty: anybody who can connect."""

    name: str
    method: str
    path: str  # `{target}` stands for one segment
    run: Callable[[operations.Call], document.Document]
    verb: str = ""
    params: tuple[str, ...] = ()
    takes: type[pydantic.BaseModel] | None = None  # the body
    tcp: bool = field(default=True, kw_only=True)  # also answered beyond the socket

    def match(self, path: str) -> dict[str, str] | None:
        """What the path names, or None where it is another's."""
        found = re.fullmatch(re.sub(r"\{([a-z]+)\}", r"(?P<\1>[^/]+)", self.path), path)
        return found.groupdict() if found else None


def _read(name: str, path: str, run: Callable[[operations.Call], document.Document], *params: str) -> Route:
    return Route(name, "GET", path, run, params=params)


def _write(verb: str, path: str, run: Callable[[operations.Call], document.Document]) -> Route:
    takes = operations.Rollback if verb == "rollback" else operations.Reasoned
    return Route(verb, "POST", path, run, verb=verb, takes=takes, tcp=False)


ROUTES: tuple[Route, ...] = (
    _read("status", "/status", operations.get_status),
    _read("targets", "/targets", operations.get_targets),
    _read("target", "/targets/{target}", operations.get_target),
    _read("diff", "/targets/{target}/diff", operations.get_diff),
    _read("history", "/targets/{target}/history", operations.get_history),
    _read("trace", "/targets/{target}/trace", operations.get_trace, "key", "field"),
    _read("revisions", "/revisions", operations.get_revisions, "since"),
    _read("deployments", "/deployments", operations.get_deployments, "target", "since"),
    _read("gates", "/gates", operations.get_gates, "revision", "since"),
    # Scanners run for it, so not for anybody who reaches TCP.
    Route("run_gates", "GET", "/gates/run", operations.run_gates, params=("head",), tcp=False),
    _read("drift", "/drift", operations.get_drift),
    _read("freezes", "/freezes", operations.get_freezes),
    _read("obligations", "/obligations", operations.get_obligations, "all"),
    _read("plan", "/plan", operations.get_plan, "head"),
    _read("verify", "/verify", operations.get_verdicts, "head"),
    _read("audit_verify", "/audit/verify", operations.verify_log),
    _read("audit", "/audit", operations.query_log, *operations.QUERY),
    _read("audit_record", "/audit/{seq}", operations.get_record),
    _write("suspend", "/targets/{target}/suspend", operations.suspend),
    _write("resume", "/targets/{target}/resume", operations.resume),
    _write("reconcile", "/targets/{target}/reconcile", operations.reconcile),
    _write("drop", "/targets/{target}/drop", operations.drop),
    _write("rollback", "/deployments/{deployment}/rollback", operations.rollback),
    # A statement is signed: who carries it does not matter (design.md 5).
    Route("approve", "POST", "/approvals", operations.submit),
)


def handle(
    application: Application,
    method: str,
    path: str,
    params: Mapping[str, str],
    body: JsonValue,
    *,
    actor: Actor,
    tcp: bool = False,
) -> problems.Answer:
    """Answer one request, e.g. `handle(app, "GET", "/api/v1/targets", {}, None, actor=actor)`. May block as its operation does.

    `tcp`: it came from beyond the socket; nothing that a verb is needed for is answered there.
    """
    try:
        route, named = _route(method, path)
        _allow(route, params, actor, tcp=tcp)
        result = route.run(operations.Call(application, named, params, body, actor))
    except errors.ReconcilerError as exc:
        return problems.problem(exc)
    document = result.model_dump(mode="json", by_alias=True)
    return problems.Answer(HTTPStatus.OK, redact.document(document))


def _route(method: str, path: str) -> tuple[Route, dict[str, str]]:
    rest = path.removeprefix(problems.PREFIX)
    here = [(route, named) for route in ROUTES if (named := route.match(rest)) is not None] if rest != path else []
    if not here:
        raise errors.ConfigError("no_operation", "there is nothing at this path", where=path, fix="see /openapi.json")
    for route, named in here:
        if route.method == method:
            return route, named
    raise errors.ConfigError("method", f"{here[0][0].method} only", where=path)


def _allow(route: Route, params: Mapping[str, str], actor: Actor, *, tcp: bool) -> None:
    if tcp and not route.tcp:
        raise errors.ConfigError(
            "forbidden",
            f"{route.name} is taken over the socket only",
            where=actor.name,
            fix="ask on the daemon's machine",
        )
    if route.verb and route.verb not in actor.verbs:
        raise errors.ConfigError(
            "forbidden",
            f"{actor.name} may not {route.verb}",
            where=actor.name,
            fix="add the verb to `operators` in the configuration",
        )
    unknown = sorted(params.keys() - set(route.params))
    if unknown:
        known = ", ".join(route.params) or "none"
        raise errors.ConfigError(
            "params", f"{unknown[0]}: no parameter of {route.name}; it takes: {known}", where=route.path
        )
