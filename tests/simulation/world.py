"""What survives a process: the repository, the log's database, the targets, the time; and the processes that live on it."""

from __future__ import annotations

import dataclasses
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeVar

from pydantic import JsonValue
from support import estate

from reconciler import errors, model, ports
from reconciler.admission import admit
from reconciler.audit import log, record, signing, state, storage
from reconciler.daemon import core
from reconciler.gates import rollback, schema
from reconciler.targets import memory
from simulation import faults

T = TypeVar("T")

ORIGIN = "reconciler.example/simulation"
SIGNER = signing.FileSigner.from_seed(b"log-key-of-the-simulated-daemon!")
POLL_S = 30.0


@dataclass
class Time:
    """True time, and a wall clock that may be behind it."""

    passed_s: float = 0.0
    behind_s: float = 0.0

    def wall(self) -> datetime:
        return model.utc_ms(estate.NOW + timedelta(seconds=self.passed_s - self.behind_s))


class Clock:
    """`ports.Clock` of one process, held as the daemon holds its own: it never goes back. Each look takes a millisecond."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self._last = time.wall()

    def now(self) -> datetime:
        self._time.passed_s += 0.001
        self._last = max(self._last, self._time.wall())
        return self._last

    def monotonic_s(self) -> float:
        return self._time.passed_s

    def sleep(self, seconds: float) -> None:
        self._time.passed_s += seconds


class World(memory.World):
    """A target that sees the leases: a write under one that was taken over is refused (targets.md 1.9, case 7)."""

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(fault=site.faults.point)
        self.site, self.name = site, name
        self.permit: model.Permit | None = None  # of the apply that is under way
        self.sick: model.Health | None = None  # what its probes say
        self.touched: dict[model.Key, str] = {}  # who changed it last: a deployment, or "" for somebody else

    def put(self, key: model.Key, value: JsonValue, *, order: int = 0) -> None:
        if self.permit is None or self.permit.epoch < self.site.epoch(self.name):
            raise errors.PermanentError("fenced", "another daemon has taken this target over")
        self.site.on_write(self, self.permit, key, value)
        self.touched[key] = self.permit.deployment
        if value is not None:  # One that no other target has, as the identities of real targets are.
            self.identities.setdefault(key, f"{self.name} {self.written}")
        super().put(key, value, order=order)
        self.site.counts["writes"] += 1

    def expire(self) -> None:
        if self.armed:
            self.touched = dict.fromkeys(self.touched, "")
            self.site.counts["dead-man fired"] += 1
        super().expire()

    def edit(self, key: model.Key, value: JsonValue) -> None:
        """Somebody else's hand."""
        self.touched[key] = ""
        if value is None:
            self.values.pop(key, None)
            self.identities.pop(key, None)
        else:
            self.values[key] = value
            self.identities.setdefault(key, f"{self.name} by hand {len(self.site.lines)}")


class Driver(memory.Memory):
    """The memory driver behind a network that loses answers and devices that lie."""

    site: Site

    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        self.site.faults.point("look")
        look = super().observe(wanted, owned, deadline_s)
        sick = self.site.world(wanted.target).sick
        return look.model_copy(update={"health": sick}) if sick else look

    def apply(self, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> tuple[model.StepResult, ...]:
        world, lies = self.site.world(wanted.target), self.site.faults
        lies.point("before apply")
        lie, lies.lie = lies.lie, ""
        before, world.permit = world.permit, permit
        try:
            results = self._lie(lie, wanted, stage, permit) if lie else super().apply(wanted, stage, permit)
        finally:
            world.permit = before
        lies.point("after apply")
        return results

    def _lie(
        self, lie: faults.Lie, wanted: model.Wanted, stage: model.Stage, permit: model.Permit
    ) -> tuple[model.StepResult, ...]:
        self.site.counts[f"lie: {lie}"] += 1
        match lie:
            case "claims":  # Says so, and did nothing.
                return tuple(
                    model.StepResult(key=s.key, effect=model.Effect.CHANGED, identity="claimed") for s in stage.steps
                )
            case "lost":
                super().apply(wanted, stage, permit)
                raise errors.OutcomeUnknownError("lost", "the link went away after the write was sent")
            case "unsent":
                raise errors.OutcomeUnknownError("lost", "the link went away while the write was sent")
            case "partial":
                super().apply(wanted, stage.model_copy(update={"steps": stage.steps[:1]}), permit)
                raise errors.TransientError("lost", "it went away in the middle")
            case "refuses":
                reason = model.Reason(code="refused", message="the target says no")
                return tuple(
                    model.StepResult(key=s.key, effect=model.Effect.FAILED, finding=reason) for s in stage.steps
                )
            case "moved":
                return tuple(model.StepResult(key=s.key, effect=model.Effect.MOVED) for s in stage.steps)
            case "breaks":
                super().apply(wanted, stage, permit)
                raise RuntimeError("a driver with a bug")
            case _:
                return super().apply(wanted, stage, permit)

    def confirm(self, wanted: model.Wanted, deployment: str) -> bool:
        self.site.faults.point("before confirm")
        if self.site.faults.lie == "keeps":
            self.site.faults.lie = ""
            super().confirm(wanted, deployment)
            raise errors.TransientError("lost", "it was confirmed, and the answer was lost")
        return super().confirm(wanted, deployment)


class Opa:
    """The gate that knows evil when it sees it; it breaks, or is late, while the site says so."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def check(self, change: model.Change, deadline_s: float) -> model.GateResult:
        self._site.faults.point("gate opa")
        if self._site.gate_broken == "broken":
            raise errors.TransientError("scanner_down", "no answer")
        if self._site.gate_broken == "bug":
            raise ValueError("a gate with a bug")
        bad = any(b"evil" in blob for desired in change.after.values() for blob in desired.payload.values())
        return model.GateResult(outcome=model.Outcome.FAIL if bad else model.Outcome.PASS)


class InTurn:
    """`ports.Concurrency`: one after the other; a late answer is thrown away."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def gather(self, calls: Sequence[Callable[[], T]], *, within_s: float) -> tuple[T | None, ...]:
        late = self._site.gate_broken == "late"
        if late:
            self._site.time.passed_s += within_s
        return tuple(None if late else call() for call in calls)


@dataclass
class Merge:
    """What the simulation knows of a merge that it pushed: the truth that verdicts are held against."""

    revision: model.Oid
    base: model.Oid
    head: model.Oid
    author: str
    signed: bool
    environments: frozenset[str]
    policies: bool = False
    skips: tuple[model.Oid, ...] = ()  # a recovery
    direct: bool = False  # not even a merge
    approved: set[str] = field(default_factory=set)  # whose approvals lie at the source
    rejected: set[str] = field(default_factory=set)
    rejected_at: datetime | None = None
    broken: dict[str, datetime] = field(default_factory=dict)  # who broke the glass for it, and until when
    reviewed: dict[str, datetime] = field(default_factory=dict)  # who looked at it, and when they said so


@dataclass
class Document:
    """One target as the repository holds it: its resources, and what else stands under `spec`."""

    resources: dict[str, str]
    spec: dict[str, JsonValue]


class Site:
    """Everything that there is; one object for one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.time = Time()
        self.faults = faults.Faults()
        self.engine = storage.make_engine("sqlite://")
        self.bank: estate.Estate
        self.worlds: dict[str, World] = {}
        self.merges: dict[model.Oid, Merge] = {}
        self.documents: dict[model.Oid, dict[str, Document]] = {}  # by revision of the watched branch
        self.freezes: dict[model.Oid, tuple[datetime, datetime]] = {}  # by the blob of the policy
        self.accepted: set[model.Oid] = set()  # as the auditor read it
        self.converge = bool(seed % 2)  # whether targets may be written before a merge touches them
        self.converge_later = seed % 4 == 0  # the operator says so from the second start on
        self.gate_broken = ""
        self.processes: list[Process] = []
        self.started = 0
        self.turns = 0
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []
        self.on_write: Callable[[World, model.Permit, model.Key, JsonValue], None] = lambda *_: None

    def say(self, line: str) -> None:
        self.lines.append(f"{self.time.passed_s:10.3f}  {line}")

    def world(self, name: str) -> World:
        if name not in self.worlds:
            self.worlds[name] = World(self, name)
        return self.worlds[name]

    def policy(self, revision: model.Oid) -> model.Oid:
        """The blob of the approval policy at a revision."""
        return self.bank.store.tree(revision)[estate.POLICY_PATH.encode()].oid

    def epoch(self, name: str) -> int:
        """Of the lease of this target, as the database has it."""
        raw = self.sqlite.execute("SELECT epoch FROM lease WHERE scope = ?", (f"target:{name}",)).fetchone()
        return int(raw[0]) if raw else 0

    @cached_property
    def sqlite(self) -> sqlite3.Connection:
        """The one connection of the database in memory, to read beside the product."""
        connection = self.engine.raw_connection().driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def start(self) -> Process:
        self.started += 1
        process = Process(self, f"host:{self.started}")
        self.say(f"{process.holder} starts")
        self.processes.append(process)
        return process

    def end(self, process: Process, why: str) -> None:
        self.say(f"{process.holder} ends: {why}")
        self.counts[f"end: {why.partition(':')[0]}"] += 1
        if process in self.processes:
            self.processes.remove(process)


class Process:
    """One life of the daemon, without its threads: turns are taken when they are due, in an order that the seed chooses."""

    def __init__(self, site: Site, holder: str) -> None:
        self.site, self.holder = site, holder
        self.clock = Clock(site.time)
        ids = random.Random(f"{site.seed} {holder}")
        self.log = log.Log(site.engine, self.clock, holder=holder, signer=SIGNER, origin=ORIGIN, random=ids.randbytes)
        self.log._store = faults.Store(site.engine, site.faults)
        drivers: ports.Drivers = {"memory": self._driver}
        facilities = ports.GateFacilities(
            repository=site.bank.store, drivers=drivers, clock=self.clock, production=False
        )
        gates: ports.Gates = {
            "schema": lambda check: schema.SchemaGate(check, facilities),
            "rollback": lambda check: rollback.RollbackGate(check, facilities),
            "opa": lambda _: Opa(site),
        }
        outside = core.Ports(
            audit=self.log,
            source=site.bank.store,
            repository=site.bank.store,
            drivers=drivers,
            gates=gates,
            clock=self.clock,
            concurrency=InTurn(site),
            new_id=lambda: f"{holder}-{ids.getrandbits(32):08x}",
        )
        converge = site.converge or (site.converge_later and site.started > 1)
        pin = dataclasses.replace(site.bank.pin, converge=converge)
        self.core = core.Core(outside, core.Settings(terms=site.bank.terms, pin=pin, poll_s=POLL_S))
        self.core.contact.patience = admit.Patience()
        self.due: dict[str, float] = {"watch": site.time.passed_s}
        self._read_once = False
        self.log.subscribe(self._heard)

    def _driver(self) -> ports.Driver:
        made = Driver.on(self.site.world, self.clock)
        made.site = self.site
        return made

    def wake(self, name: str, in_s: float = 0) -> None:
        self.due[name] = min(self.site.time.passed_s + in_s, self.due.get(name, float("inf")))

    def turn(self, name: str) -> object:
        """What `daemon.process` does with a turn that is due.

        Raises: Killed; AuditError, which ends the process.
        """
        del self.due[name]
        move, in_s = self.core.turn(name)
        if name == "watch" and not self._read_once:
            self._read_once = True
            for each in self.core.names():
                if each != "watch":
                    self.wake(each)
        if in_s is not None:
            self.wake(name, in_s)
        return move

    def operate(self, event: record.Operator) -> None:
        """What `daemon.application` does with what an operator asks.

        Raises: TransientError(leased); Killed; AuditError.
        """
        self.log.lease("watch")
        self.log.append(event, actor=event.actor)
        self.wake(f"target:{event.target}")

    def _heard(self, entry: record.Record, after: state.State) -> None:
        for name in core.due(entry, after):
            self.wake(name)


def read_document(blob: bytes) -> dict[model.Key, JsonValue]:
    """`resources.yaml` as `support.lab.folder` writes it, read without the product."""
    found: dict[model.Key, JsonValue] = {}
    for each in json.loads(blob)["resources"]:
        member = f"{each['member']}:" if each["member"] else ""
        found[model.Key(f"{member}{each['kind']}/{each['namespace']}/{each['name']}")] = each["value"]
    return found
