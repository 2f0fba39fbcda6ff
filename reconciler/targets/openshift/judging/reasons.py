"""Why a workload is not well, in words that name the cause: from the pods, replica sets and events around it. Pure.

`children_of` says what to read, and only of a workload that is not well; `explain` puts the cause into the judgement. Text of a
server is data: it is shown on one line, cut, and no decision hangs on it but one: a claim whose class waits for a first consumer
waits for a pod that a later stage brings, so it is no obstacle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from reconciler.targets.openshift.judging import judged, workloads
from reconciler.targets.openshift.judging.judged import Body, Judged, Status

WAITS_FOR_CONSUMER = "WaitForFirstConsumer"
_OWNERS = frozenset(
    {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "DeploymentConfig"}
)
_VOLUMES = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_CREATION = frozenset({"FailedCreate", "ReplicaSetCreateError", "FailedCreatePodSandBox"})
REVISION = "deployment.kubernetes.io/revision"


class Selection(NamedTuple):
    """Objects of one kind to read in one namespace, where both selectors match; empty ones match all."""

    api_version: str
    kind: str
    namespace: str
    labels: str = ""  # as in `labelSelector=`
    fields: str = ""  # as in `fieldSelector=`


def children_of(body: Body) -> tuple[Selection, ...]:
    """What `why` reads of this object; nothing for kinds that it knows no causes of.

    Who reads puts `apiVersion` and `kind` into each object: the items of a list do not carry them.
    """
    kind, namespace = judged.text(body, "kind"), judged.text(body, "metadata", "namespace")
    name = judged.text(body, "metadata", "name")
    match (judged.group(body), kind):
        case ("apps" | "" | "batch" | "apps.openshift.io", kind) if kind in _OWNERS:
            labels = _selector(judged.at(body, "spec", "selector"))
            if not labels:  # Everything in the namespace is no answer to what belongs to this.
                return ()
            between = {"Deployment": ("apps/v1", "ReplicaSet"), "DeploymentConfig": ("v1", "ReplicationController")}
            found = [Selection(*between[kind], namespace, labels)] if kind in between else []
            found.append(Selection("v1", "Pod", namespace, labels))
            return (*found, Selection("v1", "Event", namespace, fields="type=Warning"))
        case ("", "Pod"):
            return (Selection("v1", "Event", namespace, fields=f"type=Warning,involvedObject.name={name}"),)
        case ("", "PersistentVolumeClaim"):
            return (Selection("v1", "Event", namespace, fields=f"involvedObject.name={name}"),)
        case _:
            return ()


def explain(body: Body, said: Judged, children: Sequence[Body]) -> Judged:
    """The same judgement with the cause in its message; a claim that only waits for its first pod is Current."""
    if said.status is Status.CURRENT:
        return said
    is_claim = (judged.group(body), judged.text(body, "kind")) == ("", "PersistentVolumeClaim")
    if is_claim and judged.text(body, "status", "phase") == "Pending" and _waits_for_consumer(body, children):
        return judged.current("waits for the first pod that uses it")
    cause = why(body, children)
    if not cause or cause in said.message:
        return said
    return Judged(said.status, judged.shown(f"{cause} ({said.message})" if said.message else cause))


def why(body: Body, children: Sequence[Body]) -> str:
    """The cause, or nothing where none is seen. The first that holds: refused pods, no node, no image, bad configuration,
    a missing volume, a crash, a probe.

    Only what the newest revision brought is asked: pods of the old one say nothing about why the new one does not come up.
    """
    family = _family(body, children)
    pods = [each for each in family if judged.text(each, "kind") == "Pod"]
    events = [each for each in children if _is_about(each, [body, *family])]
    causes = (
        _refused([body, *family], events),
        _unplaced(pods),
        _waiting(pods),
        _event(events, _VOLUMES),
        _event(events, frozenset({"Unhealthy", "ProbeWarning"})),
        _claim(body, events),
        _exited(pods),
    )
    return judged.shown(next((cause for cause in causes if cause), ""))


def _selector(selector: JsonValue) -> str:
    """`matchLabels` and `matchExpressions`, or the plain labels of an older kind, as one labelSelector."""
    if not isinstance(selector, Mapping):
        return ""
    labels = judged.at(selector, "matchLabels")
    if labels is None and "matchExpressions" not in selector:
        labels = selector  # A ReplicationController's and a DeploymentConfig's.
    found = [f"{key}={value}" for key, value in labels.items()] if isinstance(labels, Mapping) else []
    for each in judged.mappings(selector, "matchExpressions"):
        key, operator = judged.text(each, "key"), judged.text(each, "operator")
        listed = judged.at(each, "values")
        values = ",".join(str(value) for value in listed) if isinstance(listed, list) else ""
        spoken = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        if operator not in spoken:
            return ""
        found.append(spoken[operator])
    return ",".join(found)


def _family(body: Body, children: Sequence[Body]) -> list[Body]:
    """What descends from this object by owner references, newest revision only; the pod itself where it is one."""
    family = [each for each in children if judged.text(each, "kind") != "Event"]
    direct = [each for each in family if _is_owned(each, {_uid(body)})]
    sets = [each for each in direct if judged.text(each, "kind") in {"ReplicaSet", "ReplicationController"}]
    if not sets:
        return [*direct, *([body] if judged.text(body, "kind") == "Pod" else [])]
    newest = max(sets, key=_revision)
    return [newest, *(each for each in family if _is_owned(each, {_uid(newest)}))]


def _revision(replica_set: Body) -> tuple[int, str]:
    said = judged.text(replica_set, "metadata", "annotations", REVISION)
    number = int(said) if said.isdecimal() and len(said) < 16 else 0  # noqa: PLR2004 - more digits are no revision
    return number, judged.text(replica_set, "metadata", "creationTimestamp")


def _uid(body: Body) -> str:
    return judged.text(body, "metadata", "uid")


def _is_owned(child: Body, uids: set[str]) -> bool:
    return any(
        judged.text(owner, "uid") in uids - {""} for owner in judged.mappings(child, "metadata", "ownerReferences")
    )


def _is_about(event: Body, family: Iterable[Body]) -> bool:
    if judged.text(event, "kind") != "Event":
        return False
    uid = judged.text(event, "involvedObject", "uid")
    return bool(uid) and any(_uid(each) == uid for each in family)


def _refused(family: Iterable[Body], events: Sequence[Body]) -> str:
    """A quota, a policy, a webhook or a security context that lets no pod be made."""
    for each in family:
        failure = judged.conditions(each).get("ReplicaFailure")
        if failure and failure.status == "True":
            return _quota(failure.message) or f"pods are refused: {failure.words}"
    said = _event(events, _CREATION)
    return _quota(said) or (f"pods are refused: {said}" if said else "")


def _quota(message: str) -> str:
    _, found, rest = message.partition("exceeded quota: ")
    return f"quota {rest} is exceeded" if found else ""


def _unplaced(pods: Iterable[Body]) -> str:
    for each in pods:
        placed = judged.conditions(each).get("PodScheduled")
        if placed and placed.status == "False":
            return f"{_name(each)}: no node takes it: {placed.message or placed.reason}"
    return ""


def _waiting(pods: Iterable[Body]) -> str:
    return next((f"{_name(each)}: {bad}" for each in pods if (bad := workloads.waiting_badly(each))), "")


def _exited(pods: Iterable[Body]) -> str:
    """A container that ended badly and is not (yet) called a crash loop; last, since a restart alone is no cause."""
    for each in pods:
        for field in ("initContainerStatuses", "containerStatuses"):
            for container in judged.mappings(each, "status", field):
                ended = judged.at(container, "state", "terminated") or judged.at(container, "lastState", "terminated")
                if code := judged.number(ended, "exitCode"):
                    reason = judged.text(ended, "reason")
                    words = f"{_name(each)}: {judged.text(container, 'name')} ended with exit code {code}"
                    return f"{words} ({reason})" if reason else words
    return ""


def _claim(body: Body, events: Sequence[Body]) -> str:
    """What a provisioner says of a claim that it cannot fill."""
    if judged.text(body, "kind") != "PersistentVolumeClaim":
        return ""
    return _event(events, frozenset({"ProvisioningFailed", "FailedBinding", "VolumeMismatch"}))


def _event(events: Iterable[Body], reasons: frozenset[str]) -> str:
    """The newest event with one of these reasons, in its own words."""
    found = [each for each in events if judged.text(each, "reason") in reasons]
    if not found:
        return ""
    newest = max(found, key=lambda each: judged.text(each, "lastTimestamp") or judged.text(each, "eventTime"))
    about = judged.text(newest, "involvedObject", "name")
    return f"{about}: {judged.text(newest, 'message')}" if about else judged.text(newest, "message")


def _waits_for_consumer(claim: Body, children: Sequence[Body]) -> bool:
    """Its newest event says so; one that says a provisioner failed is newer."""
    events = [each for each in children if _is_about(each, [claim])]
    newest = max(
        events, key=lambda each: judged.text(each, "lastTimestamp") or judged.text(each, "eventTime"), default=None
    )
    return newest is not None and judged.text(newest, "reason") == WAITS_FOR_CONSUMER


def _name(body: Body) -> str:
    return judged.text(body, "metadata", "name")
