"""The one fold that decisions read: log -> what is true now. `views/` folds for people; nothing there is read by the core."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import assert_never

from reconciler import model
from reconciler.audit import record

FIGHT_WITHIN = timedelta(minutes=1)  # targets.md 1.6
FIGHT_CORRECTIONS = 5
SEEN_KEPT = (
    512  # Observation times of what may still be judged; one that is forgotten is taken anew, which is stricter.
)
PAST_KEPT = timedelta(days=90)  # No rollback window reaches further back; the log does.


class Target(model.Value):
    """Everything that the log knows about one target."""

    name: str
    # What it should be.
    cleared: model.Version | None = (
        None  # the newest accepted state that passed its gates; at genesis the one taken over
    )
    decision: int = 0  # seq of the decision behind it, and of the clearance
    clearance: int = 0
    decisions: tuple[int, ...] = ()  # all that touched it since it was confirmed
    heads: Mapping[int, model.Oid] = {}  # what they merged: its approvals may still be taken back
    taken_over: bool = False  # from genesis: looked at, never written, until a merge that touches it has passed
    released: bool = False
    waiting: model.Oid | None = None  # the newest accepted merge that touches it, while that has not passed
    gates: tuple[model.GateResult, ...] = ()  # what keeps it waiting
    failed: frozenset[model.Digest] = frozenset()  # states that failed here since `cleared` moved
    failure: tuple[model.Reason, ...] = ()  # why the last of them did
    retry: model.Time | None = None  # a drift correction failed: not before this, with back-off
    retries: int = 0
    pinned: record.Operator | None = None  # an operator's rollback
    suspended: str | None = None
    # What was done.
    open: model.Deployment | None = None
    last: model.Deployment | None = None  # the last closed one
    confirmed: model.Version | None = None  # the last state in which it was seen healthy
    before: model.Version | None = None  # the way back of what was written since
    strayed: bool = False  # something other than `confirmed` was written since
    past: Mapping[model.Digest, model.Time] = {}  # every state that was its confirmed one, and until when
    owned: Mapping[model.Key, str] = {}
    created: frozenset[model.Key] = frozenset()  # since it was confirmed
    undone: frozenset[model.Key] = frozenset()  # created by what an operator undoes, while that is pinned
    adopted: Mapping[model.Key, model.Digest] = {}  # since it was confirmed: the snapshot that shows it as it was
    corrections: tuple[tuple[model.Key, model.Time], ...] = ()  # of drift, within FIGHT_WITHIN of the last one
    fighting: frozenset[model.Key] = frozenset()  # corrected too often: somebody else writes them too
    drift: record.Drift | None = None
    standing: record.Standing | None = None

    def free(self, wanted: model.Digest) -> frozenset[model.Key]:
        """What may be deleted on the way to this state without spending the budget: we made it, and it was never confirmed."""
        pinned = self.pinned is not None and self.pinned.pin is not None and self.pinned.pin.digest == wanted
        return self.created | self.undone if pinned else self.created


class Merge(model.Value):
    """An accepted merge that has not passed its gates and is still the newest for one of its targets."""

    decision: record.Decision
    seq: int
    at: model.Time
    results: tuple[
        model.GateResult, ...
    ] = ()  # of the last try; empty: not tried, its input changed (policies too), or somebody asked


class State(model.Value):
    size: int = 0
    tip: model.Oid | None = None  # A: the last accepted commit
    genesis: model.Oid | None = None
    reset: model.Time | None = None  # approvals from before it count no more
    policies: model.Oid | None = None  # the last accepted commit that touched policies/
    held: Mapping[model.Oid, record.Decision] = {}  # commits after it that were not accepted
    seen: Mapping[str, model.Time] = {}  # t_obs of commits and envelopes, the newest last
    pending: Mapping[model.Oid, Merge] = {}  # accepted, not cleared
    halted: tuple[str, ...] = ()
    config: model.Digest | None = None
    targets: Mapping[str, Target] = {}

    def target(self, name: str) -> Target:
        return self.targets.get(name) or Target(name=name)

    def moves(self, merge: Merge) -> dict[str, model.Digest | None]:
        """The targets that this merge moves when it passes: those that no newer merge has moved, renamed or released."""
        touched = merge.decision.targets.items()
        return {n: d for n, d in touched if merge.seq > self.target(n).decision and (d or n in self.targets)}


def fold(state: State, entry: record.Record) -> State:
    """The next state. Total over events: a new event type does not type-check until it stands here."""
    state = state.model_copy(update={"size": entry.seq + 1})
    event = entry.event
    match event:
        case record.Genesis():
            return _fold_genesis(state, entry, event)
        case record.Reset():
            return _fold_reset(state, entry, event)
        case record.TakenOver():
            return _take_over(state, entry.seq, event, converge=event.converge)
        case record.Config():
            return state.model_copy(update={"config": event.digest})
        case record.Seen():
            return state.model_copy(update={"seen": {**state.seen, event.subject: entry.at}})
        case record.Decision(verdict=model.Verdict.ACCEPT):
            return _fold_accepted(state, entry, event)
        case record.Decision():
            return state.model_copy(update={"held": {**state.held, event.revision: event}})
        case record.Clearance():
            return _fold_clearance(state, entry.seq, event)
        case record.Halt():
            return state.model_copy(update={"halted": event.codes})
        case record.Operator():
            return _fold_operator(state, state.target(event.target), event)
        case (
            record.Intent()
            | record.Applied()
            | record.Outcome()
            | record.Confirmed()
            | record.Drift()
            | record.Standing()
        ):
            known = state.targets.get(event.target)  # None: it was renamed or dropped while its last turn ended.
            return _put(state, _fold_target(known, entry, event)) if known else state
        case _:
            assert_never(event)


def _put(state: State, *targets: Target) -> State:
    return state.model_copy(update={"targets": {**state.targets, **{t.name: t for t in targets}}})


def _take_over(
    state: State, seq: int, event: record.Genesis | record.Reset | record.TakenOver, *, converge: bool
) -> State:
    """What should be is taken over from there; what was done before stays known."""
    taken = [
        state.target(name).model_copy(
            update={
                "cleared": model.Version(revision=event.revision, digest=digest),
                "decision": seq,
                "clearance": seq,
                "decisions": (seq,),
                "taken_over": not converge,
                "waiting": None,
                "gates": (),
                "failed": frozenset(),
                "released": False,
            }
        )
        for name, digest in event.targets.items()
    ]
    return _put(state, *taken)


def _fold_genesis(state: State, entry: record.Record, event: record.Genesis) -> State:
    begun = {"tip": event.revision, "genesis": event.revision, "policies": event.revision}
    return _take_over(state.model_copy(update=begun), entry.seq, event, converge=event.converge)


def _fold_reset(state: State, entry: record.Record, event: record.Reset) -> State:
    """The pin moved: what is not taken over from there is released."""
    gone = [
        t.model_copy(update={"released": True, "cleared": None, "waiting": None, "gates": ()})
        for n, t in state.targets.items()
        if n not in event.targets
    ]
    moved = state.model_copy(
        update={
            "tip": event.revision,
            "genesis": event.revision,
            "policies": event.revision,
            "held": {},
            "seen": {},
            "pending": {},
            "reset": entry.at,
            "halted": (),
        }
    )
    return _take_over(_put(moved, *gone), entry.seq, event, converge=False)


def _fold_accepted(state: State, entry: record.Record, event: record.Decision) -> State:
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
        for t in map(state.target, event.targets)
    ]
    merge = {event.revision: Merge(decision=event, seq=entry.seq, at=entry.at)} if touched else {}
    pending = state.pending
    if event.policies:  # New rules are new input for everything that waits.
        pending = {r: m.model_copy(update={"results": ()}) for r, m in pending.items()}
    moved = state.model_copy(
        update={
            "tip": event.revision,
            "policies": event.revision if event.policies else state.policies,
            "held": {},
            "seen": dict([*state.seen.items()][-SEEN_KEPT:]),
            "pending": {**pending, **merge},
        }
    )
    return _put(moved, *touched)


def _fold_clearance(state: State, seq: int, event: record.Clearance) -> State:
    """Passed: its targets move. Not passed: nothing moves, they are told why."""
    merge = state.pending.get(event.revision)
    if merge is None:
        return state  # Overtaken on all its targets while its gates ran.
    if not event.passed:
        tried = {event.revision: merge.model_copy(update={"results": event.results})}
        why = tuple(r for r in event.results if r.outcome is not model.Outcome.PASS)
        touched = map(state.target, merge.decision.targets)
        told = [t.model_copy(update={"gates": why}) for t in touched if t.waiting == event.revision]
        return _put(state.model_copy(update={"pending": {**state.pending, **tried}}), *told)
    state = _rename(state, event.renamed)
    after = _put(state, *(_move(state.target(n), merge, seq, d) for n, d in state.moves(merge).items()))
    left = {
        r: m
        if after.moves(m) == state.moves(m)
        else m.model_copy(update={"results": ()})  # Less is asked of it: new input.
        for r, m in state.pending.items()
        if after.moves(m)
    }
    return after.model_copy(update={"pending": left})


def _rename(state: State, renamed: Mapping[str, str]) -> State:
    """A target takes over what the log knows of the one that it was; that one is no more."""
    for new, old in renamed.items():
        was, now = state.target(old), state.target(new)
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
        left = {name: each for name, each in state.targets.items() if name != old}
        state = _put(state.model_copy(update={"targets": left}), taken)
    return state


def _in_folder(opened: model.Deployment | None, folder: str) -> model.Deployment | None:
    """What was being written when the target was renamed is settled and superseded under its new name."""
    if opened is None or opened.wanted.folder:
        return opened
    wanted = opened.wanted.model_copy(update={"folder": folder})
    return opened.model_copy(update={"wanted": wanted})


def _move(target: Target, merge: Merge, seq: int, digest: model.Digest | None) -> Target:
    revision = merge.decision.revision
    return target.model_copy(
        update={
            "cleared": model.Version(revision=revision, digest=digest) if digest else None,
            "released": digest is None,
            "taken_over": False,
            "decision": merge.seq,
            "clearance": seq,
            "failed": frozenset(),
            "retry": None,
            "retries": 0,
            "pinned": None,
            "fighting": frozenset(),
            **({"waiting": None, "gates": ()} if target.waiting == revision else {}),
        }
    )


def _fold_operator(state: State, target: Target, event: record.Operator) -> State:
    match event.verb:
        case "suspend":
            return _put(state, target.model_copy(update={"suspended": event.reason}))
        case "resume":
            return _put(state, target.model_copy(update={"suspended": None}))
        case "rollback":
            undone = target.last.created if target.last else frozenset()
            return _put(state, target.model_copy(update={"pinned": event, "undone": undone}))
        case "reconcile":
            again = {r: m.model_copy(update={"results": ()}) for r, m in state.pending.items() if r == target.waiting}
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
            return _put(state.model_copy(update={"pending": {**state.pending, **again}}), tried)
        case "drop":
            return _drop(state, event.target) if target.released else state
        case _:
            assert_never(event.verb)


def _drop(state: State, name: str) -> State:
    """It is known no more, and no merge that still waits brings it back."""
    pending = {}
    for revision, merge in state.pending.items():
        targets = {n: d for n, d in merge.decision.targets.items() if n != name}
        if targets:
            decision = merge.decision.model_copy(update={"targets": targets})
            pending[revision] = merge.model_copy(update={"decision": decision})
    left = {n: t for n, t in state.targets.items() if n != name}
    return state.model_copy(update={"targets": left, "pending": pending})


def _fold_target(target: Target, entry: record.Record, event: record.TargetEvent) -> Target:
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


def _fold_intent(target: Target, entry: record.Record, event: record.Intent) -> Target:
    opened = target.open or model.Deployment(
        id=event.deployment, target=event.target, wanted=event.wanted, cause=event.cause, started=entry.at
    )
    adopted = {k: event.snapshot for k, action in event.actions.items() if action == "adopt"}
    strays = target.confirmed is None or target.confirmed.digest != event.wanted.digest
    recent = tuple((k, at) for k, at in target.corrections if entry.at - at < FIGHT_WITHIN)
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
            "fighting": frozenset(k for k in keys if keys.count(k) > FIGHT_CORRECTIONS),
            "standing": None,
        }
    )


def _fold_applied(target: Target, entry: record.Record, event: record.Applied) -> Target:
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


def _fold_outcome(target: Target, entry: record.Record, event: record.Outcome) -> Target:
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


def _fail(target: Target, ended: model.Deployment, entry: record.Record) -> Target:
    """A change that failed stays failed. A drift correction is tried again with back-off: its state was healthy here."""
    if ended.cause is not model.Cause.DRIFT:
        return target.model_copy(update={"failed": target.failed | {ended.wanted.digest}, "failure": ended.reasons})
    wait = timedelta(seconds=min(30 * 2**target.retries, 3600))
    return target.model_copy(update={"retry": entry.at + wait, "retries": target.retries + 1})


def _confirm(target: Target, version: model.Version, entry: record.Record) -> Target:
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
