"""P6 and P8 to P11 (trust.md 2.3): the tree, the statements, the slots, the policy's own paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler import errors, model, ports
from reconciler.admission import (
    ballot,
    earlier,
    effect,
    emergency,
    facts,
    form,
    lint,
    merger,
    merging,
    policy,
    slots,
    statement,
    tree,
    verdict,
)
from reconciler.audit import record

_BLOBS = frozenset({"100644", "100755"})


@dataclass(frozen=True)
class _Matter:
    """What is judged: the case, the policy in force, and the change of content from the last accepted commit on."""

    repository: ports.Repository
    case: form.Case
    rules: policy.Policy
    shape: form.Shape
    before: model.Tree
    after: model.Tree
    done: effect.Effect
    concerns: Mapping[bytes, facts.Concern] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class _Poll:
    """The question to the approvers, and the answer."""

    question: ballot.Question
    counted: ballot.Ballot
    filled: slots.Filled
    hits: tuple[slots.Hit, ...]
    casts: Sequence[ballot.Cast]
    broken: record.Emergency | None = None  # the glass, where it had to be


def judge_content(
    repository: ports.Repository, case: form.Case, rules: policy.Policy, shape: form.Shape, after: model.Tree
) -> verdict.Judged:
    """`after`: the tree of the merge, or of the automatic merge of a head that is not merged yet."""
    before = repository.tree(case.base)
    matter = _Matter(repository, case, rules, shape, before, after, effect.compare(before, after))
    # P6: the whole tree; nothing in it is parsed before.
    hygiene = _tree(matter)
    if hygiene:
        return verdict.conclude(case, rules, shape, refusals=hygiene, done=matter.done)
    # P11: the policies; and what the touched documents say of themselves.
    concerns, unsafe = facts.concerns(repository, before, after, matter.done)
    matter = dataclasses.replace(matter, concerns=concerns)
    refusals = (*_policies(matter), *unsafe, *_unnamed(matter))
    # P8 to P10: who said what about exactly this, and which slots that fills.
    poll = _ask(matter)
    holds = (*_holds(poll), *_expired(matter))
    if _is_recovery(poll):
        refusals = (*refusals, *shape.leftovers)
    else:
        holds = (*holds, *shape.leftovers)
    return _conclude(matter, poll, refusals, holds)


def _tree(matter: _Matter) -> model.ValidationResult:
    """What did not change was judged when it came in."""
    limits, paths, after = matter.rules.defaults, matter.done.paths, matter.after
    links = limits.symlinks == "allow"
    found = list(tree.look_at(matter.before, after, paths, max_files=limits.max_files, links=links))
    if links:
        folders = [folder for folder in matter.done.folders if folder != b"policies"]
        found += tree.look_at_links(after, folders, matter.repository.read)
    for path in paths:
        entry = after.get(path)
        if entry is not None and entry.mode in _BLOBS:
            found += tree.look_at_blob(path, matter.repository.read(entry.oid), max_bytes=limits.max_blob)
    return tuple(found)


def _policies(matter: _Matter) -> model.ValidationResult:
    """A changed approval policy must lint: with it the next merge will be judged. Rego files may come and go."""
    path = policy.PATH.encode()
    if path not in matter.done.paths:
        return ()
    entry = matter.after.get(path)
    if entry is None:
        return (model.Reason(code="policy_lint", message="the approval policy may not be removed", where=policy.PATH),)
    return lint.lint(
        matter.repository.read(entry.oid),
        source_id=matter.rules.repository.id,
        source_ref=matter.rules.repository.ref,
        now=matter.case.now,
        production=matter.case.terms.production,
    ).errors


def _unnamed(matter: _Matter) -> model.ValidationResult:
    """An environment that the policy does not name has no limits and no rule of its own: it is a slip, or worse."""
    named = matter.rules.environments
    return tuple(
        model.Reason(
            code="environment",
            message=f"the policy names no environment {name!r}",
            where=tree.show(effect.document_of(folder)),
            fix=f"one of {', '.join(sorted(named))}",
        )
        for folder, concern in matter.concerns.items()
        for name in sorted(concern.wanted - named.keys())
    )


def _ask(matter: _Matter) -> _Poll:
    case, rules, shape = matter.case, matter.rules, matter.shape
    hits = _rules(matter)
    asked = slots.ask(rules, hits, shape.mergers)
    excluded = shape.span.excluded(rules)
    before = earlier.heads(matter.repository, _head(matter), case.base)
    casts, unread = _casts(matter, before)
    could = frozenset(person for each in asked for person in each.members - each.barred) | _breakers(rules, casts)
    question = ballot.Question(
        binding=_binding(matter),
        rules=rules,
        excluded=excluded,
        electorate=could - excluded.keys(),
        manual=not _is_automatic(matter),
        decided=case.now,
        reset=case.known.reset,
        denied_keys=case.terms.denied.keys,
        denied_people=case.terms.denied.people,
        glass=emergency.glass(rules, matter.done, case),
        earlier=before,
    )
    counted = ballot.Ballot(reasons=unread) if unread else ballot.count(casts, question)
    filled = slots.fill(asked, counted.people, excluded=frozenset(excluded))
    poll = _Poll(question, counted, filled, hits, casts)
    return _break_glass(matter, poll) if counted.emergencies else poll


def _head(matter: _Matter) -> model.Oid:
    return matter.shape.head or matter.case.revision


def _casts(matter: _Matter, before: Sequence[model.Oid]) -> tuple[tuple[ballot.Cast, ...], model.ValidationResult]:
    """The statements under the head and those before it, or why nobody reads so many."""
    heads, case = (_head(matter), *before), matter.case
    try:
        return read_statements(matter.repository, heads, matter.rules, case.known.seen, case.now), ()
    except errors.PermanentError as exc:
        return (), (model.Reason.of(exc),)


def _breakers(rules: policy.Policy, casts: Sequence[ballot.Cast]) -> frozenset[str]:
    """Where somebody reaches for the glass, all who could have a say: their `reject` holds the merge, too."""
    if rules.emergency is None or not any(_is_emergency(cast) for cast in casts):
        return frozenset()
    return frozenset().union(*(rules.members(slot.among) for slot in rules.emergency.need))


def _is_emergency(cast: ballot.Cast) -> bool:
    return isinstance(cast.opened, statement.Statement) and cast.opened.decision == "emergency"


def _break_glass(matter: _Matter, poll: _Poll) -> _Poll:
    """An emergency stands in for the usual rules where these are not filled, or where a freeze or a window is closed."""
    rule, usual, said = matter.rules.emergency, poll.filled, poll.counted.emergencies
    lacking = bool(usual.missing)
    if rule is None or not (lacking or _is_closed(matter, poll.question.binding.environments)):
        return poll
    hits = emergency.stand_in(rule, poll.hits, matter.done.paths)
    asked = slots.ask(matter.rules, hits, matter.shape.mergers)
    filled = slots.fill(asked, poll.counted.people, sorted({each.person for each in said}))
    if filled.missing:
        missing = tuple(dict.fromkeys((*usual.missing, *filled.missing))) if lacking else ()
        return dataclasses.replace(poll, filled=dataclasses.replace(usual, missing=missing))
    seated = frozenset(p for each, people in zip(asked, filled.people, strict=True) if each.glass for p in people)
    broken = emergency.broken(said, seated, poll.hits, lacking=lacking)
    return dataclasses.replace(poll, filled=filled, hits=hits, broken=broken)


def _is_closed(matter: _Matter, environments: tuple[str, ...]) -> bool:
    """Whether a freeze or a window that an emergency stands in for would keep the targets waiting now."""
    rules, now = matter.rules, matter.case.now
    return any(
        rules.deferred(name, now) is not None and rules.deferred(name, now, emergency=True) is None
        for name in environments
    )


def _rules(matter: _Matter) -> tuple[slots.Hit, ...]:
    """All that match; the lighter `rollback` rule in their place where it serves; `recovery` beside them where it must."""
    case, rules, done = matter.case, matter.rules, matter.done
    hits = slots.hits(rules, done, matter.concerns)
    if not case.skipped and rules.rollback and returns(case, rules.rollback, done):
        lighter = policy.Rule(id="rollback", paths=("/targets/**",), need=rules.rollback.need)
        hits = (slots.Hit(lighter, done.paths), *(hit for hit in hits if hit.rule.id.startswith(slots.HAZARDS)))
    if case.skipped:
        hits = (*hits, slots.Hit(policy.Rule(id="recovery", paths=("/**",), need=rules.recovery.need), ()))
    return hits


def returns(case: form.Case, rule: policy.Rollback, done: effect.Effect) -> bool:
    """Whether every changed path lies in a touched target that goes back to a state it was healthy in (trust.md 5.3)."""
    roots = tuple(folder + b"/" for folder in done.folders if folder != b"policies")
    if not done.targets or not roots or not all(path.startswith(roots) for path in done.paths):
        return False
    since = case.now - timedelta(seconds=rule.within)
    return len(done.targets) == len(done.folders) and all(
        digest is not None and _was_confirmed(case, name, digest, since) for name, digest in done.targets.items()
    )


def _was_confirmed(case: form.Case, name: str, digest: model.Digest, since: datetime) -> bool:
    target = case.known.target(name)
    if target.confirmed is not None and target.confirmed.digest == digest:
        return True
    until = target.past.get(digest)
    return until is not None and until >= since


def _binding(matter: _Matter) -> statement.Binding:
    repository = matter.rules.repository
    return statement.Binding(
        repo=repository.id,
        object_format=repository.object_format,
        ref=repository.ref,
        head=_head(matter),
        effect=matter.done.digest,
        environments=facts.environments(matter.concerns, frozenset(matter.rules.environments)),
        skips=matter.case.skipped,
    )


def _is_automatic(matter: _Matter) -> bool:
    shape = matter.shape
    if shape.merge is None or shape.ancestor is None:
        return shape.tree is not None
    return merging.is_automatic(matter.repository, shape.merge, matter.case.base, shape.ancestor, matter.done)


def _is_recovery(poll: _Poll) -> bool:
    """Whether anybody approved it as one: only then what it may not keep speaks against the merge itself."""
    return any(isinstance(c.opened, statement.Statement) and c.opened.binding.skips for c in poll.casts)


def read_statements(
    repository: ports.Repository,
    heads: Sequence[model.Oid],
    rules: policy.Policy,
    seen: Mapping[str, datetime],
    now: datetime,
) -> tuple[ballot.Cast, ...]:
    """Every envelope that lies under these heads, opened; its t_obs from the log, or now.

    Raises: PermanentError(limit), which holds the merge.
    """
    casts = []
    for envelope in (envelope for head in heads for envelope in repository.envelopes(head)):
        digest = model.sha256(envelope)
        opened = ballot.open_envelope(envelope, rules.namespace)
        casts.append(ballot.Cast(digest, opened, seen.get(f"sha256:{digest}", now), envelope))
    return tuple(casts)


def _holds(poll: _Poll) -> model.ValidationResult:
    """Why statements do not count matters only where a slot is open."""
    if not poll.filled.missing:
        return poll.counted.reasons
    nobody = () if poll.counted.people else (_no_approval(poll.question),)
    return (*nobody, *poll.filled.missing, *poll.counted.uncounted, *poll.counted.reasons)


def _no_approval(question: ballot.Question) -> model.Reason:
    return model.Reason(code="no_approval", message="nobody's approval counts", where=question.binding.head)


def _expired(matter: _Matter) -> model.ValidationResult:
    """Afterwards only policy changes are accepted: one of them has to renew it."""
    expires, paths = matter.rules.expires, matter.done.paths
    only_policies = bool(paths) and all(path.startswith(b"policies/") for path in paths)
    if expires is None or matter.case.now < expires or only_policies:
        return ()
    message = f"the approval policy expired at {model.print_time(expires)}"
    return (model.Reason(code="policy_expired", message=message, where=policy.PATH, fix="renew it by a policy change"),)


def _conclude(
    matter: _Matter, poll: _Poll, refusals: model.ValidationResult, holds: model.ValidationResult
) -> verdict.Judged:
    case, rules, shape, done = matter.case, matter.rules, matter.shape, matter.done
    known = record.Decision(
        base=case.base,
        revision=case.revision,
        verdict=model.Verdict.HOLD,
        targets=done.targets,
        policies=done.policies,
        auto_merge=not poll.question.manual,
        change=poll.counted.change,
        approvals=poll.counted.approvals,
        rules=slots.results(poll.hits, poll.filled),
        emergency=poll.broken,
    )
    judged = verdict.conclude(case, rules, shape, refusals=refusals, holds=holds, done=done, known=known)
    used = tuple(cast.content for cast in poll.casts if cast.envelope in poll.counted.used)
    return dataclasses.replace(
        judged,
        binding=poll.question.binding,
        effect=done,
        open=slots.still_open(poll.filled, frozenset(poll.question.excluded)),
        mergers=_mergers(matter, poll),
        manual=poll.question.manual,
        owed=emergency.owed(judged.decision, rules, poll.question.binding.environments),
        evidence=(*judged.evidence, *used),
    )


def _mergers(matter: _Matter, poll: _Poll) -> merger.Mergers | None:
    """Of a head that nobody merged yet."""
    if matter.shape.merge is not None:
        return None
    breakers = sorted({each.person for each in poll.counted.emergencies}) if poll.broken else ()
    excluded = frozenset(poll.question.excluded)
    return merger.find(matter.rules, poll.hits, people=poll.counted.people, breakers=breakers, excluded=excluded)
