"""The one fold that decisions read: log -> what is true now (`state.py`). Pure, and total over what can be recorded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import assert_never

from reconciler import model
from reconciler.audit import record, state

SEEN_KEPT = (
    512  # Observation times of what may still be judged; one that is forgotten is taken anew, which is stricter.
)
PAST_KEPT = timedelta(days=90)  # No rollback window reaches further back; the log does.


def fold(  # noqa: C901, PLR0911, PLR0912 - one case for each event
    known: state.State, entry: record.Record
) -> state.State:
    """The next state. Total over events: a new event type does not type-check until it stands here."""
    known = known.model_copy(update={"size": entry.seq + 1})
    event = entry.event
    match event:
        case record.Genesis():
            return _fold_genesis(known, entry, event)
        case record.Reset():
            return _fold_reset(known, entry, event)
        case record.TakenOver():
            return _take_over(known, entry.seq, event, converge=event.converge)
        case record.Config():
            return known.model_copy(update={"config": event.digest})
        case record.Seen():
            return known.model_copy(update={"seen": {**known.seen, event.subject: entry.at}})
        case record.Decision(verdict=model.Verdict.ACCEPT):
            return _fold_accepted(known, entry, event)
        case record.Decision():
            return known.model_copy(update={"held": {**known.held, event.revision: event}})
        case record.Clearance():
            return _fold_clearance(known, entry.seq, event)
        case record.Halt():
            return known.model_copy(update={"halted": event.codes})
        case record.KeyRotated():
            return known.model_copy(update={"rotated": {**known.rotated, entry.seq: event}})
        case record.LogRecovered():
            return known.model_copy(update={"recovered": {**known.recovered, entry.seq: event}})
        case record.Operator():
            return _fold_operator(known, known.target(event.target), event)
        case record.Obligation():
            return _fold_obligation(known, event)
        case (
            record.Intent()
            | record.Applied()
            | record.Outcome()
            | record.Confirmed()
            | record.Drift()
            | record.Standing()
        ):
            target = known.targets.get(event.target)  # None: it was renamed or dropped while its last turn ended.
            return _put(known, _fold_target(target, entry, event)) if target else known
        case _:
            assert_never(event)


def _put(known: state.State, *targets: state.Target) -> state.State:
    return known.model_copy(update={"targets": {**known.targets, **{t.name: t for t in targets}}})


def _take_over(
    known: state.State, seq: int, event: record.Genesis | record.Reset | record.TakenOver, *, converge: bool
) -> state.State:
    """What should be is taken over from there; what was done before stays known."""
    taken = [
        known.target(name).model_copy(
            update={
                "cleared": model.Version(revision=event.revision, digest=digest),
                "decision": seq,
                "clearance": seq,
                "decisions": (seq,),
                "emergency": None,
                "taken_over": not converge,
                "waiting": None,
                "gates": (),
                "failed": frozenset(),
                "released": False,
            }
        )
        for name, digest in event.targets.items()
    ]
    return _put(known, *taken)


def _fold_genesis(known: state.State, entry: record.Record, event: record.Genesis) -> state.State:
    begun = {"tip": event.revision, "genesis": event.revision, "policies": event.revision}
    return _take_over(known.model_copy(update=begun), entry.seq, event, converge=event.converge)


def _fold_reset(known: state.State, entry: record.Record, event: record.Reset) -> state.State:
    """The pin moved: what is not taken over from there is released."""
    gone = [
        t.model_copy(update={"released": True, "cleared": None, "waiting": None, "gates": ()})
        for n, t in known.targets.items()
        if n not in event.targets
    ]
    moved = known.model_copy(
        update={
            "tip": event.revision,
            "genesis": event.revision,
            "policies": event.revision,
            "held": {},
            "seen": {},
            "pending": {},
            "reviews": {},  # Of merges that are no longer in the history: nobody could sign about them.
            "reset": entry.at,
        }
    )
    return _take_over(_put(moved, *gone), entry.seq, event, converge=False)


def _fold_accepted(known: state.State, entry: record.Record, event: record.Decision) -> state.State:
    """A moves on; the targets that were touched wait for the gates of this merge."""
    head = {entry.seq: event.head} if event.head else {}
    touched = [
        t.model_copy(
            update={
                "waiting": event.revision,
                "gates": (),
                "decisions": (*t.decisions, entry.seq),
                "heads": {**t.heads, **head},
            }
        )
        for t in map(known.target, event.targets)
    ]
    merge = {event.revision: state.Merge(decision=event, seq=entry.seq, at=entry.at)} if touched else {}
    pending = known.pending
    if event.policies:  # New rules are new input for everything that waits.
        pending = {r: m.model_copy(update={"results": ()}) for r, m in pending.items()}
    moved = known.model_copy(
        update={
            "tip": event.revision,
            "policies": event.revision if event.policies else known.policies,
            "emergencies": _emergencies(known, event, entry),
            "held": {},
            "seen": dict([*known.seen.items()][-SEEN_KEPT:]),
            "pending": {**pending, **merge},
        }
    )
    return _put(moved, *touched)


def _emergencies(
    known: state.State, event: record.Decision, entry: record.Record
) -> tuple[tuple[model.Oid, model.Time], ...]:
    if event.emergency is None:
        return known.emergencies
    decided = event.decided or entry.at
    return (
        *(each for each in known.emergencies if decided - each[1] < state.WEEK),
        (event.revision, decided),
    )


def _fold_obligation(known: state.State, event: record.Obligation) -> state.State:
    opened = event if event.change == "opened" else None
    if event.target:
        target = known.targets.get(event.target)  # None: as below.
        return _put(known, target.model_copy(update={"owes": opened})) if target else known
    others = {revision: each for revision, each in known.reviews.items() if revision != event.revision}
    return known.model_copy(update={"reviews": {**others, event.revision: opened} if opened else others})


def _fold_clearance(known: state.State, seq: int, event: record.Clearance) -> state.State:
    """Passed: its targets move. Not passed: nothing moves, they are told why."""
    merge = known.pending.get(event.revision)
    if merge is None:
        return known  # Overtaken on all its targets while its gates ran.
    if not event.passed:
        tried = {event.revision: merge.model_copy(update={"results": event.results})}
        why = tuple(r for r in event.results if r.blocks)
        touched = map(known.target, merge.decision.targets)
        told = [t.model_copy(update={"gates": why}) for t in touched if t.waiting == event.revision]
        return _put(known.model_copy(update={"pending": {**known.pending, **tried}}), *told)
    known = _rename(known, event.renamed)
    after = _put(known, *(_move(known.target(n), merge, seq, d) for n, d in known.moves(merge).items()))
    left = {
        r: m
        if after.moves(m) == known.moves(m)
        else m.model_copy(update={"results": ()})  # Less is asked of it: new input.
        for r, m in known.pending.items()
        if after.moves(m)
    }
    return after.model_copy(update={"pending": left})


def _rename(known: state.State, renamed: Mapping[str, str]) -> state.State:
    """A target takes over what the log knows of the one that it was; that one is no more."""
    for new, old in renamed.items():
        was, now = known.target(old), known.target(new)
        here = {"folder": old}
        versions = {
            field: version.model_copy(update=here) if version and not version.folder else version
            for field, version in (("confirmed", was.confirmed), ("before", was.before))
        }
        taken = was.model_copy(
            update={
                "name": new,
                "waiting": now.waiting,
                "gates": now.gates,
                "decisions": tuple(sorted({*was.decisions, *now.decisions})),
                "heads": {**was.heads, **now.heads},
                "standing": None,
                "open": _in_folder(was.open, old),
                **versions,
            }
        )
        left = {name: each for name, each in known.targets.items() if name != old}
        known = _put(known.model_copy(update={"targets": left}), taken)
    return known


def _in_folder(opened: model.Deployment | None, folder: str) -> model.Deployment | None:
    """What was being written when the target was renamed is settled and superseded under its new name."""
    if opened is None or opened.wanted.folder:
        return opened
    wanted = opened.wanted.model_copy(update={"folder": folder})
    return opened.model_copy(update={"wanted": wanted})


def _move(target: state.Target, merge: state.Merge, seq: int, digest: model.Digest | None) -> state.Target:
    revision = merge.decision.revision
    return target.model_copy(
        update={
            "cleared": model.Version(revision=revision, digest=digest) if digest else None,
            "released": digest is None,
            "taken_over": False,
            "decision": merge.seq,
            "clearance": seq,
            "emergency": merge.decision.emergency.until if merge.decision.emergency else None,
            "failed": frozenset(),
            "retry": None,
            "retries": 0,
            "pinned": None,
            "fighting": frozenset(),
            **({"waiting": None, "gates": ()} if target.waiting == revision else {}),
        }
    )


def _fold_operator(known: state.State, target: state.Target, event: record.Operator) -> state.State:
    match event.verb:
        case "suspend":
            return _put(known, target.model_copy(update={"suspended": event.reason}))
        case "resume":
            return _put(known, target.model_copy(update={"suspended": None}))
        case "rollback":
            undone = target.last.created if target.last else frozenset()
            return _put(known, target.model_copy(update={"pinned": event, "undone": undone}))
        case "reconcile":
            again = {r: m.model_copy(update={"results": ()}) for r, m in known.pending.items() if r == target.waiting}
            tried = target.model_copy(
                update={
                    "failed": frozenset(),
                    "retry": None,
                    "retries": 0,
                    "pinned": None,
                    "undone": frozenset(),
                    "fighting": frozenset(),
                    "corrections": (),
                }
            )
            return _put(known.model_copy(update={"pending": {**known.pending, **again}}), tried)
        case "drop":
            return _drop(known, event.target) if target.released else known
        case _:
            assert_never(event.verb)


def _drop(known: state.State, name: str) -> state.State:
    """It is known no more, and no merge that still waits brings it back."""
    pending = {}
    for revision, merge in known.pending.items():
        targets = {n: d for n, d in merge.decision.targets.items() if n != name}
        if targets:
            decision = merge.decision.model_copy(update={"targets": targets})
            pending[revision] = merge.model_copy(update={"decision": decision})
    left = {n: t for n, t in known.targets.items() if n != name}
    return known.model_copy(update={"targets": left, "pending": pending})


def _fold_target(target: state.Target, entry: record.Record, event: record.TargetEvent) -> state.Target:
    match event:
        case record.Intent():
            return _fold_intent(target, entry, event)
        case record.Applied():
            return _fold_applied(target, entry, event)
        case record.Outcome():
            return _fold_outcome(target, entry, event)
        case record.Confirmed():
            return _confirm(target, event.version, entry)
        case record.Drift():
            return target.model_copy(update={"drift": event if event.count else None})
        case record.Standing():
            return target.model_copy(update={"standing": event if event.code else None})
        case _:
            assert_never(event)


def _fold_intent(target: state.Target, entry: record.Record, event: record.Intent) -> state.Target:
    opened = target.open or model.Deployment(
        id=event.deployment, target=event.target, wanted=event.wanted, cause=event.cause, started=entry.at
    )
    adopted = {k: event.snapshot for k, action in event.actions.items() if action == "adopt"}
    strays = target.confirmed is None or target.confirmed.digest != event.wanted.digest
    recent = tuple((k, at) for k, at in target.corrections if entry.at - at < state.FIGHT_WITHIN)
    if event.cause is model.Cause.DRIFT:
        recent += tuple((k, entry.at) for k in event.actions)
    keys = [k for k, _ in recent]
    return target.model_copy(
        update={
            "open": opened.model_copy(update={"unsettled": event.actions}),
            "before": event.before,
            "strayed": target.strayed or strays,
            "adopted": {**adopted, **target.adopted},
            "corrections": recent,
            "fighting": frozenset(k for k in keys if keys.count(k) > state.FIGHT_CORRECTIONS),
            "standing": None,
        }
    )


def _fold_applied(target: state.Target, entry: record.Record, event: record.Applied) -> state.Target:
    deployment = target.open
    if deployment is None:
        return target  # The log's writer never does this; a fold is total all the same.
    gained = {k: v for k, v in event.owned.items() if v is not None}
    lost = event.owned.keys() - gained.keys()
    made = frozenset(k for k in gained if deployment.unsettled.get(k) == "create")
    refused = tuple(
        r.finding or model.Reason(code="refused", message=r.key)
        for r in event.results
        if r.effect is model.Effect.FAILED
    )
    return target.model_copy(
        update={
            "owned": {k: v for k, v in {**target.owned, **gained}.items() if k not in lost},
            "created": (target.created | made) - lost,
            "open": deployment.model_copy(
                update={
                    "unsettled": {},
                    "written": entry.at,
                    "refused": deployment.refused + refused,
                    "created": (deployment.created | made) - lost,
                    "fruitless": 0 if event.owned else deployment.fruitless + 1,
                    "deleted": deployment.deleted + len(lost - target.free(deployment.wanted.digest)),
                }
            ),
        }
    )


def _fold_outcome(target: state.Target, entry: record.Record, event: record.Outcome) -> state.Target:
    if target.open is None:
        return target
    ended = target.open.model_copy(update={"closed": event.closed, "reasons": event.reasons, "ended": entry.at})
    target = target.model_copy(update={"open": None, "last": ended})
    match event.closed:
        case model.Closed.SUCCEEDED:
            return _confirm(target, ended.wanted, entry)
        case model.Closed.FAILED:
            return _fail(target, ended, entry)
        case model.Closed.SUPERSEDED:
            return target
        case _:
            assert_never(event.closed)


def _fail(target: state.Target, ended: model.Deployment, entry: record.Record) -> state.Target:
    """A change that failed stays failed. A drift correction is tried again with back-off: its state was healthy here."""
    if ended.cause is not model.Cause.DRIFT:
        return target.model_copy(update={"failed": target.failed | {ended.wanted.digest}, "failure": ended.reasons})
    wait = timedelta(seconds=min(30 * 2**target.retries, 3600))
    return target.model_copy(update={"retry": entry.at + wait, "retries": target.retries + 1})


def _confirm(target: state.Target, version: model.Version, entry: record.Record) -> state.Target:
    went_back = target.last is not None and target.last.closed is not None and target.last.cause is model.Cause.ROLLBACK
    past = {d: left for d, left in target.past.items() if entry.at - left < PAST_KEPT}
    past[version.digest] = entry.at
    if target.confirmed:
        past[target.confirmed.digest] = entry.at
    arrived = target.cleared is not None and target.cleared.digest == version.digest
    return target.model_copy(
        update={
            "confirmed": version,
            "before": None,
            "strayed": False,
            "created": frozenset(),
            "adopted": {},
            "owned": {k: v for k, v in target.owned.items() if not (went_back and k in target.adopted)},
            "past": past,
            "retry": None,
            "retries": 0,
            "drift": None,
            "decisions": tuple(s for s in target.decisions if s > target.decision) if arrived else target.decisions,
            "heads": {s: h for s, h in target.heads.items() if s > target.decision} if arrived else target.heads,
        }
    )
