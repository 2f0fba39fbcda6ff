"""What the terminal shows: a scene, what is typed in it, what comes back, and its tick."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from pydantic import JsonValue

WIDTH = 110  # columns at most, for text that is read
_LINES = 6  # of one answer
_OPERATORS = frozenset({">", ">>", "|"})


class SceneFailedError(Exception):
    """What a scene was to show did not come true."""


class Teller:
    def __init__(self, *, quiet: bool = False, color: bool = True) -> None:
        from rich import console

        self._console = console.Console(
            file=sys.stdout, no_color=not color or None, color_system="auto" if color else None, highlight=False
        )
        self._called: tuple[str, str] | None = None
        self._quiet = quiet
        self._width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
        self.took_s: dict[str, float] = {}

    def called(self, path: Path, name: str) -> None:
        """From now on show the name for the path."""
        self._called = (str(path), name)

    @contextmanager
    def scene(self, title: str, why: str) -> Iterator[None]:
        """Raises: SceneFailedError, after saying what did not come true."""
        number = len(self.took_s) + 1
        if not self._quiet:
            self.line()
            self.line(f"{number}. {title}", "bold")
            self._wrapped(why, "   ")
        begun = time.monotonic()
        try:
            yield
        except SceneFailedError:
            self.line(f"   ✗ {number}. {title}", "bold red")
            raise
        self.took_s[title] = time.monotonic() - begun
        self.line(f"   ✓ {number}. {title} ({self.took_s[title]:.1f} s)", "green")

    def typed(self, who: str, command: Sequence[str]) -> None:
        if not self._quiet:
            text = " ".join(_quoted(part) for part in command)
            self._wrapped(f"{who}$ {self._short(text)}", "   ", "dim", hanging="      ")

    def came(self, text: str, *, only: str = "") -> None:
        """What a command printed, as far as it matters: the lines in which `only` stands, as many as can be read."""
        if self._quiet:
            return
        lines = [line for line in text.splitlines() if line.strip() and re.search(only, line)]
        for line in lines[:_LINES]:
            self._wrapped(self._short(_first_reason(line)), "     ", hanging="       ")
        if len(lines) > _LINES:
            self._wrapped(f"... {len(lines) - _LINES} more", "     ", "dim")

    def fact(self, text: str) -> None:
        """What was looked at beside the commands."""
        if not self._quiet:
            self._wrapped(f"→ {self._short(text)}", "   ", hanging="     ")

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """Something that moves, on a terminal only."""
        if self._quiet or not self._console.is_terminal:
            return nullcontext()
        return self._console.status(f"   {what}", spinner="dots")

    def line(self, text: str = "", style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def _wrapped(self, text: str, indent: str, style: str | None = None, *, hanging: str = "") -> None:
        made = textwrap.fill(
            text,
            self._width,
            initial_indent=indent,
            subsequent_indent=hanging or indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        self.line(made, style)

    def _short(self, text: str) -> str:
        """Ids and times as people quote them."""
        text = text.replace(*self._called) if self._called else text
        text = re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}([0-9a-f]{24})?\b", r"\1", text)
        text = re.sub(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T([0-9:]{8})\.[0-9]{3}Z", r"\1", text)
        return re.sub(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-([0-9a-f]{12})\b", r"...\1", text)


def _quoted(part: str) -> str:
    """As little as a shell needs: people write double quotes around a sentence."""
    return part if shlex.quote(part) == part or part in _OPERATORS else f'"{part}"'


def _first_reason(line: str) -> str:
    """A row of a table without its padding, and with the first of its reasons only."""
    row, more, _ = re.sub(r" {2,}", "  ", line.strip()).partition(" | policy: ")
    return f"{row} | ..." if more else row


def approvers(row: Mapping[str, JsonValue]) -> list[str]:
    """Of a revision: the people whose approval counts."""
    listed = row.get("approvals")
    rows = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return [str(each["person"]) for each in rows if each.get("counts")]
