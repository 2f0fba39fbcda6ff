"""`ports.Repository` over a git dir: the daemon's mirror, a developer's clone, a server's repository inside a hook.

git lists and merges; every link that a verdict rests on is confirmed with our own parser from bytes that were hashed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from reconciler import errors, model
from reconciler.git import objects, process, store, trees

ENVELOPE = b"envelope.json"
APPROVALS = "refs/approvals/v1"

_TREE_LINE = re.compile(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})\n")
_PARENT_LINE = re.compile(rb"parent ([0-9a-f]{40}|[0-9a-f]{64})\n")
_NAMEABLE = re.compile(r"HEAD|refs/[A-Za-z0-9][A-Za-z0-9._/+@-]*")
_MERGE = ("merge.renames=true", "merge.directoryRenames=false", "merge.conflictStyle=merge")


class Links(NamedTuple):
    """What a commit's header points to."""

    tree: model.Oid
    parents: tuple[model.Oid, ...]


def approval_prefix(head: model.Oid) -> str:
    """`refs/approvals/v1/<12 digits>/`: an index only; what counts stands inside the envelopes."""
    return f"{APPROVALS}/{head[:12]}/"


def parse_links(raw: bytes, oid: model.Oid) -> Links:
    """Read tree and parents as git does: the first line, then the parent lines that follow it. The rest is not judged here.

    Raises: PermanentError(commit_grammar).
    """
    tree = _TREE_LINE.match(raw)
    if tree is None:
        raise errors.PermanentError("commit_grammar", "the commit does not begin with its tree", where=oid)
    parents: list[model.Oid] = []
    at = tree.end()
    while parent := _PARENT_LINE.match(raw, at):
        parents.append(model.Oid(parent[1].decode()))
        at = parent.end()
    return Links(model.Oid(tree[1].decode()), tuple(parents))


def check_range(
    listed: Sequence[model.Oid], parents: Mapping[model.Oid, tuple[model.Oid, ...]], head: model.Oid
) -> set[model.Oid]:
    """Confirm that the list is what head reaches, parents first; return the parents that are not in it: base's side.

    Raises: AuditError(object_hash) where git's list and the commits' own bytes disagree.
    """
    place = {oid: number for number, oid in enumerate(listed)}
    reached: set[model.Oid] = set()
    beyond: set[model.Oid] = set()
    pending = [head]
    while pending:
        oid = pending.pop()
        if oid not in place:
            beyond.add(oid)
        elif oid not in reached:
            reached.add(oid)
            pending += parents[oid]
            if any(place.get(parent, -1) >= place[oid] for parent in parents[oid]):
                raise _lied(head)
    if len(reached) != len(listed):
        raise _lied(head)
    return beyond


def _lied(oid: model.Oid) -> errors.AuditError:
    return errors.AuditError(
        "object_hash",
        f"git's list of the commits that {oid} brings in is not what the commits say",
        fix="use a new mirror",
    )


class GitRepository:
    """Local objects of one git dir. Many threads may share it; `close` ends its process and removes its private folder."""

    def __init__(
        self,
        git_dir: Path,
        *,
        limits: trees.Limits = trees.DEFAULT_LIMITS,
        process_limits: process.ProcessLimits = process.DEFAULT_LIMITS,
        quarantine: Mapping[str, str] | None = None,
    ) -> None:
        """`quarantine`: the environment of a pre-receive hook, of which the object folders inside the repository are read too.

        Raises: ConfigError(repository, quarantine).
        """
        self._limits = limits
        self._scratch = store.Scratch()
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

    def commit(self, oid: model.Oid) -> bytes:
        return self._objects.read(oid, "commit", self._limits.commit_bytes)

    def read(self, oid: model.Oid) -> bytes:
        return self._objects.read(oid, "blob", self._limits.blob_bytes)

    def tree(self, commit: model.Oid) -> model.Tree:
        """As the port says; the id of a tree, such as `automatic_merge` gives, serves as well as a commit's."""
        is_tree = self._objects.kind_of(commit) == "tree"
        return self._trees.tree(commit if is_tree else self._links(commit).tree)

    def first_parents(self, tip: model.Oid, after: model.Oid) -> Iterator[model.Oid]:
        if tip == after:
            return
        listed = self._list("--first-parent", tip, f"^{after}")
        before = after
        for oid, links in self._links_of(listed):
            if links.parents[:1] != (before,):
                raise self._off_the_chain(tip, after)
            before = oid
        if before != tip:
            raise self._off_the_chain(tip, after)
        yield from listed

    def brought_in(self, head: model.Oid, base: model.Oid) -> tuple[model.Oid, ...]:
        """As the port says.

        Raises: PermanentError(limit) for more commits than the limit.
        """
        listed = self._list("--topo-order", f"--max-count={self._limits.commits + 1}", head, f"^{base}")
        if len(listed) > self._limits.commits:
            raise errors.PermanentError(
                "limit", f"{head} brings in more than {self._limits.commits} commits", where=head
            )
        parents = {oid: links.parents for oid, links in self._links_of(listed)}
        self._confirm_reached(base, check_range(listed, parents, head))
        return listed

    def merge_bases(self, one: model.Oid, other: model.Oid) -> tuple[model.Oid, ...]:
        self._need(one, other)
        finished = self._git.run("merge-base", "--all", "--end-of-options", one, other)
        if finished.code not in {0, 1}:
            raise _failed("merge-base", finished)
        return tuple(model.Oid(line) for line in finished.stdout.decode().split())

    def automatic_merge(self, base: model.Oid, head: model.Oid) -> model.Oid | None:
        self._need(base, head)
        finished = self._git.run("merge-tree", "--write-tree", "--no-messages", base, head, config=_MERGE)
        if finished.code not in {0, 1}:
            raise _failed("merge-tree", finished)
        return None if finished.code else process.check_oid(finished.stdout.decode().strip())

    def envelopes(self, head: model.Oid) -> tuple[bytes, ...]:
        """As the port says. What hangs under these names and is no envelope at all is passed over: anybody may push it."""
        commits = self._approval_commits(process.check_oid(head))
        found = (self._envelope(oid) for oid in commits)
        return tuple(envelope for envelope in found if envelope is not None)

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

    def _links(self, oid: model.Oid) -> Links:
        return parse_links(self.commit(oid), oid)

    def _links_of(self, oids: Iterable[model.Oid]) -> Iterator[tuple[model.Oid, Links]]:
        for oid, raw in self._objects.read_many(oids, "commit", self._limits.commit_bytes):
            yield oid, parse_links(raw, oid)

    def _need(self, *oids: model.Oid) -> None:
        """Hash what git is about to read first, so that a damaged or missing commit is named as such."""
        for oid in oids:
            self._links(oid)

    def _list(self, *arguments: str) -> tuple[model.Oid, ...]:
        self._need(*(process.check_oid(part.lstrip("^")) for part in arguments if not part.startswith("--")))
        printed = self._git.text("rev-list", "--reverse", *arguments, "--")
        return tuple(process.check_oid(line) for line in printed.split())

    def _off_the_chain(self, tip: model.Oid, after: model.Oid) -> errors.PermanentError:
        if self._is_ancestor(tip, after):
            return errors.PermanentError("rewind", f"the tip is older than the last accepted commit {after}", where=tip)
        if self._is_ancestor(after, tip):
            return errors.PermanentError(
                "first_parent_broken",
                f"the last accepted commit {after} is reached only through a second parent",
                where=tip,
            )
        return errors.PermanentError(
            "non_descendant", f"the last accepted commit {after} is not in this history", where=tip
        )

    def _is_ancestor(self, one: model.Oid, other: model.Oid) -> bool:
        finished = self._git.run("merge-base", "--is-ancestor", "--end-of-options", one, other)
        if finished.code not in {0, 1}:
            raise _failed("merge-base", finished)
        return finished.code == 0

    def _confirm_reached(self, base: model.Oid, wanted: set[model.Oid]) -> None:
        """Walk back from base with our own parser until all of these are met: git said that base reaches them."""
        missing, seen, level = set(wanted) - {base}, {base}, [base]
        known = self._links_between(base, missing) if missing else {}
        while missing and level:
            known |= dict(self._links_of(oid for oid in level if oid not in known))
            above = [parent for oid in level for parent in known[oid].parents]
            level = [oid for oid in dict.fromkeys(above) if oid not in seen]
            seen.update(level)
            missing -= seen
        if missing:
            raise _lied(base)

    def _links_between(self, base: model.Oid, below: set[model.Oid]) -> dict[model.Oid, Links]:
        """Most of what a walk from base down to these will ask for, read in one go."""
        bounds = (f"^{oid}" for oid in sorted(below)[:100])
        printed = self._git.text("rev-list", f"--max-count={self._limits.commits}", base, *bounds, "--")
        return dict(self._links_of(process.check_oid(line) for line in printed.split()))

    def _approval_commits(self, head: model.Oid) -> tuple[model.Oid, ...]:
        prefix, limit = approval_prefix(head), self._limits.envelopes
        printed = self._refs.text(
            "for-each-ref", f"--count={limit + 1}", "--format=%(objectname) %(objecttype)", "--sort=refname", prefix
        )
        lines = [line.split(" ") for line in printed.splitlines()]
        if len(lines) > limit:
            raise errors.PermanentError("limit", f"more than {limit} approvals lie under {prefix}", where=head)
        return tuple(process.check_oid(oid) for oid, kind in lines if kind == "commit")

    def _envelope(self, oid: model.Oid) -> bytes | None:
        """The blob `envelope.json` of an approval's commit; None where it has no such file or a larger one."""
        try:
            root = self._objects.read(self._links(oid).tree, "tree", self._limits.envelope_bytes)
            names = trees.parse_tree(root, oid_bytes=len(oid) // 2)
            blobs = [line.oid for line in names if line.name == ENVELOPE and line.mode == "100644"]
            return self._objects.read(blobs[0], "blob", self._limits.envelope_bytes) if blobs else None
        except errors.PermanentError:
            return None


def _failed(command: str, finished: process.Finished) -> errors.TransientError:
    return errors.TransientError("source_error", f"git {command}: {finished.complaint}")
