"""Statements -> which of them count for one merge, and why the others do not (trust.md 2.3, P8 and P10). Pure.

Not here: which slots there are and who fills them (`slots.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler import model
from reconciler.admission import codes, emergency, policy, statement
from reconciler.audit import record

LEVEL = "A2"  # signed with the approver's own key; forge reviews (A1) wait for their connectors
MAX_PER_KEY = 8
_MAX_STRANGERS = 8  # of the envelopes that nobody known signed, so many are listed; the others are only counted
_DUTIES = {
    "self_approval": "made every commit of it",
    "author_in_range": "signed, or is named in, a commit of it",
    "self_review": "broke the glass, or has a part in the change",
}
_OTHERS = "reconciler review M --key KEY --push, by people without a part in it"
_REVIEW = "reconciler review MERGE --key KEY --push, by people without a part in it"
_ANOTHER = frozenset({"repo_id", "ref", "stale_head", "stale_effect", "environments"})  # codes of the binding


_CACHED_BYTES = 1 << 12


def open_envelope(envelope: bytes, namespace: str) -> statement.Statement | model.Reason:
    """As `statement.open_envelope`, once for each envelope of the usual size: the same ones are asked for at every poll."""
    if len(envelope) > _CACHED_BYTES:
        return statement.open_envelope(envelope, namespace=namespace)
    return _opened(envelope, namespace)


@functools.lru_cache(maxsize=4096)
def _opened(envelope: bytes, namespace: str) -> statement.Statement | model.Reason:
    return statement.open_envelope(envelope, namespace=namespace)


@dataclass(frozen=True)
class Cast:
    """One envelope: what was in it, and when the daemon first held it."""

    envelope: model.Digest
    opened: statement.Statement | model.Reason
    seen: datetime
    content: bytes = b""  # for the evidence


@dataclass(frozen=True)
class Question:
    """What is voted on. `excluded`: person -> the code that says why (self_approval, author_in_range)."""

    binding: statement.Binding
    rules: policy.Policy
    excluded: Mapping[str, str]
    electorate: frozenset[str]  # who could fill a slot
    manual: bool  # the tree is not the automatic merge: P10
    decided: datetime  # t_dec
    reset: datetime | None = None
    denied_keys: frozenset[str] = frozenset()
    denied_people: frozenset[str] = frozenset()
    glass: emergency.Glass = dataclasses.field(default_factory=emergency.Glass)
    earlier: tuple[model.Oid, ...] = ()  # heads of the same change, before the branch took in the watched one
    longest: timedelta | None = None  # how long a statement may be good for; None: as long as an approval

    @property
    def heads(self) -> tuple[model.Oid, ...]:
        return (self.binding.head, *self.earlier)

    def are_of_one_change(self, one: model.Oid, other: model.Oid) -> bool:
        return one == other or {one, other}.issubset(self.heads)


@dataclass(frozen=True)
class Ballot:
    """`people`: who approved and counts; `reasons`: what holds whatever the slots say; `used`: envelopes that mattered."""

    approvals: tuple[model.Approval, ...] = ()
    people: tuple[str, ...] = ()
    emergencies: tuple[statement.Statement, ...] = ()  # those that count
    reasons: model.ValidationResult = ()
    used: frozenset[model.Digest] = frozenset()
    change: record.Ticket = dataclasses.field(default_factory=record.Ticket)

    @property
    def uncounted(self) -> model.ValidationResult:
        """Why statements do not count: reported where a slot is open."""
        found = {(a.reason.code, a.reason.where): a.reason for a in self.approvals if a.reason}
        return tuple(found[key] for key in sorted(found))


def count(casts: Sequence[Cast], question: Question) -> Ballot:
    """The order of the envelopes does not matter, and the same payload counts once."""
    known, strangers = _identify(casts, question)
    against = [vote for vote in known if vote.said.decision == "revoke" or _is_rejection(vote, question)]
    judged = [(vote, _refusal(vote, against, question)) for vote in known]
    counted = [vote for vote, reason in judged if reason is None]
    people = tuple(sorted({vote.person for vote in counted if vote.said.decision == "approve"}))
    standing = [
        v
        for v in against
        if v.said.decision == "reject" and _stands(v, known, question) and v.person in question.electorate
    ]
    approvals = (*(_approval(vote, reason) for vote, reason in judged), *strangers)
    first = min(counted, key=lambda vote: (vote.seen, vote.said.digest), default=None)
    return Ballot(
        approvals=approvals,
        people=people,
        emergencies=tuple(vote.said for vote in counted if vote.said.decision == "emergency"),
        reasons=tuple(_reason("rejected", "stands against this merge", vote.person) for vote in standing),
        used=frozenset(vote.envelope for vote in (*counted, *against)),
        change=first.said.change if first else record.Ticket(),
    )


def standing(
    casts: Sequence[Cast], question: Question, decision: statement.Decision
) -> tuple[tuple[str, statement.Statement], ...]:
    """Who said something that is no approval, bound to the same, in time, by somebody who may, and not taken back."""
    return tuple((person, said) for person, said, fault in judged(casts, question, decision) if fault is None)


def judged(
    casts: Sequence[Cast], question: Question, decision: statement.Decision
) -> tuple[tuple[str, statement.Statement, model.Reason | None], ...]:
    """The same with those that do not count, and why."""
    known, _ = _identify(casts, question)
    against = [vote for vote in known if vote.said.decision == "revoke" or _is_rejection(vote, question)]
    mine = [vote for vote in known if vote.said.decision == decision]
    return tuple((vote.person, vote.said, _fault(vote, against, question)) for vote in mine)


@dataclass(frozen=True)
class _Vote:
    """A statement whose signer is a person who may approve."""

    said: statement.Statement
    person: str
    signer: policy.Signer
    seen: datetime
    envelope: model.Digest

    @property
    def spoken(self) -> tuple[datetime, datetime]:
        return self.seen, self.said.issued_at

    def is_later(self, other: _Vote) -> bool:
        """By first observation or by the claimed date: either is enough, and a tie is later too."""
        return self.seen >= other.seen or self.said.issued_at >= other.said.issued_at


def _identify(casts: Sequence[Cast], question: Question) -> tuple[list[_Vote], list[model.Approval]]:
    """Whose statements these are, each payload once, at its first observation."""
    votes: dict[model.Digest, _Vote] = {}
    strangers: dict[model.Digest, model.Approval] = {}
    for cast in sorted(casts, key=lambda c: (c.seen, c.envelope)):
        found = _signer(cast, question)
        if isinstance(found, _Vote):
            votes.setdefault(found.said.digest, found)
        else:
            strangers.setdefault(found.statement, found)
    return _limit(list(votes.values())), _shorten(sorted(strangers.values(), key=lambda a: a.statement))


def _signer(cast: Cast, question: Question) -> _Vote | model.Approval:
    said = cast.opened
    if isinstance(said, model.Reason):
        where = said.where or cast.envelope[:12]
        return model.Approval(
            person="", level=LEVEL, statement=cast.envelope, reason=said.model_copy(update={"where": where})
        )
    signer = question.rules.whose(said.key.key_id, use="approve", at=cast.seen)
    if isinstance(signer, policy.Signer):
        return _Vote(said, signer.name, signer, cast.seen, cast.envelope)
    return _entry(said, signer.where, signer)


def _limit(votes: list[_Vote]) -> list[_Vote]:
    """At most so many approvals a key, the first seen; what takes something away is always read."""
    kept: list[_Vote] = []
    spent: dict[tuple[str, str], int] = {}
    for vote in votes:
        if vote.said.decision in {"approve", "emergency"}:
            own = (vote.said.key.key_id, vote.said.decision)
            spent[own] = spent.get(own, 0) + 1
            if spent[own] > MAX_PER_KEY:
                continue
        kept.append(vote)
    return sorted(kept, key=lambda vote: (vote.person, vote.said.digest))


def _shorten(strangers: list[model.Approval]) -> list[model.Approval]:
    return strangers[:_MAX_STRANGERS]


def _is_rejection(vote: _Vote, question: Question) -> bool:
    """It fits by repository, ref and head: it does not lapse because the effect moved on, nor because it is old."""
    said, asked = vote.said.binding, question.binding
    fits = (said.repo, said.ref) == (asked.repo, asked.ref) and said.head in question.heads
    return vote.said.decision == "reject" and fits and not _is_old(vote, question)


def _is_old(vote: _Vote, question: Question) -> bool:
    return question.reset is not None and min(vote.spoken) <= question.reset


def _stands(reject: _Vote, known: Sequence[_Vote], question: Question) -> bool:
    """Until its person approves later, by both clocks, or takes it back."""
    own = [vote for vote in known if vote.person == reject.person]
    taken_back = any(vote.said.revokes == reject.said.digest for vote in own)
    changed = any(
        vote.said.decision in {"approve", "emergency"}
        and question.are_of_one_change(vote.said.binding.head, reject.said.binding.head)
        and not reject.is_later(vote)
        for vote in own
    )
    return not taken_back and not changed


def _refusal(vote: _Vote, against: Sequence[_Vote], question: Question) -> model.Reason | None:
    """Why this statement fills no slot; the first reason that holds."""
    match vote.said.decision:
        case "approve":
            return _fault(vote, against, question)
        case "emergency":
            return _of_emergency(vote, against, question)
        case _:
            return _of_kind(vote)


def _fault(vote: _Vote, against: Sequence[_Vote], question: Question) -> model.Reason | None:
    for check in (_of_signer, _of_binding, _of_time, _of_duties):
        if reason := check(vote, question):
            return reason
    return _taken_back(vote, against, question)


def _of_emergency(vote: _Vote, against: Sequence[_Vote], question: Question) -> model.Reason | None:
    """The same people and the same binding as of an approval; what it may do, and for how long, is its own scope."""
    if reason := _of_signer(vote, question) or _of_duties(vote, question):
        return reason
    bound = _of_binding(vote, question)
    why = emergency.beyond(vote.said, vote.seen, question.decided, question.glass)
    if not why and bound and bound.code in _ANOTHER:
        why = bound.message
    if why:
        fix = "within its scope: reconciler emergency HEAD --incident INC --reason WHY --key KEY --push; or get the usual approvals"
        return model.Reason(code="emergency_scope", message=why, where=vote.person, fix=fix)
    return bound or _taken_back(vote, against, question)


def _of_kind(vote: _Vote) -> model.Reason | None:
    match vote.said.decision:
        case "approve" | "emergency":
            return None
        case "review":
            return _reason("no_approval", "a review approves no merge", vote.person)
        case "reject":
            return _reason("rejected", "speaks against the merge", vote.person)
        case "revoke":
            return _reason("approval_revoked", "takes an approval back", vote.person)
        case "waive":
            return _reason("no_approval", "a waiver approves no merge", vote.person)


def _of_signer(vote: _Vote, question: Question) -> model.Reason | None:
    if vote.person in question.denied_people or vote.signer.key.id in question.denied_keys:
        return _reason("key_revoked", "the person or the key is on the deny list of the daemon", vote.person)
    if vote.said.person != vote.person:
        return _reason("envelope_invalid", f"says it is {vote.said.person!r}, the key is another's", vote.person)
    if vote.signer.key.user_presence and not vote.said.key.user_present:
        return _reason("no_user_presence", "the hardware key was not touched", vote.person)
    return None


def _of_binding(vote: _Vote, question: Question) -> model.Reason | None:
    said, asked = vote.said.binding, question.binding
    earlier = () if vote.said.decision == "emergency" else question.earlier
    head = said.head if said.head in earlier else asked.head
    compared = (
        ("repo_id", "another repository", (said.repo, said.object_format), (asked.repo, asked.object_format)),
        ("ref", "another ref", (said.ref,), (asked.ref,)),
        ("stale_head", "another head", (said.head,), (head,)),
        ("stale_effect", "another effect: something it touches has moved since", (said.effect,), (asked.effect,)),
        ("stale_effect", "skips other commits than this merge", said.skips, asked.skips),
        ("environments", "other environments", said.environments, asked.environments),
    )
    for code, message, one, other in compared:
        if one != other:
            return _reason(code, f"was signed for {message}", vote.person)
    if _is_old(vote, question):
        return _reason("no_approval", "was signed before the history was reset", vote.person)
    if question.manual and not vote.said.ack_manual_merge:
        return _reason("ack_manual_merge", "does not acknowledge that the merge was made by hand", vote.person)
    return None


def _of_time(vote: _Vote, question: Question) -> model.Reason | None:
    """A date far ahead must not lengthen an approval: it ends at most `approvalTtl` after it was first seen, too."""
    said = vote.said
    longest = question.longest or timedelta(seconds=question.rules.defaults.approval_ttl)
    if said.expires_at is None:
        return _reason("ttl", "has no expiry", vote.person)
    if said.expires_at <= said.issued_at:
        return _reason("ttl", "expires before it was issued", vote.person)
    if said.expires_at - min(said.issued_at, vote.seen + emergency.SKEW) > longest:
        return _reason("ttl", "is valid for longer than the policy allows", vote.person)
    if said.expires_at <= question.decided:
        return _reason("ttl", f"expired at {model.print_time(said.expires_at)}", vote.person)
    return None


def _of_duties(vote: _Vote, question: Question) -> model.Reason | None:
    code = question.excluded.get(vote.person)
    if code is None:
        return None
    return _reason(code, _DUTIES[code], vote.person)


def _taken_back(vote: _Vote, against: Sequence[_Vote], question: Question) -> model.Reason | None:
    for other in against:
        if other.person != vote.person:
            continue
        names_it = other.said.revokes == vote.said.digest
        of_this_head = question.are_of_one_change(other.said.binding.head, vote.said.binding.head)
        if other.said.decision == "revoke" and (names_it or (of_this_head and other.is_later(vote))):
            return _reason("approval_revoked", "was taken back", vote.person)
        if other.said.decision == "reject" and other.is_later(vote):
            return _reason("rejected", "was followed by a rejection", vote.person)
    return None


def _reason(code: str, message: str, person: str) -> model.Reason:
    return model.Reason(code=code, message=message, where=person, fix=codes.fix(code) or _REVIEW)


def _approval(vote: _Vote, reason: model.Reason | None) -> model.Approval:
    return _entry(vote.said, vote.person, reason)


def _entry(said: statement.Statement, person: str, reason: model.Reason | None) -> model.Approval:
    return model.Approval(
        person=person,
        level=LEVEL,
        decision=said.decision,
        key_id=said.key.key_id,
        statement=said.digest,
        issued_at=model.print_time(said.issued_at),
        reason=reason,
    )
