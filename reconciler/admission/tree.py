"""Tree hygiene (trust.md 6.3): what may stand in a tree at all. Pure; reads no blob and parses nothing.

Not here: blobs (`look_at_blob` takes their bytes), the effect, the policy's own limits beyond the numbers handed in.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from reconciler import documents, model

MAX_DEPTH = 32
MAX_PATH_BYTES = 1024
_FILES = frozenset({"100644", "100755"})
_SPECIAL = {"120000": "symlink", "160000": "gitlink"}
_LFS = b"version https://git-lfs.github.com/spec/v1\n"
# What Unicode calls bidirectional controls, and what HFS+ ignores when it compares names (git's utf8.c).
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_IGNORED = frozenset("\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u206a\u206b\u206c\u206d\u206e\u206f\ufeff")
_DOT_GIT = re.compile(r"(\.git|git~[0-9]+)[ .]*(:.*)?", re.IGNORECASE | re.DOTALL)


def look_at(
    before: model.Tree, after: model.Tree, paths: Iterable[bytes], *, max_files: int, links: bool = False
) -> tuple[model.Reason, ...]:
    """What speaks against the tree `after`, when `before` obeys and only `paths` differ; `before` empty: the whole tree.

    Only what changed is looked at closely; collisions and the number of files concern the whole. `links`: symbolic ones
    may stand in the folders of targets; where they lead is `look_at_links`'.
    """
    found = [reason for path in paths if path in after for reason in _entry(path, after[path], links=links)]
    if len(after) > max_files:
        found.append(_reason("limit", f"{len(after)} files; the policy allows {max_files}", ""))
    added = [path for path in paths if path in after and path not in before and len(path) <= MAX_PATH_BYTES]
    return (*found, *_collisions(after, added))


def look_at_blob(path: bytes, blob: bytes, *, max_bytes: int) -> tuple[model.Reason, ...]:
    """What speaks against the content of one changed file."""
    if len(blob) > max_bytes:
        return (_reason("limit", f"{len(blob)} bytes; the policy allows {max_bytes}", show(path)),)
    if blob.startswith(_LFS):
        return (_reason("lfs", "a pointer to a large file: what was approved is not what it stands for", show(path)),)
    return ()


def look_at_links(
    tree: model.Tree, folders: Iterable[bytes], read: Callable[[model.Oid], bytes]
) -> model.ValidationResult:
    """What speaks against the symbolic links in these folders of targets: also of one that stood there when its file goes.

    A link is a second name for a file of the same folder, beside or below it: no other link, no folder, nothing that is
    not there. It is resolved here, lexically; no file system ever follows it.
    """
    roots = tuple(folder + b"/" for folder in folders)
    links = [(path, entry) for path, entry in tree.items() if entry.mode == documents.LINK and path.startswith(roots)]
    return tuple(reason for path, entry in sorted(links) for reason in _leads(tree, path, read(entry.oid)))


def _leads(tree: model.Tree, path: bytes, text: bytes) -> Iterator[model.Reason]:
    to = documents.link_target(path, text) if len(text) <= MAX_PATH_BYTES else None
    if to is None:
        message = "a link says the way from its own folder down, without `.` and `..`"
    elif to not in tree:
        message = f"a link to {show(to)}, which is no file there"
    elif tree[to].mode not in _FILES:
        message = f"a link to {show(to)}, which is a link itself"
    else:
        return
    yield _reason("symlink", message, show(path))


def show(path: bytes) -> str:
    """A raw path for people and for the log: what is not printable UTF-8 is escaped."""
    text = path.decode(errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _reason(code: str, message: str, where: str) -> model.Reason:
    return model.Reason(code=code, message=message, where=where, fix="take it out of the branch")


def _entry(path: bytes, entry: model.Entry, *, links: bool) -> tuple[model.Reason, ...]:
    where = show(path)
    found = list(_name(path, where))
    if links and entry.mode == documents.LINK and _may_be_a_link(path):
        pass
    elif entry.mode in _SPECIAL:
        found.append(_reason(_SPECIAL[entry.mode], f"a {_SPECIAL[entry.mode]} may not stand in the repository", where))
    elif entry.mode not in _FILES:
        found.append(_reason("tree_mode", f"mode {entry.mode}; 100644 and 100755 are allowed", where))
    if path.rpartition(b"/")[2].lower() == b".gitmodules":
        found.append(_reason("gitlink", "submodules are refused, and so is their file", where))
    return tuple(found)


def _may_be_a_link(path: bytes) -> bool:
    """Below a target's folder; its document is read as it lies, and git itself reads files called `.git...`."""
    _, _, inside = (path.removeprefix(b"targets/") if path.startswith(b"targets/") else b"").partition(b"/")
    return bool(inside) and inside != b"target.yaml" and not path.rpartition(b"/")[2].startswith(b".git")


def _name(path: bytes, where: str) -> Iterable[model.Reason]:
    segments = path.split(b"/")
    if len(path) > MAX_PATH_BYTES or len(segments) > MAX_DEPTH:
        yield _reason("limit", f"at most {MAX_PATH_BYTES} bytes and {MAX_DEPTH} folders", where)
        return
    for segment in segments:
        problem = _segment(segment)
        if problem:
            yield _reason(*problem, where)


@functools.lru_cache(maxsize=8192)
def _segment(segment: bytes) -> tuple[str, str] | None:
    if segment in {b"", b".", b".."}:
        return "fsck", "an empty name, `.` or `..`"
    try:
        name = segment.decode()
    except UnicodeDecodeError:
        return "path_chars", "a name that is not UTF-8"
    folded = unicodedata.normalize("NFKC", "".join(c for c in name if c not in _IGNORED))
    if any(_DOT_GIT.fullmatch(part) for part in re.split(r"[/\\]", folded)):
        return "fsck", "a name that some system takes for `.git`"
    if any(c in _BIDI or unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"} for c in name):
        return "path_chars", "control, formatting or bidirectional characters in a name"
    if unicodedata.normalize("NFC", name) != name:
        return "path_chars", "a name that is not in Unicode's form NFC"
    return None


def _collisions(tree: model.Tree, added: list[bytes]) -> Iterable[model.Reason]:
    """Two paths, or folders of paths, that a file system takes for one. Only new names can bring one into a clean tree."""
    if not added:
        return
    wanted = {fold(place) for path in added for place in _places(path)}
    spelled: dict[bytes, set[bytes]] = {}
    for place in {p for path in tree if len(path) <= MAX_PATH_BYTES for p in _places_of(path)}:
        folded = fold(place)
        if folded in wanted:
            spelled.setdefault(folded, set()).add(place)
    for _, places in sorted(spelled.items()):
        if len(places) > 1:
            yield _reason("path_collision", "the same name to some file systems", " = ".join(map(show, sorted(places))))


def _places(path: bytes) -> tuple[bytes, ...]:
    """The path and every folder above it."""
    parts = path.split(b"/")
    return tuple(b"/".join(parts[:n]) for n in range(1, len(parts) + 1))


_places_of = functools.lru_cache(maxsize=1 << 15)(_places)


@functools.lru_cache(maxsize=1 << 16)
def fold(path: bytes) -> bytes:
    """The name as a file system that ignores case and form sees it."""
    if path.isascii():
        return path.lower()
    text = path.decode(errors="surrogateescape")
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).encode(
        errors="surrogateescape"
    )
