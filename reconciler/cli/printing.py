"""Answers to stdout as a table, JSON or YAML; everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from reconciler.cli import options

if TYPE_CHECKING:
    from pydantic import JsonValue  # Every command loads this module, for its --help too.

Document: TypeAlias = "Mapping[str, JsonValue]"
Rows = Iterable[Sequence[str]]
_SHORT = 12  # digits of an object id in a table


def out(text: str) -> None:
    """A line of the answer."""
    print(text)  # noqa: T201 - the one place where data leaves


def say(text: str) -> None:
    """A word to the person at the terminal."""
    from reconciler import redact

    print(redact.text(text), file=sys.stderr)  # noqa: T201 - the one place where progress leaves


def emit(document: Document, output: options.Output, table: Callable[[Document], None] | None = None) -> None:
    """Print one answer. JSON is the document of the REST API, byte for byte what another program reads."""
    match output:
        case options.Output.JSON:
            out(json.dumps(document, indent=2, ensure_ascii=False))
        case options.Output.YAML:
            import yaml

            out(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True).removesuffix("\n"))
        case options.Output.TABLE:
            (table or fields)(document)


def items(document: Document) -> list[dict[str, JsonValue]]:
    return listed(document.get("items"))


def listed(value: JsonValue) -> list[dict[str, JsonValue]]:
    """The objects of a list; none where there is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def fields(document: Document) -> None:
    """One line for each field."""
    rows = [(name, text(value)) for name, value in document.items() if name not in {"apiVersion", "kind", "items"}]
    grid(None, rows)


def grid(header: Sequence[str] | None, rows: Rows) -> None:
    """Columns that are as wide as their content; cut to the terminal only where there is one."""
    from rich import console, table

    drawn = table.Table(
        box=None, show_header=header is not None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0)
    )
    lines = [[_line(cell) for cell in row] for row in rows]
    for n in range(len(header or (lines[0] if lines else ()))):
        drawn.add_column(header[n] if header else "", overflow="fold")
    for row in lines:
        drawn.add_row(*row)
    wide = None if sys.stdout.isatty() else 1000
    console.Console(
        file=sys.stdout, width=wide, markup=False, highlight=False, soft_wrap=not sys.stdout.isatty()
    ).print(drawn)


def text(value: JsonValue) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(text(each) for each in value) or "-"
        case dict():
            return reason(value) if "code" in value else json.dumps(value, ensure_ascii=False)
        case _:
            return str(value) or "-"


def short(value: JsonValue) -> str:
    """An object id or a digest as people quote it."""
    return value[:_SHORT] if isinstance(value, str) and value else "-"


def reason(value: Mapping[str, JsonValue]) -> str:
    """`code: what (where); fix [rule]`."""
    where = f" ({value['where']})" if value.get("where") else ""
    fix = f"; {value['fix']}" if value.get("fix") else ""
    rule = f" [{value['rule']}]" if value.get("rule", "-") != "-" else ""
    return f"{value.get('code')}: {value.get('message')}{where}{fix}{rule}"


def reasons(value: JsonValue) -> str:
    return " | ".join(reason(each) for each in listed(value)) or "-"


def _line(cell: str) -> str:
    from reconciler import redact

    return redact.line(cell)
