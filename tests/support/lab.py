"""What survives a process, and one life of the daemon's core without its threads: to be killed anywhere and made again.

Decisions are appended as if a merge had been judged: what is tested here is what follows a verdict. The simulation runs
real admission.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa

from reconciler import documents, errors, model, ports
from reconciler.admission import effect
from reconciler.audit import log, record, signing, state, storage
from reconciler.convergence import clearing, deciding, target
from reconciler.daemon import contact, core
from reconciler.targets import memory
from support import estate, objects

T = TypeVar("T")
E = TypeVar("E")
NO_PROBLEM: Callable[[str], None] = lambda _point: None  # noqa: E731 - a constant of a callable type


class Clock:
    """Every look at it takes a millisecond, so that no two records bear the same time."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        self.passed_s += 0.001
        return model.utc_ms(datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=self.passed_s))

    def monotonic_s(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds


class InTurn:
    """`ports.Concurrency`: one after the other, in order."""

    def gather(self, calls: Sequence[Callable[[], T]], *, within_s: float) -> tuple[T | None, ...]:
        return tuple(call() for call in calls)


class Gate:
    """Says no to the content it is told to, breaks while it is told to, and remembers what it was shown."""

    def __init__(self, refuses: bytes = b"\0") -> None:
        self.refuses, self.broken = refuses, False
        self.shown: list[model.Change] = []

    def check(self, change: model.Change, deadline_s: float) -> model.GateResult:
        self.shown.append(change)
        if self.broken:
            raise errors.TransientError("scanner_down", "no answer")
        bad = any(self.refuses in blob for d in change.after.values() for blob in d.payload.values())
        return model.GateResult(outcome=model.Outcome.FAIL if bad else model.Outcome.PASS)


class Killed(BaseException):
    """kill -9."""


def folder(name: str, resources: Mapping[str, object], **spec: object) -> dict[str, bytes | None]:
    """The files of one memory target; a resource named late... comes in the second stage, `m1:x` is x on member m1."""
    listed = [
        {
            "kind": "item",
            "namespace": "n",
            "name": key.rpartition(":")[2],
            "member": key.rpartition(":")[0],
            "value": value,
            "order": int("late" in key),
        }
        for key, value in resources.items()
    ]
    document = {
        "apiVersion": "reconciler/v1",
        "kind": "Target",
        "metadata": {"name": name},
        "spec": {"type": "memory", "environment": "prod", **spec},
    }
    files = {"target.yaml": document, "resources.yaml": {"resources": listed}}
    return {f"targets/{name}/{path}": json.dumps(content).encode() for path, content in files.items()}


@dataclass
class Lab:
    """What survives a process: the log, the targets, the repository, the time."""

    engine: sa.Engine = field(default_factory=lambda: storage.make_engine("sqlite://"))
    fault: Callable[[str], None] = NO_PROBLEM
    clock: Clock = field(default_factory=Clock)
    bank: estate.Estate = field(default_factory=estate.Estate)
    revisions: dict[str, model.Oid] = field(default_factory=dict)
    worlds: dict[str, memory.World] = field(default_factory=dict)
    gates: dict[str, Gate] = field(
        default_factory=lambda: {"schema": Gate(), "rollback": Gate(), "opa": Gate(b"evil"), "trivy": Gate(b"leaky")}
    )

    @property
    def store(self) -> objects.ObjectStore:
        return self.bank.store

    def world(self, name: str = "t") -> memory.World:
        return self.worlds.setdefault(name, memory.World(fault=self.fault))


class Log(log.Log):
    fault: Callable[[str], None] = staticmethod(NO_PROBLEM)

    def append(self, *events: record.Event, evidence: Iterable[bytes] = (), actor: str = "daemon") -> state.State:
        self.fault(f"before {events[0].type}")
        after = super().append(*events, evidence=evidence, actor=actor)
        self.fault(f"after {events[0].type}")
        return after

    def permit(
        self,
        intent: record.Intent,
        *,
        evidence: Iterable[bytes] = (),
        deadline_s: float,
        still: Callable[[state.State], bool] = lambda _: True,
    ) -> model.Permit:
        self.fault("before intent")
        permit = super().permit(intent, evidence=evidence, deadline_s=deadline_s, still=still)
        self.fault("after intent")
        return permit


class Process:
    """One life of the daemon, without its threads; the next one is made on the same lab."""

    def __init__(self, lab: Lab, *, holder: str = "node", watch: bool = True) -> None:
        self.lab = lab
        seed = random.Random(holder)
        signer = signing.FileSigner.from_seed(b"log-key-of-the-simulated-daemon!")
        self.log = Log(
            lab.engine, lab.clock, holder=holder, signer=signer, origin="reconciler/lab", random=seed.randbytes
        )
        self.log.fault = lab.fault
        if watch:
            self.log.lease("watch")
        numbers = itertools.count(self.log.state.size)
        self.drivers: dict[str, Callable[[], ports.Driver]] = {"memory": lambda: memory.Memory.on(lab.world, lab.clock)}
        gates: ports.Gates = {n: lambda _, n=n: lab.gates[n] for n in lab.gates}  # type: ignore[misc]
        outside = core.Ports(
            audit=self.log,
            source=lab.store,
            repository=lab.store,
            drivers=self.drivers,
            gates=gates,
            clock=lab.clock,
            concurrency=InTurn(),
            new_id=lambda: f"{holder}-{next(numbers)}",
        )
        self.core = core.Core(outside, core.Settings(terms=lab.bank.terms, pin=lab.bank.pin))
        self.core.contact.fetches = contact.Fetches(
            datetime.max.replace(tzinfo=UTC)
        )  # Decisions come from the test, not from a source.

    def target(self, name: str = "t") -> target.DeploymentTarget:
        return self.core.target(name)

    def known(self, name: str = "t") -> state.Target:
        return self.log.state.target(name)

    def desired(self, name: str, revision: str) -> model.Desired:
        document = documents.read_target(self.lab.store, self.lab.revisions[revision], name)
        assert document
        return document.desired

    def genesis(self, **targets: Mapping[str, bytes | None]) -> None:
        if self.log.state.tip is not None:
            return
        if "genesis" not in self.lab.revisions:
            files = {path: blob for each in targets.values() for path, blob in each.items()}
            self.lab.revisions["genesis"] = self.lab.store.make_commit(files, self.lab.bank.genesis)
        tree = self.lab.store.tree(self.lab.revisions["genesis"])
        self.log.append(
            record.Genesis(revision=self.lab.revisions["genesis"], reason="lab", targets=documents.target_digests(tree))
        )

    def accept(self, revision: str, files: Mapping[str, bytes | None]) -> None:
        """A merge that admission let in; once, however often it is said."""
        store, base = self.lab.store, self.log.state.tip
        assert base
        if revision not in self.lab.revisions:
            self.lab.revisions[revision] = store.make_commit(files, base)
        oid = self.lab.revisions[revision]
        if any(e.revision == oid for e in self.events(record.Decision)):
            return
        done = effect.compare(store.tree(base), store.tree(oid))
        self.log.append(
            record.Decision(
                base=base,
                revision=oid,
                verdict=model.Verdict.ACCEPT,
                effect=done.digest,
                targets=done.targets,
                policies=done.policies,
            )
        )

    def clear(self, *, only: str = "") -> float | None:
        """Try every merge that lacks a clearance, or this one; the soonest next try."""
        again = []
        for revision in (self.lab.revisions[only],) if only else tuple(self.log.state.pending):
            self.lab.fault("before clearing")
            again.append(clearing.clear(revision, self.lab.store, self.log, self.core.suite))
        return min((s for s in again if s is not None), default=None)

    def turn(self, name: str = "t") -> deciding.Move:
        move, in_s = self.target(name).turn()
        self.lab.clock.sleep(in_s)
        return move

    def settle(self, until: Callable[[], object] = lambda: False) -> dict[str, list[str]]:
        """Clear what can be cleared and take turns until every target rests or stands; the moves of each."""
        moves: dict[str, list[str]] = {name: [] for name in self.log.state.targets}
        for _ in range(200):
            if until():
                return moves
            self.clear()
            resting = True
            for name in self.log.state.targets:
                move = self.turn(name)
                moves.setdefault(name, []).append(type(move).__name__)
                resting &= isinstance(move, deciding.Rest | deciding.Stand)
            if resting:
                return moves
        raise AssertionError(moves)

    def events(self, of: type[E]) -> list[E]:
        return [entry.event for entry in self.log.records() if isinstance(entry.event, of)]

    def name_of(self, revision: str | None) -> str | None:
        return next((name for name, oid in self.lab.revisions.items() if oid == revision), revision)
