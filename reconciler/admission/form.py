"""P1 to P5, P7 and P12 (trust.md 2.3): the commit, its parents, its signature, all that it brings in. Parses no content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from reconciler import errors, model, ports
from reconciler.admission import brought, commit, merging, openpgp, policy, recovery, signature
from reconciler.audit import record, state

_PARENTS = 2


@dataclass(frozen=True)
class Denied:
    """`source.denied` of the daemon's configuration: it only takes away, and works at once."""

    commits: frozenset[str] = frozenset()  # ids of commits and trees
    keys: frozenset[str] = frozenset()  # SHA256:...
    people: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Terms:
    """What the daemon's own configuration says about judging, and whom it asks about OpenPGP signatures."""

    denied: Denied = field(default_factory=Denied)
    production: bool = True
    openpgp: ports.OpenPgp = field(default_factory=openpgp.Missing)


@dataclass(frozen=True)
class Case:
    """One question: may `revision` follow `base`, the last accepted commit, passing over `skipped`?"""

    base: model.Oid
    revision: model.Oid
    skipped: tuple[model.Oid, ...]
    known: state.State
    terms: Terms
    now: datetime  # t_dec

    @property
    def observed(self) -> datetime:
        """t_obs of the merge: where it was never recorded, now."""
        return self.known.seen.get(self.revision, self.now)

    def judge(self, rules: policy.Policy) -> brought.Judge:
        """What signatures of commits are held against."""
        unsigned = not rules.defaults.require_signed_commits and not self.terms.production
        return brought.Judge(rules, self.observed, self.terms.openpgp, unsigned=unsigned)


@dataclass(frozen=True)
class Shape:
    """What is known before any content is read. `tree`: of the automatic merge, where there is no merge yet."""

    reasons: model.ValidationResult
    merge: commit.Commit | None = None
    head: model.Oid | None = None
    ancestor: model.Oid | None = None
    signature: record.MergeSignature | None = None
    commits: brought.Brought = field(default_factory=brought.Brought)
    span: brought.Brought = field(default_factory=brought.Brought)  # whose people may not approve
    mergers: frozenset[str] = frozenset()
    leftovers: model.ValidationResult = ()
    tree: model.Tree | None = None


def read_merge(repository: ports.Repository, case: Case, rules: policy.Policy) -> Shape:
    # P2: the grammar; the id was recomputed with it.
    parsed = commit.parse_commit(case.revision, repository.commit(case.revision))
    if isinstance(parsed, model.Reason):
        return Shape((parsed,))
    # P1 and P3: its place, its parents.
    wrong = tuple(_parents(parsed, case))
    if wrong:
        return Shape(wrong, merge=parsed)
    head = parsed.parents[1]
    reasons, ancestor, oids = _relation(repository, case, head)
    # P4: its signature.
    verified = brought.verify(parsed, "unsigned_merge", case.judge(rules))
    signer = verified if isinstance(verified, model.Reason) else _merger(verified, case, rules)
    if isinstance(signer, model.Reason):
        reasons = (*reasons, signer)
    # P5 and P7: all that it brings in.
    shape = _read_range(repository, case, rules, oids)
    if case.skipped:
        shape = _widen(repository, case, rules, parsed, shape)
    mergers = brought.named(parsed, rules)
    if isinstance(signer, policy.Signer):
        mergers |= {signer.name}
    # P12: the deny list.
    denied = tuple(_denials(case.terms.denied, rules, shape, parsed, signer))
    return Shape(
        reasons=(*reasons, *shape.reasons, *denied),
        merge=parsed,
        head=head,
        ancestor=ancestor,
        signature=_recorded(verified, signer),
        commits=shape.commits,
        span=shape.span,
        mergers=mergers,
        leftovers=shape.leftovers,
    )


def read_head(repository: ports.Repository, case: Case, rules: policy.Policy) -> Shape:
    """The same for a head without a merge; where it conflicts, its effect is not known yet."""
    head = case.revision
    reasons, ancestor, oids = _relation(repository, case, head)
    shape = _read_range(repository, case, rules, oids)
    denied = tuple(_denials(case.terms.denied, rules, shape))
    reasons = (*reasons, *shape.reasons, *denied)
    if reasons or ancestor is None:
        return Shape(reasons, head=head, commits=shape.commits, span=shape.span)
    base = repository.tree(case.base)
    wanted = merging.overlay(repository.tree(ancestor), base, repository.tree(head))
    tree = wanted.onto(base)
    if wanted.conflict is not None:
        merged = repository.automatic_merge(case.base, head)
        if merged is None:
            reason = _conflict(wanted.conflict)
            return Shape((reason,), head=head, commits=shape.commits, span=shape.span)
        tree = repository.tree(merged)
    return Shape((), None, head, ancestor, None, shape.commits, shape.span, frozenset(), (), tree)


def _conflict(path: bytes) -> model.Reason:
    return model.Reason(
        code="stale_effect",
        message="it conflicts with the watched branch: what a merge would do is not known yet",
        where=path.decode(errors="backslashreplace"),
        fix="merge the watched branch into yours",
    )


def _parents(parsed: commit.Commit, case: Case) -> Iterator[model.Reason]:
    if len(parsed.parents) != _PARENTS:
        yield model.Reason(
            code="direct_commit",
            message="one parent: only merges of two come in, whether a commit was pushed or fast-forwarded",
            where=parsed.id,
            fix="merge with --no-ff, or reconciler merge HEAD --key KEY --push",
        )
    elif parsed.parents[0] != (case.skipped or (case.base,))[-1]:
        message = "its first parent is not the commit before it on the watched branch"
        yield model.Reason(code="first_parent_broken", message=message, where=parsed.id)


def _relation(
    repository: ports.Repository, case: Case, head: model.Oid
) -> tuple[model.ValidationResult, model.Oid | None, tuple[model.Oid, ...]]:
    """P3: what the head brings in, and the one commit where the two sides parted."""
    last = (case.skipped or (case.base,))[-1]
    oids = _limited(repository.brought_in(head, last), head)
    if not oids:
        message = "everything in it was merged before"
        return (model.Reason(code="nothing_merged", message=message, where=head, fix="commit something new"),), None, ()
    bases = repository.merge_bases(case.base, head)
    if len(bases) != 1:
        message = f"{len(bases)} merge bases; one is needed"
        return (model.Reason(code="merge_base", message=message, where=head, fix="rebase the branch"),), None, oids
    return (), bases[0], oids


def _merger(verified: signature.Verified, case: Case, rules: policy.Policy) -> policy.Signer | model.Reason:
    signer = rules.whose(verified.key_id, use="merge", at=case.observed)
    if isinstance(signer, policy.Signer) and signer.key.user_presence and not verified.user_present:
        return model.Reason(code="sig_invalid", message="the hardware key was not touched", where=signer.name)
    return signer


def _recorded(
    verified: signature.Verified | model.Reason, signer: policy.Signer | model.Reason
) -> record.MergeSignature | None:
    if isinstance(verified, model.Reason) or isinstance(signer, model.Reason):
        return None
    return record.MergeSignature(principal=signer.name, key_id=signer.key.id, algorithm=verified.algorithm)


def _read_range(repository: ports.Repository, case: Case, rules: policy.Policy, oids: tuple[model.Oid, ...]) -> Shape:
    found = brought.read(repository, oids, case.judge(rules))
    return Shape(found.reasons, commits=found, span=found)


def _widen(repository: ports.Repository, case: Case, rules: policy.Policy, merge: commit.Commit, shape: Shape) -> Shape:
    """A recovery merge stands on commits that were not accepted: their people are excluded too (trust.md 5.2)."""
    judge = case.judge(rules)
    own = brought.read(repository, (merge.id,), judge)
    unknown = tuple(reason for reason in own.reasons if reason.code == "unknown_identity")
    span = brought.read(repository, _limited(repository.brought_in(merge.id, case.base), merge.id), judge)
    ends = (case.base, case.skipped[-1])
    left = recovery.leftovers(repository, merge, ends, shape.commits, judge)
    return Shape((*shape.reasons, *unknown), commits=shape.commits, span=span, leftovers=left)


def _limited(oids: tuple[model.Oid, ...], head: model.Oid) -> tuple[model.Oid, ...]:
    if len(oids) > brought.MAX_COMMITS:
        message = f"{len(oids)} commits; at most {brought.MAX_COMMITS} in one merge"
        raise errors.PermanentError("limit", message, where=head, fix="merge it in parts")
    return oids


def _denials(
    denied: Denied,
    rules: policy.Policy,
    shape: Shape,
    merge: commit.Commit | None = None,
    signer: policy.Signer | model.Reason | None = None,
) -> Iterator[model.Reason]:
    """M, the commits that it brings in, their trees, keys and people."""
    if not (denied.commits or denied.keys or denied.people):
        return
    ids = [oid for each in shape.span.commits for oid in (each.commit.id, each.commit.tree)]
    signers = [each.signer for each in shape.span.commits if each.signer]
    if merge is not None:
        ids += [merge.id, merge.tree]
    if isinstance(signer, policy.Signer):
        signers.append(signer)
    people = shape.span.authors(rules) | {each.name for each in signers}
    hit = {*denied.commits.intersection(ids), *denied.keys.intersection(each.key.id for each in signers)}
    for name in sorted(hit | denied.people.intersection(people)):
        yield model.Reason(code="denied", message="it is on the deny list of the daemon's configuration", where=name)
