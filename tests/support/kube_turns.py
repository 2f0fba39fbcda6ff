"""The real core on a real control plane: merges, turns, and what came of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from reconciler import errors, model, ports
from reconciler.audit import record
from reconciler.targets.openshift import driver
from support import kube as planes
from support import kube_api, lab

Object = dict[str, Any]


class RealTime(lab.Clock):
    """Real, but nobody sleeps longer than it takes to see what a controller did."""

    longest_s = 0.2

    def __init__(self) -> None:
        super().__init__()
        self._last = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        while (at := model.utc_ms(datetime.now(UTC))) <= self._last:
            time.sleep(0.0005)
        self._last = at
        return at

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, self.longest_s))


class Anywhere:
    def allows(self, wanted: model.Wanted, host: str) -> bool:
        return True


class Secrets:
    """The one secret of these tests: a kubeconfig."""

    def __init__(self, kubeconfig: str) -> None:
        self._kubeconfig = kubeconfig

    def resolve(self, reference: str) -> str:
        if reference == "env:KUBECONFIG_OF_TESTS":
            return self._kubeconfig
        raise errors.ConfigError("secret", f"{reference} is not to be resolved here")


class Estate:
    """Targets of one installation on a cluster that may be others' too. Each has its own names there."""

    def __init__(self, plane: planes.ControlPlane, folder: Path) -> None:
        self.plane, self.api = plane, plane.api
        self.daemon = plane.daemon()
        secrets = Secrets(self.daemon.kubeconfig)
        self.lab = lab.Lab(clock=RealTime())
        where = folder / "openshift"
        facilities = ports.DriverFacilities(planes.unique("lab"), where, (), secrets, self.lab.clock, Anywhere())
        self._make = lambda: driver.Openshift(facilities)
        self.targets: set[str] = set()
        self.process = self._begin()
        self.process.genesis()

    def _begin(self) -> lab.Process:
        process = lab.Process(self.lab)
        process.drivers["openshift"] = self._make
        return process

    def restart(self) -> None:
        """Another life of the daemon: only the log and the cluster remember."""
        for name in self.targets:
            self.process.target(name).close()
        self.process = self._begin()

    def merge(self, revision: str, *folders: Mapping[str, bytes | None]) -> None:
        files = {path: blob for each in folders for path, blob in each.items()}
        self.targets |= {path.split("/")[1] for path in files}
        self.process.accept(revision, files)

    def settle(self, until: Callable[[], object] = lambda: False, *, within_s: float = 90) -> None:
        """Take turns until every target rests or stands, or this holds."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            try:
                self.process.settle(until)
            except AssertionError:  # Two hundred turns are a few seconds here.
                continue
            return
        raise AssertionError([(e.type, str(e)[:300]) for e in self.process.events(record.Standing)])

    def until(self, what: Callable[[], object], *, within_s: float = 60) -> None:
        """Go on taking turns, at rest too, until this holds."""
        end = time.monotonic() + within_s
        while not what():
            assert time.monotonic() < end, "did not come true in time"
            self.settle(what)

    def outcomes(self, target: str = "t") -> list[str]:
        return [str(e.closed) for e in self.process.events(record.Outcome) if e.target == target]

    def reasons(self, target: str = "t") -> str:
        """Why the last deployment that failed did."""
        failed = [e for e in self.process.events(record.Outcome) if e.target == target and e.reasons]
        return "; ".join(f"{r.code}: {r.message}" for r in failed[-1].reasons) if failed else ""

    def standing(self, target: str = "t") -> tuple[str | None, str]:
        found = self.process.known(target).standing
        return (found.code, "; ".join(f"{r.code}: {r.message}" for r in found.reasons)) if found else (None, "")

    def find(self, body: Mapping[str, Any]) -> Object | None:
        return self.api.find(kube_api.path_of(body))

    def close(self) -> None:
        for name in self.targets:
            self.process.target(name).close()
        self.lab.engine.dispose()


def folder(
    bodies: Iterable[Mapping[str, Any]], *, target: str = "t", options: Mapping[str, Any] | None = None, **spec: Any
) -> dict[str, bytes | None]:
    """The files of one openshift target that declares these objects."""
    bodies = list(bodies)
    namespaces = sorted({str(each["metadata"]["namespace"]) for each in bodies if "namespace" in each["metadata"]})
    document = {
        "apiVersion": "reconciler/v1",
        "kind": "Target",
        "metadata": {"name": target},
        "spec": {
            "type": "openshift",
            "environment": "prod",
            "connection": {"kubeconfig": "env:KUBECONFIG_OF_TESTS", "impersonate": {"user": "deployer"}},
            "openshift": {"namespaces": namespaces, **(options or {})},
            **spec,
        },
    }
    texts = {"target.yaml": document, "manifests/all.yaml": bodies}
    return {f"targets/{target}/{path}": _dump(content).encode() for path, content in texts.items()}


def _dump(content: object) -> str:
    return yaml.safe_dump_all(content) if isinstance(content, list) else yaml.safe_dump(content)
