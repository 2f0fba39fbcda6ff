"""The review of an emergency, afterwards: who looked at it, and whether that is enough (trust.md 5.3). Pure but for the reading.

A review binds what the emergency bound, and is signed and seen after the merge went in. It is counted under the policy in
force now: reviewers come and go, and whoever has left reviews nothing. Where that has no emergencies any more, the policy that
let the merge in says how many there have to be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler import errors, model, ports
from reconciler.admission import ballot, emergency, form, policy, slots, statement, voting
from reconciler.audit import record, state

_FIX = "one of them, without a part in the change: reconciler review M --key KEY --push"


@dataclass(frozen=True)
class Reviewed:
    """`people`: whose reviews count; `missing`: why that is not enough; `faults`: why a statement does not count.

    `is_read`: what lies there was read at all; where not, `missing` says why, and no further review will help.
    """

    people: tuple[str, ...]
    statements: tuple[model.Digest, ...]
    missing: model.ValidationResult
    faults: Mapping[model.Digest, model.Reason] = dataclasses.field(default_factory=dict)
    evidence: tuple[bytes, ...] = ()
    is_read: bool = True


def judge(
    repository: ports.Repository, owed: record.Obligation, known: state.State, *, terms: form.Terms, now: datetime
) -> Reviewed:
    """Read what lies under the head of an emergency, and count the reviews among it.

    Raises: ConfigError of a policy that cannot be read; TransientError, PermanentError(limit) of the repository.
    """
    rules = policy.read_policy(repository, known.tip or owed.revision)
    need = _need(repository, owed, rules)
    if owed.head is None or not need:
        message = f"no policy says who reviews {owed.revision[:12]}"
        return Reviewed((), (), (model.Reason(code="emergency_scope", message=message, fix="renew `emergency`"),))
    casts = voting.read_statements(repository, (owed.head,), rules, known.seen, now)
    question = ballot.Question(
        binding=_binding(owed, rules, owed.head),
        rules=rules,
        excluded=dict.fromkeys((*owed.people, *owed.barred), "self_review"),
        electorate=frozenset(),
        manual=False,
        decided=now,
        reset=known.reset,
        denied_keys=terms.denied.keys,
        denied_people=terms.denied.people,
    )
    return _count(casts, question, need, owed.opened or now)


def closed(owed: record.Obligation, reviewed: Reviewed) -> record.Obligation:
    return owed.model_copy(
        update={"change": "closed", "people": reviewed.people, "statements": reviewed.statements, "barred": ()}
    )


def settle(
    repository: ports.Repository, known: state.State, *, terms: form.Terms, now: datetime
) -> tuple[tuple[record.Obligation, tuple[bytes, ...]], ...]:
    """The reviews that are complete: what closes each, and its evidence. One that cannot be read stays open."""
    looked = look(repository, known, terms=terms, now=now)
    done = ((known.reviews[revision], each) for revision, each in looked.items() if not each.missing)
    return tuple((closed(owed, each), each.evidence) for owed, each in done)


def look(
    repository: ports.Repository, known: state.State, *, terms: form.Terms, now: datetime
) -> dict[model.Oid, Reviewed]:
    """By merge, how far each review that is owed has come; where its statements cannot be read, why they cannot."""
    found: dict[model.Oid, Reviewed] = {}
    for revision, owed in known.reviews.items():
        try:
            found[revision] = judge(repository, owed, known, terms=terms, now=now)
        except (errors.ConfigError, errors.TransientError, errors.PermanentError) as exc:
            found[revision] = unreadable(exc)
    return found


def unreadable(exc: errors.ReconcilerError) -> Reviewed:
    return Reviewed((), (), (model.Reason.of(exc),), is_read=False)


def _need(repository: ports.Repository, owed: record.Obligation, rules: policy.Policy) -> tuple[policy.Slot, ...]:
    if rules.emergency is not None:
        return rules.emergency.review.need
    then = policy.read_policy(repository, owed.base or owed.revision).emergency
    return then.review.need if then else ()


def _binding(owed: record.Obligation, rules: policy.Policy, head: model.Oid) -> statement.Binding:
    return statement.Binding(
        repo=rules.repository.id,
        object_format=rules.repository.object_format,
        ref=rules.repository.ref,
        head=head,
        effect=owed.effect or model.Digest(""),
        environments=owed.environments,
    )


def _count(
    casts: Sequence[ballot.Cast], question: ballot.Question, need: tuple[policy.Slot, ...], since: datetime
) -> Reviewed:
    judged = [
        (person, said, fault or _early(said, casts, since))
        for person, said, fault in ballot.judged(casts, question, "review")
    ]
    counted = {said.digest: person for person, said, fault in judged if fault is None}
    people = tuple(sorted(set(counted.values())))
    asked = slots.ask(
        question.rules, (slots.Hit(policy.Rule(id="review", paths=("/**",), need=need), ()),), frozenset()
    )
    return Reviewed(
        people=people,
        statements=tuple(sorted(counted)),
        missing=tuple(each.model_copy(update={"fix": _FIX}) for each in slots.fill(asked, people).missing),
        faults={said.digest: fault for _, said, fault in judged if fault},
        evidence=tuple(cast.content for cast in casts if _digest(cast) in counted),
    )


def _early(said: statement.Statement, casts: Sequence[ballot.Cast], since: datetime) -> model.Reason | None:
    """Signed or seen before the merge went in, it says nothing about what became of it."""
    seen = min(cast.seen for cast in casts if _digest(cast) == said.digest)
    if seen > since and said.issued_at + emergency.SKEW >= since:
        return None
    return model.Reason(
        code="early_review",
        message="was said before the merge went in",
        where=said.person,
        fix="look at what became of it, then reconciler review M --key KEY --push",
    )


def _digest(cast: ballot.Cast) -> model.Digest | None:
    return cast.opened.digest if isinstance(cast.opened, statement.Statement) else None
