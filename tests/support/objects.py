"""A git object store in memory: real ids and real formats, the repository and the remote in one, without a process.

It is the repository of the deterministic simulation. It merges path by path: where both sides changed one path it says
conflict, where git would go on to merge the lines.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from reconciler import errors, model
from reconciler.admission import commit, earlier
from support import signing

MAX_ENVELOPES = 4096
MAX_DEPTH = 32
MAX_FILES = 100_000
FILE, EXECUTABLE, SYMLINK, GITLINK = "100644", "100755", "120000", "160000"
_FOLDER = "040000"
_START = 1_795_000_000  # the time of the first commit; each is a second after the one made before it

Content = bytes | tuple[str, bytes] | None  # a file, (mode, bytes) for another mode, or removed
Files = Mapping[str, Content] | Mapping[bytes, Content]


class Who(NamedTuple):
    """What stands in a commit as its author or committer."""

    name: str
    email: str


def who(name: str) -> Who:
    """`alice` -> Alice <alice@bank.example>."""
    return Who(name.title(), f"{name}@bank.example")


ALICE, FORGE = who("alice"), who("forge")


class _Node(NamedTuple):
    """One line of a tree object."""

    mode: str
    oid: model.Oid


class ObjectStore:
    """ports.Repository and ports.Source over dicts. Equal calls in equal order give equal ids.

    Attributes that a test may set: `down` (every fetch fails), `lagging` (fetches are served that many pushes behind).
    """

    def __init__(self, *, max_blob_bytes: int = 1 << 20) -> None:
        self.down = False
        self.lagging = 0
        self.fetches = 0
        self._max_blob_bytes = max_blob_bytes
        self._objects: dict[model.Oid, tuple[bytes, bytes]] = {}
        self._pushed: list[model.Oid | None] = []
        self._time = _START
        self._held: dict[str, dict[str, bytes]] = {}  # 12 digits of the head -> name -> envelope
        self._remote: dict[str, dict[str, bytes]] = {}
        self._forget()

    def _forget(self) -> None:
        """Drop everything that was derived from objects."""
        self._nodes: dict[model.Oid, Mapping[bytes, _Node]] = {}
        self._flat: dict[model.Oid, dict[bytes, model.Entry]] = {}
        self._whole: dict[model.Oid, model.Tree] = {}
        self._sha256: dict[model.Oid, model.Digest] = {}
        self._merged: dict[tuple[model.Oid, model.Oid], model.Oid | None] = {}
        self._headers: dict[model.Oid, tuple[model.Oid, tuple[model.Oid, ...]]] = {}
        self._order: list[model.Oid] = []  # commits, parents first
        self._reached: dict[model.Oid, int] = {}  # commit -> bit set of itself and its ancestors, by place in _order

    # --- ports.Repository ---

    def commit(self, oid: model.Oid) -> bytes:
        raw = self._object(b"commit", oid)
        if len(raw) > commit.MAX_BYTES:
            raise errors.PermanentError("limit", f"{oid} has {len(raw)} bytes")
        return raw

    def read(self, oid: model.Oid) -> bytes:
        raw = self._object(b"blob", oid)
        if len(raw) > self._max_blob_bytes:
            raise errors.PermanentError("limit", f"{oid} has {len(raw)} bytes")
        return raw

    def tree(self, commit: model.Oid) -> model.Tree:
        root = self.tree_id(commit)
        if root not in self._whole:
            flat = self._flatten(root, 1)
            if len(flat) > MAX_FILES or any(path.count(b"/") >= MAX_DEPTH for path in flat):
                raise errors.PermanentError("limit", f"the tree of {commit} is too large or too deep")
            self._whole[root] = flat
        return self._whole[root]

    def first_parents(self, tip: model.Oid, after: model.Oid) -> Iterator[model.Oid]:
        chain: list[model.Oid] = []
        self._reach(after)
        at: model.Oid | None = tip
        while at is not None and at != after:
            chain.append(at)
            at = next(iter(self.parents(at)), None)
        if at is None:
            raise self._not_below(tip, after)
        return reversed(chain)

    def _not_below(self, tip: model.Oid, after: model.Oid) -> errors.PermanentError:
        if self.is_ancestor(tip, after):
            return errors.PermanentError("rewind", f"{tip} is older than {after}")
        if self.is_ancestor(after, tip):
            return errors.PermanentError("first_parent_broken", f"{after} is in {tip}, but not along first parents")
        return errors.PermanentError("non_descendant", f"{tip} does not hold {after}")

    def brought_in(self, head: model.Oid, base: model.Oid) -> tuple[model.Oid, ...]:
        left, waiting, found = self._reach(head) & ~self._reach(base), [head], []
        while waiting:  # The order follows from the history alone, not from what was asked before.
            at = waiting[-1]
            bit = 1 << self._reached[at].bit_length() - 1
            after = [p for p in self.parents(at) if left & 1 << self._reached[p].bit_length() - 1] if left & bit else []
            if after:
                waiting += reversed(after)
                continue
            waiting.pop()
            if left & bit:
                found.append(at)
                left ^= bit
        return tuple(found)

    def merge_bases(self, one: model.Oid, other: model.Oid) -> tuple[model.Oid, ...]:
        common, found = self._reach(one) & self._reach(other), []
        while common:  # The last in order has no descendant among the rest.
            best = self._order[common.bit_length() - 1]
            found.append(best)
            common &= ~self._reach(best)
        return tuple(sorted(found))

    def automatic_merge(self, base: model.Oid, head: model.Oid) -> model.Oid | None:
        if (base, head) not in self._merged:
            self._merged[base, head] = self._merge(base, head)
        return self._merged[base, head]

    def envelopes(self, head: model.Oid) -> tuple[bytes, ...]:
        named = self._held.get(head[:12], {})
        if len(named) > MAX_ENVELOPES:
            raise errors.PermanentError("limit", f"{len(named)} approval refs for {head}")
        return tuple(named[name] for name in sorted(named))

    # --- ports.Source ---

    def fetch(self, after: model.Oid, heads: frozenset[model.Oid]) -> model.Oid:
        self.fetches += 1
        if self.down:
            raise errors.TransientError("source_error", "the remote is away")
        tip = self._pushed[max(0, len(self._pushed) - 1 - self.lagging)] if self._pushed else None
        if tip is None:
            raise errors.PermanentError("ref_missing", "the remote has no such ref")
        asked = heads | self._new_heads(tip, after)
        for head in sorted({each for one in asked for each in (one, *earlier.possible(self, one))}):
            if found := self._remote.get(head[:12]):
                self._held.setdefault(head[:12], {}).update(found)
        return tip

    def _new_heads(self, tip: model.Oid, after: model.Oid) -> frozenset[model.Oid]:
        try:
            return frozenset(head for merge in self.first_parents(tip, after) for head in self.parents(merge)[1:])
        except errors.PermanentError:
            return frozenset()  # What the walk says of such a history is the judge's to report.

    # --- what others do to the remote ---

    def push(self, tip: model.Oid | None) -> None:
        """Move the watched ref, by force where need be; None deletes it."""
        self._pushed.append(tip)

    def add_envelope(self, head: model.Oid, envelope: bytes, *, held: bool = True) -> None:
        """Put it under the refs of this head; with `held` false only a fetch that asks for the head brings it here."""
        for side in (self._remote, self._held) if held else (self._remote,):
            side.setdefault(head[:12], {})[model.sha256(envelope)] = envelope

    def remove_envelope(self, head: model.Oid, envelope: bytes) -> None:
        """Somebody deleted its ref, on both sides."""
        for side in (self._remote, self._held):
            side.get(head[:12], {}).pop(model.sha256(envelope), None)

    def damage(self, oid: model.Oid, content: bytes) -> None:
        """From now on these bytes lie where the object lay."""
        kind, _ = self._objects[oid]
        self._objects[oid] = (kind, content)
        self._forget()

    def lose(self, oid: model.Oid) -> None:
        del self._objects[oid]
        self._forget()

    # --- builders ---

    def add(self, kind: bytes, content: bytes) -> model.Oid:
        """Any object, well formed or not."""
        oid = commit.object_id(kind, content)
        self._objects.setdefault(oid, (kind, content))
        return oid

    def make_commit(
        self,
        files: Files,
        *parents: model.Oid,
        author: Who = ALICE,
        committer: Who | None = None,
        key: signing.Key | None = None,
        message: str = "change\n",
        time: int | None = None,
        tree: model.Oid | None = None,
    ) -> model.Oid:
        """A commit with these files changed against `tree`, or else against the first parent's tree; None removes."""
        if tree is None and parents:
            tree = self.tree_id(parents[0])
        changes = {_path(path): self._blob(content) for path, content in files.items()}
        root = self._change(tree, changes) or self.add(b"tree", b"")
        self._time += 1
        seconds = self._time if time is None else time
        lines = [f"tree {root}", *(f"parent {parent}" for parent in parents)]
        for role, person in (("author", author), ("committer", committer or author)):
            lines.append(f"{role} {person.name} <{person.email}> {seconds} +0000")
        unsigned = ("\n".join(lines) + "\n\n" + message).encode()
        return self.add(b"commit", signing.sign_commit(unsigned, key) if key else unsigned)

    def make_merge(
        self,
        base: model.Oid,
        head: model.Oid,
        key: signing.Key | None = None,
        *,
        files: Files | None = None,
        author: Who = FORGE,
        tree: model.Oid | None = None,
        time: int | None = None,
    ) -> model.Oid:
        """The automatic merge of the two, with `files` changed on top of it; where it conflicts, give a `tree`."""
        tree = tree or self.automatic_merge(base, head)
        if tree is None:
            raise ValueError(f"{base} and {head} conflict")
        message = f"Merge {head[:12]}\n"
        return self.make_commit(files or {}, base, head, author=author, key=key, message=message, tree=tree, time=time)

    def export(self, git_dir: Path) -> None:
        """Write every object, loose, into a real repository; refs are the caller's."""
        for oid, (kind, content) in self._objects.items():
            path = git_dir / "objects" / oid[:2] / oid[2:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(zlib.compress(b"%s %d\0%s" % (kind, len(content), content), 1))

    # --- commits ---

    def tree_id(self, commit: model.Oid) -> model.Oid:
        return self._header(commit)[0]

    def parents(self, commit: model.Oid) -> tuple[model.Oid, ...]:
        return self._header(commit)[1]

    def is_ancestor(self, one: model.Oid, other: model.Oid) -> bool:
        """Whether `one` is reachable from `other`; every commit is from itself."""
        return not self._reach(one) & ~self._reach(other)

    def _header(self, oid: model.Oid) -> tuple[model.Oid, tuple[model.Oid, ...]]:
        if oid not in self._headers:
            first, *lines = self._object(b"commit", oid).partition(b"\n\n")[0].decode(errors="replace").split("\n")
            parents = tuple(model.Oid(line[7:]) for line in lines if line.startswith("parent "))
            self._headers[oid] = (model.Oid(first.removeprefix("tree ")), parents)
        return self._headers[oid]

    def _reach(self, oid: model.Oid) -> int:
        waiting = [oid]
        while waiting:
            at = waiting[-1]
            missing = [] if at in self._reached else [p for p in self.parents(at) if p not in self._reached]
            if missing:
                waiting += reversed(missing)
                continue
            waiting.pop()
            if at not in self._reached:
                bits = 1 << len(self._order)
                for parent in self.parents(at):
                    bits |= self._reached[parent]
                self._order.append(at)
                self._reached[at] = bits
        return self._reached[oid]

    # --- trees ---

    def _object(self, kind: bytes, oid: model.Oid) -> bytes:
        found = self._objects.get(oid)
        if found is None:
            raise errors.TransientError("source_error", f"{kind.decode()} {oid} is missing")
        if found[0] != kind or commit.object_id(*found) != oid:
            raise errors.AuditError("object_hash", f"what lies at {oid} is no {kind.decode()} of this id")
        return found[1]

    def _tree_nodes(self, oid: model.Oid) -> Mapping[bytes, _Node]:
        if oid not in self._nodes:
            self._nodes[oid] = dict(_parse_tree(self._object(b"tree", oid)))
        return self._nodes[oid]

    def _flatten(self, oid: model.Oid, depth: int) -> dict[bytes, model.Entry]:
        if depth > 2 * MAX_DEPTH:
            raise errors.PermanentError("limit", f"the tree {oid} is too deep")
        if oid not in self._flat:
            flat: dict[bytes, model.Entry] = {}
            for name, node in self._tree_nodes(oid).items():
                if node.mode == _FOLDER:
                    below = self._flatten(node.oid, depth + 1)
                    flat.update((name + b"/" + path, entry) for path, entry in below.items())
                else:
                    flat[name] = model.Entry(node.mode, node.oid, self._blob_sha256(node))
            self._flat[oid] = flat
        return self._flat[oid]

    def _blob_sha256(self, node: _Node) -> model.Digest:
        if node.mode == GITLINK:
            return model.Digest("")
        if node.oid not in self._sha256:
            self._sha256[node.oid] = model.Digest(hashlib.sha256(self._object(b"blob", node.oid)).hexdigest())
        return self._sha256[node.oid]

    def _blob(self, content: Content) -> _Node | None:
        if content is None:
            return None
        mode, raw = content if isinstance(content, tuple) else (FILE, content)
        return _Node(mode, model.Oid(raw.decode()) if mode == GITLINK else self.add(b"blob", raw))

    def _change(self, tree: model.Oid | None, changes: Mapping[bytes, _Node | None]) -> model.Oid | None:
        """The id of the tree with these paths changed, None where nothing is left; only touched folders are written anew."""
        nodes = dict(self._tree_nodes(tree)) if tree else {}
        below: dict[bytes, dict[bytes, _Node | None]] = {}
        here: dict[bytes, _Node | None] = {}
        for path, node in changes.items():
            name, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(name, {})[rest] = node
            else:
                here[name] = node
        for name, inner in below.items():
            old = nodes.get(name)
            new = self._change(old.oid if old and old.mode == _FOLDER else None, inner)
            if new is not None:
                nodes[name] = _Node(_FOLDER, new)
            elif old and old.mode == _FOLDER:
                del nodes[name]
        for name, leaf in here.items():
            if leaf is not None:
                nodes[name] = leaf
            elif name not in below:
                nodes.pop(name, None)
        return self._write_tree(nodes) if nodes else None

    def _write_tree(self, nodes: Mapping[bytes, _Node]) -> model.Oid:
        def place(name: bytes) -> bytes:  # Git sorts a folder as if its name ended in a slash.
            return name + b"/" if nodes[name].mode == _FOLDER else name

        ordered = {name: nodes[name] for name in sorted(nodes, key=place)}
        oid = self.add(b"tree", b"".join(_tree_line(name, node) for name, node in ordered.items()))
        self._nodes[oid] = ordered
        return oid

    def _merge(self, base: model.Oid, head: model.Oid) -> model.Oid | None:
        ancestors = self.merge_bases(base, head)
        if len(ancestors) != 1:
            return None
        before, ours, theirs = (self.tree(each) for each in (ancestors[0], base, head))
        changes: dict[bytes, _Node | None] = {}
        for path in before.keys() | theirs.keys():
            old, own, other = before.get(path), ours.get(path), theirs.get(path)
            if other in {old, own}:
                continue
            if own != old:
                return None
            changes[path] = _Node(other.mode, other.oid) if other else None
        added = {path for path, node in changes.items() if node is not None and path not in ours}
        if added and _file_and_folder((ours.keys() | added) - {p for p, node in changes.items() if node is None}):
            return None
        return self._change(self.tree_id(base), changes) or self.add(b"tree", b"")


def _path(path: str | bytes) -> bytes:
    return path.encode() if isinstance(path, str) else path


def _file_and_folder(paths: set[bytes]) -> bool:
    folders: set[bytes] = set()
    for path in paths:
        folder = path.rpartition(b"/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition(b"/")[0]
    return not folders.isdisjoint(paths)


def _tree_line(name: bytes, node: _Node) -> bytes:
    return node.mode.lstrip("0").encode() + b" " + name + b"\0" + bytes.fromhex(node.oid)


def _parse_tree(raw: bytes) -> Iterator[tuple[bytes, _Node]]:
    at = 0
    while at < len(raw):
        space, end = raw.index(b" ", at), raw.index(b"\0", at)
        yield raw[space + 1 : end], _Node(raw[at:space].decode().zfill(6), model.Oid(raw[end + 1 : end + 21].hex()))
        at = end + 21
