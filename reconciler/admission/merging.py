"""The automatic merge of two commits, path by path (trust.md 2.3, P10): the side that changed wins.

As soon as one path was changed differently by both sides the whole merge is git's, because renames carry edits across paths.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler import model, ports
from reconciler.admission import commit, effect


@dataclass(frozen=True)
class Overlay:
    """What the head changes on the base. `conflict`: a path that both changed, differently; None: there is none."""

    changes: dict[bytes, model.Entry | None]
    conflict: bytes | None

    def onto(self, base: model.Tree) -> model.Tree:
        kept = {path: entry for path, entry in base.items() if path not in self.changes}
        return {**kept, **{path: entry for path, entry in self.changes.items() if entry is not None}}


def overlay(ancestor: model.Tree, base: model.Tree, head: model.Tree) -> Overlay:
    changes: dict[bytes, model.Entry | None] = {}
    for path in effect.changed(ancestor, head):
        own, other = base.get(path), head.get(path)
        if own == other:
            continue
        if own != ancestor.get(path):
            return Overlay(changes, path)
        changes[path] = other
    return Overlay(changes, _folder_in_the_way(base, changes))


def is_automatic(
    repository: ports.Repository, merge: commit.Commit, base: model.Oid, ancestor: model.Oid, done: effect.Effect
) -> bool:
    """Whether the tree of this merge is the automatic merge of `base` and its second parent; `done`: base -> merge."""
    head = merge.parents[1]
    before, theirs, after = repository.tree(base), repository.tree(head), repository.tree(merge.id)
    if ancestor == base and theirs is after:
        return True  # The branch stood on the base, nothing had to be merged, and a repository reads a tree once.
    wanted = overlay(before if ancestor == base else repository.tree(ancestor), before, theirs)
    if wanted.conflict is not None:
        return repository.automatic_merge(base, head) == merge.tree
    return frozenset(done.paths) == wanted.changes.keys() and all(after.get(p) == e for p, e in wanted.changes.items())


def _folder_in_the_way(base: model.Tree, changes: dict[bytes, model.Entry | None]) -> bytes | None:
    """A file that would stand where the other side has a folder; a tree cannot hold both."""
    added = {path for path, entry in changes.items() if entry is not None and path not in base}
    if not added:
        return None
    gone = {path for path, entry in changes.items() if entry is None}
    kept = (base.keys() | added) - gone
    for path in added:
        parts = path.split(b"/")
        for n in range(1, len(parts)):
            if b"/".join(parts[:n]) in kept:
                return path
    roots = tuple(path + b"/" for path in added)
    return next((path for path in kept if path.startswith(roots)), None)
