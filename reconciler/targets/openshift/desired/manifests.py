"""The payload of a target -> objects with their keys, each with the line that declares it. Nothing here asks a cluster.

`plain` reads the YAML and JSON files below `path`; `kustomize` and `helm` read what `rendering.py` makes of them. Either way
the text passes the strict loader and every object the same checks (`checking.py`). Secrets stay references until `resolve`,
at the moment of sending.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import JsonValue

from reconciler import errors, model, ports, strict_yaml
from reconciler.targets.openshift import document, masking, naming
from reconciler.targets.openshift.desired import checking, kinds, rendering

ENDINGS = (".yaml", ".yml", ".json")
MAX_OBJECTS = 5000
MAX_SHOWN = 20  # reasons in one error; `problems` gives all of them
KEPT = 64  # readings of payloads; a driver that is looked through keeps its own
KEPT_OF_ONE = 3  # of one target: what it was, what it is, and what is to be merged; a thousand objects take a megabyte


class Manifest(NamedTuple):
    """One object as Git declares it. `body` is shared by all who read it: nobody changes it."""

    key: model.Key
    body: Mapping[str, JsonValue]
    source: str  # file:line; empty for what is put back as it was


class Reference(NamedTuple):
    """A secret that the payload names, once it is rendered."""

    text: str
    where: str


class _Reading(NamedTuple):
    manifests: tuple[Manifest, ...]
    reasons: model.ValidationResult


def read(wanted: model.Wanted, scopes: naming.Scopes | None = None) -> tuple[Manifest, ...]:
    """All objects that should be there, in the order of the files; those that a failed change adopted come last, as they were.

    Hooks stand there under the names that they are sent by (`hooks.named` was applied).

    `scopes`: what the cluster says of kinds that stand neither in our table nor in a CRD of this payload; a manifest that
    contradicts it is refused. Raises: ConfigError(parse | schema | render | secret_literal) with file and line.
    """
    if isinstance(wanted, model.Snapshot):
        return _restored(wanted.resources)
    found = _reading(wanted)
    reasons = found.reasons or tuple(_contradictions(found.manifests, scopes or {}))
    if reasons:
        text = "; ".join(reason.message for reason in reasons[:MAX_SHOWN])
        raise errors.ConfigError(reasons[0].code, text, where=reasons[0].where, fix=reasons[0].fix)
    declared = {manifest.key for manifest in found.manifests}
    return (*found.manifests, *(m for m in _restored(wanted.given_back) if m.key not in declared))


def problems(desired: model.Desired) -> model.ValidationResult:
    """Everything that speaks against this payload, each with its line."""
    return _reading(desired).reasons


def references(desired: model.Desired) -> tuple[Reference, ...]:
    """Every secret that these objects will be sent with, where each stands."""
    return tuple(
        Reference(text, manifest.source)
        for manifest in _reading(desired).manifests
        for _, text in checking.references(manifest.body)
    )


def rendered(desired: model.Desired) -> ports.Rendered | None:
    """What the gates judge where kustomize or helm makes the objects; lines are lines of their output.

    Raises: as `rendering.render`.
    """
    options = document.options(desired)
    if options.render == "plain" or desired.mode is model.Mode.ABSENT:
        return None
    made = rendering.render(desired, options)
    templates = frozenset(p for p in desired.payload if options.render == "helm" and p.startswith(f"{options.path}/"))
    return ports.Rendered(f"{made.where} (rendered)", made.content, templates)


def resolve(manifest: Manifest, secrets: ports.Secrets) -> dict[str, JsonValue]:
    """A copy to be sent, its references replaced by what they name now. Drop it after the call that sends it.

    Raises: ConfigError(secret) with the manifest's place; TransientError where the store is away.
    """
    body = masking.copied(manifest.body)
    for path, text in checking.references(manifest.body):
        try:
            value = secrets.resolve(text)
        except errors.ConfigError as exc:
            message = f"{manifest.key}: {text}: {exc.message}"
            raise errors.ConfigError(exc.code, message, where=manifest.source, fix=exc.fix) from exc
        masking.put(body, path, value)
    return body


def _restored(there: Mapping[model.Key, JsonValue]) -> tuple[Manifest, ...]:
    return tuple(Manifest(key, body, "") for key, body in there.items() if isinstance(body, dict))


def _contradictions(manifests: tuple[Manifest, ...], scopes: naming.Scopes) -> Iterator[model.Reason]:
    for manifest in manifests:
        named = naming.parse_key(manifest.key)
        namespaced = scopes.get((named.group, named.kind))
        if namespaced is not None and namespaced != bool(named.namespace):
            live = "in namespaces" if namespaced else "in the cluster as a whole"
            fix = (
                "write metadata.namespace" if namespaced else "leave metadata.namespace out; list it under clusterKinds"
            )
            message = f"{manifest.key}: objects of this kind live {live}"
            yield model.Reason(code="schema", message=message, where=manifest.source, fix=fix)


# --- reading ------------------------------------------------------------------------------------------------------------


class _Kept:
    """The readings asked for last. Compared by the payload itself: a digest that somebody made up must not choose for us."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, model.Digest], tuple[object, _Reading]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, desired: model.Desired) -> _Reading | None:
        with self._lock:
            entry = self._entries.get((document.where(desired), desired.digest))
        return entry[1] if entry and entry[0] == self._input(desired) else None

    def put(self, desired: model.Desired, reading: _Reading) -> None:
        with self._lock:
            self._entries[document.where(desired), desired.digest] = (self._input(desired), reading)
            self._entries.move_to_end((document.where(desired), desired.digest))
            of_one = [key for key in self._entries if key[0] == document.where(desired)]
            for oldest in of_one[:-KEPT_OF_ONE]:
                del self._entries[oldest]
            while len(self._entries) > KEPT:
                self._entries.popitem(last=False)

    @staticmethod
    def _input(desired: model.Desired) -> object:
        return (desired.mode, desired.spec, desired.payload)


_KEPT = _Kept()


def _reading(desired: model.Desired) -> _Reading:
    if desired.mode is model.Mode.ABSENT:
        return _Reading((), ())
    found = _KEPT.get(desired)
    if found is None:
        try:
            found = _read(desired)
        except errors.ConfigError as exc:
            found = _Reading((), (model.Reason.of(exc),))
            if exc.code == "render":
                return found  # Another renderer, or the same one on a quieter machine, may do better.
        _KEPT.put(desired, found)
    return found


def _read(desired: model.Desired) -> _Reading:
    options = document.options(desired)
    if options.render == "plain":
        texts, problems = _plain(desired, options)
        origins = None
    else:
        texts, problems = (rendering.render(desired, options),), ()
        origins = _origins(desired)
    objects: list[checking.Object] = []
    found = list(problems)
    for text in texts:
        try:
            objects += _objects(text, origins)
        except errors.ConfigError as exc:
            found.append(model.Reason.of(exc))
    if len(objects) > MAX_OBJECTS:
        reason = f"{len(objects)} objects; at most {MAX_OBJECTS} belong to one target"
        raise errors.ConfigError("schema", reason, where=document.where(desired), fix="split it into several targets")
    if not objects and not found:
        fix = "add manifests; a target is emptied by mode: absent"
        raise errors.ConfigError("schema", f"no object under {options.path}/", where=document.where(desired), fix=fix)
    return _judge(objects, options, found)


def _plain(
    desired: model.Desired, options: document.Options
) -> tuple[tuple[rendering.Text, ...], model.ValidationResult]:
    texts, found = [], []
    for path, blob in sorted(desired.payload.items()):
        if not path.startswith(f"{options.path}/") or not path.lower().endswith(ENDINGS):
            continue
        where = document.where(desired).removesuffix("target.yaml") + path
        if path.endswith(ENDINGS):
            texts.append(rendering.Text(where, blob))
        else:
            fix = f"end it in {', '.join(ENDINGS)}"
            found.append(
                model.Reason(code="schema", message="an ending that not every reader knows", where=where, fix=fix)
            )
    return tuple(texts), tuple(found)


def _objects(text: rendering.Text, origins: Mapping[tuple[str, str], str] | None) -> Iterator[checking.Object]:
    for part in strict_yaml.parse_all(text.content, text.where):
        for path, value in _flattened(part.value):
            place = None
            if origins is not None:
                # Lines of what was rendered are nobody's: its origin counts, or the folder that was rendered.
                place = origins.get(checking.kind_and_name(value), f"{text.where}:1")
            yield checking.Object(value, part, path, text.where, place)


def _flattened(value: JsonValue) -> Iterator[tuple[strict_yaml.Path, JsonValue]]:
    """The objects of a document: itself, or those of a `List`. An empty document holds none."""
    match value:
        case None:
            return
        case {"apiVersion": "v1", "kind": "List", "items": list() as items}:
            yield from ((("items", index), each) for index, each in enumerate(items))
        case _:
            yield (), value


def _origins(desired: model.Desired) -> dict[tuple[str, str], str]:
    """(kind, name) -> file:line, of what the payload's own files declare. Best effort: rendering may rename."""
    found: dict[tuple[str, str], str] = {}
    folder = document.where(desired).removesuffix("target.yaml")
    for path, blob in sorted(desired.payload.items()):
        try:
            parts = strict_yaml.parse_all(blob, folder + path) if path.endswith(ENDINGS) else ()
        except errors.ConfigError:
            continue  # A template of a chart, or what rendering refuses anyway.
        for part in parts:
            for at, value in _flattened(part.value):
                found.setdefault(checking.kind_and_name(value), f"{folder}{path}:{part.line(at)}")
    return found


_ByPath = dict[strict_yaml.Path, tuple[object, checking.Judged]]


class _Passed:
    """Objects that passed, by the document that they stand in and while somebody holds that: most of a change did not change."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[strict_yaml.Located, _ByPath] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def judge(
        self, each: checking.Object, options: document.Options, scopes: naming.Scopes, under: object
    ) -> checking.Judged | model.ValidationResult:
        """As `checking.judge`. `under`: all that its answer depends on beside the object itself."""
        with self._lock:
            known = self._known.setdefault(each.located.source, {}).get(each.at)
        if known is not None and known[0] == under:
            return known[1]
        judged = checking.judge(each, options, scopes)
        if isinstance(judged, checking.Judged):
            with self._lock:
                self._known.setdefault(each.located.source, {})[each.at] = (under, judged)
        return judged


_PASSED = _Passed()


def _judge(objects: list[checking.Object], options: document.Options, found: list[model.Reason]) -> _Reading:
    scopes = checking.scopes_of(objects)
    under = (options.model_dump_json(), frozenset(scopes.items() - naming.SCOPES.items()))
    manifests: dict[model.Key, Manifest] = {}
    for each in objects:
        judged = _PASSED.judge(each, options, scopes, under)
        if not isinstance(judged, checking.Judged):
            found += judged
        elif (there := manifests.get(judged.key)) is not None:
            message = f"{judged.key} is declared twice, here and at {there.source}"
            found.append(model.Reason(code="schema", message=message, where=each.place(), fix="remove one of them"))
        else:
            manifests[judged.key] = Manifest(judged.key, judged.body, each.place())
    declared = tuple(manifests.values())
    if not found:
        found += _order(declared)
    return _Reading(declared, tuple(dict.fromkeys(found)))


def _order(manifests: tuple[Manifest, ...]) -> model.ValidationResult:
    """What is wrong with `depends-on` between these objects."""
    try:
        kinds.orders({m.key: m.body for m in manifests}, {m.key: m.source for m in manifests})
    except errors.ConfigError as exc:
        return (model.Reason.of(exc),)
    return ()
