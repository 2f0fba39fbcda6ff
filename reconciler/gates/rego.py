"""Reads Rego as text: the rules of a module, with their lines and their places in the source. What they mean: guards.py.

The grammar is that of OPA 1.0 (https://www.openpolicyagent.org/docs/policy-reference), cut down: a rule begins in the
first column with its name, and what is indented outside of all brackets is refused, because it could hide a rule's head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler import errors

KEYWORDS = frozenset(
    [
        "as",
        "contains",
        "default",
        "else",
        "every",
        "false",
        "if",
        "import",
        "in",
        "not",
        "null",
        "package",
        "set",
        "some",
        "true",
        "with",
    ]
)
TEST_SUFFIX = "_test.rego"

_TOKEN = re.compile(
    r"""
      (?P<space> [ \t\r\n]+ | \#[^\n]* )
    | (?P<text> "(?:[^"\\\n]|\\.)*" | `[^`]*` )
    | (?P<number> -?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)? )
    | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<mark> :=|==|!=|<=|>=|[-+*/%&|<>=.,:;(){}\[\]] )
    """,
    re.VERBOSE,
)
CLOSES = {")": "(", "]": "[", "}": "{"}


class Token(NamedTuple):
    kind: str  # text, number, name, mark
    text: str
    start: int
    end: int
    line: int
    first: bool  # the first of its line
    column: int
    depth: int  # brackets open around it

    @property
    def closes(self) -> bool:
        return self.kind == "mark" and self.text in CLOSES


class Rule(NamedTuple):
    name: str
    shape: str  # set, function, value, object, default
    tokens: tuple[Token, ...]

    @property
    def line(self) -> int:
        return self.tokens[0].line

    @property
    def span(self) -> tuple[int, int]:
        return self.tokens[0].start, self.tokens[-1].end


@dataclass(frozen=True)
class Module:
    """One .rego file."""

    path: str
    source: str
    package: str  # "compliance.vm"
    rules: tuple[Rule, ...]
    imports: Mapping[str, str] = field(default_factory=dict)  # alias -> path below data

    @property
    def tests(self) -> bool:
        return self.path.endswith(TEST_SUFFIX)

    def named(self, name: str) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.name == name)

    def replaced(self, pieces: Sequence[tuple[tuple[int, int], str]]) -> str:
        """The source with these spans written differently. They do not overlap."""
        source = self.source
        for (start, end), text in sorted(pieces, reverse=True):
            source = source[:start] + text + source[end:]
        return source


def read_module(path: str, source: str) -> Module:
    """Raises: ConfigError(rego) with file and line for what is not in the subset above."""
    statements = list(_statements(path, source))
    if not statements or statements[0][0].text != "package":
        raise refused(path, 1, "no package clause", "begin the file with `package <name>`")
    package = ".".join(t.text for t in statements[0][1:] if t.kind == "name")
    imports: dict[str, str] = {}
    rules = []
    for statement in statements[1:]:
        if statement[0].text == "import":
            imports.update(_import(path, statement))
        else:
            rules.append(_rule(path, statement))
    return Module(path, source, package, tuple(rules), imports)


def tokens(path: str, source: str) -> Iterator[Token]:
    at, line, line_start, last_line, depth = 0, 1, 0, 0, 0
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise refused(path, line, f"{source[at]!r} cannot be read", "write OPA 1.0 Rego")
        text, kind = found.group(), str(found.lastgroup)
        if kind != "space":
            depth -= kind == "mark" and text in CLOSES
            yield Token(kind, text, at, found.end(), line, line != last_line, at - line_start, depth)
            depth += kind == "mark" and text in CLOSES.values()
            last_line = line + text.count("\n")
        if "\n" in text:
            line += text.count("\n")
            line_start = at + text.rindex("\n") + 1
        at = found.end()


def _statements(path: str, source: str) -> Iterator[tuple[Token, ...]]:
    """Cut where a line begins outside of all brackets. An indented one could hide a rule's head: it is refused."""
    statement: list[Token] = []
    for token in tokens(path, source):
        if token.first and token.depth == 0 and not token.closes:
            if token.column:
                raise refused(
                    path,
                    token.line,
                    "a line outside of brackets is indented",
                    "begin every rule in the first column, and keep its head on one line",
                )
            if token.text != "else" and statement:
                yield tuple(statement)
                statement = []
        statement.append(token)
    if statement:
        yield tuple(statement)


def _import(path: str, statement: Sequence[Token]) -> dict[str, str]:
    names = [t.text for t in statement[1:] if t.kind == "name"]
    if names[:1] in (["rego"], ["future"]):
        return {}
    alias = names[-1]
    names = names[: names.index("as")] if "as" in names else names
    if names[:1] != ["data"] or len(names) < 2:  # noqa: PLR2004 - data and at least one name
        raise refused(path, statement[0].line, f"import of {'.'.join(names)}", "import `rego.v1` or `data.<package>`")
    return {alias: ".".join(names[1:])}


def _rule(path: str, statement: tuple[Token, ...]) -> Rule:
    head = statement[1:] if statement[0].text == "default" else statement
    if not head or head[0].kind != "name" or head[0].text in KEYWORDS:
        raise refused(path, statement[0].line, f"{statement[0].text!r} begins no rule", "a rule begins with its name")
    if len(head) != len(statement):
        return Rule(head[0].text, "default", statement)
    follows = head[1].text if len(head) > 1 else ""
    shape = {"contains": "set", "(": "function", "[": "object", ".": "object"}.get(follows, "value")
    return Rule(head[0].text, shape, statement)


def refused(path: str, line: int, message: str, fix: str) -> errors.ConfigError:
    return errors.ConfigError("rego", message, where=f"{path}:{line}", fix=fix)
