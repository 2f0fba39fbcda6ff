"""Taking over an object that kubectl made: its fields become ours, or what a manifest no longer says would stay for ever. Pure.

Client-side `kubectl apply`, `kubectl create` and `kubectl edit` own fields as managers of the operation Update. Those entries
are folded into one of ours, as `kubectl apply --server-side` itself does it (client-go, util/csaupgrade).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.targets.openshift.connection.client import Body

LAST_APPLIED = "f:kubectl.kubernetes.io/last-applied-configuration"
KUBECTL = ("kubectl", "oc", "before-first-apply")  # kubectl-client-side-apply, kubectl-edit, kubectl-patch, oc ...


def moved_managers(
    live: Body, manager: str, former: Sequence[str] = (), *, kubectl: bool = True
) -> list[dict[str, Any]] | None:
    """`managedFields` in which what kubectl, or we under a former name, own is ours. None where nothing moves."""
    entries = [each for each in live["metadata"].get("managedFields") or () if isinstance(each, dict)]
    moving = [each for each in entries if _moves(each, manager, former, kubectl=kubectl)]
    if not moving:
        return None
    ours = next((each for each in entries if _is_apply_of(each, manager)), None)
    fields: Mapping[str, Any] = (ours or {}).get("fieldsV1") or {}
    for each in moving:
        fields = union(fields, each.get("fieldsV1") or {})
    entry = {**(ours or moving[0]), "manager": manager, "operation": "Apply", "fieldsV1": without_last_applied(fields)}
    kept = [each for each in entries if each is not ours and each not in moving]
    return [entry, *kept]


def union(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both sets of FieldsV1."""
    both = {name: union(one[name], other[name]) for name in one.keys() & other.keys()}
    return {**one, **other, **both}


def without_last_applied(fields: Mapping[str, Any]) -> dict[str, Any]:
    """kubectl's own note is nobody's once kubectl no longer applies."""
    metadata = fields.get("f:metadata")
    annotations = metadata.get("f:annotations") if isinstance(metadata, Mapping) else None
    if not isinstance(metadata, Mapping) or not isinstance(annotations, Mapping) or LAST_APPLIED not in annotations:
        return dict(fields)
    kept = {name: inner for name, inner in annotations.items() if name != LAST_APPLIED}
    return {**fields, "f:metadata": {**metadata, "f:annotations": kept}}


def _moves(entry: Mapping[str, Any], manager: str, former: Sequence[str], *, kubectl: bool) -> bool:
    name = str(entry.get("manager", ""))
    if entry.get("subresource") or name == manager:
        return False
    if name in former:
        return True
    return kubectl and entry.get("operation") == "Update" and name.startswith(KUBECTL)


def _is_apply_of(entry: Mapping[str, Any], manager: str) -> bool:
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")
