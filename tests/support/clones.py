"""Real git repositories for tests, built without a work tree through `git fast-import`, hostile ones included."""

from __future__ import annotations

import os
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path

from reconciler import model

MAIN = "refs/heads/main"
_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Alice",
    "GIT_AUTHOR_EMAIL": "alice@bank.example",
    "GIT_COMMITTER_NAME": "Alice",
    "GIT_COMMITTER_EMAIL": "alice@bank.example",
}


class Clone:
    """A repository on disk. Each commit made is a second after the one before."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        path.mkdir(parents=True)
        self._time = 1_795_000_000
        self.git("init", "--quiet", "--initial-branch=main", *options)

    @property
    def git_dir(self) -> Path:
        dot_git = self.path / ".git"
        return dot_git if dot_git.exists() else self.path

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def git(self, *command: str, stdin: bytes = b"") -> str:
        finished = subprocess.run(
            ("git", *command), cwd=self.path, env=_ENVIRONMENT, input=stdin, capture_output=True, check=False
        )
        assert finished.returncode == 0, finished.stderr.decode()
        return finished.stdout.decode("utf-8", "surrogateescape").strip()

    def commit(self, files: Mapping[str, bytes | None], *parents: model.Oid, ref: str = MAIN) -> model.Oid:
        """A commit with these files changed against its first parent; moves `ref` there, also backwards."""
        self._time += 1
        lines = [
            f"reset {ref}\ncommit {ref}\ncommitter Alice <alice@bank.example> {self._time} +0000\ndata 1\nx\n".encode()
        ]
        lines += [f"{'merge' if number else 'from'} {oid}\n".encode() for number, oid in enumerate(parents)]
        for path, content in files.items():
            if content is None:
                lines.append(f"D {path}\n".encode())
            else:
                lines.append(f"M 100644 inline {path}\ndata {len(content)}\n".encode() + content + b"\n")
        self.git("fast-import", "--quiet", "--force", stdin=b"".join(lines))
        return self.tip(ref)

    def tip(self, ref: str = MAIN) -> model.Oid:
        return model.Oid(self.git("rev-parse", "--verify", ref))

    def blob(self, content: bytes) -> model.Oid:
        return model.Oid(self.git("hash-object", "-w", "--stdin", stdin=content))

    def directory(self, *lines: str) -> model.Oid:
        """A tree of `<mode> <oid> <name>` lines, put in by `git mktree --missing`."""
        printed = []
        for line in lines:
            mode, oid, name = line.split(" ", 2)
            kind = {"040000": "tree", "160000": "commit"}.get(mode, "blob")
            printed.append(f"{mode} {kind} {oid}\t{name}\n")
        return model.Oid(self.git("mktree", "--missing", stdin="".join(printed).encode()))

    def raw(self, kind: str, content: bytes) -> model.Oid:
        """Store an object as it is, however malformed."""
        return model.Oid(self.git("hash-object", "-w", "-t", kind, "--literally", "--stdin", stdin=content))

    def commit_tree(self, tree: model.Oid, *parents: model.Oid, ref: str = MAIN) -> model.Oid:
        made = model.Oid(self.git("commit-tree", tree, *(part for oid in parents for part in ("-p", oid)), "-m", "x"))
        self.git("update-ref", ref, made)
        return made

    def loose_path(self, oid: model.Oid) -> Path:
        return self.git_dir / "objects" / oid[:2] / oid[2:]

    def damage(self, oid: model.Oid, stored: bytes) -> None:
        """Overwrite a loose object; packed ones are unpacked first. `stored` is what zlib gets: header and content."""
        self.unpack()
        path = self.loose_path(oid)
        path.chmod(0o644)
        path.write_bytes(zlib.compress(stored))

    def unpack(self) -> None:
        packs = self.git_dir / "objects/pack"
        for pack in packs.glob("*.pack"):
            content = pack.read_bytes()
            for part in packs.glob(f"{pack.stem}.*"):
                part.unlink()
            self.git("unpack-objects", "-q", stdin=content)

    def approve(self, head: model.Oid, envelope: bytes) -> str:
        """Put an envelope where daemons look for it."""
        ref = f"refs/approvals/v1/{head[:12]}/{model.sha256(envelope)}"
        wrapper = self.directory(f"100644 {self.blob(envelope)} envelope.json")
        self.commit_tree(wrapper, ref=ref)
        return ref
