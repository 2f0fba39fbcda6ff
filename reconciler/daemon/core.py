"""The two loops over one log, bound to whatever ports they are given. No thread, timer or signal: see `process.py`.

Names of turns: `watch` (fetch and judge), `clear:REVISION`, `target:NAME`. A timer, a webhook, a file event, a record and
a person do nothing but make one of them due.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reconciler import errors, model, ports
from reconciler.admission import admit, admitted
from reconciler.audit import log, record, state
from reconciler.convergence import clearing
from reconciler.convergence import target as targets
from reconciler.daemon import braking, contact


@dataclass(frozen=True)
class Ports:
    """All that is outside: the daemon binds the real ones, the simulation its own."""

    audit: log.Log
    source: ports.Source
    repository: ports.Repository
    drivers: ports.Drivers
    gates: ports.Gates
    clock: ports.Clock
    concurrency: ports.Concurrency
    new_id: Callable[[], str]


@dataclass(frozen=True)
class Settings:
    """What the configuration says about both loops."""

    terms: admit.Terms
    pin: admit.Pin
    poll_s: float = 30
    per_gate_s: float = 90
    suite_s: float = 110


class Core:
    """Safe for one turn of each name at a time, from any thread."""

    def __init__(self, outside: Ports, settings: Settings) -> None:
        self.audit = outside.audit
        self.repository = outside.repository
        self.contact = contact.Contact(settings.poll_s)
        self.settings = settings
        self.outside = outside
        self.suite = clearing.Suite(
            outside.gates,
            outside.concurrency,
            outside.clock,
            per_gate_s=settings.per_gate_s,
            within_s=settings.suite_s,
            denied=settings.terms.denied,
        )
        self.braking = braking.Braking(
            outside.audit, outside.repository, outside.clock, terms=settings.terms, heard_of=self.contact
        )
        self._around = targets.Surroundings(
            drivers=outside.drivers,
            audit=outside.audit,
            read=self.read,
            brakes=self.braking.brakes,
            recheck=self.recheck,
            heard=self.contact.heard,
            clock=outside.clock,
            new_id=outside.new_id,
        )
        self.judged: tuple[record.Decision, ...] | None = None  # the last time that the source was read; None: not yet
        self._targets: dict[str, targets.DeploymentTarget] = {}
        self._admitted: dict[str, tuple[object, admitted.Admitted]] = {}
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """Every turn that there is reason to take; after a restart nothing else has to be done."""
        known = self.audit.state
        return ("watch", *(f"clear:{r}" for r in known.pending), *(f"target:{n}" for n in known.targets))

    def turn(self, name: str) -> tuple[object, float | None]:
        """Take one turn; return what it did and the seconds until the next, None for not before a record makes it due.

        Raises: AuditError of the log, which ends the process.
        """
        subject, _, rest = name.partition(":")
        try:
            match subject:
                case "watch":
                    return self.judge(), self.settings.poll_s
                case "clear":
                    self.audit.lease("watch", for_s=2 * (self.settings.suite_s + targets.LEASE_MARGIN_S))
                    return None, clearing.clear(model.Oid(rest), self.repository, self.audit, self.suite)
                case _:
                    return self.target(rest).turn()
        except errors.TransientError as exc:
            return exc, self.settings.poll_s
        except errors.AuditError as exc:
            if exc.code not in admit.STORE:
                raise
            self.audit.lease("watch")  # An alarm of the mirror stops every write, and the process stays to say so.
            admit.halt(self.audit, model.Reason.of(exc))
            return exc, self.settings.poll_s

    def judge(self) -> tuple[record.Decision, ...]:
        """One pass of the first loop: fetch, judge, record.

        Raises: TransientError when the source cannot be read; nothing is concluded from that.
        """
        self.audit.lease("watch")
        outside = self.outside
        try:
            if self.audit.state.genesis != self.settings.pin.genesis or "pin" in self.audit.state.halted:
                outside.source.fetch(self.settings.pin.genesis, frozenset())
                self.contact.fetches = contact.Fetches(outside.clock.now())
                admit.take_over(self.repository, self.audit, self.settings.pin, clock=outside.clock)
            decided = admit.admit(
                outside.source,
                self.repository,
                self.audit,
                terms=self.settings.terms,
                clock=outside.clock,
                patience=self.contact.patience,
            )
            admit.let_converge(self.audit, self.settings.pin)
        except errors.TransientError as exc:
            self.contact.fetches = contact.Fetches(self.contact.fetches.last, exc)
            raise
        self.contact.fetches = contact.Fetches(self.outside.clock.now())
        self.judged = decided
        return decided

    def held(self) -> tuple[record.Decision, ...]:
        """What is not accepted on the watched branch. The log alone also knows what was there and was taken back."""
        recorded = tuple(self.audit.state.held.values())
        if self.judged is None:
            return recorded
        there = {decision.revision for decision in self.judged}
        return tuple(decision for decision in recorded if decision.revision in there)

    def target(self, name: str) -> targets.DeploymentTarget:
        with self._lock:
            if name not in self._targets:
                self._targets[name] = targets.DeploymentTarget(name, self._around)
            return self._targets[name]

    def fresh_target(self, name: str) -> targets.DeploymentTarget:
        """One with a driver of its own, for a preview beside a running turn. The caller closes it."""
        return targets.DeploymentTarget(name, self._around)

    def looked_at(self) -> Mapping[str, targets.DeploymentTarget]:
        """The targets that this process has made so far."""
        with self._lock:
            return dict(self._targets)

    def is_accounted_for(self) -> bool:
        """Whether the log says of every write what became of it."""
        return not any(each.open and each.open.unsettled for each in self.audit.state.targets.values())

    def recheck(self, name: str, version: model.Version) -> model.ValidationResult:
        return clearing.recheck(name, version, self.repository, self.audit.state, self.suite)

    def close(self) -> None:
        for each in self.looked_at().values():
            each.close()

    def read(self, name: str, version: model.Version) -> admitted.Admitted:
        """Parsed once for each version and confirmed state, however often the target is looked at."""
        question = (version, self.audit.state.target(name).confirmed)
        kept = self._admitted.get(name)
        if kept is None or kept[0] != question:
            kept = (question, admitted.read_admitted(self.repository, self.audit, name, version))
            self._admitted[name] = kept
        return kept[1]


def due(entry: record.Record, after: state.State) -> list[str]:
    """The turns that a record makes due. One that is forgotten here only comes later: every turn has its interval."""
    names: list[str] = []
    match entry.event:
        case record.Genesis() | record.Reset() | record.TakenOver():
            names = [f"target:{n}" for n in after.targets]
        case record.Clearance() as event:
            touched = (t for t in after.targets.values() if entry.seq == t.clearance or event.revision == t.waiting)
            names = [f"target:{t.name}" for t in touched]
        case record.Outcome() | record.Confirmed():
            held = (t for t in after.targets.values() if t.standing and t.standing.code == "dependency")
            names = [f"target:{t.name}" for t in held]
        case record.Standing(code="dependency") as event:  # What it waits for may have come while this was written.
            names = [f"target:{event.target}"]
        case record.Operator() as event:
            names = [f"target:{event.target}"]
        case record.Obligation(kind="review", change="closed"):
            held = (t for t in after.targets.values() if t.standing and t.standing.code == "deferred")
            names = [f"target:{t.name}" for t in held]
        case _:
            pass
    if isinstance(entry.event, record.Decision | record.Clearance | record.Operator):
        names += [f"clear:{r}" for r, m in after.pending.items() if not m.results]
    if isinstance(entry.event, record.Clearance):
        names += [f"clear:{r}" for r, m in after.pending.items() if _missed(m) & _answered(entry.event)]
    return names


def _answered(event: record.Clearance) -> set[str]:
    return {result.gate for result in event.results if result.outcome is not model.Outcome.ERROR}


def _missed(merge: state.Merge) -> set[str]:
    """The gates that broke when this merge was tried. One that answers another merge may answer it too, before its back-off ends."""
    return {result.gate for result in merge.results if result.outcome is model.Outcome.ERROR}
