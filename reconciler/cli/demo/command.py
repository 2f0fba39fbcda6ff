"""`demo`: the stage, the eight scenes in order, and what there is to try afterwards."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import exit_codes

app = typer.Typer()
_INTERRUPTED = 130


@app.command()
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running to try things; Ctrl-C ends it.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what was shown, a line for each scene.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="As NO_COLOR=1.")] = False,
    example: Annotated[Path | None, typer.Option("--example", help="The repository to play with.")] = None,
) -> int:
    """Play the whole story in a temporary folder: real keys, real Git, the real daemon. Nothing is left behind."""
    from reconciler.cli.demo import closing, interrupting, opening, stage, telling

    interruptions = interrupting.Interruptions()
    begun = time.monotonic()
    with interruptions.heard(), stage.folder() as folder:
        teller = telling.Teller(folder, quiet=quiet, color=not (no_color or os.environ.get("NO_COLOR")))
        try:
            with stage.raised(folder, example or stage.EXAMPLE, teller, interruptions) as made:
                start = opening.converge(made, begun)
                for title, why, play in opening.STORY:
                    with teller.scene(title, why):
                        play(made)
                closing.sum_up(made, start, time.monotonic() - begun)
                (closing.keep if keep else closing.suggest)(made)
        except telling.SceneFailedError as exc:
            teller.line(str(exc), "red")
            return exit_codes.FAILED
        except KeyboardInterrupt:
            teller.line("interrupted; nothing is left behind")
            return _INTERRUPTED
    return exit_codes.FINE
