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
    lines = [f"# {title}", "", f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; `python benchmarks/{name}.py`", ""]
    lines += ["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows), ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines))
    print("\n".join(lines))
