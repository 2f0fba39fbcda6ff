"""`ports.Repository` over a git dir: the daemon's mirror, a developer's clone, a server's repository inside a hook.

Objects come from `objects`, links from `history`, whole trees from `trees`, envelopes from `approvals`; git itself only
merges. Who walks along the first parents will judge what stands there: it is read ahead, a block at a time.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from reconciler import errors, model
from reconciler.git import approvals, history, objects, process, store, trees

BLOCK = 64  # merges that are read ahead at once
LEVELS = 4  # of commits below a head
ROOTS = 1000  # trees of commits that are remembered

Links = history.Links
parse_links = history.parse_links

_NAMEABLE = re.compile(r"HEAD|refs/[A-Za-z0-9][A-Za-z0-9._/+@-]*")
_MERGE = ("merge.renames=true", "merge.directoryRenames=false", "merge.conflictStyle=merge")


class GitRepository:
    """Local objects of one git dir. Many threads may share it; `close` ends its process and removes its private folder."""

    def __init__(
        self,
        git_dir: Path,
        *,
        limits: trees.Limits = trees.DEFAULT_LIMITS,
        process_limits: process.ProcessLimits = process.DEFAULT_LIMITS,
        quarantine: Mapping[str, str] | None = None,
        scratch: Path | None = None,
    ) -> None:
        """`scratch`: a folder of ours for what is temporary; else the system's. `quarantine`: the environment of a pre-receive hook, of which the object folders inside the repository are read too.

        Raises: ConfigError(repository, quarantine).
        """
        self._limits = limits
        self._scratch = store.Scratch(scratch)
        self._git_dir = git_dir.absolute()
        self._refs = process.GitProcess(self._git_dir, home=self._scratch.home, limits=process_limits)
        layout = store.read_layout(self._refs, self._git_dir)
        self.object_format = layout.object_format
        folders = (*store.quarantine_dirs(quarantine or {}, layout.common_dir), layout.common_dir / "objects")
        self._git = store.private_git(
            self._scratch, tuple(dict.fromkeys(folders)), layout.object_format, process_limits
        )
        self._objects = objects.ObjectReader(
            self._git, object_format=layout.object_format, timeout_s=process_limits.timeout_s
        )
        self._trees = trees.TreeReader(self._objects, object_format=layout.object_format, limits=limits)
        self._history = history.History(self._objects, self._git, limits)
        self._approvals = approvals.Approvals(self._objects, self._refs, layout.common_dir, limits)
        self._roots: dict[model.Oid, model.Oid] = {}  # commit -> its tree
        self._blocks: dict[model.Oid, Sequence[model.Oid]] = {}  # first revision -> the block that is read with it

    def commit(self, oid: model.Oid) -> bytes:
        if block := self._blocks.pop(oid, None):
            self._read_ahead(block)
        return self._objects.read(oid, "commit", self._limits.commit_bytes)

    def read(self, oid: model.Oid) -> bytes:
        return self._objects.read(oid, "blob", self._limits.blob_bytes)

    def tree(self, commit: model.Oid) -> model.Tree:
        """As the port says; the id of a tree, such as `automatic_merge` gives, serves as well as a commit's."""
        root = self._roots.get(commit)
        if root is None:
            root = commit if self._objects.kind_of(commit) == "tree" else self.links(commit).tree
            if len(self._roots) >= ROOTS:
                self._roots = {}
            self._roots[commit] = root
        return self._trees.tree(root)

    def links(self, oid: model.Oid) -> history.Links:
        return self._history.links(oid)

    def first_parents(self, tip: model.Oid, after: model.Oid) -> Iterator[model.Oid]:
        chain = self._history.first_parents(tip, after) if tip != after else ()
        self._blocks = {chain[at]: chain[at : at + BLOCK] for at in range(0, len(chain), BLOCK)}
        yield from chain

    def brought_in(self, head: model.Oid, base: model.Oid) -> tuple[model.Oid, ...]:
        """As the port says.

        Raises: PermanentError(limit) for more commits than the limit.
        """
        return self._history.brought_in(head, base)

    def merge_bases(self, one: model.Oid, other: model.Oid) -> tuple[model.Oid, ...]:
        return self._history.merge_bases(one, other)

    def automatic_merge(self, base: model.Oid, head: model.Oid) -> model.Oid | None:
        tree, clean = self._merge_tree(base, head)
        return tree if clean else None

    def attempted_merge(self, base: model.Oid, head: model.Oid) -> model.Oid:
        """The tree of git's own merge, conflict markers and all where it is not clean. For what people see, never for a verdict."""
        return self._merge_tree(base, head)[0]

    def _merge_tree(self, base: model.Oid, head: model.Oid) -> tuple[model.Oid, bool]:
        for oid in (base, head):
            self.links(oid)  # So that a damaged or missing commit is named as such.
        finished = self._git.run("merge-tree", "--write-tree", "--no-messages", base, head, config=_MERGE)
        if finished.code not in {0, 1}:
            raise errors.TransientError("source_error", f"git merge-tree: {finished.complaint}")
        tree, _, _ = finished.stdout.decode(errors="surrogateescape").partition("\n")
        return process.check_oid(tree.strip()), finished.code == 0

    def envelopes(self, head: model.Oid) -> tuple[bytes, ...]:
        return self._approvals.envelopes(process.check_oid(head))

    def resolve(self, name: str) -> model.Oid:
        """The commit that a full ref, a full object id or `HEAD` names now. For what a person typed, once; never for a verdict.

        Raises: ConfigError(revision).
        """
        if not _NAMEABLE.fullmatch(name) or ".." in name or "@{" in name:
            oid = process.check_oid(name)
        else:
            finished = self._refs.run("rev-parse", "--verify", "--quiet", "--end-of-options", name)
            oid = model.Oid(finished.stdout.decode().strip())
        if not oid or self._objects.kind_of(oid) != "commit":
            raise errors.ConfigError(
                "revision",
                f"{name!a} names no commit here",
                fix="fetch first; write a full ref or all digits of an object id",
            )
        return oid

    def exists(self, oid: model.Oid) -> bool:
        """Whether the object is here; not whether it is whole."""
        return self._objects.kind_of(oid) != objects.MISSING

    def close(self) -> None:
        self._objects.close()
        self._scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_ahead(self, merges: Sequence[model.Oid]) -> None:
        """Read in bulk what judging these asks for, as far as it is small: one object at a time costs more than the judging."""
        found = self._history.read_ahead(merges)
        heads = [links.parents[1] for links in found.values() if len(links.parents) > 1]
        level = heads
        for _ in range(LEVELS):
            read = self._history.read_ahead(oid for oid in level if oid not in found)
            found |= read
            above = (parent for links in read.values() for parent in links.parents)
            level = [oid for oid in dict.fromkeys(above) if not self._history.is_below(oid)]
        self._trees.read_ahead(links.tree for links in found.values())
        with contextlib.suppress(errors.TransientError):
            self._approvals.read_ahead(heads)
