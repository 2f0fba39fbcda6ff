"""What goes with a delete beside the object itself: said before anybody acknowledges it. Reads only."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler import errors, model
from reconciler.targets.openshift.connection import client, cluster, discovery
from reconciler.targets.openshift.connection.client import Body
from reconciler.targets.openshift.judging import judged
from reconciler.targets.openshift.observing import seeing

PAGE = 500
NAMED = 3


def going_along(on: cluster.Cluster, leaving: Mapping[model.Key, Body]) -> dict[model.Key, str]:
    """For people, of those that take something along. What cannot be read is said to be unknown."""
    said = {key: _of(on, body) for key, body in leaving.items()}
    return {key: text for key, text in said.items() if text}


def _of(on: cluster.Cluster, body: Body) -> str:
    match judged.group(body), judged.text(body, "kind"):
        case "apiextensions.k8s.io", "CustomResourceDefinition":
            try:
                return _custom_resources(on, body)
            except errors.ReconcilerError as exc:
                return f"how many custom resources go with it could not be read: {exc.message}"
        case ("", "Namespace") | ("project.openshift.io", "Project"):
            return "everything in the namespace goes with it, whoever made it"
        case _:
            return ""


def _custom_resources(on: cluster.Cluster, definition: Body) -> str:
    served = (each for each in judged.mappings(definition, "spec", "versions") if each.get("served") is True)
    version = next((judged.text(each, "name") for each in served), "")
    plural, kind = (judged.text(definition, "spec", "names", name) for name in ("plural", "kind"))
    resource = discovery.Resource(judged.text(definition, "spec", "group"), version, kind, plural, is_namespaced=False)
    query = {"limit": str(PAGE)}
    page = on.calls.get(resource.collection(), query=query, accept=f"{seeing.NAMES_ONLY},{client.JSON}") or {}
    there = [each.get("metadata", {}) for each in page.get("items") or ()]
    count = len(there) + int(page.get("metadata", {}).get("remainingItemCount") or 0)
    if not count:
        return "no custom resource goes with it"
    names = ", ".join("/".join(filter(None, (m.get("namespace"), m.get("name")))) for m in there[:NAMED])
    more = f" and {count - NAMED} more" if count > NAMED else ""
    return f"{count} custom resource{'' if count == 1 else 's'} go{'es' if count == 1 else ''} with it: {names}{more}"
