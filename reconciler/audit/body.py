"""The bytes of a record: RFC 8785, refused where two parsers could read them differently or where they are too long."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from reconciler import errors, model
from reconciler.audit import record

MAX_BODY_BYTES = 65_535


def body_of(entry: record.Record) -> bytes:
    """RFC 8785, of integers, strings, booleans and null only: no two parsers may read a record differently.

    Raises: AuditError(record_form | record_size).
    """
    where = f"{entry.event.type} of {entry.scope}"
    document: dict[str, JsonValue] = entry.model_dump(mode="json")
    if path := _float_in(document):
        raise errors.AuditError("record_form", f"{path} is a float", where=where, fix="log whole milliseconds or bytes")
    try:
        body = model.canonical_json(document)
    except ValueError as exc:
        raise errors.AuditError(
            "record_form", "it has no canonical form: a lone surrogate or an integer beyond 2^53", where=where
        ) from exc
    if len(body) > MAX_BODY_BYTES:
        raise errors.AuditError(
            "record_size",
            _too_long(document, len(body)),
            where=where,
            fix="keep long lists as evidence and log their digest",
        )
    return body


def _too_long(document: Mapping[str, JsonValue], size_bytes: int) -> str:
    event = document["event"]
    assert isinstance(event, dict)  # noqa: S101 - the frame's own shape
    sizes = {name: len(model.canonical_json(value)) for name, value in event.items()}
    largest = max(sizes, key=sizes.__getitem__)
    return f"it takes {size_bytes} bytes of {MAX_BODY_BYTES}, `{largest}` alone {sizes[largest]}"


def _float_in(value: JsonValue, path: str = "$") -> str:
    """Where the first float stands; empty where there is none."""
    match value:
        case float():
            return path
        case dict():
            return next((found for k, v in value.items() if (found := _float_in(v, f"{path}.{k}"))), "")
        case list():
            return next((found for i, v in enumerate(value) if (found := _float_in(v, f"{path}[{i}]"))), "")
        case _:
            return ""
