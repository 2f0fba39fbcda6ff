"""What an API server holds of the benchmark's objects, known from watches: the one who measures costs little, and the same for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import urllib3
from support import kube_api

NAMESPACE = "bench"
KINDS = {
    "ConfigMap": f"/api/v1/namespaces/{NAMESPACE}/configmaps",
    "ServiceAccount": f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts",
    "Service": f"/api/v1/namespaces/{NAMESPACE}/services",
    "Role": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles",
    "Deployment": f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
}


def objects(count: int, version: int) -> list[dict[str, Any]]:
    """What a user would have: for each application a ConfigMap, a ServiceAccount, a Service, a Role and a Deployment.

    The Deployments want no pods. Each carries its version: all of them change when it does.
    """
    made: list[dict[str, Any]] = []
    for number in range((count + 4) // 5):
        name = f"app-{number}"
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": name}}
        marked = {**metadata, "annotations": {"version": str(version)}}
        container = {
            "name": "c",
            "image": "example.test/app:1",
            "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
        }
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
        made += [
            _object("v1", "ConfigMap", metadata, data={"version": str(version), "blob": "x" * 300}),
            _object("v1", "ServiceAccount", marked),
            _object("v1", "Service", marked, spec={"selector": {"app": name}, "ports": [{"port": 80}]}),
            _object("rbac.authorization.k8s.io/v1", "Role", marked, rules=rules),
            _object(
                "apps/v1",
                "Deployment",
                marked,
                spec={"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template},
            ),
        ]
    return made[:count]


def _object(version: str, kind: str, metadata: dict[str, Any], **fields: object) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


class Watched:
    """The version of every object of the benchmark, as it is now."""

    def __init__(self, api: kube_api.Api) -> None:
        self._api = api
        self._versions: dict[tuple[str, str], str] = {}
        self._changed = threading.Condition()
        for kind, path in KINDS.items():
            threading.Thread(target=self._follow, args=(kind, path), daemon=True).start()

    def _follow(self, kind: str, path: str) -> None:
        while True:
            try:
                self._hear(kind, self._api.watch(path))
            except (urllib3.exceptions.HTTPError, kube_api.RefusedError, OSError):
                time.sleep(0.2)

    def _hear(self, kind: str, events: Iterator[kube_api.Object]) -> None:
        for event in events:
            found = event["object"]
            metadata = found["metadata"]
            if not metadata["name"].startswith("app-"):
                continue
            version = (found.get("data") if kind == "ConfigMap" else metadata.get("annotations")) or {}
            with self._changed:
                if event["type"] == "DELETED":
                    self._versions.pop((kind, metadata["name"]), None)
                else:
                    self._versions[kind, metadata["name"]] = version.get("version", "")
                self._changed.notify_all()

    def at(self, version: object) -> int:
        """How many are at this version."""
        return sum(each == str(version) for each in self._versions.values())

    def has(self, kind: str, name: str) -> bool:
        return (kind, name) in self._versions

    def __len__(self) -> int:
        return len(self._versions)

    def until(self, what: Callable[[], bool], *, within_s: float) -> float | None:
        """Seconds from now until it holds; None when it does not in time."""
        begun = time.monotonic()
        with self._changed:
            held = self._changed.wait_for(what, timeout=within_s)
        return time.monotonic() - begun if held else None
