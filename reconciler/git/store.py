"""Where the objects of a git dir lie, and a private git dir of ours that reads them without its configuration.

Verdicts are taken through the private one: its configuration is ours, it has no refs, hooks, grafts, shallow file or
attributes, and what git writes on the way (the tree of an automatic merge) lands in it. So a developer's clone is never
written, and nothing that it serves is ever run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from reconciler import errors
from reconciler.git import process

QUARANTINE_VARIABLES = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH")
UNBORN = "ref: refs/heads/unborn\n"


class Layout(NamedTuple):
    common_dir: Path  # where the objects and shared refs lie; another folder than the git dir in a linked work tree
    object_format: str  # sha1 or sha256


def config_text(object_format: str) -> str:
    """The whole configuration of a git dir of ours."""
    if object_format == "sha1":
        return "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
    return "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n"


def make_bare(git_dir: Path, object_format: str) -> None:
    """Write an empty bare repository by hand: `git init` would copy the installation's template, hooks included."""
    for folder in ("objects/info", "objects/pack", "refs"):
        (git_dir / folder).mkdir(parents=True)
    (git_dir / "config").write_text(config_text(object_format), encoding="ascii")
    (git_dir / "HEAD").write_text(UNBORN, encoding="ascii")


def find_git_dir(path: Path) -> Path:
    """The git dir of the work tree, linked work tree or bare repository that holds `path`.

    Raises: ConfigError(repository) where there is none.
    """
    for folder in (path.absolute(), *path.absolute().parents):
        dot_git = folder / ".git"
        if dot_git.is_dir():
            return dot_git
        if dot_git.is_file():
            named = dot_git.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
            return (folder / named).resolve()
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
            return folder
    raise errors.ConfigError(
        "repository", f"{path} lies in no git repository", fix="run it in a clone of the repository"
    )


def read_layout(git: process.GitProcess, git_dir: Path) -> Layout:
    """Ask git itself; no command of the repository's configuration runs for this question.

    Raises: ConfigError(repository) where git does not take it for a repository.
    """
    finished = git.run("rev-parse", "--show-object-format", "--git-common-dir")
    lines = finished.stdout.decode(errors="surrogateescape").splitlines()
    if finished.code or len(lines) != 2:  # noqa: PLR2004 -- one line for each question
        raise errors.ConfigError("repository", f"{git_dir} is no git repository: {finished.complaint}")
    if lines[0] not in process.EMPTY_TREE:
        raise errors.ConfigError("repository", f"{git_dir} has the object format {lines[0]!a}, which is not known here")
    return Layout((git_dir / lines[1]).resolve(), lines[0])


def quarantine_dirs(variables: Mapping[str, str], common_dir: Path) -> tuple[Path, ...]:
    """The object folders that a pre-receive hook's environment names, each of which must lie inside the repository.

    Raises: ConfigError(quarantine).
    """
    named: list[str] = []
    for variable in QUARANTINE_VARIABLES:
        named += [part for part in variables.get(variable, "").split(os.pathsep) if part]
    folders = dict.fromkeys(Path(part).resolve() for part in named)
    for folder in folders:
        if not folder.is_relative_to(common_dir.resolve()):
            raise errors.ConfigError("quarantine", f"the object folder {folder} lies outside {common_dir}")
    return tuple(folders)


class Scratch:
    """A temporary folder of ours with an empty `home` in it; gone with `close`, or with the last who holds it."""

    def __init__(self, below: Path | None = None) -> None:
        """`below`: a folder of ours; what a process that was killed left there is swept first."""
        if below:
            below.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(below)
        self.path = Path(tempfile.mkdtemp(prefix=f"reconciler-git-{os.getpid()}-", dir=below))
        self.home = self.path / "home"
        self.home.mkdir()
        self.close = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove the folders of processes that are no more."""
    for left in folder.glob("reconciler-git-*-*"):
        process_id = left.name.split("-")[2]
        if process_id.isdecimal() and not _lives(int(process_id)):
            shutil.rmtree(left, ignore_errors=True)


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def private_git(
    scratch: Scratch,
    object_dirs: tuple[Path, ...],
    object_format: str,
    limits: process.ProcessLimits = process.DEFAULT_LIMITS,
) -> process.GitProcess:
    """git on a bare repository in `scratch` whose objects are those of others; what it writes stays there."""
    git_dir = scratch.path / "git"
    make_bare(git_dir, object_format)
    if any("\n" in str(folder) for folder in object_dirs):
        raise errors.ConfigError("repository", "a repository's path may not hold a line break")
    lines = "".join(f"{folder}\n" for folder in object_dirs)
    (git_dir / "objects/info/alternates").write_text(lines, encoding="utf-8", errors="surrogateescape")
    return process.GitProcess(git_dir, home=scratch.home, object_format=object_format, limits=limits)
