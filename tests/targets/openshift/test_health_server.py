"""The judge beside a real kube-apiserver and kube-controller-manager: their statuses, not our idea of them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from support import kube as planes
from support import kube_api

from reconciler.targets.openshift import document
from reconciler.targets.openshift.judging import health, judged, reasons

Object = dict[str, Any]
Status = health.Status
COLLECTIONS = {
    "Pod": "api/v1/namespaces/{}/pods",
    "Event": "api/v1/namespaces/{}/events",
    "ReplicationController": "api/v1/namespaces/{}/replicationcontrollers",
    "ReplicaSet": "apis/apps/v1/namespaces/{}/replicasets",
}


class World:
    """One namespace: what is put there, and how it is judged now."""

    def __init__(self, plane: planes.ControlPlane, namespace: str) -> None:
        self.api, self.namespace = plane.api, namespace

    def put(self, kind: str, spec: Any = None, *, api: str = "v1", name: str = "a", **more: Any) -> str:
        metadata = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": api, "kind": kind, "metadata": metadata, **more, **({"spec": spec} if spec else {})}
        self.api.apply(body)
        return kube_api.path_of(body)

    def deployment(self, image: str, *, replicas: int = 1, deadline_s: int = 60) -> str:
        spec = {"replicas": replicas, "progressDeadlineSeconds": deadline_s, **workload(image)}
        return self.put("Deployment", spec, api="apps/v1")

    def judge(self, path: str, *rules: document.HealthRule) -> judged.Judged:
        body = self.api.find(path)
        said = health.judge(body, rules, now=datetime.now(UTC))
        if body is None or said.status is Status.CURRENT:
            return said
        return reasons.explain(body, said, [child for one in reasons.children_of(body) for child in self._read(one)])

    def until(self, path: str, status: health.Status, *, within_s: float = 40) -> str:
        self.api.wait(lambda: self.judge(path).status is status, within_s=within_s, every_s=0.1)
        return self.judge(path).message

    def _read(self, wanted: reasons.Selection) -> list[Object]:
        query = f"labelSelector={quote(wanted.labels)}&fieldSelector={quote(wanted.fields)}"
        items = self.api.items(f"/{COLLECTIONS[wanted.kind].format(wanted.namespace)}?{query}")
        return [{**each, "apiVersion": wanted.api_version, "kind": wanted.kind} for each in items]


def workload(image: str) -> Object:
    containers = [{"name": "app", "image": image}]
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": containers}}
    return {"selector": {"matchLabels": {"app": "a"}}, "template": template}


@pytest.fixture
def world(kube: planes.ControlPlane, kube_namespace: str) -> World:
    return World(kube, kube_namespace)


def test_a_rollout_becomes_current_and_one_whose_image_is_missing_fails_by_its_deadline_with_the_image(
    world: World,
) -> None:
    path = world.deployment("example.test/app:1", replicas=2)
    assert world.judge(path).status is Status.IN_PROGRESS
    world.until(path, Status.CURRENT)
    world.deployment("example.test/unpullable:2", replicas=2, deadline_s=2)
    assert world.judge(path).status is Status.IN_PROGRESS
    message = world.until(path, Status.FAILED)
    assert "ImagePullBackOff" in message
    assert "image example.test/unpullable:2" in message
    assert "ProgressDeadlineExceeded" in message


def test_the_way_back_from_a_rollout_that_failed_is_never_called_failed(world: World) -> None:
    path = world.deployment("example.test/app:1", deadline_s=1)
    world.until(path, Status.CURRENT)
    for turn in range(3):
        world.deployment(f"example.test/unpullable:{turn}", deadline_s=1)
        world.until(path, Status.FAILED)
        world.deployment("example.test/app:1", deadline_s=1)
        seen, end = set(), time.monotonic() + 20
        while Status.CURRENT not in seen and time.monotonic() < end:
            seen.add(world.judge(path).status)
        assert Status.CURRENT in seen
        assert Status.FAILED not in seen


def test_a_crash_is_named(world: World) -> None:
    path = world.deployment("example.test/crash:1", deadline_s=2)
    assert "CrashLoopBackOff" in world.until(path, Status.FAILED)


def test_a_quota_that_lets_no_pod_in_is_named(world: World) -> None:
    quota = world.put("ResourceQuota", {"hard": {"pods": "1"}}, name="tight")
    world.until(quota, Status.CURRENT)
    path = world.deployment("example.test/app:1", replicas=2, deadline_s=2)
    world.api.wait(lambda: "quota tight" in world.judge(path).message)
    assert "quota tight, requested: pods=1, used: pods=1, limited: pods=1 is exceeded" in world.until(
        path, Status.FAILED
    )


def test_a_pod_that_no_policy_admits_is_told_with_the_servers_words(world: World) -> None:
    namespace = f"/api/v1/namespaces/{world.namespace}"
    world.api.patch(namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    path = world.deployment("example.test/app:1", deadline_s=2)
    assert 'violates PodSecurity "restricted' in world.until(path, Status.FAILED)


def test_stateful_and_daemon_sets_are_judged(world: World) -> None:
    stateful = world.put(
        "StatefulSet", {"serviceName": "a", "replicas": 2, **workload("example.test/app:1")}, api="apps/v1"
    )
    daemons = world.put("DaemonSet", workload("example.test/app:1"), api="apps/v1", name="d")
    assert world.judge(stateful).status is Status.IN_PROGRESS
    world.until(stateful, Status.CURRENT)
    world.until(daemons, Status.CURRENT)  # No node is meant here, and the controller has said so.
    world.put(
        "StatefulSet", {"serviceName": "a", "replicas": 2, **workload("example.test/unpullable:2")}, api="apps/v1"
    )
    assert world.judge(stateful).status is Status.IN_PROGRESS
    world.api.wait(lambda: "unpullable:2" in world.judge(stateful).message)


def batch(image: str) -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "app", "image": image}]}
    return {"backoffLimit": 0, "template": {"spec": pod}}


def test_a_job_is_current_when_it_is_done_and_failed_when_it_failed(world: World) -> None:
    good = world.put("Job", batch("example.test/app:1"), api="batch/v1", name="good")
    bad = world.put("Job", batch("example.test/crash:1"), api="batch/v1", name="bad")
    assert world.judge(good).status is Status.IN_PROGRESS
    world.until(good, Status.CURRENT)
    assert "exit code 1" in world.until(bad, Status.FAILED)


def test_a_pod_of_its_own_is_judged(world: World) -> None:
    pod = {"containers": [{"name": "app", "image": "example.test/unpullable:1"}]}
    path = world.put("Pod", pod)
    world.api.wait(lambda: "ImagePullBackOff" in world.judge(path).message)
    assert world.judge(path).status is Status.IN_PROGRESS
    body = world.api.get(path)
    assert health.judge(body, now=datetime(2100, 1, 1, tzinfo=UTC)).status is Status.FAILED


def claim(of: str) -> Object:
    resources = {"requests": {"storage": "1Gi"}}
    return {"accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": of}


def test_a_claim_that_nobody_fills_is_pending_but_one_that_waits_for_its_first_pod_is_no_obstacle(world: World) -> None:
    waits, never = planes.unique("waits"), planes.unique("never")
    for name, mode in ((waits, "WaitForFirstConsumer"), (never, "Immediate")):
        kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
        world.api.create({**kind, "provisioner": "example.test/none", "volumeBindingMode": mode})
    pending = world.put("PersistentVolumeClaim", claim(never), name="b")
    world.until(world.put("PersistentVolumeClaim", claim(waits)), Status.CURRENT)
    assert world.judge(pending).status is Status.IN_PROGRESS


def test_a_budget_is_current_when_its_pods_are_there(world: World) -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}
    path = world.put("PodDisruptionBudget", spec, api="policy/v1")
    assert world.judge(path).status is Status.IN_PROGRESS
    world.until(world.deployment("example.test/app:1"), Status.CURRENT)
    world.until(path, Status.CURRENT)


def test_what_has_no_state_is_current_and_what_has_none_yet_is_not(world: World) -> None:
    assert world.judge(world.put("ConfigMap", data={"a": "b"})).status is Status.CURRENT
    assert world.judge(world.put("ServiceAccount", name="sa")).status is Status.CURRENT
    ports = {"ports": [{"port": 80}]}
    assert world.judge(world.put("Service", ports)).status is Status.CURRENT
    balanced = world.put("Service", {**ports, "type": "LoadBalancer"}, name="lb")
    assert world.judge(balanced).status is Status.IN_PROGRESS


def test_a_definition_its_objects_and_their_rule(world: World) -> None:
    plural = planes.unique("gadget").replace("-", "") + "s"
    names = {"plural": plural, "singular": plural[:-1], "kind": "Gadget", "listKind": "GadgetList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
    group = f"{plural}.example.test"
    world.api.create(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
        }
    )
    definition = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{group}"
    world.until(definition, Status.CURRENT)
    objects = f"/apis/{group}/v1/namespaces/{world.namespace}/{plural}"
    gadget = {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": "a"}}
    world.api.wait(lambda: _is_served(world.api, objects))
    world.api.call("POST", objects, gadget)
    rule = document.HealthRule(kind=f"Gadget.{group}/v1", current='self.status.phase == "Ready"')
    assert world.judge(f"{objects}/a").status is Status.UNKNOWN
    assert world.judge(f"{objects}/a", rule).status is Status.UNKNOWN
    world.api.set_status(f"{objects}/a", {"phase": "Ready"})
    assert world.judge(f"{objects}/a", rule).status is Status.CURRENT
    world.api.patch(f"{objects}/a", {"metadata": {"finalizers": ["example.test/hold"]}})
    world.api.delete(f"{objects}/a")
    assert world.judge(f"{objects}/a", rule) == (Status.TERMINATING, "waits for example.test/hold")


def _is_served(api: kube_api.Api, path: str) -> bool:
    """An established kind may still answer 404, and then 429 (storage is (re)initializing)."""
    try:
        return api.find(path) is not None
    except kube_api.RefusedError as refused:
        if refused.code != 429:
            raise
        return False


def test_a_namespace_that_goes_is_terminating_and_then_not_there(world: World) -> None:
    path = f"/api/v1/namespaces/{world.namespace}"
    assert world.judge(path).status is Status.CURRENT
    world.put("ConfigMap", name="held")
    world.api.patch(f"{path}/configmaps/held", {"metadata": {"finalizers": ["example.test/hold"]}})
    world.api.delete(path)
    assert world.judge(path).status is Status.TERMINATING
    world.api.patch(f"{path}/configmaps/held", {"metadata": {"finalizers": None}})
    world.until(path, Status.NOT_FOUND)


def test_openshifts_own_kinds(world: World) -> None:
    good = world.put(
        "Route", {"host": "a.example.test", "to": {"kind": "Service", "name": "a"}}, api="route.openshift.io/v1"
    )
    bad = world.put("Route", {"host": "refused.example.test", "to": {"kind": "Service", "name": "a"}}, api="route.openshift.io/v1", name="b")  # fmt: skip
    world.until(good, Status.CURRENT)
    assert "HostAlreadyClaimed" in world.until(bad, Status.FAILED)
    tags = [{"name": "one", "from": {"kind": "DockerImage", "name": "example.test/app:1"}}]
    world.until(world.put("ImageStream", {"tags": tags}, api="image.openshift.io/v1"), Status.CURRENT)
    tags = [{"name": "missing", "from": {"kind": "DockerImage", "name": "example.test/none:1"}}]
    assert "no such image" in world.until(world.put("ImageStream", {"tags": tags}, api="image.openshift.io/v1", name="b"), Status.FAILED)  # fmt: skip
    config = {"replicas": 1, "selector": {"app": "a"}, "template": workload("example.test/app:1")["template"]}
    world.until(world.put("DeploymentConfig", config, api="apps.openshift.io/v1"), Status.CURRENT)
