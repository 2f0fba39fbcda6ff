"""Objects by full id over one lasting `git cat-file --batch-command`, hashed again on every read.

git itself serves a damaged loose object under the wrong name (trust.md 6.2), so type, size and id are computed here from
the bytes. Sizes are asked first: an object over its limit is refused before any of it is sent.
"""

from __future__ import annotations

import hashlib
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

from reconciler import errors, model
from reconciler.git import process

CHUNK = 48  # requests in flight: their lines stay below the 4,096 bytes that any pipe takes without a reader
CHUNK_BYTES = 16 << 20  # contents in flight
MISSING = "missing"

R = TypeVar("R")


class Header(NamedTuple):
    """What git says of an object before it is read."""

    kind: str  # commit, tree, blob, tag; or missing
    size_bytes: int


class Raw(NamedTuple):
    """An object as git served it, not yet hashed."""

    kind: str
    content: bytes


class ObjectReader:
    """One process, one lock; started when first needed and again when it died."""

    def __init__(self, git: process.GitProcess, *, object_format: str = "sha1", timeout_s: float = 60) -> None:
        self._git = git
        self._object_format = object_format
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._batch: _Batch | None = None
        self._end: weakref.finalize[..., ObjectReader] | None = None

    def read(self, oid: model.Oid, kind: str, limit_bytes: int) -> bytes:
        """One object of this kind.

        Raises: AuditError(object_hash), TransientError(source_error) where it is missing, PermanentError(limit) over
        `limit_bytes`, PermanentError(fsck) where it is of another kind.
        """
        ((_, content),) = self.read_many((oid,), kind, limit_bytes)
        return content

    def read_many(self, oids: Iterable[model.Oid], kind: str, limit_bytes: int) -> Iterator[tuple[model.Oid, bytes]]:
        """The objects in the order asked for, pipelined; holds about `CHUNK_BYTES`, or one object. Raises as `read`."""
        remaining = iter(oids)
        while chunk := tuple(process.check_oid(oid) for oid in islice(remaining, CHUNK)):
            headers = self._exchange(chunk, _Batch.headers)
            for oid, header in zip(chunk, headers, strict=True):
                self._check_header(oid, header, kind, limit_bytes)
            for group in _groups(chunk, headers):
                served = self._exchange(group, lambda batch, oids: batch.contents(oids, limit_bytes))
                for oid, raw in zip(group, served, strict=True):
                    self._check_hash(oid, raw, kind)
                    yield oid, raw.content

    def kind_of(self, oid: model.Oid) -> str:
        """As the object's header says; `MISSING` where there is no such object."""
        ((kind, _),) = self._exchange((process.check_oid(oid),), _Batch.headers)
        return kind

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _exchange(
        self, oids: tuple[model.Oid, ...], ask: Callable[[_Batch, tuple[model.Oid, ...]], list[R]]
    ) -> list[R]:
        """Ask, once more where the process died; then one by one, to say which object it cannot serve."""
        with self._lock:
            for _ in range(2):
                try:
                    return self._ask(oids, ask)
                except _DiedError:
                    continue
        if len(oids) > 1:
            return [answer for oid in oids for answer in self._exchange((oid,), ask)]
        raise self._unreadable(oids[0])

    def _ask(self, oids: tuple[model.Oid, ...], ask: Callable[[_Batch, tuple[model.Oid, ...]], list[R]]) -> list[R]:
        if self._batch is None:
            self._batch = _Batch(self._git, self._timeout_s)
            self._end = weakref.finalize(self, self._batch.close)  # For a reader that nobody closed.
        try:
            return ask(self._batch, oids)
        except BaseException:
            self._drop()  # Half an answer may be left in the pipe: the next question would get it.
            raise

    def _drop(self) -> None:
        if self._end:
            self._end()
        self._batch = self._end = None

    def _check_header(self, oid: model.Oid, header: Header, kind: str, limit_bytes: int) -> None:
        if header.kind == MISSING:
            raise self._unreadable(oid)
        if header.kind != kind:
            raise errors.PermanentError("fsck", f"object {oid} is a {header.kind} where a {kind} is named")
        if header.size_bytes > limit_bytes:
            raise over_limit(oid, kind, header.size_bytes, limit_bytes)

    def _check_hash(self, oid: model.Oid, raw: Raw, kind: str) -> None:
        head = f"{raw.kind} {len(raw.content)}\0".encode()
        # S324: SHA-1 is what the repository names its objects by; effects are bound by SHA-256 (trust.md 2.1, C48).
        digest = hashlib.sha256(head) if self._object_format == "sha256" else hashlib.sha1(head)  # noqa: S324
        digest.update(raw.content)
        if raw.kind != kind or digest.hexdigest() != oid:
            raise _damaged(oid)

    def _unreadable(self, oid: model.Oid) -> errors.ReconcilerError:
        """Missing, damaged, or a passing fault: git tells them apart only by what it complains of."""
        seen = self._git.run("cat-file", "-e", oid)
        if seen.code == 1 and not seen.stderr:
            return errors.TransientError(
                "source_error",
                f"object {oid} is missing",
                fix="fetch again; a shallow or partial clone must be made whole",
            )
        read = self._git.run("cat-file", "--batch-check", oid) if seen.code else self._git.run("cat-file", "-p", oid)
        complaint = (read.stderr or seen.stderr).lower()
        passing = read.code < 0 or "out of memory" in complaint or "permission denied" in complaint
        if passing or (read.code == 0 and not complaint):
            return errors.TransientError("source_error", f"object {oid} cannot be read at the moment")
        return _damaged(oid)


def over_limit(name: str, kind: str, size_bytes: int, limit_bytes: int) -> errors.PermanentError:
    return errors.PermanentError("limit", f"{kind} {name} has {size_bytes} bytes, the limit is {limit_bytes}")


def _damaged(oid: model.Oid) -> errors.AuditError:
    return errors.AuditError(
        "object_hash",
        f"the bytes stored as object {oid} are not that object",
        fix="stop using this store; fetch into a new mirror and compare the two",
    )


def _groups(oids: tuple[model.Oid, ...], headers: list[Header]) -> Iterator[tuple[model.Oid, ...]]:
    """The same order, cut so that each group's contents stay below `CHUNK_BYTES` where an object allows it."""
    group: list[model.Oid] = []
    held_bytes = 0
    for oid, header in zip(oids, headers, strict=True):
        if group and held_bytes + header.size_bytes > CHUNK_BYTES:
            yield tuple(group)
            group, held_bytes = [], 0
        group.append(oid)
        held_bytes += header.size_bytes
    if group:
        yield tuple(group)


class _DiedError(Exception):
    """The process ended in the middle of an answer."""


class _Batch:
    """The two ends of one process, and the bytes that came and were not taken yet."""

    def __init__(self, git: process.GitProcess, timeout_s: float) -> None:
        self._talk = git.start("cat-file", "--batch-command", "--buffer")
        self._poll = select.poll()
        self._poll.register(self._talk.stdout, select.POLLIN)
        self._timeout_s = timeout_s
        self._deadline_s = 0.0
        self._held = bytearray()
        self._taken = 0

    def headers(self, oids: tuple[model.Oid, ...]) -> list[Header]:
        self._send("info", oids)
        return [self._header(oid) for oid in oids]

    def contents(self, oids: tuple[model.Oid, ...], limit_bytes: int) -> list[Raw]:
        self._send("contents", oids)
        return [self._content(oid, limit_bytes) for oid in oids]

    def close(self) -> None:
        process.end(self._talk.running)

    def _send(self, command: str, oids: tuple[model.Oid, ...]) -> None:
        self._deadline_s = time.monotonic() + self._timeout_s
        lines = "".join(f"{command} {oid}\n" for oid in oids) + "flush\n"
        try:
            os.write(self._talk.stdin.fileno(), lines.encode())
        except BrokenPipeError as exc:
            raise _DiedError from exc

    def _header(self, oid: model.Oid) -> Header:
        name, _, rest = self._line().decode(errors="replace").partition(" ")
        kind, _, size = rest.partition(" ")
        if name != oid or not ((size.isascii() and size.isdigit()) or rest == MISSING):
            raise _DiedError  # An answer to something else: this process is of no use any more.
        return Header(kind, int(size or "0"))

    def _content(self, oid: model.Oid, limit_bytes: int) -> Raw:
        header = self._header(oid)
        if header.kind == MISSING:
            raise _DiedError
        if header.size_bytes > limit_bytes:  # It was smaller when the sizes were asked.
            raise over_limit(oid, header.kind, header.size_bytes, limit_bytes)
        return Raw(header.kind, self._take(header.size_bytes + 1)[:-1])

    def _line(self) -> bytes:
        while (end := self._held.find(b"\n", self._taken)) < 0:
            self._receive()
        return self._take(end + 1 - self._taken)[:-1]

    def _take(self, size_bytes: int) -> bytes:
        while len(self._held) - self._taken < size_bytes:
            self._receive()
        taken = bytes(memoryview(self._held)[self._taken : self._taken + size_bytes])
        self._taken += size_bytes
        return taken

    def _receive(self) -> None:
        if self._taken:
            del self._held[: self._taken]
            self._taken = 0
        wait_s = self._deadline_s - time.monotonic()
        if wait_s <= 0 or not self._poll.poll(wait_s * 1000):
            raise errors.TransientError("source_error", f"git cat-file gave no answer within {self._timeout_s:g} s")
        came = os.read(self._talk.stdout.fileno(), 1 << 18)
        if not came:
            raise _DiedError
        self._held += came
