"""`trace TARGET KEY`: from a live resource to its deployment, the merge behind it, who approved that and what the gates said."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import JsonValue

from reconciler import errors, model
from reconciler.audit import record, state
from reconciler.views import audit, deployments, document, fields, gates, lineage, revisions

TYPES: frozenset[audit.EventType] = frozenset(("intent", "applied", "outcome"))
_SIMILAR = 3

_ACCEPTING: frozenset[audit.EventType] = frozenset(("genesis", "taken_over", "reset", "decision", "clearance"))


class Sources(NamedTuple):
    """What is asked beside the records of the target."""

    read: Callable[[int], record.Record]  # by its seq
    find: Callable[[audit.Query], Iterable[record.Record]]
    declared: Callable[
        [str, model.Version], JsonValue
    ]  # by a state of the target of this name, for the resource; or None


class Trace(document.Document):
    kind: Literal["Trace"] = "Trace"
    target: str
    formerly: tuple[lineage.Former, ...] = ()  # the names that the target had, newest first
    key: model.Key
    field: str = ""
    value: JsonValue = None  # of the field, as the state that is its origin declares it
    fields: tuple[str, ...] = ()  # of the resource, where it declares none of that name
    owned: bool  # the log says that we wrote it, and it was not let go since
    declared: bool = False  # by the state that was confirmed last; asked only where nothing here ever wrote it
    identity: str
    action: str  # of the write that is its origin; empty: nothing here ever wrote it
    deployment: deployments.Deployment | None
    merges: tuple[revisions.Revision, ...]  # every decision that let it in, oldest first
    gates: tuple[gates.Gate, ...]
    records: tuple[int, ...]  # seq of all that this answer rests on; none: there is no evidence about such a resource
    similar: tuple[model.Key, ...] = ()  # of what we own, where there is none


class Asked(NamedTuple):
    """About what: a resource of a target, and perhaps one field of it (empty: none)."""

    target: state.Target
    key: model.Key
    field: str = ""


def trace(
    asked: Asked,
    told: Sequence[lineage.Told],
    sources: Sources,
    formerly: tuple[lineage.Former, ...] = (),
) -> Trace:
    """`told`: of this target, under all of its names, of `TYPES`, oldest first.

    The origin is the last deployment that wrote the resource; one that closed FAILED counts: what it wrote may stand there.
    Of a field it is the last one that wanted another value than what stood before it: corrections of drift and ways back
    lend it nothing.

    Raises: ConfigError(field) for a path that names none.
    """
    places: Sequence[fields.Place] = fields.parse(asked.field) if asked.field else ()
    wrote = [
        _Write(name, entry.seq, entry.event)
        for name, entry in told
        if isinstance(entry.event, record.Intent) and asked.key in entry.event.actions
    ]
    if not wrote:
        return _unwritten(asked, places, sources)
    origin, value = _origin(wrote, places, sources)
    intent = origin.intent
    deployed = deployments.deployments(entry for _, entry in told)
    merges, results, seqs = _grounds((sources.read(seq) for seq in intent.decisions), sources.read(intent.clearance))
    since = tuple(each for each in formerly if each.record > origin.seq)
    written = (entry.seq for _, entry in told if lineage.deployment_of(entry.event) == intent.deployment)
    return Trace(
        target=asked.target.name,
        formerly=since,
        key=asked.key,
        field=asked.field,
        value=value,
        fields=_names(sources.declared(wrote[-1].name, wrote[-1].intent.wanted)) if places and value is None else (),
        owned=asked.key in asked.target.owned,
        identity=asked.target.owned.get(asked.key, ""),
        action=intent.actions[asked.key],
        deployment=next((d for d in deployed.items if d.id == intent.deployment), None),
        merges=merges,
        gates=results,
        records=tuple(sorted({*seqs, *written, *(each.record for each in since)})),
    )


class _Write(NamedTuple):
    name: str  # of the target then: the folder that its `wanted` was read from
    seq: int
    intent: record.Intent


def _origin(wrote: Sequence[_Write], places: Sequence[fields.Place], sources: Sources) -> tuple[_Write, JsonValue]:
    if not places:
        return wrote[-1], None
    for each in reversed(wrote):
        value = fields.value_at(sources.declared(each.name, each.intent.wanted), places)
        if value != fields.value_at(sources.declared(each.name, each.intent.before), places):
            return each, value
    return wrote[0], fields.value_at(sources.declared(wrote[-1].name, wrote[-1].intent.wanted), places)


def _unwritten(asked: Asked, places: Sequence[fields.Place], sources: Sources) -> Trace:
    """Nothing here wrote it. It was there when the state that declares it was confirmed, or it is somebody else's: then what
    is recorded of the target says nothing about it.
    """
    target, said = asked.target, None
    if target.confirmed:
        said = _said(asked, target.confirmed, sources)
    value = fields.value_at(said, places) if places else None
    merges, results, seqs = _accepting(target.name, target.confirmed, sources) if said is not None else ((), (), ())
    return Trace(
        target=target.name,
        key=asked.key,
        field=asked.field,
        value=value,
        fields=_names(said) if places and value is None else (),
        owned=asked.key in target.owned,
        declared=said is not None,
        identity=target.owned.get(asked.key, ""),
        action="",
        deployment=None,
        merges=merges,
        gates=results,
        records=seqs,
        similar=() if said is not None else tuple(difflib.get_close_matches(asked.key, target.owned, n=_SIMILAR)),
    )


def _said(asked: Asked, confirmed: model.Version, sources: Sources) -> JsonValue:
    try:
        return sources.declared(asked.target.name, confirmed)
    except errors.ConfigError as exc:
        if exc.code != "field" or asked.field:
            raise
        return None  # This kind of target cannot say what it declares, and nothing else shows that it does.


def _names(declared: JsonValue) -> tuple[str, ...]:
    return tuple(declared) if isinstance(declared, dict) else ()


_Grounds = tuple[tuple[revisions.Revision, ...], tuple[gates.Gate, ...], tuple[int, ...]]


def _accepting(target: str, confirmed: model.Version | None, sources: Sources) -> _Grounds:
    """What let this state in: a newer one may be cleared by now."""
    revision = confirmed.revision if confirmed else None
    entries = list(sources.find(audit.Query(revision=revision, types=_ACCEPTING))) if revision else []
    decided, cleared = [], None
    for entry in entries:
        match entry.event:
            case record.Clearance() as event:
                cleared = entry if event.passed else cleared
            case record.Decision() as event if event.verdict is model.Verdict.ACCEPT and target in event.targets:
                decided.append(entry)
            case record.Genesis() | record.TakenOver() | record.Reset() as event if target in event.targets:
                decided.append(entry)
            case _:
                pass
    return _grounds(decided, cleared)


def _grounds(decided: Iterable[record.Record], cleared: record.Record | None) -> _Grounds:
    entries = list(decided)
    merges = revisions.judged(e.event for e in entries if isinstance(e.event, record.Decision))
    results = gates.gates([cleared] if cleared else [])
    passed = {r.revision for r in results.items}
    marked = tuple(m.model_copy(update={"gates": "passed"}) if m.revision in passed else m for m in merges.items)
    return marked, results.items, tuple(sorted({e.seq for e in entries} | ({cleared.seq} if cleared else set())))
