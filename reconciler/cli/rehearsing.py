"""What the gates say of a change, from a clone alone: those that judge content. Records nothing, resolves no secret, asks no server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from reconciler import documents, errors, model, ports
from reconciler.audit import record, state
from reconciler.cli import clone
from reconciler.convergence import clearing
from reconciler.daemon import clock, plugins

NOT_RUN = "not_run"
_HERE = clearing.PURE


def run(here: clone.Clone, decision: record.Decision, onto: ports.Repository) -> record.Clearance:
    """`onto`: a repository in which the decision's revision is what the merge leaves behind.

    A clone takes what stands on the watched branch for what is deployed: the gates see the change from there.
    """
    with tempfile.TemporaryDirectory(prefix="reconciler-gates-") as scratch:
        suite = clearing.Suite(_gates(onto, Path(scratch)), clock.Threads(), clock.SystemClock())
        try:
            results = clearing.preview(decision, onto, confirmed(here), suite, by_log=False)
        except errors.ConfigError as exc:  # A document that nobody can read.
            unreadable = model.GateResult(outcome=model.Outcome.FAIL, findings=(model.Reason.of(exc),), check="schema")
            results = (unreadable.model_copy(update={"targets": tuple(sorted(decision.targets))}),)
        clean = tuple(model.GateResult.model_validate(result.model_dump()) for result in results)
        return record.Clearance(revision=decision.revision, results=clean, passed=clearing.passes(clean))


def was_not_run(result: model.GateResult) -> bool:
    return any(finding.code == NOT_RUN for finding in result.findings)


def confirmed(here: clone.Clone) -> state.State:
    targets = {}
    for name, digest in documents.target_digests(here.repository.tree(here.base)).items():
        stands = model.Version(revision=here.base, digest=digest)
        targets[name] = state.Target(name=name, confirmed=stands, cleared=stands)
    return here.known.model_copy(update={"size": 1, "targets": targets})


class _NoSecrets:
    """A clone has none, and no gate of content needs one."""

    def resolve(self, reference: str) -> str:
        raise errors.ConfigError("secret", "a clone resolves no secret", where=reference)


class _Asks:
    """In the place of a gate that asks a server: the daemon has its address, and may reach it."""

    def __init__(self, check: model.Check) -> None:
        self._check = check

    def check(self, change: model.Change, deadline_s: float) -> model.GateResult:  # noqa: ARG002 - the port's signature
        message = f"{self._check.title} asks a server: not run here"
        finding = model.Reason(code=NOT_RUN, message=message, fix="ask the daemon: --config FILE")
        return model.GateResult(outcome=model.Outcome.ERROR, findings=(finding,))


class _OfContent(Mapping[str, Callable[[model.Check], ports.Gate]]):
    """All gates by name; of these only the ones that are functions of their input run here."""

    def __init__(self, loaded: ports.Gates) -> None:
        self._loaded = loaded

    def __getitem__(self, name: str) -> Callable[[model.Check], ports.Gate]:
        if name not in self._loaded:
            raise KeyError(name)
        return self._loaded[name] if name in _HERE else _Asks

    def __contains__(self, name: object) -> bool:
        return name in set(self._loaded)  # Without loading it.

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)


def _gates(merged: ports.Repository, scratch: Path) -> ports.Gates:
    def around(kind: str) -> ports.DriverFacilities:
        # Which folders a daemon may write stands in its own configuration: it asks again.
        return ports.DriverFacilities("clone", scratch / kind, (Path("/"),), _NoSecrets(), clock.SystemClock())

    drivers: ports.Drivers = plugins.Loaded(
        "reconciler.targets", frozenset(), lambda kind, made: lambda: made(around(kind))
    )
    facilities = ports.GateFacilities(merged, drivers, clock.SystemClock(), production=False)
    loaded: ports.Gates = plugins.Loaded(
        "reconciler.gates", frozenset(), lambda _, made: lambda check: made(check, facilities)
    )
    return _OfContent(loaded)
