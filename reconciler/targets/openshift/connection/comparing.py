"""A live object against what the server answered when we applied it. Pure.

Server-side apply writes down who owns which field (`managedFields`, FieldsV1: structured-merge-diff's `f:`, `k:`, `v:` and
`i:` keys). An object is compared only under the fields that are ours: defaults, status and what controllers write cost
nothing, and a value is compared with the server's own form of it, never with ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from reconciler import model
from reconciler.targets.openshift.connection.client import Body

Fields = Mapping[str, Any]  # FieldsV1: nested mappings; {} is a whole value
Path = tuple[str, ...]  # the keys of FieldsV1 from the root: ("f:spec", "f:replicas")

LABEL = "reconciler/target"
OWNER = "reconciler/owner"
EPOCH = "reconciler/epoch"
APPLIED = "reconciler/applied"  # the digest of what was sent: after a restart it tells drift from a new manifest
BOOKKEEPING = (EPOCH, APPLIED)

# Associative lists into which somebody may put an item of his own: a forced apply does not remove it.
GUARDED = frozenset({"containers", "initContainers", "ephemeralContainers", "volumes", "env", "ports", "volumeMounts"})

_NAMES = frozenset({"apiVersion", "kind", "metadata.name", "metadata.namespace", "status"})
_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")


class Lost(NamedTuple):
    """A field that was ours."""

    path: str  # spec.replicas
    taker: str  # the manager that owns it now; empty: nobody does, it was removed


class ForeignItem(NamedTuple):
    """An item of an associative list that nobody declared."""

    path: str  # spec.template.spec.containers
    name: str
    manager: str
    pointer: tuple[str | int, ...]  # where it is now: for a guarded removal


def our_fields(body: Mapping[str, Any], manager: str) -> Fields:
    """The fields that our applies own. Empty where we never applied."""
    for entry in _managed(body):
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields = entry.get("fieldsV1")
            return fields if isinstance(fields, dict) else {}
    return {}


def values_under(body: Mapping[str, Any], fields: Fields) -> dict[str, JsonValue]:
    """The part of an object that lies under these fields, without our bookkeeping."""
    found = _under(body, fields)
    part = dict(found) if isinstance(found, dict) else {}
    metadata = part.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if isinstance(metadata, dict) and isinstance(annotations, dict):
        kept = {name: value for name, value in annotations.items() if name not in BOOKKEEPING}
        part["metadata"] = {**metadata, "annotations": kept}
    return part


def lost_fields(body: Mapping[str, Any], remembered: Fields, manager: str) -> tuple[Lost, ...]:
    """What the server once said is ours and no longer is, with the name of who took it."""
    ours = our_fields(body, manager)
    if ours == remembered:
        return ()
    gone = [path for path in _leaves(remembered) if not _has(ours, path)]
    others = [(str(entry.get("manager", "")), entry.get("fieldsV1") or {}) for entry in _managed(body)]
    return tuple(Lost(_title(path), _taker(path, others, manager)) for path in gone if not _is_bookkeeping(path))


def uncovered(body: Mapping[str, Any], fields: Fields, path: str = "") -> Iterator[str]:
    """What a manifest says and these fields do not own. Empty values own nothing, nor do names and kinds."""
    for name, value in body.items():
        at = f"{path}.{name}" if path else name
        if value in (None, {}, []) or at in _NAMES or name in BOOKKEEPING:
            continue
        inner = fields.get(f"f:{name}")
        if not isinstance(inner, dict):
            yield from uncovered(value, {}, at) if isinstance(value, dict) else [at]
        elif inner:
            yield from _uncovered_in(value, inner, at)


def taker(body: Mapping[str, Any], path: str, manager: str) -> str:
    """Who owns the field that is written so; empty where nobody does."""
    for entry in _managed(body):
        if entry.get("manager") != manager and any(
            _title(each) == path for each in _leaves(entry.get("fieldsV1") or {})
        ):
            return str(entry.get("manager", ""))
    return ""


def part_like(value: Any, like: Any) -> Any:
    """Of a live value what a manifest speaks of; items of lists by their names."""
    if isinstance(value, dict) and isinstance(like, dict):
        return {name: part_like(value[name], inner) for name, inner in like.items() if name in value}
    if isinstance(value, list) and isinstance(like, list) and all(isinstance(each, dict) for each in (*value, *like)):
        named = {_item_name(each): each for each in like}
        return [part_like(each, named.get(_item_name(each), each)) for each in value]
    return value


def foreign_items(body: Mapping[str, Any], manager: str, declared: Mapping[str, Any]) -> tuple[ForeignItem, ...]:
    """Items of guarded lists that neither we own nor the manifest names."""
    ours = our_fields(body, manager)
    return tuple(_foreign(body, declared, ours, (), _managed(body))) if ours else ()


def conflict_field(text: str) -> str:
    """A cause's `.spec.template.spec.containers[name="c"].image` as a path of ours: `spec.template.spec.containers[c].image`."""
    shown = []
    for part in text.removeprefix(".").split("["):
        inside, bracket, rest = part.partition("]")
        if not bracket:
            shown.append(part)
            continue
        names = [each.partition("=")[2].strip('"') for each in inside.split(",")]
        shown.append(f"[{','.join(names)}]{rest}")
    return "".join(shown)


def is_ignored(key: model.Key, path: str, rules: Sequence[model.Ignore], today: str) -> bool:
    """Whether a field is left to its owner. A rule on `spec` covers all that is under it; one that ran out covers nothing."""
    return any(
        _key_matches(key, rule.key)
        and (not rule.until or today <= rule.until)
        and (path == rule.path or path.startswith((f"{rule.path}.", f"{rule.path}[")))
        for rule in rules
    )


def without_ignored(body: Mapping[str, Any], key: model.Key, rules: Sequence[model.Ignore], today: str) -> Body:
    """The body without the fields that are left to others: neither compared nor sent."""
    paths = [r.path for r in rules if _key_matches(key, r.key) and (not r.until or today <= r.until)]
    left: Any = dict(body)
    for path in paths:
        left = _without(left, _split(path))
    return left if isinstance(left, dict) else dict(body)


def clean(body: Mapping[str, Any]) -> dict[str, Any]:
    """An object as somebody would write it: without what the server and controllers say of it."""
    metadata = {
        name: value
        for name, value in body.get("metadata", {}).items()
        if name not in {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"}
    }
    if annotations := metadata.pop("annotations", None):
        kept = {n: v for n, v in annotations.items() if not n.startswith("deployment.kubernetes.io/")}
        metadata |= {"annotations": kept} if kept else {}
    return {**{name: value for name, value in body.items() if name != "status"}, "metadata": metadata}


def digest(value: JsonValue) -> model.Digest:
    """For comparing within this process and on the object: stable, but no RFC 8785."""
    return model.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


# --- FieldsV1 -----------------------------------------------------------------------------------------------------------


def _managed(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = body.get("metadata", {}).get("managedFields")
    return [each for each in found or () if isinstance(each, dict)]


def _under(value: Any, fields: Fields) -> Any:
    names = [name for name in fields if name != "."]
    if not names:
        return value
    if isinstance(value, dict):
        found = {}
        for name in names:
            if name.startswith("f:") and name[2:] in value:
                found[name[2:]] = _under(value[name[2:]], fields[name])
        return found
    if isinstance(value, list):
        return _items_under(value, fields, names)
    return value


def _items_under(items: list[Any], fields: Fields, names: list[str]) -> list[Any]:
    found = []
    for name in sorted(names):
        at = _place(items, name)
        if at is not None:
            found.append(_with_key(_under(items[at], fields[name]), name))
    return found


def _with_key(value: Any, name: str) -> Any:
    """An item keeps the fields that name it, whoever owns them."""
    return {**json.loads(name[2:]), **value} if name.startswith("k:") and isinstance(value, dict) else value


def _place(items: list[Any], name: str) -> int | None:
    """Where the item that a key of FieldsV1 names stands in a list."""
    kind, _, text = name.partition(":")
    wanted = json.loads(text)
    for index, item in enumerate(items):
        if kind == "k" and isinstance(item, dict) and all(item.get(k) == v for k, v in wanted.items()):
            return index
        if (kind == "v" and item == wanted) or (kind == "i" and index == wanted):
            return index
    return None


def _uncovered_in(value: Any, fields: Fields, at: str) -> Iterator[str]:
    if isinstance(value, dict):
        yield from uncovered(value, fields, at)
    elif isinstance(value, list):
        named = [(name, inner) for name, inner in fields.items() if name[:2] in {"k:", "v:"}]
        for item in value if named else ():
            inner = next((inner for name, inner in named if _names(name, item)), None)
            if inner is None:
                yield f"{at}[{_item_name(item) if isinstance(item, dict) else item}]"
            elif inner and isinstance(item, dict):
                yield from uncovered(item, inner, f"{at}[{_item_name(item)}]")


def _names(name: str, item: Any) -> bool:
    """Whether a key of FieldsV1 names this item of a manifest, which may leave out what the server defaults."""
    wanted = json.loads(name[2:])
    if name.startswith("k:"):
        return isinstance(item, dict) and all(item.get(k, v) == v for k, v in wanted.items())
    return bool(item == wanted)


def _leaves(fields: Fields, path: Path = ()) -> Iterator[Path]:
    if not fields:
        yield path
    for name, inner in fields.items():
        if name == ".":
            yield (*path, name)
        else:
            yield from _leaves(inner, (*path, name))


def _has(fields: Fields, path: Path) -> bool:
    at: Any = fields
    for name in path:
        if not isinstance(at, dict) or name not in at:
            return False
        at = at[name]
    return True


def _title(path: Path) -> str:
    """`spec.template.spec.containers[c].image`."""
    text = ""
    for name in path:
        kind, _, rest = name.partition(":")
        match kind:
            case "f":
                text += f".{rest}" if text else rest
            case "k":
                text += f"[{','.join(str(v) for v in json.loads(rest).values())}]"
            case "v" | "i":
                text += f"[{rest}]"
            case _:
                pass
    return text


def _taker(path: Path, others: list[tuple[str, Any]], manager: str) -> str:
    for name, fields in others:
        if name != manager and _has(fields, path):
            return name
    return ""


def _is_bookkeeping(path: Path) -> bool:
    return path[-1].removeprefix("f:") in BOOKKEEPING


# --- foreign items --------------------------------------------------------------------------------------------------------


def _foreign(
    value: Any, declared: Any, ours: Fields, at: tuple[str | int, ...], managed: list[dict[str, Any]]
) -> Iterator[ForeignItem]:
    """Goes down only where we own something: what lies beside is not ours to judge."""
    if isinstance(value, dict):
        for name, inner in value.items():
            fields = ours.get(f"f:{name}")
            if isinstance(fields, dict) and fields:
                below = declared.get(name) if isinstance(declared, dict) else None
                yield from _foreign(inner, below, fields, (*at, name), managed)
    elif isinstance(value, list) and any(name.startswith("k:") for name in ours):
        yield from _foreign_in(value, declared, ours, at, managed)


def _foreign_in(
    items: list[Any], declared: Any, ours: Fields, at: tuple[str | int, ...], managed: list[dict[str, Any]]
) -> Iterator[ForeignItem]:
    named = {_place(items, name): name for name in ours if name.startswith("k:")}
    guarded = bool(at) and at[-1] in GUARDED
    for index, item in enumerate(items):
        if index in named:
            like = _declared_like(declared, named[index])
            yield from _foreign(item, like, ours[named[index]], (*at, index), managed)
        elif guarded and isinstance(item, dict):
            path = ".".join(str(part) for part in at if isinstance(part, str))
            yield ForeignItem(path, _item_name(item), _adder(at, item, managed), (*at, index))


def _declared_like(declared: Any, name: str) -> Any:
    at = _place(declared, name) if isinstance(declared, list) else None
    return declared[at] if at is not None else None


def _item_name(item: Mapping[str, Any]) -> str:
    for field in ("name", "mountPath", "containerPort", "port"):
        if field in item:
            return str(item[field])
    return "?"


def _adder(at: tuple[str | int, ...], item: Mapping[str, Any], managed: list[dict[str, Any]]) -> str:
    """The manager that has an item with these values under this list."""
    for entry in managed:
        fields: Any = entry.get("fieldsV1") or {}
        for part in (p for p in at if isinstance(p, str)):
            inner = fields.get(f"f:{part}") if isinstance(fields, dict) else None
            fields = inner if isinstance(inner, dict) else {}
        for name in fields:
            if name.startswith("k:") and all(item.get(k) == v for k, v in json.loads(name[2:]).items()):
                return str(entry.get("manager", ""))
    return ""


# --- ignore rules -----------------------------------------------------------------------------------------------------------


def _key_matches(key: model.Key, pattern: str) -> bool:
    """`*` stands for anything within a segment."""
    parts, wanted = key.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(_segment_matches(p, w) for p, w in zip(parts, wanted, strict=True))


def _segment_matches(text: str, pattern: str) -> bool:
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(first) or not text.endswith(rest[-1]) or len(text) < len(first) + len(rest[-1]):
        return False
    at, end = len(first), len(text) - len(rest[-1])
    for middle in rest[:-1]:
        found = text.find(middle, at, end)
        if found < 0:
            return False
        at = found + len(middle)
    return True


def _split(path: str) -> list[str]:
    """`spec.containers[c].image` -> its steps; in brackets an item of a list, or a name with dots: `metadata.annotations[a.b/c]`."""
    return [step.removesuffix("]") for step in _STEP.findall(path)]


def _without(value: Any, steps: Sequence[str]) -> Any:
    first, *rest = steps
    if isinstance(value, dict) and (field := first.removeprefix("[")) in value:
        if not rest:
            return {name: inner for name, inner in value.items() if name != field}
        return {**value, field: _without(value[field], rest)}
    if isinstance(value, list) and first.startswith("["):
        chosen = [_is_named(item, first[1:]) for item in value]
        if not rest:
            return [item for item, hit in zip(value, chosen, strict=True) if not hit]
        return [_without(item, rest) if hit else item for item, hit in zip(value, chosen, strict=True)]
    return value


def _is_named(item: Any, name: str) -> bool:
    return _item_name(item) == name if isinstance(item, dict) else str(item) == name
