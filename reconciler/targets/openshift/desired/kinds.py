"""What a kind means for order and danger: when it is written, what its loss takes along, what may be made anew. Pure.

A place is `stage * 100` and what stands within the stage (targets.md 2.4):

    100   custom resource definitions, namespaces, projects
    200   configuration: identities, rights, quotas, limits, policies, config maps, secrets, claims, image streams, classes
    250   hooks `before` (hooks.py)
    300   workloads, services, routes, autoscalers, budgets, custom resources, and what is not named here
    400   webhooks, admission policies, API services: once they stand, they judge what comes after
    490   hooks `after`

An object that says `reconciler/depends-on: Deployment/payments/db` comes after that one within its stage; across stages the
order is given, and an edge against it is refused. A stage begins when all before it is healthy; deletes run in reverse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reconciler import errors, model
from reconciler.targets.openshift import naming
from reconciler.targets.openshift.desired import hooks
from reconciler.targets.openshift.judging import judged
from reconciler.targets.openshift.judging.judged import Body

DEPENDS_ON = "reconciler/depends-on"  # keys, with commas or spaces between them
DEPTH = 49  # of edges within a stage: more would reach the next place
_DEFINES = frozenset({"Namespace", "Project", "ProjectRequest", "CustomResourceDefinition"})
_CONFIGURES = frozenset(
    {
        *("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "SecurityContextConstraints"),
        *("ResourceQuota", "ClusterResourceQuota", "LimitRange", "NetworkPolicy", "ConfigMap", "Secret"),
        *("PersistentVolume", "PersistentVolumeClaim", "StorageClass", "VolumeAttributesClass", "CSIDriver"),
        *(
            "ImageStream",
            "ImageStreamTag",
            "PriorityClass",
            "RuntimeClass",
            "IngressClass",
            "DeviceClass",
            "Group",
            "User",
        ),
        *("FlowSchema", "PriorityLevelConfiguration", "OAuthClient"),
    }
)
_JUDGES = frozenset(
    {
        *("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "APIService"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
        *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
    }
)
_STAGES = {_kind: place for kinds, place in ((_DEFINES, 100), (_CONFIGURES, 200), (_JUDGES, 400)) for _kind in kinds}
WORKLOADS = 300
OWN_ACCESS = 2000  # beyond every stage, and beyond every delete (convergence/planning.py)

# What goes with them cannot be declared back (targets.md 2.3).
GUARDED = frozenset(
    {"Namespace", "Project", "CustomResourceDefinition", "PersistentVolume", "PersistentVolumeClaim", "StatefulSet"}
)
_NEVER_REPLACED = GUARDED - {"StatefulSet"}
_RUNS_PODS = frozenset(
    {
        *("Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"),
        "DeploymentConfig",
    }
)
_BINDINGS = frozenset({"RoleBinding", "ClusterRoleBinding"})


def order(body: Body) -> int:
    """The place of one object, without its `depends-on`."""
    if hook := hooks.hook_of(body):
        return hooks.PLACES[hook]
    group, kind = judged.group(body), judged.text(body, "kind")
    # A custom resource may be called like a kind of ours: only kinds that a key knows by their name alone have a stage.
    known = naming.SCOPES.get((group, kind)) is not None
    return _STAGES.get(kind, WORKLOADS) if known else WORKLOADS


def orders(declared: Mapping[model.Key, Body], sources: Mapping[model.Key, str] | None = None) -> dict[model.Key, int]:
    """The place of each object of a target. `sources`: file:line of each, for errors.

    Raises: ConfigError(depends_on) for a key that is not declared, an edge against the stages, or a cycle.
    """
    where = sources or {}
    base = {key: order(body) for key, body in declared.items()}
    edges = {key: _edges(key, body, base, where.get(key, "")) for key, body in declared.items()}
    depths: dict[model.Key, int] = {}
    for key in sorted(declared):
        _settle(key, edges, depths, where)
    return {key: base[key] + depths[key] for key in declared}


def hazards(body: Body, action: str, *, own: bool = False) -> tuple[str, ...]:
    """What a step on this object needs an acknowledgement for. `own`: it is one of `own_rights`."""
    found = []
    if action in {"delete", "replace"} and is_guarded(body):
        found.append("deletes_data")
    if own and action != "create":
        found.append("own_access")
    return tuple(found)


def last(steps: Sequence[model.Step], place: int) -> int:
    """Where these steps stand: a step on our own access comes after all others, deletes too, which run in reverse."""
    own = next((step for step in steps if "own_access" in step.hazards), None)
    if own is None:
        return place
    return -OWN_ACCESS if own.action == "delete" else OWN_ACCESS


def own_rights(bodies: Iterable[Body], subjects: frozenset[str]) -> frozenset[model.Key]:
    """What our own access rests on: bindings that name us, and the roles they name. A write of these may cut us off.

    `subjects`: what we are called here, users (`system:serviceaccount:ns:name` too) and groups.
    """
    found: set[model.Key] = set()
    for body in bodies:
        if judged.text(body, "kind") in _BINDINGS and _is_standard(body) and _binds(body, subjects):
            namespace = judged.text(body, "metadata", "namespace")
            kind, name = judged.text(body, "roleRef", "kind"), judged.text(body, "roleRef", "name")
            found |= {naming.key_of(body), _role(kind, namespace if kind == "Role" else "", name)}
    return frozenset(found)


def is_guarded(body: Body) -> bool:
    return judged.text(body, "kind") in GUARDED and _is_standard(body)


def runs_pods(body: Body) -> bool:
    """Whether pods begin once it is written: what else stands at its place is asked for before it."""
    return judged.text(body, "kind") in _RUNS_PODS and _is_standard(body)


def replaceable(body: Body) -> bool:
    """Whether a kind may be deleted and made anew at all, where a document's `replace` names the key."""
    return not (judged.text(body, "kind") in _NEVER_REPLACED and _is_standard(body))


def refuse_crd_change(wanted: Body, live: Body) -> model.Reason | None:
    """Why this definition may not take the place of that one: objects of a version that it drops are still stored."""
    if (judged.group(live), judged.text(live, "kind")) != ("apiextensions.k8s.io", "CustomResourceDefinition"):
        return None
    stored = judged.at(live, "status", "storedVersions")
    kept = {judged.text(each, "name") for each in judged.mappings(wanted, "spec", "versions")}
    lost = [str(each) for each in stored if each not in kept] if isinstance(stored, list) else []
    if not lost:
        return None
    name = judged.text(live, "metadata", "name")
    message = f"{name}: objects are stored as {', '.join(lost)}, which this definition no longer has"
    fix = "keep the version with `served: false`, rewrite the objects, take it out of status.storedVersions, then remove it"
    return model.Reason(code="crd_version", message=judged.shown(message), fix=fix)


def _is_standard(body: Body) -> bool:
    return (judged.group(body), judged.text(body, "kind")) in naming.SCOPES


def _edges(key: model.Key, body: Body, base: Mapping[model.Key, int], where: str) -> tuple[model.Key, ...]:
    """The keys of this object's stage that it waits for; those of earlier stages come first anyway."""
    named = judged.text(body, "metadata", "annotations", DEPENDS_ON).replace(",", " ").split()
    for each in named:
        if each not in base:
            fix = "write Kind/namespace/name of an object of this target"
            raise errors.ConfigError(
                "depends_on", f"{key} depends on {each}, which is not declared", where=where, fix=fix
            )
        if base[model.Key(each)] > base[key]:
            message = f"{key} depends on {each}, which comes in a later stage"
            raise errors.ConfigError("depends_on", message, where=where, fix="turn the edge round, or remove it")
    return tuple(model.Key(each) for each in named if base[model.Key(each)] == base[key])


def _settle(
    start: model.Key,
    edges: Mapping[model.Key, tuple[model.Key, ...]],
    depths: dict[model.Key, int],
    where: Mapping[model.Key, str],
) -> None:
    """The depth of `start` and of all below it, by a walk that needs no stack of Python's: a document chooses its length."""
    path: list[model.Key] = [start]
    while path:
        key = path[-1]
        missing = [each for each in edges[key] if each not in depths]
        if key in depths:
            path.pop()
        elif not missing:
            depths[key] = max((depths[each] + 1 for each in edges[key]), default=0)
            if depths[key] > DEPTH:
                message = f"{key}: a chain of more than {DEPTH} objects that depend on each other"
                raise errors.ConfigError("depends_on", message, where=where.get(key, ""), fix="shorten the chain")
            path.pop()
        elif missing[0] in path:
            loop = [*path[path.index(missing[0]) :], missing[0]]
            message = f"objects that wait for each other: {' -> '.join(loop)}"
            raise errors.ConfigError("depends_on", message, where=where.get(loop[0], ""), fix="remove one of the edges")
        else:
            path.append(missing[0])


def _role(kind: str, namespace: str, name: str) -> model.Key:
    return naming.make_key(naming.Named("rbac.authorization.k8s.io", kind, namespace, name))


def _binds(binding: Body, subjects: frozenset[str]) -> bool:
    for each in judged.mappings(binding, "subjects"):
        name, namespace = judged.text(each, "name"), judged.text(each, "namespace")
        is_account = judged.text(each, "kind") == "ServiceAccount"
        if (f"system:serviceaccount:{namespace}:{name}" if is_account else name) in subjects:
            return True
    return False
