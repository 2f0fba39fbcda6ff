"""`completion`: the script that a shell sources."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from reconciler import errors
from reconciler.cli import printing

app = typer.Typer(rich_markup_mode=None)
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


@app.command()
def completion(shell: Annotated[str, typer.Argument(metavar="[SHELL]", help=", ".join(_SHELLS))] = "") -> None:
    """Print the completion script: source <(reconciler completion bash)."""
    from typer import _completion_shared

    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise errors.ConfigError("usage", f"{name or 'no shell'}: not known", fix=f"one of {', '.join(_SHELLS)}")
    script = _completion_shared.get_completion_script(
        prog_name="reconciler", complete_var="_RECONCILER_COMPLETE", shell=name
    )
    printing.out(script)
