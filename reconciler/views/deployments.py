"""`get deployments`: from the first intent to the outcome, folded from their records. "Rolled back" is derived, never stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from reconciler import model
from reconciler.audit import record
from reconciler.views import audit, document


class Deployment(document.Row):
    id: str
    target: str
    cause: model.Cause
    revision: model.Oid | None  # null: the snapshot that was there before the first deployment
    digest: model.Digest
    before: model.Oid | None  # what its rollback goes back to; null: that snapshot
    before_folder: str  # under targets/, where the target had another name then; else empty
    started: model.Time
    ended: model.Time | None
    outcome: model.Closed | None  # null: still open
    rolled_back: bool  # it failed, and the way back succeeded
    stages: int
    actions: int
    reasons: tuple[model.Reason, ...]
    decisions: tuple[int, ...]  # seq of the records that let it in
    clearance: int
    first: int  # seq of its first intent


class DeploymentList(document.Document):
    kind: Literal["DeploymentList"] = "DeploymentList"
    items: tuple[Deployment, ...]


TYPES: frozenset[audit.EventType] = frozenset(("intent", "outcome"))


def deployments(records: Iterable[record.Record]) -> DeploymentList:
    """Oldest first. `records`: those of `TYPES`, oldest first; one whose first intent is not among them is left out."""
    found: dict[str, Deployment] = {}
    latest: dict[str, str] = {}  # target -> its deployment before this one
    for entry in records:
        match entry.event:
            case record.Intent() as event if event.deployment in found:
                known = found[event.deployment]
                more = {"stages": known.stages + 1, "actions": known.actions + len(event.actions)}
                found[event.deployment] = known.model_copy(update=more)
            case record.Intent() as event:
                found[event.deployment] = _open(entry, event)
            case record.Outcome() as event if event.deployment in found:
                closed = found[event.deployment].model_copy(
                    update={"ended": entry.at, "outcome": event.closed, "reasons": event.reasons}
                )
                found[closed.id] = closed
                _mark_way_back(found, latest.get(closed.target), closed)
                latest[closed.target] = closed.id
            case _:
                pass
    return DeploymentList(items=tuple(found.values()))


def _mark_way_back(found: dict[str, Deployment], previous: str | None, closed: Deployment) -> None:
    back = closed.cause is model.Cause.ROLLBACK and closed.outcome is model.Closed.SUCCEEDED
    if previous and back and found[previous].outcome is model.Closed.FAILED:
        found[previous] = found[previous].model_copy(update={"rolled_back": True})


def _open(entry: record.Record, event: record.Intent) -> Deployment:
    return Deployment(
        id=event.deployment,
        target=event.target,
        cause=event.cause,
        revision=event.wanted.revision,
        digest=event.wanted.digest,
        before=event.before.revision,
        before_folder=event.before.folder,
        started=entry.at,
        ended=None,
        outcome=None,
        rolled_back=False,
        stages=1,
        actions=len(event.actions),
        reasons=(),
        decisions=event.decisions,
        clearance=event.clearance,
        first=entry.seq,
    )
