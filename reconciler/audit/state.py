"""What is true now, as decisions read it: the values that the log folds into (`fold.py`).

`views/` folds for people; nothing there is read by the core.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from reconciler import model
from reconciler.audit import record

FIGHT_WITHIN = timedelta(minutes=1)  # targets.md 1.6
FIGHT_CORRECTIONS = 5
WEEK = timedelta(days=7)


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
    emergency: model.Time | None = None  # until when the glass is broken for `cleared`
    owes: record.Obligation | None = None  # it went back by itself: Git has to say so
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
    emergencies: tuple[tuple[model.Oid, model.Time], ...] = ()  # the merges of the last week, and their t_dec
    reviews: Mapping[model.Oid, record.Obligation] = {}  # of emergencies, that are owed
    config: model.Digest | None = None
    rotated: Mapping[int, record.KeyRotated] = {}  # seq -> from there on another key signs the log
    recovered: Mapping[int, record.LogRecovered] = {}  # seq -> from there on the log has another name
    targets: Mapping[str, Target] = {}

    def target(self, name: str) -> Target:
        return self.targets.get(name) or Target(name=name)

    def moves(self, merge: Merge) -> dict[str, model.Digest | None]:
        """The targets that this merge moves when it passes: those that no newer merge has moved, renamed or released."""
        touched = merge.decision.targets.items()
        return {n: d for n, d in touched if merge.seq > self.target(n).decision and (d or n in self.targets)}
