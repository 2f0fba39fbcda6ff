"""From reasons to a verdict: the class belongs to the code (trust.md 2.2, 2.4). And how a decision is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciler import model
from reconciler.admission import codes, effect, form, merger, policy, slots, statement
from reconciler.audit import record

HISTORY, HALT, REJECT = (
    codes.HISTORY,
    codes.HALT,
    codes.REJECT,
)  # HALTs of HISTORY stop admission, all others every write.
_RECORD_BYTES = 48 << 10  # of the 64 KiB that a record may have, its frame included
_KEPT = 20
_KEPT_CHARS = 400


@dataclass(frozen=True)
class Judged:
    """A decision, what a statement about it has to bind, who may still fill which slot, and what is kept as evidence."""

    decision: record.Decision
    binding: statement.Binding | None = None
    effect: effect.Effect | None = None
    open: tuple[slots.Open, ...] = ()
    mergers: merger.Mergers | None = None  # of a head
    manual: bool = False  # a statement has to acknowledge that the merge was made by hand
    evidence: tuple[bytes, ...] = ()
    owed: record.Obligation | None = None  # what the acceptance opens


def of(refusals: model.ValidationResult, holds: model.ValidationResult) -> model.Verdict:
    """The strongest class. `holds` are reasons of approvals: there `limit` and `namespace` hold, elsewhere they reject."""
    found = {reason.code for reason in refusals}
    if found & HALT:
        return model.Verdict.HALT
    if found & REJECT:
        return model.Verdict.REJECT
    return model.Verdict.HOLD if refusals or holds else model.Verdict.ACCEPT


def refuse(
    base: model.Oid,
    revision: model.Oid,
    reason: model.Reason,
    *,
    skipped: tuple[model.Oid, ...] = (),
    decided: datetime,
) -> record.Decision:
    """A decision about which nothing else is known. Unknown codes hold."""
    decision = record.Decision(
        base=base,
        revision=revision,
        verdict=of((reason,), ()),
        reasons=(reason, *blocked(skipped)),
        skipped=skipped,
        decided=decided,
    )
    return _fit(_advised(decision))[0]


def of_form(case: form.Case, rules: policy.Policy, shape: form.Shape) -> Judged:
    """Refused before any content was read."""
    return conclude(case, rules, shape, refusals=shape.reasons)


def conclude(
    case: form.Case,
    rules: policy.Policy,
    shape: form.Shape,
    *,
    refusals: model.ValidationResult = (),
    holds: model.ValidationResult = (),
    done: effect.Effect | None = None,
    known: record.Decision | None = None,
) -> Judged:
    """`known`: what the ballot filled in already."""
    excluded = shape.span.excluded(rules)
    reasons = (*refusals, *holds)
    start = known or record.Decision(base=case.base, revision=case.revision, verdict=model.Verdict.HOLD)
    decision = start.model_copy(
        update={
            "head": shape.head,
            "verdict": of(refusals, holds),
            "reasons": (*reasons, *(blocked(case.skipped) if reasons else ())),
            "effect": done.digest if done else None,
            "skipped": case.skipped,
            "decided": case.now,
            "commits": tuple(each.record for each in shape.span.commits),
            "merge_signature": shape.signature,
            "duties": record.Duties(authors=tuple(sorted(shape.span.authors(rules))), excluded=tuple(sorted(excluded))),
            "policy": rules.digest,
        }
    )
    kept, evidence = _fit(_advised(decision))
    return Judged(kept, evidence=evidence)


def blocked(skipped: tuple[model.Oid, ...]) -> model.ValidationResult:
    """On commits that were not accepted nothing ordinary goes in."""
    if not skipped:
        return ()
    message = "it stands on commits that were not accepted"
    return (model.Reason(code="blocked", message=message, where=skipped[-1]),)


def _advised(decision: record.Decision) -> record.Decision:
    """A reason says what to do next, of this merge; where whoever gave it did not, the table of codes does."""
    if not decision.reasons and not any(each.reason for each in decision.approvals):
        return decision

    def advise(reason: model.Reason) -> model.Reason:
        advice = codes.completed(
            reason.fix or codes.fix(reason.code),
            head=decision.head,
            base=decision.base,
            blocked=bool(decision.skipped),
        )
        return reason.model_copy(update={"fix": advice})

    approvals = tuple(
        each.model_copy(update={"reason": advise(each.reason)}) if each.reason else each for each in decision.approvals
    )
    reasons = tuple(map(advise, decision.reasons))
    return decision.model_copy(update={"reasons": reasons, "approvals": approvals})


def _fit(decision: record.Decision) -> tuple[record.Decision, tuple[bytes, ...]]:
    """Cut what a record cannot hold: the whole of it is evidence then. One that is too large even so is refused.

    What a hostile branch brings in must not be able to stop the log.
    """
    if _size_bytes(decision) <= _RECORD_BYTES:
        return decision, ()
    whole = decision.canonical()
    cut = decision.model_copy(
        update={
            "reasons": tuple(_short(reason) for reason in decision.reasons[:_KEPT]),
            "commits": tuple(_short_commit(each) for each in decision.commits[:_KEPT]),
            "approvals": decision.approvals[: 2 * _KEPT],
            "rules": tuple(rule.model_copy(update={"paths": rule.paths[:1]}) for rule in decision.rules[:_KEPT]),
            "change": record.Ticket(**{k: v[:_KEPT_CHARS] for k, v in decision.change.model_dump().items()}),
        }
    )
    if _size_bytes(cut) <= _RECORD_BYTES:
        return cut, (whole,)
    message = (
        f"{len(decision.targets)} targets, {len(decision.skipped)} commits passed over: more than one decision records"
    )
    reason = model.Reason(code="limit", message=message, where=decision.revision, fix="merge it in parts")
    bare = record.Decision(
        base=decision.base,
        revision=decision.revision,
        head=decision.head,
        verdict=of((reason,), ()),
        reasons=(reason,),
        decided=decision.decided,
    )
    return bare, (whole,)


def _size_bytes(decision: record.Decision) -> int:
    """As a record: its canonical form differs in order only, and takes far longer to make."""
    return len(decision.model_dump_json().encode())


def _short(reason: model.Reason) -> model.Reason:
    return reason.model_copy(update={"message": reason.message[:_KEPT_CHARS], "where": reason.where[:_KEPT_CHARS]})


def _short_commit(each: record.SignedCommit) -> record.SignedCommit:
    return each.model_copy(update={"author": each.author[:_KEPT_CHARS]})
