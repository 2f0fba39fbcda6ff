"""`review`: look at what an emergency let in, then sign that you did. Breaking the glass is `emergencies.py`'s.

When a merge went in is on the daemon's record: a clone takes every review for later. See docs/how-to/sre.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from reconciler import errors, model
from reconciler.admission import form, policy, reviewing, statement, voting
from reconciler.audit import record
from reconciler.cli import candidates, changes, clone, exit_codes, keys, options, printing, sealing

app = typer.Typer(rich_markup_mode=None)
_EVER = datetime.fromtimestamp(0, UTC)


@app.command()
def review(  # noqa: PLR0913 - one option for each field of a statement
    merge: Annotated[str, typer.Argument(metavar="M", help="The merge that an emergency let in, or its head.")],
    key: options.KeyOption,
    *,
    reason: Annotated[str, typer.Option("--reason", help="What you found.")] = "",
    ticket: Annotated[str, typer.Option("--ticket")] = "",
    push: options.PushOption = False,
    yes: options.YesOption = False,
    file: options.FileOption = None,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
) -> int:
    """Read what an emergency let in, then sign that you looked at it: what the policy's `emergency.review` asks for."""
    with clone.opened(clone.Place(place, remote, ref)) as here:
        found = candidates.find(here, here.resolve(merge), landed=True)
        rules = here.rules
        owed = owed_for(here, found)
        for line in _told(here, found, owed):
            printing.out(line)
        person = keys.owner(rules, key, "approve", datetime.now(UTC)).name
        _may_review(person, owed, rules)
        if not yes:
            typer.confirm(f"{person}: sign this review?", abort=True, err=True)
        now = datetime.now(UTC).replace(microsecond=0)
        claim = statement.Claim(
            binding=sealing.bound(found),
            decision="review",
            person=person,
            change=record.Ticket(ticket=ticket, reason=reason),
            issued_at=now,
            expires_at=now + timedelta(seconds=rules.defaults.approval_ttl) - sealing.SKEW,
        )
        sealing.sign(here, rules, claim, key, file, push=push)
        if file is None:
            for line in missing(reviewed(here, owed)):
                printing.out(line)
    return exit_codes.FINE


def owed_for(here: clone.Clone, found: candidates.Candidate) -> record.Obligation:
    """What the daemon owes for this merge, as far as a clone can know: everybody who reached for the glass may not review.

    Raises: ConfigError(no_emergency).
    """
    decision, bound = found.judged.decision, sealing.bound(found)
    people = {each.person for each in decision.approvals if each.decision == "emergency" and each.person}
    if not people or not found.merged:
        message = f"no emergency let {found.commit[:12]} in"
        raise errors.ConfigError("no_emergency", message, where=found.commit, fix="reconciler get obligations")
    rule = here.rules.emergency
    return record.Obligation(
        change="opened",
        kind="review",
        revision=found.commit,
        base=found.base,
        head=bound.head,
        effect=bound.effect,
        environments=bound.environments,
        people=tuple(sorted(people)),
        barred=tuple(sorted({*decision.duties.authors, *decision.duties.excluded})),
        need=tuple(str(slot) for slot in rule.review.need) if rule else (),
        opened=_EVER,
    )


def reviewed(here: clone.Clone, owed: record.Obligation) -> reviewing.Reviewed:
    terms = form.Terms(production=False)  # Nothing of it matters to a review.
    return reviewing.judge(here.repository, owed, here.known, terms=terms, now=datetime.now(UTC))


def missing(done: reviewing.Reviewed) -> Iterator[str]:
    yield f"reviewed     by {', '.join(done.people) or 'nobody'}"
    for reason in done.missing:
        yield f"missing      {reason.message}"
    if not done.missing:
        yield "complete     the daemon records it at its next poll"


def _may_review(person: str, owed: record.Obligation, rules: policy.Policy) -> None:
    """Raises: PermanentError(excluded)."""
    if person in {*owed.people, *owed.barred}:
        message = f"{person} broke the glass, or has a part in the change, and may not review it"
        raise errors.PermanentError("excluded", message, where=owed.revision, fix="ask somebody else")
    slots = rules.emergency.review.need if rules.emergency else ()
    if not any(person in rules.members(slot.among) for slot in slots):
        message = f"{person} may not review an emergency: {', '.join(map(str, slots)) or 'the policy asks nobody'}"
        raise errors.PermanentError("excluded", message, where=policy.PATH, fix="ask one of them")


def _told(here: clone.Clone, found: candidates.Candidate, owed: record.Obligation) -> Iterator[str]:
    """What there is to look at: who broke the glass and why, and what that let in."""
    yield f"repository   {here.rules.repository.id}"
    yield f"merge        {found.commit} of {found.head}"
    yield f"effect       {owed.effect}"
    yield f"environments {', '.join(owed.environments) or '-'}"
    yield f"targets      {', '.join(found.judged.decision.targets) or '-'}"
    for said in _emergencies(here, found):
        text = f"{said.person}, {model.print_time(said.issued_at)}: {said.incident}: {said.change.reason}"
        yield f"emergency    {changes.visible(text)}"
    for each in found.judged.decision.commits:
        yield f"commit       {each.oid} signed by {each.signer or 'nobody known'}, author {changes.visible(each.author)}"
    if found.judged.effect is not None:
        before = here.repository.tree(found.base)
        yield from changes.diff(here.repository, before, found.after, found.judged.effect.paths)


def _emergencies(here: clone.Clone, found: candidates.Candidate) -> list[statement.Statement]:
    casts = voting.read_statements(here.repository, (found.head,), here.rules, {}, datetime.now(UTC))
    said = (cast.opened for cast in casts if isinstance(cast.opened, statement.Statement))
    known = [each for each in said if here.rules.knows(each.key.key_id)]
    return sorted((each for each in known if each.decision == "emergency"), key=lambda each: each.issued_at)
