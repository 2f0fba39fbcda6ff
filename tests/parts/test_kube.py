"""The control plane that other tests rely on: it starts, keeps apart, counts, and comes back."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import kube_api, parts
from support.kube import ControlPlane, unique


def deployment(namespace: str, image: str, **spec: Any) -> kube_api.Object:
    labels = {"app": "a"}
    containers = [{"name": "c", "image": f"example.test/{image}:1"}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "a", "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template, **spec},
    }


def read(kubeconfig: str, path: str, **headers: str) -> int:
    """The status that the API server answers with, its certificate verified."""
    document = yaml.safe_load(kubeconfig)
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    asked = urllib.request.Request(cluster["server"] + path, headers=headers)
    with tempfile.NamedTemporaryFile() as both:
        if "token" in user:
            asked.add_header("Authorization", f"Bearer {user['token']}")
        else:
            both.write(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
            both.flush()
            trust.load_cert_chain(both.name)
        try:
            with urllib.request.urlopen(asked, context=trust, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code


def test_a_deployment_becomes_available_though_no_node_is_there(kube: ControlPlane, kube_namespace: str) -> None:
    path = kube_api.path_of(kube.api.create(deployment(kube_namespace, "app")))
    kube.api.wait(lambda: kube.api.get(path)["status"].get("availableReplicas") == 1)


@pytest.mark.parametrize(("image", "reason"), [("crash", "CrashLoopBackOff"), ("unpullable", "ImagePullBackOff")])
def test_a_pod_fails_as_its_image_says(kube: ControlPlane, kube_namespace: str, image: str, reason: str) -> None:
    kube.api.create(deployment(kube_namespace, image))

    def waiting() -> bool:
        pods = kube.api.items(f"/api/v1/namespaces/{kube_namespace}/pods")
        return any(reason in str(pod["status"].get("containerStatuses")) for pod in pods)

    kube.api.wait(waiting)


def test_requests_are_counted_by_who_asked_and_as_whom(kube: ControlPlane, kube_namespace: str) -> None:
    who, path = kube.daemon(), f"/api/v1/namespaces/{kube_namespace}/configmaps"
    at = kube.mark()
    assert read(who.kubeconfig, path) == 403
    assert read(who.kubeconfig, path, **{"Impersonate-User": "admin"}) == 403
    as_deployer = {"Impersonate-User": "deployer", "Impersonate-Group": "payments"}
    assert read(who.kubeconfig, path, **as_deployer) == 200
    assert read(who.kubeconfig, f"{path}/none", **as_deployer) == 404
    asked = kube.requests(at, user=who.name)
    assert Counter((each.verb, each.code) for each in asked) == {("list", 403): 2, ("list", 200): 1, ("get", 404): 1}
    assert [each.impersonated for each in asked if each.code != 403] == ["deployer", "deployer"]
    assert all(each.groups == ("payments",) for each in asked if each.impersonated == "deployer")


def test_a_caller_may_prove_itself_by_a_certificate_and_gets_what_it_was_granted(
    kube: ControlPlane, kube_namespace: str
) -> None:
    who, path = unique("alice"), f"/api/v1/namespaces/{kube_namespace}/configmaps"
    kubeconfig = kube.certified(who, ["team"])
    assert read(kubeconfig, path) == 403
    kube.grant(who, "edit", kube_namespace)
    kube.api.wait(lambda: read(kubeconfig, path) == 200)
    assert read(kube.kubeconfig("visitor"), path) == 403
    assert read(kube.kubeconfig("deployer"), path) == 200


@pytest.mark.parametrize(("host", "admitted"), [("good.example", "True"), ("refused.example", "False")])
def test_a_route_of_openshifts_own_definition_is_admitted_or_not(
    kube: ControlPlane, kube_namespace: str, host: str, admitted: str
) -> None:
    route = {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": {"name": "a", "namespace": kube_namespace},
        "spec": {"host": host, "to": {"kind": "Service", "name": "a"}},
    }
    path = kube_api.path_of(kube.api.create(route))
    kube.api.wait(lambda: kube.api.get(path).get("status", {}).get("ingress"))
    (ingress,) = kube.api.get(path)["status"]["ingress"]
    assert ingress["conditions"][0]["status"] == admitted
    with pytest.raises(kube_api.RefusedError, match="Unsupported value"):
        kube.api.patch(path, {"spec": {"wildcardPolicy": "Everything"}})


def test_a_project_that_stands_in_brings_its_namespace(kube: ControlPlane) -> None:
    project = {"apiVersion": "project.openshift.io/v1", "kind": "Project", "metadata": {"name": unique("project")}}
    path = kube_api.path_of(kube.api.create(project))
    kube.api.wait(lambda: kube.api.get(path).get("status", {}).get("phase") == "Active")
    assert kube.api.find(f"/api/v1/namespaces/{project['metadata']['name']}") is not None  # type: ignore[index]


def test_a_plane_of_ones_own_comes_back_with_its_data_and_ends_with_the_run(
    make_kube: Callable[[], ControlPlane],
) -> None:
    plane = make_kube()
    namespace, url, kubeconfig = plane.make_namespace(), plane.url, plane.kubeconfig("admin")
    for end in (plane.kill_api, plane.stop_api):
        end()
        assert not plane.api.ready()
        plane.start_api()
        assert plane.url == url
        assert read(kubeconfig, f"/api/v1/namespaces/{namespace}") == 200


@pytest.mark.parametrize("folder_is_gone", [False, True], ids=["", "and its folder removed"])
def test_nothing_is_left_when_the_run_was_killed(tmp_path: Path, *, folder_is_gone: bool) -> None:
    parts.need_kube()
    with subprocess.Popen(["sleep", "100"]) as run:
        plane = ControlPlane(tmp_path / "plane", while_pid=run.pid)
        plane.wait()
        pids = [int(path.read_text().split()[0]) for path in (plane.folder / "pids").iterdir()]
        assert len(pids) == 4
        if folder_is_gone:
            plane.folder.rename(tmp_path / "elsewhere")
        run.kill()
    end = time.monotonic() + 30
    while plane.folder.exists() or any(_lives(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
    plane.api.close()


def _lives(pid: int) -> bool:
    """A child of ours that ended is a zombie until we ask."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False
