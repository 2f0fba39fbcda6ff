"""Every `reconciler ...` that a page shows is a command of the program, with options that it has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from reconciler.cli import exit_codes, main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINES = sorted(
    {
        line.partition("#")[0].strip()
        for page in PAGES
        for line in re.findall(r"^    (reconciler .+)$", page.read_text(), re.MULTILINE)
    }
)


def _find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words name, and what is left of them."""
    command: Any = typer.main.get_command(main.app)
    while words and hasattr(command, "get_command"):
        inner = command.get_command(None, words[0])
        assert inner is not None, f"no command {words[0]!r}"
        command, words = inner, words[1:]
    return command, words


@pytest.mark.parametrize("line", LINES)
def test_a_command_that_a_page_shows_exists(line: str) -> None:
    command, rest = _find(shlex.split(line)[1:])
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= known
    assert not hasattr(command, "get_command"), "a group: the page names none of its commands"


SOURCES = sorted((ROOT / "reconciler").rglob("*.py"))


def test_a_command_that_a_refusal_names_exists() -> None:
    """Of the sentences in the code: what stands in a `fix` is typed as it stands."""
    fixes = {text for path in SOURCES for text in re.findall(r"\bfix ?= ?f?\"([^\"]*)\"", path.read_text())}
    fixes = {text.replace("-C 'reconciler audit log'", "") for text in fixes}  # The comment of a key.
    named = [found.split() for text in sorted(fixes) for found in re.findall(r"\breconciler ((?:[a-z]+ ?)+)", text)]
    assert len(named) > 20
    for words in named:
        _find(words[:1] if words[0] not in {"get", "audit", "policy", "gates", "target"} else words[:2])


def test_the_pages_show_enough_to_be_worth_checking() -> None:
    assert len(LINES) > 25


def test_the_exit_codes_of_the_page_are_those_of_the_program_in_its_order() -> None:
    page = (ROOT / "docs/reference/exit-codes.md").read_text()
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)]
    assert codes == [*exit_codes.WORST_FIRST, exit_codes.USAGE, exit_codes.DEADLINE]
