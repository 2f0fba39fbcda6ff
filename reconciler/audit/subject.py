"""What a record is about: the index that queries go through. Pure, and a cache: made again from the log at any time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler import model
from reconciler.audit import record

Subject = tuple[str, str]  # (kind, value); the kinds are those of `KINDS`
# The narrowest first: a query starts from the first of them that it names.
KINDS = (
    "id",
    "deployment",
    "effect",
    "ticket",
    "revision",
    "path",
    "person",
    "rule",
    "target",
    "gate",
    "verdict",
    "type",
)


def subjects(entry: record.Record) -> frozenset[Subject]:
    """Every (kind, value) under which this record is found. A person: author, signer, approver, merger or operator."""
    found = {("id", entry.id), ("type", entry.event.type), *_of(entry.event)}
    if entry.actor != "daemon":
        found.add(("person", entry.actor))
    return frozenset((kind, value) for kind, value in found if value)


def rows(entries: Iterable[record.Record]) -> list[dict[str, str | int]]:
    return [{"kind": k, "value": v, "seq": entry.seq} for entry in entries for k, v in sorted(subjects(entry))]


def _of(event: record.Event) -> Iterator[Subject]:  # noqa: C901, PLR0912 - one case for each event
    match event:
        case record.Genesis() | record.Reset() | record.TakenOver():
            yield "revision", event.revision
            yield from (("target", name) for name in event.targets)
        case record.Seen():
            yield "revision", event.subject
        case record.Decision():
            yield from _of_decision(event)
        case record.Clearance():
            yield "revision", event.revision
            yield "verdict", _verdict(event)
            for result in event.results:
                yield "gate", result.check.partition(":")[0]
                yield from (("target", name) for name in result.targets)
        case record.Intent():
            yield from _of_deployment(event.target, event.deployment)
            yield "revision", event.wanted.revision or ""
        case record.Applied() | record.Outcome():
            yield from _of_deployment(event.target, event.deployment)
            if isinstance(event, record.Outcome):
                yield "verdict", event.closed.value
        case record.Confirmed():
            yield "target", event.target
            yield "revision", event.version.revision or ""
        case record.Drift() | record.Standing():
            yield "target", event.target
        case record.Operator():
            yield from _of_deployment(event.target, event.deployment)
            yield "person", event.actor
        case record.Obligation():
            yield from _of_deployment(event.target, event.deployment)
            yield from (("revision", oid) for oid in (event.revision, event.head) if oid)
            yield "effect", event.effect or ""
            yield from (("person", name) for name in event.people)
        case record.Config() | record.Halt() | record.KeyRotated() | record.LogRecovered():
            return


def _of_deployment(target: str, deployment: str) -> Iterator[Subject]:
    yield "target", target
    yield "deployment", deployment


def _verdict(event: record.Clearance) -> str:
    worst = {result.outcome for result in event.results}
    for outcome in (model.Outcome.ERROR, model.Outcome.FAIL):
        if outcome in worst:
            return outcome.value
    return "PASS" if event.passed else "FAIL"


def _of_decision(event: record.Decision) -> Iterator[Subject]:
    yield from (("revision", oid) for oid in (event.revision, event.head, *event.skipped) if oid)
    yield from (("target", name) for name in event.targets)
    yield "verdict", event.verdict.value
    yield "ticket", event.change.ticket
    yield "effect", event.effect or ""
    for commit in event.commits:
        yield "revision", commit.oid
        yield "person", commit.signer
    for person in (*event.duties.authors, *(approval.person for approval in event.approvals)):
        yield "person", person
    if event.merge_signature:
        yield "person", event.merge_signature.principal
    for rule in event.rules:
        yield "rule", rule.id
        yield from (("path", path) for path in rule.paths)
