"""The other targets of a revision, as far as their documents show: what depends on what, and who wants the same thing."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from reconciler import documents, errors, model, ports, strict_yaml
from reconciler.gates import sources

MAX_DEPTH = 2  # A thing that a payload declares stands at its root, or in a list or mapping there.


@dataclass(frozen=True)
class Outline:
    """What one target.yaml says of its neighbours; empty where it cannot be read: that is its own target's failure."""

    kind: str = ""
    connection: bytes = b""  # canonical; empty where there is nothing to connect to
    depends_on: tuple[str, ...] = ()
    formerly: str = ""


@functools.lru_cache(maxsize=4096)
def _outline(blob: bytes) -> Outline:
    try:
        whole = strict_yaml.load(blob, "target.yaml")
        spec, metadata = whole.get("spec"), whole.get("metadata")
        read = documents.TargetSpec.model_validate(
            {k: v for k, v in spec.items() if k in _READ} if isinstance(spec, dict) else {}
        )
    except (errors.ConfigError, ValueError):
        return Outline()
    connection = model.canonical_json(sources.as_json(read.connection)) if read.connection else b""
    formerly = metadata.get("formerly") if isinstance(metadata, dict) else ""
    return Outline(read.type, connection, read.depends_on, formerly if isinstance(formerly, str) else "")


_READ = frozenset({"type", "environment", "connection", "dependsOn"})


def read_outlines(repository: ports.Repository, revision: model.Oid) -> dict[str, Outline]:
    """Of every target of this revision; each distinct document is parsed once in a process."""
    tree = repository.tree(revision)
    names = documents.target_names(tree)
    return {name: _outline(repository.read(tree[_path(name)].oid)) for name in names}


def _path(name: str) -> bytes:
    return f"targets/{name}/target.yaml".encode(errors="surrogateescape")


def dependency_reasons(
    desired: model.Desired, document: sources.File, outlines: Mapping[str, Outline]
) -> Iterator[model.Reason]:
    for i, name in enumerate(desired.depends_on):
        where = document.place(("spec", "dependsOn", i))
        if name not in outlines:
            yield model.Reason(
                code="depends_on",
                message=f"dependsOn: no target `{name}` in this revision",
                where=where,
                fix="correct the name, or add the target in this merge",
            )
        elif (cycle := _path_between(name, desired.target, outlines)) is not None:
            yield model.Reason(
                code="depends_on",
                message=f"dependsOn: a cycle: {' -> '.join((desired.target, *cycle))}",
                where=where,
                fix="remove one of these edges",
            )


def _path_between(start: str, end: str, outlines: Mapping[str, Outline]) -> tuple[str, ...] | None:
    """How one depends on the other; None where it does not."""
    came, new = {start: ""}, [start]
    while new:
        at = new.pop()
        if at == end:
            return _trail(came, at)
        for below in outlines[at].depends_on if at in outlines else ():
            if below not in came:
                came[below] = at
                new.append(below)
    return None


def _trail(came: Mapping[str, str], at: str) -> tuple[str, ...]:
    trail = [at]
    while came[at]:
        at = came[at]
        trail.append(at)
    return tuple(reversed(trail))


def rename_reasons(
    desired: model.Desired, document: sources.File, outlines: Mapping[str, Outline]
) -> Iterator[model.Reason]:
    """`formerly` is said by one target only: two cannot continue the same history."""
    others = [n for n, o in outlines.items() if n != desired.target and o.formerly == desired.formerly]
    if desired.formerly and others:
        yield model.Reason(
            code="formerly",
            message=f"formerly: {desired.formerly} is claimed by the target `{others[0]}` too",
            where=document.place(("metadata", "formerly")),
            fix="let one of them take it over",
        )


def claim_reasons(
    repository: ports.Repository,
    revision: model.Oid,
    desired: model.Desired,
    files: Mapping[str, sources.File],
    outlines: Mapping[str, Outline],
) -> Iterator[model.Reason]:
    """A resource that another target declares too, over an equal connection. The core refuses at the target what this cannot see."""
    mine = outlines.get(desired.target, Outline())
    rivals = [
        name
        for name, other in outlines.items()
        if name != desired.target and mine.connection and (other.kind, other.connection) == (mine.kind, mine.connection)
    ]
    claims = dict(_placed(desired, files.values())) if rivals else {}
    for name in rivals:
        for claim, _ in _claims_of(repository, revision, name):
            if claim in claims:
                yield model.Reason(
                    code="claimed",
                    message=f"{claim} is also declared by the target `{name}`, over the same connection",
                    where=claims[claim],
                    fix="let one target own it",
                )


def _claims_of(repository: ports.Repository, revision: model.Oid, name: str) -> Iterator[tuple[str, str]]:
    try:
        read = documents.read_target(repository, revision, name)
    except errors.ConfigError:
        return
    if read:
        yield from _placed(read.desired, sources.read_payload(read.desired))


def _placed(desired: model.Desired, files: Iterable[sources.File]) -> Iterator[tuple[str, str]]:
    """With the namespace that a document's only one is for what names none: one name in two namespaces is two things."""
    spaces, of_cluster = desired.spec.get("namespaces"), desired.spec.get("clusterKinds")
    kinds = {str(each).partition(".")[0] for each in of_cluster} if isinstance(of_cluster, list | tuple) else set()
    only = spaces[0] if isinstance(spaces, list | tuple) and len(spaces) == 1 else ""
    for claim, where in _claims(files):
        kind, _, rest = claim.partition("/")
        is_placed = not rest.startswith("/") or kind in kinds
        yield (claim if is_placed or not only else f"{kind}/{only}{rest}"), where


def _claims(files: Iterable[sources.File]) -> Iterator[tuple[str, str]]:
    """(what is declared, file:line). A thing names itself: by `kind` and `name`, as Kubernetes and `memory` do, or by `path`."""
    for file in files:
        if file.parts and not file.path.startswith(sources.OPAQUE):
            yield from ((claim, file.place(path)) for path, claim in _things(file.value, (), MAX_DEPTH))


def _things(value: JsonValue, path: strict_yaml.Path, depth: int) -> Iterator[tuple[strict_yaml.Path, str]]:
    if (isinstance(value, dict) and path and (named := _named(value))) or (
        isinstance(value, dict) and (named := _named(value)) and "metadata" in value
    ):
        yield path, named
    elif depth >= 0 and isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _things(below, (*path, key), depth - 1)


def _named(value: Mapping[str, JsonValue]) -> str:
    metadata = value.get("metadata")
    own = metadata if isinstance(metadata, dict) else value
    if isinstance(value.get("kind"), str) and isinstance(own.get("name"), str) and value["kind"] != "List":
        return f"{value['kind']}/{own.get('namespace') or ''}/{own['name']}"
    return f"path {value['path']}" if isinstance(value.get("path"), str) else ""
