"""Equal parts of an API's answers, kept once. A cluster of a thousand objects says the same few things a thousand times.

Half of what an object takes in memory is `managedFields`, and of these there are as many kinds as there are kinds of manifests.
Every answer is parsed by itself, so each would bring its own copy of them, and of every field's name. What is equal is one object
here, which also makes comparing it cost nothing. Whoever is handed such an answer reads it and changes nothing in it.
"""

from __future__ import annotations

from sys import intern
from typing import Any

Body = dict[str, Any]

MAX_CHARS = 32  # of a value worth looking for: a uid has 36, and nobody else has it


class Shared:
    """Used by many threads at once. What it keeps is forgotten when it is too much, and found again as it comes."""

    limit = 1 << 14  # sets of fields, and parts of them

    def __init__(self) -> None:
        self._fields: dict[tuple[Any, ...], dict[str, Any]] = {}

    def answer(self, document: Body) -> Body:
        """An equal document: an object, a list of objects, or an event of a watch."""
        if isinstance(items := document.get("items"), list):
            return {**document, "items": [self._object(each) for each in items]}
        if isinstance(found := document.get("object"), dict) and "type" in document:
            return {**document, "object": self._object(found)}
        return dict(self._object(document))

    def _object(self, body: Any) -> Any:
        metadata = body.get("metadata") if isinstance(body, dict) else None
        if not isinstance(metadata, dict) or not isinstance(managed := metadata.get("managedFields"), list):
            return body  # Names alone, a refusal, a kind's description: gone in a moment.
        rest = {name: value for name, value in metadata.items() if name != "managedFields"}
        lean = {intern(name): _lean(value) for name, value in body.items() if name != "metadata"}
        return {**lean, "metadata": {**_lean(rest), "managedFields": [self._entry(each) for each in managed]}}

    def _entry(self, entry: Any) -> Any:
        """One manager's entry; those that were written within the same second are one."""
        if not isinstance(entry, dict):
            return entry
        if not isinstance(fields := entry.get("fieldsV1"), dict):
            return _lean(entry)
        said = {intern(name): _lean(value) for name, value in entry.items() if name != "fieldsV1"}
        kept = self._shared(fields)
        told = [each for pair in said.items() for each in pair]
        if not all(isinstance(each, str) for each in told):
            return {**said, "fieldsV1": kept}
        return self._once((None, id(kept), *told), {**said, "fieldsV1": kept})

    def _shared(self, fields: dict[str, Any]) -> Any:
        """From the leaves up: two sets are equal when their names are and what lies below is the same."""
        found = {intern(n): self._shared(inner) if isinstance(inner, dict) else inner for n, inner in fields.items()}
        if not all(isinstance(inner, dict) for inner in found.values()):
            return found  # Nothing that FieldsV1 has.
        return self._once(tuple(part for name, inner in found.items() for part in (name, id(inner))), found)

    def _once(self, name: tuple[Any, ...], value: dict[str, Any]) -> dict[str, Any]:
        """`name` holds the identities of parts that `value` keeps alive."""
        kept = self._fields
        if len(kept) >= self.limit:
            # Identities are good only beside the parts that they are of, so all of it goes at once.
            self._fields = kept = {}
        return kept.setdefault(name, value)


def _lean(value: Any) -> Any:
    if isinstance(value, str):
        return intern(value) if len(value) <= MAX_CHARS else value
    if isinstance(value, dict):
        return {intern(name): _lean(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_lean(inner) for inner in value]
    return value
