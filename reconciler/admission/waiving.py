"""Findings that people answer for: which rules of which gates are waived for one merge (trust.md 3.1, `waive`).

A waiver is a signed statement about the same effect as an approval. It takes the place of no approval, and an approval
of none. It is judged by the policy in force now, as the gates are, at the moment when they are asked: one that has
expired by then does not count, and what was cleared with it stays cleared, as with an approval.

Never waived: a finding of a gate that the policy calls critical, of `schema` (behind it nothing is looked at), and an
ERROR: nobody can answer for what was not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler import errors, model, ports
from reconciler.admission import ballot, earlier, effect, facts, form, policy, slots, statement, voting
from reconciler.audit import record

NEVER = frozenset({"schema"})


@dataclass(frozen=True)
class Circumstances:
    """Beside the merge and the policy: what the daemon's configuration denies, since when statements count, and now."""

    now: datetime
    denied: form.Denied = field(default_factory=form.Denied)
    reset: datetime | None = None


@dataclass(frozen=True)
class Waivers:
    """`granted`: (gate, rule) -> who answers for it. `open`: what others asked for, and how many more it needs."""

    granted: Mapping[tuple[str, str], model.Waived] = field(default_factory=dict)
    open: Mapping[tuple[str, str], tuple[slots.Open, ...]] = field(default_factory=dict)
    envelopes: tuple[bytes, ...] = ()  # evidence


def may_be_waived(rules: policy.Policy, gate: str) -> bool:
    return rules.gates.waive is not None and gate not in NEVER and gate not in rules.gates.critical


def ask(rules: policy.Policy, mergers: frozenset[str] = frozenset()) -> tuple[slots.Asked, ...]:
    """The slots that a waiver needs; none where the policy has no waivers."""
    if rules.gates.waive is None:
        return ()
    return slots.ask(
        rules, (slots.Hit(policy.Rule(id="waive", paths=("/**",), need=rules.gates.waive.need), ()),), mergers
    )


def waive(results: Sequence[model.GateResult], found: Waivers, rules: policy.Policy) -> tuple[model.GateResult, ...]:
    """The same results, those WAIVED whose every finding somebody answers for. Pure."""
    return tuple(_waive(result, found, rules) for result in results)


def find(
    repository: ports.Repository, decision: record.Decision, rules: policy.Policy, around: Circumstances
) -> Waivers:
    """The waivers that lie under a merge's head. Reads the repository only: a poll brings them, like approvals.

    Fails closed: where they cannot be read, or the merge's own effect is not the one that was decided on, there are none.

    Raises: AuditError(object_hash).
    """
    if rules.gates.waive is None or decision.head is None:
        return Waivers()
    try:
        question = _question(repository, decision, rules, around)
        casts = voting.read_statements(repository, question.heads, rules, {}, around.now)
    except (errors.ConfigError, errors.PermanentError, errors.TransientError):
        return Waivers()
    if question.binding.effect != decision.effect:
        return Waivers()
    said = ballot.standing(casts, question, "waive")
    asked = ask(rules, _mergers(decision))
    granted: dict[tuple[str, str], model.Waived] = {}
    still_open: dict[tuple[str, str], tuple[slots.Open, ...]] = {}
    for what in sorted({(each.gate, each.rule) for _, each in said}):
        if not may_be_waived(rules, what[0]):
            continue
        own = [(person, each) for person, each in said if (each.gate, each.rule) == what]
        filled = slots.fill(asked, [person for person, _ in own])
        if filled.missing:
            still_open[what] = slots.still_open(filled, frozenset(question.excluded))
        else:
            granted[what] = _waived(what[1], own, filled)
    kept = {digest for each in granted.values() for digest in each.statements}
    envelopes = tuple(c.content for c in casts if isinstance(c.opened, statement.Statement) and c.opened.digest in kept)
    return Waivers(granted, still_open, envelopes)


def _waive(result: model.GateResult, found: Waivers, rules: policy.Policy) -> model.GateResult:
    gate = result.gate
    blocking = [finding for finding in result.findings if finding.code != model.WARNING]
    hidden = any(finding.rule == model.NOBODYS for finding in blocking)
    if result.outcome is not model.Outcome.FAIL or hidden or not blocking or not may_be_waived(rules, gate):
        return result
    named = sorted({finding.rule or finding.code for finding in blocking})
    if any((gate, rule) not in found.granted for rule in named):
        return result
    answers = tuple(found.granted[gate, rule] for rule in named)
    return result.model_copy(update={"outcome": model.Outcome.WAIVED, "waived": answers})


def _question(
    repository: ports.Repository, decision: record.Decision, rules: policy.Policy, around: Circumstances
) -> ballot.Question:
    """As for an approval of the same merge. That it was made by hand its approvers have said."""
    before, after = repository.tree(decision.base), repository.tree(decision.revision)
    done = effect.compare(before, after)
    concerns, _ = facts.concerns(repository, before, after, done)
    judged_by = policy.read_policy(repository, decision.base)
    binding = statement.Binding(
        repo=rules.repository.id,
        object_format=rules.repository.object_format,
        ref=rules.repository.ref,
        head=decision.head or decision.revision,
        effect=done.digest,
        environments=facts.environments(concerns, frozenset(judged_by.environments)),
        skips=decision.skipped,
    )
    waiving = rules.gates.waive
    return ballot.Question(
        binding=binding,
        rules=rules,
        excluded=dict.fromkeys(decision.duties.excluded, "author_in_range"),
        electorate=frozenset(),
        manual=False,
        decided=around.now,
        reset=around.reset,
        denied_keys=around.denied.keys,
        denied_people=around.denied.people,
        longest=timedelta(seconds=waiving.max_duration) if waiving else timedelta(0),
        earlier=earlier.heads(repository, decision.head, decision.base) if decision.head else (),
    )


def _mergers(decision: record.Decision) -> frozenset[str]:
    return frozenset({decision.merge_signature.principal}) if decision.merge_signature else frozenset()


def _waived(rule: str, own: Sequence[tuple[str, statement.Statement]], filled: slots.Filled) -> model.Waived:
    """Of each person who sits in a slot the statement that lasts longest; it holds until the first of these ends."""
    sitting = sorted({person for people in filled.people for person in people})
    counted = [max((s for p, s in own if p == person), key=lambda s: (_end(s), s.digest)) for person in sitting]
    return model.Waived(
        rule=rule,
        people=tuple(sitting),
        reasons=tuple(each.reason for each in counted),
        statements=tuple(each.digest for each in counted),
        until=min(_end(each) for each in counted),
    )


def _end(said: statement.Statement) -> datetime:
    return said.expires_at or said.issued_at
