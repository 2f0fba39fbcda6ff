"""The two drivers of this version as subjects of the conformance suite, and what their tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from reconciler import errors, model, ports
from reconciler.targets import conformance, memory
from reconciler.targets.vm import driver

WRITES = ("link", "rename", "replace", "unlink", "rmdir", "mkdir", "fchmod", "fchown", "fsync")


class Clock:
    """Real, but for sleeping, which takes no time."""

    def __init__(self) -> None:
        self.slept_s = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return self.slept_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds


class NoSecrets:
    def resolve(self, reference: str) -> str:
        raise errors.ConfigError("secret", f"{reference} is not to be resolved here")


def facilities(state: Path, *local_roots: Path) -> ports.DriverFacilities:
    return ports.DriverFacilities("test", state, local_roots, NoSecrets(), Clock())


def desired(
    kind: str, payload: Mapping[str, bytes], connection: Mapping[str, JsonValue], **more: object
) -> model.Desired:
    digest = model.sha256(b"\0".join(name.encode() + b"\0" + payload[name] for name in sorted(payload)))
    values: dict[str, Any] = {
        "target": "t",
        "kind": kind,
        "connection": connection,
        "revision": "r",
        "digest": digest,
        "environment": "dev",
        "spec": {},
        "payload": payload,
    }
    return model.Desired.model_validate(values | more)


class Killed(BaseException):
    """kill -9, where the world is in this process."""


@dataclass
class MemorySubject:
    world: memory.World = field(default_factory=memory.World)

    def driver(self) -> ports.Driver:
        return memory.Memory.on(lambda _name: self.world)

    def desired(self, texts: conformance.Texts) -> model.Desired:
        lines = [
            f'  - {{kind: item, name: {name}, value: "{text}", order: {int(name == "new")}}}'
            for name, text in texts.items()
        ]
        return desired("memory", {"resources.yaml": "\n".join(["resources:", *lines]).encode()}, {})

    def key(self, name: str) -> model.Key:
        return model.Key(f"item//{name}")

    def truth(self) -> conformance.Texts:
        return {key.removeprefix("item//"): str(value) for key, value in self.world.values.items()}

    def touch(self, name: str, text: str | None) -> None:
        if text is None:
            self.world.values.pop(self.key(name), None)
        else:
            self.world.values[self.key(name)] = text

    def traces(self) -> object:
        return (len(self.world.writes), dict(self.world.values), self.world.epoch, self.world.armed)

    def kill_in_apply(self, at: int, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> bool:
        left = at

        def fault(point: str) -> None:
            nonlocal left
            if left == 0:
                raise Killed(point)
            left -= 1

        self.world.fault = fault
        try:
            self.driver().apply(wanted, stage, permit)
        except Killed:
            return True
        finally:
            self.world.fault = lambda _point: None
        return False


class VmSubject:
    """Files in a folder of their own; a kill is a real SIGKILL of a forked process."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.facilities = facilities(folder / "state", folder)

    def driver(self) -> ports.Driver:
        return driver.Vm(self.facilities)

    def desired(self, texts: conformance.Texts) -> model.Desired:
        folders = ["directories:", '  - {path: conf.d, mode: "0755"}', "files:"]
        files = [f'  - {{path: {self._path(n)}, source: files/{n}, mode: "0640"}}' for n in texts]
        payload = {f"files/{name}": text.encode() for name, text in texts.items()}
        payload["vm.yaml"] = "\n".join([*folders, *files]).encode()
        return desired("vm", payload, {"transport": "local", "root": str(self.root)})

    def key(self, name: str) -> model.Key:
        return model.Key(f"file//{self._path(name)}")

    def truth(self) -> conformance.Texts:
        files = [p for p in self.root.rglob("*") if p.is_file() and not driver.is_our_own(p.relative_to(self.root))]
        return {p.name: p.read_text() for p in sorted(files)}

    def touch(self, name: str, text: str | None) -> None:
        path = self.root / self._path(name)
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)

    def traces(self) -> object:
        found = [(p, p.lstat()) for p in sorted([self.root, *self.root.rglob("*")])]
        return [(str(p), s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p, s in found]

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
        left = at

        def dying(real: Callable[..., object]) -> Callable[..., object]:
            def call(*args: object, **named: object) -> object:
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return real(*args, **named)

            return call

        try:
            for name in WRITES:  # Nobody takes it back: this process ends here.
                setattr(os, name, dying(getattr(os, name)))
            self.driver().apply(wanted, stage, permit)
            os._exit(0)
        finally:
            os._exit(1)

    @staticmethod
    def _path(name: str) -> str:
        return name if name == "a" else f"conf.d/{name}"
