"""gpgv as a process (trust.md 7.3): `ports.OpenPgp`. Starts it with an empty home and a clean environment; judges nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from reconciler import errors, ports

TIMEOUT_S = 20.0
_KEPT = 4096  # answers: a merge that waits is judged again at every poll
_STATUS_BYTES = 1 << 16
_LIMITED = 'ulimit -t 20 && ulimit -v 1048576 && ulimit -f 2048 && ulimit -c 0 && exec "$@"'
_GOOD = b"\n[GNUPG:] GOODSIG "


class Gpgv:
    """Safe to use from many threads. The program is looked for at the first signature, so a bank without OpenPGP needs none."""

    def __init__(self, program: str = "gpgv", *, timeout_s: float = TIMEOUT_S) -> None:
        self._program, self._timeout_s = program, timeout_s
        self._answers: OrderedDict[bytes, ports.Answer] = OrderedDict()
        self._lock = threading.Lock()

    def verify(self, payload: bytes, signature: bytes, keys: Sequence[bytes]) -> ports.Answer:
        """As the port says. A good answer is kept: what was good once is judged by the time at which it was seen."""
        question = _digest(payload, signature, *keys)
        with self._lock:
            kept = self._answers.get(question)
        if kept is not None:
            return kept
        answer = self._ask(payload, signature, keys)
        if answer.code == 0 and _GOOD in b"\n" + answer.status:
            with self._lock:
                self._answers[question] = answer
                if len(self._answers) > _KEPT:
                    self._answers.popitem(last=False)
        return answer

    def _ask(self, payload: bytes, signature: bytes, keys: Sequence[bytes]) -> ports.Answer:
        program = _find(self._program)
        with tempfile.TemporaryDirectory(prefix="gpgv-") as name:
            folder = Path(name)
            (folder / "home").mkdir(mode=0o700)
            files = {"keys": b"".join(keys), "signature": signature, "payload": payload}
            for file, content in files.items():
                (folder / file).write_bytes(content)
            keys_path, signature_path, payload_path = (str(folder / file) for file in files)
            home = str(folder / "home")
            options = ("--homedir", home, "--keyring", keys_path, "--weak-digest", "SHA1", "--status-fd", "1")
            return self._run((program, *options, "--", signature_path, payload_path), home)

    def _run(self, argv: tuple[str, ...], home: str) -> ports.Answer:
        environment = {"PATH": os.defpath, "HOME": home, "LC_ALL": "C", "TZ": "UTC"}
        try:
            done = subprocess.run(  # noqa: S603 - argv is ours; contents stand in files
                ("/bin/sh", "-c", _LIMITED, "sh", *argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=home,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise _no_answer(f"gpgv took longer than {self._timeout_s:g} s") from exc
        if done.returncode < 0 or done.returncode > 2 or len(done.stdout) > _STATUS_BYTES:  # noqa: PLR2004 - gpgv(1): 0, 1, 2
            raise _no_answer(f"gpgv ended with {done.returncode}")
        return ports.Answer(done.returncode, done.stdout)


def _find(program: str) -> str:
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which(program, path=os.pathsep.join(entry for entry in entries if entry.startswith("/")))
    if found is None:
        raise _no_answer("gpgv is not installed, and an OpenPGP signature waits for it")
    return found


def _digest(*parts: bytes) -> bytes:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big") + part)
    return hashed.digest()


def _no_answer(message: str) -> errors.TransientError:
    return errors.TransientError("verifier_error", message, fix="install gpgv 2.2 or newer on this machine")
