"""Break-glass: when an `emergency` statement is within its scope, and which rules it stands in for (trust.md 5.3). Pure.

It stands in for counts, windows and freezes, whose slots nobody had time to fill. Never for signatures, the separation of
duties, the policies themselves, gates, or the log. Not here: who signed it and what it binds (`ballot.py`), the review
afterwards (`reviewing.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler import model
from reconciler.admission import effect, form, policy, slots, statement
from reconciler.audit import record, state

SKEW = timedelta(minutes=5)  # between the clock of whoever signs and ours
_KEPT_CHARS = 400  # of what somebody wrote; the whole of it is in the envelope, which is evidence


@dataclass(frozen=True)
class Glass:
    """What an emergency statement about one merge is held against. `rule`: None where the policy allows none."""

    rule: policy.Emergency | None = None
    guarded: bool = False  # the merge changes the policies
    recovering: bool = False  # it passes over commits that were not accepted
    spent: int = 0  # emergencies that were accepted in the week before


def glass(rules: policy.Policy, done: effect.Effect, case: form.Case) -> Glass:
    """For one merge, at t_dec. The same for an accepted merge that is judged again: what came after it does not count."""
    before = itertools.takewhile(lambda each: each[0] != case.revision, case.known.emergencies)
    return Glass(
        rule=rules.emergency,
        guarded=any(path.startswith(b"policies/") for path in done.paths),
        recovering=bool(case.skipped),
        spent=sum(1 for _, decided in before if case.now - decided < state.WEEK),
    )


def beyond(said: statement.Statement, seen: datetime, now: datetime, asked: Glass) -> str:
    """Why this statement is beyond the scope of an emergency; empty where it is not."""
    why, rule = unavailable(asked), asked.rule
    if why or rule is None:
        return why
    if "incident" in rule.requires and not said.incident.strip():
        return "it names no incident"
    if not said.change.reason.strip():
        return "it gives no reason"
    return _out_of_time(said, seen, now, rule)


def unavailable(asked: Glass) -> str:
    """Why nobody may break the glass here, whatever they say; empty where somebody may."""
    if asked.rule is None:
        return "the policy in force allows no emergency"
    if asked.guarded:
        return "no emergency ever lets a change of the policies in"
    if asked.recovering:
        return "no emergency lets a recovery merge in: its approvals name what it passes over"
    if asked.spent >= asked.rule.max_per_week:
        return f"{asked.spent} emergencies were accepted within a week: the policy allows no more"
    return ""


def _out_of_time(said: statement.Statement, seen: datetime, now: datetime, rule: policy.Emergency) -> str:
    """A date far ahead does not lengthen it: it ends so long after it was first seen, too."""
    if said.expires_at is None or said.expires_at <= said.issued_at:
        return "it has no end after its beginning"
    longest_s = min(rule.max_duration, policy.LONGEST_EMERGENCY_S)
    if said.expires_at - min(said.issued_at, seen + SKEW) > timedelta(seconds=longest_s):
        return f"it lasts longer than the {longest_s / 60:.0f} minutes that are allowed"
    if said.expires_at <= now:
        return f"it ended at {model.print_time(said.expires_at)}"
    return ""


def stand_in(rule: policy.Emergency, usual: Sequence[slots.Hit], paths: tuple[bytes, ...]) -> tuple[slots.Hit, ...]:
    """The rules that apply instead of the usual ones. Acknowledged hazards keep the slots of their own rules."""
    own = policy.Rule(id="emergency", paths=("/**",), need=rule.need)
    kept = (hit for hit in usual if hit.rule.id.startswith(slots.HAZARDS))
    return (slots.Hit(own, paths, glass=True), *kept)


def broken(
    said: Sequence[statement.Statement], seated: frozenset[str], usual: Sequence[slots.Hit], *, lacking: bool
) -> record.Emergency:
    """What the record keeps. `seated`: who fills the slots; `lacking`: the usual rules' slots are not filled."""
    needed = [each for each in said if each.person in seated]
    ends = (max(e.expires_at for e in needed if e.expires_at and e.person == person) for person in seated)
    return record.Emergency(
        people=tuple(sorted({each.person for each in said})),
        incident=", ".join(sorted({each.incident for each in needed if each.incident}))[:_KEPT_CHARS],
        reason="; ".join(sorted({each.change.reason for each in needed}))[:_KEPT_CHARS],
        until=min(ends),
        rules=tuple(hit.rule.id for hit in usual if not hit.rule.id.startswith(slots.HAZARDS)) if lacking else (),
    )


def owed(decision: record.Decision, rules: policy.Policy, environments: tuple[str, ...]) -> record.Obligation | None:
    """The review that an accepted emergency opens, due so long after t_dec as its policy says."""
    if decision.verdict is not model.Verdict.ACCEPT or decision.emergency is None:
        return None
    if rules.emergency is None or decision.decided is None:
        return None
    review = rules.emergency.review
    return record.Obligation(
        change="opened",
        kind="review",
        revision=decision.revision,
        base=decision.base,
        head=decision.head,
        effect=decision.effect,
        environments=environments,
        people=decision.emergency.people,
        barred=tuple(sorted({*decision.duties.authors, *decision.duties.excluded})),
        need=tuple(str(slot) for slot in review.need),
        incident=decision.emergency.incident,
        reason=decision.emergency.reason,
        opened=decision.decided,
        due=decision.decided + timedelta(seconds=review.within),
    )
