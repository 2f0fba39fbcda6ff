"""What may keep a target from being written, asked anew right before each write (trust.md 2.3): values for `deciding`.

From memory only: the log's state, the last fetch, the policy in force. No network but the target's own in its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from reconciler import documents, errors, model, ports
from reconciler.admission import codes, earlier, judging, policy, waiving, withdrawing
from reconciler.audit import log, record, state
from reconciler.convergence import deciding
from reconciler.daemon import contact

ENTRIES = 256  # of the log that are kept


class _Said(NamedTuple):
    """What people said since about a change that is not yet written."""

    heard: object  # when that was asked
    said: object  # of which statements it was judged
    reasons: model.ValidationResult


class Braking:
    """Used by every turn; what it keeps is asked again when something was heard."""

    def __init__(
        self,
        audit: log.Log,
        repository: ports.Repository,
        clock: ports.Clock,
        *,
        terms: judging.Terms,
        heard_of: contact.Contact,
    ) -> None:
        self._audit, self._repository, self._clock, self.terms = audit, repository, clock, terms
        self._contact = heard_of
        self._said: dict[str, _Said] = {}
        self._glass: dict[str, tuple[object, bool]] = {}
        self._entries: dict[int, record.Record] = {}

    def brakes(self, wanted: model.Wanted, known: state.Target) -> deciding.Brakes:
        now = self._audit.state
        halted = tuple(
            model.Reason(
                code=code, message="an integrity alarm stops every write", fix="docs/how-to/halt.md has its step out"
            )
            for code in now.halted
            if code not in judging.HISTORY
        )
        claimed = Claims(now, known.name)
        if isinstance(wanted, model.Snapshot) or now.tip is None:
            return deciding.Brakes(halted=halted, claimed=claimed)
        at = self._clock.now()
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
        heard, kept = (behind, self._contact.heard()), self._said.get(known.name)
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
        heads = [each for head in merged for each in (head, *earlier.possible(self._repository, head))]
        try:
            said = tuple(model.sha256(each) for head in heads for each in self._repository.envelopes(head))
        except (errors.TransientError, errors.PermanentError):
            return None
        now = self._audit.state
        return behind, said, known.clearance, now.policies, now.reset

    def _calendar(
        self, wanted: model.Desired, known: state.Target, at: datetime
    ) -> tuple[model.Reason, datetime] | None:
        """The freeze or window that keeps a change waiting. What was accepted as a return does not wait for it.

        Nor does an emergency, as long as it lasts, where it stands in for what is closed.
        """
        now = self._audit.state
        rules = policy.read_policy(self._repository, now.policies or model.Oid(now.tip or ""))
        found = rules.deferred(wanted.environment, at)
        if found and known.emergency and at < known.emergency and self._is_broken(known):
            found = rules.deferred(wanted.environment, at, emergency=True)
        return None if found and self._is_return(known.decision) else found

    def _unreviewed(self, wanted: model.Desired, known: state.Target, at: datetime) -> model.ValidationResult:
        """What is ordinary waits for the overdue reviews of its environment (trust.md 5.3)."""
        late = [
            owed
            for owed in self._audit.state.reviews.values()
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
                fix=f"reconciler review {owed.revision[:12]} --key KEY --push, by {' and '.join(owed.need)}",
            )
            for owed in late
        )

    def _is_broken(self, known: state.Target) -> bool:
        """Whether the glass is broken still: nobody took the emergency back since it was accepted."""
        question = (known.decision, self._contact.heard())
        kept = self._glass.get(known.name)
        if kept is None or kept[0] != question:
            terms, now = self.terms, self._audit.state
            decisions = self._decisions(known.decision)
            broken = [withdrawing.is_broken_still(self._repository, each, now, terms=terms) for each in decisions]
            kept = (question, any(broken))
            self._glass[known.name] = kept
        return kept[1]

    def _decisions(self, seq: int) -> tuple[record.Decision, ...]:
        """The one behind what is wanted; none where it was taken over."""
        entry = self._event(seq)
        return (entry.event,) if entry is not None and isinstance(entry.event, record.Decision) else ()

    def _is_return(self, seq: int) -> bool:
        """Whether the merge behind what is wanted came in under the policy's `rollback` rule (trust.md 2.3, 5.3)."""
        return any(rule.id == "rollback" for decision in self._decisions(seq) for rule in decision.rules)

    def _taken_back(self, seq: int) -> model.ValidationResult:
        terms = self.terms
        return tuple(
            reason
            for decision in self._decisions(seq)
            for reason in withdrawing.withdrawn(self._repository, decision, self._audit.state, terms=terms)
        )

    def _unwaived(self, known: state.Target) -> model.ValidationResult:
        """What its clearance rests on and people no longer answer for."""
        cleared = self._event(known.clearance)
        merge = self._event(known.decision)
        if cleared is None or not isinstance(cleared.event, record.Clearance) or merge is None:
            return ()
        if not isinstance(merge.event, record.Decision) or not any(r.waived for r in cleared.event.results):
            return ()
        rules = policy.read_policy(self._repository, self._audit.state.policies or merge.event.base)
        around = waiving.Circumstances(cleared.at, self.terms.denied, self._audit.state.reset)
        return withdrawing.unwaived(self._repository, merge.event, cleared.event, rules, around)

    def _event(self, seq: int) -> record.Record | None:
        """One entry of the log, which never changes: reading it again was half of what asking again costs."""
        kept = self._entries.get(seq)
        if kept is None:
            kept = next(iter(self._audit.records(after=seq - 1, before=seq + 1)), None)
            if kept is not None:
                if len(self._entries) >= ENTRIES:
                    self._entries = {}
                self._entries[seq] = kept
        return kept

    def _rewritten(self, now: state.State) -> Iterator[model.Reason]:
        """A change does not begin where the watched branch no longer holds it; drift and rollback go on."""
        for code in now.halted:
            if code in judging.HISTORY:
                message = "the history of the watched branch was rewritten: what was accepted may not be in it"
                yield model.Reason(code=code, message=message, fix=codes.fix(code))
        if self._contact.lags:
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
        last = self._contact.fetches.last
        if self._contact.is_silent(at):
            since = f"since {model.print_time(last)}" if last else "since the start"
            message = f"the source has not been read {since}"
            yield model.Reason(code="source_error", message=message, fix="see `reconciler get status`")

    def _unready(self, wanted: model.Desired, known: state.Target) -> tuple[model.Reason, ...]:
        if not wanted.depends_on:
            return ()
        now, tree = self._audit.state, self._repository.tree(wanted.revision)
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
