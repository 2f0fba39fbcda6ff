"""Trees by our own parser: every blob of a commit's tree under its raw path, with the SHA-256 of its bytes.

What a name or a mode means is judged elsewhere (`admission`); here a tree is only read, strictly and within limits that
hold before anything is expanded. What lies below a directory is kept by tree id and digests by blob id, so that the tree
of a neighbouring commit costs what differs.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from reconciler import errors, model
from reconciler.git import objects

DIRECTORY = "040000"
GITLINK = "160000"
AHEAD = 1024  # directories of one level, and blobs, that are read ahead
KEPT_TREES = 6  # in paths of the largest tree: two neighbours with all that lies between root and leaves
KEPT_PATHS = 100_000  # however small the trees are
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


_Likeness = tuple[
    int, bytes, bytes
]  # where to look for a directory of the same names: their number, the first, the last


@dataclass(frozen=True)
class Directory:
    """What a tree object says, as it stands there and sorted out."""

    lines: tuple[Name, ...]
    folders: tuple[model.Oid, ...]
    blobs: tuple[model.Oid, ...]

    @property
    def likeness(self) -> _Likeness:
        return len(self.lines), *((self.lines[0].name, self.lines[-1].name) if self.lines else (b"", b""))


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
    entries: dict[bytes, model.Entry]  # of `below`, to be copied in one go
    below: _Below


Pairs = list[tuple[Name, Name]]  # lines that differ: the new one, the neighbour's


def parse_tree(raw: bytes, *, oid_bytes: int = 20) -> tuple[Name, ...]:
    """Parse a raw tree object: `mode SP name NUL oid` repeated, in git's order, without duplicates.

    Any mode of a plain file passes (`100664` is for the judge); the names that cannot be part of a path do not.

    Raises: PermanentError(fsck).
    """
    found = _LINES[oid_bytes].findall(raw)
    if sum(map(len, chain.from_iterable(found))) + 2 * len(found) != len(raw):
        raise _malformed("an entry is cut short, or has a mode or a name that there is not")
    lines = tuple(map(_line, found))
    # git sorts a directory as if its name ended in a slash; so equal names need not be neighbours.
    keys = [name + b"/" if mode == DIRECTORY else name for name, mode, _ in lines]
    distinct = len({name for name, _, _ in lines}) == len(lines)
    if not distinct or not all(map(operator.lt, keys, keys[1:])):
        raise _malformed("an entry is out of order or stands there twice")
    return lines


@functools.lru_cache(maxsize=1 << 15)  # The directories of neighbouring commits differ in one line or two.
def _line(found: tuple[bytes, bytes, bytes]) -> Name:
    mode, name, oid = found
    if name.lower() in _REFUSED_NAMES:
        raise _malformed(f"the name {name.decode()!r} cannot be part of a path")
    return Name(name, mode.decode().zfill(6), model.Oid(oid.hex()))


def _read_directory(raw: bytes, oid_bytes: int) -> Directory:
    lines = parse_tree(raw, oid_bytes=oid_bytes)
    folders = tuple([oid for _, mode, oid in lines if mode == DIRECTORY])
    return Directory(lines, folders, tuple([oid for _, mode, oid in lines if mode not in {DIRECTORY, GITLINK}]))


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
        self._largest = 0  # files in the largest tree
        self._neighbours: OrderedDict[_Likeness, _Neighbour] = OrderedDict()

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
                self._largest = max(self._largest, extents[root].files)
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
                    names += len(directory.lines)
                    below |= dict.fromkeys(directory.folders)
                    blobs |= dict.fromkeys(directory.blobs)
                level = below
            unread = (oid for oid in blobs if oid not in self._digests)
            self._reader.read_ahead(islice(unread, AHEAD), "blob", self._limits.blob_bytes)

    def _read_small(self, oids: Iterable[model.Oid]) -> Iterator[Directory]:
        """Directories that were never expanded, as far as they can be had."""
        unread = (oid for oid in oids if oid not in self._below and oid not in self._directories)
        for oid, raw in self._reader.read_ahead(islice(unread, AHEAD), "tree", self._limits.directory_bytes).items():
            with contextlib.suppress(errors.PermanentError):
                self._directories[oid] = _read_directory(raw, self._oid_bytes)
                yield self._directories[oid]

    def _read_directories(self, root: model.Oid) -> Mapping[model.Oid, Directory]:
        """The directories from root down to those whose content is known; each is read once however often it is named."""
        found: dict[model.Oid, Directory] = {}
        level, names = {root: None} if root not in self._below else {}, 0  # A dict, because its order is the tree's.
        for _ in range(self._limits.depth):
            below: dict[model.Oid, None] = {}
            for oid, directory in self._read_level(tuple(level)):
                found[oid] = directory
                names += len(directory.lines)
                below |= dict.fromkeys(directory.folders)
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
            yield oid, _read_directory(raw, self._oid_bytes)

    def _measure(self, root: model.Oid, directories: Mapping[model.Oid, Directory]) -> Mapping[model.Oid, _Extent]:
        """The extent of each of these, inner ones first.

        Raises: PermanentError(limit), however often a directory repeats.
        """
        known: dict[model.Oid, _Extent] = {}

        def measure(oid: model.Oid) -> _Extent:
            if oid not in directories:
                return self._below[oid].extent
            if oid not in known:
                directory = directories[oid]
                for inner in directory.folders:
                    if inner in directories and inner not in known:
                        measure(inner)
                known[oid] = self._extent_beside(directory, measure) or _sum(directory, measure)
                self._check_limits(known[oid])
            return known[oid]

        measure(root)
        return known

    def _extent_beside(self, directory: Directory, measure: Callable[[model.Oid], _Extent]) -> _Extent | None:
        """That of its neighbour, where all that differs has the same extent there."""
        if (found := self._neighbour(directory)) is None:
            return None
        neighbour, pairs = found
        for line, old in pairs:
            if line.mode == DIRECTORY:
                before = self._below.get(old.oid)
                if before is None or before.extent != measure(line.oid):
                    return None
        return neighbour.below.extent

    def _neighbour(self, directory: Directory) -> tuple[_Neighbour, Pairs] | None:
        """The directory of the same names and modes that was expanded last, and where they differ."""
        neighbour = self._neighbours.get(directory.likeness)
        if neighbour is None:
            return None
        both = zip(directory.lines, neighbour.directory.lines, strict=True)
        pairs = [(line, old) for line, old in both if line is not old and line != old]
        return (neighbour, pairs) if all(line[:2] == old[:2] for line, old in pairs) else None

    def _check_limits(self, extent: _Extent) -> None:
        if max(extent.files, extent.folders) > self._limits.files:
            raise _beyond("files", self._limits.files)
        if extent.depth > self._limits.depth:
            raise _beyond("depth", self._limits.depth)
        if extent.path_bytes > self._limits.path_bytes:
            raise _beyond("path bytes", self._limits.path_bytes)

    def _read_digests(self, directories: Mapping[model.Oid, Directory]) -> Mapping[model.Oid, _Digest]:
        blobs = dict.fromkeys(chain.from_iterable(directory.blobs for directory in directories.values()))
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
        neighbour, pairs = self._neighbour(directory) or (None, [])
        size_bytes = self._size_beside(neighbour, pairs, digests) if neighbour else None
        if size_bytes is None:
            size_bytes = sum(self._below[each].size_bytes for each in directory.folders)
            size_bytes += sum(digests[each].size_bytes for each in directory.blobs)
        if size_bytes > self._limits.tree_bytes:  # Also when all was known: the answer may not depend on what is kept.
            raise _beyond("bytes", self._limits.tree_bytes)
        if 2 * self._paths > KEPT_PATHS:  # There may be something to forget soon: not what is in use.
            for each in directory.folders:
                self._below.move_to_end(each)
        changes = self._changes(pairs, digests) if neighbour else None
        if neighbour is None or changes is None:
            entries = {path: entry for line in directory.lines for path, entry in self._entries(line, digests)}
            found = _Below(MappingProxyType(entries), extent, size_bytes)
        else:  # Only values change: the order of the paths stays.
            entries = neighbour.entries | changes
            found = _Below(MappingProxyType(entries), extent, size_bytes, neighbour.oid, tuple(changes))
        if extent.files >= MANY:
            _keep_newest(self._neighbours, directory.likeness, _Neighbour(oid, directory, entries, found), KEPT_TREES)
        return found

    def _size_beside(self, neighbour: _Neighbour, pairs: Pairs, digests: Mapping[model.Oid, _Digest]) -> int | None:
        """The neighbour's, corrected by what differs; None where it is no longer known what stood there."""
        size_bytes = neighbour.below.size_bytes
        for line, old in pairs:
            if line.mode == GITLINK:
                continue
            now, before = (self._below, self._below) if line.mode == DIRECTORY else (digests, self._digests)
            if old.oid not in before:
                return None
            size_bytes += now[line.oid].size_bytes - before[old.oid].size_bytes
        return size_bytes

    def _entries(self, line: Name, digests: Mapping[model.Oid, _Digest]) -> Iterable[tuple[bytes, model.Entry]]:
        """All that lies at or below one line."""
        if line.mode == DIRECTORY:
            below, prefix = self._below[line.oid].entries, line.name + b"/"
            return zip([prefix + path for path in below], below.values(), strict=True)
        sha256 = model.Digest("") if line.mode == GITLINK else digests[line.oid].sha256
        return ((line.name, model.Entry(line.mode, line.oid, sha256)),)

    def _changes(self, pairs: Pairs, digests: Mapping[model.Oid, _Digest]) -> dict[bytes, model.Entry] | None:
        """What differs from the neighbour; None where there are other paths below."""
        changes: dict[bytes, model.Entry] = {}
        for line, old in pairs:
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
        """Drop what was used least lately, beyond some whole trees of paths. What is kept, the garbage collector visits."""
        most = min(KEPT_TREES * self._limits.files, max(KEPT_PATHS, KEPT_TREES * self._largest))
        while self._paths > most:
            _, oldest = self._below.popitem(last=False)
            self._paths -= oldest.extent.files + 1


def _sum(directory: Directory, measure: Callable[[model.Oid], _Extent]) -> _Extent:
    files = folders = depth = path_bytes = 0
    for line in directory.lines:
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
