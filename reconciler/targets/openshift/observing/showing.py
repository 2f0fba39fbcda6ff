"""Two sides of an object as a person reads them: masked, without our marks, as a unified diff. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from reconciler.targets.openshift import masking
from reconciler.targets.openshift.connection import comparing
from reconciler.targets.openshift.connection.client import Body

MAX_DIFF_CHARS = 16 << 10


def sides(manifest: Body, live: Body, fields: comparing.Fields) -> tuple[JsonValue, JsonValue]:
    """The manifest, and what of the object lies under it or under what is ours; both masked."""
    like = comparing.part_like(live, manifest)
    there = _merged(comparing.values_under(live, fields), like) if fields else like
    return masking.mask_pair(manifest, _without_marks(typed(there, live)))


def diff(wanted: JsonValue, actual: JsonValue) -> str:
    old, new = _lines(actual), _lines(wanted)
    if not old:
        text = "\n".join(f"+{line}" for line in new)
    else:
        text = "\n".join(difflib.unified_diff(old, new, "actual", "wanted", lineterm=""))
    return text if len(text) <= MAX_DIFF_CHARS else f"{text[:MAX_DIFF_CHARS]}\n… cut"


def typed(values: JsonValue, live: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """These values of an object, with what it is."""
    part = values if isinstance(values, dict) else {}
    return {"apiVersion": live.get("apiVersion"), "kind": live.get("kind"), **part}


def _lines(value: JsonValue) -> list[str]:
    return [] if value is None else list(_printed(value, ""))


def _printed(value: JsonValue, indent: str) -> Iterator[str]:
    """As YAML would show it, keys in order; texts as JSON, so that no line break or control character gets through."""
    if isinstance(value, dict):
        for key in sorted(value):
            name = key if key.isascii() and key.isprintable() else json.dumps(key)
            yield from _entry(f"{indent}{name}:", value[key], f"{indent}  ")
    elif isinstance(value, list):
        for each in value:
            yield from _entry(f"{indent}-", each, f"{indent}  ")
    else:
        yield f"{indent}{json.dumps(value)}"


def _entry(head: str, value: JsonValue, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield head
        yield from _printed(value, indent)
    else:
        yield f"{head} {json.dumps(value)}"


def _merged(one: JsonValue, other: JsonValue) -> JsonValue:
    if isinstance(one, dict) and isinstance(other, dict):
        both = {name: _merged(one[name], other[name]) for name in one.keys() & other.keys()}
        return {**one, **other, **both}
    return other if other is not None else one


def _without_marks(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    found = values.get("metadata")
    metadata = dict(found) if isinstance(found, dict) else {}
    for name, mark in (("labels", comparing.LABEL), ("annotations", comparing.OWNER)):
        there = metadata.get(name)
        if isinstance(there, dict):
            kept = {key: value for key, value in there.items() if key != mark}
            metadata |= {name: kept}
            if not kept:
                del metadata[name]
    return {**values, "metadata": metadata}
