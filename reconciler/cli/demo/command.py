"""`demo`: the stage, the eight scenes in order, and what there is to try afterwards."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import exit_codes

if TYPE_CHECKING:
    from reconciler.cli.demo.stage import Stage

app = typer.Typer()
_INTERRUPTED = 130


@app.command()
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running to try things; Ctrl-C ends it.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what was shown, a line for each scene.")] = False,
    openshift: Annotated[
        bool, typer.Option("--openshift", help="Instead, three scenes on a real Kubernetes control plane.")
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="As NO_COLOR=1.")] = False,
    example: Annotated[Path | None, typer.Option("--example", help="The repository to play with.")] = None,
) -> int:
    """Play the whole story in a temporary folder: real keys, real Git, the real daemon. Nothing is left behind."""
    from reconciler.cli.demo import interrupting, stage, telling

    interruptions = interrupting.Interruptions()
    teller = telling.Teller(quiet=quiet, color=not (no_color or os.environ.get("NO_COLOR")))
    with interruptions.heard():
        try:
            with (
                stage.folder() as folder,
                stage.raised(folder, example, teller, interruptions, cluster=openshift) as made,
                interruptions.ended(),
            ):
                _play(made, keep=keep)
        except telling.SceneFailedError as exc:
            teller.line(str(exc), "red")
            return exit_codes.FAILED
        except KeyboardInterrupt:
            teller.line("interrupted; nothing is left behind")
            return _INTERRUPTED
    if keep:
        teller.line("nothing is left behind")
    return exit_codes.FINE


def _play(made: Stage, *, keep: bool) -> None:
    """Raises: SceneFailedError at the first scene that does not come true."""
    from reconciler.cli.demo import closing, opening

    begun = time.monotonic()
    start = opening.converge(made)
    for title, why, play in opening.ON_A_CLUSTER if made.plane else opening.STORY:
        with made.teller.scene(title, why):
            play(made)
    closing.sum_up(made, start, made.set_up_s + time.monotonic() - begun)
    (closing.keep if keep else closing.suggest)(made)
