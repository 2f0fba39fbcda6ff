"""Objects by full id over one lasting `git cat-file --batch-command`, hashed whenever they come out of the store.

git itself serves a damaged loose object under the wrong name (trust.md 6.2), so type, size and id are computed here from
the bytes. Sizes are asked first: an object over its limit is refused before any of it is sent. Small objects are kept for
a while after they were hashed: their bytes are ours by then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple, TypeVar

from reconciler import errors, model
from reconciler.git import process

CHUNK = 512  # requests in flight
CHUNK_BYTES = 16 << 20  # contents in flight
SMALL_BYTES = 64 << 10  # what is kept, and what is read ahead
KEPT_BYTES = 32 << 20  # of all that is kept
_BESIDE_BYTES = 400  # what an object costs here beside its content
MISSING = "missing"
_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

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
        self._kept = _Kept()
        self._batch: _Batch | None = None
        self._end: weakref.finalize[..., ObjectReader] | None = None

    def read(self, oid: model.Oid, kind: str, limit_bytes: int) -> bytes:
        """One object of this kind.

        Raises: AuditError(object_hash), TransientError(source_error) where it is missing, PermanentError(limit) over
        `limit_bytes`, PermanentError(fsck) where it is of another kind.
        """
        if raw := self._kept.get(oid):
            if raw.kind != kind or len(raw.content) > limit_bytes:
                self._check_header(oid, Header(raw.kind, len(raw.content)), kind, limit_bytes)
            return raw.content
        ((_, content),) = self.read_many((oid,), kind, limit_bytes)
        return content

    def read_many(self, oids: Iterable[model.Oid], kind: str, limit_bytes: int) -> Iterator[tuple[model.Oid, bytes]]:
        """The objects in the order asked for, pipelined; holds about `CHUNK_BYTES`, or one object. Raises as `read`."""
        for chunk in _chunks(oids):
            kept = self._kept.find(chunk)
            unread = tuple(oid for oid in chunk if oid not in kept)
            headers = self._exchange(unread, _Batch.headers) if unread else []
            for oid, header in zip(unread, headers, strict=True):
                self._check_header(oid, header, kind, limit_bytes)
            served = self._contents(unread, headers)
            for oid in chunk:
                if oid in kept:
                    self._check_header(oid, Header(kept[oid].kind, len(kept[oid].content)), kind, limit_bytes)
                yield (oid, kept[oid].content) if oid in kept else next(served)

    def read_ahead(self, oids: Iterable[model.Oid], kind: str, limit_bytes: int) -> Mapping[model.Oid, bytes]:
        """Those of these that can be read and are small, in as few exchanges as can be; they are kept for `read`.

        Never raises for an object: whoever asks for one that is missing, damaged or too large is told then.
        """
        found: dict[model.Oid, bytes] = {}
        for chunk in _chunks(oids):
            kept = self._kept.find(chunk)
            found |= {oid: raw.content for oid, raw in kept.items() if raw.kind == kind}
            unread = tuple(oid for oid in chunk if oid not in kept)
            with contextlib.suppress(errors.AuditError, errors.PermanentError, errors.TransientError):
                headers = self._exchange(unread, _Batch.headers) if unread else []
                most = min(limit_bytes, SMALL_BYTES)
                both = zip(unread, headers, strict=True)
                fit = {oid: header for oid, header in both if header.kind == kind and header.size_bytes <= most}
                found.update(self._contents(tuple(fit), list(fit.values())))
        return found

    def kind_of(self, oid: model.Oid) -> str:
        """As the object's header says; `MISSING` where there is no such object."""
        if kept := self._kept.get(oid):
            return kept.kind
        ((kind, _),) = self._exchange((process.check_oid(oid),), _Batch.headers)
        return kind

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _contents(self, oids: tuple[model.Oid, ...], headers: list[Header]) -> Iterator[tuple[model.Oid, bytes]]:
        """The objects that have these headers, hashed; the small ones are kept."""
        told = dict(zip(oids, headers, strict=True))
        for group in _groups(oids, headers):
            served = self._exchange(group, lambda batch, asked: batch.contents(asked, told))
            for oid, raw in zip(group, served, strict=True):
                self._check_hash(oid, raw, told[oid].kind)
                self._kept.keep(oid, raw)
                yield oid, raw.content

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


def _chunks(oids: Iterable[model.Oid]) -> Iterator[tuple[model.Oid, ...]]:
    remaining = iter(oids)
    while chunk := tuple(islice(remaining, CHUNK)):
        if not all(map(_OID.fullmatch, chunk)):
            for oid in chunk:
                process.check_oid(oid)
        yield chunk


class _Kept:
    """The small objects last used, as they were hashed. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._raws: OrderedDict[model.Oid, Raw] = OrderedDict()
        self._bytes = 0

    def get(self, oid: model.Oid) -> Raw | None:
        with self._lock:
            raw = self._raws.get(oid)
            if raw:
                self._raws.move_to_end(oid)
        return raw

    def find(self, oids: Iterable[model.Oid]) -> Mapping[model.Oid, Raw]:
        with self._lock:
            found = {oid: self._raws[oid] for oid in oids if oid in self._raws}
            for oid in found:
                self._raws.move_to_end(oid)
        return found

    def keep(self, oid: model.Oid, raw: Raw) -> None:
        if len(raw.content) > SMALL_BYTES:
            return
        with self._lock:
            if oid not in self._raws:
                self._bytes += len(raw.content) + _BESIDE_BYTES
            self._raws[oid] = raw
            while self._bytes > KEPT_BYTES:
                _, oldest = self._raws.popitem(last=False)
                self._bytes -= len(oldest.content) + _BESIDE_BYTES


class _DiedError(Exception):
    """The process ended in the middle of an answer."""


class _Batch:
    """The two ends of one process, and the bytes that came and were not taken yet."""

    def __init__(self, git: process.GitProcess, timeout_s: float) -> None:
        self._talk = git.start("cat-file", "--batch-command", "--buffer")
        # A pipe may take no more than 4,096 bytes while nobody reads, and a process that hangs reads nothing.
        os.set_blocking(self._talk.stdin.fileno(), False)
        self._can_send, self._can_receive = select.poll(), select.poll()
        self._can_send.register(self._talk.stdin, select.POLLOUT)
        self._can_receive.register(self._talk.stdout, select.POLLIN)
        self._timeout_s = timeout_s
        self._deadline_s = 0.0
        self._held = bytearray()
        self._taken = 0

    def headers(self, oids: tuple[model.Oid, ...]) -> list[Header]:
        self._send("info", oids)
        while self._held.count(b"\n") < len(oids):  # Nothing else is under way: that is all there will be.
            self._receive()
        lines = self._held.decode(errors="replace").split("\n")[:-1]
        self._taken = len(self._held)
        if len(lines) != len(oids):
            raise _DiedError
        return [_header(oid, line) for oid, line in zip(oids, lines, strict=True)]

    def contents(self, oids: tuple[model.Oid, ...], headers: Mapping[model.Oid, Header]) -> list[Raw]:
        """What these headers announced. A process that now says something else is of no use any more."""
        self._send("contents", oids)
        return [self._content(oid, headers[oid]) for oid in oids]

    def close(self) -> None:
        process.end(self._talk.running)

    def _send(self, command: str, oids: tuple[model.Oid, ...]) -> None:
        """All in one go: with `--buffer` git answers nothing before the `flush`, so it is never waiting for us to read."""
        self._deadline_s = time.monotonic() + self._timeout_s
        if self._taken != len(self._held):
            raise _DiedError  # It said more than it was asked.
        self._held.clear()
        self._taken = 0
        left = memoryview((f"{command} " + f"\n{command} ".join(oids) + "\nflush\n").encode())
        while left:
            try:
                left = left[os.write(self._talk.stdin.fileno(), left) :]
            except BlockingIOError:
                self._wait(self._can_send)
            except BrokenPipeError as exc:
                raise _DiedError from exc

    def _content(self, oid: model.Oid, header: Header) -> Raw:
        kind, size_bytes = header
        head = b"%s %s %d\n" % (oid.encode(), kind.encode(), size_bytes)
        whole_bytes = len(head) + size_bytes + 1
        if len(self._held) - self._taken < whole_bytes:
            # Another answer may be shorter, `missing` above all: waiting for this one whole could be for ever.
            for known_bytes in (len(f"{oid} {MISSING}\n"), len(head)):
                self._hold(known_bytes)
                if not self._held.startswith(head[:known_bytes], self._taken):
                    raise _DiedError
            self._hold(whole_bytes)
        if not self._held.startswith(head, self._taken):
            raise _DiedError
        begin = self._taken + len(head)
        self._taken += whole_bytes
        with memoryview(self._held) as held:  # Released at once: what is held may not grow while it is looked at.
            return Raw(kind, bytes(held[begin : begin + size_bytes]))

    def _hold(self, size_bytes: int) -> None:
        """Have so many bytes that were not taken yet."""
        while len(self._held) - self._taken < size_bytes:
            self._receive()

    def _receive(self) -> None:
        if self._taken:
            del self._held[: self._taken]
            self._taken = 0
        self._wait(self._can_receive)
        came = os.read(self._talk.stdout.fileno(), 1 << 18)
        if not came:
            raise _DiedError
        self._held += came

    def _wait(self, until: select.poll) -> None:
        wait_s = self._deadline_s - time.monotonic()
        if wait_s <= 0 or not until.poll(wait_s * 1000):
            raise errors.TransientError("source_error", f"git cat-file gave no answer within {self._timeout_s:g} s")


def _header(oid: model.Oid, line: str) -> Header:
    name, _, rest = line.partition(" ")
    kind, _, size = rest.partition(" ")
    if name != oid or not ((size.isascii() and size.isdigit()) or rest == MISSING):
        raise _DiedError  # An answer to something else: this process is of no use any more.
    return Header(kind, int(size or "0"))
