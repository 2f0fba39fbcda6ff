"""The hardened git process: the one place that starts git for verdicts (trust.md 6.1).

Nothing of the caller's environment or of anybody's configuration reaches it: the environment is made here, options are
given on the command line, hooks, monitors, attributes and every transport but the one asked for are off. What people
write with their own keys and their own configuration is in `writing`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from reconciler import errors, model
from reconciler.git import complaints

EMPTY_TREE = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
OLDEST_GIT = (2, 38)  # the first with `merge-tree --write-tree`

_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_PATH = r"/(?!/)[A-Za-z0-9._~/+@-]*"
_URL = re.compile(rf"https://{_HOST}{_PATH}|ssh://(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?{_HOST}{_PATH}")
_FILE_URL = re.compile(r"file:///[^\x00-\x20\x7f]*")
_REF_SEGMENT = r"[A-Za-z0-9_](?:[A-Za-z0-9_.+-]*[A-Za-z0-9_+-])?"
_REF = re.compile(rf"refs/[a-z]+(?:/{_REF_SEGMENT})+")

_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.commitGraph=false",
    "protocol.version=2",
    "protocol.allow=never",
    "http.followRedirects=false",
    "http.sslVerify=true",
    "transfer.bundleURI=false",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "fetch.fsck.badFilemode=error",
    "fetch.fsck.gitattributesSymlink=error",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    # What is unpacked passes through memory in parts: whole blobs do not, nor do packs, nor as many threads as there are cores.
    "core.bigFileThreshold=16m",
    "core.packedGitLimit=256m",
    "core.packedGitWindowSize=16m",
    "core.deltaBaseCacheLimit=64m",
    "pack.threads=2",
    "core.fsync=-reference",  # A ref that is lost is fetched again; a hundred thousand of them are not waited for.
    "gc.auto=0",
    "maintenance.auto=false",
)
# Limits are set before git is there, so that what git starts inherits them. In POSIX `ulimit -f` counts 512 bytes.
_LIMITED = 'ulimit -t "$1" && ulimit -v "$2" && ulimit -f "$3" && ulimit -c 0 && shift 3 && exec "$@"'


@dataclass(frozen=True)
class Auth:
    """How the remote is reached. A token never stands in argv, in a URL or in a printed value."""

    ssh_key: Path | None = None
    known_hosts: Path | None = None
    token: str = field(default="", repr=False)
    username: str = "x-access-token"  # beside the token in HTTP basic authentication; forges differ or ignore it
    ca_file: Path | None = None  # of a private certificate authority


@dataclass(frozen=True)
class Remote:
    """One URL that a process may talk to; `allow_file` is the development profile."""

    url: str
    auth: Auth = Auth()
    allow_file: bool = False

    def __post_init__(self) -> None:
        check_url(self.url, allow_file=self.allow_file)

    @property
    def protocol(self) -> str:
        return self.url.partition(":")[0]


@dataclass(frozen=True)
class ProcessLimits:
    timeout_s: float = 120
    cpu_s: int = 300
    memory_bytes: int = 2 << 30  # address space: what a delta makes is held whole; of packs git maps 256 MiB
    file_bytes: int = 4 << 30  # of any file git writes: a pack
    output_bytes: int = 64 << 20


DEFAULT_LIMITS = ProcessLimits()


class Talk(NamedTuple):
    """A process that lasts, and the two pipes to it."""

    running: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]


@dataclass(frozen=True)
class Finished:
    code: int
    stdout: bytes
    stderr: str

    @property
    def complaint(self) -> str:
        """The lines in which git or ssh says what went wrong, as printable ASCII; no line marked as the remote's."""
        return complaints.telling(self.stderr, self.code)


def check_url(url: str, *, allow_file: bool = False) -> None:
    """Refuse what is not plain https or ssh: options in disguise, other transports, user names and secrets in https URLs.

    Raises: ConfigError(url).
    """
    if _URL.fullmatch(url) or (allow_file and _FILE_URL.fullmatch(url)):
        return
    scheme = url.partition("://")[0] if re.match(r"[a-z]{1,10}://", url) else "another form"
    raise errors.ConfigError(
        "url",
        f"the source's URL ({scheme}) is not one that may be fetched",
        fix="write https://host/path or ssh://user@host/path without password, query or options; file:///path in development",
    )


def check_ref(ref: str, *, under: str = "refs/heads/") -> None:
    """Refuse what is not a full, plain ref below `under`: `HEAD`, options, `..`, look-alike letters, names that are object ids.

    Raises: ConfigError(ref).
    """
    segments = ref.split("/")
    plain = _REF.fullmatch(ref) and ref.startswith(under) and ".." not in ref
    # A branch named like an object can be taken for it; the names of approvals are digests and only ever written in full.
    like_oid = ref.startswith("refs/heads/") and any(_OID.fullmatch(part) for part in segments)
    if not plain or like_oid or any(part.endswith(".lock") for part in segments):
        raise errors.ConfigError(
            "ref",
            f"{ref!a} is not a ref that may be watched",
            fix=f"write the full name, such as {under}main, in plain ASCII",
        )


def check_oid(oid: str) -> model.Oid:
    """Raises: ConfigError(oid) for what is not a full object id."""
    if not _OID.fullmatch(oid):
        raise errors.ConfigError("oid", f"{oid!a} is not a full object id", fix="write all 40 (SHA-256: 64) hex digits")
    return model.Oid(oid)


class GitProcess:
    """Starts git on one git dir. Safe to use from many threads."""

    def __init__(
        self, git_dir: Path, *, home: Path, object_format: str = "sha1", limits: ProcessLimits = DEFAULT_LIMITS
    ) -> None:
        """`home` is an empty folder of ours: the working directory and HOME of every process."""
        self._git_dir = git_dir
        self._home = home
        self._object_format = object_format
        self._limits = limits
        self._program = _find_git()

    def run(
        self, *command: str, remote: Remote | None = None, config: Iterable[str] = (), stdin: bytes = b""
    ) -> Finished:
        """Run one command to its end; without `remote` no transport at all works. The exit code is the caller's to judge.

        Raises: TransientError(source_error) on a timeout, PermanentError(limit) when it prints more than the limit.
        """
        running = self._start(command, remote=remote, config=config, stderr=subprocess.PIPE)
        try:
            stdout, stderr = running.communicate(stdin, timeout=self._limits.timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise errors.TransientError(
                "source_error", f"git {command[0]} took longer than {self._limits.timeout_s:g} s"
            ) from exc
        finally:
            end(running)
        if len(stdout) > self._limits.output_bytes:
            raise errors.PermanentError("limit", f"git {command[0]} printed {len(stdout)} bytes")
        return Finished(running.returncode, stdout, stderr.decode(errors="replace"))

    def text(self, *command: str, config: Iterable[str] = (), stdin: bytes = b"") -> str:
        """What a local command prints.

        Raises: TransientError(source_error) when it fails: a missing object, a damaged store.
        """
        finished = self.run(*command, config=config, stdin=stdin)
        if finished.code:
            raise errors.TransientError("source_error", f"git {command[0]}: {finished.complaint}")
        return finished.stdout.decode(errors="surrogateescape")

    def start(self, *command: str) -> Talk:
        """Start a command that goes on talking over its pipes; the caller ends it with `end`."""
        running = self._start(command, remote=None, config=(), stderr=subprocess.DEVNULL, lasting=True)
        if running.stdin is None or running.stdout is None:
            raise errors.TransientError("source_error", "git was started without its pipes")
        return Talk(running, running.stdin, running.stdout)

    def _start(
        self,
        command: tuple[str, ...],
        *,
        remote: Remote | None,
        config: Iterable[str],
        stderr: int,
        lasting: bool = False,
    ) -> subprocess.Popen[bytes]:
        # A process that serves for weeks may use up any sum of seconds; its callers hold each answer to a time instead.
        cpu_s = "unlimited" if lasting else str(self._limits.cpu_s)
        limits = (cpu_s, str(self._limits.memory_bytes >> 10), str(self._limits.file_bytes >> 9))
        options = [part for line in (*self._config(remote), *config) for part in ("-c", line)]
        git = (self._program, "--no-pager", f"--git-dir={self._git_dir}", *options, *command)
        return subprocess.Popen(  # noqa: S603 -- argv is a tuple, data follows --end-of-options or was checked by pattern
            ("/bin/sh", "-c", _LIMITED, "sh", *limits, *git),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=self._environment(remote),
            cwd=self._home,
            start_new_session=True,
        )

    def _config(self, remote: Remote | None) -> tuple[str, ...]:
        allowed = () if remote is None else (f"protocol.{remote.protocol}.allow=always",)
        return (*_CONFIG, f"attr.tree={EMPTY_TREE[self._object_format]}", *allowed)

    def _environment(self, remote: Remote | None) -> dict[str, str]:
        environment = {
            "PATH": _search_path(),
            "HOME": str(self._home),
            "LC_ALL": "C",
            "TZ": "UTC",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            # It outranks any `protocol.*.allow`; "none" is no transport, so a promisor remote is never asked either.
            "GIT_ALLOW_PROTOCOL": remote.protocol if remote else "none",
            "GIT_SSH_VARIANT": "ssh",
            "GIT_SSH_COMMAND": _ssh_command(remote.auth if remote else Auth()),
        }
        return environment | (_http_secrets(remote) if remote else {})


def end(running: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and of all that it started, and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    for pipe in (running.stdin, running.stdout, running.stderr):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


def _ssh_command(auth: Auth) -> str:
    known_hosts = auth.known_hosts or Path(os.devnull)
    # Not `-i`: ssh drops a file that is not there and then tries the keys of the home folder (checked).
    identity = _quoted(auth.ssh_key) if auth.ssh_key else "none"
    return (
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=20"
        f" -o UserKnownHostsFile={_quoted(known_hosts)} -o GlobalKnownHostsFile=/dev/null"
        f" -o IdentitiesOnly=yes -o IdentityFile={identity}"
    )


def _quoted(path: Path) -> str:
    """A path for the shell that git hands GIT_SSH_COMMAND to, and for ssh, which splits its option values at blanks.

    Raises: ConfigError(path) for one that cannot be written there.
    """
    if not re.fullmatch(r"/[A-Za-z0-9._/+@=,-]*", str(path)):
        raise errors.ConfigError(
            "path", f"{str(path)!a} cannot be handed to ssh", fix="use an absolute path of plain characters"
        )
    return str(path)


def _http_secrets(remote: Remote) -> dict[str, str]:
    """The token for exactly this host. Variables, because argv is readable by every user of the machine."""
    settings: list[tuple[str, str]] = []
    if remote.auth.token:
        host = "/".join(remote.url.split("/")[:3])
        basic = base64.b64encode(f"{remote.auth.username}:{remote.auth.token}".encode()).decode()
        settings.append((f"http.{host}/.extraHeader", f"Authorization: Basic {basic}"))
    if remote.auth.ca_file:
        settings.append(("http.sslCAInfo", str(remote.auth.ca_file)))
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _search_path() -> str:
    """The caller's PATH without relative entries, which would look into the working directory."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if entry.startswith("/"))


def _find_git() -> str:
    program = shutil.which("git", path=_search_path())
    if program is None:
        raise errors.ConfigError("git", "git is not installed", fix="install git 2.38 or newer and have it on PATH")
    return program


def git_version() -> tuple[int, ...]:
    """The installed git's version, for `check`; older than `OLDEST_GIT` is not supported."""
    printed = subprocess.run((_find_git(), "version"), capture_output=True, check=True, timeout=30).stdout  # noqa: S603
    found = re.search(rb"(\d+)\.(\d+)(?:\.(\d+))?", printed)
    return tuple(int(part) for part in found.groups() if part) if found else ()
