"""What one object of a payload must look like before anybody sends it anywhere. Every refusal names its line and a way out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from reconciler import errors, model, strict_yaml
from reconciler.targets.openshift import document, masking, naming
from reconciler.targets.openshift.desired import hooks, kinds

RESERVED = "reconciler/"
HELM_HOOK = "helm.sh/hook"
MAX_OBJECT_BYTES = 1 << 20  # etcd takes 1.5 MiB a request, the object and its managedFields

_SERVERS_OWN = (
    "resourceVersion",
    "uid",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "creationTimestamp",
)
_KUSTOMIZE = "kustomize.config.k8s.io"
# As the gate `schema` reads them (trust.md C84): no empty, `.` or `..` segment.
_SEGMENT = r"(?!\.{1,2}(?:[/#]|\Z))[A-Za-z0-9_.-]+"
_REFERENCE = re.compile(
    rf"vault:{_SEGMENT}(?:/{_SEGMENT})+\#{_SEGMENT}|env:[A-Za-z_][A-Za-z0-9_]*|file:(?:/{_SEGMENT})+"
)


@dataclass(frozen=True)
class Object:
    """A value of a payload that should be an object, and where it stands."""

    value: JsonValue
    located: strict_yaml.Located
    at: strict_yaml.Path
    file: str
    origin: str | None = None  # of what was rendered: the one place that is told, whatever line

    def place(self, *path: str | int) -> str:
        return self.origin or f"{self.file}:{self.located.line((*self.at, *path))}"


class Judged(NamedTuple):
    key: model.Key
    body: dict[str, JsonValue]


def kind_and_name(value: JsonValue) -> tuple[str, str]:
    match value:
        case {"kind": str() as kind, "metadata": {"name": str() as name}}:
            return kind, name
        case _:
            return "", ""


def scopes_of(objects: Sequence[Object]) -> dict[tuple[str, str], bool]:
    """Our table, and what the CRDs among these objects say."""
    found = dict(naming.SCOPES)
    for each in objects:
        match each.value:
            case {
                "kind": "CustomResourceDefinition",
                "spec": {"group": str() as group, "scope": str() as scope, "names": {"kind": str() as kind}},
            }:
                found.setdefault((group, kind), scope != "Cluster")
    return found


def judge(each: Object, options: document.Options, scopes: naming.Scopes) -> Judged | model.ValidationResult:
    """The object with its key; or why not."""
    named = _named(each)
    if isinstance(named, model.Reason):
        return (named,)
    group, kind, body, metadata = named
    reasons = [
        *_metadata(each, metadata),
        *_walked(each, body),
        *_secrets(each, body),
        *_rendered(each, metadata, options),
    ]
    if group == _KUSTOMIZE:
        reasons.append(
            _reason(each.place(), f"{kind} is an input of kustomize", "write render: kustomize, or move it away")
        )
    namespace = _namespace(each, (group, kind), metadata, options, scopes)
    if isinstance(namespace, model.Reason):
        reasons.append(namespace)
    if reasons or isinstance(namespace, model.Reason):
        return tuple(reasons)
    cleaned = _cleaned(body, metadata, namespace)
    try:
        hooks.check(cleaned, each.place())
    except errors.ConfigError as exc:
        return (model.Reason.of(exc),)
    cleaned = dict(hooks.named(cleaned))
    if len(model.canonical_json(cleaned)) > MAX_OBJECT_BYTES:
        return (_reason(each.place(), f"an object of more than {MAX_OBJECT_BYTES} bytes", "split it"),)
    return Judged(naming.key_of(cleaned), cleaned)


def references(body: Mapping[str, JsonValue]) -> Iterator[tuple[masking.Path, str]]:
    """Where references to secrets stand in an object that passed, and what they are."""
    for path, value in masking.secrets_of(body):
        if isinstance(value, str) and path[0] != "data":
            yield path, value


# --- the checks ---------------------------------------------------------------------------------------------------------


def _named(each: Object) -> tuple[str, str, dict[str, JsonValue], dict[str, JsonValue]] | model.Reason:
    body = each.value
    if not isinstance(body, dict):
        return _reason(each.place(), "an object is expected here", "write apiVersion, kind and metadata.name")
    version, kind, metadata = body.get("apiVersion"), body.get("kind"), body.get("metadata")
    if not isinstance(version, str) or not isinstance(kind, str) or not re.fullmatch(naming.KIND, kind):
        return _reason(each.place(), "no apiVersion or no kind", "write both, such as apiVersion: v1 and kind: Service")
    if kind.endswith("List") and "items" in body:
        return _reason(each.place("kind"), f"{kind}: a list without objects of its own", "write the objects themselves")
    if not isinstance(metadata, dict):
        return _reason(each.place(), f"{kind}: no metadata", "write metadata: {name: ...}")
    if "generateName" in metadata:
        fix = "write metadata.name: an object that is kept needs one name"
        return _reason(each.place("metadata", "generateName"), f"{kind}: generateName is refused", fix)
    name = metadata.get("name")
    if not isinstance(name, str) or not naming.is_name(name):
        what = "no name" if name is None else "a name that no object can have"
        return _reason(
            each.place("metadata", "name"), f"{kind}: {what}", "write metadata.name; quote what looks like a number"
        )
    try:
        group = naming.group_of(version)
        naming.title(group, kind)
    except ValueError as exc:
        return _reason(each.place("apiVersion"), str(exc), "correct apiVersion or kind")
    return group, kind, body, metadata


def _metadata(each: Object, metadata: Mapping[str, JsonValue]) -> Iterator[model.Reason]:
    what = _title(each)
    for name in _SERVERS_OWN:
        if metadata.get(name) is not None:
            yield _reason(each.place("metadata", name), f"{what}: metadata.{name} is the server's own", "remove it")
    if isinstance(each.value, dict) and each.value.get("status"):
        yield _reason(each.place("status"), f"{what}: status is the server's own", "remove it")
    for section in ("labels", "annotations"):
        entries = metadata.get(section)
        if entries is not None and not isinstance(entries, dict):
            yield _reason(each.place("metadata", section), f"{what}: {section} are a mapping", "write key: value")
        for key, value in entries.items() if isinstance(entries, dict) else ():
            if not isinstance(value, str):
                place = each.place("metadata", section, key)
                yield _reason(place, f"{what}: metadata.{section}.{key} is no text", "quote it")
            if key == masking.LAST_APPLIED:
                place = each.place("metadata", section, key)
                yield _reason(place, f"{what}: {key} is kubectl's own and repeats the whole object", "remove it")


def _walked(each: Object, body: Mapping[str, JsonValue]) -> Iterator[model.Reason]:
    """What must stand nowhere in an object: our own keys, and a Secret inside another object."""
    if not any(_is_suspect(value) for key, value in body.items() if key != "kind"):
        return
    for path, value in _nodes(body):
        last = str(path[-1])
        allowed = last in {kinds.DEPENDS_ON, hooks.HOOK} and path[:-1] == ("metadata", "annotations")
        if last.startswith(RESERVED) and not allowed:
            yield _reason(
                each.place(*path), f"{_title(each)}: {last} is reserved", f"remove it; {RESERVED} is ours alone"
            )
        if isinstance(value, dict) and value.get("kind") == "Secret" and (value.get("data") or value.get("stringData")):
            message = f"{_title(each)}: a Secret inside another object"
            yield _reason(each.place(*path), message, "declare it by itself, with references", code="secret_literal")


def _is_suspect(value: JsonValue) -> bool:
    """Whether it is worth to walk with paths: most objects hold nothing of the kind, and there are many."""
    if isinstance(value, dict):
        return any(
            key.startswith(RESERVED) or (key == "kind" and inner == "Secret") or _is_suspect(inner)
            for key, inner in value.items()
        )
    return isinstance(value, list) and any(_is_suspect(inner) for inner in value)


def _nodes(
    value: JsonValue | Mapping[str, JsonValue], path: strict_yaml.Path = ()
) -> Iterator[tuple[strict_yaml.Path, JsonValue]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield (*path, key), inner
                yield from _nodes(inner, (*path, key))
        case list():
            for index, inner in enumerate(value):
                if isinstance(inner, dict | list):
                    yield (*path, index), inner
                    yield from _nodes(inner, (*path, index))


def _secrets(each: Object, body: Mapping[str, JsonValue]) -> Iterator[model.Reason]:
    for path, value in masking.secrets_of(body):
        if path[0] == "data":
            fix = "write it under stringData as a reference: vault:mount/path#key, env:NAME or file:/path"
        elif not isinstance(value, str) or not _REFERENCE.fullmatch(value):
            fix = "write a reference: vault:mount/path#key, env:NAME or file:/path"
        else:
            continue
        message = f"{_title(each)}: {'.'.join(map(str, path))}: a secret does not stand in Git"
        yield _reason(each.place(*path), message, fix, code="secret_literal")


def _rendered(each: Object, metadata: Mapping[str, JsonValue], options: document.Options) -> Iterator[model.Reason]:
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict) and HELM_HOOK in annotations:
        place = each.place("metadata", "annotations", HELM_HOOK)
        fix = "switch it off in the chart's values" if options.render == "helm" else "remove the annotation"
        yield _reason(place, f"{_title(each)}: a helm hook, which nothing here runs", fix)


def _namespace(
    each: Object,
    whose: tuple[str, str],
    metadata: Mapping[str, JsonValue],
    options: document.Options,
    scopes: naming.Scopes,
) -> str | model.Reason:
    """The namespace of the object, empty for the cluster's; or why it may not be there."""
    title, given = naming.title(*whose), metadata.get("namespace")
    namespaced = scopes.get(whose)
    if namespaced is None:
        # Nobody here knows. What the document says counts; the driver holds it against the cluster.
        namespaced = title not in options.cluster_kinds or given is not None
    if not namespaced:
        return _of_the_cluster(each, title, metadata, options)
    place = each.place("metadata", "namespace")
    if given is None and len(options.namespaces) == 1:
        return options.namespaces[0]
    if given is None:
        return _reason(place, f"{_title(each)}: no namespace", "write metadata.namespace")
    if given not in options.namespaces:
        allowed = ", ".join(options.namespaces) or "none"
        fix = f"allowed are {allowed} (spec.openshift.namespaces)"
        return _reason(place, f"{_title(each)}: the namespace {given!r} is not this target's", fix)
    return str(given)


def _of_the_cluster(
    each: Object, title: str, metadata: Mapping[str, JsonValue], options: document.Options
) -> str | model.Reason:
    if metadata.get("namespace") is not None:
        place = each.place("metadata", "namespace")
        return _reason(place, f"{_title(each)}: {title} lives in no namespace", "remove metadata.namespace")
    if title not in options.cluster_kinds:
        fix = f"add {title} to spec.openshift.clusterKinds, if this target may have it"
        return _reason(each.place("kind"), f"{_title(each)}: {title} belongs to the whole cluster", fix)
    if title == "ProjectRequest":
        fix = "write kind: Namespace, with its name under spec.openshift.namespaces and the kind under clusterKinds"
        return _reason(each.place("kind"), f"{_title(each)}: a request is answered and not kept", fix)
    if title in {"Namespace", "Project"} and metadata.get("name") not in options.namespaces:
        fix = "add it to spec.openshift.namespaces"
        return _reason(each.place("metadata", "name"), f"{_title(each)}: not a namespace of this target", fix)
    return ""


def _cleaned(body: Mapping[str, JsonValue], metadata: Mapping[str, JsonValue], namespace: str) -> dict[str, JsonValue]:
    """Without what generators leave empty (`status: {}`, `creationTimestamp: null`), and with its namespace."""
    kept = {key: value for key, value in metadata.items() if value is not None and key != "namespace"}
    whole: dict[str, JsonValue] = {key: value for key, value in body.items() if key != "status"}
    whole["metadata"] = {**kept, **({"namespace": namespace} if namespace else {})}
    return whole


def _title(each: Object) -> str:
    kind, name = kind_and_name(each.value)
    return f"{kind} {name}"


def _reason(where: str, message: str, fix: str, *, code: str = "schema") -> model.Reason:
    return model.Reason(code=code, message=message, where=where, fix=fix)
