"""What is there now, for every key that matters: from the cache where a watch keeps it, else asked."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler import errors, model
from reconciler.targets.openshift import naming
from reconciler.targets.openshift.connection import cache, client, cluster, comparing, discovery
from reconciler.targets.openshift.connection.client import Body
from reconciler.targets.openshift.observing import proposing

ASKED_ONE_BY_ONE = 4  # of one kind in one namespace; more are found out by one list of names
NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


# Keys are the same at every look.
_named = functools.lru_cache(maxsize=1 << 15)(naming.parse_key)


@dataclass
class Sight:
    """`live` holds None for what is certainly absent; what stands in `errors` is neither there nor absent."""

    places: dict[model.Key, cache.Place] = field(default_factory=dict)
    live: dict[model.Key, Body | None] = field(default_factory=dict)
    errors: dict[model.Key, model.Reason] = field(default_factory=dict)
    unproven: set[model.Key] = field(default_factory=set)


class Unasked(NamedTuple):
    """What a look asks nobody about; both are taken for absent."""

    absent: frozenset[cache.Place] = frozenset()  # found so just before, by a look of our own
    unread: frozenset[model.Key] = frozenset()  # not to be read: nothing but an unmerged state names them


def see(
    on: cluster.Cluster,
    wants: Mapping[model.Key, proposing.Want],
    owned: Iterable[model.Key],
    unasked: Unasked,
) -> Sight:
    """Reads only. Raises: what concerns no single object."""
    sight = Sight(live=dict.fromkeys(unasked.unread))
    keys = [key for key in (*wants, *(key for key in owned if key not in wants)) if key not in unasked.unread]
    _locate(on, keys, wants, sight)
    _follow(on, sight, {place.namespace for place in sight.places.values()} - {""})
    _from_cache(on, sight)
    _ask(on, sight, unasked.absent)
    _note_unproven(wants, sight)
    return sight


def _locate(
    on: cluster.Cluster, keys: list[model.Key], wants: Mapping[model.Key, proposing.Want], sight: Sight
) -> None:
    refreshed = False
    for key in keys:
        named = _named(key)
        want = wants.get(key)
        version = str(want.body.get("apiVersion", "")).rpartition("/")[2] if want else ""
        resource = on.discovery.find(named.group, named.kind, version)
        if resource is None and not refreshed:
            on.discovery.refresh()
            refreshed = True
            resource = on.discovery.find(named.group, named.kind, version)
        if resource is not None:
            sight.places[key] = cache.Place(resource, named.namespace, named.name)
        elif want is not None and _is_declared(named, wants):
            sight.live[key] = None
            sight.unproven.add(key)
        else:
            message = (
                f"{key}: the cluster serves no {named.kind} of {named.group or 'v1'} in version {version or 'any'}"
            )
            sight.errors[key] = model.Reason(code="kind_unknown", message=message, where=want.source if want else "")


def _is_declared(named: naming.Named, wants: Mapping[model.Key, proposing.Want]) -> bool:
    """Whether a definition among the manifests brings this kind."""
    for want in wants.values():
        if want.body.get("kind") == "CustomResourceDefinition":
            spec = want.body.get("spec", {})
            if (spec.get("group"), spec.get("names", {}).get("kind")) == (named.group, named.kind):
                return True
    return False


def _follow(on: cluster.Cluster, sight: Sight, namespaces: set[str]) -> None:
    """What cannot be listed is an error of every key of its kind."""
    resources = sorted({place.resource for place in sight.places.values()})

    def follow(resource: discovery.Resource) -> errors.ReconcilerError | None:
        try:
            on.follow(resource, sorted(namespaces))
        except (errors.PermanentError, errors.ConfigError) as exc:
            if exc.code.startswith("target."):  # The whole connection is not to be trusted.
                raise
            return exc
        return None

    found = on.side_by_side([functools.partial(follow, resource) for resource in resources])
    failed = {resource: exc for resource, exc in zip(resources, found, strict=True) if exc is not None}
    for key, place in list(sight.places.items()):
        if place.resource in failed:
            sight.errors[key] = model.Reason.of(failed[place.resource])


def _from_cache(on: cluster.Cluster, sight: Sight) -> None:
    for key, place in sight.places.items():
        if key not in sight.errors and (body := on.cache.get(place)) is not None:
            sight.live[key] = body


def _ask(on: cluster.Cluster, sight: Sight, absent: frozenset[cache.Place]) -> None:
    """Whether what bears no label of ours is there all the same."""
    missing: dict[tuple[discovery.Resource, str], dict[str, model.Key]] = defaultdict(dict)
    for key, place in sight.places.items():
        if key in sight.live or key in sight.errors:
            continue
        if place in absent:
            sight.live[key] = None
        else:
            missing[place.resource, place.namespace][place.name] = key
    many = {where: keys for where, keys in missing.items() if len(keys) > ASKED_ONE_BY_ONE}
    listed = on.side_by_side([functools.partial(_names, on, *where) for where in many])
    for (where, keys), names in zip(many.items(), listed, strict=True):
        sight.live |= {key: None for name, key in keys.items() if name not in names}
        missing[where] = {name: key for name, key in keys.items() if name in names}
    single = [key for keys in missing.values() for key in keys.values()]
    found = on.side_by_side([functools.partial(on.calls.get, sight.places[key].path) for key in single])
    for key, body in zip(single, found, strict=True):
        sight.live[key] = body
        if body is not None and body["metadata"].get("labels", {}).get(comparing.LABEL):
            on.cache.keep(sight.places[key], body)


def _names(on: cluster.Cluster, resource: discovery.Resource, namespace: str) -> frozenset[str]:
    names: set[str] = set()
    more = ""
    while True:
        query = {"limit": str(cache.PAGE)} | ({"continue": more} if more else {})
        page = on.calls.get(resource.collection(namespace), query=query, accept=f"{NAMES_ONLY},{client.JSON}")
        if page is None:
            return frozenset(names)
        names |= {each["metadata"]["name"] for each in page.get("items") or ()}
        more = str(page.get("metadata", {}).get("continue") or "")
        if not more:
            return frozenset(names)


def _note_unproven(wants: Mapping[model.Key, proposing.Want], sight: Sight) -> None:
    """What lies in a namespace that is still to come."""
    coming = {
        _named(key).name
        for key, want in wants.items()
        if want.body.get("kind") in {"Namespace", "Project", "ProjectRequest"} and sight.live.get(key, {}) is None
    }
    sight.unproven |= {key for key in wants if _named(key).namespace in coming}
