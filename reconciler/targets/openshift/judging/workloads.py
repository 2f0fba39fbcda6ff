"""Whether what runs pods is where it was told to be: Deployment, StatefulSet, DaemonSet, ReplicaSet, Pod, Job, DeploymentConfig.

The counts and their order follow kstatus (cli-utils, pkg/kstatus/status/core.go). Where it says Current too early this does not:
a Job that runs is InProgress, and one whose pods were told to stop is judged by what it was told.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.targets.openshift.judging import judged
from reconciler.targets.openshift.judging.judged import Body, Judged

GRACE = timedelta(seconds=60)  # A registry that hiccups and a database that is a moment late are no failures.
DEFAULT_REPLICAS = 1
_NEVER = 2**31 - 1  # progressDeadlineSeconds that means none
_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"})
_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_WAITS_BADLY = _PULL | _HOPELESS | _CONFIG | {"CrashLoopBackOff"}


def deployment(body: Body, _now: datetime | None) -> Judged:
    found = judged.conditions(body)
    progressing = found.get("Progressing")
    if progressing and progressing.reason == "ProgressDeadlineExceeded" and not _outdated(progressing, body):
        refused = found.get("ReplicaFailure")
        why = f"; {refused.words}" if refused and refused.status == "True" else ""
        return judged.failed(f"{progressing.words}{why}")
    if waits := _rollout(body) or _without_observation(body):
        refused = found.get("ReplicaFailure")
        return judged.in_progress(refused.words if refused and refused.status == "True" else waits)
    has_deadline = judged.number(body, "spec", "progressDeadlineSeconds", default=_NEVER) != _NEVER
    if has_deadline and (
        progressing is None or progressing.reason not in {"NewReplicaSetAvailable", "DeploymentPaused"}
    ):
        return judged.in_progress(progressing.words if progressing else "the rollout has not begun")
    available = found.get("Available")
    if available is None or available.status != "True":
        return judged.in_progress(available.words if available else "not yet available")
    return judged.current(f"{_wanted(body)} available")


def deployment_config(body: Body, _now: datetime | None) -> Judged:
    """OpenShift's own. A rollout that was cancelled or ran out of time says `Progressing` false."""
    progressing = judged.conditions(body).get("Progressing")
    if progressing and progressing.status == "False" and not _outdated(progressing, body):
        return judged.failed(progressing.words)
    if waits := _without_observation(body) or _rollout(body):
        return judged.in_progress(waits)
    return _available(body)


def replica_set(body: Body, _now: datetime | None) -> Judged:
    refused = judged.conditions(body).get("ReplicaFailure")
    if refused and refused.status == "True":
        return judged.in_progress(refused.words)
    if waits := _without_observation(body):
        return judged.in_progress(waits)
    wanted = _wanted(body)
    for field in ("fullyLabeledReplicas", "availableReplicas", "readyReplicas"):
        if (have := judged.number(body, "status", field)) < wanted:
            return judged.in_progress(f"{field}: {have} of {wanted}")
    if (have := judged.number(body, "status", "replicas")) > wanted:
        return judged.in_progress(f"{have - wanted} pods still to go")
    return judged.current(f"{wanted} available")


def stateful_set(body: Body, _now: datetime | None) -> Judged:
    if waits := _without_observation(body):
        return judged.in_progress(waits)
    wanted = _wanted(body)
    for field in ("replicas", "readyReplicas"):
        if (have := judged.number(body, "status", field)) < wanted:
            return judged.in_progress(f"{field}: {have} of {wanted}")
    if (have := judged.number(body, "status", "replicas")) > wanted:
        return judged.in_progress(f"{have - wanted} pods still to go")
    if judged.text(body, "spec", "updateStrategy", "type") == "OnDelete":
        return judged.current("pods are replaced when somebody deletes them (OnDelete)")
    partition = judged.number(body, "spec", "updateStrategy", "rollingUpdate", "partition")
    updated = judged.number(body, "status", "updatedReplicas")
    revision, old = judged.text(body, "status", "updateRevision"), judged.text(body, "status", "currentRevision")
    if partition:
        due = max(0, wanted - partition)
        return (
            judged.current(f"{due} updated") if updated >= due else judged.in_progress(f"updated: {updated} of {due}")
        )
    if revision != old:
        return judged.in_progress(f"updated: {updated} of {wanted}")
    return judged.current(f"{wanted} ready")


def daemon_set(body: Body, _now: datetime | None) -> Judged:
    if waits := _without_observation(body):
        return judged.in_progress(waits)
    wanted = judged.number(body, "status", "desiredNumberScheduled", default=-1)
    if wanted < 0:
        return judged.in_progress("the controller has not said how many nodes it means")
    counted = ["currentNumberScheduled", "numberAvailable", "numberReady"]
    if judged.text(body, "spec", "updateStrategy", "type") != "OnDelete":
        counted.insert(1, "updatedNumberScheduled")
    for field in counted:
        if (have := judged.number(body, "status", field)) < wanted:
            return judged.in_progress(f"{field}: {have} of {wanted}")
    return judged.current(f"{wanted} ready")


def pod(body: Body, now: datetime | None) -> Judged:
    phase = judged.text(body, "status", "phase")
    if phase == "Succeeded":
        return judged.current("completed")
    if phase == "Failed":
        return judged.failed(_terminated(body) or "the pod failed")
    ready = judged.conditions(body).get("Ready")
    if phase == "Running" and ready and ready.status == "True":
        return judged.current("ready")
    bad = waiting_badly(body)
    scheduled = judged.conditions(body).get("PodScheduled")
    unplaced = scheduled.words if scheduled and scheduled.status == "False" else ""
    if bad or unplaced:
        late = now is not None and _began(body) is not None and now - _since(body, now) >= GRACE
        return judged.failed(bad or unplaced) if late else judged.in_progress(bad or unplaced)
    return judged.in_progress(ready.words if ready and ready.status == "False" else f"phase {phase or 'not set'}")


def job(body: Body, _now: datetime | None) -> Judged:
    found = judged.conditions(body)
    done, broke = found.get("Complete"), found.get("Failed") or found.get("FailureTarget")
    if broke and broke.status == "True":
        return judged.failed(broke.words)
    if done and done.status == "True":
        return judged.current("completed")
    if judged.at(body, "spec", "suspend") is True:
        return judged.current("suspended, as declared")
    active, gone = judged.number(body, "status", "active"), judged.number(body, "status", "failed")
    return judged.in_progress(f"{active} pods run, {gone} failed" if active or gone else "has not begun")


def waiting_badly(pod_body: Body) -> str:
    """Why a container of this pod does not start, in the words of its kubelet; empty where nothing says so."""
    for field in ("initContainerStatuses", "containerStatuses"):
        for each in judged.mappings(pod_body, "status", field):
            waiting = judged.at(each, "state", "waiting")
            reason = judged.text(waiting, "reason")
            if reason in _WAITS_BADLY:
                words = f"{judged.text(each, 'name')}: {reason}"
                return f"{words}: {_detail(each, reason) or judged.text(waiting, 'message')}".rstrip(": ")
    return ""


def _detail(container: Body, reason: str) -> str:
    """The image that cannot be had, or how the last run ended: the kubelet's message names neither in a stable form."""
    if reason in _PULL | _HOPELESS:
        message = judged.text(container, "state", "waiting", "message")
        return f"image {judged.text(container, 'image')}" + (f": {message}" if message else "")
    last = judged.at(container, "lastState", "terminated")
    if reason == "CrashLoopBackOff" and last is not None:
        why = judged.text(last, "reason")
        return f"exit code {judged.number(last, 'exitCode')}" + (f" ({why})" if why else "")
    return ""


def _terminated(body: Body) -> str:
    if reason := judged.text(body, "status", "reason"):
        return f"{reason}: {judged.text(body, 'status', 'message')}".rstrip(": ")
    for each in judged.mappings(body, "status", "containerStatuses"):
        ended = judged.at(each, "state", "terminated")
        if ended is not None and judged.number(ended, "exitCode"):
            return f"{judged.text(each, 'name')}: exit code {judged.number(ended, 'exitCode')}"
    return ""


def _began(body: Body) -> datetime | None:
    return judged.moment(judged.text(body, "metadata", "creationTimestamp"))


def _since(body: Body, now: datetime) -> datetime:
    """When the pod began not to be ready: a pod that ran for a year gets the grace of a new one."""
    moments = [
        judged.moment(judged.text(each, "lastTransitionTime"))
        for each in judged.mappings(body, "status", "conditions")
        if judged.text(each, "type") in {"Ready", "PodScheduled"} and judged.text(each, "status") != "True"
    ]
    return max((at for at in (_began(body), *moments) if at), default=now)


def _wanted(body: Body) -> int:
    return judged.number(body, "spec", "replicas", default=DEFAULT_REPLICAS)


def _rollout(body: Body) -> str:
    """What a Deployment's counts still lack; empty where they are as they should be."""
    wanted, there = _wanted(body), judged.number(body, "status", "replicas")
    updated, available = (
        judged.number(body, "status", "updatedReplicas"),
        judged.number(body, "status", "availableReplicas"),
    )
    ready = judged.number(body, "status", "readyReplicas", default=available)
    if there < wanted:
        return f"replicas: {there} of {wanted}"
    if updated < wanted:
        return f"updated: {updated} of {wanted}"
    if there > updated:
        return f"{there - updated} old pods still to go"
    if there > wanted:
        return f"{there - wanted} pods still to go"
    if available < updated:
        return f"available: {available} of {updated}"
    return f"ready: {ready} of {wanted}" if ready < wanted else ""


def _outdated(said: judged.Condition, body: Body) -> bool:
    """Whether what a condition says is about a spec that was replaced since.

    A Deployment that goes back to its last template keeps `ProgressDeadlineExceeded` until the last bad pod is gone, though its
    controller has seen the new generation: it clears the condition on progress, and a way back may make none.
    """
    written, updated = judged.declared(body), judged.moment(said.updated)
    return written is not None and updated is not None and written >= updated


def _available(body: Body) -> Judged:
    available = judged.conditions(body).get("Available")
    if available is None or available.status != "True":
        return judged.in_progress(available.words if available else "not yet available")
    return judged.current(f"{_wanted(body)} available")


def _without_observation(body: Body) -> str:
    """Their controllers always say which generation they saw; that they saw none is not that all is well."""
    seen = judged.number(body, "status", "observedGeneration", default=-1)
    return "its controller has not seen it yet" if seen < 0 else ""
