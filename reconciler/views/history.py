"""`history TARGET`: everything that happened to one target, under every name that it had, one line each, oldest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, assert_never

from reconciler import model
from reconciler.audit import record
from reconciler.views import document, lineage, targets

_KEYS_NAMED = 3


class Happening(document.Row):
    seq: int
    at: model.Time
    target: str  # its name then
    what: str  # the type of the record
    text: str
    who: str
    revision: model.Oid | None
    deployment: str
    reasons: tuple[model.Reason, ...]


class History(document.Document):
    kind: Literal["History"] = "History"
    target: str
    formerly: tuple[lineage.Former, ...] = ()  # the names that it had, newest first
    renamed_to: str = ""  # what it is called now, where no target has this name any more
    items: tuple[Happening, ...]


def history(
    target: str,
    told: Iterable[lineage.Told],
    *,
    formerly: tuple[lineage.Former, ...] = (),
    renamed_to: str = "",
) -> History:
    """`told`: any records, oldest first; those that do not concern the target, by the name beside them, are passed over."""
    rows = (_happening(name, entry) for name, entry in told)
    return History(target=target, formerly=formerly, renamed_to=renamed_to, items=tuple(row for row in rows if row))


def _happening(target: str, entry: record.Record) -> Happening | None:
    row = _concerning(target, entry)
    return row.model_copy(update={"target": target}) if row else None


def _concerning(target: str, entry: record.Record) -> Happening | None:
    event = entry.event
    match event:
        case record.Genesis() | record.Reset():
            if target not in event.targets:
                return None
            return _row(entry, f"taken over: {event.reason}", revision=event.revision)
        case record.TakenOver():
            text = "taken over; may be written before a merge touches it" if event.converge else "taken over"
            return _row(entry, text, revision=event.revision) if target in event.targets else None
        case record.Decision():
            if target not in event.targets:
                return None
            merged = event.merge_signature.principal if event.merge_signature else ""
            return _row(entry, event.verdict, who=merged, revision=event.revision, reasons=event.reasons)
        case record.Clearance():
            return _clearance(target, entry, event)
        case record.Operator() if event.target == target:
            return _row(entry, f"{event.verb}: {event.reason}", who=event.actor, deployment=event.deployment)
        case record.Obligation() if event.target == target:
            text = (
                "owes: Git has to say what it went back to" if event.change == "opened" else "owes nothing: Git agrees"
            )
            return _row(entry, text, revision=event.revision, deployment=event.deployment)
        case (
            record.Intent()
            | record.Applied()
            | record.Outcome()
            | record.Confirmed()
            | record.Drift()
            | record.Standing()
        ) if event.target == target:
            return _of_target(entry, event)
        case _:
            return None


def _clearance(target: str, entry: record.Record, event: record.Clearance) -> Happening | None:
    if not any(target in result.targets for result in event.results):
        return None
    text = "gates passed" if event.passed else "gates did not pass"
    if target in event.renamed:
        text += f"; it was {event.renamed[target]} until here"
    text += "".join(f"; it is {new} from here on" for new, old in event.renamed.items() if old == target)
    said = tuple(
        model.Reason(code=f.code, message=f"{result.check}: {f.message}", where=f.where, fix=f.fix)
        for result in event.results
        if result.blocks
        for f in result.findings
    )
    return _row(entry, text, revision=event.revision, reasons=said)


def _of_target(entry: record.Record, event: record.TargetEvent) -> Happening:
    match event:
        case record.Intent():
            text = f"{event.cause}: writes {_resources(len(event.actions))}"
            return _row(entry, text, revision=event.wanted.revision, deployment=event.deployment)
        case record.Applied():
            changed = sum(r.effect is model.Effect.CHANGED for r in event.results)
            text = (
                "settled from a look"
                if event.recovered
                else f"{changed} of {len(event.results)} step{'' if len(event.results) == 1 else 's'} changed something"
            )
            reasons = tuple(r.finding for r in event.results if r.finding)
            return _row(entry, text, deployment=event.deployment, reasons=reasons)
        case record.Outcome():
            return _row(entry, event.closed, deployment=event.deployment, reasons=event.reasons)
        case record.Confirmed():
            return _row(entry, "already as it should be", revision=event.version.revision)
        case record.Drift():
            named = ", ".join(event.keys[:_KEYS_NAMED]) + (", ..." if event.count > _KEYS_NAMED else "")
            text = f"{_resources(event.count)} drifted: {named}" if event.count else "drift is gone"
            return _row(entry, text, who=event.who)
        case record.Standing():
            return _row(entry, f"stands: {event.code}" if event.code else "moves again", reasons=targets.why(event))
        case _:
            assert_never(event)


def _row(
    entry: record.Record,
    text: str,
    *,
    who: str = "",
    revision: model.Oid | None = None,
    deployment: str = "",
    reasons: tuple[model.Reason, ...] = (),
) -> Happening:
    return Happening(
        seq=entry.seq,
        at=entry.at,
        target="",
        what=entry.event.type,
        text=text,
        who=who or (entry.actor if entry.actor != "daemon" else ""),
        revision=revision,
        deployment=deployment,
        reasons=reasons,
    )


def _resources(count: int) -> str:
    return f"{count} resource{'' if count == 1 else 's'}"
