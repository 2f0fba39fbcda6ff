"""The key of an object of a cluster, and back: `Deployment/payments/api`, `Widget.example.com/payments/a`, `ClusterRole//reader`.

A kind stands alone where it is one of the tables below, else with its group, so that a key has one meaning on every cluster.
The version is no part of it: `v1` and `v1beta1` of one object are one object. Names of RBAC may hold colons, which a key
keeps for the members of fleets: they stand as `%3A`, which no name can hold (a path segment has no `%`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import JsonValue

from reconciler import errors, model

Scopes = Mapping[tuple[str, str], bool]  # (group, kind) -> whether its objects live in namespaces

GROUP = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
KIND = r"[A-Z][A-Za-z0-9]{0,62}"
NAMESPACE = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
NAME = r"[A-Za-z0-9]([A-Za-z0-9:@._-]{0,251}[A-Za-z0-9])?"

_API_VERSION = re.compile(rf"(?:(?P<group>{GROUP})/)?(?P<version>[a-z][-a-z0-9]{{0,62}})")
_KEY = re.compile(
    rf"(?P<kind>{KIND})(?:\.(?P<group>{GROUP}))?/(?P<namespace>(?:{NAMESPACE})?)/(?P<name>[A-Za-z0-9@._%-]{{1,700}})"
)

# Kubernetes 1.37 and OpenShift 4. A kind that two groups have (Event, Ingress and Network of config.openshift.io) is the
# one that people write into a repository; the other one has its group in its key.
_NAMESPACED: Mapping[str, tuple[str, ...]] = {
    "": (
        *(
            "ConfigMap",
            "Endpoints",
            "LimitRange",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
        ),
        *("ResourceQuota", "Secret", "Service", "ServiceAccount"),
    ),
    "apps": ("ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"),
    "autoscaling": ("HorizontalPodAutoscaler",),
    "batch": ("CronJob", "Job"),
    "coordination.k8s.io": ("Lease",),
    "discovery.k8s.io": ("EndpointSlice",),
    "networking.k8s.io": ("Ingress", "NetworkPolicy"),
    "policy": ("PodDisruptionBudget",),
    "rbac.authorization.k8s.io": ("Role", "RoleBinding"),
    "resource.k8s.io": ("ResourceClaim", "ResourceClaimTemplate"),
    "storage.k8s.io": ("CSIStorageCapacity",),
    "apps.openshift.io": ("DeploymentConfig",),
    "build.openshift.io": ("Build", "BuildConfig"),
    "image.openshift.io": ("ImageStream", "ImageStreamTag"),
    "route.openshift.io": ("Route",),
    "template.openshift.io": ("Template",),
}
_CLUSTER: Mapping[str, tuple[str, ...]] = {
    "": ("Namespace", "Node", "PersistentVolume"),
    "admissionregistration.k8s.io": (
        *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"),
    ),
    "apiextensions.k8s.io": ("CustomResourceDefinition",),
    "apiregistration.k8s.io": ("APIService",),
    "certificates.k8s.io": ("CertificateSigningRequest", "ClusterTrustBundle"),
    "flowcontrol.apiserver.k8s.io": ("FlowSchema", "PriorityLevelConfiguration"),
    "networking.k8s.io": ("IPAddress", "IngressClass", "ServiceCIDR"),
    "node.k8s.io": ("RuntimeClass",),
    "rbac.authorization.k8s.io": ("ClusterRole", "ClusterRoleBinding"),
    "resource.k8s.io": ("DeviceClass",),
    "scheduling.k8s.io": ("PriorityClass",),
    "storage.k8s.io": ("CSIDriver", "StorageClass", "VolumeAttributesClass"),
    "image.openshift.io": ("Image",),
    "oauth.openshift.io": ("OAuthClient",),
    "project.openshift.io": ("Project", "ProjectRequest"),
    "quota.openshift.io": ("ClusterResourceQuota",),
    "security.openshift.io": ("SecurityContextConstraints",),
    "user.openshift.io": ("Group", "User"),
}

SCOPES: Scopes = {
    **{(group, kind): True for group, kinds in _NAMESPACED.items() for kind in kinds},
    **{(group, kind): False for group, kinds in _CLUSTER.items() for kind in kinds},
}
_GROUPS: Mapping[str, str] = {kind: group for group, kind in SCOPES}


class Named(NamedTuple):
    """What a key says."""

    group: str
    kind: str
    namespace: str
    name: str


def group_of(api_version: str) -> str:
    """`apps/v1` -> `apps`; `v1` -> the empty group.

    Raises: ValueError for what is no apiVersion.
    """
    match = _API_VERSION.fullmatch(api_version)
    if match is None:
        raise ValueError(f"{api_version[:80]!r} is no apiVersion, such as v1 or apps/v1")
    return match["group"] or ""


def title(group: str, kind: str) -> str:
    """The first part of a key, and how `clusterKinds` and health rules call a kind.

    Raises: ValueError for what the core group does not have, or nobody declares in it (Event, Binding).
    """
    if not group and _GROUPS.get(kind) != group:
        raise ValueError(f"{kind[:80]!r} is no kind of the core group that can be declared; is the group missing?")
    return kind if _GROUPS.get(kind) == group else f"{kind}.{group}"


def parse_title(text: str) -> tuple[str, str]:
    """`ClusterRole` -> its group and kind.

    Raises: ValueError for a kind that needs its group.
    """
    kind, dot, group = text.partition(".")
    if dot and re.fullmatch(GROUP, group) and re.fullmatch(KIND, kind):
        if _GROUPS.get(kind) == group:
            raise ValueError(f"write {kind} without its group")
        return group, kind
    if dot or kind not in _GROUPS:
        raise ValueError(f"{text[:80]!r} is no kind that is known by its name alone; write Kind.group")
    return _GROUPS[kind], kind


def make_key(named: Named) -> model.Key:
    name = named.name.replace(":", "%3A")
    return model.Key(f"{title(named.group, named.kind)}/{named.namespace}/{name}")


def parse_key(key: model.Key) -> Named:
    """Raises: ConfigError(key) for what is no key of a cluster's object."""
    match = _KEY.fullmatch(key)
    name = match["name"].replace("%3A", ":") if match else ""
    if match is None or not is_name(name):
        raise errors.ConfigError("key", f"{key!r} is no key of an object", fix="write Kind/namespace/name")
    try:
        group, kind = parse_title(key.partition("/")[0])
    except ValueError as exc:
        raise errors.ConfigError("key", f"{key!r}: {exc}") from exc
    return Named(group, kind, match["namespace"], name)


def is_name(text: str) -> bool:
    """Whether an object may be called so: one segment of a path, for every reader of it (targets.md T01)."""
    return re.fullmatch(NAME, text) is not None and ".." not in text


def key_of(body: Mapping[str, JsonValue]) -> model.Key:
    """Of an object as a server sends it: with apiVersion, kind and a name.

    Raises: ConfigError(key) for one without them.
    """
    metadata = body.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    match (body.get("apiVersion"), body.get("kind"), named.get("namespace") or "", named.get("name")):
        case (str() as version, str() as kind, str() as namespace, str() as name):
            try:
                return make_key(Named(group_of(version), kind, namespace, name))
            except ValueError as exc:
                raise errors.ConfigError("key", str(exc)) from exc
        case _:
            raise errors.ConfigError("key", "an object without apiVersion, kind or name")
