"""Whose SSH key a file holds, and signatures by stock `ssh-keygen`: private keys and their touch stay outside this process."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

from reconciler import errors, model
from reconciler.admission import policy, signature
from reconciler.git import writing

_TIMEOUT_S = 300  # A person may have to touch the key meanwhile.


def key_id(path: Path) -> str:
    """`SHA256:...` of the key in this file: a public one, or the private one whose public half lies beside it.

    Raises: ConfigError(key | weak_alg).
    """
    public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    line = _text(public) if public.exists() else _ssh_keygen("-y", "-f", str(path)).decode()
    parts = line.split()
    if len(parts) < 2 or "PRIVATE" in parts:  # noqa: PLR2004 - type and blob
        raise errors.ConfigError(
            "key", "this is no SSH key", where=str(path), fix="name the private key, or its .pub file"
        )
    return signature.key_id(f"{parts[0]} {parts[1]}")


def owner(rules: policy.Policy, path: Path, use: policy.Use, at: datetime) -> policy.Signer:
    """The person whose key this is, by the policy in force.

    Raises: ConfigError(a code of `policy.whose`).
    """
    found = rules.whose(key_id(path), use=use, at=at)
    if isinstance(found, model.Reason):
        raise errors.ConfigError(found.code, found.message, where=found.where or str(path), fix=found.fix)
    return found


def signer(rules: policy.Policy, path: Path, use: policy.Use, at: datetime) -> writing.Signer:
    """The same, as git writes its commits: under the first address that the policy lists."""
    who = owner(rules, path, use, at)
    emails = rules.robots[who.name].emails if who.robot else rules.people[who.name].emails
    if not emails:
        raise errors.ConfigError("key", f"the policy lists no address of {who.name}", where=policy.PATH)
    name = who.name if who.robot else rules.people[who.name].name or who.name
    return writing.Signer(path, name, emails[0])


def sign(path: Path, message: bytes, namespace: str) -> bytes:
    """The binary SSHSIG blob. Blocks for a passphrase or a touch.

    Raises: ConfigError(key).
    """
    armored = _ssh_keygen("-q", "-Y", "sign", "-n", namespace, "-f", str(path), stdin=message)
    blob = signature.dearmor(armored)
    if isinstance(blob, model.Reason):
        raise errors.ConfigError("key", f"ssh-keygen printed no signature: {blob.message}", where=str(path))
    return blob


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.ConfigError("key", "the public key cannot be read", where=str(path)) from exc


def _ssh_keygen(*arguments: str, stdin: bytes = b"") -> bytes:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise errors.ConfigError("key", "ssh-keygen is not installed", fix="install OpenSSH's client")
    try:
        finished = subprocess.run(  # noqa: S603 - stock ssh-keygen, the arguments are ours
            (program, *arguments), input=stdin, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise errors.ConfigError("key", f"ssh-keygen took longer than {_TIMEOUT_S} s", where=arguments[-1]) from exc
    if finished.returncode:
        said = finished.stderr.decode(errors="replace").strip().splitlines()
        fix = "name the private key with --key, or the .pub of one that your agent holds"
        raise errors.ConfigError("key", said[-1] if said else "ssh-keygen failed", where=arguments[-1], fix=fix)
    return finished.stdout
