"""Clusters that are dead, each in its own way, and one that hangs in the middle of its life: the others do not feel it."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path

import yaml
from support import dead_servers, estate, installation, running
from support import kube as planes

from reconciler import model
from reconciler.audit import record

DEAD = {"refused": dead_servers.refusing, "silent": dead_servers.silent, "dropped": dead_servers.dropping}
LONGEST_S = 5.0  # of a correction, on a machine that is busy with other tests: shorter than any deadline of the dead
TIMES = 2  # in each round: more than five corrections within a minute are a fight, and stop


class Clusters:
    """Two namespaces of one API server as two clusters, one behind a passage that can hang; and the dead."""

    def __init__(self, plane: planes.ControlPlane, folder: Path, ends: ExitStack) -> None:
        self.plane = plane
        self.namespaces = {name: plane.make_namespace(name) for name in ("well", "dying")}
        self.passage = ends.enter_context(dead_servers.Passage(int(plane.url.rpartition(":")[2])))
        self.who = plane.daemon().kubeconfig
        ports = {name: ends.enter_context(dead()) for name, dead in DEAD.items()} | {"dying": self.passage.port}
        self.names = ("well", *ports)
        limits = {"secrets": ["env:CLUSTER_*"], "endpoints": ["127.0.0.1/32"]}
        environments = {**estate.policy_spec()["environments"], "dev": limits}
        self.lab = installation.Installation(folder, self.files("1"), environments=environments)
        configs = {name: self.who.replace(plane.url, f"https://127.0.0.1:{port}") for name, port in ports.items()}
        self.environment = {f"CLUSTER_{name.upper()}": text for name, text in ({"well": self.who} | configs).items()}

    def files(self, text: str) -> dict[str, bytes]:
        made: dict[str, bytes] = {}
        for name in getattr(self, "names", ("well", "dying", *DEAD)):
            namespace = self.namespaces.get(name, name)
            spec = {
                "type": "openshift",
                "environment": "dev",
                "interval": "5s",
                "connection": {
                    "kubeconfig": f"env:CLUSTER_{name.upper()}",
                    "impersonate": {"user": "deployer"},
                },
                "deadlines": {"connect": "10s", "command": "10s"},
                "openshift": {"namespaces": [namespace]},
            }
            document = {"apiVersion": "reconciler/v1", "kind": "Target", "metadata": {"name": name}, "spec": spec}
            found = {"name": "a", "namespace": namespace}
            declared = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": found, "data": {"text": text}}
            made[f"targets/{name}/target.yaml"] = yaml.safe_dump(document).encode()
            made[f"targets/{name}/manifests/a.yaml"] = json.dumps(declared).encode()
        return made

    def says(self, name: str) -> str | None:
        found = self.plane.api.find(self.path(name))
        return found["data"]["text"] if found else None

    def path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespaces[name]}/configmaps/a"

    def corrected_s(self, daemon: running.Running, text: str) -> float:
        """How long a change by hand stays."""
        begun = time.monotonic()
        self.plane.api.patch(self.path("well"), {"data": {"text": "by hand"}})
        daemon.until(lambda: self.says("well") == text)
        return time.monotonic() - begun


def test_dead_clusters_and_one_that_hangs_cost_the_others_nothing(kube: planes.ControlPlane, tmp_path: Path) -> None:
    with ExitStack() as ends:
        clusters = Clusters(kube, tmp_path, ends)
        lab = clusters.lab
        daemon = ends.enter_context(running.Running(lab, **clusters.environment))
        daemon.until(lab.records, within_s=120)
        lab.change(clusters.files("2"))
        daemon.until(lambda: len(lab.events(record.Outcome)) == 2, within_s=120)
        assert clusters.says("well") == clusters.says("dying") == "2"
        clusters.passage.hang()
        assert max(clusters.corrected_s(daemon, "2") for _ in range(TIMES)) < LONGEST_S
        lab.change(clusters.files("3"))
        daemon.until(lambda: clusters.says("well") == "3", within_s=2 * LONGEST_S)  # judged, cleared, written
        assert max(clusters.corrected_s(daemon, "3") for _ in range(TIMES)) < LONGEST_S
        assert clusters.says("dying") == "2"
        clusters.passage.go_on()
        daemon.until(lambda: clusters.says("dying") == "3")
        daemon.until(lambda: lab.outcomes("dying")[-1:] == ["change SUCCEEDED"])
        assert daemon.stop() == 0
    assert {each.target for each in lab.events(record.Intent)} == {"well", "dying"}
    assert all(each.closed is model.Closed.SUCCEEDED for each in lab.events(record.Outcome))
    assert lab.verification().problems == ()
