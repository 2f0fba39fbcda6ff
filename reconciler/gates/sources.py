"""What stands where in a target's folder: its document with lines, and its payload read as documents or as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from pydantic import JsonValue

from reconciler import documents, errors, model, ports, strict_yaml

DOCUMENTS = (".yaml", ".yml", ".json")
OPAQUE = "files/"  # Below it stand files that are delivered as they are: an application's own YAML need not be strict.
RENDERED = "/rendered.yaml"  # A payload's own paths are relative.
MAX_TEXT_BYTES = 1 << 18


@dataclass(frozen=True)
class File:
    """One file of a target. `parts` holds one value for each document in it; where there are several, the first element of a path is its number."""

    path: str  # in the folder
    where: str  # in the repository
    parts: tuple[strict_yaml.Located, ...] = ()
    text: str | None = None  # None: binary, or too large to show to a policy
    refused: model.Reason | None = None  # why it cannot be read as a document although its name says so

    @property
    def value(self) -> JsonValue:
        return self.parts[0].value if len(self.parts) == 1 else [part.value for part in self.parts]

    def place(self, path: strict_yaml.Path) -> str:
        """file:line of this value, or of the nearest one above it."""
        if len(self.parts) > 1 and path and isinstance(path[0], int) and 0 <= path[0] < len(self.parts):
            return f"{self.where}:{self.parts[path[0]].line(path[1:])}"
        return f"{self.where}:{self.parts[0].line(path) if len(self.parts) == 1 else 1}"


def read_document(repository: ports.Repository, desired: model.Desired) -> File:
    """The target.yaml that `desired` was made from.

    Raises: AuditError(content) when the revision does not hold the folder that `desired` names; ConfigError(parse).
    """
    name = desired.folder or desired.target
    tree = repository.tree(desired.revision)
    if documents.target_digest(tree, name) != desired.digest:
        raise errors.AuditError("content", f"{name} at {desired.revision} is not what was judged")
    where = f"targets/{name}/target.yaml"
    return File("target.yaml", where, (strict_yaml.parse(repository.read(tree[where.encode()].oid), where),))


def read_payload(desired: model.Desired) -> Iterator[File]:
    for path, blob in sorted(desired.payload.items()):
        where = f"targets/{desired.folder or desired.target}/{path}"
        yield _read(path, where, blob)


def read_rendered(desired: model.Desired, drivers: ports.Drivers) -> tuple[File, frozenset[str]] | None:
    """What this payload is rendered into, under a name that no file of a folder has; and what goes in. None where nothing is.

    Raises: as `ports.Rendering.rendered`; ConfigError(parse).
    """
    kind = drivers.get(desired.kind)
    if kind is None or desired.mode is model.Mode.ABSENT:
        return None
    with closing(kind()) as driver:
        made = driver.rendered(desired) if isinstance(driver, ports.Rendering) else None
    if made is None:
        return None
    return File(RENDERED, made.where, strict_yaml.parse_all(made.text, made.where), _text(made.text)), made.inputs


def _read(path: str, where: str, blob: bytes) -> File:
    text = _text(blob)
    if not path.endswith(DOCUMENTS):
        return File(path, where, text=text)
    try:
        return File(path, where, strict_yaml.parse_all(blob, where), text)
    except errors.ConfigError as exc:
        return File(path, where, text=text, refused=None if path.startswith(OPAQUE) else model.Reason.of(exc))


def _text(blob: bytes) -> str | None:
    if len(blob) > MAX_TEXT_BYTES or b"\0" in blob:
        return None
    try:
        return blob.decode()
    except UnicodeDecodeError:
        return None


def leaves(value: JsonValue, path: strict_yaml.Path = ()) -> Iterator[tuple[strict_yaml.Path, JsonValue]]:
    """Every scalar of a value, keys apart, with its path."""
    match value:
        case dict():
            for key, below in value.items():
                yield from leaves(below, (*path, key))
        case list():
            for i, below in enumerate(value):
                yield from leaves(below, (*path, i))
        case _:
            yield path, value


def as_json(value: object) -> JsonValue:
    """Frozen values as plain JSON: what a policy sees, and what digests are made of."""
    return json.loads(json.dumps(value, default=_plain))  # type: ignore[no-any-return]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(type(value).__name__)
