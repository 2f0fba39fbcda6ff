"""A change as a person reads it: path by path from raw blobs, without renames, filters or drivers; hidden characters made visible."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from reconciler import documents, model, ports
from reconciler.admission import tree

_SHOWN_BYTES = 256 << 10


def diff(repository: ports.Repository, before: model.Tree, after: model.Tree, paths: Iterable[bytes]) -> Iterator[str]:
    """Lines of a unified diff. What is no text, or too long to read, is named with its digests."""
    for path in paths:
        old, new = before.get(path), after.get(path)
        name = tree.show(path)
        if old and new and old.mode != new.mode:
            yield f"mode of {name}: {old.mode} -> {new.mode}"
        if new and new.mode == documents.LINK:
            yield f"symbolic link: {name}; below is where it leads"
        was, now = _lines(repository, old), _lines(repository, new)
        if was is None or now is None:
            yield f"not shown: {name}: {_named(old)} -> {_named(new)}"
            continue
        labels = (f"a/{name}" if old else "/dev/null", f"b/{name}" if new else "/dev/null")
        yield from map(visible, difflib.unified_diff(was, now, *labels, lineterm=""))


def visible(line: str) -> str:
    """Control, bidirectional and other invisible characters as their escapes; a tab is a tab."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line)


def _lines(repository: ports.Repository, entry: model.Entry | None) -> list[str] | None:
    if entry is None:
        return []
    if entry.mode == "160000":
        return None
    blob = repository.read(entry.oid)
    if len(blob) > _SHOWN_BYTES:
        return None
    try:
        text = blob.decode()
    except UnicodeDecodeError:
        return None
    # Only LF ends a line: a reader shall see every other character that some viewer takes for one.
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else [*lines[:-1], lines[-1] + "\\ no newline at the end"]


def _named(entry: model.Entry | None) -> str:
    return f"{entry.mode} sha256:{entry.sha256[:16]}" if entry else "absent"
