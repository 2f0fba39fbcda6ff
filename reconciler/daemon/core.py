"""The two loops over one log, bound to whatever ports they are given. No thread, timer or signal: see `process.py`.

Names of turns: `watch` (fetch and judge), `clear:REVISION`, `target:NAME`. A timer, a webhook, a file event, a record and
a person do nothing but make one of them due.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from reconciler import documents, errors, model, ports
from reconciler.admission import admit, admitted, codes, earlier, judging, policy, waiving, withdrawing
from reconciler.audit import log, record, state
from reconciler.convergence import clearing, deciding
from reconciler.convergence import target as targets

SILENT_POLLS = 2  # A source that has been silent for longer lets no change begin (trust.md 2.3).


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


@dataclass
class Fetches:
    """The last contact with the source; guarded by being replaced, never changed."""

    last: datetime | None = None
    failure: errors.ReconcilerError | None = field(default=None)


class _Said(NamedTuple):
    """What people said since about a change that is not yet written."""

    heard: object  # when that was asked
    said: object  # of which statements it was judged
    reasons: model.ValidationResult


class Core:
    """Safe for one turn of each name at a time, from any thread."""

    def __init__(self, outside: Ports, settings: Settings) -> None:
        self.audit = outside.audit
        self.repository = outside.repository
        self.fetches = Fetches()
        self.patience: admit.Patience | None = None  # a running daemon lets a replica lag; one pass does not
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
        self._around = targets.Surroundings(
            drivers=outside.drivers,
            audit=outside.audit,
            read=self.read,
            brakes=self.brakes,
            recheck=self.recheck,
            heard=self.heard,
            clock=outside.clock,
            new_id=outside.new_id,
        )
        self._targets: dict[str, targets.DeploymentTarget] = {}
        self._admitted: dict[str, tuple[object, admitted.Admitted]] = {}
        self._said: dict[str, _Said] = {}
        self._glass: dict[str, tuple[object, bool]] = {}
        self._uploads = 0  # statements that came by another way than a fetch
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
                self.fetches = Fetches(outside.clock.now())
                admit.take_over(self.repository, self.audit, self.settings.pin, clock=outside.clock)
            decided = admit.admit(
                outside.source,
                self.repository,
                self.audit,
                terms=self.settings.terms,
                clock=outside.clock,
                patience=self.patience,
            )
        except errors.TransientError as exc:
            self.fetches = Fetches(self.fetches.last, exc)
            raise
        self.fetches = Fetches(self.outside.clock.now())
        return decided

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

    def brakes(self, wanted: model.Wanted, known: state.Target) -> deciding.Brakes:
        """From memory only: the state, the last fetch, the policy in force. No network but the target's own in its turn."""
        now = self.audit.state
        halted = tuple(
            model.Reason(code=code, message="an integrity alarm stops every write", fix="reconciler verify says more")
            for code in now.halted
            if code not in judging.HISTORY
        )
        claimed = Claims(now, known.name)
        if isinstance(wanted, model.Snapshot) or now.tip is None:
            return deciding.Brakes(halted=halted, claimed=claimed)
        at = self.outside.clock.now()
        reasons = [*self._silence(at), *self._rewritten(now), *self._clock_went_back(now, at)]
        calendar = self._calendar(wanted, known, at)
        if calendar:
            reasons.append(calendar[0])
        reasons += self._unreviewed(wanted, known, at)
        return deciding.Brakes(
            halted=halted,
            withdrawn=self._withdrawn(wanted, known),
            deferred=tuple(reasons),
            until=calendar[1] if calendar else None,
            dependency=self._unready(wanted, known),
            claimed=claimed,
        )

    def _withdrawn(self, wanted: model.Desired, known: state.Target) -> model.ValidationResult:
        """Why what is about to be written for the first time may not be, by what was said since it was accepted."""
        if known.open or not known.heads or (known.confirmed and known.confirmed.digest == wanted.digest):
            return ()
        behind = tuple(seq for seq in known.decisions if seq <= known.decision)
        heard, kept = (behind, self.heard()), self._said.get(known.name)
        if kept is not None and kept.heard == heard:
            return kept.reasons
        said = self._statements(known, behind)  # Most fetches bring nothing about it: then nothing is judged again.
        if kept is not None and said is not None and kept.said == said:
            kept = kept._replace(heard=heard)
        else:
            reasons = (*(reason for seq in behind for reason in self._taken_back(seq)), *self._unwaived(known))
            kept = _Said(heard, said, reasons)
        self._said[known.name] = kept
        return kept.reasons

    def _statements(self, known: state.Target, behind: tuple[int, ...]) -> object:
        """All that is said about these merges, and what it is judged by; None where it cannot be read."""
        merged = [head for seq, head in known.heads.items() if seq in behind]
        heads = [each for head in merged for each in (head, *earlier.possible(self.repository, head))]
        try:
            said = tuple(model.sha256(each) for head in heads for each in self.repository.envelopes(head))
        except (errors.TransientError, errors.PermanentError):
            return None
        now = self.audit.state
        return behind, said, known.clearance, now.policies, now.reset

    def _calendar(
        self, wanted: model.Desired, known: state.Target, at: datetime
    ) -> tuple[model.Reason, datetime] | None:
        """The freeze or window that keeps a change waiting. What was accepted as a return does not wait for it.

        Nor does an emergency, as long as it lasts, where it stands in for what is closed.
        """
        now = self.audit.state
        rules = policy.read_policy(self.repository, now.policies or model.Oid(now.tip or ""))
        found = rules.deferred(wanted.environment, at)
        if found and known.emergency and at < known.emergency and self._is_broken(known):
            found = rules.deferred(wanted.environment, at, emergency=True)
        return None if found and self._is_return(known.decision) else found

    def _unreviewed(self, wanted: model.Desired, known: state.Target, at: datetime) -> model.ValidationResult:
        """What is ordinary waits for the overdue reviews of its environment (trust.md 5.3)."""
        late = [
            owed
            for owed in self.audit.state.reviews.values()
            if owed.due and at >= owed.due and wanted.environment in owed.environments
        ]
        if not late or known.emergency or self._is_return(known.decision):
            return ()
        return tuple(
            model.Reason(
                code="obligation",
                message=f"the emergency {owed.incident or owed.revision[:12]} should have been reviewed by "
                f"{model.print_time(owed.due or at)}",
                where=owed.revision,
                fix=f"reconciler review {owed.revision[:12]} --push, by {' and '.join(owed.need)}",
            )
            for owed in late
        )

    def _is_broken(self, known: state.Target) -> bool:
        """Whether the glass is broken still: nobody took the emergency back since it was accepted."""
        question = (known.decision, self.heard())
        kept = self._glass.get(known.name)
        if kept is None or kept[0] != question:
            terms, now = self.settings.terms, self.audit.state
            decisions = self._decisions(known.decision)
            broken = [withdrawing.is_broken_still(self.repository, each, now, terms=terms) for each in decisions]
            kept = (question, any(broken))
            self._glass[known.name] = kept
        return kept[1]

    def _decisions(self, seq: int) -> tuple[record.Decision, ...]:
        """The one behind what is wanted; none where it was taken over."""
        found = (entry.event for entry in self.audit.records(after=seq - 1, before=seq + 1))
        return tuple(event for event in found if isinstance(event, record.Decision))

    def _is_return(self, seq: int) -> bool:
        """Whether the merge behind what is wanted came in under the policy's `rollback` rule (trust.md 2.3, 5.3)."""
        return any(rule.id == "rollback" for decision in self._decisions(seq) for rule in decision.rules)

    def _taken_back(self, seq: int) -> model.ValidationResult:
        terms = self.settings.terms
        return tuple(
            reason
            for entry in self.audit.records(after=seq - 1, before=seq + 1)
            if isinstance(entry.event, record.Decision)
            for reason in withdrawing.withdrawn(self.repository, entry.event, self.audit.state, terms=terms)
        )

    def _unwaived(self, known: state.Target) -> model.ValidationResult:
        """What its clearance rests on and people no longer answer for."""
        cleared = self._event(known.clearance)
        merge = self._event(known.decision)
        if cleared is None or not isinstance(cleared.event, record.Clearance) or merge is None:
            return ()
        if not isinstance(merge.event, record.Decision) or not any(r.waived for r in cleared.event.results):
            return ()
        rules = policy.read_policy(self.repository, self.audit.state.policies or merge.event.base)
        around = waiving.Circumstances(cleared.at, self.settings.terms.denied, self.audit.state.reset)
        return withdrawing.unwaived(self.repository, merge.event, cleared.event, rules, around)

    def _event(self, seq: int) -> record.Record | None:
        return next(iter(self.audit.records(after=seq - 1, before=seq + 1)), None)

    def is_silent(self, at: datetime) -> bool:
        """Whether the source has not been read for so long that nothing new may begin."""
        last = self.fetches.last
        return last is None or at - last > timedelta(seconds=SILENT_POLLS * self.settings.poll_s + 30)

    def heard(self) -> object:
        """What was heard from outside the log: equal as long as nothing new came, by a fetch or by an upload."""
        return self.fetches.last, self._uploads, self._lags()

    def note_upload(self) -> None:
        """A statement came by another way than a fetch: what was said about waiting changes is asked again."""
        self._uploads += 1

    def _lags(self) -> bool:
        return self.patience is not None and self.patience.polls > 0

    def _rewritten(self, now: state.State) -> Iterator[model.Reason]:
        """A change does not begin where the watched branch no longer holds it; drift and rollback go on."""
        for code in now.halted:
            if code in judging.HISTORY:
                message = "the history of the watched branch was rewritten: what was accepted may not be in it"
                yield model.Reason(code=code, message=message, fix=codes.fix(code))
        if self._lags():
            message = "the source serves an older tip than the last accepted commit"
            yield model.Reason(code="source_error", message=message, fix=codes.fix("rewind"))

    def _clock_went_back(self, now: state.State, at: datetime) -> Iterator[model.Reason]:
        """Freezes, windows and reviews are told by the clock: one that was set back tells them wrong."""
        latest = next(reversed([*now.seen.values()]), at)
        if at < latest:
            message = f"the clock says {model.print_time(at)}, and {model.print_time(latest)} was recorded"
            yield model.Reason(code="clock", message=message, fix=codes.fix("clock"))

    def _silence(self, at: datetime) -> Iterator[model.Reason]:
        """A change does not begin on old news: a denial or a revert could be waiting where we cannot read it."""
        last = self.fetches.last
        if self.is_silent(at):
            since = f"since {model.print_time(last)}" if last else "since the start"
            message = f"the source has not been read {since}"
            yield model.Reason(code="source_error", message=message, fix="see `reconciler get status`")

    def _unready(self, wanted: model.Desired, known: state.Target) -> tuple[model.Reason, ...]:
        if not wanted.depends_on:
            return ()
        now, tree = self.audit.state, self.repository.tree(wanted.revision)
        return tuple(
            model.Reason(code="dependency", message=f"{name} is not healthy at this revision yet", where=name)
            for name in wanted.depends_on
            if not deciding.is_ready(now.target(name), documents.target_digest(tree, name), known)
        )


class Claims(Mapping[str, str]):
    """Identity -> the other target that the log says owns it; only looked through where something unowned exists."""

    def __init__(self, known: state.State, but: str) -> None:
        self._known, self._but = known, but

    def __getitem__(self, identity: str) -> str:
        for name, each in self._known.targets.items():
            if identity and name != self._but and identity in each.owned.values():
                return name
        raise KeyError(identity)

    def __iter__(self) -> Iterator[str]:
        return (i for n, t in self._known.targets.items() if n != self._but for i in t.owned.values() if i)

    def __len__(self) -> int:
        return sum(1 for _ in self)


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
