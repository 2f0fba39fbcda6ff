"""What does not run pods, and the kinds that nobody can judge."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.targets.openshift.judging import health

Status = health.Status


def thing(kind: str, api: str = "v1", *, spec: Any = None, status: Any = None, **metadata: Any) -> dict[str, Any]:
    named = {"name": "a", "namespace": "shop", **metadata}
    return {"apiVersion": api, "kind": kind, "metadata": named, "spec": spec or {}, "status": status or {}}


def said(**conditions: str) -> dict[str, Any]:
    found = []
    for kind, words in conditions.items():
        status, _, reason = words.partition(":")
        found.append({"type": kind, "status": status, "reason": reason, "message": ""})
    return {"conditions": found}


ADDRESS = {"loadBalancer": {"ingress": [{"ip": "10.0.0.9"}]}}
CRD = "apiextensions.k8s.io/v1"
HPA = "autoscaling/v2"
IMAGE = {"generation": 2, "image": "sha256:0"}


def stream(*tags: Any) -> dict[str, Any]:
    return thing("ImageStream", "image.openshift.io/v1", spec={"tags": [{"name": "v1", "generation": 2}]}, status={"tags": list(tags)})  # fmt: skip


def route(*routers: Any) -> dict[str, Any]:
    return thing("Route", "route.openshift.io/v1", status={"ingress": list(routers)})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (thing("PersistentVolumeClaim", status={"phase": "Bound"}), Status.CURRENT),
        (thing("PersistentVolumeClaim", status={"phase": "Pending"}), Status.IN_PROGRESS),
        (thing("PersistentVolumeClaim", status={"phase": "Lost"}), Status.FAILED),
        (thing("PersistentVolume", status={"phase": "Available"}), Status.CURRENT),
        (thing("PersistentVolume", status={"phase": "Failed", "message": "no"}), Status.FAILED),
        (thing("Service", spec={"clusterIP": "10.0.0.1"}), Status.CURRENT),
        (thing("Service", spec={"clusterIP": "None"}), Status.CURRENT),
        (thing("Service"), Status.IN_PROGRESS),
        (thing("Service", spec={"type": "ExternalName"}), Status.CURRENT),
        (thing("Service", spec={"type": "LoadBalancer", "clusterIP": "10.0.0.1"}), Status.IN_PROGRESS),
        (thing("Service", spec={"type": "LoadBalancer", "clusterIP": "10.0.0.1"}, status=ADDRESS), Status.CURRENT),
        (thing("Ingress", "networking.k8s.io/v1"), Status.IN_PROGRESS),
        (thing("Ingress", "networking.k8s.io/v1", status=ADDRESS), Status.CURRENT),
        (thing("Namespace", status={"phase": "Active"}), Status.CURRENT),
        (thing("Namespace", status={"phase": "Terminating"}), Status.TERMINATING),
        (thing("Project", "project.openshift.io/v1", status={"phase": "Active"}), Status.CURRENT),
        (thing("Project", "project.openshift.io/v1"), Status.IN_PROGRESS),
        (thing("ResourceQuota", spec={"hard": {"pods": "1"}}), Status.IN_PROGRESS),
        (thing("ResourceQuota", spec={"hard": {"pods": "1"}}, status={"hard": {"pods": "1"}}), Status.CURRENT),
        (thing("PodDisruptionBudget", "policy/v1"), Status.IN_PROGRESS),
        (thing("PodDisruptionBudget", "policy/v1", status={"observedGeneration": 1, "desiredHealthy": 1}), Status.IN_PROGRESS),
        (thing("PodDisruptionBudget", "policy/v1", status={"observedGeneration": 1, "desiredHealthy": 1, "currentHealthy": 1}), Status.CURRENT),
        (thing("HorizontalPodAutoscaler", HPA), Status.IN_PROGRESS),
        (thing("HorizontalPodAutoscaler", HPA, status=said(AbleToScale="False:FailedGetScale")), Status.IN_PROGRESS),
        (thing("HorizontalPodAutoscaler", HPA, status=said(AbleToScale="True", ScalingActive="True")), Status.CURRENT),
        (thing("HorizontalPodAutoscaler", HPA, status=said(AbleToScale="True", ScalingActive="False:ScalingDisabled")), Status.CURRENT),
        (thing("CustomResourceDefinition", CRD), Status.IN_PROGRESS),
        (thing("CustomResourceDefinition", CRD, status=said(NamesAccepted="True", Established="True")), Status.CURRENT),
        (thing("CustomResourceDefinition", CRD, status=said(NamesAccepted="True", Established="False:Installing")), Status.IN_PROGRESS),
        (thing("CustomResourceDefinition", CRD, status=said(NamesAccepted="False:MultipleNamesNotAllowed")), Status.FAILED),
        (thing("APIService", "apiregistration.k8s.io/v1", status=said(Available="False:MissingEndpoints")), Status.IN_PROGRESS),
        (thing("APIService", "apiregistration.k8s.io/v1", status=said(Available="True:Passed")), Status.CURRENT),
        (route(), Status.IN_PROGRESS),
        (route(said(Admitted="True")), Status.CURRENT),
        (route(said(Admitted="True"), said()), Status.IN_PROGRESS),
        (route(said(Admitted="True"), said(Admitted="False:HostAlreadyClaimed")), Status.FAILED),
        (stream(), Status.IN_PROGRESS),
        (stream({"tag": "v1", "items": [IMAGE]}), Status.CURRENT),
        (stream({"tag": "v1", "items": [{"generation": 1}]}), Status.IN_PROGRESS),
        (stream({"tag": "v1", "items": None}), Status.IN_PROGRESS),
        (stream({"tag": "v1", **said(ImportSuccess="False:NotFound")}), Status.FAILED),
        (thing("ImageStream", "image.openshift.io/v1"), Status.CURRENT),
        (thing("ConfigMap"), Status.CURRENT),
        (thing("Secret"), Status.CURRENT),
        (thing("ServiceAccount"), Status.CURRENT),
        (thing("ClusterRole", "rbac.authorization.k8s.io/v1"), Status.CURRENT),
        (thing("BuildConfig", "build.openshift.io/v1"), Status.CURRENT),
        (thing("SecurityContextConstraints", "security.openshift.io/v1"), Status.CURRENT),
        (thing("ConfigMap", "example.com/v1"), Status.UNKNOWN),
        (thing("Widget", "example.com/v1"), Status.UNKNOWN),
        (thing("Widget", "example.com/v1", status=said(Available="True")), Status.UNKNOWN),
        (thing("Widget", "example.com/v1", status=said(Ready="True")), Status.CURRENT),
        (thing("Widget", "example.com/v1", status=said(Ready="False:Waiting")), Status.IN_PROGRESS),
        (thing("Widget", "example.com/v1", status=said(Ready="Unknown")), Status.IN_PROGRESS),
        (thing("Widget", "example.com/v1", status=said(Ready="True", Reconciling="True")), Status.IN_PROGRESS),
        (thing("Widget", "example.com/v1", status=said(Ready="True", Stalled="True:NoQuota")), Status.FAILED),
        (thing("Widget", "example.com/v1", status=said(Stalled="False")), Status.CURRENT),
        (thing("Widget", "example.com/v1", status=said(Stalled="False", Reconciling="Unknown")), Status.UNKNOWN),
    ],
)  # fmt: skip
def test_a_kind_is_judged_by_what_it_says_of_itself(body: dict[str, Any], status: health.Status) -> None:
    assert health.judge(body).status is status


def test_an_object_that_is_being_deleted_is_terminating_whatever_it_says_and_its_finalizers_are_named() -> None:
    gone = {"deletionTimestamp": "2026-11-24T12:00:00Z", "finalizers": ["example.com/volumes", "b"]}
    body = thing("Widget", "example.com/v1", status=said(Ready="True"), **gone)
    assert health.judge(body) == (Status.TERMINATING, "waits for example.com/volumes, b")


def test_a_condition_of_an_older_generation_says_nothing_about_this_one() -> None:
    body = thing("Widget", "example.com/v1", status=said(Ready="True"), generation=3)
    body["status"]["conditions"][0]["observedGeneration"] = 2
    assert health.judge(body).status is Status.IN_PROGRESS


def test_an_object_that_is_not_there_is_not_found() -> None:
    assert health.judge(None).status is Status.NOT_FOUND


def test_the_text_of_a_server_is_shown_without_escapes_on_one_line() -> None:
    body = thing("Widget", "example.com/v1", status=said(Stalled="True"))
    body["status"]["conditions"][0]["message"] = "\x1b[31mred\x1b[0m\nsecond\u202e line" + "x" * 10_000
    message = health.judge(body).message
    assert message.startswith("red second line")
    assert len(message) < 500
