"""What tests of the openshift driver share: a daemon's facilities on a real API server, and a subject for the conformance suite."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from reconciler import errors, model, ports
from reconciler.convergence import planning
from reconciler.targets import conformance
from reconciler.targets.openshift import driver
from reconciler.targets.openshift.connection import client, cluster, comparing
from support import kube, targets

KUBECONFIG = "env:KUBECONFIG_OF_A_TEST"
TARGET = "t"


class Clock:
    """The real one."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass
class Secrets:
    """Those that a test lays down; a kubeconfig above all."""

    known: dict[str, str] = field(default_factory=dict, repr=False)

    def resolve(self, reference: str) -> str:
        if reference not in self.known:
            raise errors.ConfigError("secret", "the variable is not set or empty", where=reference)
        return self.known[reference]


class Anywhere:
    def allows(self, wanted: model.Wanted, host: str) -> bool:
        return True


def facilities(
    state: Path,
    kubeconfig: str,
    *,
    wake: Callable[[str], None] = ports.wake_nobody,
    installation: str = "test",
    **known: str,
) -> ports.DriverFacilities:
    secrets = Secrets({KUBECONFIG: kubeconfig, **{f"env:{name}": value for name, value in known.items()}})
    return ports.DriverFacilities(installation, state, (), secrets, Clock(), Anywhere(), wake)


def desired(namespace: str, *objects: Mapping[str, Any], **more: Any) -> model.Desired:
    """A target of these objects; `more` are fields of `Desired`, but for `options` and `connection`, which add to theirs."""
    options: dict[str, JsonValue] = {"namespaces": [namespace], **more.pop("options", {})}
    connection: dict[str, JsonValue] = {"kubeconfig": KUBECONFIG, **more.pop("connection", {})}
    payload = {
        f"manifests/{n:04}.yaml": yaml.safe_dump(json.loads(json.dumps(each))).encode()
        for n, each in enumerate(objects)
    }
    values = {"target": TARGET, "spec": options} | more
    return targets.desired("openshift", payload, connection, **values)


def config_map(namespace: str, name: str, data: Mapping[str, str], **metadata: Any) -> dict[str, Any]:
    named = {"name": name, "namespace": namespace, **metadata}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": dict(data)}


def caches() -> list[Any]:
    """Those of every cluster that somebody in this process is connected to."""
    return [shared.cache for shared, _ in cluster._SHARED.values()]


def await_watches(path: str, found: Mapping[str, Any] | None, *, within_s: float = 5) -> None:
    """Until every cache that keeps this object has heard of it; None: that it is gone."""
    until = time.monotonic() + within_s
    while not all(_has_heard(each, path, found) for each in caches()):
        assert time.monotonic() < until, f"no watch brought {path}"
        time.sleep(0.002)


def _has_heard(kept: Any, path: str, found: Mapping[str, Any] | None) -> bool:
    body = next((body for place, body in list(kept._objects.items()) if place.path == path), None)
    if body is None or found is None or comparing.LABEL not in found["metadata"].get("labels", {}):
        return body is None or found is not None
    return int(body["metadata"]["resourceVersion"]) >= int(found["metadata"]["resourceVersion"])


class Subject:
    """ConfigMaps in a namespace of their own; a kill is a real SIGKILL of a forked process."""

    def __init__(self, plane: kube.ControlPlane, folder: Path) -> None:
        self.plane = plane
        self.namespace = plane.make_namespace("conformance")
        self.facilities = facilities(folder, plane.kubeconfig("deployer"), installation=self.namespace)
        self._made: list[driver.Openshift] = []

    def driver(self) -> ports.Driver:
        self._made.append(driver.Openshift(self.facilities))
        return self._made[-1]

    def close(self) -> None:
        for each in self._made:
            each.close()

    def desired(self, texts: conformance.Texts) -> model.Desired:
        after = {"annotations": {"reconciler/depends-on": str(self.key("a"))}}
        objects = [
            config_map(self.namespace, name, {"text": text}, **(after if name == "new" and "a" in texts else {}))
            for name, text in texts.items()
        ]
        return desired(self.namespace, *objects)

    def key(self, name: str) -> model.Key:
        return model.Key(f"ConfigMap/{self.namespace}/{name}")

    def truth(self) -> conformance.Texts:
        return {each["metadata"]["name"]: each["data"]["text"] for each in self._objects()}

    def touch(self, name: str, text: str | None) -> None:
        path = f"{self._collection}/{name}"
        if text is None:
            self.plane.api.delete(path)
            await_watches(path, None)
        elif self.plane.api.find(path) is None:
            made = config_map(self.namespace, name, {"text": text})
            self.plane.api.call("POST", f"{self._collection}?fieldManager=kubectl-create", made)
        else:
            await_watches(path, self.plane.api.patch(path, {"data": {"text": text}}))

    def traces(self) -> object:
        return [(m["name"], m["uid"], m["resourceVersion"]) for m in (each["metadata"] for each in self._objects())]

    def kill_in_apply(self, at: int, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> bool:
        child = os.fork()
        if child == 0:
            self._apply_and_die(at, wanted, stage, permit)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return os.WTERMSIG(status) == signal.SIGKILL
        assert os.WEXITSTATUS(status) == 0, "the forked apply raised"
        return False

    def _apply_and_die(self, at: int, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> None:
        """In the child: connections and threads of the parent are none of its own."""
        left, counting, real = at, threading.Lock(), client.Client.request

        def dying(self: client.Client, method: str, *args: Any, **named: Any) -> client.Answer:
            nonlocal left
            if method != "GET":
                with counting:
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
            return real(self, method, *args, **named)

        try:
            cluster._SHARED.clear()
            client.Client.request = dying  # type: ignore[method-assign]
            driver.Openshift(self.facilities).apply(wanted, stage, permit)
            os._exit(0)
        finally:
            os._exit(1)

    @property
    def _collection(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/configmaps"

    def _objects(self) -> list[dict[str, Any]]:
        return [
            each for each in self.plane.api.items(self._collection) if each["metadata"]["name"] != "kube-root-ca.crt"
        ]


def shown(value: object) -> str:
    """Everything that a value would say, for looking for what must not be in it."""
    return json.dumps(value, default=str) + repr(value)


class Daemon:
    """One life of something that drives the driver by the real planner, a stage at a time; its log is a dict."""

    def __init__(self, around: ports.DriverFacilities, *, owned: Mapping[model.Key, str] | None = None) -> None:
        self.facilities = around
        self.driver = driver.Openshift(around)
        self.owned = dict(owned or {})
        self.epoch = 1

    def look(self, wanted: model.Wanted) -> model.Look:
        return self.driver.observe(wanted, self.owned, 30)

    def plan(self, wanted: model.Wanted, look: model.Look | None = None) -> model.Plan:
        guards = planning.Guards(owned=self.owned, created=frozenset(self.owned))
        return planning.make_plan(wanted, look or self.look(wanted), guards)

    def write(self, wanted: model.Wanted, plan: model.Plan) -> tuple[model.StepResult, ...]:
        stage = planning.first_stage(plan)
        permit = model.Permit(deployment="d", epoch=self.epoch, seq=1, deadline_s=60)
        results = self.driver.apply(wanted, stage, permit)
        for step, result in zip(stage.steps, results, strict=True):
            if result.effect in {model.Effect.CHANGED, model.Effect.UNCHANGED}:
                if step.action == "delete":
                    self.owned.pop(step.key, None)
                else:
                    self.owned[step.key] = result.identity
        return results

    def converge(self, wanted: model.Wanted) -> list[model.StepResult]:
        """Until nothing is left to do; all results."""
        found: list[model.StepResult] = []
        for _ in range(30):
            look = self.look(wanted)
            assert not look.errors, dict(look.errors)
            plan = self.plan(wanted, look)
            assert not plan.refusals, [reason.message for reason in plan.refusals]
            if not plan.stages:
                return found
            results = self.write(wanted, plan)
            assert all(each.effect is model.Effect.CHANGED for each in results), results
            found += results
        raise AssertionError("it does not converge")

    def restarted(self, around: ports.DriverFacilities | None = None) -> Daemon:
        """The next life, with what the log knows and nothing else."""
        self.driver.close()
        return Daemon(around or self.facilities, owned=self.owned)
