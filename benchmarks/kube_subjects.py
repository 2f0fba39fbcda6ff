"""Who is measured: our daemon as users run it, and the peers of a folder with `k8s_peers.py`, where there is one."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import yaml
from kube_watching import NAMESPACE
from support import estate, installation, kube, running

from reconciler.audit import record

VARIABLE = "BENCHMARK_KUBECONFIG"
DEPLOYS = """
from reconciler import errors
from reconciler.targets.openshift import driver
from reconciler.targets.openshift.connection import client, kubeconfig
nobody = client.Client(kubeconfig.Endpoint("https://127.0.0.1:1", "127.0.0.1", 1), client.Identity(), 1, client.Limits())
try:
    nobody.get("/version")
except errors.TransientError:
    nobody.close()
"""
TOLD = (record.Decision, record.Clearance, record.Intent, record.Applied, record.Outcome)
TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    cpu_s: float
    rss_mib: float


class Subject(Protocol):
    """`prepare` does what is nobody's time here (authors, approvers, a forge), `publish` makes it the desired state."""

    name: str

    def start(self) -> None: ...

    def prepare(self, objects: Sequence[dict[str, Any]]) -> None: ...

    def publish(self) -> None: ...

    def settle(self, *, within_s: float) -> dict[str, float]:
        """Wait until it says itself that all is as wanted and well: its steps on the way, in seconds since `publish`."""

    def cost(self) -> Cost: ...

    def stop(self) -> None: ...


def cost_of(pids: Sequence[int]) -> Cost:
    """Processor time since they began, with that of children that ended, and resident memory now."""
    ticks = kib = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        kib += int(next(line for line in status if line.startswith("VmRSS")).split()[1])
    return Cost(ticks / TICKS, kib / 1024)


class Ours:
    """`reconciler run` on a signed repository: every merge is fetched, judged, cleared, planned, applied and recorded."""

    name = "ours"

    def __init__(self, plane: kube.ControlPlane, folder: Path, interval_s: int) -> None:
        self._plane, self._interval_s = plane, interval_s
        limits = {"secrets": [f"env:{VARIABLE}"], "endpoints": ["127.0.0.1/32"]}
        environments = {**estate.policy_spec()["environments"], "dev": limits}
        folder.mkdir(parents=True)
        self._lab = installation.Installation(folder, {}, environments=environments)
        self._lab.poll = f"{interval_s}s"
        self._lab.configure()
        self._daemon: running.Running | None = None
        self._published, self._known = datetime.now(UTC), 0

    def start(self) -> None:
        """Twice: the first life compiles what the interpreter then keeps, which an installed daemon does once; so does a
        process that imports what only the first deployment needs.
        """
        kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self._lab.folder / "compiled")}
        environment = {VARIABLE: self._plane.daemon().kubeconfig, **kept}
        compiling = {**installation.OUR_ENVIRONMENT, **kept}
        subprocess.run([sys.executable, "-c", DEPLOYS], env=compiling, check=True)
        for _ in range(2):
            if self._daemon:
                self._daemon.stop()
            self._daemon = running.Running(self._lab, **environment)
            self._daemon.until(lambda: self._lab.configuration.socket.exists() and self._lab.records())
            time.sleep(2)

    def prepare(self, objects: Sequence[dict[str, Any]]) -> None:
        self._lab.merge(documents(objects, self._interval_s))

    def publish(self) -> None:
        self._known = len(self._lab.records())
        self._published = datetime.now(UTC)
        self._lab.git("update-ref", estate.REF, self._lab.bank.tip)

    def settle(self, *, within_s: float) -> dict[str, float]:
        assert self._daemon
        self._daemon.until(lambda: self._steps().get("outcome"), within_s=within_s)
        return self._steps()

    def _steps(self) -> dict[str, float]:
        """The last record of each kind since then, and how often it came."""
        return {
            each.event.type: (each.at - self._published).total_seconds()
            for each in self._lab.records()[self._known :]
            if isinstance(each.event, TOLD)
        }

    def cost(self) -> Cost:
        assert self._daemon
        return cost_of([self._daemon.process.pid])

    def stop(self) -> None:
        if self._daemon:
            self._daemon.stop()


def documents(objects: Sequence[dict[str, Any]], interval_s: int) -> dict[str, bytes | None]:
    """The folder of the target in Git."""
    spec = {
        "type": "openshift",
        "environment": "dev",
        "interval": f"{interval_s}s",
        "connection": {"kubeconfig": f"env:{VARIABLE}", "impersonate": {"user": "deployer", "groups": ["payments"]}},
        "openshift": {"namespaces": [NAMESPACE]},
    }
    document = {"apiVersion": "reconciler/v1", "kind": "Target", "metadata": {"name": "bench"}, "spec": spec}
    return {
        "targets/bench/target.yaml": yaml.safe_dump(document).encode(),
        "targets/bench/manifests/all.yaml": b"---\n".join(_dump(each) for each in objects),
    }


def _dump(document: dict[str, Any]) -> bytes:
    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the vendor's signature
            return True

    return bytes(yaml.dump(document, Dumper=Dumper).encode())


class Peer:
    """A class of `k8s_peers.py`: its own programs, told of the desired state in its own way."""

    def __init__(self, made: Any, name: str) -> None:
        self._made, self.name = made, name
        self._objects: Sequence[dict[str, Any]] = ()

    def start(self) -> None:
        self._made.start()

    def prepare(self, objects: Sequence[dict[str, Any]]) -> None:
        self._objects = objects

    def publish(self) -> None:
        self._made.publish(self._objects)

    def settle(self, *, within_s: float) -> dict[str, float]:  # noqa: ARG002 - says no such thing
        return {}

    def cost(self) -> Cost:
        return cost_of([process.pid for process in self._made.procs])

    def stop(self) -> None:
        self._made.stop()


def peers(folder: Path) -> dict[str, Callable[[kube.ControlPlane, Path, int], Subject]]:
    """Those of the folder whose programs are built; none where there is no such folder."""
    if not (folder / "k8s_peers.py").exists():
        return {}
    sys.path.append(str(folder))
    theirs: Any = importlib.import_module("k8s_peers")
    programs = {"flux": "kustomize-controller", "engine": "gitops-agent"}
    return {
        name: partial(_peer, theirs, name)
        for name, program in programs.items()
        if name in theirs.PEERS and (theirs.BIN / program).exists()
    }


def _peer(theirs: Any, name: str, plane: kube.ControlPlane, folder: Path, interval_s: int) -> Subject:
    folder.mkdir(parents=True)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(plane.kubeconfig("admin"))
    place = SimpleNamespace(url=plane.url, kubeconfig=kubeconfig)
    cluster = theirs.Cluster(place)
    cluster.h = {"Authorization": f"Bearer {plane.token('admin')}"}
    return Peer(theirs.PEERS[name](place, cluster, folder, interval_s), name)
