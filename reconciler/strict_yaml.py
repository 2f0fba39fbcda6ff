"""YAML bytes -> JSON values, strictly (design.md 6): what two parsers could read differently is refused, with file and line.

Refused: duplicate keys, anchors, aliases, tags, several documents (but by `parse_all`), keys that are no strings, and plain
scalars that mean one thing in YAML 1.1 and another in 1.2 or to a reader (`0777`, `NO`, `12:30:45`, `2026-01-31`, `1_000`).
"""

from __future__ import annotations

import itertools
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, get_args, get_origin

import yaml
from pydantic import JsonValue

from reconciler import errors, model

if TYPE_CHECKING:
    import pydantic
    import pydantic_core

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 200_000

Path = tuple[str | int, ...]

_INT = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?")
_AMBIGUOUS = re.compile(
    r"""
      (?i: y | yes | n | no | on | off | true | false | null )        # booleans and null in some spelling or version
    | [-+]?[0-9][0-9_]*                                               # octal, leading zeros, underscores, too many digits
    | [-+]?0[xXoObB][0-9a-fA-F_]+                                     # hexadecimal, octal, binary
    | [-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?                    # base 60
    | [-+]?(\.[0-9]+|[0-9][0-9_]*\.[0-9_]*)([eE][-+]?[0-9]+)?         # floats that are not written out
    | [-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    | [-+]?\.(?i:inf|nan)
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?                        # dates
    | = | <<
    """,
    re.VERBOSE,
)

# A marker in the first column always begins a document, in a block scalar too (YAML 1.2.2, 9.1.2).
_MARKER = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)

_Frame: TypeAlias = "_Mapping | _Sequence"


@dataclass(frozen=True, eq=False)
class Located:
    """A document and the line of each value in it, counted from its own top: `lines["spec", "rules", 0]`.

    `source` is the same document where it was read first: what was found out about it there holds wherever it stands.
    """

    value: JsonValue
    lines: Mapping[Path, int]
    first_line: int = 1  # of the document in its file
    elsewhere: Located | None = field(default=None, repr=False)

    @property
    def source(self) -> Located:
        return self.elsewhere or self

    def line(self, path: Path) -> int:
        """The line of this value, or of the nearest one above it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1) + self.first_line - 1


def load(blob: bytes, where: str) -> dict[str, JsonValue]:
    """The mapping that this document is.

    Raises: ConfigError(parse) with `where:line` and how to write it instead.
    """
    return mapping(parse(blob, where), where)


def mapping(document: Located, where: str) -> dict[str, JsonValue]:
    if not isinstance(document.value, dict):
        raise errors.ConfigError("parse", "a mapping is expected here", where=f"{where}:1")
    return document.value


def parse(blob: bytes, where: str, *, first_line: int = 1) -> Located:
    """Like `load`, with lines, and any value at the root. An empty document is None.

    `first_line`: of this document in its file. Raises: ConfigError(parse).
    """
    if len(blob) > MAX_BYTES:
        raise errors.ConfigError("parse", f"{len(blob)} bytes; at most {MAX_BYTES} are read", where=where)
    builder = _Builder(where, first_line)
    try:
        for event in _events(blob):
            builder.take(event)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        problem = getattr(exc, "problem", None) or "not YAML"
        raise errors.ConfigError(
            "parse", str(problem), where=f"{where}:{mark.line + first_line}" if mark else where
        ) from exc
    except UnicodeDecodeError as exc:
        raise errors.ConfigError("parse", "not UTF-8", where=where, fix="save the file as UTF-8") from exc
    return Located(builder.root, builder.lines, first_line)


def parse_all(blob: bytes, where: str) -> tuple[Located, ...]:
    """Each document of a file of several, lines counted from the top of the file. Empty ones are left out, but for the only one.

    A file is asked for by every gate and by its driver, and most files of a change did not change: what was read last is kept.
    So nobody may change what this returns. Raises: ConfigError(parse); `MAX_BYTES` holds for each document.
    """
    found = _LAST.get(blob, where)
    if found is None:
        found = _parse_all(blob, where)
        _LAST.put(blob, where, found)
    return found


class _Last:
    """The files read last, up to so many bytes of text; what they were read into takes some thirty times as much."""

    def __init__(self, most_bytes: int) -> None:
        self._entries: OrderedDict[tuple[str, bytes], tuple[Located, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self._size_bytes, self._most_bytes = 0, most_bytes

    def get(self, blob: bytes, where: str) -> tuple[Located, ...] | None:
        with self._lock:
            found = self._entries.get((where, blob))
            if found is not None:
                self._entries.move_to_end((where, blob))
            return found

    def put(self, blob: bytes, where: str, read: tuple[Located, ...]) -> None:
        with self._lock:
            if (where, blob) in self._entries or len(blob) > self._most_bytes // 2:
                return
            self._entries[where, blob] = read
            self._size_bytes += len(blob)
            while self._size_bytes > self._most_bytes:
                (_, oldest), _ = self._entries.popitem(last=False)
                self._size_bytes -= len(oldest)


_LAST = _Last(4 << 20)


class _Parts:
    """Documents of the files that somebody still holds, by their bytes: of a file of many a change moves one."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[bytes, Located] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def read(self, part: bytes, where: str, first_line: int) -> Located:
        """As `parse`. What was refused is not kept: its complaint names a place."""
        with self._lock:
            known = self._known.get(part)
        if known is None:
            known = parse(part, where, first_line=first_line)
            with self._lock:
                known = self._known.setdefault(part, known)
        if known.first_line == first_line:
            return known
        return Located(known.value, known.lines, first_line, known)


_PARTS = _Parts()


def _parse_all(blob: bytes, where: str) -> tuple[Located, ...]:
    marks = [m.start() for m in _MARKER.finditer(blob)]
    cuts = [0, *(mark for mark in marks if mark), len(blob)]
    found, line = [], 1
    for start, end in itertools.pairwise(cuts):
        part = blob[start:end]
        read = _PARTS.read(part, where, line)
        line += part.count(b"\n")
        if read.value is not None or len(cuts) == 2:  # noqa: PLR2004 - the only document of its file
            found.append(read)
    return tuple(found)


def validation_reasons(
    exc: ValueError, document: Located, where: str, at: Path = (), *, schema: type[pydantic.BaseModel] | None = None
) -> model.ValidationResult:
    """pydantic's findings about a value at the path `at` of this document, each with file and line.

    `schema`: the model that was asked; with it, a name that is nobody's gets the near one as its fix.
    """
    import pydantic

    if not isinstance(exc, pydantic.ValidationError):
        return (model.Reason(code="schema", message=str(exc), where=f"{where}:{document.line(at)}"),)
    found = []
    for each in exc.errors(include_url=False, include_input=False):
        path = (*at, *each["loc"])
        message = ": ".join(part for part in (".".join(map(str, path)), complaint(each)) if part)
        fix = suggestion(each, schema) if schema else ""
        found.append(model.Reason(code="schema", message=message, where=f"{where}:{document.line(path)}", fix=fix))
    return tuple(found)


def config_error(
    exc: ValueError, document: Located, where: str, at: Path = (), *, schema: type[pydantic.BaseModel] | None = None
) -> errors.ConfigError:
    """The same as one error: all findings in its message and all fixes in its fix, the first one's place as its own."""
    found = validation_reasons(exc, document, where, at, schema=schema)
    fixes = "; ".join(dict.fromkeys(r.fix for r in found if r.fix))
    return errors.ConfigError("schema", "; ".join(r.message for r in found), where=found[0].where, fix=fixes)


# What pydantic calls these does not help who writes YAML. `{}`: its context, which never holds the value itself.
_PLAIN: Mapping[str, str] = {
    "extra_forbidden": "no field of this name",
    "missing": "this field is missing",
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "a mapping is expected"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list is expected"),
    "string_type": "a text is expected; quote it",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number is expected"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number is expected"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false is expected"),
    **dict.fromkeys(("literal_error", "enum"), "{expected} is expected"),
    "string_too_short": "a text of at least {min_length} is expected",
    "string_too_long": "a text of at most {max_length} is expected",
    "too_short": "at least {min_length} are expected",
    "too_long": "at most {max_length} are expected",
    "greater_than": "more than {gt} is expected",
    "greater_than_equal": "{ge} or more is expected",
    "less_than": "less than {lt} is expected",
    "less_than_equal": "{le} or less is expected",
    "string_pattern_mismatch": "it has not the form {pattern}",
}


def complaint(error: pydantic_core.ErrorDetails) -> str:
    """One of pydantic's findings in words of a document."""
    plain = _PLAIN.get(error["type"])
    return plain.format_map(error.get("ctx", {})) if plain else error["msg"].removeprefix("Value error, ")


def suggestion(error: pydantic_core.ErrorDetails, schema: type[pydantic.BaseModel]) -> str:
    """The field that was probably meant, where the name is nobody's; else nothing."""
    if error["type"] != "extra_forbidden":
        return ""
    import difflib

    *above, name = error["loc"]
    near = difflib.get_close_matches(str(name), _fields(schema, tuple(above)), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _fields(of: type[pydantic.BaseModel], path: Path) -> list[str]:
    """What may stand at this path of a document."""
    import pydantic

    known = {entry.alias or name: entry for name, entry in of.model_fields.items()}
    if not path:
        return list(known)
    entry = known.get(str(path[0]))
    inner = [a for a in _parts(entry.annotation) if issubclass(a, pydantic.BaseModel)] if entry else []
    chosen = len(path) > 1 and (isinstance(path[1], int) or _is_by_name(entry.annotation if entry else None))
    rest = path[2:] if chosen else path[1:]
    return _fields(inner[0], rest) if inner else []


def _is_by_name(annotation: object) -> bool:
    """Whether people choose the keys there: those are no fields of ours."""
    return get_origin(annotation) is Mapping or any(get_origin(part) is Mapping for part in get_args(annotation))


def _parts(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _events(blob: bytes) -> Iterator[yaml.Event]:
    text = blob.decode("utf-8")
    if text.startswith("\ufeff"):
        raise yaml.YAMLError
    yield from yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@dataclass
class _Mapping:
    path: Path
    value: dict[str, JsonValue] = field(default_factory=dict)
    key: str | None = None


@dataclass
class _Sequence:
    path: Path
    value: list[JsonValue] = field(default_factory=list)


class _Builder:
    """Takes parse events; keeps what is open on a stack, so that depth is bounded by us and not by the interpreter."""

    def __init__(self, where: str, first_line: int) -> None:
        self.root: JsonValue = None
        self.lines: dict[Path, int] = {}
        self._where, self._first_line = where, first_line
        self._stack: list[_Frame] = []
        self._documents = self._nodes = 0

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.AliasEvent():
                raise self._error(event, "aliases are refused", "write the value out")
            case yaml.ScalarEvent():
                self._node(event)
                self._put(event, self._scalar(event))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._node(event)
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._stack.pop()
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._error(event, "a second document", "one document a file")
            case _:
                pass

    def _node(self, event: yaml.NodeEvent) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(event, f"more than {MAX_NODES} values", "split the file")
        if event.anchor is not None:
            raise self._error(event, "anchors are refused", "write the value out")
        if getattr(event, "tag", None) is not None:
            raise self._error(event, "tags are refused", "quote the value if it is a string")

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH}", "flatten it")
        path = self._path()
        frame: _Frame = _Mapping(path) if isinstance(event, yaml.MappingStartEvent) else _Sequence(path)
        self._put(event, frame.value)
        self._stack.append(frame)

    def _path(self) -> Path:
        if not self._stack:
            return ()
        frame = self._stack[-1]
        return (*frame.path, len(frame.value) if isinstance(frame, _Sequence) else frame.key or "")

    def _put(self, event: yaml.Event, value: JsonValue) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        match self._stack[-1] if self._stack else None:
            case None:
                self.root = value
                self.lines[()] = line
            case _Sequence() as frame:
                self.lines[self._path()] = line
                frame.value.append(value)
            case _Mapping(key=None) as frame:
                if not isinstance(value, str):
                    raise self._error(event, "a key must be a string", "quote it")
                if value in frame.value:
                    raise self._error(event, f"the key {value!r} stands twice", "remove one of them")
                frame.key = value
                self.lines[self._path()] = line
            case _Mapping() as frame:
                frame.value[frame.key or ""] = value
                frame.key = None

    def _scalar(self, event: yaml.ScalarEvent) -> JsonValue:
        text: str = event.value
        if not event.implicit[0]:  # Quoted or a block: a string, whatever it looks like.
            return text
        if text in {"null", "~", ""}:
            return None
        if text in {"true", "false"}:
            return text == "true"
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        if _AMBIGUOUS.fullmatch(text):
            raise self._error(
                event, f"{text!r} is read differently by different parsers", f'write "{text}" if it is a string'
            )
        return text

    def _error(self, event: yaml.Event, message: str, fix: str) -> errors.ConfigError:
        return errors.ConfigError("parse", message, where=f"{self._where}:{self._line(event)}", fix=fix)

    def _line(self, event: yaml.Event) -> int:
        return self._first_line + (event.start_mark.line if event.start_mark else 0)
