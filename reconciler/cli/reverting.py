"""`rollback` without --pin: the branch whose merge gives a target the folder that it had before a deployment.

Going back to that state also takes back what was deployed there since: the person is told. The revert is a merge like any
other; the daemon applies the lighter `rollback` rule by itself where it serves (trust.md 5.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from reconciler import documents, errors, model
from reconciler.cli import clone, exit_codes, keys, printing, session
from reconciler.git import writing

_DIGITS = 12  # of a deployment's id, in the branch's name
Row = Mapping[str, JsonValue]


def prepare(
    deployment: str, where: clone.Place, key: Path | None, config_file: Path | None, *, reason: str = "", push: bool
) -> int:
    """Raises: ConfigError(no_deployment | not_revertible | branch | key)."""
    found, later = _deployment(deployment, config_file)
    target, before = str(found.get("target")), found.get("before")
    if not isinstance(before, str):
        fix = f"reconciler rollback {deployment} --pin --reason WHY goes back to what was there before the first deployment"
        raise _impossible(deployment, "before it there was no state in Git", fix)
    if found.get("beforeFolder"):
        fix = "git revert -m 1 takes the whole merge back, the rename with it"
        raise _impossible(deployment, f"before it the target was called {found['beforeFolder']}", fix)
    if key is None:
        fix = "--key FILE signs the revert; --pin goes back at once, without Git"
        raise errors.ConfigError("key", "a revert is a signed commit", where=deployment, fix=fix)
    branch = f"refs/heads/revert-{target}-{deployment[-_DIGITS:]}"
    with clone.opened(where) as here:
        _check(here, target, model.Oid(before), branch)
        made = writing.revert_branch(
            here.path,
            {f"targets/{target}": model.Oid(before)},
            onto=here.base,
            branch=branch,
            signer=keys.signer(here.rules, key, "commit", datetime.now(UTC)),
            message=f"{target}: back to before {deployment}" + (f"\n\n{reason}" if reason else ""),
        )
        remote = here.remote
        if push and remote:
            writing.push_ref(here.path, remote, branch)
    printing.out(f"{made} {branch}")
    _tell(branch.removeprefix("refs/heads/"), later, remote, pushed=push and bool(remote))
    return exit_codes.FINE


def _check(here: clone.Clone, target: str, before: model.Oid, branch: str) -> None:
    """Raises: ConfigError(not_revertible | branch)."""
    name = branch.removeprefix("refs/heads/")
    if not here.repository.exists(before):
        raise _impossible(target, f"the commit {before} is not in this clone", "git fetch, then again")
    then = documents.target_digest(here.repository.tree(before), target)
    now = documents.target_digest(here.repository.tree(here.base), target)
    if then is None:
        raise _impossible(
            target, f"{before} has no targets/{target}/target.yaml", "git revert -m 1 takes a whole merge back"
        )
    if then == now:
        fix = "git fetch where somebody else may have changed it; `reconciler get targets` says what keeps the target elsewhere"
        raise _impossible(target, "on the watched branch it is already as it was before", fix)
    try:
        there = here.repository.resolve(branch)
    except errors.ConfigError:
        return
    fix = f"have it approved: reconciler approve {name} --key KEY --push; or remove it: git branch -D {name}"
    raise errors.ConfigError("branch", f"this revert is prepared already, as {there}", where=branch, fix=fix)


def _impossible(where: str, message: str, fix: str) -> errors.ConfigError:
    return errors.ConfigError("not_revertible", message, where=where, fix=fix)


def _tell(name: str, later: Iterable[Row], remote: str, *, pushed: bool) -> None:
    for each in later:
        printing.say(
            f"takes back too: {printing.text(each.get('id'))}, {printing.text(each.get('cause'))} to "
            f"{printing.short(each.get('revision'))} of {printing.text(each.get('started'))}"
        )
    if remote and not pushed:
        printing.say(f"not pushed: git push {remote} {name}")
    printing.say(f"next: have it approved and merged: reconciler approve {name} --key KEY --push")


def _deployment(deployment: str, config_file: Path | None) -> tuple[Row, tuple[Row, ...]]:
    """The one that is named, and the changes of the same target after it."""
    with session.asking(session.configuration(config_file)) as ask:
        listed = printing.items(ask("GET", "/deployments", {}, None))
        target = next((str(each.get("target")) for each in listed if each.get("id") == deployment), "")
        now = ask("GET", f"/targets/{target}/history", None, None).get("renamedTo") if target else ""
    if now:
        fix = "git revert -m 1 takes a whole merge back, the rename first"
        raise _impossible(deployment, f"its target {target} is called {now} now", fix)
    for at, each in enumerate(listed):
        if each.get("id") == deployment:
            after = [row for row in listed[at + 1 :] if row.get("target") == each.get("target")]
            return each, tuple(row for row in after if row.get("cause") == model.Cause.CHANGE)
    raise errors.ConfigError(
        "no_deployment", "it is not in the log", where=deployment, fix="see: reconciler get deployments"
    )
