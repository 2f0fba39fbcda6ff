"""`verify`: the daemon's verdicts, before it gives them. In a clone, in a pipeline, and as a pre-receive hook."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from reconciler import config, errors, model, redact
from reconciler.admission import judging
from reconciler.audit import record, state
from reconciler.cli import candidates, clone, exit_codes, fetching, options, printing, reading, session
from reconciler.daemon import clock
from reconciler.views import revisions

app = typer.Typer(rich_markup_mode=None)
_GONE = "0"
_UNCOUNTED = (
    "note: how many emergencies there were this week is on the daemon's record: reconciler get obligations --all"
)


@app.command()
def verify(
    *,
    head: Annotated[
        str, typer.Option("--head", help="Judge the automatic merge of this head; or its merge, where it was made.")
    ] = "",
    after: Annotated[str, typer.Option("--after", help="The last accepted commit, all digits of its id.")] = "",
    tip: Annotated[str, typer.Option("--tip", help="Judge up to here; else the watched branch.")] = "",
    pre_receive: Annotated[bool, typer.Option("--pre-receive", help="As a hook: read its input.")] = False,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Judge every commit after the last accepted one, or a head that is not merged yet. Exits with 4 where one is refused."""
    where = clone.Place(place, remote, ref)
    if pre_receive:
        return _receive(where, after or tip_of_daemon(config_file), output)
    if not clone.is_clone(place):
        return _ask(head, config_file, output)
    if config_file is not None and head:
        with clone.opened(where) as here:
            return _ask(here.resolve(head), config_file, output)
    if config_file is not None and not after:
        after = tip_of_daemon(config_file)
    with clone.opened(where, after=after) as here:
        found = _judge(here, head, tip, after)
    printing.emit(as_document(found), output, show)
    if any(each.decision.emergency for each in found):
        printing.say(_UNCOUNTED)
    return exit_code([each.decision for each in found])


def walk(here: clone.Clone, tip: model.Oid) -> tuple[judging.Judged, ...]:
    """The verdicts on all that follows the base, each ACCEPT the base of the next. Nothing is recorded."""
    known = here.known
    found: dict[model.Oid, judging.Judged] = {}

    def keep(judged: judging.Judged) -> state.State:
        nonlocal known
        decision = judged.decision
        found[decision.revision] = judged
        if decision.verdict is model.Verdict.ACCEPT:
            known = judging.clone_state(decision.revision)
        return known

    decided = judging.walk(here.repository, tip, known, keep, terms=here.terms, clock=clock.SystemClock())
    unheard = (judging.Judged(each) for each in decided if each.revision not in found)  # Of a rewritten history.
    return (*found.values(), *unheard)


def examine(here: clone.Clone, head: model.Oid) -> judging.Judged:
    """The automatic merge of a head that is not merged yet, onto where the watched branch stands."""
    return judging.examine_head(here.repository, head, here.known, terms=here.terms, now=clock.SystemClock().now())


def as_document(found: Iterable[record.Decision | judging.Judged]) -> dict[str, JsonValue]:
    """A RevisionList, oldest first; a HALT is one item."""
    made = revisions.judged(found).model_dump(mode="json", by_alias=True)
    clean = redact.document(made)
    return clean if isinstance(clean, dict) else {}


def exit_code(decisions: Sequence[record.Decision]) -> int:
    return exit_codes.worst(exit_codes.of_verdict(d.verdict, [r.code for r in d.reasons]) for d in decisions)


def show(document: printing.Document) -> None:
    """The table; then which rules apply and who may fill what is open; then every reason, each with its way out."""
    reading.revisions(document)
    for each in printing.items(document):
        _slots(each)
        _mergers(each)
        for reason in printing.listed(each.get("reasons")):
            printing.out(f"{printing.short(each.get('revision'))} {printing.reason(reason)}")
        if isinstance(broken := each.get("emergency"), dict):
            who, incident, until = (printing.text(broken.get(name)) for name in ("people", "incident", "until"))
            printing.out(
                f"{printing.short(each.get('revision'))} emergency: {incident} by {who}, until {until}; owes a review"
            )


def _slots(revision: printing.Document) -> None:
    if revision.get("verdict") == model.Verdict.ACCEPT:
        return
    of = printing.short(revision.get("revision"))
    for rule in printing.listed(revision.get("rules")):
        need, got = printing.text(rule.get("need")), printing.text(rule.get("got"))
        printing.out(f"{of} rule {printing.text(rule.get('id'))}: needs {need}; has {got}")
    for slot in printing.listed(revision.get("open")):
        missing, may = printing.text(slot.get("missing")), printing.text(slot.get("may"))
        printing.out(f"{of} missing {missing} of {printing.text(slot.get('slot'))}; may: {may}")


def _mergers(revision: printing.Document) -> None:
    """Said only where it is not everybody's: who is needed to approve may not merge."""
    who = revision.get("mergers")
    if not isinstance(who, dict) or not who.get("barred"):
        return
    of, barred, may = printing.short(revision.get("revision")), printing.text(who["barred"]), who.get("may")
    printing.out(f"{of} merge: not by {barred}, without whose approval it would be held (sod)")
    nobody = "nobody; the policy has to name more people"
    printing.out(f"{of} may merge: {printing.text(may) if may else nobody}")


def _judge(here: clone.Clone, head: str, tip: str, after: str) -> tuple[judging.Judged, ...]:
    if head:
        commit = here.resolve(head)
        fetching.approvals_of(here, commit)
        before = candidates.find_landed(here, commit)
        return (before.judged if before else examine(here, commit),)
    end = here.resolve(tip) if tip else here.tip()
    fetching.approvals_of(here, *candidates.heads(here, end))
    if not here.remote and not after and end == here.base:
        if config.find(None, os.environ) is not None:
            return walk(here.at(model.Oid(tip_of_daemon(None))), end)
        fix = (
            "--after OID, the last accepted commit, or --config FILE to ask for it; --head H for one that is not merged"
        )
        raise errors.ConfigError("usage", "in the watched repository itself nothing says what was accepted", fix=fix)
    if end == here.base and not after:
        printing.say(
            f"nothing follows {here.branch} as {here.remote} has it; what is on it is judged with --head M, or --after OID"
        )
    return walk(here, end)


def _ask(head: str, config_file: Path | None, output: options.Output) -> int:
    """Outside a clone, or with a configuration named: the daemon, or what it recorded."""
    with session.asking(session.configuration(config_file)) as ask:
        document = ask("GET", "/verify", {"head": head} if head else {}, None)
    printing.emit(document, output, show)
    return of_document(document)


def of_document(document: printing.Document) -> int:
    codes = []
    for each in printing.items(document):
        said = each.get("codes")
        listed = [str(code) for code in said] if isinstance(said, list) else []
        codes.append(exit_codes.of_verdict(str(each.get("verdict")), listed))
    return exit_codes.worst(codes)


# --- as a hook ------------------------------------------------------------------------------------------------------


def _receive(where: clone.Place, after: str, output: options.Output) -> int:
    """githooks(5): `<old> SP <new> SP <ref> LF` for each ref. The old tip is not trusted: it may never have been accepted."""
    pushed = [line.split(" ", 2) for line in sys.stdin.read().splitlines()]
    with clone.opened(where, quarantine=os.environ, after=after) as here:
        new = [parts[1] for parts in pushed if len(parts) == 3 and parts[2] == here.branch]  # noqa: PLR2004 - see above
        if not new:
            return exit_codes.FINE
        if not new[0].strip(_GONE):
            printing.say(f"refused: {here.branch} is the watched branch and may not be deleted")
            return exit_codes.BROKEN
        found = walk(here, here.repository.resolve(new[0]))
    for each in found:
        decision = each.decision
        for slot in each.open:
            may = ", ".join(slot.may) or "nobody"
            printing.say(f"missing: {decision.revision[:12]} {slot.missing} of {slot.slot}; may: {may}")
        for reason in decision.reasons:
            said = printing.reason(reason.model_dump())
            printing.say(f"refused: {decision.revision[:12]} {decision.verdict}: {said}")
    if output is not options.Output.TABLE:
        printing.emit(as_document(found), output)
    return exit_code([each.decision for each in found])


def tip_of_daemon(config_file: Path | None) -> str:
    with session.asking(session.configuration(config_file)) as ask:
        tip = ask("GET", "/status", {}, None).get("tip")
    if not isinstance(tip, str):
        raise errors.ConfigError("pin", "the daemon has accepted nothing yet", fix="reconciler once, or --after OID")
    return tip
