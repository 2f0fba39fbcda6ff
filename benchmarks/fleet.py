"""Many clusters out of one API server, and what it holds of each.

Each cluster is a namespace with a user of its own, who may do everything there and nothing elsewhere: for the daemon a kubeconfig,
a connection, watches and threads of its own, as for any other cluster. That it is one server behind all of them, the figures
have to say.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import kube_watching
import urllib3
import yaml
from support import kube, kube_api

PATHS = {kind: path.replace(f"/namespaces/{kube_watching.NAMESPACE}", "") for kind, path in kube_watching.KINDS.items()}
OF_ONE_APPLICATION = 5


def furnish(plane: kube.ControlPlane, name: str) -> str:
    """The kubeconfig of a new cluster."""
    plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    plane.grant(name, "cluster-admin", name)
    return plane.certified(name)


def files(cluster: str, applications: Mapping[int, int], interval_s: int) -> dict[str, bytes | None]:
    """The target's folder: a file for each application (five objects), at this version."""
    spec = {
        "type": "openshift",
        "environment": "dev",
        "interval": f"{interval_s}s",
        "connection": {"kubeconfig": f"env:{variable(cluster)}"},
        "openshift": {"namespaces": [cluster]},
    }
    document = {"apiVersion": "reconciler/v1", "kind": "Target", "metadata": {"name": cluster}, "spec": spec}
    made: dict[str, bytes | None] = {f"targets/{cluster}/target.yaml": yaml.safe_dump(document).encode()}
    return made | {path(cluster, n): manifests(cluster, n, version) for n, version in applications.items()}


def path(cluster: str, application: int) -> str:
    return f"targets/{cluster}/manifests/app-{application}.yaml"


def manifests(cluster: str, application: int, version: int) -> bytes:
    """One application; another version of it differs in its ConfigMap alone."""
    first = objects()
    made = copy.deepcopy(first)
    made[0]["data"]["version"] = str(version)
    text = "---\n".join(yaml.safe_dump(each) for each in made)
    return text.replace("app-0", f"app-{application}").replace(kube_watching.NAMESPACE, cluster).encode()


def objects() -> list[dict[str, Any]]:
    return kube_watching.objects(OF_ONE_APPLICATION, 1)


def variable(cluster: str) -> str:
    return f"KUBECONFIG_{cluster.upper().replace('-', '_')}"


class Seen:
    """How many objects each namespace holds, and the version of every ConfigMap: one watch for each kind."""

    def __init__(self, api: kube_api.Api) -> None:
        self._api = api
        self.versions: dict[tuple[str, str], str] = {}
        self.counts: Counter[str] = Counter()
        self._there: set[tuple[str, str, str]] = set()
        self._changed = threading.Condition()
        for kind, where in PATHS.items():
            threading.Thread(target=self._follow, args=(kind, where), daemon=True).start()

    def _follow(self, kind: str, where: str) -> None:
        while True:
            with contextlib.suppress(urllib3.exceptions.HTTPError, kube_api.RefusedError, OSError):
                for event in self._api.watch(where):
                    self._hear(kind, event["type"], event["object"])
            time.sleep(0.2)

    def _hear(self, kind: str, what: str, found: kube_api.Object) -> None:
        namespace, name = found["metadata"]["namespace"], found["metadata"]["name"]
        if not name.startswith("app-"):
            return
        with self._changed:
            key = (kind, namespace, name)
            if what == "DELETED":
                self._there.discard(key)
                self.counts[namespace] -= 1
            elif key not in self._there:
                self._there.add(key)
                self.counts[namespace] += 1
            if kind == "ConfigMap":
                self.versions[namespace, name] = (found.get("data") or {}).get("version", "")
            self._changed.notify_all()

    def until(self, what: Callable[[], object], *, within_s: float) -> float | None:
        """Seconds from now until it holds; None when it does not in time."""
        begun = time.monotonic()
        with self._changed:
            held = self._changed.wait_for(what, timeout=within_s)
        return time.monotonic() - begun if held else None


def kubeconfig_at(plane: kube.ControlPlane, port: int) -> str:
    """That of a cluster which would prove to be this one, at another port."""
    return plane.certified("nobody").replace(plane.url, f"https://127.0.0.1:{port}")
