"""Which names a target had, and which part of the log tells of it under each: `formerly` moves a target, records keep their name.

A name may serve twice: what is recorded under it before it was given away belongs to the target that took that over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from reconciler import model
from reconciler.audit import record
from reconciler.views import document

Clearances = Callable[[str], Iterable[record.Record]]  # those that concern a target of this name


class Renaming(NamedTuple):
    seq: int  # of the clearance with which it took effect
    revision: model.Oid
    old: str
    new: str


class Life(NamedTuple):
    """One name of a target, and what is recorded under it: after < seq, and seq < before where that is not None."""

    name: str
    after: int
    before: int | None
    into: Renaming | None = None  # what ended it


class Told(NamedTuple):
    name: str  # of the target that the record is about, as it was then
    entry: record.Record


class Former(document.Row):
    """What a target was called until a merge renamed it."""

    name: str
    revision: model.Oid
    record: int  # the clearance with which the next name took effect


def lives(name: str, clearances: Clearances, into: Renaming | None = None) -> Iterator[Life]:
    """The names of the target that is called so, or was so until `into` renamed it: the newest first."""
    before = into.seq if into else None
    known = [each for each in _renamings(name, clearances) if before is None or each.seq < before]
    after = max((each.seq for each in known if each.old == name), default=-1)
    yield Life(name, after, before, into)
    taken = next((each for each in reversed(known) if each.new == name and each.seq > after), None)
    if taken is not None:
        yield from lives(taken.old, clearances, taken)


def told(known: Iterable[Life], read: Callable[[Life], Iterable[record.Record]]) -> list[Told]:
    """What is recorded of a target under all of its names, oldest first. `read`: what concerns a name, oldest first.

    A record that is about two of its names, such as the merge that renames it, stands under the newer one. What was still
    being written when a name ended is told to its end.
    """
    found: dict[int, Told] = {}
    for life in known:
        deployments: set[str] = set()
        for entry in read(life):
            within = life.after < entry.seq and (life.before is None or entry.seq < life.before)
            deployment = deployment_of(entry.event)
            if within and isinstance(entry.event, record.Intent):
                deployments.add(deployment)
            if within or deployment in deployments:
                found.setdefault(entry.seq, Told(life.name, entry))
    return [found[seq] for seq in sorted(found)]


def deployment_of(event: record.Event) -> str:
    """Empty: the event is of none."""
    return event.deployment if isinstance(event, record.Intent | record.Applied | record.Outcome) else ""


def given_away(name: str, clearances: Clearances) -> Renaming | None:
    """The newest merge that gave another name to a target of this one."""
    return next((each for each in reversed(_renamings(name, clearances)) if each.old == name), None)


def goes_on_as(first: Renaming, clearances: Clearances) -> str:
    """What a target is called now that was renamed once."""
    later = (each for each in _renamings(first.new, clearances) if each.old == first.new and each.seq > first.seq)
    following = next(later, None)
    return goes_on_as(following, clearances) if following else first.new


def former(known: Iterable[Life]) -> tuple[Former, ...]:
    """The newest first, as `lives` gives them."""
    ended = (each.into for each in known)
    return tuple(Former(name=each.old, revision=each.revision, record=each.seq) for each in ended if each)


def _renamings(name: str, clearances: Clearances) -> list[Renaming]:
    """Oldest first: those that this name was given to, or taken from."""
    return [
        Renaming(entry.seq, entry.event.revision, old, new)
        for entry in clearances(name)
        if isinstance(entry.event, record.Clearance)
        for new, old in entry.event.renamed.items()
        if name in (new, old)
    ]
