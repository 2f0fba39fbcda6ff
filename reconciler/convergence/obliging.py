"""What a target owes that went back by itself: Git has to say what it now is (trust.md 5.3). Pure; it blocks nobody."""

from __future__ import annotations

from datetime import datetime

from reconciler import model
from reconciler.audit import record, state

_LONGEST = 1000  # characters of a reason that a record keeps


def opened(known: state.Target, closed: model.Closed, now: datetime) -> tuple[record.Obligation, ...]:
    """With the end of the open deployment: it was an automatic way back, not one that an operator pinned."""
    back, failed = known.open, known.cleared
    if back is None or back.cause is not model.Cause.ROLLBACK or closed is model.Closed.SUPERSEDED:
        return ()
    if known.pinned or known.owes or failed is None or failed.revision is None or failed.digest not in known.failed:
        return ()
    owed = record.Obligation(
        change="opened",
        kind="agree",
        revision=failed.revision,
        target=known.name,
        deployment=back.id,
        reason="; ".join(reason.message for reason in known.failure[:3])[:_LONGEST],
        opened=now,
    )
    return (owed,)


def closed(known: state.Target) -> tuple[record.Obligation, ...]:
    """The target's next desired state is there, or the one that failed has come true after all."""
    owed, newest = known.owes, known.cleared
    if owed is None:
        return ()
    came_true = newest is not None and known.confirmed is not None and known.confirmed.digest == newest.digest
    if newest is not None and newest.revision == owed.revision and not came_true:
        return ()
    return (owed.model_copy(update={"change": "closed", "target": known.name}),)
