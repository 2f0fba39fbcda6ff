"""One commit that a person asks about, judged as what it is: a head that is not merged yet, a merge, or a recovery merge."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reconciler import errors, model
from reconciler.admission import judging, policy
from reconciler.cli import clone, fetching
from reconciler.daemon import clock, merged
from reconciler.git import repository

_PARENTS = 2
_LOOKED_BACK = 500  # merges
_TAKEN_BACK = {"rejected", "approval_revoked", "emergency_scope"}  # An emergency has ended when it is reviewed.


@dataclass(frozen=True)
class Candidate:
    """`base`: the commit whose policy judges it; `after`: the tree that the merge leaves behind."""

    commit: model.Oid
    base: model.Oid
    judged: judging.Judged
    after: model.Tree
    merged: bool  # it is the merge itself
    landed: bool = False  # and it is on the watched branch already

    @property
    def head(self) -> model.Oid:
        return self.judged.binding.head if self.judged.binding else self.judged.decision.head or self.commit


@dataclass(frozen=True)
class Walked:
    """Where the walk along the watched branch came to."""

    base: model.Oid  # the last accepted commit
    passed: tuple[model.Oid, ...]  # what follows it and was not accepted
    judged: tuple[judging.Judged, ...]  # of those


def find(here: clone.Clone, commit: model.Oid, *, landed: bool = False) -> Candidate:
    """A merge is known by its place: its first parent is on the watched branch, at or after the last accepted commit.

    One that is on the watched branch already is found too, by its own id or its head's, where it still waits; `landed`:
    also where it was let in.

    Raises: what the repository raises for objects that are missing.
    """
    chain = _chain(here)
    parents = _parents(here, commit)
    fetching.approvals_of(here, *parents[1:], commit)
    if len(parents) == _PARENTS and parents[0] in {here.base, *chain}:
        return _merge(here, commit, chain[: chain.index(parents[0]) + 1] if parents[0] in chain else ())
    for number, oid in enumerate(chain):  # A head that was merged, and whose merge still waits.
        if _parents(here, oid)[1:] == (commit,):
            return _merge(here, oid, chain[:number])
    before = find_landed(here, commit)
    if before and (landed or before.judged.decision.verdict is not model.Verdict.ACCEPT):
        return before
    judged = judging.examine_head(here.repository, commit, here.known, terms=here.terms, now=clock.SystemClock().now())
    after: model.Tree = {}
    if judged.effect is not None:
        after = merged.Merged(here.repository, commit, here.base).tree(commit)
    return Candidate(commit, here.base, judged, after, merged=False)


def find_landed(here: clone.Clone, commit: model.Oid) -> Candidate | None:
    """A merge that is on the watched branch, or its head: judged from its first parent on, as the daemon does.

    A recovery merge is none of these: what it is judged from does not stand beside it, and no approval fits without.
    """
    if here.repository.brought_in(commit, here.base):
        return None
    oid = here.base
    for _ in range(_LOOKED_BACK):
        parents = _parents(here, oid)
        if not parents or not _has_policy(here, parents[0]):
            return None
        if len(parents) == _PARENTS and commit in {oid, parents[1]}:
            fetching.approvals_of(here, parents[1])
            found = replace(_merge(here.at(parents[0]), oid, ()), landed=True)
            decision = found.judged.decision
            fits = decision.verdict is model.Verdict.ACCEPT or {r.code for r in decision.reasons} & _TAKEN_BACK
            return found if fits or not _is_refused(here, parents[0]) else None
        oid = parents[0]
    return None


def _is_refused(here: clone.Clone, oid: model.Oid) -> bool:
    """Whether it can never have been accepted. One without a policy below it is where trust starts."""
    below = _parents(here, oid)[:1]
    if not below or not _has_policy(here, below[0]):
        return False
    return _examine(here, oid, below[0], ()).decision.verdict is model.Verdict.REJECT


def _has_policy(here: clone.Clone, oid: model.Oid) -> bool:
    return policy.PATH.encode() in here.repository.tree(oid)


def walk(here: clone.Clone, chain: tuple[model.Oid, ...]) -> Walked:
    """Judge these first-parent commits after the base, each ACCEPT the base of the next."""
    base, passed, found = here.base, tuple[model.Oid, ...](), tuple[judging.Judged, ...]()
    for oid in chain:
        judged = _examine(here, oid, base, passed)
        if judged.decision.verdict is model.Verdict.ACCEPT:
            base, passed, found = oid, (), ()
        else:
            passed, found = (*passed, oid), (*found, judged)
    return Walked(base, passed, found)


def heads(here: clone.Clone, tip: model.Oid) -> tuple[model.Oid, ...]:
    """What the merges up to this one, after the last accepted commit, bring in."""
    try:
        return tuple(
            oid for merge in here.repository.first_parents(tip, here.base) for oid in _parents(here, merge)[1:]
        )
    except errors.PermanentError:  # No descendant: the walk says so.
        return ()


def chain(here: clone.Clone) -> tuple[model.Oid, ...]:
    return _chain(here)


def _merge(here: clone.Clone, commit: model.Oid, below: tuple[model.Oid, ...]) -> Candidate:
    stands = walk(here, below)
    judged = _examine(here, commit, stands.base, stands.passed)
    return Candidate(commit, stands.base, judged, here.repository.tree(commit), merged=True)


def _examine(here: clone.Clone, commit: model.Oid, base: model.Oid, passed: tuple[model.Oid, ...]) -> judging.Judged:
    known, now = judging.clone_state(base), clock.SystemClock().now()
    return judging.examine(here.repository, commit, known, skipped=passed, terms=here.terms, now=now)


def _chain(here: clone.Clone) -> tuple[model.Oid, ...]:
    """The watched branch after the last accepted commit, as the remote has it."""
    try:
        return tuple(here.repository.first_parents(here.watched(), here.base))
    except errors.PermanentError:  # The base given is not below it: then only the base is.
        return ()


def _parents(here: clone.Clone, commit: model.Oid) -> tuple[model.Oid, ...]:
    return repository.parse_links(here.repository.commit(commit), commit).parents
