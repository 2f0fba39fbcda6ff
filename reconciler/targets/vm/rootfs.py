"""A folder tree that others may try to turn against us: every part is opened relative to its parent and never through a symlink.

Reads only. What is found wrong is a PermanentError that names the path: `symlink`, `special`, `writable`, `denied`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Self

from reconciler import errors
from reconciler.targets.vm import document

MAX_FILE_BYTES = 256 << 20  # of a file that is compared; larger ones are refused
CHUNK_BYTES = 1 << 20
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # O_NONBLOCK: a FIFO must not hold us.

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM})


class Root:
    """The opened root of one target. Directories are opened once and kept until it is closed."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.path = path  # absolute, of the folder that was really opened
        self._open: dict[tuple[str, ...], int] = {(): descriptor}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open = {}

    def directory(self, path: str) -> int:
        """The descriptor of a folder below the root, "" for the root itself; owned by this object.

        Raises: FileNotFoundError; PermanentError(symlink | writable | denied).
        """
        parts = tuple(path.split("/")) if path else ()
        for depth in range(1, len(parts) + 1):
            here = parts[:depth]
            if here not in self._open:
                self._open[here] = _open_directory(here[-1], self._open[here[:-1]], "/".join(here))
        return self._open[parts]

    def parent(self, path: str) -> tuple[int, str]:
        """The descriptor of the folder that holds this path, and the name in it."""
        above, _, name = path.rpartition("/")
        return self.directory(above), name

    def look(self, path: str) -> document.State | None:
        """What is there; None where nothing is.

        Raises: PermanentError(symlink | special | writable | denied | limit).
        """
        try:
            above, name = self.parent(path)
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):  # Not opened: one that others may write is drift that can be mended.
                return _state(found)
            with self.reading(path) as descriptor:
                return _state(os.fstat(descriptor), *_hash(descriptor, path))
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise refused(exc, path) from exc

    @contextmanager
    def reading(self, path: str) -> Iterator[int]:
        """The descriptor of a regular file."""
        above, name = self.parent(path)
        try:
            descriptor = os.open(name, REGULAR, dir_fd=above)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # A socket, or a FIFO without a writer.
                raise errors.PermanentError("special", f"{path} is no regular file") from exc
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise errors.PermanentError("special", f"{path} is no regular file")
            yield descriptor
        finally:
            os.close(descriptor)

    def content(self, path: str, limit_bytes: int) -> bytes:
        """At most the first `limit_bytes` of a file."""
        with self.reading(path) as descriptor:
            return b"".join(_chunks(descriptor, limit_bytes))

    def names(self, path: str) -> list[str]:
        """What a folder holds, sorted, our own folder and temporary files left out; nothing where it does not exist."""
        try:
            return sorted(n for n in os.listdir(self.directory(path)) if not n.startswith(document.OURS))  # noqa: PTH208
        except FileNotFoundError:
            return []


def open_root(root: str, local_roots: Sequence[Path]) -> Root:
    """Open the root of a target that lies in or under one of the folders that the daemon's configuration lets us write.

    A configured folder may be reached through symlinks, because its owner wrote that down; nothing below it may.
    Raises: ConfigError(local_root | root); PermanentError(symlink | writable | denied).
    """
    allowed, below = _allowed(root, local_roots)
    try:
        descriptor = os.open(allowed, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise errors.ConfigError("local_root", f"{allowed}: {exc.strerror}", fix="make the folder") from exc
    with Root(descriptor, str(allowed)) as outer:
        _judge(descriptor, str(allowed))
        try:
            return Root(os.dup(outer.directory(below)), str(allowed / below))
        except (
            FileNotFoundError
        ) as exc:  # Never taken for an empty one: a missing mount must not look like missing files.
            raise errors.ConfigError("root", f"{root} does not exist", fix="make the folder first") from exc


def check_root(root: str, local_roots: Sequence[Path]) -> None:
    """Whether the root may be used at all, by its text alone.

    Raises: ConfigError(local_root).
    """
    _allowed(root, local_roots)


def _allowed(root: str, local_roots: Sequence[Path]) -> tuple[Path, str]:
    path = PurePosixPath(root)
    if not path.is_absolute() or ".." in path.parts or "\0" in root:
        raise errors.ConfigError("local_root", f"connection.root {root!r} is not an absolute path without ..")
    for local in local_roots:
        real = local.resolve()
        for start in (local, real):
            if start.is_absolute() and path.is_relative_to(start):
                below = path.relative_to(start)
                return real, "" if below == PurePosixPath() else str(below)
    fix = "add the folder to local.roots in the daemon's configuration"
    raise errors.ConfigError("local_root", f"connection.root {root} is under no folder of local.roots", fix=fix)


def refused(exc: OSError, path: str) -> errors.PermanentError:
    """What the operating system says no with, as a stable code."""
    code, words = _words(exc)
    return errors.PermanentError(code, f"{path}: {words}")


def _words(exc: OSError) -> tuple[str, str]:
    if exc.errno in _DISK_FULL:
        return "disk_full", "no room for it"
    if exc.errno == errno.EROFS:
        return "read_only", "the file system is read-only"
    if exc.errno in _DENIED:
        return "denied", "not permitted"
    if exc.errno == errno.ELOOP:
        return "symlink", "a symlink is in the way"
    if exc.errno == errno.ENOTEMPTY:
        return "not_empty", "it holds what nobody declared"
    return "io", exc.strerror or "input/output error"


def _open_directory(name: str, above: int, shown: str) -> int:
    try:
        descriptor = os.open(name, DIRECTORY, dir_fd=above)
    except NotADirectoryError as exc:  # What Linux says of a symlink too when O_DIRECTORY stands beside O_NOFOLLOW.
        raise _in_the_way(name, above, shown) from exc
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise refused(exc, shown) from exc
    try:
        _judge(descriptor, shown)
    except errors.PermanentError:
        os.close(descriptor)
        raise
    return descriptor


def _in_the_way(name: str, above: int, shown: str) -> errors.PermanentError:
    if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
        return errors.PermanentError("symlink", f"{shown} is a symlink", fix="put a real folder there")
    return errors.PermanentError("special", f"{shown} is no folder")


def _judge(descriptor: int, shown: str) -> None:
    """A folder that anybody may write is a folder in which anybody may swap our files."""
    if os.fstat(descriptor).st_mode & stat.S_IWOTH:
        raise errors.PermanentError("writable", f"{shown} is writable by others", fix=f"chmod o-w {shown}")


def _state(found: os.stat_result, digest: str = "", size: int = 0) -> document.State:
    return document.State(
        type="directory" if stat.S_ISDIR(found.st_mode) else "file",
        mode=f"{stat.S_IMODE(found.st_mode):04o}",
        uid=found.st_uid,
        gid=found.st_gid,
        digest=digest,
        size=size,
    )


def _hash(descriptor: int, path: str) -> tuple[str, int]:
    sha256, size = hashlib.sha256(), 0
    for chunk in _chunks(descriptor, MAX_FILE_BYTES + 1):
        sha256.update(chunk)
        size += len(chunk)
    if size > MAX_FILE_BYTES:
        raise errors.PermanentError("limit", f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return sha256.hexdigest(), size


def _chunks(descriptor: int, limit_bytes: int) -> Iterator[bytes]:
    while limit_bytes > 0 and (chunk := os.read(descriptor, min(CHUNK_BYTES, limit_bytes))):
        limit_bytes -= len(chunk)
        yield chunk
