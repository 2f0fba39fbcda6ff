"""What somebody does who owns the file of the log: rewrite a record of a copy, and leave the schema as it was."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from reconciler.cli.demo.telling import SceneFailedError


def copy(database: Path, to: Path) -> None:
    """Through SQLite, so that what stands only in the WAL comes along; the daemon goes on writing meanwhile."""
    with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(to)) as made:
        source.backup(made)


def rewrite(database: Path, seq: int, old: str, new: str) -> None:
    """Raises: SceneFailedError where the record does not say `old`."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as there:
        triggers = there.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            there.execute(f'DROP TRIGGER "{name}"')
        statement = "UPDATE log SET body = replace(body, ?, ?) WHERE seq = ? AND instr(body, ?)"
        if there.execute(statement, (old, new, seq, old)).rowcount != 1:
            raise SceneFailedError(f"record {seq} does not say {old}")
        for _, sql in triggers:
            there.execute(sql)
