"""What changed since a person last signed: their newest approval of this head, of an earlier head of the same branch, or of the same request.

A statement names the head and the effect that it covered, not the commit that the branch was merged onto. That is found
again here: the newest commit of the watched branch for which the automatic merge of that head has exactly that effect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from reconciler import errors, model
from reconciler.admission import effect, policy, statement
from reconciler.cli import candidates, changes, clone, fetching
from reconciler.daemon import merged
from reconciler.git import approvals, repository

_BASES = 200  # merges of the watched branch that are tried
_DIGITS = 12


class Covered(NamedTuple):
    """The content that a statement was about: both sides, and what it changed."""

    base: model.Oid
    after: model.Tree
    done: effect.Effect


def describe(
    here: clone.Clone, found: candidates.Candidate, rules: policy.Policy, person: str, *, uri: str = ""
) -> Iterator[str]:
    """`uri`: of the request, where the person named it: an earlier head of it may be on no branch any more."""
    said = _newest(here, found, rules, person, uri)
    if said is None:
        yield f"since        {person} has signed nothing of this change before"
        return
    when, head = model.print_time(said.issued_at), said.binding.head
    if said.binding.effect == found.judged.decision.effect and head == found.head:
        yield f"since        nothing: {person} signed exactly this at {when}, statement {said.digest}"
        return
    same = "the same head" if head == found.head else f"the head {head[:_DIGITS]}"
    yield f"since        {person} signed {same} at {when}, statement {said.digest}; below: what is different now"
    covered = _covered(here, said.binding)
    if covered is None:
        yield from _heads(here, head, found.head)
        return
    yield from _difference(here, covered, found)


def _newest(
    here: clone.Clone, found: candidates.Candidate, rules: policy.Policy, person: str, uri: str
) -> statement.Statement | None:
    """By the date that it claims: it is their own, and only shown to them."""
    heads = {found.head}
    with contextlib.suppress(errors.PermanentError):
        heads |= set(here.repository.brought_in(found.head, found.base))
    fetching.approvals_of(here, *sorted(heads))
    envelopes = [envelope for head in sorted(heads) for envelope in _envelopes(here, head)]
    if uri:
        envelopes += [envelope for head in _signed_heads(here) for envelope in _envelopes(here, head)]
    own = [
        said
        for envelope in envelopes
        if isinstance(said := statement.open_envelope(envelope, namespace=rules.namespace), statement.Statement)
        and said.decision == "approve"
        and any(key.id == said.key.key_id for key in rules.people[person].keys)
        and said.binding.repo == rules.repository.id
        and (said.binding.head in heads or (uri != "" and said.change.uri == uri))
    ]
    return max(own, key=lambda said: (said.issued_at, said.digest), default=None)


def _envelopes(here: clone.Clone, head: model.Oid) -> tuple[bytes, ...]:
    with contextlib.suppress(errors.PermanentError, errors.TransientError):
        return here.repository.envelopes(head)
    return ()


def _signed_heads(here: clone.Clone) -> Iterator[model.Oid]:
    """What the names of the refs in this clone begin with; a full id is padded, as only its first digits stand there."""
    import git

    printed = str(git.Git(here.path).for_each_ref("--format=%(refname)", approvals.ROOT + "/"))
    for digits in sorted({line.split("/")[3] for line in printed.splitlines()}):
        yield model.Oid(digits.ljust(len(here.base), "0"))


def _covered(here: clone.Clone, binding: statement.Binding) -> Covered | None:
    """The merge that was meant: tried from the watched branch's newest commit down."""
    oid: model.Oid | None = here.watched()
    for _ in range(_BASES):
        if oid is None:
            return None
        with contextlib.suppress(errors.PermanentError, errors.TransientError, ValueError):
            after = merged.Merged(here.repository, binding.head, oid).tree(binding.head)
            done = effect.compare(here.repository.tree(oid), after)
            if done.digest == binding.effect:
                return Covered(oid, after, done)
        parents = repository.parse_links(here.repository.commit(oid), oid).parents
        oid = parents[0] if parents else None
    return None


def _difference(here: clone.Clone, covered: Covered, found: candidates.Candidate) -> Iterator[str]:
    """Of the paths that either changes, and of all in the folders that either touches: those folders' digests are bound too."""
    now = found.judged.effect
    touched = {*covered.done.folders, *(now.folders if now else ())}
    paths = {*covered.done.paths, *(now.paths if now else ())}
    moved = effect.changed(covered.after, found.after)
    shown = [path for path in moved if path in paths or effect.folder_of(path) in touched]
    yield from changes.diff(here.repository, covered.after, found.after, shown)
    if not shown:
        yield "             the content is the same; what it replaces is not: other merges changed that"


def _heads(here: clone.Clone, before: model.Oid, after: model.Oid) -> Iterator[str]:
    """What was covered cannot be put together again: the two heads are compared."""
    if not here.repository.exists(before):
        yield f"             {before} is not here any more: read all of it"
        return
    yield "             from that head to this one, other people's changes included:"
    old, new = here.repository.tree(before), here.repository.tree(after)
    yield from changes.diff(here.repository, old, new, effect.changed(old, new))
