"""`emergency`: read a change, then break the glass for it. The review afterwards is `reviews.py`'s. See docs/how-to/sre.md."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from reconciler import errors, model
from reconciler.admission import policy, statement
from reconciler.audit import record
from reconciler.cli import (
    approving,
    candidates,
    changes,
    clone,
    durations,
    exit_codes,
    keys,
    options,
    printing,
    sealing,
    spent,
)

app = typer.Typer(rich_markup_mode=None)

FileOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the envelope to this file, not to a ref.")
]


@app.command()
def emergency(  # noqa: PLR0913 - one option for each field of a statement
    head: Annotated[str, typer.Argument(metavar="H", help="HEAD, a branch, an object id; or a merge that waits.")],
    key: options.KeyOption,
    *,
    incident: Annotated[str, typer.Option("--incident", help="What it is for: INC0012345.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why there is no time for the usual approvals.")],
    for_: Annotated[
        str, typer.Option("--for", help="How long it is good for; else as long as the policy allows.")
    ] = "",
    ticket: Annotated[str, typer.Option("--ticket")] = "",
    uri: Annotated[str, typer.Option("--uri", help="Of the request.")] = "",
    ack_manual_merge: Annotated[
        bool, typer.Option("--ack-manual-merge", help="The merge is not git's own: you read it.")
    ] = False,
    after: Annotated[
        str, typer.Option("--after", help="The last accepted commit, where the watched branch is blocked.")
    ] = "",
    push: options.PushOption = False,
    yes: options.YesOption = False,
    file: options.FileOption = None,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
) -> int:
    """Read a change, then break the glass for it: a signed statement in place of approvals, windows, and freezes that allow it."""
    with clone.opened(clone.Place(place, remote, ref), after=after) as here:
        found = candidates.find(here, here.resolve(head))
        rules = policy.read_policy(here.repository, found.base)
        for line in (*approving.describe(here, found, rules), *_stands_in(here, found, rules)):
            printing.out(line)
        person = keys.owner(rules, key, "approve", datetime.now(UTC)).name
        rule = _scope(found, rules, person, incident)
        if not reason.strip():
            raise errors.ConfigError("emergency_scope", "it gives no reason", where="--reason", fix="say why")
        if found.judged.manual and not ack_manual_merge:
            message = "the merge was made by hand: what it holds is not what git would have merged"
            fix = "read it, then --ack-manual-merge"
            raise errors.ConfigError("ack_manual_merge", message, where=found.commit, fix=fix)
        lifetime = _lifetime(for_, rule)
        if not yes:
            typer.confirm(f"{person}: break the glass for {lifetime}?", abort=True, err=True)
        now = datetime.now(UTC).replace(microsecond=0)
        claim = statement.Claim(
            binding=sealing.bound(found),
            decision="emergency",
            person=person,
            change=record.Ticket(uri=uri, ticket=ticket, reason=reason),
            ack_manual_merge=ack_manual_merge,
            issued_at=now,
            expires_at=now + lifetime - sealing.SKEW,
            incident=incident,
        )
        sealing.sign(here, rules, claim, key, file, push=push)
        if file is None:
            _conclude(candidates.find(here, found.commit, landed=True).judged.decision)
    return exit_codes.FINE


def _stands_in(here: clone.Clone, found: candidates.Candidate, rules: policy.Policy) -> Iterator[str]:
    """What the policy lets an emergency do for this change, and what it costs."""
    rule = rules.emergency
    if rule is None:
        return
    yield f"breaks glass {', '.join(str(slot) for slot in rule.need)}; at most {rule.max_per_week} a week"
    yield from spent.describe(here, rule, datetime.now(UTC))
    for name in found.judged.binding.environments if found.judged.binding else ():
        now = datetime.now(UTC)
        closed, strict = rules.deferred(name, now), rules.deferred(name, now, emergency=True)
        if closed:
            yield f"closed       {closed[0].message}{': even for an emergency' if strict else ': not for an emergency'}"
    asked = ", ".join(str(slot) for slot in rule.review.need)
    yield f"owes         a review by {asked}, other people, within {durations.told(rule.review.within)}"


def _scope(found: candidates.Candidate, rules: policy.Policy, person: str, incident: str) -> policy.Emergency:
    """Refuse to sign what could not count.

    Raises: ConfigError(emergency_scope); PermanentError(excluded | not_readable).
    """
    rule, decision = rules.emergency, found.judged.decision
    sealing.bound(found)
    if rule is None:
        fix = "get the usual approvals"
        raise errors.ConfigError("emergency_scope", "the policy allows no emergency", where=policy.PATH, fix=fix)
    if decision.policies is not None or (found.judged.effect and any(map(_guarded, found.judged.effect.paths))):
        message = "no emergency ever lets a change of the policies in"
        raise errors.ConfigError("emergency_scope", message, where=policy.PATH, fix="get the approvals of rule `meta`")
    if decision.skipped:
        message = "no emergency lets a recovery merge in"
        raise errors.ConfigError("emergency_scope", message, where=found.commit, fix="get the approvals of `recovery`")
    if "incident" in rule.requires and not incident.strip():
        raise errors.ConfigError("emergency_scope", "it names no incident", where="--incident", fix="--incident INC1")
    if person in decision.duties.excluded:
        message = f"{person} signed, or is named in, a commit of this change and may not break the glass for it"
        raise errors.PermanentError("excluded", message, where=found.head, fix="ask somebody else")
    if not any(person in rules.members(slot.among) for slot in rule.need):
        message = f"{person} may not break the glass: {', '.join(str(slot) for slot in rule.need)}"
        raise errors.PermanentError("excluded", message, where=policy.PATH, fix="ask one of them")
    return rule


def _guarded(path: bytes) -> bool:
    return path.startswith(b"policies/")


def _lifetime(asked: str, rule: policy.Emergency) -> timedelta:
    longest_s = min(rule.max_duration, policy.LONGEST_EMERGENCY_S)
    wanted_s = durations.seconds(asked, "--for") if asked else longest_s
    if wanted_s > longest_s:
        message = f"the policy allows {durations.told(longest_s)}"
        raise errors.ConfigError("emergency_scope", message, where="--for", fix="ask for less")
    return timedelta(seconds=wanted_s)


def _conclude(decision: record.Decision) -> None:
    """The verdict with this statement counted. How many there were this week is on the daemon's record: see `spent.py`."""
    printing.out(f"verdict      {decision.verdict}")
    for reason in decision.reasons:
        printing.out(f"             {changes.visible(printing.reason(reason.model_dump()))}")
    if decision.emergency is not None:
        printing.out(
            f"broken       until {model.print_time(decision.emergency.until)}; then what is closed holds again"
        )
    elif decision.verdict is model.Verdict.ACCEPT:
        printing.out("not needed   the usual approvals are there, and nothing is closed")
