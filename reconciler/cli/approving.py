"""`approve`: show a change and what speaks for and against it; then, and only then, sign. See docs/how-to/approver.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from reconciler import errors, model
from reconciler.admission import judging, policy, statement, waiving
from reconciler.audit import record
from reconciler.cli import candidates, changes, clone, describing, exit_codes, keys, options, printing, sealing, since

app = typer.Typer(rich_markup_mode=None)

_NOUNS = {"approve": "approval", "reject": "rejection", "revoke": "revocation", "waive": "waiver"}

describe = describing.describe


class _Wish(NamedTuple):
    """What the person wants to say."""

    decision: statement.Decision
    revokes: model.Digest | None
    ticket: record.Ticket
    manual: bool
    expires: str
    waives: tuple[str, str] = ("", "")  # gate and rule


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
    waive: Annotated[
        str, typer.Option("--waive", metavar="GATE:RULE", help="Answer for this finding of a gate; --reason says why.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why the change is made; of a waiver: why it may pass.")] = "",
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
    gates: Annotated[
        bool | None, typer.Option("--gates/--no-gates", help="Run the gates of content first; else unless --yes.")
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="reconciler.yaml: ask its daemon for gates and plan.")
    ] = None,
    push: options.PushOption = False,
    yes: options.YesOption = False,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the envelope to this file, not to a ref.")
    ] = None,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
) -> int:
    """Read a change, then sign a statement about exactly this effect: an approval, a rejection, a revocation, a waiver."""
    said = record.Ticket(uri=uri, ticket=ticket, risk=risk, reason=reason, security_impact=security_impact)
    decision = _decision(reject=reject, revoke=revoke, waive=waive)
    wish = _Wish(
        decision, model.Digest(revoke) if revoke else None, said, ack_manual_merge, expires, _rule(waive, reason)
    )
    with clone.opened(clone.Place(place, remote, ref), after=after) as here:
        found = candidates.find(here, here.resolve(head), landed=True)
        # Gates, and so waivers, go by the policy in force now; a merge by the one that stood before it.
        rules = here.rules if waive else policy.read_policy(here.repository, found.base)
        person = keys.owner(rules, key, "approve", datetime.now(UTC)).name
        run = (not yes) if gates is None else gates
        _show(here, found, rules, wish, (person, config_file if run else None), run=run)
        wish = _acknowledged(found, person, wish, yes=yes)
        _check(found, person, wish, rules)
        if not yes:
            typer.confirm(f"{person}: sign this {_NOUNS[decision]}?", abort=True, err=True)
        envelope = make(rules, found.judged, (key, person), wish)
        printing.out(f"statement    {sealing.digest(envelope, rules)}")
        sealing.keep(here, found.head, envelope, file, push=push)
        if file is None:
            _conclude(here, found, rules, wish)
    return exit_codes.FINE


def _decision(*, reject: bool, revoke: str, waive: str) -> statement.Decision:
    """Raises: ConfigError(usage) for two at a time."""
    if sum(map(bool, (reject, revoke, waive))) > 1:
        raise errors.ConfigError("usage", "--reject, --revoke and --waive are three decisions", fix="one at a time")
    return "reject" if reject else "revoke" if revoke else "waive" if waive else "approve"


def _rule(waive: str, reason: str) -> tuple[str, str]:
    """`opa:compliance_policy.privileged`. Raises: ConfigError(usage)."""
    gate, _, rule = waive.partition(":")
    if waive and not (gate and rule):
        fix = "--waive opa:compliance_policy.privileged, as `reconciler gates run` shows it in brackets"
        raise errors.ConfigError("usage", f"{waive!r} names no gate and rule", where="--waive", fix=fix)
    if waive and not reason:
        raise errors.ConfigError(
            "usage", "a waiver says why the finding may pass", where="--waive", fix="--reason TEXT"
        )
    return gate, rule


def _show(
    here: clone.Clone,
    found: candidates.Candidate,
    rules: policy.Policy,
    wish: _Wish,
    by: tuple[str, Path | None],
    *,
    run: bool,
) -> None:
    """Everything that the person answers for (trust.md 3.3)."""
    person, config_file = by
    for line in describe(here, found, rules):
        printing.out(line)
    if wish.decision in {"reject", "revoke"} or found.judged.binding is None:
        return
    for line in describing.consequences(here, found, rules, datetime.now(UTC)):
        printing.out(line)
    if run:
        _rehearse(here, found, rules, config_file)
    for line in since.describe(here, found, rules, person, uri=wish.ticket.uri):
        printing.out(line)
    printing.out(f"expires      {model.print_time(datetime.now(UTC) + timedelta(seconds=_lifetime_s(rules, wish)))}")


def _rehearse(here: clone.Clone, found: candidates.Candidate, rules: policy.Policy, config_file: Path | None) -> None:
    """What the gates say, and what would be written: asked of the daemon, or as far as a clone can know."""
    from reconciler.cli import planning, reading, rehearsing

    if config_file is not None:
        where = clone.Place(here.path, here.remote)
        gates, plans = (planning.ask(path, where, found.head, config_file) for path in ("/gates/run", "/plan"))
        if gates is not None and plans is not None:
            reading.gates_run(gates)
            reading.plans(plans)
            return
    if not found.judged.decision.targets:
        printing.out("gate         none: no target is touched")
        return
    onto = describing.repository_of(here, found)
    decision = found.judged.decision
    for line in describing.gates(rehearsing.run(here.at(found.base), decision, onto), rules):
        printing.out(line)
    printing.out("plan         the change of content above; what would be written a daemon knows: --config FILE")


def _acknowledged(found: candidates.Candidate, person: str, wish: _Wish, *, yes: bool) -> _Wish:
    """A merge that was made by hand is a question of its own."""
    if not found.judged.manual or wish.manual or wish.decision != "approve" or yes:
        return wish
    if person in found.judged.decision.duties.excluded:
        return wish
    asked = f"{person}: the merge was made by hand; have you read what differs from git's own?"
    typer.confirm(asked, abort=True, err=True)
    return wish._replace(manual=True)


def _check(found: candidates.Candidate, person: str, wish: _Wish, rules: policy.Policy) -> None:
    """Refuse to sign what could not count.

    Raises: PermanentError(excluded | not_readable); ConfigError(ack_manual_merge | waive).
    """
    judged = found.judged
    if found.landed and wish.decision == "approve" and judged.decision.verdict is model.Verdict.ACCEPT:
        message = f"there is nothing left to approve: merged as {found.commit[:12]}, it has all that it needs"
        fix = f"where the daemon holds it still, as `reconciler get revisions` says: --after {found.base}"
        raise errors.PermanentError("not_readable", message, where=found.head, fix=fix)
    if judged.binding is None:
        why = (
            judged.decision.reasons[0]
            if judged.decision.reasons
            else model.Reason(code="unknown", message="not judged")
        )
        fix = why.fix
        if why.code == "nothing_merged":
            fix = "name the head or the merge that waits (reconciler get revisions); behind a refused one with --after OID, the last accepted commit (reconciler get status)"
        raise errors.PermanentError(
            "not_readable", f"there is nothing to sign: {why.message}", where=why.where, fix=fix
        )
    if wish.decision in {"reject", "revoke"}:
        return
    if person in judged.decision.duties.excluded:
        message = f"{person} signed, or is named in, a commit of this change and may not approve it"
        raise errors.PermanentError("excluded", message, where=found.head, fix="ask somebody else")
    if wish.decision == "waive":
        _check_waiver(person, wish, rules)
        return
    if judged.manual and not wish.manual:
        message = "the merge was made by hand: what it holds is not what git would have merged"
        raise errors.ConfigError(
            "ack_manual_merge", message, where=found.commit, fix="read it, then --ack-manual-merge"
        )


def _check_waiver(person: str, wish: _Wish, rules: policy.Policy) -> None:
    gate, rule = wish.waives
    if not waiving.may_be_waived(rules, gate):
        message = f"the policy lets nobody answer for a finding of `{gate}`"
        fix = "mend it; gates.waive and gates.critical say what may be waived"
        raise errors.ConfigError("waive", message, where=policy.PATH, fix=fix)
    teams = rules.gates.waive.need if rules.gates.waive else ()
    if not any(person in rules.members(slot.among) for slot in teams):
        may = ", ".join(str(slot) for slot in teams)
        message = f"{person} may not answer for {gate}:{rule}; it takes {may}"
        raise errors.PermanentError("excluded", message, where=policy.PATH, fix="ask one of them")


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
        expires_at=now + timedelta(seconds=_lifetime_s(rules, wish)) - sealing.SKEW,
        revokes=wish.revokes,
        gate=wish.waives[0],
        rule=wish.waives[1],
        reason=wish.ticket.reason if wish.decision == "waive" else "",
    )
    return sealing.seal(rules, key, claim)


def _lifetime_s(rules: policy.Policy, wish: _Wish) -> float:
    from reconciler.cli import durations

    waiving_s = rules.gates.waive.max_duration if rules.gates.waive else 0
    longest_s = waiving_s if wish.decision == "waive" else rules.defaults.approval_ttl
    wanted_s = durations.seconds(wish.expires, "--expires") if wish.expires else longest_s
    if wanted_s > longest_s:
        raise errors.ConfigError("ttl", f"the policy allows {longest_s:.0f} s", where="--expires", fix="ask for less")
    return wanted_s


def _conclude(here: clone.Clone, found: candidates.Candidate, rules: policy.Policy, wish: _Wish) -> None:
    """The verdict with this statement counted: whoever signed shall know whether somebody else has to."""
    decision = candidates.find(here, found.commit, landed=True).judged.decision
    if wish.decision == "waive":
        _conclude_waiver(here, found, rules, wish)
        return
    printing.out(f"verdict      {decision.verdict}")
    for reason in decision.reasons:
        printing.out(f"             {changes.visible(printing.reason(reason.model_dump()))}")


def _conclude_waiver(here: clone.Clone, found: candidates.Candidate, rules: policy.Policy, wish: _Wish) -> None:
    onto, around = describing.repository_of(here, found), waiving.Circumstances(datetime.now(UTC))
    waivers = waiving.find(onto, found.judged.decision, rules, around)
    named = ":".join(wish.waives)
    if granted := waivers.granted.get(wish.waives):
        printing.out(f"waived       {named} by {', '.join(granted.people)} until {model.print_time(granted.until)}")
        return
    for slot in waivers.open.get(wish.waives, ()):
        printing.out(f"missing      {slot.missing} of {slot.slot} for {named}; may: {', '.join(slot.may) or 'nobody'}")
