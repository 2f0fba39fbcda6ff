"""`get obligations`: what is owed, to whom it matters, and since when it is late (trust.md 5.3).

`review`: other people look at an emergency afterwards; overdue, it makes ordinary changes of its environments wait. `agree`: a
target went back by itself, so Git says something else; it blocks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from reconciler import model
from reconciler.admission import reviewing
from reconciler.audit import record, state
from reconciler.views import document


class Obligation(document.Row):
    kind: Literal["review", "agree"]
    state: Literal["open", "overdue", "closed"]
    revision: model.Oid  # review: the merge; agree: the one whose state failed
    head: model.Oid | None
    target: str
    deployment: str  # agree: the way back
    environments: tuple[str, ...]
    incident: str
    reason: str
    people: tuple[str, ...]  # who broke the glass
    reviewers: tuple[str, ...]  # whose reviews count
    missing: tuple[model.Reason, ...] = ()  # what an open review lacks, or why what lies there cannot be read
    need: tuple[str, ...]
    opened: model.Time | None
    due: model.Time | None
    waiting: tuple[str, ...]  # the targets that stand deferred by it


class ObligationList(document.Document):
    kind: Literal["ObligationList"] = "ObligationList"
    items: tuple[Obligation, ...]


def owed(known: state.State) -> tuple[record.Obligation, ...]:
    """All that is open, the oldest first."""
    agree = (target.owes for target in known.targets.values() if target.owes)
    return tuple(sorted((*known.reviews.values(), *agree), key=lambda each: (str(each.opened), each.revision)))


def is_overdue(each: record.Obligation, now: datetime) -> bool:
    return each.due is not None and now >= each.due


def obligations(
    known: state.State,
    now: datetime,
    closed: Iterable[record.Record] = (),
    reviews: Mapping[model.Oid, reviewing.Reviewed] | None = None,
) -> ObligationList:
    """`closed`: the records of what was ever owed, where somebody asks for what no longer is, too; `reviews`: by merge, of
    what is open, how far each has come.
    """
    told = [entry.event for entry in closed if isinstance(entry.event, record.Obligation)]
    broken = {each.revision: each.people for each in told if each.change == "opened"}
    past = tuple(_closed(each, broken.get(each.revision, ())) for each in told if each.change == "closed")
    rows = (_row(each, "overdue" if is_overdue(each, now) else "open", _waiting(each, known)) for each in owed(known))
    return ObligationList(items=(*past, *(_reviewed(row, reviews or {}) for row in rows)))


def _reviewed(row: Obligation, reviews: Mapping[model.Oid, reviewing.Reviewed]) -> Obligation:
    found = reviews.get(row.revision) if row.kind == "review" else None
    return row.model_copy(update={"reviewers": found.people, "missing": found.missing}) if found else row


def _closed(each: record.Obligation, broken: tuple[str, ...]) -> Obligation:
    return _row(each, "closed", ()).model_copy(update={"people": broken, "reviewers": each.people})


def _waiting(each: record.Obligation, known: state.State) -> tuple[str, ...]:
    standings = ((name, target.standing) for name, target in known.targets.items() if target.standing)
    names = (name for name, said in standings if any(_is_of(reason, each) for reason in said.reasons))
    return tuple(sorted(names))


def _is_of(reason: model.Reason, each: record.Obligation) -> bool:
    return reason.code == "obligation" and reason.where == each.revision


def _row(
    each: record.Obligation, condition: Literal["open", "overdue", "closed"], waiting: tuple[str, ...]
) -> Obligation:
    return Obligation(
        kind=each.kind,
        state=condition,
        revision=each.revision,
        head=each.head,
        target=each.target,
        deployment=each.deployment,
        environments=each.environments,
        incident=each.incident,
        reason=each.reason,
        people=each.people,
        reviewers=(),
        need=each.need,
        opened=each.opened,
        due=each.due,
        waiting=waiting,
    )
