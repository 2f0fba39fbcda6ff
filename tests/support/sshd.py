"""A bare repository behind a real sshd on loopback, as a forge serves it: one account, a key for each person, git and nothing else."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from support import parts, ssh_keygen

_PRIVSEP = Path("/run/sshd")  # sshd(8) insists on it where it runs as root; a service manager makes it
_READY_WITHIN_S = 10
_CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {host_key}
PidFile none
AuthorizedKeysFile {authorized}
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel VERBOSE
"""


class Sshd:
    """`folder` holds its keys and its log; `url` leads to a repository below `root`."""

    def __init__(self, folder: Path, people: Mapping[str, Path]) -> None:
        """`people`: whose public key files may come in."""
        parts.need("sshd", "git-shell")
        folder.mkdir()
        self.folder, self.port = folder, _free_port()
        self.host_key = ssh_keygen.make_key(folder, "ed25519")
        shell = shutil.which("git-shell")
        only = f'command="{shell} -c \\"$SSH_ORIGINAL_COMMAND\\"",restrict'
        lines = [f"{only} {path.read_text().strip()}\n" for path in people.values()]
        (folder / "authorized_keys").write_text("".join(lines))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def url(self, repository: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{repository}"

    def known_hosts(self, path: Path) -> Path:
        """Pin the host key that it shows now."""
        kind, blob, *_ = self.host_key.with_name(self.host_key.name + ".pub").read_text().split()
        path.write_text(f"[127.0.0.1]:{self.port} {kind} {blob}\n")
        return path

    def change_host_key(self) -> None:
        """What a man in the middle looks like, or a forge that was set up anew."""
        self.stop()
        other = self.folder / "another"
        other.mkdir()
        self.host_key = ssh_keygen.make_key(other, "ed25519")
        self.start()

    def start(self) -> None:
        if os.getuid() == 0:
            _PRIVSEP.mkdir(mode=0o755, exist_ok=True)
        path = self.folder / "sshd_config"
        path.write_text(
            _CONFIGURATION.format(port=self.port, host_key=self.host_key, authorized=self.folder / "authorized_keys")
        )
        program = parts.path_of("sshd") or "sshd"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-D", "-e", "-f", path], stderr=log, stdin=subprocess.DEVNULL)
        until_s = time.monotonic() + _READY_WITHIN_S
        while not _answers(self.port):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < until_s, self.log
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None


def command(key: Path, known_hosts: Path) -> str:
    """GIT_SSH_COMMAND of a person: this key, this host, and nothing of the machine's own configuration."""
    options = ("-F", os.devnull, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes")
    hosts = ("-o", f"UserKnownHostsFile={known_hosts}", "-o", f"GlobalKnownHostsFile={os.devnull}")
    return shlex.join(("ssh", *options, *hosts, "-o", "IdentitiesOnly=yes", "-i", str(key)))


@contextlib.contextmanager
def serving(folder: Path, people: Mapping[str, Path]) -> Iterator[Sshd]:
    made = Sshd(folder, people)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
