"""How often the glass was broken this week, as far as a clone can tell. The daemon counts by its record, and its count holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reconciler import errors, model
from reconciler.admission import commit, judging, policy, statement, voting
from reconciler.audit import state
from reconciler.cli import changes, clone, fetching

_PARENTS = 2
_MOST = 200  # merges that are looked at
_LOOKED_BACK = timedelta(days=14)  # by the dates in the commits, which only say where to stop looking


@dataclass(frozen=True)
class Broken:
    """A merge that an emergency let in."""

    merge: model.Oid
    people: tuple[str, ...]
    incident: str
    said: datetime  # The daemon goes by the time of its decision, which is not known here.


def describe(here: clone.Clone, rule: policy.Emergency, now: datetime) -> Iterator[str]:
    found = this_week(here, now)
    yield f"spent        {len(found)} of {rule.max_per_week} this week, as far as this clone knows"
    for each in found:
        text = f"{each.merge[:12]} {each.incident} by {', '.join(each.people)}, {model.print_time(each.said)}"
        yield f"             {changes.visible(text)}"
    if len(found) >= rule.max_per_week:
        until = model.print_time(found[-rule.max_per_week].said + state.WEEK)
        yield f"             one more is a HOLD(emergency_scope) until about {until}"
    yield "             the daemon counts by its record: reconciler get obligations --all"


def this_week(here: clone.Clone, now: datetime) -> tuple[Broken, ...]:
    """Oldest first: those that needed a statement signed within a week, judged at a moment when it was good."""
    merges = tuple(_merges(here, now))
    fetching.approvals_of(here, *(head for _, _, head in merges))
    found = (_broken(here, merge, base, head, now) for merge, base, head in reversed(merges))
    return tuple(each for each in found if each is not None)


def _merges(here: clone.Clone, now: datetime) -> Iterator[tuple[model.Oid, model.Oid, model.Oid]]:
    """Merge, first parent and head, from the last accepted commit back."""
    oid = here.base
    for _ in range(_MOST):
        parsed = commit.parse_commit(oid, here.repository.commit(oid))
        if isinstance(parsed, model.Reason) or len(parsed.parents) != _PARENTS:
            return
        if datetime.fromtimestamp(parsed.committer.timestamp, UTC) < now - _LOOKED_BACK:
            return
        yield oid, parsed.parents[0], parsed.parents[1]
        oid = parsed.parents[0]


def _broken(here: clone.Clone, merge: model.Oid, base: model.Oid, head: model.Oid, now: datetime) -> Broken | None:
    then = here.at(base)
    try:
        casts = voting.read_statements(here.repository, (head,), then.rules, {}, now)
    except (errors.PermanentError, errors.TransientError):
        return None  # More lie there than anybody reads; the daemon knows what it accepted.
    said = (cast.opened for cast in casts if isinstance(cast.opened, statement.Statement))
    ours = [each for each in said if each.decision == "emergency" and each.binding.head == head]
    for each in sorted(ours, key=lambda each: each.issued_at):
        if each.expires_at is None or each.issued_at <= now - state.WEEK:
            continue
        at = min(now, each.expires_at - timedelta(seconds=1))
        decision = judging.examine(here.repository, merge, then.known, terms=here.terms, now=at).decision
        if decision.emergency is not None:
            return Broken(merge, decision.emergency.people, decision.emergency.incident, each.issued_at)
    return None
