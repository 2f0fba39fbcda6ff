"""`plan` and `gates run`: what merging a head would do, asked of the daemon; without one, from what stands in the clone alone."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from reconciler import config, documents, errors, model, ports, redact
from reconciler.audit import record
from reconciler.cli import candidates, clone, exit_codes, options, printing, reading, rehearsing, session, verifying
from reconciler.daemon import merged, preview
from reconciler.views import gates as gate_views
from reconciler.views import plans

app = typer.Typer(rich_markup_mode=None)
gates = typer.Typer(help="Run the gates.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(gates, name="gates")

_CONTENT_ONLY = model.Reason(
    code="not_contacted",
    message="no daemon answered: content differences only",
    fix="name its configuration with --config, and push the head",
)


class PlanOutput(enum.StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    MARKDOWN = "markdown"


@app.command()
def plan(
    head: Annotated[
        str,
        typer.Argument(metavar="[H]", help="A head that is not merged yet; else HEAD, or what the next turns write."),
    ] = "",
    *,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 where anything would be written.")
    ] = False,
    config_file: options.ConfigOption = None,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
    output: Annotated[PlanOutput, typer.Option("--output", "-o")] = PlanOutput.TABLE,
) -> int:
    """What merging a head would write, target by target. An unmerged head is looked at over the accepted connections only."""
    where = clone.Place(place, remote, ref)
    document = ask("/plan", where, head, config_file)
    if document is None:
        document = _document(plans.plans(_contents(where, head or "HEAD")))
    if output is PlanOutput.MARKDOWN:
        _markdown(document)
    else:
        printing.emit(document, options.Output(output.value), reading.plans)
    return reading.of_plans(document, differs=exit_code)


@gates.command("run")
def run(
    head: Annotated[str, typer.Argument(metavar="H")] = "HEAD",
    *,
    config_file: options.ConfigOption = None,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Run every check on the automatic merge of a head. Records nothing. Exits with 3 where one says no."""
    where = clone.Place(place, remote, ref)
    document = ask("/gates/run", where, head, config_file)
    if document is None:
        document = _document(gate_views.just_run(_run(where, head)))
    printing.emit(document, output, reading.gates_run)
    outcomes = [each.get("outcome") for each in printing.items(document)]
    if not outcomes:  # `schema` and `rollback` run for every target that is touched.
        printing.say("no target is touched: no gate runs")
    return exit_codes.FINE if set(outcomes) <= {"PASS", "WAIVED"} else exit_codes.GATE


def ask(path: str, where: clone.Place, head: str, config_file: Path | None) -> dict[str, JsonValue] | None:
    """What the daemon answers; None where there is none, or where it cannot know this head yet."""
    found = config.find(config_file, os.environ)
    if found is None:
        return None
    try:
        with session.asking(session.configuration(found)) as ask:
            return ask("GET", path, {"head": _full(where, head)} if head else {}, None)
    except errors.ReconcilerError as exc:
        away = isinstance(exc, errors.TransientError) or exc.code == "no_log"
        if not away or not clone.is_clone(where.path):
            raise
        printing.say(f"the daemon cannot say: {exc.message}" + (f"; {exc.fix}" if exc.fix else ""))
        return None


def _full(where: clone.Place, head: str) -> str:
    if not clone.is_clone(where.path):
        return head
    with clone.opened(where) as here:
        return here.resolve(head)


def _contents(where: clone.Place, head: str) -> list[plans.Preview]:
    with clone.opened(where) as opened:
        here, decision, onto = _looked_at(opened, opened.resolve(head))
        return [
            plans.Preview(
                target=name,
                reasons=(*_unreadable(onto, decision.revision, name), _CONTENT_ONLY),
                content=preview.folder_diff(onto, here.base, decision.revision, name),
            )
            for name in sorted(decision.targets)
        ]


def _unreadable(onto: ports.Repository, head: model.Oid, name: str) -> model.ValidationResult:
    try:
        documents.read_target(onto, head, name)
    except errors.ConfigError as exc:
        return (model.Reason.of(exc),)
    return ()


def _looked_at(here: clone.Clone, head: model.Oid) -> tuple[clone.Clone, record.Decision, ports.Repository]:
    """A head onto where the watched branch stands; one that is on it already, as its merge onto what was there before."""
    before = candidates.find_landed(here, head)
    if before is not None and before.judged.binding is not None:
        return here.at(before.base), before.judged.decision, here.repository
    return here, *readable(here, head)


def readable(here: clone.Clone, head: model.Oid) -> tuple[record.Decision, merged.Merged]:
    """Nothing of a head is parsed unless every commit in it is signed by somebody known (design.md 9).

    Raises: PermanentError(not_readable).
    """
    judged = verifying.examine(here, head)
    decision = judged.decision
    if judged.binding is None:  # Nor of one whose tree is refused.
        why = (
            decision.reasons[0] if decision.reasons else model.Reason(code="unknown", message="it could not be judged")
        )
        raise errors.PermanentError(
            "not_readable", f"its content is not looked at: {why.message}", where=why.where, fix=why.fix
        )
    return decision, merged.Merged(here.repository, head, here.base)


def _run(where: clone.Place, head: str) -> record.Clearance:
    with clone.opened(where) as here:
        return rehearsing.run(*_looked_at(here, here.resolve(head)))


def _document(made: plans.PlanList | gate_views.GateList) -> dict[str, JsonValue]:
    clean = redact.document(made.model_dump(mode="json", by_alias=True))
    return clean if isinstance(clean, dict) else {}


def _markdown(document: printing.Document) -> None:
    """For a comment on a request."""
    for each in printing.items(document):
        steps = printing.listed(each.get("steps"))
        printing.out(f"### {printing.text(each.get('target'))}\n")
        for reason in (*printing.listed(each.get("refusals")), *printing.listed(each.get("reasons"))):
            printing.out(f"- {printing.reason(reason)}")
        for step in steps:
            said = f": dry run {printing.text(step.get('dryRun'))}" if step.get("dryRun") else ""
            printing.out(f"- `{printing.text(step.get('action'))}` `{printing.text(step.get('key'))}`{said}")
            for reason in printing.listed(step.get("dryRunReasons")):
                printing.out(f"  - {printing.reason(reason)}")
        shown = "\n".join(str(step.get("diff") or "") for step in steps).strip() or str(each.get("content") or "")
        if shown:
            fence = "`" * max(3, 1 + max((len(run) for run in _ticks(shown)), default=0))
            printing.out(f"\n{fence}diff\n{shown}\n{fence}\n")


def _ticks(shown: str) -> list[str]:
    import re

    return re.findall(r"`+", shown)
