"""The heads that a branch had before it took in the watched branch: what was signed for them was signed for the same change.

A click on "update branch" puts a merge on top of the head, so its id is another; what would be merged is not. An approval
that fits in all else, its effect above all, therefore counts for the heads before as well, as long as nothing lies in
between but automatic merges of what was accepted already. An amended branch, a commit more, a conflict resolved by hand:
each ends the row.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler import errors, model, ports
from reconciler.admission import commit, effect, merging

MOST = 32  # in a row; whoever updates more often than that asks again
_PARENTS = 2


def possible(repository: ports.Repository, head: model.Oid) -> tuple[model.Oid, ...]:
    """Where to look for statements: the heads before, as their parents alone say. Newest first; never raises for an object."""
    try:
        return tuple(merge.parents[0] for merge in _merges(repository, head))
    except (errors.TransientError, errors.PermanentError):
        return ()  # Said by the judge, who reads every commit of the branch.


def heads(repository: ports.Repository, head: model.Oid, base: model.Oid) -> tuple[model.Oid, ...]:
    """The heads before this one whose statements are about the same change. `base`: the last accepted commit.

    Raises: as `repository`.
    """
    found: list[model.Oid] = []
    for merge in _merges(repository, head):
        if not _only_took_in(repository, merge, base):
            break
        found.append(merge.parents[0])
    return tuple(found)


def _merges(repository: ports.Repository, head: model.Oid) -> Iterator[commit.Commit]:
    for _ in range(MOST):
        parsed = commit.parse_commit(head, repository.commit(head))
        if isinstance(parsed, model.Reason) or len(parsed.parents) != _PARENTS:
            return
        yield parsed
        head = parsed.parents[0]


def _only_took_in(repository: ports.Repository, merge: commit.Commit, base: model.Oid) -> bool:
    before, other = merge.parents
    if repository.merge_bases(other, base) != (other,) or repository.merge_bases(before, base) == (before,):
        return False
    ancestors = repository.merge_bases(before, other)
    if len(ancestors) != 1:
        return False
    done = effect.compare(repository.tree(before), repository.tree(merge.id))
    return merging.is_automatic(repository, merge, before, ancestors[0], done)
