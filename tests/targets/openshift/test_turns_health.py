"""Rollouts, order and hooks under the real core, on a real control plane."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import kube as planes
from support import kube_api, kube_turns, lab

from reconciler import model
from reconciler.audit import record
from reconciler.targets.openshift.desired import hooks, kinds

Object = dict[str, Any]
folder = kube_turns.folder


@pytest.fixture
def estate(kube: planes.ControlPlane, tmp_path: Path) -> Iterator[kube_turns.Estate]:
    made = kube_turns.Estate(kube, tmp_path)
    yield made
    made.close()


def thing(kind: str, namespace: str, name: str, api: str = "v1", **more: Any) -> Object:
    metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **more}


def deployment(namespace: str, image: str = "example.test/app:1", name: str = "web", **more: Any) -> Object:
    pod = {"containers": [{"name": "app", "image": image}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    spec = {
        "replicas": 1,
        "progressDeadlineSeconds": 2,
        "selector": {"matchLabels": {"app": name}},
        "template": template,
    }
    return thing("Deployment", namespace, name, "apps/v1", spec=spec, **more)


def job(namespace: str, name: str, image: str = "example.test/app:1", when: str | None = None) -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "app", "image": image}]}
    metadata = {"annotations": {hooks.HOOK: when}} if when else {}
    return thing(
        "Job", namespace, name, "batch/v1", metadata=metadata, spec={"backoffLimit": 0, "template": {"spec": pod}}
    )


def images(estate: kube_turns.Estate, namespace: str) -> list[str]:
    found = estate.api.items(f"/apis/apps/v1/namespaces/{namespace}/deployments")
    return [each["spec"]["template"]["spec"]["containers"][0]["image"] for each in found]


def test_a_rollout_that_is_stuck_fails_with_its_cause_and_goes_back_by_itself(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    estate.merge("m1", folder([deployment(kube_namespace)]))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED"]
    estate.merge("m2", folder([deployment(kube_namespace, "example.test/unpullable:2")]))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert "image example.test/unpullable:2" in estate.reasons()
    assert images(estate, kube_namespace) == ["example.test/app:1"]
    assert estate.standing()[0] == "failed"
    causes = [e.cause for e in estate.process.events(record.Intent)]
    assert [str(cause) for cause in causes] == ["change", "change", "rollback"]


def test_a_quota_that_lets_no_pod_in_is_the_reason_of_the_failure(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    quota = thing("ResourceQuota", kube_namespace, "tight", spec={"hard": {"pods": "0"}})
    estate.merge("m1", folder([quota, deployment(kube_namespace)]))
    estate.settle()
    assert estate.outcomes() == ["FAILED", "SUCCEEDED"]
    assert "quota tight" in estate.reasons()
    assert images(estate, kube_namespace) == []


def definition(plural: str) -> Object:
    names = {"plural": plural, "singular": plural[:-1], "kind": "Gadget", "listKind": "GadgetList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{plural}.example.test"},
        "spec": {"group": f"{plural}.example.test", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def test_a_definition_and_its_objects_come_in_one_merge(estate: kube_turns.Estate, kube_namespace: str) -> None:
    plural = planes.unique("gadget").replace("-", "") + "s"
    gadget = thing("Gadget", kube_namespace, "a", f"{plural}.example.test/v1", spec={"size": 3})
    rule = {"kind": f"Gadget.{plural}.example.test/v1", "current": "self.spec.size == 3"}
    options = {"clusterKinds": ["CustomResourceDefinition"], "health": [rule]}
    estate.merge("m1", folder([gadget, definition(plural)], options=options))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED"], estate.reasons()
    path = f"/apis/{plural}.example.test/v1/namespaces/{kube_namespace}/{plural}/a"
    assert estate.api.get(path)["spec"] == {"size": 3}


def test_an_object_that_nobody_can_judge_is_not_green(estate: kube_turns.Estate, kube_namespace: str) -> None:
    plural = planes.unique("gadget").replace("-", "") + "s"
    gadget = thing("Gadget", kube_namespace, "a", f"{plural}.example.test/v1", spec={"size": 3})
    options = {"clusterKinds": ["CustomResourceDefinition"]}
    estate.merge("m1", folder([gadget, definition(plural)], options=options, deadlines={"health": "4s"}))
    estate.until(estate.outcomes)
    assert estate.outcomes() == ["FAILED"]
    assert "no condition says how it is" in estate.reasons()


def test_a_namespace_and_what_lies_in_it_come_in_one_merge(estate: kube_turns.Estate) -> None:
    name = planes.unique("shop")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    content = [thing("ConfigMap", name, "a", data={"a": "b"}), deployment(name)]
    estate.merge("m1", folder([*content, namespace], options={"clusterKinds": ["Namespace"]}))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED"], estate.reasons()
    assert images(estate, name) == ["example.test/app:1"]


def test_hooks_run_before_and_after_and_once_for_each_content(estate: kube_turns.Estate, kube_namespace: str) -> None:
    def files(migration: str) -> dict[str, bytes | None]:
        before, after = job(kube_namespace, "migrate", migration, "before"), job(kube_namespace, "smoke", when="after")
        return folder([after, deployment(kube_namespace), before])

    def ran() -> list[str]:
        found = estate.api.items(f"/apis/batch/v1/namespaces/{kube_namespace}/jobs")
        return sorted(each["metadata"]["name"].rpartition("-")[0] for each in found)

    estate.merge("m1", files("example.test/app:1"))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED"], estate.reasons()
    assert ran() == ["migrate", "smoke"]
    written = [key.split("/")[2] for e in estate.process.events(record.Intent) for key in e.actions]
    assert list(dict.fromkeys(name.rpartition("-")[0] or name for name in written)) == ["migrate", "web", "smoke"]

    jobs = f"/apis/batch/v1/namespaces/{kube_namespace}/jobs"
    for each in estate.api.items(jobs):  # As their TTL would, in a day.
        estate.api.delete(f"{jobs}/{each['metadata']['name']}?propagationPolicy=Background")
    estate.api.wait(lambda: not ran())
    estate.settle()
    assert ran() == []
    assert estate.outcomes() == ["SUCCEEDED"]

    estate.merge("m2", files("example.test/app:2"))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED", "SUCCEEDED"], estate.reasons()
    assert ran() == ["migrate"]


def test_a_hook_that_fails_stops_the_change_before_the_workloads(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    estate.merge("m1", folder([deployment(kube_namespace)]))
    estate.settle()
    migrate = job(kube_namespace, "migrate", "example.test/crash:1", "before")
    estate.merge("m2", folder([migrate, deployment(kube_namespace, "example.test/app:2")]))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert "exit code 1" in estate.reasons()
    assert images(estate, kube_namespace) == ["example.test/app:1"]
    assert estate.api.items(f"/apis/batch/v1/namespaces/{kube_namespace}/jobs") == []


def test_what_depends_on_another_workload_waits_until_that_is_ready(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    database = deployment(kube_namespace, "example.test/late:1", "db")
    database["spec"]["progressDeadlineSeconds"] = 60
    edge = {"annotations": {kinds.DEPENDS_ON: f"Deployment/{kube_namespace}/db"}}
    estate.merge("m1", folder([deployment(kube_namespace, name="web", metadata=edge), database]))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED"], estate.reasons()
    written = [tuple(e.actions) for e in estate.process.events(record.Intent)]
    assert written == [(f"Deployment/{kube_namespace}/db",), (f"Deployment/{kube_namespace}/web",)]
    web, db = (estate.api.get(f"/apis/apps/v1/namespaces/{kube_namespace}/deployments/{n}") for n in ("web", "db"))
    ready = next(c for c in db["status"]["conditions"] if c["type"] == "Available")
    assert web["metadata"]["creationTimestamp"] >= ready["lastTransitionTime"]


def test_a_target_waits_for_the_cluster_that_it_depends_on(estate: kube_turns.Estate, kube_namespace: str) -> None:
    waits = lab.folder("after", {"a": 1}, dependsOn=["t"])
    estate.merge("m1", folder([deployment(kube_namespace, "example.test/unpullable:1")]), waits)
    estate.settle()
    assert estate.outcomes("t") == ["FAILED", "SUCCEEDED"]
    assert estate.standing("after")[0] == "dependency"
    assert estate.lab.world("after").values == {}
    estate.merge("m2", folder([deployment(kube_namespace)]))
    estate.settle()
    assert (estate.outcomes("t")[-1], estate.outcomes("after")) == ("SUCCEEDED", ["SUCCEEDED"])
    ended = [e.target for e in estate.process.events(record.Outcome)]
    assert ended[-2:] == ["t", "after"]


def test_going_back_does_not_run_again_what_ran(estate: kube_turns.Estate, kube_namespace: str) -> None:
    jobs = f"/apis/batch/v1/namespaces/{kube_namespace}/jobs"

    def merge(revision: str, image: str) -> None:
        migrate = job(kube_namespace, "migrate", image, "before")
        estate.merge(revision, folder([migrate, deployment(kube_namespace, image)]))
        estate.settle()

    merge("m1", "example.test/app:1")
    (first,) = estate.api.items(jobs)
    merge("m2", "example.test/app:2")
    assert len(estate.api.items(jobs)) == 2, "what finished is left to its time"
    estate.api.delete(f"{jobs}/{first['metadata']['name']}?propagationPolicy=Background")
    estate.api.wait(lambda: len(estate.api.items(jobs)) == 1)
    estate.settle()
    merge("m3", "example.test/app:1")
    assert estate.outcomes() == ["SUCCEEDED"] * 3, estate.reasons()
    assert images(estate, kube_namespace) == ["example.test/app:1"]
    assert first["metadata"]["name"] not in {each["metadata"]["name"] for each in estate.api.items(jobs)}


def test_a_target_that_is_taken_down_leaves_no_hook(estate: kube_turns.Estate, kube_namespace: str) -> None:
    bodies = [job(kube_namespace, "migrate", when="before"), deployment(kube_namespace)]
    estate.merge("m1", folder(bodies))
    estate.settle()
    acknowledge = [{"hazard": hazard, "key": "t", "reason": "CHG1"} for hazard in ("deletes_target", "delete_budget")]
    estate.merge("m2", folder(bodies, mode="absent", acknowledge=acknowledge))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED", "SUCCEEDED"], estate.reasons()
    assert estate.api.items(f"/apis/batch/v1/namespaces/{kube_namespace}/jobs") == []


def test_a_version_that_objects_are_stored_in_is_not_removed(estate: kube_turns.Estate) -> None:
    plural = planes.unique("gadget").replace("-", "") + "s"
    options = {"clusterKinds": ["CustomResourceDefinition"]}
    estate.merge("m1", folder([definition(plural)], options=options))
    estate.settle()
    newer = definition(plural)
    newer["spec"]["versions"][0]["name"] = "v2"
    estate.merge("m2", folder([newer], options=options))
    estate.settle()
    assert estate.outcomes()[:2] == ["SUCCEEDED", "FAILED"]
    assert "crd_version" in estate.reasons()
    assert "objects are stored as v1" in estate.reasons()


def created(estate: kube_turns.Estate, collection: str, body: Object) -> bool:
    """A server needs a moment to serve a kind that was just defined: 404, then 429."""
    try:
        estate.api.call("POST", collection, body)
    except kube_api.RefusedError:
        return False
    return True


def test_the_delete_of_a_definition_says_how_many_objects_go_with_it(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    plural = planes.unique("gadget").replace("-", "") + "s"
    options = {"clusterKinds": ["CustomResourceDefinition"]}
    keep = thing("ConfigMap", kube_namespace, "keep", data={"a": "b"})
    estate.merge("m1", folder([definition(plural), keep], options=options))
    estate.settle()
    group = f"{plural}.example.test"
    for name in "abcd":
        gadget = thing("Gadget", kube_namespace, name, f"{group}/v1", spec={"size": 1})
        estate.api.wait(partial(created, estate, f"/apis/{group}/v1/namespaces/{kube_namespace}/{plural}", gadget))
    estate.merge("m2", folder([keep], options=options))
    estate.settle()
    code, why = estate.standing()
    named = ", ".join(f"{kube_namespace}/{name}" for name in "abc")
    assert code == "blocked"
    assert f"deletes_data (4 custom resources go with it: {named} and 1 more)" in why


def binding(namespace: str, role: str) -> Object:
    group = "rbac.authorization.k8s.io"
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": role}
    subjects = [{"apiGroup": group, "kind": "User", "name": "deployer"}]
    return thing("RoleBinding", namespace, "ours", f"{group}/v1", roleRef=reference, subjects=subjects)


def test_a_change_of_what_our_own_access_rests_on_has_to_be_meant(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    ours = binding(kube_namespace, "edit")
    keep = thing("ConfigMap", kube_namespace, "keep", data={"a": "b"})
    estate.merge("m1", folder([ours, keep]))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED"], "to be given a right takes nothing away"
    estate.merge("m2", folder([keep]))
    estate.settle()
    assert estate.standing()[0] == "blocked"
    assert "own_access" in estate.standing()[1]
    assert estate.find(ours)
    acknowledge = [{"hazard": "own_access", "key": f"RoleBinding/{kube_namespace}/ours", "reason": "CHG1"}]
    estate.merge("m3", folder([keep], acknowledge=acknowledge))
    estate.settle()
    assert estate.find(ours) is None


def test_one_that_failed_is_explained_among_many_that_are_only_slow(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    slow = [deployment(kube_namespace, "example.test/slow:1", f"a{n}") for n in range(9)]
    for each in slow:
        each["spec"]["progressDeadlineSeconds"] = 600
    estate.merge("m1", folder([*slow, deployment(kube_namespace, "example.test/unpullable:1", "z")]))
    estate.until(estate.outcomes)
    assert "image example.test/unpullable:1" in estate.reasons()


def test_many_claims_that_wait_for_their_first_pod_hold_up_nothing(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    name = planes.unique("waits")
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    estate.api.create({**kind, "provisioner": "example.test/none", "volumeBindingMode": "WaitForFirstConsumer"})
    resources = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": name}
    claims = [thing("PersistentVolumeClaim", kube_namespace, f"c{n}", spec=spec) for n in range(15)]
    estate.merge("m1", folder([*claims, deployment(kube_namespace)]))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED"], estate.reasons()


def test_a_hook_after_the_change_that_fails_takes_the_change_back(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    estate.merge("m1", folder([deployment(kube_namespace)]))
    estate.settle()
    smoke = job(kube_namespace, "smoke", "example.test/crash:1", "after")
    estate.merge("m2", folder([smoke, deployment(kube_namespace, "example.test/app:2")]))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert "smoke-" in estate.reasons()
    assert images(estate, kube_namespace) == ["example.test/app:1"]
    assert estate.api.items(f"/apis/batch/v1/namespaces/{kube_namespace}/jobs") == []


def test_a_daemon_that_is_made_anew_while_a_hook_runs_does_not_run_it_twice(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    jobs = f"/apis/batch/v1/namespaces/{kube_namespace}/jobs"
    bodies = [job(kube_namespace, "migrate", "example.test/late:1", "before"), deployment(kube_namespace)]
    estate.merge("m1", folder(bodies))
    estate.until(lambda: estate.api.items(jobs))
    (begun,) = estate.api.items(jobs)
    estate.restart()
    estate.settle()
    estate.restart()
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED"], estate.reasons()
    assert [each["metadata"]["uid"] for each in estate.api.items(jobs)] == [begun["metadata"]["uid"]]


def test_a_rollout_with_no_deadline_of_its_own_fails_by_the_documents_with_its_cause(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    estate.merge("m1", folder([deployment(kube_namespace)]))
    estate.settle()
    stuck = deployment(kube_namespace, "example.test/unpullable:2")
    stuck["spec"]["progressDeadlineSeconds"] = 600
    estate.merge("m2", folder([stuck], deadlines={"health": "12s"}))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert "image example.test/unpullable:2" in estate.reasons()
    assert images(estate, kube_namespace) == ["example.test/app:1"]


def test_a_pod_that_stays_broken_makes_its_target_degraded_and_nothing_is_written(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    """Until `deadlines.health` it is on its way, as the object itself says."""
    estate.merge("m1", folder([deployment(kube_namespace)], deadlines={"health": "4s"}))
    estate.settle()
    pods = f"/api/v1/namespaces/{kube_namespace}/pods"
    (pod,) = estate.api.items(pods)
    at = f"{pods}/{pod['metadata']['name']}"
    conditions = [
        {**each, "status": "False"} if each["type"] == "Ready" else each for each in pod["status"]["conditions"]
    ]
    mark = estate.plane.mark()
    estate.api.set_status(at, {"conditions": conditions})
    estate.until(lambda: estate.process.target().health() is model.Health.PROGRESSING)
    assert estate.standing()[0] is None
    estate.until(lambda: estate.standing()[0] == "degraded")
    assert f"Deployment/{kube_namespace}/web" in estate.standing()[1]
    estate.api.set_status(at, {"conditions": pod["status"]["conditions"]})
    estate.until(lambda: estate.standing()[0] is None)
    assert [each for each in estate.plane.requests(mark, user=estate.daemon.name) if each.writes] == []
