"""Whether an object is what it was told to be: a pure judge of the object alone, which fetches nothing.

    from the object alone          deletionTimestamp = Terminating; observedGeneration behind generation = InProgress;
                                   `Stalled` true = Failed
    a rule's `failed` holds        Failed
    a kind with a rule of its own  workloads.py, standing.py
    a kind known to have no state  Current by existing
    any other                      `Reconciling` true or `Ready` false = InProgress; `Ready` true = Current, as is a condition
                                   of kstatus's that is there and false
    else                           a rule's `current`; else Unknown, and Unknown is not green

Everything that speaks must agree: where conditions say Current and a rule has a `current` that does not hold, the object is
Unknown. Only for `LIFTED` kinds may a rule say Current where the own rule still waits: for an address, a volume or metrics that
this cluster may have nobody to give. Conventions: kstatus (sigs.k8s.io/cli-utils, pkg/kstatus), which calls any object without
conditions Current; this does so only for kinds that are known to have none.

    health:
      - {kind: Widget.example.com/v1, current: 'self.status.phase == "Ready"', failed: 'self.status.phase in ["Error"]'}
      - {kind: Ingress/v1, current: "true"}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from reconciler import model
from reconciler.targets.openshift import document, naming
from reconciler.targets.openshift.judging import expressions, judged, standing, workloads
from reconciler.targets.openshift.judging.judged import Body, Judged, Status

__all__ = ["LIFTED", "OWN", "STATELESS", "Judged", "Status", "check_rule", "judge", "kind_name"]

OWN: Mapping[tuple[str, str], Callable[[Body, datetime | None], Judged]] = {
    ("apps", "Deployment"): workloads.deployment,
    ("apps", "StatefulSet"): workloads.stateful_set,
    ("apps", "DaemonSet"): workloads.daemon_set,
    ("apps", "ReplicaSet"): workloads.replica_set,
    ("", "ReplicationController"): workloads.replica_set,
    ("", "Pod"): workloads.pod,
    ("batch", "Job"): workloads.job,
    ("apps.openshift.io", "DeploymentConfig"): workloads.deployment_config,
    ("", "PersistentVolumeClaim"): standing.claim,
    ("", "PersistentVolume"): standing.volume,
    ("", "Service"): standing.service,
    ("", "Namespace"): standing.namespace,
    ("", "ResourceQuota"): standing.quota,
    ("policy", "PodDisruptionBudget"): standing.budget,
    ("networking.k8s.io", "Ingress"): standing.ingress,
    ("autoscaling", "HorizontalPodAutoscaler"): standing.autoscaler,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): standing.definition,
    ("apiregistration.k8s.io", "APIService"): standing.api_service,
    ("route.openshift.io", "Route"): standing.route,
    ("image.openshift.io", "ImageStream"): standing.image_stream,
    ("project.openshift.io", "Project"): standing.namespace,
}
LIFTED = frozenset(
    {
        ("networking.k8s.io", "Ingress"),
        ("", "Service"),
        ("", "PersistentVolumeClaim"),
        ("autoscaling", "HorizontalPodAutoscaler"),
    }
)
STATELESS: Mapping[str, frozenset[str]] = {
    "": frozenset({"ConfigMap", "Secret", "ServiceAccount", "LimitRange", "Endpoints", "PodTemplate", "Event"}),
    "apps": frozenset({"ControllerRevision"}),
    "batch": frozenset({"CronJob"}),
    "rbac.authorization.k8s.io": frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}),
    "networking.k8s.io": frozenset({"NetworkPolicy", "IngressClass"}),
    "admissionregistration.k8s.io": frozenset(
        {
            "ValidatingWebhookConfiguration",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
        }
    ),
    "storage.k8s.io": frozenset({"StorageClass", "CSIDriver", "VolumeAttributesClass"}),
    "scheduling.k8s.io": frozenset({"PriorityClass"}),
    "node.k8s.io": frozenset({"RuntimeClass"}),
    "coordination.k8s.io": frozenset({"Lease"}),
    "discovery.k8s.io": frozenset({"EndpointSlice"}),
    "security.openshift.io": frozenset({"SecurityContextConstraints"}),
    "build.openshift.io": frozenset({"BuildConfig"}),
    "image.openshift.io": frozenset({"ImageStreamTag", "ImageTag"}),
    "template.openshift.io": frozenset({"Template"}),
    "authorization.openshift.io": frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}),
    "user.openshift.io": frozenset({"Group"}),
    "oauth.openshift.io": frozenset({"OAuthClient"}),
}


class _Holds(NamedTuple):
    """What a rule's expressions say; None: no answer, which is neither well nor sick."""

    failed: bool | None
    current: bool | None


def judge(body: Body | None, rules: Sequence[document.HealthRule] = (), *, now: datetime | None = None) -> Judged:
    """Judge one object as the server gave it; None for one that is not there.

    `now` is the server's time as far as it is known: without it no grace ever ends, and what waits badly stays InProgress.
    Total: any JSON is judged, and nothing is raised.
    """
    if body is None:
        return Judged(Status.NOT_FOUND, "not there")
    if barred := _barred(body):
        return barred
    rule = next((each for each in rules if each.kind == kind_name(body)), None)
    holds = _Holds(*expressions.holds((rule.failed or "false", rule.current), body)) if rule else None
    if holds and holds.failed:
        return judged.failed(f"`failed` of {kind_name(body)} holds")
    return _agreed(body, _said(body, now), holds)


def check_rule(rule: document.HealthRule) -> model.Reason | None:
    """Why this rule cannot be used; found by the parser of the language itself."""
    for name, expression in (("current", rule.current), ("failed", rule.failed)):
        if expression is not None and (wrong := expressions.check(expression)):
            fix = "an expression of CEL over `self`, the object; has(self.status.phase) asks for a field"
            return model.Reason(code="health_rule", message=f"{rule.kind}: {name}: {wrong}", fix=fix)
    return None


def kind_name(body: Body) -> str:
    """What a rule calls the kind of this object: `Widget.example.com/v1`, `Ingress/v1`; empty for what has no such name."""
    version = judged.text(body, "apiVersion").rpartition("/")[2]
    try:
        return f"{naming.title(judged.group(body), judged.text(body, 'kind'))}/{version}"
    except ValueError:
        return ""


def _barred(body: Body) -> Judged | None:
    """What no rule of any kind may overrule."""
    if judged.text(body, "metadata", "deletionTimestamp"):
        holds = judged.at(body, "metadata", "finalizers")
        names = ", ".join(str(each) for each in holds) if isinstance(holds, list) else ""
        return Judged(Status.TERMINATING, judged.shown(f"waits for {names}" if names else "being deleted"))
    generation = judged.number(body, "metadata", "generation")
    seen = judged.number(body, "status", "observedGeneration", default=generation)
    if seen < generation:
        return judged.in_progress(f"its controller has seen generation {seen} of {generation}")
    stalled = judged.conditions(body, "Stalled").get("Stalled")
    return judged.failed(stalled.words) if stalled and stalled.status == "True" else None


def _said(body: Body, now: datetime | None) -> Judged | None:
    """The judgement of the kind's own rule or of its conditions; None where neither says anything."""
    group, kind = judged.group(body), judged.text(body, "kind")
    if own := OWN.get((group, kind)):
        return own(body, now)
    if kind in STATELESS.get(group, ()):
        return judged.current("exists")
    return _conventional(body)


def _conventional(body: Body) -> Judged | None:
    found = judged.conditions(body)
    ready, reconciling = found.get("Ready"), found.get("Reconciling")
    if reconciling and reconciling.status == "True":
        return judged.in_progress(reconciling.words)
    if ready:
        if ready.generation is not None and ready.generation < judged.number(body, "metadata", "generation"):
            return judged.in_progress(f"`Ready` speaks of generation {ready.generation}")
        return judged.current("ready") if ready.status == "True" else judged.in_progress(ready.words)
    # Who publishes these two follows the convention that an absent or false one means well.
    settled = [each for each in (reconciling, found.get("Stalled")) if each]
    return judged.current("reconciled") if settled and all(each.status == "False" for each in settled) else None


def _agreed(body: Body, said: Judged | None, holds: _Holds | None) -> Judged:
    """The object's own word and the document's rule; neither makes green what the other does not."""
    waits = said is not None and said.status is Status.IN_PROGRESS
    lifted = waits and (judged.group(body), judged.text(body, "kind")) in LIFTED
    if said is not None and said.status is not Status.CURRENT and not lifted:
        return said
    name = kind_name(body)
    if holds is None:
        return said or judged.unknown(f"no condition says how it is; a rule under `health` for {name} can")
    if holds.failed is None or holds.current is None:
        return judged.unknown(f"the rule for {name} gave no answer: too long, too large an object, or out of time")
    if holds.current:
        return judged.current(f"`current` of {name} holds")
    return said if said and lifted else judged.unknown(f"neither `current` nor `failed` of {name} holds")
