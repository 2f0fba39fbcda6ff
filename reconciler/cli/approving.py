"""`approve`: show a change and what speaks for and against it; then, and only then, sign. See docs/how-to/approver.md."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from reconciler import errors, model
from reconciler.admission import judging, policy, statement
from reconciler.audit import record
from reconciler.cli import candidates, changes, clone, exit_codes, keys, options, printing
from reconciler.git import writing

app = typer.Typer(rich_markup_mode=None)
_SKEW = timedelta(seconds=1)  # whole seconds in a statement: never from the future


class _Wish(NamedTuple):
    """What the person wants to say."""

    decision: statement.Decision
    revokes: model.Digest | None
    ticket: record.Ticket
    manual: bool
    expires: str


@app.command()
def approve(  # noqa: PLR0913 - one option for each field of a statement
    head: Annotated[str, typer.Argument(metavar="H", help="HEAD, a branch, an object id; or a merge that waits.")],
    key: options.KeyOption,
    *,
    reject: Annotated[bool, typer.Option("--reject", help="Say no: it holds the merge.")] = False,
    revoke: Annotated[str, typer.Option("--revoke", help="SHA256 of the statement to take back.")] = "",
    ack_manual_merge: Annotated[
        bool, typer.Option("--ack-manual-merge", help="The merge is not git's own: you read it.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why the change is made.")] = "",
    ticket: Annotated[str, typer.Option("--ticket")] = "",
    uri: Annotated[str, typer.Option("--uri", help="Of the request.")] = "",
    risk: Annotated[str, typer.Option("--risk")] = "",
    security_impact: Annotated[str, typer.Option("--security-impact")] = "",
    expires: Annotated[
        str, typer.Option("--expires", help="How long it is good for; else as long as the policy allows.")
    ] = "",
    after: Annotated[
        str, typer.Option("--after", help="The last accepted commit, where the watched branch is blocked.")
    ] = "",
    push: options.PushOption = False,
    yes: options.YesOption = False,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the envelope to this file, not to a ref.")
    ] = None,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
) -> int:
    """Read a change, then sign a statement about exactly this effect: an approval, a rejection, or a revocation."""
    said = record.Ticket(uri=uri, ticket=ticket, risk=risk, reason=reason, security_impact=security_impact)
    if reject and revoke:
        raise errors.ConfigError("usage", "--reject and --revoke are two decisions", fix="one at a time")
    decision: statement.Decision = "reject" if reject else "revoke" if revoke else "approve"
    wish = _Wish(decision, model.Digest(revoke) if revoke else None, said, ack_manual_merge, expires)
    with clone.opened(clone.Place(place, remote, ref), after=after) as here:
        found = candidates.find(here, here.resolve(head), landed=wish.decision != "approve")
        rules = policy.read_policy(here.repository, found.base)
        for line in describe(here, found, rules):
            printing.out(line)
        person = keys.owner(rules, key, "approve", datetime.now(UTC)).name
        _check(found, person, wish)
        if not yes:
            typer.confirm(f"{person}: sign this {decision}?", abort=True, err=True)
        envelope = make(rules, found.judged, (key, person), wish)
        printing.out(f"statement    {_digest(envelope, rules)}")
        _keep(here, found.head, envelope, file, push=push)
        if file is None:
            _conclude(candidates.find(here, found.commit, landed=wish.decision != "approve").judged.decision)
    return exit_codes.FINE


def describe(here: clone.Clone, found: candidates.Candidate, rules: policy.Policy) -> Iterator[str]:
    """All that an approver answers for."""
    decision, judged = found.judged.decision, found.judged
    yield f"repository   {rules.repository.id}"
    yield f"branch       {rules.repository.ref} at {found.base}"
    yield f"head         {found.head}" + (f", merged as {found.commit}" if found.merged else "")
    yield f"effect       {decision.effect or 'not known'}"
    yield f"policy       {rules.digest}"
    if judged.binding:
        yield f"environments {', '.join(judged.binding.environments) or '-'}"
        for oid in judged.binding.skips:
            yield f"passes over  {oid}"
    yield f"targets      {', '.join(decision.targets) or '-'}"
    for each in decision.commits:
        yield f"commit       {each.oid} signed by {each.signer or 'nobody known'}, author {changes.visible(each.author)}"
    if judged.effect is not None:
        before = here.repository.tree(found.base)
        yield from changes.diff(here.repository, before, found.after, judged.effect.paths)
    for rule in decision.rules:
        yield f"rule         {rule.id}: needs {', '.join(rule.need)}; has {', '.join(rule.got) or 'nobody'}"
    for slot in judged.open:
        yield f"missing      {slot.missing} of {slot.slot}; may: {', '.join(slot.may) or 'nobody'}"
    if decision.duties.excluded:
        yield f"excluded     {', '.join(decision.duties.excluded)}: signed, or named in, a commit of this change"
    if judged.manual:
        yield "manual merge its content is not git's own merge: --ack-manual-merge says that you read it"
    for reason in decision.reasons:
        yield f"{decision.verdict}         {changes.visible(printing.reason(reason.model_dump()))}"


def _check(found: candidates.Candidate, person: str, wish: _Wish) -> None:
    """Refuse to sign what could not count.

    Raises: PermanentError(excluded | not_readable); ConfigError(ack_manual_merge).
    """
    judged = found.judged
    if judged.binding is None:
        why = (
            judged.decision.reasons[0]
            if judged.decision.reasons
            else model.Reason(code="unknown", message="not judged")
        )
        fix = why.fix
        if why.code == "nothing_merged":
            fix = "where its merge waits: --after OID, the last accepted commit (reconciler get status)"
        raise errors.PermanentError(
            "not_readable", f"there is nothing to sign: {why.message}", where=why.where, fix=fix
        )
    if wish.decision != "approve":
        return
    if person in judged.decision.duties.excluded:
        message = f"{person} signed, or is named in, a commit of this change and may not approve it"
        raise errors.PermanentError("excluded", message, where=found.head, fix="ask somebody else")
    if judged.manual and not wish.manual:
        message = "the merge was made by hand: what it holds is not what git would have merged"
        raise errors.ConfigError(
            "ack_manual_merge", message, where=found.commit, fix="read it, then --ack-manual-merge"
        )


def make(rules: policy.Policy, judged: judging.Judged, by: tuple[Path, str], wish: _Wish) -> bytes:
    """The signed envelope, opened again by our own verifier before anybody gets it.

    Raises: ConfigError(key | envelope_invalid | ttl).
    """
    key, person = by
    if judged.binding is None:
        raise errors.PermanentError("not_readable", "there is nothing to sign")
    now = datetime.now(UTC).replace(microsecond=0)
    claim = statement.Claim(
        binding=judged.binding,
        decision=wish.decision,
        person=person,
        change=wish.ticket,
        ack_manual_merge=wish.manual,
        issued_at=now,
        expires_at=now + timedelta(seconds=_lifetime_s(rules, wish.expires)) - _SKEW,
        revokes=wish.revokes,
    )
    try:
        payload = statement.make_payload(claim)
    except ValueError as exc:
        raise errors.ConfigError("envelope_invalid", f"the statement cannot be made: {exc}") from exc
    envelope = statement.make_envelope(
        payload, keys.sign(key, statement.pae(payload), rules.namespace), keys.key_id(key)
    )
    opened = statement.open_envelope(envelope, namespace=rules.namespace)
    if isinstance(opened, model.Reason) or opened.binding != judged.binding:
        why = opened.message if isinstance(opened, model.Reason) else "it binds something else"
        raise errors.ConfigError("envelope_invalid", f"our own verifier refuses the signature: {why}", where=str(key))
    return envelope


def _digest(envelope: bytes, rules: policy.Policy) -> model.Digest | str:
    """What `--revoke` takes."""
    opened = statement.open_envelope(envelope, namespace=rules.namespace)
    return opened.digest if isinstance(opened, statement.Statement) else "-"


def _lifetime_s(rules: policy.Policy, expires: str) -> float:
    from reconciler.cli import durations

    longest_s = rules.defaults.approval_ttl
    wanted_s = durations.seconds(expires, "--expires") if expires else longest_s
    if wanted_s > longest_s:
        raise errors.ConfigError("ttl", f"the policy allows {longest_s:.0f} s", where="--expires", fix="ask for less")
    return wanted_s


def _conclude(decision: record.Decision) -> None:
    """The verdict with this statement counted: whoever signed shall know whether somebody else has to."""
    printing.out(f"verdict      {decision.verdict}")
    for reason in decision.reasons:
        printing.out(f"             {changes.visible(printing.reason(reason.model_dump()))}")


def _keep(here: clone.Clone, head: model.Oid, envelope: bytes, file: Path | None, *, push: bool) -> None:
    if file is not None:
        file.write_bytes(envelope)
        printing.out(f"written      {file}")
        return
    ref = writing.write_approval(here.path, head, envelope)
    printing.out(f"written      {ref}")
    if push and here.remote:
        writing.push_ref(here.path, here.remote, ref)
        printing.out(f"pushed       {here.remote}")
    elif push:
        printing.say("kept here: this repository is the watched one")
    elif here.remote:
        printing.say(f"not pushed: git push {here.remote} {ref}")
