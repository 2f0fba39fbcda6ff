"""`rollback` without --pin: the branch whose merge gives a target the folder that it had before a deployment."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from reconciler import errors, model
from reconciler.cli import clone, exit_codes, keys, printing, session
from reconciler.git import writing


def prepare(deployment: str, where: clone.Place, key: Path | None, config_file: Path | None) -> int:
    """Raises: ConfigError(no_deployment | not_revertible | key)."""
    found = _deployment(deployment, config_file)
    target, before = str(found.get("target")), found.get("before")
    if not isinstance(before, str):
        message = "before it there was no state in Git"
        fix = "reconciler rollback --pin goes back to what was there before the first deployment"
        raise errors.ConfigError("not_revertible", message, where=deployment, fix=fix)
    if key is None:
        fix = "--key FILE signs the revert; --pin goes back at once, without Git"
        raise errors.ConfigError("key", "a revert is a signed commit", where=deployment, fix=fix)
    name = f"refs/heads/revert-{target}-{deployment[-12:]}"
    with clone.opened(where) as here:
        signer = keys.signer(here.rules, key, "commit", datetime.now(UTC))
        made = writing.revert_branch(
            here.path,
            {f"targets/{target}": model.Oid(before)},
            onto=here.base,
            branch=name,
            signer=signer,
            message=f"{target}: back to before {deployment}",
        )
    printing.out(f"{made} {name}")
    printing.say(f"next: have it approved and merged: reconciler approve {name.removeprefix('refs/heads/')} --key KEY")
    return exit_codes.FINE


def _deployment(deployment: str, config_file: Path | None) -> dict[str, JsonValue]:
    with session.asking(session.configuration(config_file)) as ask:
        listed = printing.items(ask("GET", "/deployments", {}, None))
    for each in listed:
        if each.get("id") == deployment:
            return each
    raise errors.ConfigError("no_deployment", "it is not in the log", where=deployment, fix="see: get deployments")
