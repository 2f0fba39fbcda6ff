"""The strict commit grammar (trust.md 7.1). Bytes in, values out; what git would read leniently is refused.

A header outside the grammar, or bytes beside the armor, lie outside the signed bytes: they would give new ids to a commit
that git still calls good. Not here: who signed (`signature.py`) and whether that suffices (the judge).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from dataclasses import dataclass
from typing import NamedTuple

from reconciler import model
from reconciler.admission import packets, signature

MAX_BYTES = 1 << 16
MAX_TIMESTAMP = 1 << 40
_MAX_PARENTS = 2

_OID = {40: re.compile(rb"[0-9a-f]{40}"), 64: re.compile(rb"[0-9a-f]{64}")}
# No blank at either end of a name or an e-mail: git shows both without, so that two commits would look like one person's.
_TRIMMED = rb"(?=\S)([^\n\0<>]+)(?<=\S)"
_IDENT = re.compile(_TRIMMED + rb" <" + _TRIMMED + rb"> ([1-9][0-9]{0,12}) [+-][0-9]{4}")
_CO_AUTHOR = re.compile(r"co-?authored-by\s*:([^\n]*(?:\n[ \t]+[^\n]*)*)", re.IGNORECASE)
_BETWEEN_EMAILS = re.compile(r"[\s<>(),;\"']+")


class Ident(NamedTuple):
    """An author or committer as claimed: text that anybody can type. The zone is dropped."""

    name: str
    email: str
    timestamp: int  # seconds since 1970


@dataclass(frozen=True)
class Commit:
    """A commit that follows the grammar: one parent or two, distinct. Its signature is not checked yet."""

    id: model.Oid
    tree: model.Oid
    parents: tuple[model.Oid, ...]
    author: Ident
    committer: Ident
    signature: bytes | None  # armored, as it was before git indented it; None: unsigned
    payload: bytes  # the commit without its gpgsig lines: what was signed
    message: str

    @functools.cached_property
    def co_authors(self) -> tuple[str, ...]:
        """E-mails behind every `Co-authored-by:`, wherever it stands, as written: they only ever exclude (compare without case)."""
        text = " ".join(match[1] for match in _CO_AUTHOR.finditer(self.message))
        return tuple(dict.fromkeys(word for word in _BETWEEN_EMAILS.split(text) if "@" in word))


@functools.lru_cache(maxsize=16)  # A head is read with what a merge brings in, and once more for the heads before it.
def parse_commit(oid: model.Oid, raw: bytes) -> Commit | model.Reason:
    """Read one commit object, without its `commit <size>` header.

    A root commit is refused: the only one that counts is genesis, which is pinned and never a candidate.

    Reasons, `where` being the id: limit (over 64 KiB), object_hash, parents (three or more, or twice the same),
    commit_grammar.
    """
    if len(raw) > MAX_BYTES:
        return model.Reason(code="limit", message=f"the commit has {len(raw)} bytes; at most {MAX_BYTES}", where=oid)
    if len(oid) not in _OID or object_id(b"commit", raw, len(oid)) != oid:
        return model.Reason(code="object_hash", message="the bytes of this commit do not have its id", where=oid)
    try:
        return _Header(oid, raw).read()
    except _GrammarError as exc:
        return model.Reason(code=exc.code, message=str(exc), where=oid, fix="make the commit again with a stock git")


def object_id(kind: bytes, content: bytes, size_digits: int = 40) -> model.Oid:
    """Git's id of an object: 40 digits of SHA-1 or 64 of SHA-256."""
    framed = b"%s %d\0%s" % (kind, len(content), content)
    # SHA-1 is git's name for objects here, never a proof: content is bound by SHA-256 (trust.md 1, 4).
    hashed = hashlib.sha1(framed, usedforsecurity=False) if size_digits == 40 else hashlib.sha256(framed)  # noqa: PLR2004 - digits of SHA-1
    return model.Oid(hashed.hexdigest())


class _GrammarError(Exception):
    """Never leaves this module."""

    def __init__(self, message: str, code: str = "commit_grammar") -> None:
        super().__init__(message)
        self.code = code


class _Header:
    """Reads the header line by line, in the one order that there is."""

    def __init__(self, oid: model.Oid, raw: bytes) -> None:
        header, blank, self._message = raw.partition(b"\n\n")
        if not blank:
            raise _GrammarError("no empty line between header and message")
        self._oid, self._raw = oid, raw
        self._lines = header.split(b"\n")
        self._at = 0

    def read(self) -> Commit:
        if b"\0" in self._raw:
            raise _GrammarError("a NUL byte")
        try:
            self._raw.decode()
        except UnicodeDecodeError as exc:
            raise _GrammarError("not UTF-8") from exc
        tree = self._object(b"tree ")
        parents = self._parents()
        author, committer = self._ident(b"author "), self._ident(b"committer ")
        unsigned = self._lines[: self._at]
        armored = self._signature()
        if self._at != len(self._lines):
            raise self._error("no header may stand here; unknown and repeated ones are refused")
        return Commit(
            id=self._oid,
            tree=tree,
            parents=parents,
            author=author,
            committer=committer,
            signature=armored,
            payload=b"\n".join((*unsigned, b"", self._message)),
            message=self._message.decode(),
        )

    def _error(self, message: str) -> _GrammarError:
        return _GrammarError(f"line {self._at + 1}: {message}")

    def _next(self, prefix: bytes) -> bytes | None:
        """What follows the prefix in this line, which is then done; None where the line starts otherwise."""
        if self._at == len(self._lines) or not self._lines[self._at].startswith(prefix):
            return None
        self._at += 1
        return self._lines[self._at - 1][len(prefix) :]

    def _object(self, prefix: bytes) -> model.Oid:
        text = self._next(prefix)
        if text is None or not _OID[len(self._oid)].fullmatch(text):
            raise self._error(f"expected `{prefix.decode()}` and a full object id")
        return model.Oid(text.decode())

    def _parents(self) -> tuple[model.Oid, ...]:
        found: list[model.Oid] = []
        while self._at < len(self._lines) and self._lines[self._at].startswith(b"parent "):
            found.append(self._object(b"parent "))
        if not found:
            raise self._error("no parent")
        if len(found) > _MAX_PARENTS or len(set(found)) != len(found):
            raise _GrammarError(f"{len(found)} parents; one, or two that differ, are allowed", code="parents")
        return tuple(found)

    def _ident(self, prefix: bytes) -> Ident:
        text = self._next(prefix)
        match = _IDENT.fullmatch(text or b"")
        if match is None or int(match[3]) > MAX_TIMESTAMP:
            raise self._error(f"expected `{prefix.decode()}NAME <EMAIL> SECONDS ZONE`")
        return Ident(name=match[1].decode(), email=match[2].decode(), timestamp=int(match[3]))

    def _signature(self) -> bytes | None:
        first = self._next(b"gpgsig " if len(self._oid) == 40 else b"gpgsig-sha256 ")  # noqa: PLR2004 - digits of SHA-1
        if first is None:
            return None
        armored = [first, *(line[1:] for line in itertools.takewhile(_is_continued, self._lines[self._at :]))]
        self._at += len(armored) - 1
        text = b"\n".join((*armored, b""))
        if not _is_armor(text):
            raise self._error("the signature is not in the one form that its bytes have")
        return text


def _is_continued(line: bytes) -> bool:
    return line.startswith(b" ")


def _is_armor(text: bytes) -> bool:
    if text.startswith(packets.BEGIN):
        return packets.dearmor(text) is not None
    return isinstance(signature.dearmor(text), bytes)
