"""Trees by our own parser: every blob of a commit's tree under its raw path, with the SHA-256 of its bytes.

What a name or a mode means is judged elsewhere (`admission`); here a tree is only read, strictly and within limits that
hold before anything is expanded. Directories are cached by tree id and digests by blob id, so that the tree of a
neighbouring commit costs what differs.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from reconciler import errors, model
from reconciler.git import objects

DIRECTORY = "040000"
GITLINK = "160000"

_MODE = re.compile(rb"40000|100[0-7]{3}|120000|160000")
_REFUSED_NAMES = frozenset((b"", b".", b"..", b".git"))

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


class _Digest(NamedTuple):
    sha256: model.Digest
    size_bytes: int


def parse_tree(raw: bytes, *, oid_bytes: int = 20) -> tuple[Name, ...]:
    """Parse a raw tree object: `mode SP name NUL oid` repeated, in git's order, without duplicates.

    Any mode of a plain file passes (`100664` is for the judge); the names that cannot be part of a path do not.

    Raises: PermanentError(fsck).
    """
    names: list[Name] = []
    at, before = 0, b""
    seen: set[bytes] = set()
    while at < len(raw):
        space = raw.find(b" ", at, at + 7)
        end = raw.find(b"\0", space)
        if space < 0 or end < 0 or end + 1 + oid_bytes > len(raw):
            raise _malformed("an entry is cut short")
        mode, name = raw[at:space], raw[space + 1 : end]
        if not _MODE.fullmatch(mode):
            raise _malformed(f"mode {mode!r}")
        if name.lower() in _REFUSED_NAMES or b"/" in name:
            raise _malformed(f"name {name[:80]!r}")
        # git sorts a directory as if its name ended in a slash; so equal names need not be neighbours.
        key = name + b"/" if mode == b"40000" else name
        if key <= before or name in seen:
            raise _malformed(f"{name[:80]!r} is out of order or stands there twice")
        seen.add(name)
        at, before = end + 1 + oid_bytes, key
        names.append(Name(name, mode.decode().zfill(6), model.Oid(raw[end + 1 : at].hex())))
    return tuple(names)


def _malformed(what: str) -> errors.PermanentError:
    return errors.PermanentError("fsck", f"malformed tree: {what}", fix="write the tree with git itself")


class TreeReader:
    """Makes a `model.Tree` of a root tree id. One walk at a time."""

    def __init__(self, reader: objects.ObjectReader, *, object_format: str, limits: Limits) -> None:
        self._reader = reader
        self._oid_bytes = 32 if object_format == "sha256" else 20
        self._limits = limits
        self._lock = threading.Lock()
        self._directories: OrderedDict[model.Oid, tuple[Name, ...]] = OrderedDict()
        self._digests: OrderedDict[model.Oid, _Digest] = OrderedDict()
        self._whole: OrderedDict[model.Oid, model.Tree] = OrderedDict()

    def tree(self, root: model.Oid) -> model.Tree:
        """Every file, symlink and gitlink below `root`.

        Raises: PermanentError(fsck, limit), AuditError(object_hash), TransientError(source_error).
        """
        with self._lock:
            if root not in self._whole:
                files = tuple(_expand(root, self._read_directories(root), self._limits))
                digests = self._read_digests(files)
                _remember(self._whole, root, MappingProxyType(dict(_entries(files, digests))), 8)
            return self._whole[root]

    def _read_directories(self, root: model.Oid) -> Mapping[model.Oid, tuple[Name, ...]]:
        """All directories below root, level by level, each read once however often it is named."""
        known: dict[model.Oid, tuple[Name, ...]] = {}
        level, names = {root: None}, 0  # A dict, because its order is that of the tree.
        for _ in range(self._limits.depth):
            below: dict[model.Oid, None] = {}
            for oid, directory in self._read_level(tuple(level)):
                known[oid] = directory
                names += len(directory)
                below |= dict.fromkeys(line.oid for line in directory if line.mode == DIRECTORY)
                # As many directories as files are let through; the files themselves are counted when they are expanded.
                if names > 2 * self._limits.files:
                    raise _beyond("files", self._limits.files)
            level = {oid: None for oid in below if oid not in known}
            if not level:
                return known
        raise _beyond("depth", self._limits.depth)

    def _read_level(self, oids: tuple[model.Oid, ...]) -> Iterator[tuple[model.Oid, tuple[Name, ...]]]:
        found = {oid: self._directories[oid] for oid in oids if oid in self._directories}
        yield from found.items()
        unread = (oid for oid in oids if oid not in found)
        for oid, raw in self._reader.read_many(unread, "tree", self._limits.directory_bytes):
            directory = parse_tree(raw, oid_bytes=self._oid_bytes)
            _remember(self._directories, oid, directory, self._limits.files)
            yield oid, directory

    def _read_digests(self, files: tuple[tuple[bytes, Name], ...]) -> Mapping[model.Oid, _Digest]:
        blobs = dict.fromkeys(line.oid for _, line in files if line.mode != GITLINK)
        found = {oid: self._digests[oid] for oid in blobs if oid in self._digests}
        known_bytes = sum(digest.size_bytes for digest in found.values())
        unread = (oid for oid in blobs if oid not in found)
        for oid, content in self._reader.read_many(unread, "blob", self._limits.blob_bytes):
            found[oid] = _Digest(model.sha256(content), len(content))
            _remember(self._digests, oid, found[oid], 2 * self._limits.files)
            known_bytes += len(content)
            if known_bytes > self._limits.tree_bytes:
                break
        if known_bytes > self._limits.tree_bytes:  # Also when all was known: the answer may not depend on the cache.
            raise _beyond("bytes", self._limits.tree_bytes)
        return found


def _expand(
    root: model.Oid, directories: Mapping[model.Oid, tuple[Name, ...]], limits: Limits
) -> Iterator[tuple[bytes, Name]]:
    """Every path that is not a directory, in git's order; stops at the limits, however often a directory repeats."""
    pending: list[Iterator[tuple[bytes, Name]]] = [((b"", line) for line in directories[root])]
    files = folders = 0
    while pending:
        for prefix, line in pending[-1]:
            path = prefix + line.name
            if len(path) > limits.path_bytes:
                raise _beyond("path bytes", limits.path_bytes)
            if line.mode == DIRECTORY:
                folders += 1
                if len(pending) >= limits.depth:
                    raise _beyond("depth", limits.depth)
                below = directories[line.oid]
                pending.append(iter([(path + b"/", child) for child in below]))
                break
            files += 1
            yield path, line
        else:
            pending.pop()
        if max(files, folders) > limits.files:
            raise _beyond("files", limits.files)


def _entries(
    files: tuple[tuple[bytes, Name], ...], digests: Mapping[model.Oid, _Digest]
) -> Iterator[tuple[bytes, model.Entry]]:
    for path, line in files:
        sha256 = model.Digest("") if line.mode == GITLINK else digests[line.oid].sha256
        yield path, model.Entry(line.mode, line.oid, sha256)


def _beyond(what: str, limit: int) -> errors.PermanentError:
    return errors.PermanentError("limit", f"the tree goes beyond the limit of {limit} {what}")


def _remember(cache: OrderedDict[K, V], key: K, value: V, size: int) -> None:
    """Keep the newest `size`; what a walk needs it holds itself."""
    cache[key] = value
    if len(cache) > size:
        cache.popitem(last=False)
