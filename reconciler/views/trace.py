"""`trace TARGET KEY`: from a live resource to its deployment, the merge behind it, who approved that and what the gates said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from pydantic import JsonValue

from reconciler import model
from reconciler.audit import record, state
from reconciler.views import audit, deployments, document, fields, gates, revisions

TYPES: frozenset[audit.EventType] = frozenset(("intent", "applied", "outcome"))


class Field(NamedTuple):
    """One field of the resource, and how to learn what a state declares for the resource: None where it has none."""

    path: str
    declared: Callable[[model.Version], JsonValue]


class Trace(document.Document):
    kind: Literal["Trace"] = "Trace"
    target: str
    key: model.Key
    field: str = ""
    value: JsonValue = None  # of the field, as the state that is its origin declares it
    owned: bool  # the log says that we wrote it, and it was not let go since
    identity: str
    action: str  # of the write that is its origin; empty: nothing here ever wrote it
    deployment: deployments.Deployment | None
    merges: tuple[revisions.Revision, ...]  # every decision that let it in, oldest first
    gates: tuple[gates.Gate, ...]
    records: tuple[int, ...]  # seq of all that this answer rests on


def trace(
    target: state.Target,
    key: model.Key,
    records: Iterable[record.Record],
    read: Callable[[int], record.Record],
    field: Field | None = None,
) -> Trace:
    """`records`: of this target, of `TYPES`, oldest first. `read` gives the decisions and the clearance by their seq.

    The origin is the last deployment that wrote the resource; one that closed FAILED counts: what it wrote may stand there.
    Of a field it is the last one that wanted another value than what stood before it: corrections of drift and ways back
    lend it nothing.

    Raises: ConfigError(field) for a path that names none.
    """
    written = tuple(entry for entry in records if _about(entry.event, target.name))
    wrote = [e.event for e in written if isinstance(e.event, record.Intent) and key in e.event.actions]
    event, value = _origin(wrote, field)
    if event is None:
        return _taken_over(target, key, read)
    deployed = deployments.deployments(written)
    merges, results, seqs = _grounds(event.decisions, event.clearance, read)
    return Trace(
        target=target.name,
        key=key,
        field=field.path if field else "",
        value=value,
        owned=key in target.owned,
        identity=target.owned.get(key, ""),
        action=event.actions[key],
        deployment=next((d for d in deployed.items if d.id == event.deployment), None),
        merges=merges,
        gates=results,
        records=(*seqs, *(e.seq for e in written if _deployment(e.event) == event.deployment)),
    )


def _origin(wrote: list[record.Intent], field: Field | None) -> tuple[record.Intent | None, JsonValue]:
    if field is None or not wrote:
        return (wrote[-1] if wrote else None), None
    places = fields.parse(field.path)
    for intent in reversed(wrote):
        value = fields.value_at(field.declared(intent.wanted), places)
        if value != fields.value_at(field.declared(intent.before), places):
            return intent, value
    return wrote[0], fields.value_at(field.declared(wrote[-1].wanted), places)


def _taken_over(target: state.Target, key: model.Key, read: Callable[[int], record.Record]) -> Trace:
    """Nothing here wrote it: it was there when the state that declares it was confirmed, or is nobody's."""
    decided = (target.decision,) if target.confirmed else ()
    merges, results, seqs = _grounds(decided, target.clearance if decided else None, read)
    return Trace(
        target=target.name,
        key=key,
        owned=key in target.owned,
        identity=target.owned.get(key, ""),
        action="",
        deployment=None,
        merges=merges,
        gates=results,
        records=seqs,
    )


def _grounds(
    decisions: Iterable[int], clearance: int | None, read: Callable[[int], record.Record]
) -> tuple[tuple[revisions.Revision, ...], tuple[gates.Gate, ...], tuple[int, ...]]:
    entries = [read(seq) for seq in decisions]
    cleared = None if clearance is None else read(clearance)
    merges = revisions.judged(e.event for e in entries if isinstance(e.event, record.Decision))
    results = gates.gates([cleared] if cleared else [])
    passed = {r.revision for r in results.items}
    marked = tuple(m.model_copy(update={"gates": "passed"}) if m.revision in passed else m for m in merges.items)
    return marked, results.items, tuple(sorted({e.seq for e in entries} | ({cleared.seq} if cleared else set())))


def _about(event: record.Event, target: str) -> bool:
    return isinstance(event, record.Intent | record.Applied | record.Outcome) and event.target == target


def _deployment(event: record.Event) -> str:
    return event.deployment if isinstance(event, record.Intent | record.Applied | record.Outcome) else ""
