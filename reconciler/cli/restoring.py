"""A signed commit in which some paths are as they were elsewhere, made from objects alone: no work tree, no filter, no hook."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from reconciler import errors, model
from reconciler.git import writing


def commit(
    path: Path,
    onto: model.Oid,
    entries: Mapping[bytes, model.Entry | None],
    *,
    signer: writing.Signer,
    message: str,
    parents: tuple[model.Oid, ...] = (),
) -> model.Oid:
    """`entries`: path -> what stands there (None: nothing), on the tree of `onto`. `parents`: else `onto` alone.

    Raises: PermanentError(git).
    """
    import git

    shell = git.Git(path)
    absent = "0" * len(onto)
    lines = b"".join(
        b"%s %s\t%s\0" % ((entry.mode if entry else "0").encode(), (entry.oid if entry else absent).encode(), name)
        for name, entry in sorted(entries.items())
    )
    with tempfile.TemporaryDirectory(prefix="reconciler-index-") as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        written = Path(scratch) / "lines"
        written.write_bytes(lines)
        try:
            shell.execute(["git", "read-tree", onto], env=index)
            with written.open("rb") as stdin:
                shell.execute(["git", "update-index", "-z", "--index-info"], env=index, istream=stdin)
            tree = str(shell.execute(["git", "write-tree"], env=index))
            named = [part for parent in parents or (onto,) for part in ("-p", parent)]
            command = ["git", *signer.options, "commit-tree", "-S", *named, "-m", message, tree]
            return model.Oid(str(shell.execute(command, env=signer.variables)))
        except git.GitCommandError as exc:
            raise errors.PermanentError(
                "git", f"the commit could not be made: {str(exc.stderr).strip()[:300]}"
            ) from exc


def branch(path: Path, name: str, at: model.Oid) -> None:
    """Make a new branch. Raises: PermanentError(git) where there is one of this name."""
    import git

    try:
        git.Git(path).execute(["git", "update-ref", name, at, "0" * len(at)])
    except git.GitCommandError as exc:
        fix = f"remove it first: git branch -D {name.removeprefix('refs/heads/')}"
        raise errors.PermanentError("git", f"{name} is there already", where=str(path), fix=fix) from exc
