"""One process: the lock on its state folder, its threads, its ticks, its signals and its end."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

import structlog

from reconciler import errors, model
from reconciler.admission import admit
from reconciler.audit import record, state
from reconciler.convergence import deciding
from reconciler.daemon import application, core, turns, watching
from reconciler.views import obligations

logger = structlog.get_logger()


def _lock(folder: Path) -> TextIO:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return (folder / "lock").open("a")
    except PermissionError as exc:
        fix = "run it as the user whose folder it is; a daemon that runs is asked over its socket"
        raise errors.ConfigError("state", "this user may not write there", where=str(folder), fix=fix) from exc


@contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Be the one process that owns this state folder.

    Raises: ConfigError(locked) while another one does; ConfigError(state) where this user may not.
    """
    with _lock(folder) as lock:
        os.fchmod(lock.fileno(), 0o600)  # Whoever can open it can hold it: no group that may reach the socket.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            fix = "stop the daemon that runs there, or ask it over its socket"
            raise errors.ConfigError(
                "locked", "another process owns this state folder", where=str(folder), fix=fix
            ) from exc
        yield


class Daemon:
    """Takes turns until it is told to stop, or until a turn raised something that nobody may outlive."""

    def __init__(self, app: application.Application) -> None:
        self._app = app
        self._core = app.core
        self._started = False
        self._turns = turns.Turns(self._turn)
        self._watch = watching.Watch(self._turns.wake, app.watched_paths)
        self._blind: dict[str, str] = {}  # the targets that cannot be looked at -> the code of why, as it was told
        self._overdue: set[model.Oid] = set()  # the reviews that were told to be late
        self._unread: set[model.Oid] = set()  # the reviews that were told to be beyond reading
        app.core.audit.subscribe(self._heard)
        app.wake = self._turns.wake
        app.core.contact.patience = admit.Patience()

    def run(self) -> None:
        """Blocks. SIGTERM and SIGINT end it cleanly: running turns end, so that no write is left without its record.

        Raises: what ended it, AuditError above all.
        """
        self._app.started = self._app.clock.now()
        self._app.note_configuration()
        with self._ticking(), self._watch, _signals(self._turns.stop):
            self._turns.wake("watch")
            self._turns.run(may_leave=self._core.is_accounted_for)
        self._core.close()
        if self._turns.fatal:
            raise self._turns.fatal

    def stop(self) -> None:
        self._turns.stop()

    def _turn(self, name: str) -> float | None:
        silent = self._core.contact.is_silent(self._app.clock.now())
        with structlog.contextvars.bound_contextvars(turn=name), self._app.timed(name):
            move, in_s = self._core.turn(name)
        _say(name, move)
        if name == "watch":
            self._remind()
        else:
            self._tell_sight(name.removeprefix("target:"))
        heard = silent and not self._core.contact.is_silent(self._app.clock.now())
        if name == "watch" and (
            heard or not self._started
        ):  # Nobody begins on old news, nor waits longer than for that.
            self._started = True
            for each in self._core.names():
                if each != "watch":
                    self._turns.wake(each)
        return in_s

    def _tell_sight(self, name: str) -> None:
        """That a target cannot be looked at, and that it can again: told once, and as an error where somebody was turned away.

        Nothing of it is on record: it is no standing, since nobody knows how the target is.
        """
        seen = self._core.looked_at().get(name)
        why = seen.last.errors.get(model.Key("")) if seen and seen.last else None
        before = self._blind.get(name)
        if why is not None and why.code != before:
            self._blind[name] = why.code
            told = logger.error if why.code.startswith(deciding.SECURITY) else logger.warning
            told("cannot look", target=name, code=why.code, error=why.message, fix=why.fix)
        elif why is None and before is not None and seen and seen.last:
            del self._blind[name]
            logger.info("can look again", target=name)

    def _remind(self) -> None:
        """A review that is late is told once in each life of the daemon; time alone makes it so, and no record.

        So is one whose statements cannot be read: it would stay open, and changes would wait for it, in silence.
        """
        now = self._app.clock.now()
        for revision, owed in self._core.audit.state.reviews.items():
            if obligations.is_overdue(owed, now) and revision not in self._overdue:
                self._overdue.add(revision)
                logger.error("the review of an emergency is overdue", needs=list(owed.need), **_owed(owed))
        reviews = self._app.reviews()
        unread = {revision for revision, found in reviews.items() if not found.is_read}
        for revision in unread - self._unread:
            why = [f"{reason.code}: {reason.message}" for reason in reviews[revision].missing]
            logger.error("the reviews of an emergency cannot be read: it stays open", revision=revision, why=why)
        self._unread = unread

    def _heard(self, entry: record.Record, after: state.State) -> None:
        for name in core.due(entry, after):
            self._turns.wake(name)
        self._watch.changed()
        _tell(entry.event)

    @contextmanager
    def _ticking(self) -> Iterator[None]:
        """The poll and the nightly verification; intervals of targets are kept by the turns themselves."""
        from apscheduler.schedulers.background import BackgroundScheduler

        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        ticks = BackgroundScheduler(timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1})
        ticks.add_job(self._turns.wake, "interval", args=("watch",), seconds=self._app.configuration.source.poll)
        ticks.add_job(self._verify, "cron", hour=3)
        ticks.start()
        try:
            yield
        finally:
            ticks.shutdown(wait=False)

    def _verify(self) -> None:
        """The whole log, nightly (trust.md 9.2). The process does not outlive a log that does not verify."""
        try:
            self._app.verify_log()
        except errors.AuditError as exc:
            logger.critical("the audit log does not verify", code=exc.code, error=str(exc))
            self._turns.fail(exc)


class Pass:
    """One full pass: fetch, judge, clear, and take turns until every target rests, stands, or waits with nothing open.

    The source is read again at every poll while that lasts: a change that is slow to look at must not find it silent.
    """

    def __init__(self, app: application.Application) -> None:
        self._core = app.core
        self._turns = turns.Turns(self._turn)
        self._begun = False
        self.unreachable: errors.ReconcilerError | None = None
        app.core.audit.subscribe(self._heard)

    def run(self, *, within_s: float) -> bool:
        """Whether it came to an end in time. Blocks.

        Raises: AuditError.
        """
        alarm = threading.Timer(within_s, self._turns.stop)
        alarm.daemon = True
        alarm.start()
        self._turns.wake("watch")
        ended = self._turns.run(until_idle=True, beside=frozenset({"watch"}), may_leave=self._core.is_accounted_for)
        alarm.cancel()
        self._core.close()
        if self._turns.fatal:
            raise self._turns.fatal
        return ended

    def _turn(self, name: str) -> float | None:
        move, in_s = self._core.turn(name)
        _say(name, move)
        if name == "watch":
            self.unreachable = move if isinstance(move, errors.TransientError) else None
            for each in self._core.names() if not self._begun else ():  # What came since wakes its own.
                if each != "watch":
                    self._turns.wake(each)
            self._begun = True
            return in_s
        if name.startswith("clear:"):
            return (
                0 if in_s == 0 else None
            )  # The question changed meanwhile; a gate that broke is another pass's business.
        known = self._core.audit.state.target(name.removeprefix("target:"))
        passes = isinstance(move, deciding.Rest | deciding.Stand) or (
            isinstance(move, deciding.Wait) and not known.open
        )
        return None if passes or isinstance(move, errors.ReconcilerError) else in_s

    def _heard(self, entry: record.Record, after: state.State) -> None:
        for name in core.due(entry, after):
            self._turns.wake(name)


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    def told(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal's callback
        stop()

    kept = {s: signal.signal(s, told) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, before in kept.items():
            signal.signal(number, before)


def _tell(event: record.Event) -> None:
    """A line for each record that a person on call would ask for; the log has all of them."""
    match event:
        case record.Decision():
            note = logger.info if event.verdict is model.Verdict.ACCEPT else logger.warning
            note("judged", revision=event.revision, verdict=event.verdict.value, why=_why(event.reasons))
        case record.Clearance(passed=False):
            findings = tuple(finding for result in event.results for finding in result.findings)
            logger.warning("gates did not pass", revision=event.revision, why=_why(findings))
        case record.Standing() if event.code:
            logger.warning("stands", target=event.target, code=event.code, why=_why(event.reasons))
        case record.Operator():
            logger.info("asked for", verb=event.verb, target=event.target, actor=event.actor, reason=event.reason)
        case record.Obligation():
            note = logger.warning if event.change == "opened" else logger.info
            note("obligation", change=event.change, kind=event.kind, **_owed(event))
        case record.Halt():
            logger.critical("halted", codes=list(event.codes))
        case _:
            pass


def _owed(event: record.Obligation) -> dict[str, object]:
    due = model.print_time(event.due) if event.due else ""
    told = {"revision": event.revision, "target": event.target, "incident": event.incident, "due": due}
    return {name: text for name, text in told.items() if text} | (
        {"people": list(event.people)} if event.people else {}
    )


def _why(reasons: Sequence[model.Reason]) -> list[str]:
    return [f"{reason.code}: {reason.message}" for reason in reasons[:3]]


def _say(name: str, move: object) -> None:
    """A line for each turn that did something."""
    match move:
        case errors.ReconcilerError():
            logger.warning("turn failed", turn=name, code=move.code, error=str(move))
        case deciding.Write():
            logger.info("wrote", turn=name, cause=move.cause.value, steps=len(move.stage.steps))
        case deciding.Close():
            logger.info("closed", turn=name, outcome=move.closed.value, why=[r.message for r in move.reasons[:3]])
        case deciding.Settle():
            logger.info("settled a write whose result was lost", turn=name)
        case _:
            logger.debug("turn", turn=name, move=type(move).__name__)
