"""A clone of the watched repository: where the watched branch stands, and the policy that is in force there. Judges nothing itself.

No configuration is needed: which repository this is, and which branch is watched, stands in the policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from reconciler import errors, model
from reconciler.admission import judging, lint, policy
from reconciler.audit import state
from reconciler.cli import printing
from reconciler.git import gpgv, repository, store

_VERIFIER = gpgv.Gpgv()
_USUAL = ("main", "master")
_FULL = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Place(NamedTuple):
    """What a person said about where: `-C`, `--remote`, `--ref`."""

    path: Path
    remote: str = "origin"
    ref: str = ""


@dataclass(frozen=True)
class Clone:
    path: Path  # where git is run for what a person writes
    repository: repository.GitRepository
    remote: str  # empty: this repository is itself the watched one
    branch: str  # refs/heads/main
    base: model.Oid  # A: where the watched branch stands
    rules: policy.Policy

    @property
    def known(self) -> state.State:
        return judging.clone_state(self.base)

    @property
    def terms(self) -> judging.Terms:
        """A clone does not know the daemon's profile: a policy that no production profile would take is of a development one."""
        entry = self.repository.tree(self.base)[policy.PATH.encode()]
        found = lint.lint(
            self.repository.read(entry.oid),
            source_id=self.rules.repository.id,
            source_ref=self.rules.repository.ref,
            now=datetime.now(UTC),
            production=True,
        )
        return judging.Terms(production=not found.errors, openpgp=_VERIFIER)

    def at(self, base: model.Oid) -> Clone:
        """The same, with another commit taken for the last accepted one."""
        return replace(self, base=base, rules=policy.read_policy(self.repository, base))

    def watched(self) -> model.Oid:
        """Where the watched branch stands, as the remote has it."""
        name = tracking_ref(self.remote, self.branch) if self.remote else self.branch
        return _try(self.repository, name) or self.base

    def local(self) -> model.Oid | None:
        """Where the branch of the same name stands in this clone."""
        return _try(self.repository, self.branch)

    def tip(self) -> model.Oid:
        """The newest commit of the watched branch that is here: the local branch where it is ahead, else the remote's."""
        local = _try(self.repository, self.branch)
        if local is None or not self.remote:
            return local or self.base
        tracking = _try(self.repository, tracking_ref(self.remote, self.branch)) or local
        behind = not self.repository.brought_in(local, tracking)
        return tracking if behind else local

    def resolve(self, name: str) -> model.Oid:
        """What a person typed: HEAD, a branch, HEAD~1, all digits of an object id or some. Once; then only the id counts.

        A branch that only the remote has, as `recover` and `rollback` name theirs to other people, is found there.

        Raises: ConfigError(revision).
        """
        for candidate in (name, f"refs/heads/{name}", f"refs/remotes/{self.remote}/{name}", f"refs/remotes/{name}"):
            if candidate == "HEAD" or candidate.startswith("refs/") or _FULL.fullmatch(candidate):
                found = _try(self.repository, candidate)
                if found:
                    return found
        return self.repository.resolve(_ask_git(self.path, name))


@contextmanager
def opened(place: Place, *, quarantine: Mapping[str, str] | None = None, after: str = "") -> Iterator[Clone]:
    """`after`: the full id of the commit to take for the last accepted one, instead of where the branch stands.

    Raises: ConfigError(repository | revision | policy_lint).
    """
    with repository.GitRepository(store.find_git_dir(place.path), quarantine=quarantine) as objects:
        if after:
            yield _after(place, objects, after)
        else:
            yield _find(place, objects)


def is_clone(path: Path) -> bool:
    try:
        store.find_git_dir(path)
    except errors.ConfigError:
        return False
    return True


def tracking_ref(remote: str, branch: str) -> str:
    return f"refs/remotes/{remote}/{branch.removeprefix('refs/heads/')}"


def _after(place: Place, objects: repository.GitRepository, after: str) -> Clone:
    if not _FULL.fullmatch(after):
        fix = "a name could move: write all digits of the object id"
        raise errors.ConfigError("revision", f"{after!r} is no full object id", where="--after", fix=fix)
    base = objects.resolve(after)
    rules = policy.read_policy(objects, base)
    branch = rules.repository.ref
    remote = place.remote if _try(objects, tracking_ref(place.remote, branch)) else ""
    return Clone(place.path, objects, remote, branch, base, rules)


def _find(place: Place, objects: repository.GitRepository) -> Clone:
    named = [place.ref.removeprefix("refs/heads/")] if place.ref else list(_USUAL)
    for branch in named:
        found = _stands(place, objects, f"refs/heads/{branch}")
        if found is None:
            continue
        remote, base = found
        rules = policy.read_policy(objects, base)
        if rules.repository.ref != f"refs/heads/{branch}":
            where = f"{policy.PATH} at {base}"
            fix = f"--ref {rules.repository.ref.removeprefix('refs/heads/')}"
            raise errors.ConfigError("ref", f"the policy watches {rules.repository.ref}", where=where, fix=fix)
        return Clone(place.path, objects, remote, rules.repository.ref, base, rules)
    fix = "git fetch first, or name the watched branch with --ref and its remote with --remote"
    raise errors.ConfigError(
        "ref", f"none of these branches is here: {', '.join(named)}", where=str(place.path), fix=fix
    )


def _stands(place: Place, objects: repository.GitRepository, branch: str) -> tuple[str, model.Oid] | None:
    tracking = _try(objects, tracking_ref(place.remote, branch))
    if tracking is not None:
        return place.remote, tracking
    local = _try(objects, branch)
    if local is None:
        return None
    printing.say(f"no remote-tracking ref: {branch} of this repository itself is taken for the watched branch")
    return "", local


def _try(objects: repository.GitRepository, name: str) -> model.Oid | None:
    try:
        return objects.resolve(name)
    except errors.ConfigError:
        return None


def _ask_git(path: Path, name: str) -> str:
    """Raises: ConfigError(revision)."""
    import git

    try:
        return str(git.Git(path).rev_parse("--verify", "--end-of-options", f"{name}^{{commit}}"))
    except git.GitCommandError as exc:
        fix = "git fetch first; a branch, HEAD, or an object id is expected"
        raise errors.ConfigError("revision", f"{name!a} names no commit here", where=str(path), fix=fix) from exc
