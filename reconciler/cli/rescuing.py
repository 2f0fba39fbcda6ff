"""`recover --mirror` and `recover --log`: the operator's step out of an alarm of the store, or of the log. With no daemon running.

Nothing is deleted: what is replaced stays beside, under a name with the time, for whoever finds out how it came to this.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler import config, errors
from reconciler.cli import exit_codes, keeping, printing, session

if TYPE_CHECKING:
    import sqlalchemy as sa


_BESIDE = ("-wal", "-shm")  # SQLite's write-ahead log: part of the database while it is open, or when it was killed


def mirror(told: config.Configuration, reason: str) -> int:
    """Set the mirror aside, so that the next start fetches it anew, and end the alarms of the store.

    Raises: ConfigError(usage | locked | no_log); AuditError of the log.
    """
    from reconciler.admission import codes
    from reconciler.audit import record
    from reconciler.daemon import opening, process

    _need(reason)
    session.check_recorded(told)
    place = told.state / "mirror.git"
    with process.owning(told.state), opening.opened(told) as log:
        aside = _aside(place)
        if place.exists():
            place.rename(aside)
            printing.out(f"set aside    {aside}")
        standing = log.state.halted
        left = tuple(code for code in standing if code not in codes.STORE)
        ended = tuple(code for code in standing if code in codes.STORE)
        log.append(record.Halt(codes=left, ended=ended, why=f"the mirror was set aside: {reason}"), actor=_actor(told))
    printing.out(f"ended        {', '.join(ended) or 'no alarm of the store was on record'}")
    printing.say("the next start fetches it anew; approvals that were handed in by upload have to be handed in again")
    return exit_codes.FINE


def log(told: config.Configuration, reason: str, checkpoint: Path | None) -> int:
    """Go on with what is proven of the log, under another name, and say what was lost.

    Raises: ConfigError(usage | locked | no_log | nothing_lost); AuditError(log_forked | log_broken | log_read).
    """
    from reconciler.audit import rescue, signing, storage
    from reconciler.daemon import composing, opening, process

    _need(reason)
    session.check_recorded(told)
    path = Path(told.store_url.removeprefix("sqlite:///"))
    origin, public = composing.origin(told), signing.FileSigner.read(told.store.signing_key).public
    with process.owning(told.state):
        old = storage.make_engine(told.store_url)
        try:
            found = rescue.examine(old, public, origin, [keeping.read_note(checkpoint)] if checkpoint else [])
            if not found.lost and _is_whole(old):
                fix = "name a newer checkpoint that was kept elsewhere: --checkpoint FILE"
                raise errors.ConfigError(
                    "nothing_lost", f"all {found.rows} records are proven", where=str(path), fix=fix
                )
            making = path.with_name(path.name + ".recovered")
            for left in (making, *(making.with_name(making.name + suffix) for suffix in _BESIDE)):
                left.unlink(missing_ok=True)
            new = storage.make_engine(f"sqlite:///{making}")
            rescue.copy(old, new, found.kept)
            new.dispose()
        finally:
            old.dispose()
        event = rescue.event_of(found, origin, reason)
        with opening.opened(told, f"sqlite:///{making}") as made:
            made.append(event, actor=_actor(told))
        aside = _swap(path, making)
    printing.out(f"set aside    {aside}")
    printing.out(f"kept         {event.kept} records, of {max(event.signed, found.rows)} that were signed or there")
    printing.out(f"goes on as   {event.origin}")
    return exit_codes.FINE


def _is_whole(engine: sa.Engine) -> bool:
    from reconciler.audit import storage

    try:
        storage.Store(engine).check_schema()
    except errors.AuditError:
        return False
    return True


def _swap(path: Path, making: Path) -> Path:
    """Put the new database in the place of the old one, which is kept. At no moment is there none."""
    aside = _aside(path)
    for suffix in _BESIDE:  # A copy without its write-ahead log would be another database.
        side = path.with_name(path.name + suffix)
        if side.exists():
            shutil.copy2(side, aside.with_name(aside.name + suffix))
    shutil.copy2(path, aside)
    for suffix in _BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    making.replace(path)
    return aside


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")


def _need(reason: str) -> None:
    if not reason:
        raise errors.ConfigError("usage", "it is recorded why", where="--reason", fix="--reason 'INC0042: ...'")


def _actor(told: config.Configuration) -> str:
    from reconciler.web import peers

    return peers.actor(peers.Peer(os.getpid(), os.getuid(), os.getgid()), told.operators).name
