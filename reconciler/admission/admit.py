"""One pass of the first loop: fetch, judge, record. And where it starts: the pinned genesis (trust.md 5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler import documents, errors, model, ports
from reconciler.admission import ballot, codes, commit, earlier, judging, lint, policy, reviewing, statement, tree
from reconciler.audit import log, record, state

Terms = judging.Terms

TARGETS_A_RECORD = 350  # With names of 63 characters they fill 50 of its 64 KiB.
PATIENCE_POLLS = 2  # of a tip that is older than what was accepted: it may come from a replica that lags (trust.md 2.4)
STORE = codes.STORE
_MERGE_PARENTS = 2


@dataclass
class Patience:
    """How many polls in a row the source served a tip older than the last accepted commit. Kept by a running daemon only."""

    polls: int = 0


@dataclass(frozen=True)
class Pin:
    """`source` of the daemon's configuration: where trust starts, on the operator's authority."""

    genesis: model.Oid
    reason: str
    source_id: str
    source_ref: str
    production: bool = True
    converge: bool = False  # targets may be written before a merge touches them


def admit(
    source: ports.Source,
    repository: ports.Repository,
    audit: log.Log,
    *,
    terms: Terms,
    clock: ports.Clock,
    patience: Patience | None = None,
) -> tuple[record.Decision, ...]:
    """Bring the log up to date with the watched ref; return what was decided. Idempotent; blocks on the network only.

    Without `patience` an older tip is a HALT at once.

    Raises: TransientError when the source cannot be read, and nothing is concluded from that; AuditError of the log.
    """
    known = audit.state
    if known.tip is None:
        raise errors.ConfigError("pin", "no genesis was ever taken over", fix="see source.genesis in the configuration")
    if "pin" in known.halted:
        return ()  # Only a pin that is put right clears it: `take_over`.
    try:
        tip = source.fetch(known.tip, _waiting(known))
        chain = tuple(repository.first_parents(tip, known.tip))
        if fresh := tuple(_fresh(repository, chain, known)):
            audit.append(*fresh)
        _clear(audit, patience)
        decided = judging.walk(repository, tip, audit.state, _keep(audit), terms=terms, clock=clock)
        for closed, evidence in reviewing.settle(repository, audit.state, terms=terms, now=clock.now()):
            audit.append(closed, evidence=evidence)
    except errors.PermanentError as exc:
        return _halt_or_wait(audit, exc, patience)
    except errors.AuditError as exc:
        if exc.code not in STORE:
            raise
        halt(audit, model.Reason.of(exc))
        return ()
    for decision in decided:
        for reason in decision.reasons:
            if reason.code in judging.HALT:
                halt(audit, reason)
    return decided


def take_over(repository: ports.Repository, audit: log.Log, pin: Pin, *, clock: ports.Clock) -> state.State:
    """Make the log agree with the pin: genesis on the first start, nothing when it stands, a reset when it moved.

    A pin that moved without a new reason is HALT(pin), until it is put right. Idempotent.

    Raises: ConfigError(policy_lint | a code of the tree) when the pinned commit cannot be what trust starts from.
    """
    known = audit.state
    if known.genesis == pin.genesis:
        if "pin" in known.halted:
            return audit.append(_ended(known, frozenset({"pin"}), "the pin was put back"))
        return known
    if known.genesis is not None and pin.reason in {"", _reason_before(audit)}:
        moved = f"the pin moved from {known.genesis} to {pin.genesis} without a reason of its own"
        fix = "put it back, or say in source.genesisReason why it moved"
        return halt(audit, model.Reason(code="pin", message=moved, where="source.genesis", fix=fix))
    blob = _check_genesis(repository, pin, clock)
    targets = documents.target_digests(repository.tree(pin.genesis))
    converge = pin.converge and known.genesis is None
    first, *more = _in_parts(targets)
    others = (record.TakenOver(revision=pin.genesis, targets=part, converge=converge) for part in more)
    if known.genesis is None:
        start = record.Genesis(revision=pin.genesis, reason=pin.reason, targets=first, converge=converge)
        return audit.append(start, *others, evidence=(blob,))
    again = record.Reset(before=known.tip, revision=pin.genesis, reason=pin.reason, targets=first)
    # What was wrong with the history was wrong with the one that is left behind; an alarm of the store stands.
    ended = (
        (_ended(known, judging.HISTORY, f"the pin moved: {pin.reason}"),) if set(known.halted) & judging.HISTORY else ()
    )
    return audit.append(again, *others, *ended, evidence=(blob,))


def let_converge(audit: log.Log, pin: Pin) -> state.State:
    """What genesis took over may be written from now on, where the operator says so on a later start. Idempotent.

    Not what a merge has touched meanwhile, which its gates decide about; and not after a reset, which leaves targets as
    they are until a merge touches them, whatever the command line of the daemon has said since genesis.
    """
    known = audit.state
    if not pin.converge or known.genesis is None or known.reset is not None:
        return known
    left = {
        name: each.cleared.digest
        for name, each in known.targets.items()
        if each.taken_over and each.cleared and each.waiting is None and not each.released
    }
    if not left:
        return known
    parts = (record.TakenOver(revision=known.genesis, targets=part, converge=True) for part in _in_parts(left))
    return audit.append(*parts)


def _in_parts(targets: Mapping[str, model.Digest]) -> tuple[dict[str, model.Digest], ...]:
    """What one record after the other holds; at least one part, which may be empty."""
    names = sorted(targets)
    starts = range(0, max(len(names), 1), TARGETS_A_RECORD)
    return tuple({name: targets[name] for name in names[at : at + TARGETS_A_RECORD]} for at in starts)


def _waiting(known: state.State) -> frozenset[model.Oid]:
    """The heads about which something may still be said: what is held, not yet deployed, or has to be reviewed."""
    decisions = (*known.held.values(), *(merge.decision for merge in known.pending.values()))
    unwritten = (head for target in known.targets.values() for head in target.heads.values())
    reviewed = (owed.head for owed in known.reviews.values() if owed.head)
    return frozenset((*(decision.head for decision in decisions if decision.head), *unwritten, *reviewed))


def _keep(audit: log.Log) -> judging.Keep:
    def keep(judged: judging.Judged) -> state.State:
        """Say it once, and again when it moved; not at each poll."""
        held = audit.state.held.get(judged.decision.revision)
        if held is not None and held.same(judged.decision):
            return audit.state
        opened = (judged.owed,) if judged.owed else ()
        return audit.append(judged.decision, *opened, evidence=judged.evidence)

    return keep


def _fresh(repository: ports.Repository, chain: tuple[model.Oid, ...], known: state.State) -> Iterator[record.Seen]:
    """What is held completely for the first time: t_obs. Envelopes by strangers leave no trace in the log."""
    for revision in chain:
        if revision not in known.seen:
            yield record.Seen(subject=revision)
    if (not chain and not known.reviews) or known.tip is None:
        return
    try:
        rules = policy.read_policy(repository, known.tip)
    except errors.ConfigError:
        return  # Nothing can be judged under such a policy; the verdicts will say so.
    said: set[str] = set()
    revisions = (*known.reviews, *chain)
    for envelope in (envelope for revision in revisions for envelope in _envelopes(repository, revision)):
        subject = f"sha256:{model.sha256(envelope)}"
        if subject not in known.seen and subject not in said and _is_known(envelope, rules):
            said.add(subject)
            yield record.Seen(subject=subject)


def _envelopes(repository: ports.Repository, revision: model.Oid) -> tuple[bytes, ...]:
    try:
        parsed = commit.parse_commit(revision, repository.commit(revision))
        if isinstance(parsed, model.Reason) or len(parsed.parents) != _MERGE_PARENTS:
            return ()
        head = parsed.parents[1]
        heads = (head, *earlier.possible(repository, head))
        return tuple(envelope for each in heads for envelope in repository.envelopes(each))
    except (errors.PermanentError, errors.TransientError):
        return ()  # Said again, as a verdict, by the judge.


def _is_known(envelope: bytes, rules: policy.Policy) -> bool:
    opened = ballot.open_envelope(envelope, rules.namespace)
    return isinstance(opened, statement.Statement) and rules.knows(opened.key.key_id)


def _halt_or_wait(audit: log.Log, exc: errors.PermanentError, patience: Patience | None) -> tuple[record.Decision, ...]:
    """The history was rewritten. Targets keep the last accepted state."""
    if exc.code not in judging.HALT:
        raise errors.TransientError("source_error", exc.message, where=exc.where, fix=exc.fix) from exc
    if exc.code == "rewind" and patience is not None and patience.polls < PATIENCE_POLLS:
        patience.polls += 1
        message = "the source serves an older tip than the last accepted commit: a replica that lags?"
        raise errors.TransientError("source_error", message) from exc
    halt(audit, model.Reason.of(exc))
    return ()


def halt(audit: log.Log, reason: model.Reason) -> state.State:
    """Record an integrity alarm, once while it stands."""
    codes = audit.state.halted
    if reason.code in codes:
        return audit.state
    return audit.append(record.Halt(codes=(*codes, reason.code), reasons=(reason,)))


def _clear(audit: log.Log, patience: Patience | None) -> None:
    """A descendant of the last accepted commit is there again. An alarm of the store needs a person."""
    if patience is not None:
        patience.polls = 0
    if set(audit.state.halted) & judging.HISTORY:
        audit.append(_ended(audit.state, judging.HISTORY, "a descendant of the last accepted commit is there again"))


def _ended(known: state.State, codes: frozenset[str], why: str) -> record.Halt:
    """Of the alarms that stand, those with these codes are over."""
    left = tuple(code for code in known.halted if code not in codes)
    return record.Halt(codes=left, ended=tuple(code for code in known.halted if code in codes), why=why)


def _reason_before(audit: log.Log) -> str:
    pins = (e.event for e in audit.records() if isinstance(e.event, record.Genesis | record.Reset))
    return [each.reason for each in pins][-1]


def _check_genesis(repository: ports.Repository, pin: Pin, clock: ports.Clock) -> bytes:
    """The blob of its policy, which must lint. A tree that breaks the rules would reject every merge on top."""
    whole = repository.tree(pin.genesis)
    entry = whole.get(policy.PATH.encode())
    if entry is None:
        raise errors.ConfigError("policy_lint", "the pinned commit has no approval policy", where=policy.PATH)
    blob = repository.read(entry.oid)
    found = lint.lint(
        blob, source_id=pin.source_id, source_ref=pin.source_ref, now=clock.now(), production=pin.production
    ).errors
    if not found:
        limits = policy.parse_policy(blob).defaults
        links = limits.symlinks == "allow"
        found = tree.look_at({}, whole, whole, max_files=limits.max_files, links=links)
        found += tree.look_at_links(whole, (b"targets",), repository.read) if links else ()
    if found:
        message = "; ".join(reason.message for reason in found[:10])
        raise errors.ConfigError(found[0].code, message, where=found[0].where, fix=found[0].fix)
    return blob
