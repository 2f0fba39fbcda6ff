"""`get revisions` and `verify`: one row a merge, with its verdict, every code behind it, and the people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from reconciler import model
from reconciler.admission import verdict
from reconciler.audit import record, state
from reconciler.views import document

Gates = Literal["passed", "waiting", "blocked", "none", "unknown"]


class Approval(document.Row):
    person: str
    level: str
    decision: str
    key_id: str
    statement: model.Digest
    counts: bool
    reason: model.Reason | None


class Rule(document.Row):
    id: str
    need: tuple[str, ...]
    got: tuple[str, ...]


class Open(document.Row):
    """Slots that nobody fills yet, and the people who may."""

    slot: str
    missing: int
    may: tuple[str, ...]


class Emergency(document.Row):
    """The glass was broken for it: what that stood in for, and until when freezes and windows did not matter."""

    people: tuple[str, ...]
    incident: str
    reason: str
    until: model.Time
    rules: tuple[str, ...]


class Mergers(document.Row):
    """Who may merge a head, and who is needed to approve it and so may not."""

    may: tuple[str, ...]
    barred: tuple[str, ...]


class Revision(document.Row):
    revision: model.Oid | None  # null: the history halts and has no tip
    head: model.Oid | None
    verdict: model.Verdict
    codes: tuple[str, ...]
    reasons: tuple[model.Reason, ...]
    approvals: tuple[Approval, ...]
    merged_by: str
    authors: tuple[str, ...]
    rules: tuple[Rule, ...]
    open: tuple[Open, ...] = ()  # of a verdict that was made just now
    mergers: Mergers | None = None  # of a head that is not merged, where the policy keeps mergers from approving
    emergency: Emergency | None
    targets: tuple[str, ...]
    gates: Gates
    ticket: str
    at: model.Time | None


class RevisionList(document.Document):
    kind: Literal["RevisionList"] = "RevisionList"
    items: tuple[Revision, ...]


def revisions(known: state.State, records: Iterable[record.Record]) -> RevisionList:
    """The newest decision on each commit, oldest first. `records`: those of the types decision and clearance, oldest first."""
    decided: dict[model.Oid, record.Record] = {}
    passed: set[model.Oid] = set()
    for entry in records:
        match entry.event:
            case record.Decision() as event:
                decided.pop(event.revision, None)
                decided[event.revision] = entry
            case record.Clearance() as event if event.passed:
                passed.add(event.revision)
            case _:
                pass
    rows = []
    for revision, entry in decided.items():
        if isinstance(entry.event, record.Decision):
            gates = _gates(known, entry.event, cleared=revision in passed)
            rows.append(_revision(entry.event, gates, entry.at))
    return RevisionList(items=tuple(rows))


def judged(found: Iterable[record.Decision | verdict.Judged]) -> RevisionList:
    """The same document for verdicts that were made just now and are not recorded: nothing is known of their gates."""
    rows = []
    for each in found:
        decision = each.decision if isinstance(each, verdict.Judged) else each
        row = _revision(decision, "unknown", decision.decided)
        rows.append(row.model_copy(update=_outlook(each)) if isinstance(each, verdict.Judged) else row)
    return RevisionList(items=tuple(rows))


def _gates(known: state.State, decision: record.Decision, *, cleared: bool) -> Gates:
    if cleared:
        return "passed"
    if decision.verdict is not model.Verdict.ACCEPT or not decision.targets:
        return "none"
    merge = known.pending.get(decision.revision)
    if merge is None:
        return "unknown"  # Overtaken: a newer merge moved all of its targets.
    return "blocked" if merge.results else "waiting"


def _outlook(judged: verdict.Judged) -> dict[str, object]:
    """Who may still approve it, and who may merge it."""
    who = judged.mergers
    return {
        "open": tuple(Open(slot=each.slot, missing=each.missing, may=each.may) for each in judged.open),
        "mergers": Mergers(may=who.may, barred=who.barred) if who else None,
    }


def _revision(decision: record.Decision, gates: Gates, at: model.Time | None) -> Revision:
    return Revision(
        revision=decision.revision or None,
        head=decision.head,
        verdict=decision.verdict,
        codes=tuple(dict.fromkeys(reason.code for reason in decision.reasons)),
        reasons=decision.reasons,
        approvals=tuple(_approval(each, decision.emergency) for each in decision.approvals),
        merged_by=decision.merge_signature.principal if decision.merge_signature else "",
        authors=decision.duties.authors,
        rules=tuple(Rule(id=r.id, need=r.need, got=r.got) for r in decision.rules),
        emergency=Emergency(**dict(decision.emergency)) if decision.emergency else None,
        targets=tuple(sorted(decision.targets)),
        gates=gates,
        ticket=decision.change.ticket,
        at=at,
    )


def _approval(approval: model.Approval, emergency: record.Emergency | None) -> Approval:
    broken = approval.decision == "emergency" and emergency is not None and approval.person in emergency.people
    return Approval(
        person=approval.person,
        level=approval.level,
        decision=approval.decision,
        key_id=approval.key_id,
        statement=approval.statement,
        counts=approval.reason is None and (approval.decision == "approve" or broken),
        reason=approval.reason,
    )
