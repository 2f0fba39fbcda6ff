"""Trees by our own parser: every blob of a commit's tree under its raw path, with the SHA-256 of its bytes.

What a name or a mode means is judged elsewhere (`admission`); here a tree is only read, strictly and within limits that
hold before anything is expanded. What lies below a directory is kept by tree id and digests by blob id, so that the tree
of a neighbouring commit costs what differs.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from reconciler import errors, model
from reconciler.git import objects

DIRECTORY = "040000"
GITLINK = "160000"
AHEAD = 1024  # directories of one level, and blobs, that are read ahead
KEPT_TREES = (
    6  # as many paths as so many of the largest trees: two neighbours with all that lies between root and leaves
)
MANY = 64  # files below a directory from which copying its neighbour is faster than putting it together

_LINES = {
    size: re.compile(rb"(40000|100[0-7]{3}|120000|160000) ([^\0/]+)\0(.{%d})" % size, re.DOTALL) for size in (20, 32)
}
_REFUSED_NAMES = frozenset((b".", b"..", b".git"))

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Limits:
    """What a repository may ask of us (trust.md 6.3). Beyond is PermanentError(limit)."""

    commit_bytes: int = 64 << 10
    blob_bytes: int = 1 << 20
    directory_bytes: int = 16 << 20  # of one raw tree object
    tree_bytes: int = 4 << 30  # of all files of a commit
    files: int = 100_000
    depth: int = 32
    path_bytes: int = 1024
    commits: int = 10_000  # that one head may bring in
    envelope_bytes: int = 64 << 10
    envelopes: int = 4096


DEFAULT_LIMITS = Limits()


class Name(NamedTuple):
    """One line of a directory."""

    name: bytes
    mode: str  # six digits
    oid: model.Oid


Directory = tuple[Name, ...]


class _Digest(NamedTuple):
    sha256: model.Digest
    size_bytes: int


class _Extent(NamedTuple):
    """How much lies below a directory, whatever the files hold."""

    files: int
    folders: int
    depth: int
    path_bytes: int  # of the longest path


class _Below(NamedTuple):
    """All that lies below a directory, under paths relative to it, in git's order."""

    entries: model.Tree
    extent: _Extent
    size_bytes: int  # of all files
    neighbour: model.Oid | None = None  # a directory with the same paths below it
    changed: tuple[bytes, ...] = ()  # the paths whose entries differ from the neighbour's


class _Neighbour(NamedTuple):
    """A directory and all that lies below it: one of the same names and modes differs from it in a few places."""

    oid: model.Oid
    directory: Directory
    entries: dict[bytes, model.Entry]


def parse_tree(raw: bytes, *, oid_bytes: int = 20) -> tuple[Name, ...]:
    """Parse a raw tree object: `mode SP name NUL oid` repeated, in git's order, without duplicates.

    Any mode of a plain file passes (`100664` is for the judge); the names that cannot be part of a path do not.

    Raises: PermanentError(fsck).
    """
    lines = _LINES[oid_bytes].findall(raw)
    if sum(len(mode) + len(name) + len(oid) + 2 for mode, name, oid in lines) != len(raw):
        raise _malformed("an entry is cut short, or has a mode or a name that there is not")
    names = {name: None for _, name, _ in lines}
    if any(name.lower() in _REFUSED_NAMES for name in names):
        raise _malformed("a name that cannot be part of a path")
    # git sorts a directory as if its name ended in a slash; so equal names need not be neighbours.
    keys = [name + b"/" if mode == b"40000" else name for mode, name, _ in lines]
    if len(names) != len(lines) or any(before >= key for before, key in pairwise(keys)):
        raise _malformed("an entry is out of order or stands there twice")
    return tuple(Name(name, mode.decode().zfill(6), model.Oid(oid.hex())) for mode, name, oid in lines)


def _malformed(what: str) -> errors.PermanentError:
    return errors.PermanentError("fsck", f"malformed tree: {what}", fix="write the tree with git itself")


class TreeReader:
    """Makes a `model.Tree` of a root tree id. One walk at a time."""

    def __init__(self, reader: objects.ObjectReader, *, object_format: str, limits: Limits) -> None:
        self._reader = reader
        self._oid_bytes = 32 if object_format == "sha256" else 20
        self._limits = limits
        self._lock = threading.Lock()
        self._directories: dict[model.Oid, Directory] = {}  # read ahead, and not yet expanded
        self._digests: OrderedDict[model.Oid, _Digest] = OrderedDict()
        self._below: OrderedDict[model.Oid, _Below] = OrderedDict()
        self._paths = 0  # in all of `_below`
        self._neighbours: OrderedDict[tuple[tuple[bytes, str], ...], _Neighbour] = OrderedDict()

    def tree(self, root: model.Oid) -> model.Tree:
        """Every file, symlink and gitlink below `root`.

        Raises: PermanentError(fsck, limit), AuditError(object_hash), TransientError(source_error).
        """
        with self._lock:
            if root not in self._below:
                self._forget()
                unknown = self._read_directories(root)
                extents = self._measure(root, unknown)  # Before a blob is read, and before anything is multiplied.
                digests = self._read_digests(unknown)
                for oid, extent in extents.items():
                    self._below[oid] = self._expand(oid, unknown[oid], extent, digests)
                    self._paths += extent.files + 1
            self._below.move_to_end(root)
            return self._below[root].entries

    def read_ahead(self, roots: Iterable[model.Oid]) -> None:
        """Read what `tree` will ask for of these roots, as far as it is small, level by level for all of them at once.

        Never raises for an object: what is wrong with one is told when its tree is asked for.
        """
        with self._lock:
            self._directories.clear()
            level, blobs, names = dict.fromkeys(roots), dict[model.Oid, None](), 0
            while level and names <= self._limits.files:
                below = dict[model.Oid, None]()
                for directory in self._read_small(level):
                    names += len(directory)
                    below |= dict.fromkeys(line.oid for line in directory if line.mode == DIRECTORY)
                    blobs |= dict.fromkeys(line.oid for line in directory if line.mode not in {DIRECTORY, GITLINK})
                level = below
            unread = (oid for oid in blobs if oid not in self._digests)
            self._reader.read_ahead(islice(unread, AHEAD), "blob", self._limits.blob_bytes)

    def _read_small(self, oids: Iterable[model.Oid]) -> Iterator[Directory]:
        """Directories that were never expanded, as far as they can be had."""
        unread = (oid for oid in oids if oid not in self._below and oid not in self._directories)
        for oid, raw in self._reader.read_ahead(islice(unread, AHEAD), "tree", self._limits.directory_bytes).items():
            with contextlib.suppress(errors.PermanentError):
                self._directories[oid] = parse_tree(raw, oid_bytes=self._oid_bytes)
                yield self._directories[oid]

    def _read_directories(self, root: model.Oid) -> Mapping[model.Oid, Directory]:
        """The directories from root down to those whose content is known; each is read once however often it is named."""
        found: dict[model.Oid, Directory] = {}
        level, names = {root: None} if root not in self._below else {}, 0  # A dict, because its order is the tree's.
        for _ in range(self._limits.depth):
            below: dict[model.Oid, None] = {}
            for oid, directory in self._read_level(tuple(level)):
                found[oid] = directory
                names += len(directory)
                below |= dict.fromkeys(line.oid for line in directory if line.mode == DIRECTORY)
                # As many directories as files are let through; what lies in them is counted afterwards.
                if names > 2 * self._limits.files:
                    raise _beyond("files", self._limits.files)
            level = {oid: None for oid in below if oid not in found and oid not in self._below}
            if not level:
                return found
        raise _beyond("depth", self._limits.depth)

    def _read_level(self, oids: tuple[model.Oid, ...]) -> Iterator[tuple[model.Oid, Directory]]:
        found = {oid: self._directories[oid] for oid in oids if oid in self._directories}
        yield from found.items()
        unread = (oid for oid in oids if oid not in found)
        for oid, raw in self._reader.read_many(unread, "tree", self._limits.directory_bytes):
            yield oid, parse_tree(raw, oid_bytes=self._oid_bytes)

    def _measure(self, root: model.Oid, directories: Mapping[model.Oid, Directory]) -> Mapping[model.Oid, _Extent]:
        """The extent of each of these, inner ones first.

        Raises: PermanentError(limit), however often a directory repeats.
        """
        known: dict[model.Oid, _Extent] = {}

        def measure(oid: model.Oid) -> _Extent:
            if oid not in directories:
                return self._below[oid].extent
            if oid not in known:
                known[oid] = _sum(directories[oid], measure)
                self._check_limits(known[oid])
            return known[oid]

        measure(root)
        return known

    def _check_limits(self, extent: _Extent) -> None:
        if max(extent.files, extent.folders) > self._limits.files:
            raise _beyond("files", self._limits.files)
        if extent.depth > self._limits.depth:
            raise _beyond("depth", self._limits.depth)
        if extent.path_bytes > self._limits.path_bytes:
            raise _beyond("path bytes", self._limits.path_bytes)

    def _read_digests(self, directories: Mapping[model.Oid, Directory]) -> Mapping[model.Oid, _Digest]:
        lines = (line for directory in directories.values() for line in directory)
        blobs = dict.fromkeys(line.oid for line in lines if line.mode not in {DIRECTORY, GITLINK})
        found = {oid: self._digests[oid] for oid in blobs if oid in self._digests}
        known_bytes = sum(digest.size_bytes for digest in found.values())
        unread = (oid for oid in blobs if oid not in found)
        for oid, content in self._reader.read_many(unread, "blob", self._limits.blob_bytes):
            found[oid] = _Digest(model.sha256(content), len(content))
            _keep_newest(self._digests, oid, found[oid], 2 * self._limits.files)
            known_bytes += len(content)
            if known_bytes > self._limits.tree_bytes:
                raise _beyond("bytes", self._limits.tree_bytes)
        return found

    def _expand(
        self, oid: model.Oid, directory: Directory, extent: _Extent, digests: Mapping[model.Oid, _Digest]
    ) -> _Below:
        """Put together what lies below, from what is known of the directories in it."""
        inner = [line.oid for line in directory if line.mode == DIRECTORY]
        size_bytes = sum(self._below[each].size_bytes for each in inner)
        size_bytes += sum(digests[line.oid].size_bytes for line in directory if line.mode not in {DIRECTORY, GITLINK})
        if size_bytes > self._limits.tree_bytes:  # Also when all was known: the answer may not depend on what is kept.
            raise _beyond("bytes", self._limits.tree_bytes)
        for each in inner:
            self._below.move_to_end(each)
        shape = tuple((line.name, line.mode) for line in directory)
        neighbour = self._neighbours.get(shape)
        changes = self._changes(directory, neighbour.directory, digests) if neighbour else None
        if neighbour is None or changes is None:
            entries = {path: entry for line in directory for path, entry in self._entries(line, digests)}
            found = _Below(MappingProxyType(entries), extent, size_bytes)
        else:  # Only values change: the order of the paths stays.
            entries = neighbour.entries | changes
            found = _Below(MappingProxyType(entries), extent, size_bytes, neighbour.oid, tuple(changes))
        if extent.files >= MANY:
            _keep_newest(self._neighbours, shape, _Neighbour(oid, directory, entries), KEPT_TREES)
        return found

    def _entries(self, line: Name, digests: Mapping[model.Oid, _Digest]) -> Iterable[tuple[bytes, model.Entry]]:
        """All that lies at or below one line."""
        if line.mode == DIRECTORY:
            below, prefix = self._below[line.oid].entries, line.name + b"/"
            return zip([prefix + path for path in below], below.values(), strict=True)
        sha256 = model.Digest("") if line.mode == GITLINK else digests[line.oid].sha256
        return ((line.name, model.Entry(line.mode, line.oid, sha256)),)

    def _changes(
        self, directory: Directory, before: Directory, digests: Mapping[model.Oid, _Digest]
    ) -> dict[bytes, model.Entry] | None:
        """What differs from a directory of the same names and modes; None where there are other paths below."""
        changes: dict[bytes, model.Entry] = {}
        for line, old in zip(directory, before, strict=True):
            if line == old:
                continue
            if line.mode == DIRECTORY:
                below = self._below[line.oid]
                if below.neighbour == old.oid:
                    changes |= {line.name + b"/" + path: below.entries[path] for path in below.changed}
                    continue
                if old.oid not in self._below or below.entries.keys() != self._below[old.oid].entries.keys():
                    return None
            changes.update(self._entries(line, digests))
        return changes

    def _forget(self) -> None:
        """Drop what was used least lately, beyond some whole trees of paths."""
        while self._paths > KEPT_TREES * self._limits.files:
            _, oldest = self._below.popitem(last=False)
            self._paths -= oldest.extent.files + 1


def _sum(directory: Directory, measure: Callable[[model.Oid], _Extent]) -> _Extent:
    files = folders = depth = path_bytes = 0
    for line in directory:
        if line.mode == DIRECTORY:
            below = measure(line.oid)
            files, folders, depth = files + below.files, folders + 1 + below.folders, max(depth, below.depth)
            path_bytes = max(path_bytes, len(line.name) + 1 + below.path_bytes)
        else:
            files, path_bytes = files + 1, max(path_bytes, len(line.name))
    return _Extent(files, folders, depth + 1, path_bytes)


def _beyond(what: str, limit: int) -> errors.PermanentError:
    return errors.PermanentError("limit", f"the tree goes beyond the limit of {limit} {what}")


def _keep_newest(cache: OrderedDict[K, V], key: K, value: V, size: int) -> None:
    cache[key] = value
    if len(cache) > size:
        cache.popitem(last=False)
