"""What a recovery merge may keep of the commits that it passes over (trust.md 5.2).

It is judged as one change from the last accepted commit. Content that nobody provably wrote does not come in that way: a
path that an unsigned or unknown commit set must be back as it was, or have been committed again, signed.
"""

from __future__ import annotations

from reconciler import model, ports
from reconciler.admission import brought, commit, effect, tree

_SHOWN = 20


def leftovers(
    repository: ports.Repository,
    merge: commit.Commit,
    span: tuple[model.Oid, model.Oid],
    again: brought.Brought,
    judge: brought.Judge,
) -> model.ValidationResult:
    """`span`: the last accepted commit and the last one passed over; `again`: what the merge brings in beside it."""
    base, last = span
    passed = brought.read(repository, repository.brought_in(last, base), judge)
    before, after = repository.tree(base), repository.tree(merge.id)
    doubtful = (each.commit for each in passed.commits if each.reasons)
    unproven = {path for each in doubtful for path in brought.own_changes(repository, each)}
    if passed.unreadable:  # What such a commit changed cannot be told from what the others did.
        unproven |= {*effect.changed(before, repository.tree(last))}
    mended = {path for each in again.commits for path in brought.own_changes(repository, each.commit)}
    left = sorted(path for path in unproven - mended if before.get(path) != after.get(path))
    return tuple(
        _reason(f"{tree.show(path)} is as an unsigned or unknown commit left it", last) for path in left[:_SHOWN]
    )


def _reason(message: str, where: str) -> model.Reason:
    fix = "commit it again, signed, or take it back: reconciler recover --after A --key KEY --push, where A is the last accepted commit"
    return model.Reason(code="unsigned_commit", message=message, where=where, fix=fix)
