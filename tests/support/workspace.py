"""A small bank at the command line: what `init` made, a server's repository, a clone, and the keys of three people."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from reconciler import model
from reconciler.cli import main
from reconciler.git import writing
from support import signing

PEOPLE = ("alice", "bob", "carol")
ENVIRONMENT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.out)
        return read

    @property
    def items(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.document["items"]
        return listed


def run(*arguments: str | Path, cwd: Path, stdin: str = "", env: Mapping[str, str] | None = None) -> Answer:
    """One command in this process, as the console script runs it."""
    out, err = io.StringIO(), io.StringIO()
    with (
        _folder(cwd),
        mock.patch.dict(os.environ, {**ENVIRONMENT, **(env or {})}),
        mock.patch("sys.stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main.run([str(part) for part in arguments])
    return Answer(code, out.getvalue(), err.getvalue())


def git(path: Path, *command: str | Path) -> str:
    finished = subprocess.run(
        ("git", "-C", path, *command), env={**os.environ, **ENVIRONMENT}, capture_output=True, check=False
    )
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout.decode().strip()


class Workspace:
    """`daemon`: the folder of reconciler.yaml; `server`: the bare repository that is watched; `clone`: a person's."""

    def __init__(
        self, folder: Path, people: tuple[str, ...] = PEOPLE, public: Mapping[str, Path] | None = None
    ) -> None:
        """`public`: the key files of those who have no private one of ours, such as a hardware key."""
        here = public or {}
        self.keys = {n: here[n] if n in here else signing.Key(n).write(folder / n) for n in people}
        self.daemon, self.server, self.clone = folder / "bank", folder / "server.git", folder / "clone"
        named = [part for name in people for part in ("--person", f"{name}={here.get(name, folder / f'{name}.pub')}")]
        addresses = [part for name in people for part in ("--email", f"{name}={name}@bank.example")]
        made = run("init", *named, *addresses, "--key", self.keys["alice"], self.daemon, cwd=folder)
        assert made.code == 0, made.err
        repository = self.daemon / "repository"
        git(folder, "clone", "-q", "--bare", repository, self.server)
        git(folder, "clone", "-q", self.server, self.clone)
        path = self.daemon / "reconciler.yaml"
        text = path.read_text().replace(f"file://{repository}", f"file://{self.server}")
        path.write_text(text + "web: {listen: null}\n")

    @property
    def genesis(self) -> model.Oid:
        return model.Oid(git(self.daemon / "repository", "rev-parse", "main"))

    @property
    def machine(self) -> Path:
        return self.daemon / "machines" / "hello"

    def signer(self, name: str) -> writing.Signer:
        return writing.Signer(self.keys[name], name.title(), f"{name}@bank.example")

    def branch(
        self, name: str, files: Mapping[str, str], author: str = "alice", *, on: str = "origin/main"
    ) -> model.Oid:
        """A branch of one signed commit, checked out."""
        git(self.clone, "switch", "-q", "-c", name, on)
        for path, text in files.items():
            (self.clone / path).parent.mkdir(parents=True, exist_ok=True)
            (self.clone / path).write_text(text)
        with mock.patch.dict(os.environ, ENVIRONMENT):
            return writing.commit(self.clone, self.signer(author), name)

    def motd(self, text: str) -> dict[str, str]:
        """What a change of the example target is."""
        old = (self.daemon / "repository/targets/hello/vm.yaml").read_text()
        return {"targets/hello/vm.yaml": old.replace("Brought here by an approved merge.", text)}

    def here(self, *arguments: str | Path, **more: Any) -> Answer:
        """In the clone."""
        return run(*arguments, cwd=self.clone, **more)

    def there(self, *arguments: str | Path, **more: Any) -> Answer:
        """Where the daemon's configuration is."""
        return run(*arguments, cwd=self.daemon, **more)

    def approve(self, head: str, person: str, *more: str) -> Answer:
        return self.here("approve", head, "--key", self.keys[person], "--yes", "--push", *more)

    def merge(self, head: str, person: str = "carol", *more: str) -> Answer:
        return self.here("merge", head, "--key", self.keys[person], "--push", *more)

    def land(self, name: str, files: Mapping[str, str], author: str = "alice", approver: str = "bob") -> model.Oid:
        """A change that goes the whole way."""
        self.branch(name, files, author)
        approved, merged = self.approve(name, approver), self.merge(name)
        assert approved.code == 0, approved.err
        assert merged.code == 0, merged.err
        return model.Oid(merged.out.strip())

    def force(self, name: str, *, onto: str = "origin/main", signer: str = "carol") -> model.Oid:
        """A merge that nobody approved, pushed past everything that would have kept it out."""
        with mock.patch.dict(os.environ, ENVIRONMENT):
            made = writing.merge(
                self.clone,
                model.Oid(git(self.clone, "rev-parse", name)),
                onto=model.Oid(git(self.clone, "rev-parse", onto)),
                signer=self.signer(signer),
                message="Merge",
            )
        git(self.clone, "push", "-q", "origin", f"{made}:refs/heads/main")
        return made


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    with contextlib.chdir(path):
        yield
