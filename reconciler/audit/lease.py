"""Leases: one writer for each scope, told apart by an epoch that only grows. Who may append is checked by `log` and by triggers."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from reconciler import errors, model
from reconciler.audit import schema

_LEASE = schema.lease
_HELD = sa.select(_LEASE).where(_LEASE.c.scope == sa.bindparam("of"))
_TAKE = _LEASE.insert()
_KEEP = (
    _LEASE.update()
    .where(_LEASE.c.scope == sa.bindparam("of"))
    .values(epoch=sa.bindparam("new"), holder=sa.bindparam("by"), until=sa.bindparam("to"))
)


def take(connection: sa.Connection, scope: str, holder: str, mine: int, times: tuple[datetime, datetime]) -> int:
    """The epoch under which this holder writes from now on; a new one unless it has held the lease all along."""
    now, until = times
    held = connection.execute(_HELD, {"of": scope}).one_or_none()
    ends = model.print_time(until)
    if held is None:
        connection.execute(_TAKE, {"scope": scope, "epoch": 1, "holder": holder, "until": ends})
        return 1
    if held.holder != holder and datetime.fromisoformat(held.until) > now:
        raise errors.TransientError("leased", f"{scope} is held by {held.holder} until {held.until}")
    epoch = int(held.epoch) if held.epoch == mine else int(held.epoch) + 1
    connection.execute(_KEEP, {"of": scope, "new": epoch, "by": holder, "to": ends})
    return epoch


def give_back(connection: sa.Connection, scope: str, epoch: int, now: datetime) -> None:
    """Let the lease end now, so that the next holder need not wait for it; where it is still ours."""
    lease = schema.lease
    mine = sa.and_(lease.c.scope == scope, lease.c.epoch == epoch)
    connection.execute(lease.update().where(mine).values(until=model.print_time(now)))
