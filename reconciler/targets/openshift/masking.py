"""What of an object may be shown. Values of secrets become constants here, whatever they were; nothing is searched for.

`mask` is for one object, `mask_pair` for two sides of one: a value that happens to equal the mask must not look unchanged, so
the two sides are compared before they are masked (targets.md 2.5, T08). `seal` keeps what a comparison needs and no more.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from reconciler import model, redact
from reconciler.targets.openshift import naming

CHANGED = "(changed)"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_DEPTH = 100

Body = Mapping[str, JsonValue]
Path = tuple[str | int, ...]

# Below these paths every value is a secret. In Git each of them is a reference, but for `data`, which may not stand there.
SECRETS: Mapping[tuple[str, str], tuple[Path, ...]] = {
    ("", "Secret"): (("data",), ("stringData",)),
    ("route.openshift.io", "Route"): (("spec", "tls", "key"),),
    ("oauth.openshift.io", "OAuthClient"): (("secret",), ("additionalSecrets",)),
}


def mask(body: Body) -> dict[str, JsonValue]:
    """A copy without a secret's value: of Secrets, in last-applied annotations, in managedFields, in lists of objects, in
    `env` and in fields whose name says so. References are kept: they are no secrets.
    """
    return _object(body, 0)


def mask_pair(wanted: JsonValue, actual: JsonValue) -> tuple[JsonValue, JsonValue]:
    """Both sides masked; a secret that differs is `***` in the actual and `(changed)` in the wanted one."""
    if not isinstance(wanted, dict) or not isinstance(actual, dict):
        return (_any(wanted), _any(actual))
    one, other = mask(wanted), mask(actual)
    for path in _masked(wanted, one):
        there, value = _at(actual, path)
        if there and value != _at(wanted, path)[1]:
            put(one, path, CHANGED)
    return one, other


def seal(body: Body, key: bytes) -> dict[str, JsonValue]:
    """A copy in which each secret is `hmac-sha256:...` of its bytes: equal where the secrets are, and nothing else.

    `stringData`, its references resolved, comes under `data` as the server keeps it, so that both sides compare. `key`: 32 random bytes that
    stay with the daemon; without them a short secret could be found by trying.
    """
    sealed = copied(body)
    if _named(body) == ("", "Secret"):
        _gather(sealed)
    for path in _paths(body):
        holder, last = _holder(sealed, path)
        if isinstance(holder, dict) and holder.get(last) is not None:
            holder[last] = _sealed(holder[last], key, raw=path != ("data",))
    metadata = sealed.get("metadata")
    if isinstance(metadata, dict) and holds_secrets(body):
        metadata.pop("managedFields", None)
        annotations = metadata.get("annotations")
        if isinstance(annotations, dict) and LAST_APPLIED in annotations:
            annotations[LAST_APPLIED] = _sealed(annotations[LAST_APPLIED], key, raw=True)
    return sealed


def secrets_of(body: Body) -> Iterator[tuple[Path, JsonValue]]:
    """Each value of this object that is a secret by where it stands, and its path."""
    for path in _paths(body):
        yield from _leaves(_at(dict(body), path)[1], path)


def holds_secrets(body: Body) -> bool:
    """Whether errors of the server about this object may quote one."""
    return bool(_paths(body)) or any(holds_secrets(each) for each in _items(body))


def server_said(message: str, body: Body, reason: str = "") -> str:
    """An error text of the server about this object, fit to be shown (targets.md T09).

    About an object that holds secrets only the reason stays, a word of the API's own: the text quotes what was invalid.
    """
    if holds_secrets(body):
        word = reason if reason.isalpha() and reason.isascii() else "Invalid"
        return f"{word}: what the server said is withheld, since it may quote a secret"
    return redact.line(message)


# --- masking ------------------------------------------------------------------------------------------------------------


def _any(value: JsonValue) -> JsonValue:
    return _object(value, 0) if isinstance(value, dict) else _value(value, 0)


def _object(body: Body, depth: int) -> dict[str, JsonValue]:
    clean: dict[str, JsonValue] = {key: _field(key, value, depth + 1) for key, value in body.items()}
    if not (holds := holds_secrets(body)) and "metadata" not in body:
        return clean
    for path in _paths(body):
        holder, last = _holder(clean, path)
        if isinstance(holder, dict) and last in holder:
            holder[last] = _all_masked(_at(dict(body), path)[1], references=path != ("data",))
    metadata = clean.get("metadata")
    if isinstance(metadata, dict):
        annotations = metadata.get("annotations")
        if isinstance(annotations, dict) and LAST_APPLIED in annotations:
            metadata["annotations"] = {**annotations, LAST_APPLIED: redact.MASK}
        if holds:
            metadata.pop("managedFields", None)  # Its sets hold values: `v:"..."`, `k:{...}`.
    return clean


def _field(key: str, value: JsonValue, depth: int) -> JsonValue:
    if isinstance(value, str) and redact.looks_secret(key) and not redact.is_reference(value):
        return redact.MASK if value else value
    return _value(value, depth)


def _value(value: JsonValue, depth: int) -> JsonValue:
    if depth > MAX_DEPTH:
        return redact.MASK
    match value:
        case dict() if "kind" in value or "metadata" in value:  # An object inside a list or a template.
            return _object(value, depth)
        case dict():
            name = value.get("name")  # As `env` has it: {name: DB_PASSWORD, value: ...}
            as_named = {"value": name} if isinstance(name, str) else {}
            return {key: _field(as_named.get(key, key), inner, depth + 1) for key, inner in value.items()}
        case list():
            return [_value(inner, depth + 1) for inner in value]
        case _:
            return value


def _all_masked(value: JsonValue, *, references: bool) -> JsonValue:
    match value:
        case dict():
            return {key: _all_masked(inner, references=references) for key, inner in value.items()}
        case list():
            return [_all_masked(inner, references=references) for inner in value]
        case str() if references and redact.is_reference(value):
            return value
        case None:
            return None
        case _:
            return redact.MASK


def _masked(before: JsonValue, after: JsonValue, path: Path = ()) -> Iterator[Path]:
    """Where masking put a constant."""
    match (before, after):
        case (dict(), dict()):
            for key in after:
                if key in before:
                    yield from _masked(before[key], after[key], (*path, key))
        case (list(), list()):
            for index, (one, other) in enumerate(zip(before, after, strict=True)):
                yield from _masked(one, other, (*path, index))
        case (_, redact.MASK):
            yield path


# --- where secrets stand ------------------------------------------------------------------------------------------------


def _named(body: Body) -> tuple[str, str]:
    version, kind = body.get("apiVersion"), body.get("kind")
    try:
        group = naming.group_of(version) if isinstance(version, str) else ""
    except ValueError:
        group = ""
    return group, kind if isinstance(kind, str) else ""


def _paths(body: Body) -> tuple[Path, ...]:
    """By kind; what calls itself a Secret is one whatever its version says."""
    group, kind = _named(body)
    return SECRETS[("", "Secret")] if kind == "Secret" else SECRETS.get((group, kind), ())


def _items(body: Body) -> Iterator[Body]:
    items = body.get("items")
    yield from (each for each in (items if isinstance(items, list) else ()) if isinstance(each, dict))


def _leaves(value: JsonValue, path: Path) -> Iterator[tuple[Path, JsonValue]]:
    match value:
        case None:
            return
        case dict():
            for key, inner in value.items():
                yield from _leaves(inner, (*path, key))
        case list():
            for index, inner in enumerate(value):
                yield from _leaves(inner, (*path, index))
        case _:
            yield path, value


def _at(body: JsonValue, path: Path) -> tuple[bool, JsonValue]:
    for part in path:
        match body:
            case dict() if part in body:
                body = body[str(part)]
            case list() if isinstance(part, int) and part < len(body):
                body = body[part]
            case _:
                return False, None
    return True, body


def _holder(body: JsonValue, path: Path) -> tuple[JsonValue, str]:
    return _at(body, path[:-1])[1], str(path[-1])


def put(body: JsonValue, path: Path, value: JsonValue) -> None:
    holder, last = _at(body, path[:-1])[1], path[-1]
    if isinstance(holder, dict):
        holder[str(last)] = value
    elif isinstance(holder, list) and isinstance(last, int):
        holder[last] = value


# --- sealing ------------------------------------------------------------------------------------------------------------


def copied(value: Body) -> dict[str, JsonValue]:
    def deep(each: JsonValue) -> JsonValue:
        if isinstance(each, dict):
            return {key: deep(inner) for key, inner in each.items()}
        return [deep(inner) for inner in each] if isinstance(each, list) else each

    return {key: deep(inner) for key, inner in value.items()}


def _gather(body: dict[str, JsonValue]) -> None:
    """`stringData` is written only: the server keeps it under `data`, over what stood there."""
    written = body.pop("stringData", None)
    if isinstance(written, dict) and written:
        kept = body.get("data")
        coded = {k: base64.b64encode(_bytes(v)).decode() for k, v in written.items()}
        body["data"] = {**(kept if isinstance(kept, dict) else {}), **coded}


def _sealed(value: JsonValue, key: bytes, *, raw: bool) -> JsonValue:
    match value:
        case dict():
            return {name: _sealed(inner, key, raw=raw) for name, inner in value.items()}
        case list():
            return [_sealed(inner, key, raw=raw) for inner in value]
        case None:
            return None
        case _:
            content = _bytes(value) if raw else _decoded(value)
            return f"hmac-sha256:{hmac.new(key, content, hashlib.sha256).hexdigest()}"


def _decoded(value: JsonValue) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "-", validate=True)
    except (binascii.Error, ValueError):
        return b"\0" + _bytes(value)  # No base64: nothing that the server keeps is equal to it.


def _bytes(value: JsonValue) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else model.canonical_json(value)
