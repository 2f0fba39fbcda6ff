r"""vm.yaml -> what should be where, in order. Pure: nothing here looks at a host.

vm.yaml:
    directories:
      - {path: conf.d, mode: "0755"}
    files:
      - {path: conf.d/app.conf, source: files/app.conf, mode: "0644", owner: app, group: app}
      - {path: ready, content: "yes\n", mode: "0644", after: [conf.d/app.conf]}

Paths are relative to `connection.root`. A resource's key is its kind and that path, with an empty namespace in between:
`file//conf.d/app.conf`, `directory//conf.d`. Every folder below the root that holds something is declared itself, so that a
plan says with which mode it is made. Directories come first, by depth, then files, by their longest chain of `after`.
"""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import pydantic
from pydantic import JsonValue

from reconciler import documents, errors, model, strict_yaml

FILE = "vm.yaml"
OURS = ".reconciler"  # our own folder under the root, and how the names of our temporary files begin
MAX_DEPTH = 32
FIRST_FILE_ORDER = 100  # above every depth; planning runs deletes in reverse from 1000
MAX_CHAIN = 500

Kind = Literal["file", "directory"]

# What a shell, a log or a key could read differently is refused, not quoted (targets.md D23).
_SEGMENT = re.compile(r"[A-Za-z0-9._@+=,~-]{1,200}")
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}|[0-9]{1,9}")
_MODE = re.compile(r"0[0-7]{3}|[1-7][0-7]{3}")


class State(model.Value):
    """The canonical form of one resource: what is compared, and what a snapshot keeps."""

    type: Kind
    mode: str  # "0644"
    uid: int
    gid: int
    digest: str = ""  # SHA-256 of a file's content
    size: int = 0

    def document(self) -> dict[str, JsonValue]:
        if self.type == "directory":
            return self.model_dump(mode="json", exclude={"digest", "size"})
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Want:
    """One declared resource. Owners are names or numbers as written; None is the daemon's own."""

    type: Kind
    path: str
    mode: str
    order: int
    owner: str | None = None
    group: str | None = None
    content: bytes | None = None  # of a file; None where only its digest is known, in a snapshot
    digest: str = ""
    size: int = 0
    sensitive: bool = False
    hazards: tuple[str, ...] = ()
    source: str = ""

    @property
    def key(self) -> model.Key:
        return key_of(self.type, self.path)

    def declared(self) -> dict[str, JsonValue]:
        """As the document has it: no number of a host's own, and of a content no more than its digest."""
        said: dict[str, JsonValue] = {"type": self.type, "mode": self.mode, "owner": self.owner, "group": self.group}
        return said if self.type == "directory" else said | {"digest": self.digest, "size": self.size}


def key_of(kind: Kind, path: str) -> model.Key:
    return model.Key(f"{kind}//{path}")


def parse_key(key: model.Key) -> tuple[Kind, str]:
    """Raises: ConfigError(key) for what is no key of a vm target."""
    kind, _, path = key.partition("//")
    if kind not in {"file", "directory"}:
        raise errors.ConfigError("key", f"{key!r} is no resource of a vm target")
    try:
        return ("file" if kind == "file" else "directory"), _path(path)
    except ValueError as exc:
        raise errors.ConfigError("key", f"{key!r}: {exc}") from exc


def order_of(key: model.Key) -> int:
    """Of a leftover, which no document orders any more: its depth, or behind all directories."""
    kind, path = parse_key(key)
    return path.count("/") if kind == "directory" else FIRST_FILE_ORDER


# --- the document -------------------------------------------------------------------------------------------------------


def _path(text: str) -> str:
    parts = text.split("/")
    if text.startswith("/"):
        raise ValueError("paths are relative to connection.root; leave the leading / out")
    if any(part in {"", ".", ".."} for part in parts):
        raise ValueError("no empty part, . or .. in a path")
    if not all(_SEGMENT.fullmatch(part) for part in parts):
        raise ValueError("letters, digits and ._@+=,~- only in a path")
    if any(part.startswith(OURS) for part in parts):
        raise ValueError(f"names that begin with {OURS} are ours")
    if len(parts) > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} parts")
    return text


def _mode(text: str) -> str:
    if not _MODE.fullmatch(text):
        raise ValueError('write the mode as four quoted digits, such as "0644"')
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("no name of a user or group")
    return text


Path = Annotated[str, pydantic.AfterValidator(_path)]
Mode = Annotated[str, pydantic.AfterValidator(_mode)]
Name = Annotated[str, pydantic.AfterValidator(_name)]


class _Owned(documents.Camel):
    path: Path
    mode: Mode
    owner: Name | None = None
    group: Name | None = None
    special: bool = False
    hazards: tuple[str, ...] = ()

    @pydantic.model_validator(mode="after")
    def _special_bits_are_declared(self) -> Self:
        if self.mode[0] != "0" and not self.special:
            raise ValueError("setuid, setgid and sticky bits need `special: true`")
        return self


class Directory(_Owned):
    purge: Literal[False] = False  # Removing what nobody declared is not in this version: it is reported as foreign.


class File(_Owned):
    source: str | None = None
    content: str | None = None
    sensitive: bool = False
    after: tuple[Path, ...] = ()

    @pydantic.model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source is None) == (self.content is None):
            raise ValueError("write either `source` or `content`")
        if self.source is not None and not self.source.startswith("files/"):
            raise ValueError("`source` lies under files/")
        return self


class Document(documents.Camel):
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()


def read(wanted: model.Wanted) -> Mapping[model.Key, Want]:
    """What should be there, by key.

    Raises: ConfigError(parse | schema) with file and line: what `problems` finds.
    """
    if isinstance(wanted, model.Snapshot):
        return _restored(wanted.resources)
    return {**_restored(wanted.given_back), **_declared(wanted)}


def _declared(wanted: model.Desired) -> dict[model.Key, Want]:
    if wanted.mode is model.Mode.ABSENT:
        return {}
    document, located = _parse(wanted)
    found = tuple(_problems(document, located, wanted))
    if found:
        text = "; ".join(reason.message for reason in found)
        raise errors.ConfigError("schema", text, where=found[0].where, fix=found[0].fix)
    return {want.key: want for want in _wants(document, located, wanted)}


def problems(desired: model.Desired) -> model.ValidationResult:
    """Everything that speaks against this document, each with its line."""
    if desired.mode is model.Mode.ABSENT:
        return ()
    try:
        where = _where(desired)
        located = _located(desired)
        document = Document.model_validate(strict_yaml.mapping(located, where))
    except pydantic.ValidationError as exc:
        return strict_yaml.validation_reasons(exc, located, where, schema=Document)
    except errors.ConfigError as exc:
        return (model.Reason.of(exc),)
    return tuple(_problems(document, located, desired))


def _where(desired: model.Desired) -> str:
    return f"targets/{desired.target}/{FILE}"


def _located(desired: model.Desired) -> strict_yaml.Located:
    if FILE not in desired.payload:
        raise errors.ConfigError("schema", "this file is missing", where=_where(desired), fix="add it; {} is legal")
    return strict_yaml.parse(desired.payload[FILE], _where(desired))


def _parse(desired: model.Desired) -> tuple[Document, strict_yaml.Located]:
    located = _located(desired)
    try:
        return Document.model_validate(strict_yaml.mapping(located, _where(desired))), located
    except ValueError as exc:
        raise strict_yaml.config_error(exc, located, _where(desired), schema=Document) from exc


@dataclass(frozen=True)
class _Reasons:
    """Makes reasons that name the line of a value."""

    where: str
    located: strict_yaml.Located

    def reason(self, at: strict_yaml.Path, message: str, fix: str = "") -> model.Reason:
        return model.Reason(code="schema", message=message, where=f"{self.where}:{self.located.line(at)}", fix=fix)


def _problems(document: Document, located: strict_yaml.Located, desired: model.Desired) -> Iterator[model.Reason]:
    reason = _Reasons(_where(desired), located).reason
    directories = {each.path for each in document.directories}
    files = {each.path for each in document.files}
    seen: set[str] = set()
    for section, index, each in _entries(document):
        at = (section, index, "path")
        if each.path in seen:
            yield reason(at, f"{each.path} stands twice", "remove one of them")
        seen.add(each.path)
        parent = each.path.rpartition("/")[0]
        if parent and parent not in directories:
            fix = f'add under directories: {{path: {parent}, mode: "0755"}}'
            yield reason(at, f"{each.path}: its folder {parent} is not declared", fix)
    for index, file in enumerate(document.files):
        if file.source is not None and file.source not in desired.payload:
            yield reason(("files", index, "source"), f"{file.source} does not exist in targets/{desired.target}/")
        for place, other in enumerate(file.after):
            if other not in files:
                yield reason(("files", index, "after", place), f"after: {other} is no file of this document")
    yield from _chains(document, _Reasons(_where(desired), located))


def _entries(document: Document) -> Iterator[tuple[str, int, Directory | File]]:
    yield from (("directories", index, each) for index, each in enumerate(document.directories))
    yield from (("files", index, each) for index, each in enumerate(document.files))


def _chains(document: Document, reasons: _Reasons) -> Iterator[model.Reason]:
    try:
        levels = _levels(document)
    except graphlib.CycleError as exc:
        chain = [str(path) for path in exc.args[1]]
        index = next(i for i, file in enumerate(document.files) if file.path in chain)
        yield reasons.reason(
            ("files", index, "after"), f"a cycle of after: {' -> '.join(chain)}", "remove one of the edges"
        )
    else:
        if max(levels.values(), default=0) >= MAX_CHAIN:
            yield reasons.reason(("files",), f"a chain of after is longer than {MAX_CHAIN}")


def _levels(document: Document) -> dict[str, int]:
    """File -> length of its longest chain of `after`.

    Raises: graphlib.CycleError.
    """
    edges = {file.path: set(file.after) for file in document.files}
    levels: dict[str, int] = {}
    for path in graphlib.TopologicalSorter(edges).static_order():
        levels[path] = 1 + max((levels[other] for other in edges.get(path, ())), default=-1)
    return levels


def _wants(document: Document, located: strict_yaml.Located, desired: model.Desired) -> Iterator[Want]:
    levels = _levels(document)
    for section, index, each in _entries(document):
        source = f"{_where(desired)}:{located.line((section, index))}"
        match each:
            case Directory():
                yield Want(
                    type="directory",
                    path=each.path,
                    mode=each.mode,
                    order=each.path.count("/"),
                    owner=each.owner,
                    group=each.group,
                    hazards=each.hazards,
                    source=source,
                )
            case File():
                content = desired.payload[each.source] if each.source else (each.content or "").encode()
                yield Want(
                    type="file",
                    path=each.path,
                    mode=each.mode,
                    order=FIRST_FILE_ORDER + levels[each.path],
                    owner=each.owner,
                    group=each.group,
                    content=content,
                    digest=model.sha256(content),
                    size=len(content),
                    sensitive=each.sensitive,
                    hazards=each.hazards,
                    source=source,
                )


def _restored(there: Mapping[model.Key, JsonValue]) -> dict[model.Key, Want]:
    """Resources as a snapshot keeps them: their contents come from the store, by digest."""
    return {key: _as_kept(key, value) for key, value in there.items() if value is not None}


def _as_kept(key: model.Key, value: JsonValue) -> Want:
    kind, path = parse_key(key)
    try:
        state = State.model_validate(value)
    except ValueError as exc:
        raise errors.PermanentError("snapshot", f"{key}: the snapshot is not of a vm target") from exc
    return Want(
        type=kind,
        path=path,
        mode=state.mode,
        order=order_of(key),
        owner=str(state.uid),
        group=str(state.gid),
        digest=state.digest,
        size=state.size,
        sensitive=True,  # Nobody can say any more whether it was.
    )
