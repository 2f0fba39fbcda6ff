"""A Kubernetes control plane on loopback for the scenes on a cluster: etcd and kube-apiserver, in the demo's folder.

No node and no controller: objects are kept, nothing runs. The programs are found in $KUBEBUILDER_ASSETS, on PATH, or where
`scripts/test --prepare` builds them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import secrets
import shutil
import socket
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from reconciler import errors
from reconciler.cli.demo import interrupting, shell, telling

PROGRAMS = ("etcd", "kube-apiserver")
READY_WITHIN_S = 120.0
_EVERY_S = 0.1
_LAST_CHARS = 2000
_PORTS = (12000, 32000)  # below those that the system gives to connections


@dataclass(frozen=True)
class ControlPlane:
    folder: Path
    kubeconfig: Path  # of the daemon, which may write one namespace
    administrator: Path  # of whoever reaches past it


def check() -> None:
    """Raises: ConfigError(demo) where a program is missing."""
    if lacking := ", ".join(name for name in (*PROGRAMS, "kubectl") if find(name) is None):
        fix = "scripts/test --prepare builds what the tests need, these among it; or set KUBEBUILDER_ASSETS"
        raise errors.ConfigError("demo", f"no control plane here: {lacking} not found", fix=fix)


def find(program: str) -> Path | None:
    built = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").glob("reconciler/kube-*")
    beside = Path(sys.executable).parent  # where the wheel of kubectl puts it
    places = (os.environ.get("KUBEBUILDER_ASSETS", ""), os.environ.get("PATH", ""), *map(str, built), str(beside))
    found = shutil.which(program, path=os.pathsep.join(filter(None, places)))
    return Path(found) if found else None


@contextmanager
def running(folder: Path, terminal: shell.Shell, interruptions: interrupting.Interruptions) -> Iterator[ControlPlane]:
    """Start it, wait until it answers, and end it.

    Raises: ConfigError(demo) as `check`; SceneFailedError where it does not come up.
    """
    check()
    folder.mkdir(mode=0o700)
    processes: list[Popen[bytes]] = []
    tokens = {name: secrets.token_hex(16) for name in ("administrator", "reconciler")}
    lines = (f"{token},{name},{name},{_GROUPS[name]}\n" for name, token in tokens.items())
    (folder / "tokens.csv").write_text("".join(lines))
    make = ("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", str(folder / "accounts.key"))
    terminal.run(make, folder).expect(0, make)
    try:
        ports = dict(zip(("etcd", "peer", "api"), _free_ports(3), strict=True))
        for command in (_etcd(folder, ports), _api(folder, ports)):
            with interruptions.held():
                processes.append(terminal.start(command, folder, folder / f"{Path(command[0]).name}.log"))
        _await(folder, ports["api"], tokens["administrator"], processes)
        configs = {name: _kubeconfig(folder, name, ports["api"], token) for name, token in tokens.items()}
        yield ControlPlane(folder, configs["reconciler"], configs["administrator"])
    finally:
        for process in reversed(processes):
            shell.end(process)


_GROUPS = {"administrator": "system:masters", "reconciler": "reconcilers"}


def _etcd(folder: Path, ports: dict[str, int]) -> list[str]:
    client, peer = (f"http://127.0.0.1:{ports[name]}" for name in ("etcd", "peer"))
    return [
        str(find("etcd")),
        "--unsafe-no-fsync",
        f"--data-dir={folder / 'etcd'}",
        f"--initial-cluster=default={peer}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
    ]


def _api(folder: Path, ports: dict[str, int]) -> list[str]:
    options = {
        "etcd-servers": f"http://127.0.0.1:{ports['etcd']}",
        "bind-address": "127.0.0.1",
        "secure-port": ports["api"],
        "cert-dir": folder / "made",  # It makes its own authority there.
        "token-auth-file": folder / "tokens.csv",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": folder / "accounts.key",
        "service-account-signing-key-file": folder / "accounts.key",
        "authorization-mode": "RBAC",
        "service-cluster-ip-range": "10.0.0.0/16",
        "endpoint-reconciler-type": "none",
        "profiling": "false",
    }
    return [str(find("kube-apiserver")), *(f"--{name}={value}" for name, value in options.items())]


def _await(folder: Path, port: int, token: str, processes: list[Popen[bytes]]) -> None:
    """Raises: SceneFailedError."""
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end:
        if any(process.poll() is not None for process in processes):
            break
        with contextlib.suppress(OSError):
            context = ssl.create_default_context(cafile=str(folder / "made" / "apiserver.crt"))
            asked = urllib.request.Request(
                f"https://127.0.0.1:{port}/readyz", headers={"Authorization": f"Bearer {token}"}
            )
            with urllib.request.urlopen(asked, timeout=2, context=context):  # noqa: S310 - as above
                return
        time.sleep(_EVERY_S)
    said = "\n".join(log.read_text(errors="replace")[-_LAST_CHARS:] for log in sorted(folder.glob("*.log")))
    raise telling.SceneFailedError(f"the control plane did not come up\n{said}")


def _kubeconfig(folder: Path, name: str, port: int, token: str) -> Path:
    authority = base64.b64encode((folder / "made" / "apiserver.crt").read_bytes()).decode()
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "demo", "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": name}}],
        "current-context": "demo",
    }
    path = folder / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(document))
    return path


def _free_ports(count: int) -> list[int]:
    held: list[socket.socket] = []
    while len(held) < count:
        taken = socket.socket()
        try:
            taken.bind(("127.0.0.1", random.SystemRandom().randrange(*_PORTS)))
            held.append(taken)
        except OSError:
            taken.close()
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports
