"""What runs pods, judged by statuses as a kube-controller-manager writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler import model
from reconciler.targets.openshift.judging import health

T0 = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
Status = health.Status


def conditions(**said: str) -> list[dict[str, Any]]:
    """`Available="True"`, `Progressing="False:ProgressDeadlineExceeded"`."""
    found = []
    for kind, words in said.items():
        status, _, reason = words.partition(":")
        found.append({"type": kind, "status": status, "reason": reason, "lastUpdateTime": "2026-11-24T12:00:10Z"})
    return found


def thing(kind: str, spec: dict[str, Any], status: dict[str, Any], api: str = "apps/v1") -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "shop", "generation": 2, "creationTimestamp": "2026-11-24T12:00:00Z"}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec, "status": status}


def deployment(replicas: int = 3, *, said: list[dict[str, Any]] | None = None, **counts: int) -> dict[str, Any]:
    full = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas) | counts
    good = conditions(Available="True", Progressing="True:NewReplicaSetAvailable")
    status = {"observedGeneration": 2, "conditions": good if said is None else said, **full}
    return thing("Deployment", {"replicas": replicas, "progressDeadlineSeconds": 600}, status)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (deployment(), Status.CURRENT, "3 available"),
        (deployment(replicas=0), Status.CURRENT, "0 available"),
        (deployment(updatedReplicas=1, said=conditions(Available="True")), Status.IN_PROGRESS, "updated: 1 of 3"),
        (deployment(availableReplicas=2), Status.IN_PROGRESS, "available: 2 of 3"),
        (deployment(readyReplicas=2), Status.IN_PROGRESS, "ready: 2 of 3"),
        (deployment(said=conditions(Available="True")), Status.IN_PROGRESS, "the rollout has not begun"),
        (
            deployment(said=conditions(Available="False:MinimumReplicasUnavailable", Progressing="True:NewReplicaSetAvailable")),
            Status.IN_PROGRESS,
            "MinimumReplicasUnavailable",
        ),
        (
            deployment(updatedReplicas=1, said=conditions(Available="True", Progressing="False:ProgressDeadlineExceeded")),
            Status.FAILED,
            "ProgressDeadlineExceeded",
        ),
        (
            deployment(
                updatedReplicas=0,
                said=conditions(Progressing="False:ProgressDeadlineExceeded", ReplicaFailure="True:FailedCreate"),
            ),
            Status.FAILED,
            "ProgressDeadlineExceeded; FailedCreate",
        ),
        (
            deployment(updatedReplicas=0, said=conditions(ReplicaFailure="True:FailedCreate")),
            Status.IN_PROGRESS,
            "FailedCreate",
        ),
        (
            deployment(said=conditions(Available="True", Progressing="Unknown:DeploymentPaused")),
            Status.CURRENT,
            "3 available",
        ),
    ],
)  # fmt: skip
def test_a_deployment_is_current_when_the_new_pods_are_available_and_the_old_are_gone(
    body: dict[str, Any], status: health.Status, words: str
) -> None:
    assert health.judge(body) == (status, words)


def test_old_pods_that_are_still_there_are_no_finished_rollout() -> None:
    body = deployment()
    body["status"]["replicas"] = 4
    assert health.judge(body) == (Status.IN_PROGRESS, "1 old pods still to go")


def test_a_deadline_that_ran_out_for_an_earlier_spec_is_not_held_against_the_way_back() -> None:
    body = deployment(updatedReplicas=1, said=conditions(Progressing="False:ProgressDeadlineExceeded"))
    body["metadata"]["managedFields"] = [
        {"manager": "reconciler", "operation": "Apply", "time": "2026-11-24T12:00:11Z"},
        {"manager": "kube-controller-manager", "subresource": "status", "time": "2026-11-24T12:09:00Z"},
    ]
    assert health.judge(body).status is Status.IN_PROGRESS
    body["metadata"]["managedFields"][0]["time"] = "2026-11-24T12:00:00Z"
    assert health.judge(body).status is Status.FAILED


def stateful(spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    full = {"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "updatedReplicas": 3}
    revisions = {"currentRevision": "web-2", "updateRevision": "web-2"}
    return thing("StatefulSet", {"replicas": 3, **spec}, {**full, **revisions, **status})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (stateful({}), Status.CURRENT),
        (stateful({}, readyReplicas=2), Status.IN_PROGRESS),
        (stateful({}, replicas=4), Status.IN_PROGRESS),
        (stateful({}, currentRevision="web-1", updatedReplicas=1), Status.IN_PROGRESS),
        (stateful({}, observedGeneration=None), Status.IN_PROGRESS),
        (stateful({"updateStrategy": {"type": "OnDelete"}}, currentRevision="web-1"), Status.CURRENT),
        (stateful({"updateStrategy": {"type": "OnDelete"}}, readyReplicas=2), Status.IN_PROGRESS),
        (stateful({"updateStrategy": {"rollingUpdate": {"partition": 2}}}, currentRevision="web-1", updatedReplicas=1), Status.CURRENT),
        (stateful({"updateStrategy": {"rollingUpdate": {"partition": 2}}}, currentRevision="web-1", updatedReplicas=0), Status.IN_PROGRESS),
    ],
)  # fmt: skip
def test_a_stateful_set_is_current_when_every_pod_that_is_due_has_the_new_revision(
    body: dict[str, Any], status: health.Status
) -> None:
    assert health.judge(body).status is status


def daemons(spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    names = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberReady",
    )
    return thing("DaemonSet", spec or {}, {"observedGeneration": 2, **dict.fromkeys(names, 2), **status})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (daemons(), Status.CURRENT),
        (daemons(desiredNumberScheduled=0, numberReady=0), Status.CURRENT),
        (daemons(updatedNumberScheduled=1), Status.IN_PROGRESS),
        (daemons({"updateStrategy": {"type": "OnDelete"}}, updatedNumberScheduled=1), Status.CURRENT),
        (daemons(numberReady=1), Status.IN_PROGRESS),
        (daemons(desiredNumberScheduled=None), Status.IN_PROGRESS),
    ],
)
def test_a_daemon_set_is_current_when_every_node_has_a_ready_pod(body: dict[str, Any], status: health.Status) -> None:
    assert health.judge(body).status is status


def replica_set(**status: Any) -> dict[str, Any]:
    names = ("replicas", "fullyLabeledReplicas", "availableReplicas", "readyReplicas")
    return thing("ReplicaSet", {"replicas": 1}, {"observedGeneration": 2, **dict.fromkeys(names, 1), **status})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (replica_set(), Status.CURRENT),
        (replica_set(readyReplicas=0), Status.IN_PROGRESS),
        (replica_set(replicas=2), Status.IN_PROGRESS),
        (replica_set(conditions=conditions(ReplicaFailure="True:FailedCreate")), Status.IN_PROGRESS),
    ],
)
def test_a_replica_set_is_current_when_its_pods_are_ready(body: dict[str, Any], status: health.Status) -> None:
    assert health.judge(body).status is status


def pod(phase: str, waiting: str = "", **said: str) -> dict[str, Any]:
    state = {"waiting": {"reason": waiting, "message": "back-off"}} if waiting else {"running": {}}
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}} if waiting == "CrashLoopBackOff" else {}
    container = {"name": "app", "image": "registry.example/app:2", "state": state, "lastState": last}
    found = [{**each, "lastTransitionTime": "2026-11-24T12:00:05Z"} for each in conditions(**said)]
    return thing("Pod", {}, {"phase": phase, "conditions": found, "containerStatuses": [container]}, "v1")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            pod("Pending", "ImagePullBackOff", Ready="False"),
            "app: ImagePullBackOff: image registry.example/app:2: back-off",
        ),
        (pod("Running", "CrashLoopBackOff", Ready="False"), "app: CrashLoopBackOff: exit code 137 (OOMKilled)"),
        (pod("Pending", "CreateContainerConfigError", Ready="False"), "app: CreateContainerConfigError: back-off"),
        (pod("Pending", PodScheduled="False:Unschedulable"), "Unschedulable"),
    ],
)
def test_a_pod_that_waits_badly_fails_after_a_grace_and_says_why(body: dict[str, Any], words: str) -> None:
    soon, late = T0 + timedelta(seconds=30), T0 + timedelta(seconds=66)
    assert health.judge(body) == health.judge(body, now=soon) == (Status.IN_PROGRESS, words)
    assert health.judge(body, now=late) == (Status.FAILED, words)


def test_a_pod_that_ran_for_a_year_gets_the_grace_of_a_new_one() -> None:
    body = pod("Running", "CrashLoopBackOff", Ready="False")
    body["metadata"]["creationTimestamp"] = "2025-11-24T12:00:00Z"
    assert health.judge(body, now=T0 + timedelta(seconds=30)).status is Status.IN_PROGRESS


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (pod("Running", Ready="True"), Status.CURRENT),
        (pod("Running", Ready="False:ContainersNotReady"), Status.IN_PROGRESS),
        (pod("Running"), Status.IN_PROGRESS),
        (pod("Succeeded"), Status.CURRENT),
        (pod("Failed"), Status.FAILED),
        (pod("Unknown"), Status.IN_PROGRESS),
    ],
)
def test_a_pod_is_current_when_it_is_ready_or_done(body: dict[str, Any], status: health.Status) -> None:
    assert health.judge(body, now=T0 + timedelta(hours=1)).status is status


def batch(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return thing("Job", spec, status, "batch/v1")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (batch({}), Status.IN_PROGRESS),
        (batch({"active": 1, "startTime": "2026-11-24T12:00:00Z"}), Status.IN_PROGRESS),
        (batch({"conditions": conditions(SuccessCriteriaMet="True")}), Status.IN_PROGRESS),
        (batch({"conditions": conditions(Complete="True")}), Status.CURRENT),
        (batch({"conditions": conditions(Failed="True:BackoffLimitExceeded")}), Status.FAILED),
        (batch({"conditions": conditions(FailureTarget="True:DeadlineExceeded")}), Status.FAILED),
        (batch({"conditions": conditions(Suspended="True")}, suspend=True), Status.CURRENT),
    ],
)
def test_a_job_that_runs_is_not_yet_current(body: dict[str, Any], status: health.Status) -> None:
    assert health.judge(body).status is status


def config(**status: Any) -> dict[str, Any]:
    names = ("replicas", "updatedReplicas", "availableReplicas", "readyReplicas")
    good = conditions(Available="True", Progressing="True:NewReplicationControllerAvailable")
    full = {"observedGeneration": 2, "conditions": good, **dict.fromkeys(names, 1), **status}
    return thing("DeploymentConfig", {"replicas": 1}, full, "apps.openshift.io/v1")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (config(), Status.CURRENT),
        (config(availableReplicas=0), Status.IN_PROGRESS),
        (config(observedGeneration=1), Status.IN_PROGRESS),
        (config(conditions=conditions(Available="True", Progressing="False:ProgressDeadlineExceeded")), Status.FAILED),
        (config(conditions=conditions(Progressing="True")), Status.IN_PROGRESS),
    ],
)
def test_a_deployment_config_is_judged_like_a_deployment(body: dict[str, Any], status: health.Status) -> None:
    assert health.judge(body).status is status


def test_only_current_is_green() -> None:
    healthy = [each for each in Status if health.Judged(each).health is model.Health.HEALTHY]
    assert healthy == [Status.CURRENT]
    assert health.Judged(Status.UNKNOWN).health is model.Health.UNKNOWN
    assert health.Judged(Status.FAILED).health is model.Health.FAILED
