"""What rules ask of a target's document: its environment, its type and what it acknowledges; nothing else is read.

The shape of a document is the gate `schema`'s to judge (trust.md 2.4): here a part that cannot be read counts as every one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from reconciler import errors, model, ports, strict_yaml
from reconciler.admission import effect

_CACHED_BYTES = 1 << 14

EVERY = None  # of a set of names: it could not be read, so it counts as all of them
Names = frozenset[str] | None
Entry = tuple[str, str, str]  # hazard, key, reason


@dataclass(frozen=True)
class Document:
    environment: str | None
    kind: str | None
    acknowledged: frozenset[Entry] | None


@dataclass(frozen=True)
class Concern:
    """Of one touched folder, over its document before and after."""

    environments: Names
    types: Names
    hazards: Names  # of the acknowledgements that the merge adds
    wanted: frozenset[str] = frozenset()  # the environment afterwards, where it can be read


_UNREADABLE = Document(None, None, None)


def concerns(
    repository: ports.Repository, before: model.Tree, after: model.Tree, done: effect.Effect
) -> tuple[Mapping[bytes, Concern], model.ValidationResult]:
    """By folder of each touched target; and what rejects the merge: unsafe YAML in a document that it brings."""
    found: dict[bytes, Concern] = {}
    unsafe: list[model.Reason] = []
    for folder in done.folders:
        if folder == b"policies":
            continue
        try:
            new = _read(repository, after, folder)
        except errors.ConfigError as exc:
            unsafe.append(model.Reason.of(exc))
            new = _UNREADABLE
        try:
            old = _read(repository, before, folder)
        except errors.ConfigError:
            old = _UNREADABLE
        found[folder] = _concern(old, new)
    return found, tuple(unsafe)


def environments(found: Mapping[bytes, Concern], named: frozenset[str]) -> tuple[str, ...]:
    """What a binding holds: sorted, and all that the policy names where one cannot be read."""
    each = [named if concern.environments is EVERY else concern.environments for concern in found.values()]
    return tuple(sorted(frozenset().union(*each)))


def hazards(found: Mapping[bytes, Concern]) -> Names:
    each = [concern.hazards for concern in found.values()]
    return EVERY if any(names is EVERY for names in each) else frozenset().union(*(names for names in each if names))


def _concern(old: Document | None, new: Document | None) -> Concern:
    sides = [side for side in (old, new) if side is not None] or [_UNREADABLE]
    return Concern(
        environments=_all(side.environment for side in sides),
        types=_all(side.kind for side in sides),
        hazards=_added(old, new),
        wanted=frozenset({new.environment}) if new and new.environment else frozenset(),
    )


def _all(names: Iterable[str | None]) -> Names:
    listed = tuple(names)
    read = frozenset(name for name in listed if name is not None)
    return EVERY if None in listed else read


def _added(old: Document | None, new: Document | None) -> Names:
    if new is None:
        return frozenset()
    if new.acknowledged is None:
        return EVERY
    had = old.acknowledged if old and old.acknowledged else frozenset()
    return frozenset(hazard for hazard, _, _ in new.acknowledged - had)


def _read(repository: ports.Repository, tree: model.Tree, folder: bytes) -> Document | None:
    path = effect.document_of(folder)
    entry = tree.get(path)
    if entry is None:
        return None
    blob = repository.read(entry.oid)
    where = path.decode(errors="backslashreplace")
    return _parse_cached(blob, where) if len(blob) <= _CACHED_BYTES else _parse(blob, where)


def _parse(blob: bytes, where: str) -> Document:
    """Raises: ConfigError(parse)."""
    spec = strict_yaml.load(blob, where).get("spec")
    if not isinstance(spec, dict):
        return _UNREADABLE
    return Document(_text(spec.get("environment")), _text(spec.get("type")), _entries(spec.get("acknowledge", [])))


_parse_cached = functools.lru_cache(maxsize=2048)(_parse)


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None


def _entries(value: JsonValue) -> frozenset[Entry] | None:
    if not isinstance(value, list):
        return None
    found: set[Entry] = set()
    for line in value:
        match line:
            case {"hazard": str(hazard), "key": str(key), "reason": str(reason)}:
                found.add((hazard, key, reason))
            case _:
                return None
    return frozenset(found)
