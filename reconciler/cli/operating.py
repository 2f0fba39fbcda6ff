"""What an operator may ask for: recorded with who asked, as the operating system says it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from reconciler.cli import exit_codes, options, printing, session

app = typer.Typer(rich_markup_mode=None)
target_app = typer.Typer(help="What concerns a target as a whole.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(target_app, name="target")

Target = Annotated[str, typer.Argument(metavar="TARGET")]


@app.command()
def suspend(
    target: Target,
    reason: options.ReasonOption,
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Write nothing to a target until it is resumed. It is still looked at."""
    return _post(f"/targets/{target}/suspend", {"reason": reason}, config_file, output)


@app.command()
def resume(
    target: Target,
    reason: options.ReasonOption,
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """End a suspension."""
    return _post(f"/targets/{target}/resume", {"reason": reason}, config_file, output)


@app.command()
def reconcile(
    target: Target,
    reason: options.ReasonOption = "asked for",
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Look at a target now, try its gates again, and forget that its state failed here or was pinned."""
    return _post(f"/targets/{target}/reconcile", {"reason": reason}, config_file, output)


@target_app.command("drop")
def drop(
    target: Target,
    reason: options.ReasonOption = "dropped",
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Forget a target whose document is gone. Nothing on it is deleted."""
    return _post(f"/targets/{target}/drop", {"reason": reason}, config_file, output)


@app.command()
def rollback(  # noqa: PLR0913 - two ways back, each with its options
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its id: get deployments.")],
    *,
    pin: Annotated[bool, typer.Option("--pin", help="Act at once, on its target alone; recorded.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")] = "",
    acknowledge: Annotated[
        list[str],
        typer.Option(
            "--acknowledge", help="HAZARD:KEY that going back brings.", default_factory=list, show_default=False
        ),
    ],
    key: Annotated[Path | None, typer.Option("--key", help="Without --pin: your SSH key, to sign the revert.")] = None,
    push: options.PushOption = False,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Undo a deployment: prepare the revert branch of its target in this clone; with --pin go back at once."""
    if pin:
        body: dict[str, JsonValue] = {"pin": True, "reason": reason, "acknowledge": list(acknowledge)}
        return _post(f"/deployments/{deployment}/rollback", body, config_file, output)
    from reconciler.cli import clone, reverting

    where = clone.Place(place, remote, ref)
    return reverting.prepare(deployment, where, key, config_file, reason=reason, push=push)


def _post(path: str, body: dict[str, JsonValue], config_file: options.ConfigOption, output: options.Output) -> int:
    told = session.configuration(config_file)
    with session.asking(told, writes=True) as ask:
        document = ask("POST", path, None, body)
    printing.emit(document, output, _done)
    return exit_codes.FINE


def _done(document: printing.Document) -> None:
    about = (document.get("target"), document.get("deployment"))
    named = " ".join(str(each) for each in about if each)
    to = f": back to {printing.short(document.get('revision'))}" if document.get("revision") else ""
    printing.out(f"{printing.text(document.get('verb'))} {named}{to}: recorded")
