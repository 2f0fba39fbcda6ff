"""`merge`: the signed merge of a head onto the watched branch, where no forge makes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from reconciler import errors, model
from reconciler.admission import policy
from reconciler.cli import candidates, clone, exit_codes, keys, options, printing, verifying
from reconciler.git import writing

app = typer.Typer(rich_markup_mode=None)


@app.command()
def merge(
    head: Annotated[str, typer.Argument(metavar="H", help="HEAD, a branch, an object id; or a recovery merge.")],
    key: options.KeyOption,
    *,
    message: Annotated[str, typer.Option("--message", "-m")] = "",
    before_approval: Annotated[
        bool, typer.Option("--before-approval", help="Merge although it is held: approvals may come.")
    ] = False,
    after: Annotated[
        str, typer.Option("--after", help="The last accepted commit, where the watched branch is blocked.")
    ] = "",
    push: options.PushOption = False,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
) -> int:
    """Merge a head with your signature. What would be refused is not merged: it would block everybody behind it."""
    with clone.opened(clone.Place(place, remote, ref), after=after) as here:
        found = candidates.find(here, here.resolve(head))
        if found.landed:
            fix = f"what it lacks: reconciler verify --head {found.commit[:12]}"
            message = "it is on the watched branch already, and waits there"
            raise errors.PermanentError("not_approved", message, where=found.commit, fix=fix)
        _check(found, before_approval=before_approval)
        signer = keys.signer(policy.read_policy(here.repository, found.base), key, "merge", datetime.now(UTC))
        onto = here.watched()
        made = found.commit
        if not found.merged:
            made = writing.merge(
                here.path, found.commit, onto=onto, signer=signer, message=message or f"Merge {found.commit}"
            )
            # Whoever merges fills no slot where the policy says so: only the merge itself shows it.
            _check(candidates.find(here, made), before_approval=before_approval)
        land(here, made, onto, push=push)
    printing.out(made)
    return exit_codes.FINE


def _check(found: candidates.Candidate, *, before_approval: bool) -> None:
    """Raises: PermanentError(excluded)."""
    decision = found.judged.decision
    if decision.verdict is model.Verdict.ACCEPT or (before_approval and decision.verdict is model.Verdict.HOLD):
        return
    verifying.show(verifying.as_document([decision]))
    fix = (
        "have it approved first; --before-approval merges what is only held"
        if decision.verdict is model.Verdict.HOLD
        else ""
    )
    raise errors.PermanentError("not_approved", f"the merge would be a {decision.verdict}", where=found.commit, fix=fix)


def land(here: clone.Clone, made: model.Oid, onto: model.Oid, *, push: bool) -> None:
    """Move the watched branch there: on the remote with `push`, else here where the local branch stands at the same place."""
    if push and here.remote:
        writing.push(here.path, here.remote, made, here.branch)
        printing.say(f"pushed to {here.remote} {here.branch}")
        return
    local = here.local()
    if local == onto:
        writing.advance(here.path, here.branch, made, onto)
        printing.say(f"{here.branch} is at {made}" + (f"; git push {here.remote} {here.branch}" if here.remote else ""))
    else:
        printing.say(f"the local {here.branch} is elsewhere: git push {here.remote or 'REMOTE'} {made}:{here.branch}")
