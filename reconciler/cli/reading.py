"""What is known, asked of the daemon, or of the log where none runs: `get`, `diff`, `history`, `trace`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import exit_codes, options, printing, telling

if TYPE_CHECKING:
    from pydantic import JsonValue

app = typer.Typer(rich_markup_mode=None)
get = typer.Typer(help="List what is known.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(get, name="get")

_UNREADABLE = frozenset({"parse", "schema"})
_DIGITS = 8  # of an object id where two stand in one row

Target = Annotated[str, typer.Argument(metavar="TARGET")]


def _ask(config_file: options.ConfigOption, path: str, **params: str) -> dict[str, JsonValue]:
    from reconciler.cli import session  # It loads what reads the configuration: `--help` waits for none of it.

    told = session.configuration(config_file)
    with session.asking(told) as ask:
        return ask("GET", path, {name: value for name, value in params.items() if value}, None)


@get.command("targets")
def get_targets(config_file: options.ConfigOption = None, output: options.OutputOption = options.Output.TABLE) -> int:
    """Where each target is, and why it is not where Git says."""
    printing.emit(_ask(config_file, "/targets"), output, _targets)
    return exit_codes.FINE


@get.command("revisions")
def get_revisions(config_file: options.ConfigOption = None, output: options.OutputOption = options.Output.TABLE) -> int:
    """Each merge: accepted, held or rejected, and why."""
    printing.emit(_ask(config_file, "/revisions"), output, revisions)
    return exit_codes.FINE


@get.command("deployments")
def get_deployments(
    target: Annotated[str, typer.Option("--target", help="Of this target only.")] = "",
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Each deployment, from its first intent to its outcome."""
    printing.emit(_ask(config_file, "/deployments", target=target), output, _deployments)
    return exit_codes.FINE


@get.command("gates")
def get_gates(
    revision: Annotated[
        str, typer.Option("--revision", help="Of this merge only: its object id, or how that begins.")
    ] = "",
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """What each check said of each merge."""
    printing.emit(_ask(config_file, "/gates", revision=revision), output, gates)
    return exit_codes.FINE


@get.command("drift")
def get_drift(config_file: options.ConfigOption = None, output: options.OutputOption = options.Output.TABLE) -> int:
    """What is not as it was confirmed. Exits with 1 where anything is."""
    found = _ask(config_file, "/drift")
    printing.emit(found, output, _drift)
    return exit_codes.DIFFERS if printing.items(found) else exit_codes.FINE


@get.command("freezes")
def get_freezes(config_file: options.ConfigOption = None, output: options.OutputOption = options.Output.TABLE) -> int:
    """Each freeze and change window of the policy in force: what waits for it now, and until when."""
    printing.emit(_ask(config_file, "/freezes"), output, _freezes)
    return exit_codes.FINE


@get.command("obligations")
def get_obligations(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those that are closed, too.")] = False,
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Emergencies that have to be reviewed, and targets that went back while Git says otherwise."""
    printing.emit(_ask(config_file, "/obligations", all="true" if everything else ""), output, _obligations)
    return exit_codes.FINE


@get.command("status")
def get_status(config_file: options.ConfigOption = None, output: options.OutputOption = options.Output.TABLE) -> int:
    """The installation as a whole."""
    printing.emit(_ask(config_file, "/status"), output)
    return exit_codes.FINE


@get.command("approvals")
def get_approvals(
    head: Annotated[str, typer.Argument(metavar="H", help="The head: HEAD, a branch, or an object id.")] = "HEAD",
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """The statements about a head that lie in this clone, and whether they count."""
    from reconciler.cli import approvals, clone

    return approvals.show(head, clone.Place(place, remote, ref), output)


@app.command()
def diff(
    target: Target, config_file: options.ConfigOption = None, output: options.OutputOption = options.Output.TABLE
) -> int:
    """Look at a target now, and show what a turn would write. Exits with 1 where that is anything."""
    found = _ask(config_file, f"/targets/{target}/diff")
    printing.emit(found, output, plans)
    return of_plans(found, differs=True)


@app.command()
def history(
    target: Target, config_file: options.ConfigOption = None, output: options.OutputOption = options.Output.TABLE
) -> int:
    """Everything that happened to a target, oldest first."""
    printing.emit(_ask(config_file, f"/targets/{target}/history"), output, telling.history)
    return exit_codes.FINE


@app.command()
def trace(
    target: Target,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A resource: [member:]kind/namespace/name.")],
    field: Annotated[
        str, typer.Option(metavar="PATH", help="One field of it: spec.replicas, containers[name=api].image.")
    ] = "",
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """From a resource of a target to its deployment, its merge, who approved that, and what the gates said."""
    printing.emit(_ask(config_file, f"/targets/{target}/trace", key=key, field=field), output, telling.trace)
    return exit_codes.FINE


# --- tables --------------------------------------------------------------------------------------------------------


def _table(header: list[str], row: Callable[[dict[str, JsonValue]], list[str]]) -> Callable[[printing.Document], None]:
    def draw(document: printing.Document) -> None:
        printing.grid(header, (row(each) for each in printing.items(document)))

    return draw


_text, _short = printing.text, printing.short

_where = _table(
    ["NAME", "TYPE", "ENV", "SYNC", "HEALTH", "STANDING", "GIT", "CONFIRMED", "DRIFT"],
    lambda t: [
        *(_text(t.get(name)) for name in ("name", "type", "environment", "sync", "health", "standing")),
        _short(t.get("gitRevision"))[:_DIGITS],
        _short(t.get("confirmedRevision"))[:_DIGITS],
        _text(t.get("drifted")),
    ],
)


def _targets(document: printing.Document) -> None:
    """A table for 80 columns, then every reason on a line of its own."""
    _where(document)
    for each in printing.items(document):
        for reason in printing.listed(each.get("reasons")):
            printing.out(f"{_text(each.get('name'))}: {printing.reason(reason)}")
        until, said = each.get("until"), str(each.get("reasons"))
        if until and str(until) not in said:
            printing.out(f"{_text(each.get('name'))}: until {until}")


revisions = _table(
    ["REVISION", "VERDICT", "CODES", "BY", "APPROVED BY", "TARGETS", "GATES"],
    lambda r: [
        _short(r.get("revision")),
        _text(r.get("verdict")),
        _text(r.get("codes")),
        _text(r.get("authors")),
        _text([a["person"] for a in printing.listed(r.get("approvals")) if a.get("counts")]),
        _text(r.get("targets")),
        _text(r.get("gates")),
    ],
)

_deployments = _table(
    ["ID", "TARGET", "CAUSE", "REVISION", "OUTCOME", "ROLLED BACK", "STARTED", "ENDED", "WHY"],
    lambda d: [
        *(_text(d.get(name)) for name in ("id", "target", "cause")),
        _short(d.get("revision")),
        _text(d.get("outcome") or "open"),
        *(_text(d.get(name)) for name in ("rolledBack", "started", "ended")),
        printing.reasons(d.get("reasons")),
    ],
)

_gates = _table(
    ["REVISION", "CHECK", "OUTCOME", "TARGETS", "MS", "FINDINGS"],
    lambda g: [
        _short(g.get("revision")),
        *(_text(g.get(name)) for name in ("check", "outcome", "targets", "durationMs")),
        printing.reasons(g.get("findings")),
    ],
)


def gates(document: printing.Document) -> None:
    _gates(document)
    _waivers(document)


def _waivers(document: printing.Document) -> None:
    for each in printing.items(document):
        for waived in printing.listed(each.get("waived")):
            printing.out(
                f"{_short(each.get('revision'))} {_text(each.get('check'))}: {_text(waived.get('rule'))} waived by "
                f"{_text(waived.get('people'))} until {_text(waived.get('until'))}: {_text(waived.get('reasons'))}"
            )


def gates_run(document: printing.Document) -> None:
    """The outcomes, then every finding on a line of its own: it names a place in a file, and the way to mend it."""
    printing.grid(
        ["REVISION", "CHECK", "OUTCOME", "TARGETS", "MS"],
        (
            [_short(g.get("revision")), *(_text(g.get(name)) for name in ("check", "outcome", "targets", "durationMs"))]
            for g in printing.items(document)
        ),
    )
    for each in printing.items(document):
        for finding in printing.listed(each.get("findings")):
            printing.out(f"{_text(each.get('check'))}: {printing.reason(finding)}")
    _waivers(document)


_drift = _table(
    ["TARGET", "KEY", "ACTION", "WHO", "FIGHTING"],
    lambda d: [_text(d.get(name)) for name in ("target", "key", "action", "who", "fighting")],
)

_freezes = _table(
    ["TYPE", "ID", "ENVIRONMENTS", "DEFERRING", "UNTIL", "WAITING"],
    lambda f: [_text(f.get(name)) for name in ("type", "id", "environments", "deferring", "until", "waiting")],
)

_obligation_rows = _table(
    ["KIND", "STATE", "REVISION", "TARGET", "ENVIRONMENTS", "INCIDENT", "BY", "NEEDS", "DUE", "REVIEWED BY", "WAITING"],
    lambda o: [
        *(_text(o.get(name)) for name in ("kind", "state")),
        _short(o.get("revision")),
        *(_text(o.get(name)) for name in ("target", "environments", "incident", "people", "need", "due")),
        *(_text(o.get(name)) for name in ("reviewers", "waiting")),
    ],
)


def _obligations(document: printing.Document) -> None:
    _obligation_rows(document)
    for each in printing.items(document):
        for reason in printing.listed(each.get("missing")):
            printing.out(f"{_short(each.get('revision'))} missing: {printing.reason(reason)}")


def plans(document: printing.Document) -> None:
    """What would be written, step by step, with what it would change."""
    for plan in printing.items(document):
        steps = printing.listed(plan.get("steps"))
        state = (
            "nothing to write"
            if plan.get("empty")
            else f"{len(steps)} step{'' if len(steps) == 1 else 's'}"
            if plan.get("contacted")
            else "not contacted"
        )
        printing.out(f"{_text(plan.get('target'))}: {state}")
        for step in steps:
            hazards = f"  hazards: {_text(step.get('hazards'))}" if step.get("hazards") else ""
            printing.out(f"  {_text(step.get('stage'))} {_text(step.get('action'))} {_text(step.get('key'))}{hazards}")
            _indented(step.get("impact"))
            if step.get("dryRun"):
                printing.out(f"    dry run: {_text(step.get('dryRun'))}")
            for reason in printing.listed(step.get("dryRunReasons")):
                printing.out(f"      {printing.reason(reason)}")
            _indented(step.get("diff"))
        for name in ("refusals", "reasons"):
            for reason in printing.listed(plan.get(name)):
                printing.out(f"  {'refused' if name == 'refusals' else 'note'}: {printing.reason(reason)}")
        if not steps:
            _indented(plan.get("content"))


def of_plans(document: printing.Document, *, differs: bool) -> int:
    """A target that cannot be reached counts where it should have been; a plan that is not empty where that is asked.

    A document that nobody can read counts as the gate `schema` would: it says no.
    """
    codes = [exit_codes.FINE]
    for plan in printing.items(document):
        if not plan.get("contacted"):
            codes.append(exit_codes.UNREACHABLE if differs and not plan.get("content") else exit_codes.FINE)
        if any(reason.get("code") in _UNREADABLE for reason in printing.listed(plan.get("reasons"))):
            codes.append(exit_codes.GATE)
        refused = any(step.get("dryRun") == "refused" for step in printing.listed(plan.get("steps")))
        if refused or printing.listed(plan.get("refusals")):
            codes.append(exit_codes.DEFERRED)
        if differs and (plan.get("content") or (plan.get("contacted") and not plan.get("empty"))):
            codes.append(exit_codes.DIFFERS)
    return exit_codes.worst(codes)


def _indented(value: JsonValue) -> None:
    for line in str(value or "").splitlines():
        printing.out(f"    {line}")
