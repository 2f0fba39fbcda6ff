"""A head that is not merged yet, read as its automatic merge would be. Loads nothing that the command line waits for."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler import errors, model, ports
from reconciler.admission import merging


class Merged:
    """`ports.Repository` in which `head` is what its automatic merge onto `base` would be."""

    def __init__(self, repository: ports.Repository, head: model.Oid, base: model.Oid) -> None:
        """Raises: PermanentError(conflict) where there is no such merge."""
        self._repository, self._head = repository, head
        (ancestor, *_) = repository.merge_bases(base, head)
        onto = repository.tree(base)
        wanted = merging.overlay(repository.tree(ancestor), onto, repository.tree(head))
        self._tree = wanted.onto(onto) if wanted.conflict is None else repository.tree(_by_git(repository, base, head))

    def tree(self, commit: model.Oid) -> model.Tree:
        return self._tree if commit == self._head else self._repository.tree(commit)

    def commit(self, oid: model.Oid) -> bytes:
        return self._repository.commit(oid)

    def read(self, oid: model.Oid) -> bytes:
        return self._repository.read(oid)

    def first_parents(self, tip: model.Oid, after: model.Oid) -> Iterator[model.Oid]:
        return self._repository.first_parents(tip, after)

    def brought_in(self, head: model.Oid, base: model.Oid) -> tuple[model.Oid, ...]:
        return self._repository.brought_in(head, base)

    def merge_bases(self, one: model.Oid, other: model.Oid) -> tuple[model.Oid, ...]:
        return self._repository.merge_bases(one, other)

    def automatic_merge(self, base: model.Oid, head: model.Oid) -> model.Oid | None:
        return self._repository.automatic_merge(base, head)

    def envelopes(self, head: model.Oid) -> tuple[bytes, ...]:
        return self._repository.envelopes(head)


def _by_git(repository: ports.Repository, base: model.Oid, head: model.Oid) -> model.Oid:
    """Where both sides changed one path the whole merge is git's, as the judge has it (trust.md 2.3, P10)."""
    made = repository.automatic_merge(base, head)
    if made is None:
        fix = "merge the watched branch into yours"
        raise errors.PermanentError("conflict", f"{head} conflicts with {base}", where=head, fix=fix)
    return made
