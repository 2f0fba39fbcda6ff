"""`audit rotate-key|checkpoint`: the log's key, and what is kept of the log elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from reconciler import errors
from reconciler.cli import exit_codes, options, printing, session


def rotate_key(
    new: Annotated[Path, typer.Option("--new", help="The next key; it is made where there is no such file.")],
    reason: options.ReasonOption,
    config_file: options.ConfigOption = None,
) -> int:
    """Hand the log over to another key. With no daemon running; afterwards store.signingKey has to name the new file."""
    from reconciler.audit import signing
    from reconciler.daemon import opening, process
    from reconciler.web import peers

    told = session.configuration(config_file)
    session.check_recorded(told)
    actor = peers.actor(peers.Peer(os.getpid(), os.getuid(), os.getgid()), told.operators).name
    with process.owning(told.state), opening.opened(told) as log:
        successor = signing.FileSigner.read(new) if new.exists() else signing.FileSigner.make(new)
        after = log.rotate(successor, reason=reason, actor=actor)
    line = signing.public_line(successor.public)
    printing.out(f"record       {max(after.rotated)}")
    printing.out(f"signed by    {line}")
    printing.say(f"next: store.signingKey: {new.absolute()}, then start the daemon; keep the old .pub for auditors")
    return exit_codes.FINE


def checkpoint(config_file: options.ConfigOption = None) -> int:
    """Print the newest checkpoint: size and root of the log, signed. Keep it elsewhere, for `audit verify --checkpoint`."""
    from reconciler.audit import head, storage

    told = session.configuration(config_file)
    session.check_recorded(told)
    engine = storage.make_engine(told.store_url)
    try:
        with storage.Store(engine).reading() as connection:
            note = head.newest_note(connection)
    finally:
        engine.dispose()
    typer.echo(note, nl=False)
    return exit_codes.FINE


def read_note(path: Path) -> str:
    """A checkpoint that was kept in a file.

    Raises: ConfigError(usage).
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.ConfigError("usage", "the checkpoint cannot be read", where=str(path)) from exc
