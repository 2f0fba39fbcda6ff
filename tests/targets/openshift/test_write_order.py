"""What is written first of what may be written at once: a pod is told of the Services that are there when it begins."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler import model
from reconciler.targets.openshift.applying import sending, writing
from reconciler.targets.openshift.connection import cache, client, discovery
from reconciler.targets.openshift.desired import kinds
from reconciler.targets.openshift.observing import proposing


def thing(kind: str, group: str, name: str = "a") -> dict[str, Any]:
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": "shop"}}


@pytest.mark.parametrize("status", [403, 404])
def test_a_project_that_may_not_be_made_says_what_to_declare_instead(status: int) -> None:
    """OpenShift serves no create by apply for it, and lets ordinary accounts only request one."""
    resource = discovery.Resource("project.openshift.io", "v1", "Project", "projects", is_namespaced=False)
    key = model.Key("Project//shop")
    step = model.Step(key=key, action="create", command="", before=None)
    made = sending.Write(step, cache.Place(resource, "", "shop"), proposing.Found(key, None, None))
    with pytest.raises(sending.RefusedError) as caught:
        sending.ok(made, client.Answer(status, {"message": "no"}))
    assert "declare the Namespace instead" in caught.value.reason.fix


def write(body: dict[str, Any] | None, name: str) -> sending.Write:
    key = model.Key(f"Service/shop/{name}")
    want = proposing.Want(key, body, model.sha256(b"")) if body else None
    step = model.Step(key=key, action="update" if body else "delete", command="", before=None)
    resource = discovery.Resource(group="", version="v1", kind="Service", plural="services", is_namespaced=True)
    return sending.Write(step, cache.Place(resource, "shop", name), proposing.Found(key, None, None), want)


@pytest.mark.parametrize(
    ("body", "runs"),
    [
        (thing("Deployment", "apps/v1"), True),
        (thing("CronJob", "batch/v1"), True),
        (thing("DeploymentConfig", "apps.openshift.io/v1"), True),
        (thing("Service", "v1"), False),
        (thing("Route", "route.openshift.io/v1"), False),
        (thing("Deployment", "example.com/v1"), False),
    ],
)
def test_pods_begin_with_these(body: dict[str, Any], *, runs: bool) -> None:
    assert kinds.runs_pods(body) is runs


def test_what_brings_pods_is_begun_last_and_the_rest_keeps_its_order() -> None:
    writes = [
        write(thing("Deployment", "apps/v1"), "one"),
        write(thing("Service", "v1"), "two"),
        write(None, "three"),
        write(thing("StatefulSet", "apps/v1"), "four"),
        write(thing("Route", "route.openshift.io/v1"), "five"),
    ]
    assert writing.in_turn(writes) == [1, 2, 4, 0, 3]
