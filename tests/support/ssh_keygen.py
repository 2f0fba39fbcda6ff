"""The stock ssh-keygen, as oracle and as signer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from reconciler.admission import signature

_ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def run(*argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *argv], input=stdin, capture_output=True, check=False, env=_ENVIRONMENT)


def make_key(folder: Path, kind: str, bits: int | None = None) -> Path:
    path = folder / f"{kind}{bits or ''}"
    made = run("-q", "-t", kind, *(["-b", str(bits)] if bits else []), "-N", "", "-C", "test", "-f", str(path))
    assert made.returncode == 0, made.stderr
    return path


def sign(key: Path, message: bytes, namespace: str, *options: str) -> bytes:
    """The armored signature, made over standard input."""
    signed = run("-q", "-Y", "sign", *options, "-n", namespace, "-f", str(key), stdin=message)
    assert signed.returncode == 0, signed.stderr
    return signed.stdout


def fingerprint(public: Path) -> str:
    return run("-lf", str(public)).stdout.decode().split()[1]


def is_good(folder: Path, message: bytes, blob: bytes, namespace: str) -> bool:
    """What `-Y check-novalidate` says: a good signature by whatever key."""
    path = folder / "checked.sig"
    path.write_bytes(signature.armor(blob))
    return run("-Y", "check-novalidate", "-n", namespace, "-s", str(path), stdin=message).returncode == 0


def is_by(folder: Path, message: bytes, blob: bytes, namespace: str, *, principal: str, public_line: str) -> bool:
    """What `-Y verify` says with this one allowed signer."""
    path, allowed = folder / "verified.sig", folder / "allowed"
    path.write_bytes(signature.armor(blob))
    allowed.write_text(f'{principal} namespaces="{namespace}" {public_line}\n')
    argv = ("-Y", "verify", "-f", str(allowed), "-I", principal, "-n", namespace, "-s", str(path))
    return run(*argv, stdin=message).returncode == 0
