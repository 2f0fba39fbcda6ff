"""A command line that an error or a next step prints runs as it is printed: nothing that it needs is left out."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import reconciler
from reconciler.cli import main

SOURCES = Path(reconciler.__file__).parent
# Up to where prose goes on; a value that is put in at run time stands as VALUE.
AUTHORS = ("made by reconciler init", "reconciler init")  # of commits and records, and nothing to run
PRINTED = re.compile(r"reconciler (?P<name>[a-z]+)(?P<rest>(?: (?:[A-Z][A-Za-z0-9./=:]*|VALUE|-[-a-zA-Z]+|[a-z-]+))*)")


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The strings of a module but its docstrings, f-strings whole."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Expr(value=ast.Constant()):
                continue
            case ast.Constant(value=str() as text):
                yield child.lineno, text
            case ast.JoinedStr(values=parts):
                yield child.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "VALUE" for p in parts)
            case _:
                yield from texts(child)


def printed() -> Iterator[tuple[str, str, str]]:
    for path in sorted(SOURCES.rglob("*.py")):
        if "demo" in path.parts:
            continue
        for line, text in texts(ast.parse(path.read_text())):
            if text in AUTHORS:
                continue
            for found in PRINTED.finditer(text):
                # Quoted without anything behind it, a command is spoken of and not proposed.
                spoken = text[: found.start()].endswith("`") and text[found.end() :].startswith("`")
                if found["name"] in main.COMMANDS and not (spoken and " " not in found[0].removeprefix("reconciler ")):
                    yield f"{path.relative_to(SOURCES)}:{line}", found["name"], found["rest"]


def command(name: str, words: list[str]) -> tuple[Any, list[str]]:
    module = importlib.import_module(f"reconciler.cli.{main.COMMANDS[name].module}")
    found: Any = typer.main.get_group(module.app).commands[name]
    while words and words[0] in getattr(found, "commands", {}):
        found, words = found.commands[words[0]], words[1:]
    return found, words


def positional(of: Any, words: list[str]) -> list[str]:
    takes = {opt for param in of.params if not getattr(param, "is_flag", True) for opt in param.opts}
    return [
        word for before, word in itertools.pairwise(["", *words]) if not word.startswith("-") and before not in takes
    ]


@pytest.mark.parametrize(("where", "name", "rest"), [pytest.param(*each, id=each[0]) for each in printed()])
def test_a_printed_command_names_all_that_it_needs(where: str, name: str, rest: str) -> None:
    of, words = command(name, rest.split())
    options = {word for word in words if word.startswith("-")}
    known = {opt for param in of.params for opt in param.opts}
    assert options <= known, f"{where}: no such option"
    required = [param for param in of.params if param.required]
    for param in required:
        if param.param_type_name == "option":
            assert options & set(param.opts), f"{where}: {param.opts[0]} is missing"
    arguments = [param for param in required if param.param_type_name == "argument"]
    assert len(positional(of, words)) >= len(arguments), f"{where}: {[param.name for param in arguments]} is missing"
    if name == "recover" and options & {"--log", "--mirror"}:
        assert "--reason" in options, f"{where}: it is recorded why"
