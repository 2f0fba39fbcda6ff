"""Figures as a table, on the terminal and in benchmarks/results/, with the day and the machine they were taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return f"{os.cpu_count()} cores, {pages} GiB, Python {platform.python_version()}, {platform.system()}"


def write(name: str, title: str, rows: Sequence[tuple[str, str]]) -> None:
    made = table(name, title, ("what", "figure"), rows)
    keep(name, made)
    print(made)


def table(name: str, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    lines = [f"# {title}", "", f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; `python benchmarks/{name}.py`", ""]
    lines += [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes), *([""] if notes else [])])


def keep(name: str, made: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(made)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
