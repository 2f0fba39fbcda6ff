"""The options that many commands share, spelled once."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Output(enum.StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


HERE = Path()

OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="reconciler.yaml; else $RECONCILER_CONFIG, ./, /etc/reconciler/.")
]
RepositoryOption = Annotated[
    Path, typer.Option("--repository", "-C", help="The clone; else the one around this folder.")
]
RemoteOption = Annotated[str, typer.Option("--remote", help="The remote that the watched branch comes from.")]
RefOption = Annotated[str, typer.Option("--ref", help="The watched branch; else the remote's default, main or master.")]
KeyOption = Annotated[
    Path, typer.Option("--key", help="Your SSH key: the private file, or the .pub of one in an agent.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]
PushOption = Annotated[bool, typer.Option("--push", help="Push the result to the remote.")]
FileOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the envelope to this file, not to a ref.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
