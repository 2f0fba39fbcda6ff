"""What people's commands write: signed commits and merges, approvals, revert branches, pushes. Never a verdict.

git runs here with the person's own environment and configuration, so that agents, hardware keys and credential helpers
work as they do by hand; signing itself is done by `ssh-keygen`, which git starts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler import errors, model
from reconciler.git import approvals, complaints, process

_TIMEOUT_S = 300  # a person may have to touch a key meanwhile
# `git rev-parse --local-env-vars`, but for those that carry a person's own configuration.
_REPOSITORY_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
)


@dataclass(frozen=True)
class Signer:
    """The SSH key that signs, private or the public half of one in an agent, and the name that author and committer get."""

    key: Path
    name: str
    email: str

    @property
    def options(self) -> tuple[str, ...]:
        # Any other encoding would add a header that the commit grammar refuses.
        key = f"user.signingKey={self.key.absolute()}"
        return ("-c", "gpg.format=ssh", "-c", key, "-c", "i18n.commitEncoding=UTF-8")

    @property
    def variables(self) -> dict[str, str]:
        return _identity(self.name, self.email)


def make_repository(path: Path, branch: str = "main", *, takes_pushes: bool = False) -> None:
    """Make an empty repository with a work tree; its unborn branch is `branch`.

    `takes_pushes`: also onto the branch that is checked out, whose work tree moves with it while it is clean.
    """
    import git  # GitPython: `git.Git.execute` copies the caller's environment, which is right here and nowhere else.

    with git.Repo.init(path, initial_branch=branch) as made:
        if takes_pushes:
            with made.config_writer() as settings:
                settings.set_value("receive", "denyCurrentBranch", "updateInstead")


def commit(path: Path, signer: Signer, message: str) -> model.Oid:
    """Commit all that the work tree holds, signed.

    Raises: PermanentError(git), also where the repository's own attributes refuse a file.
    """
    _git(path, "add", "--all")
    _git(path, *signer.options, "commit", "--quiet", "-S", "-m", message, variables=signer.variables)
    return model.Oid(_git(path, "rev-parse", "HEAD"))


def unstage(path: Path) -> None:
    """Let the index be what HEAD holds; the work tree stays."""
    _git(path, "reset", "--quiet")


def merge(path: Path, head: model.Oid, *, onto: model.Oid, signer: Signer, message: str) -> model.Oid:
    """Make the signed merge of `head` into `onto` as an object only: no ref and no work tree moves.

    Raises: PermanentError(conflict) where git's own merge is not clean.
    """
    tree = _run(path, ("merge-tree", "--write-tree", "--no-messages", onto, head))
    if tree.returncode == 1:
        raise errors.PermanentError(
            "conflict",
            f"{head} does not merge cleanly into {onto}",
            fix="merge the watched branch into the request's branch, solve it there, and have it approved again",
        )
    return _commit_tree(path, _printed(tree, "merge-tree"), (onto, head), signer=signer, message=message)


def advance(path: Path, ref: str, new: model.Oid, old: model.Oid) -> None:
    """Move a local branch from `old` to its descendant `new`, with the work tree where the branch is checked out.

    Raises: PermanentError(git) where the branch is elsewhere by now, or the work tree stands in the way.
    """
    process.check_ref(ref)
    if _run(path, ("symbolic-ref", "--quiet", "HEAD")).stdout.decode().strip() == ref:
        _git(path, "merge", "--quiet", "--ff-only", new)
    else:
        _git(path, "update-ref", ref, new, old)


def revert_branch(
    path: Path, folders: Mapping[str, model.Oid | None], *, onto: model.Oid, branch: str, signer: Signer, message: str
) -> model.Oid:
    """Make a new branch: `onto` with each of these folders exactly as it was in the revision named (None: not there).

    `{"targets/web": <revision>}` gives the folder back its digest of then, however many merges came after.

    Raises: PermanentError(git), also where the branch is there already.
    """
    process.check_ref(branch)
    with tempfile.TemporaryDirectory(prefix="reconciler-index-") as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        _git(path, "read-tree", onto, variables=index)
        for folder, revision in folders.items():
            held = _git(path, "ls-files", "-z", "--", f":(top,literal){folder}/", variables=index)
            _git(path, "update-index", "-z", "--force-remove", "--stdin", variables=index, stdin=held.encode())
            if revision is not None:
                _git(path, "read-tree", f"--prefix={folder}/", f"{revision}:{folder}", variables=index)
        tree = _git(path, "write-tree", variables=index)
    made = _commit_tree(path, tree, (onto,), signer=signer, message=message)
    _git(path, "update-ref", branch, made, "0" * len(made))
    return made


def write_approval(path: Path, head: model.Oid, envelope: bytes) -> str:
    """Keep an envelope under the ref where daemons look for it, and return that ref. Twice is once."""
    blob = _git(path, "hash-object", "-w", "--stdin", stdin=envelope)
    tree = _git(path, "mktree", stdin=f"100644 blob {blob}\t{approvals.ENVELOPE.decode()}\n".encode())
    # The commit is only a wrapper; fixed names and dates make it the same for the same envelope.
    wrapper = _identity("reconciler", "approval@reconciler.invalid") | {
        "GIT_AUTHOR_DATE": "@0 +0000",
        "GIT_COMMITTER_DATE": "@0 +0000",
    }
    made = _git(path, "commit-tree", tree, "-m", "approval", variables=wrapper)
    ref = f"{approvals.prefix_of(process.check_oid(head))}{model.sha256(envelope)}"
    _git(path, "update-ref", ref, made)
    return ref


def fetch(path: Path, remote: str, *refspecs: str, within_s: float) -> None:
    """Bring these refs and no tags from a remote, as this person reaches it. Never forced, unless a refspec says so.

    Raises: TransientError(source_error).
    """
    quiet = ("--quiet", "--no-tags", "--no-write-fetch-head")
    finished = _run(path, ("fetch", *quiet, "--end-of-options", remote, *refspecs), timeout_s=within_s)
    if finished.returncode:
        raise errors.TransientError("source_error", f"{remote} could not be fetched: {_complaint(finished)}")


def push_ref(path: Path, remote: str, ref: str) -> None:
    """Push one ref under its own name, without force. Raises: as `push`."""
    push(path, remote, ref, ref)


def push(path: Path, remote: str, source: str, ref: str) -> None:
    """Push a ref or an object to `ref` of a remote, without force.

    Raises: PermanentError(push_refused) when the remote said no, TransientError(source_error) when it was not reached.
    """
    process.check_ref(ref, under="refs/")
    finished = _run(path, ("push", "--porcelain", "--end-of-options", remote, f"{source}:{ref}"))
    if finished.returncode == 0:
        return
    if re.search(rb"(?m)^!", finished.stdout):
        why = _refusal(finished)
        fix = "fetch, look at what is there, and try again"
        if "checked out" in why:
            fix = f"{remote} has a work tree: push to a bare repository, or set receive.denyCurrentBranch to updateInstead there"
        raise errors.PermanentError("push_refused", f"{remote} refused {ref}: {why}", fix=fix)
    why = _complaint(finished)
    fix = complaints.advice(why).replace("source.url", f"the address of {remote} (git remote -v)")
    raise errors.TransientError("source_error", f"{ref} could not be pushed to {remote}: {why}", fix=fix)


def _commit_tree(path: Path, tree: str, parents: tuple[model.Oid, ...], *, signer: Signer, message: str) -> model.Oid:
    lines = [part for parent in parents for part in ("-p", parent)]
    command = (*signer.options, "commit-tree", "-S", *lines, "-m", message, tree)
    return model.Oid(_git(path, *command, variables=signer.variables))


def _identity(name: str, email: str) -> dict[str, str]:
    who = {"NAME": name, "EMAIL": email}
    return {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in who.items()}


def _git(path: Path, *command: str, variables: Mapping[str, str] | None = None, stdin: bytes = b"") -> str:
    """What the command prints. Raises: PermanentError(git) when it fails."""
    return _printed(_run(path, command, variables=variables, stdin=stdin), _verb(command))


def _run(
    path: Path,
    command: tuple[str, ...],
    *,
    variables: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_s: float = _TIMEOUT_S,
) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("git")
    if program is None:
        raise errors.ConfigError("git", "git is not installed", fix="install git 2.38 or newer and have it on PATH")
    # A hook's variables would make git write to another repository than the one named.
    inherited = {name: value for name, value in os.environ.items() if name not in _REPOSITORY_VARIABLES}
    environment = inherited | {"LC_ALL": "C"} | dict(variables or {})
    try:
        return subprocess.run(  # noqa: S603 -- the person's own git, on purpose
            (program, *command),
            cwd=path,
            env=environment,
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise errors.TransientError("source_error", f"git {_verb(command)} took longer than {timeout_s:g} s") from exc


def _printed(finished: subprocess.CompletedProcess[bytes], verb: str) -> str:
    if finished.returncode:
        raise errors.PermanentError("git", f"git {verb}: {_complaint(finished)}")
    return finished.stdout.decode("utf-8", "surrogateescape").strip("\n")


def _verb(command: tuple[str, ...]) -> str:
    """The command without the options before it, which name key files."""
    at = 0
    while command[at] == "-c":
        at += 2
    return command[at]


def _complaint(finished: subprocess.CompletedProcess[bytes]) -> str:
    """The cause, as for the daemon's own git; a person's remote may stand with a password in its address."""
    told = complaints.telling(finished.stderr.decode(errors="replace"), finished.returncode)
    return re.sub(r"//[^/@ ]*@", "//***@", told)


def _refusal(finished: subprocess.CompletedProcess[bytes]) -> str:
    found = re.search(r"(?m)^!.*\t(.*)$", finished.stdout.decode(errors="replace"))
    return re.sub(r"[^ -~]", "?", found[1]) if found else "no reason given"
