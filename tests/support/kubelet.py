"""A fake kubelet, and what stands in for OpenShift's controllers: `python -m support.kubelet FOLDER PID`.

It says what a node would say of pods, from their images alone (support/kube.py lists which), and keeps house: when the process
PID is gone, the control plane in FOLDER ends and the folder goes.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import urllib3

from support import kube, kube_api

Object: TypeAlias = kube_api.Object
Judge: TypeAlias = Callable[[Object], Object | None]  # the status an object should have; None leaves it as it is
LATE_S = 2.0


def pod_status(pod: Object) -> Object | None:
    """None for one that is told already, that ends, or that stays Pending."""
    told = {each["type"] for each in pod.get("status", {}).get("conditions", ())}
    image = str(pod["spec"]["containers"][0]["image"])
    if "Ready" in told or "deletionTimestamp" in pod["metadata"] or "slow" in image:
        return None
    if "unpullable" in image:
        return _status(pod, "Pending", _waiting("ImagePullBackOff", f'Back-off pulling image "{image}"'))
    of_a_job = any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences", ()))
    if of_a_job:
        crashed = "crash" in image
        return _status(pod, "Failed" if crashed else "Succeeded", _ended(int(crashed)))
    if "crash" in image:
        return _status(pod, "Running", _waiting("CrashLoopBackOff", "back-off 5m0s restarting failed container"))
    return _status(pod, "Running", {"running": {"startedAt": _now()}}, ready=True)


def _status(pod: Object, phase: str, state: Object, *, ready: bool = False) -> Object:
    truths = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    conditions = [{"type": k, "status": str(v), "lastTransitionTime": _now()} for k, v in truths.items()]
    containers = [
        {
            "name": each["name"],
            "image": each["image"],
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": 3 if "CrashLoopBackOff" in str(state) else 0,
            "state": state,
        }
        for each in pod["spec"]["containers"]
    ]
    status = {"phase": phase, "conditions": conditions, "containerStatuses": containers, "startTime": _now()}
    return status | ({"podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}]} if ready else {})


def _waiting(reason: str, message: str) -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def _ended(code: int) -> Object:
    said = "Error" if code else "Completed"
    return {"terminated": {"exitCode": code, "reason": said, "startedAt": _now(), "finishedAt": _now()}}


def route_status(route: Object) -> Object | None:
    if route.get("status", {}).get("ingress"):
        return None
    host = route["spec"].get("host", "")
    admitted = "refused" not in host
    condition = {
        "type": "Admitted",
        "status": str(admitted),
        "lastTransitionTime": _now(),
        **({} if admitted else {"reason": "HostAlreadyClaimed", "message": "another route has this host"}),
    }
    ingress = {"host": host, "routerName": "default", "wildcardPolicy": "None", "conditions": [condition]}
    return {"ingress": [ingress]}


def deployment_config_status(config: Object) -> Object | None:
    generation = config["metadata"]["generation"]
    if config.get("status", {}).get("observedGeneration") == generation:
        return None
    replicas = config["spec"].get("replicas", 1)
    good = "crash" not in str(config["spec"].get("template", {}))
    counts = ("replicas", "updatedReplicas", "availableReplicas", "readyReplicas")
    ends = {
        "Available": (good, ""),
        "Progressing": (good, "NewReplicationControllerAvailable" if good else "ProgressDeadlineExceeded"),
    }
    conditions = [
        {"type": name, "status": str(true), "reason": reason, "lastTransitionTime": _now()}
        for name, (true, reason) in ends.items()
    ]
    numbers = dict.fromkeys(counts, replicas if good else 0)
    return {"observedGeneration": generation, "latestVersion": 1, **numbers, "conditions": conditions}


def image_stream_status(stream: Object) -> Object | None:
    wanted = {each["name"] for each in stream.get("spec", {}).get("tags", ())}
    told = {each["tag"] for each in stream.get("status", {}).get("tags", ())}
    if told == wanted:
        return None
    return {"tags": [_tag(name) for name in sorted(wanted)]}


def _tag(name: str) -> Object:
    if "missing" in name:
        failed = {"type": "ImportSuccess", "status": "False", "reason": "NotFound", "message": "no such image"}
        return {"tag": name, "items": None, "conditions": [failed | {"generation": 1, "lastTransitionTime": _now()}]}
    item = {
        "created": _now(),
        "dockerImageReference": "example.test/app@sha256:0",
        "image": "sha256:0",
        "generation": 1,
    }
    return {"tag": name, "items": [item]}


def project_status(project: Object) -> Object | None:
    phase = "Terminating" if "deletionTimestamp" in project["metadata"] else "Active"
    return None if project.get("status", {}).get("phase") == phase else {"phase": phase}


JUDGES: dict[str, Judge] = {
    "/api/v1/pods": pod_status,
    "/apis/route.openshift.io/v1/routes": route_status,
    "/apis/apps.openshift.io/v1/deploymentconfigs": deployment_config_status,
    "/apis/image.openshift.io/v1/imagestreams": image_stream_status,
    "/apis/project.openshift.io/v1/projects": project_status,
}


class FakeKubelet:
    """A thread for each kind that it plays; each watches for ever, through restarts of the API server."""

    def __init__(self, api: kube_api.Api) -> None:
        self._api = api

    def begin(self) -> None:
        for path, judge in JUDGES.items():
            threading.Thread(target=self._follow, args=(path, judge), daemon=True).start()

    def _follow(self, path: str, judge: Judge) -> None:
        while True:
            try:
                for event in self._api.watch(path):
                    if event["type"] in {"ADDED", "MODIFIED"}:
                        self._tell(event["object"], judge)
            except (urllib3.exceptions.HTTPError, kube_api.RefusedError, OSError):
                pass  # The API server is not up yet, was restarted, or does not serve this kind yet.
            time.sleep(0.2)

    def _tell(self, found: Object, judge: Judge) -> None:
        if "late" in str(found.get("spec", {}).get("containers", "")):
            threading.Timer(LATE_S, self._say, (found, judge)).start()
        else:
            self._say(found, judge)

    def _say(self, found: Object, judge: Judge) -> None:
        status = judge(found)
        if status is None:
            return
        try:
            if found["kind"] == "Project":
                self._bring_namespace(found["metadata"]["name"])
            self._api.set_status(kube_api.path_of(found), status)
        except (urllib3.exceptions.HTTPError, kube_api.RefusedError):
            pass  # It is gone, or another event follows.

    def _bring_namespace(self, name: str) -> None:
        if self._api.find(f"/api/v1/namespaces/{name}") is None:
            self._api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def main(folder: str, pid: str) -> None:
    plane = kube.ControlPlane(Path(folder))
    FakeKubelet(plane.client("fake-kubelet")).begin()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A person who interrupts the tests ends PID, not this.
    try:
        handle = os.pidfd_open(int(pid))
    except ProcessLookupError:
        handle = None
    if handle is not None:
        select.select([handle], [], [])
    plane.stop()
    for left in _of(folder):  # Whoever took the folder away took their ids along.
        os.kill(left, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _of(folder: str) -> list[int]:
    """The processes that were begun with a file in this folder, but for this one."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if int(each.parent.name) != os.getpid() and f"{folder}/".encode() in each.read_bytes():
                found.append(int(each.parent.name))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
