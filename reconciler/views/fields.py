"""One field of a document, named as people write it: `spec.replicas`, `containers[name=api].image`, `annotations["a.b/c"]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from reconciler import errors

_PART = re.compile(
    r'\.?(?P<name>[^.\[\]"]+)|\[(?P<index>\d+)\]|\["(?P<quoted>[^"]*)"\]|\[(?P<key>[^=\]"]+)=(?P<value>[^\]]*)\]'
)
FORM = 'write it as spec.replicas, containers[0], containers[name=api].image or annotations["a.b/c"]'


class Place(NamedTuple):
    """One step into a document: a name, a number in a list, or the list's item with this value under this key."""

    name: str = ""
    number: int | None = None
    item: tuple[str, str] | None = None


def parse(path: str) -> Sequence[Place]:
    """Raises: ConfigError(field)."""
    places: list[Place] = []
    at = 0
    while at < len(path):
        part = _PART.match(path, at)
        if part is None or (at == 0 and path.startswith(".")):
            break
        at = part.end()
        places.append(_place(part))
    if not places or at < len(path):
        raise errors.ConfigError("field", f"{path!r} names no field", where=path, fix=FORM)
    return places


def value_at(document: JsonValue, places: Sequence[Place]) -> JsonValue:
    """What stands there; None where nothing does."""
    for place in places:
        document = _enter(document, place)
    return document


def _place(part: re.Match[str]) -> Place:
    if part["index"] is not None:
        return Place(number=int(part["index"]))
    if part["key"] is not None:
        return Place(item=(part["key"], part["value"]))
    return Place(name=part["name"] if part["name"] is not None else part["quoted"])


def _enter(document: JsonValue, place: Place) -> JsonValue:
    if isinstance(document, dict) and place.number is None and place.item is None:
        return document.get(place.name)
    if not isinstance(document, list):
        return None
    if place.number is not None:
        return document[place.number] if place.number < len(document) else None
    for each in document:
        if place.item and isinstance(each, dict) and str(each.get(place.item[0])) == place.item[1]:
            return each
    return None
