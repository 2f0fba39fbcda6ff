"""`run` and `once`: the process that owns a state folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reconciler import config
from reconciler.cli import exit_codes, logs, options, printing, session

app = typer.Typer(rich_markup_mode=None)

ConvergeOption = Annotated[
    bool, typer.Option("--converge", help="Write to the targets of the genesis before a merge touches them; recorded.")
]


@app.command()
def run(config_file: options.ConfigOption = None, *, converge: ConvergeOption = False) -> int:
    """Run the daemon until SIGTERM or SIGINT. Logs to stderr, as JSON where that is no terminal."""
    from reconciler.cli import passing
    from reconciler.daemon import application, process
    from reconciler.web import peers, server

    told = _begin(config_file)
    for stranger in peers.strangers(told.operators):
        printing.say(f"warning: {stranger}")
    with process.owning(told.state):
        made = application.Application(told, converge=converge)
        try:
            if converge:
                passing.warn_after_reset(made)
            daemon = process.Daemon(made)
            serving = server.Server(made, told)
            serving.start()
            _say_where(told, serving.address)
            try:
                daemon.run()
            finally:
                serving.stop()
        finally:
            made.close()
    return exit_codes.FINE


@app.command()
def once(
    config_file: options.ConfigOption = None,
    within: Annotated[str, typer.Option("--within", help="A deadline of ours: 30s, 10m.")] = "10m",
    *,
    converge: ConvergeOption = False,
) -> int:
    """Fetch, judge, clear and take turns until every target rests, stands, or waits with nothing open."""
    from reconciler.cli import durations, passing

    told = _begin(config_file)
    return passing.make_pass(told, within_s=durations.seconds(within, "--within"), converge=converge)


def _say_where(told: config.Configuration, address: tuple[str, int] | None) -> None:
    printing.say(f"watching {told.source.url} {told.source.ref}; socket {told.socket}")
    if address is not None:
        printing.say(f"http://{address[0]}:{address[1]}/api/v1/status, /metrics, /readyz")


def _begin(config_file: Path | None) -> config.Configuration:
    told = session.configuration(config_file)
    logs.configure()
    for warning in told.warnings:
        printing.say(f"warning: {warning}")
    return told
