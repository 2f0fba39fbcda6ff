"""Verified blobs -> values: the digest of a target's folder, then, and only then, its document (design.md 6).

apiVersion: reconciler/v1
kind: Target
metadata: {name: payments-api, labels: {team: payments}}
spec:
  type: vm
  environment: prod
  connection: {transport: local, root: /srv/app}
  deploy: {checks: [{opa: compliance_policy}]}
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, TypeVar

import pydantic
from pydantic import JsonValue
from pydantic.alias_generators import to_camel

from reconciler import errors, model, ports, strict_yaml

_Line = TypeVar("_Line")
_Value = TypeVar("_Value")

LINK, REGULAR = "120000", frozenset({"100644", "100755"})
API_VERSION = "reconciler/v1"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


def content_digest(tree: model.Tree) -> model.Digest:
    """SHA-256 over the lines `mode SP path NUL hex(sha256(blob)) LF`, sorted by raw path bytes (trust.md 2.1). Parses nothing."""
    lines = (e.mode.encode() + b" " + path + b"\0" + e.sha256.encode() + b"\n" for path, e in sorted(tree.items()))
    return model.sha256(b"".join(lines))


def folder(tree: model.Tree, path: bytes) -> model.Tree:
    return {p: entry for p, entry in tree.items() if p.startswith(path + b"/")}


def link_target(path: bytes, text: bytes) -> bytes | None:
    """Where a symbolic link at this path leads, lexically: beside it or below; None for anything else that a link may say."""
    segments = text.split(b"/")
    if any(segment in {b"", b".", b".."} or b"\0" in segment for segment in segments):
        return None
    return path.rpartition(b"/")[0] + b"/" + text


class _Folders:
    """The folders under targets/ of the trees asked about last: a thousand targets must not each go through the whole tree."""

    def __init__(self, kept: int) -> None:
        self._kept: deque[tuple[model.Tree, dict[bytes, dict[bytes, model.Entry]]]] = deque(maxlen=kept)

    def of(self, tree: model.Tree) -> dict[bytes, dict[bytes, model.Entry]]:
        for known, folders in tuple(self._kept):
            if known is tree:  # A tree is never changed once it was read.
                return folders
        found: dict[bytes, dict[bytes, model.Entry]] = {}
        for path, entry in tree.items():
            parts = path.split(b"/", 2)
            if parts[0] == b"targets" and len(parts) > 2:  # noqa: PLR2004 - targets/<name>/...
                found.setdefault(parts[1], {})[path] = entry
        self._kept.append((tree, found))
        return found


_FOLDERS = _Folders(8)


def target_names(tree: model.Tree) -> tuple[str, ...]:
    """The targets that this tree has a document for, sorted."""
    parts = (path.split(b"/") for path in tree)
    found = {p[1] for p in parts if len(p) == 3 and p[0] == b"targets" and p[2] == b"target.yaml"}  # noqa: PLR2004 - targets/<name>/target.yaml
    return tuple(sorted(name.decode(errors="surrogateescape") for name in found))


def target_digest(tree: model.Tree, name: str) -> model.Digest | None:
    """The digest of a target's folder; None where it has no target.yaml: a document that vanishes releases."""
    if f"targets/{name}/target.yaml".encode(errors="surrogateescape") not in tree:
        return None
    return content_digest(_target_files(tree, name))


def _target_files(tree: model.Tree, name: str) -> model.Tree:
    return _FOLDERS.of(tree).get(name.encode(errors="surrogateescape"), {})


def target_digests(tree: model.Tree) -> dict[str, model.Digest]:
    """Of every target that has a document; one pass over the tree."""
    return {
        name.decode(errors="surrogateescape"): content_digest(files)
        for name, files in sorted(_FOLDERS.of(tree).items())
        if b"targets/" + name + b"/target.yaml" in files
    }


class TargetDocument(model.Value):
    """A target.yaml with its payload. `acknowledge` is no part of what the target should be: see admission/admitted.py."""

    desired: model.Desired
    acknowledge: frozenset[model.Acknowledgement]


def read_version(repository: ports.Repository, version: model.Version, name: str) -> TargetDocument | None:
    """The target in this state; None for a snapshot, which has no document.

    Raises: as `read_target`.
    """
    if version.revision is None:
        return None
    if not version.folder:
        return read_target(repository, version.revision, name, digest=version.digest)
    found = read_target(repository, version.revision, version.folder, digest=version.digest)
    if found is None:
        return None
    renamed = {"target": name, "folder": version.folder}
    return found.model_copy(update={"desired": found.desired.model_copy(update=renamed)})


def read_target(
    repository: ports.Repository, revision: model.Oid, name: str, *, digest: model.Digest | None = None
) -> TargetDocument | None:
    """The target at this revision, or None where it has no document. With `digest`, only what has it is parsed.

    Raises: ConfigError with file and line; AuditError(content) when the log names another digest.
    """
    tree = repository.tree(revision)
    actual = target_digest(tree, name)
    if digest is not None and digest != actual:
        raise errors.AuditError("content", f"{name} at {revision} is not what was accepted")
    if actual is None:
        return None
    root = f"targets/{name}/"
    files = _target_files(tree, name)
    blobs = {path.decode()[len(root) :]: _content(repository, files, path) for path in files}
    return parse_target(name, revision, actual, blobs)


def _content(repository: ports.Repository, files: model.Tree, path: bytes) -> bytes:
    """Of a symbolic link that of its file, which the folder's digest holds too: a driver and a gate see two files.

    Raises: ConfigError(symlink) for one that leads to no file of this folder, which admission lets nowhere.
    """
    entry = files[path]
    if entry.mode != LINK:
        return repository.read(entry.oid)
    to = link_target(path, repository.read(entry.oid))
    found = files.get(to) if to else None
    if found is None or found.mode not in REGULAR:
        where = path.decode(errors="backslashreplace")
        raise errors.ConfigError("symlink", "a link that leads to no file of this target's folder", where=where)
    return repository.read(found.oid)


def _seconds(text: object) -> float:
    match text:
        case int() | float() if not isinstance(text, bool):
            return float(text)  # A default of ours.
        case str() if text[:-1].isdecimal() and text[-1:] in _SECONDS:
            return float(int(text[:-1]) * _SECONDS[text[-1]])
    raise ValueError(f"{text!r} is no duration; write '30s', '5m', '4h' or '7d'")


Duration = Annotated[
    float,
    pydantic.BeforeValidator(
        _seconds, json_schema_input_type=Annotated[str, pydantic.Field(pattern=r"^[0-9]+[smhd]$")]
    ),
]
Serial = Annotated[int, pydantic.Field(ge=1)] | Annotated[str, pydantic.Field(pattern=r"^([1-9][0-9]?|100)%$")]
NonEmpty = Annotated[str, pydantic.Field(min_length=1)]


class Camel(model.Value):
    """What YAML looks like: camelCase, no field that nobody knows."""

    model_config = pydantic.ConfigDict(alias_generator=to_camel)


class _Metadata(Camel):
    name: Annotated[str, pydantic.Field(pattern=f"^{_NAME}$")]
    labels: Mapping[str, str] = {}
    formerly: str = ""


class _Deadlines(Camel):
    connect: Duration = 10.0
    command: Duration = 30.0
    stage: Duration = 300.0
    health: Duration = 600.0
    total: Duration = 1800.0


class _Deletes(Camel):
    max: Annotated[int, pydantic.Field(ge=0)] = 5
    max_percent: Annotated[int, pydantic.Field(ge=0, le=100)] = 10


class _Rollout(Camel):
    serial: tuple[Serial, ...] = ()
    max_failed: Annotated[int, pydantic.Field(ge=0)] = 0


class _Ignore(Camel):
    key: NonEmpty
    path: NonEmpty
    reason: NonEmpty
    owner: str = ""
    until: str = ""


class _Acknowledge(Camel):
    hazard: NonEmpty
    key: NonEmpty
    reason: NonEmpty


class _Deploy(Camel):
    checks: tuple[Mapping[str, JsonValue], ...] = ()


class TargetSpec(Camel):
    """`spec` without the driver's own part, which stands under the name of its type."""

    type: NonEmpty
    environment: NonEmpty
    connection: Mapping[str, JsonValue] = {}
    depends_on: tuple[str, ...] = ()
    deploy: _Deploy = _Deploy()
    mode: model.Mode = model.Mode.CORRECT
    interval: Annotated[Duration, pydantic.Field(ge=1)] = 60.0
    deadlines: _Deadlines = _Deadlines()
    deletes: _Deletes = _Deletes()
    adopt: tuple[NonEmpty, ...] = ()
    ignore: tuple[_Ignore, ...] = ()
    rollout: _Rollout = _Rollout()
    health: tuple[Mapping[Literal["port", "http", "file"], Mapping[str, JsonValue]], ...] = ()
    acknowledge: tuple[_Acknowledge, ...] = ()


class TargetFile(Camel):
    """A whole target.yaml, as JSON Schema shows it; the driver's part is checked by the driver's own model."""

    api_version: Literal["reconciler/v1"]
    kind: Literal["Target"]
    metadata: _Metadata
    spec: TargetSpec


def parse_target(name: str, revision: model.Oid, digest: model.Digest, blobs: Mapping[str, bytes]) -> TargetDocument:
    """`blobs`: path in the folder -> bytes, `target.yaml` among them.

    Raises: ConfigError(parse | schema) with file and line.
    """
    where = f"targets/{name}/target.yaml"
    located = strict_yaml.parse(blobs["target.yaml"], where)
    document = strict_yaml.mapping(located, where)
    own = _own_part(document)
    try:
        read = TargetFile.model_validate(document)
    except ValueError as exc:
        raise strict_yaml.config_error(exc, located, where, schema=TargetFile) from exc
    checks = _each(_check, read.spec.deploy.checks, located, where, ("spec", "deploy", "checks"))
    probes = _each(_probe, read.spec.health, located, where, ("spec", "health"))
    if read.metadata.name != name:
        line = located.line(("metadata", "name"))
        raise errors.ConfigError(
            "schema", f"metadata.name is {read.metadata.name!r}, the folder is {name!r}", where=f"{where}:{line}"
        )
    spec = read.spec
    desired = model.Desired(
        target=name,
        revision=revision,
        digest=digest,
        kind=spec.type,
        environment=spec.environment,
        labels=read.metadata.labels,
        formerly=read.metadata.formerly,
        connection=spec.connection,
        spec=own,
        payload={} if spec.mode is model.Mode.ABSENT else {p: b for p, b in blobs.items() if p != "target.yaml"},
        depends_on=spec.depends_on,
        checks=checks,
        mode=spec.mode,
        interval_s=spec.interval,
        deadlines=model.Deadlines(
            connect_s=spec.deadlines.connect,
            command_s=spec.deadlines.command,
            stage_s=spec.deadlines.stage,
            health_s=spec.deadlines.health,
            total_s=spec.deadlines.total,
        ),
        max_deletes=spec.deletes.max,
        max_delete_percent=spec.deletes.max_percent,
        adopt=frozenset(model.Key(k) for k in spec.adopt),
        ignore=tuple(model.Ignore(**i.model_dump()) for i in spec.ignore),
        probes=probes,
        rollout=spec.rollout.serial,
        max_failed=spec.rollout.max_failed,
    )
    acknowledge = frozenset(
        model.Acknowledgement(hazard=a.hazard, key=model.Key(a.key), reason=a.reason) for a in spec.acknowledge
    )
    return TargetDocument(desired=desired, acknowledge=acknowledge)


def _own_part(document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Take out what stands under the name of the target's type: it is the driver's to read."""
    spec = document.get("spec")
    if not isinstance(spec, dict) or spec.get("type") in TargetSpec.model_fields:
        return {}
    own = spec.pop(str(spec.get("type")), {})
    return own if isinstance(own, dict) else {"": own}  # No schema knows a field without a name: the driver refuses it.


def _each(
    read: Callable[[_Line], _Value],
    lines: Sequence[_Line],
    located: strict_yaml.Located,
    where: str,
    at: strict_yaml.Path,
) -> tuple[_Value, ...]:
    """Read every line of a list; an error names the one that it is about."""
    found = []
    for index, line in enumerate(lines):
        try:
            found.append(read(line))
        except ValueError as exc:
            raise strict_yaml.config_error(exc, located, where, (*at, index)) from exc
    return tuple(found)


def _check(line: Mapping[str, JsonValue]) -> model.Check:
    options = line.get("with", {})
    named = [(gate, profile) for gate, profile in line.items() if gate != "with"]
    if len(named) != 1 or not isinstance(named[0][1], str) or not isinstance(options, dict):
        raise ValueError(
            f"deploy.checks: {dict(line)}: one check a line, such as `- trivy: vulnerability_scan`, its options under `with`"
        )
    return model.Check(
        gate=named[0][0], profile=named[0][1], options=tuple(sorted((k, _text(v)) for k, v in options.items()))
    )


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else model.canonical_json(value).decode()


def _probe(line: Mapping[Literal["port", "http", "file"], Mapping[str, JsonValue]]) -> model.Probe:
    if len(line) != 1:
        raise ValueError("health: one probe a line, such as `- port: {port: 443}`")
    ((kind, fields),) = line.items()
    return model.Probe(kind=kind, fields=fields)
