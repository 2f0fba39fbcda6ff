"""Reads Rego as text: the rules of a module, the names that they use, and the guards against a policy that can only pass.

An engine gives "undefined" for a misspelt variable, rule or field, and undefined denies nothing. So what the engine would
accept in silence is refused here, before anything is evaluated. No evaluation happens here; the grammar is that of
OPA 1.0 (https://www.openpolicyagent.org/docs/policy-reference), cut down: rules begin in the first column, every
variable is declared with `some`, `every` or `:=`, and `deny` and `warn` are sets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
IMPURE = frozenset(
    [
        "http.send",
        "net.lookup_ip_addr",
        "opa.runtime",
        "print",
        "rand.intn",
        "rego.parse_module",
        "time.now_ns",
        "trace",
        "uuid.rfc4122",
    ]
)
RESULTS = ("deny", "warn")
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
_CLOSES = {")": "(", "]": "[", "}": "{"}


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
        return self.kind == "mark" and self.text in _CLOSES


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
            depth -= kind == "mark" and text in _CLOSES
            yield Token(kind, text, at, found.end(), line, line != last_line, at - line_start, depth)
            depth += kind == "mark" and text in _CLOSES.values()
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


# --- guards ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What a name may mean outside of a rule: the packages with their rules, and the fields of the input document."""

    packages: Mapping[str, frozenset[str]]
    fields: Mapping[str, frozenset[str]]  # of input: name -> the names below it, empty where they are free


def known(modules: Sequence[Module], fields: Mapping[str, frozenset[str]]) -> Known:
    packages: dict[str, set[str]] = {}
    for module in modules:
        packages.setdefault(module.package, set()).update(rule.name for rule in module.rules)
    return Known({name: frozenset(rules) for name, rules in packages.items()}, fields)


def guard(modules: Sequence[Module], fields: Mapping[str, frozenset[str]]) -> None:
    """Refuse what an engine would evaluate to nothing without a word.

    Raises: ConfigError(rego): a package without `deny`; a `deny` that is no set; a rule that nothing uses (a misspelt
    `dney`); a variable that is not declared; a reference to a package, rule or input field that does not exist; a
    built-in function that is not a function of its input.
    """
    names = known(modules, fields)
    for module in modules:
        for rule in module.rules:
            _guard_head(module, rule)
            _guard_names(module, rule, names)
        for alias, target in module.imports.items():
            if _resolve(target.split("."), names) is None:
                raise refused(
                    module.path,
                    1,
                    f"import of data.{target} as {alias}, which does not exist",
                    "import a package of this folder",
                )
    for package in sorted({m.package for m in modules if not m.tests}):
        _guard_package([m for m in modules if m.package == package and not m.tests])
    for module in modules:
        if module.tests:
            _guard_used([module], lambda name: name.startswith("test_"), "test_")


def _guard_head(module: Module, rule: Rule) -> None:
    if rule.name in RESULTS and (module.tests or rule.shape != "set"):
        what = "in a test file" if module.tests else "that is not a set"
        raise refused(
            module.path, rule.line, f"a `{rule.name}` {what}", f'write `{rule.name} contains {{"msg": ...}} if {{...}}`'
        )
    if not module.tests and any(t.text == "with" and t.kind == "name" for t in rule.tokens):
        raise refused(
            module.path, rule.line, "`with` in a policy: the embedded engine cannot evaluate it", "write a function"
        )
    if rule.name.startswith("test_") and not module.tests:
        raise refused(module.path, rule.line, f"the test {rule.name} stands outside of a _test.rego file", "move it")


def _guard_package(modules: Sequence[Module]) -> None:
    if not any(module.named("deny") for module in modules):
        raise refused(
            modules[0].path,
            1,
            f"package {modules[0].package} has no `deny` rule: it could only pass",
            "add `deny contains ...`",
        )
    _guard_used(modules, lambda name: name in RESULTS, "deny or warn")


def _guard_used(modules: Sequence[Module], is_root: Callable[[str], bool], roots: str) -> None:
    """Every rule must be a root or be reached from one: a rule that nothing uses is most likely a misspelt `deny`."""
    rules = [rule for module in modules for rule in module.rules]
    uses = {rule.name: set[str]() for rule in rules}
    for rule in rules:
        uses[rule.name] |= {t.text for t in rule.tokens[1:] if t.kind == "name"}
    reached, new = set[str](), {name for name in uses if is_root(name)}
    while new:
        reached |= new
        new = {used for name in new for used in uses[name] & uses.keys()} - reached
    for module in modules:
        for rule in module.rules:
            if rule.name not in reached:
                raise refused(
                    module.path,
                    rule.line,
                    f"no {roots} rule uses `{rule.name}`",
                    "use it, remove it, or correct its spelling",
                )


def _guard_names(module: Module, rule: Rule, names: Known) -> None:
    declared = _declared(rule)
    own = names.packages[module.package]
    for i, token in enumerate(rule.tokens):
        if token.kind != "name" or token.text in KEYWORDS or token.text == "_" or _after(rule, i, "."):
            continue
        chain = _chain(rule.tokens, i)
        called = i + 2 * len(chain) - 1 < len(rule.tokens) and rule.tokens[i + 2 * len(chain) - 1].text == "("
        if token.text in declared:
            continue
        if token.text == "input":
            _guard_field(module, rule.tokens[i:], chain, names.fields)
        elif token.text == "data" or token.text in module.imports:
            _guard_reference(module, token, chain, names)
        elif token.text in own and len(chain) >= 1:
            continue
        elif called and ".".join(chain) not in IMPURE:
            continue  # A built-in function: the engine refuses one that does not exist.
        elif called:
            raise refused(
                module.path, token.line, f"{'.'.join(chain)} is not a function of its input alone", "leave it out"
            )
        else:
            raise refused(
                module.path,
                token.line,
                f"`{token.text}` is not declared: it would be undefined, and undefined denies nothing",
                "declare it with `some` or `:=`, or correct its spelling",
            )


def _after(rule: Rule, i: int, mark: str) -> bool:
    return i > 0 and rule.tokens[i - 1].text == mark and rule.tokens[i - 1].end == rule.tokens[i].start


def _chain(stream: Sequence[Token], i: int) -> list[str]:
    """`data.a.b` from the token `data` on; brackets end it."""
    chain = [stream[i].text]
    while i + 2 < len(stream) and stream[i + 1].text == "." and stream[i + 2].kind == "name":
        i += 2
        chain.append(stream[i].text)
    return chain


def _guard_field(module: Module, rest: Sequence[Token], chain: list[str], fields: Mapping[str, frozenset[str]]) -> None:
    if len(chain) == 1:
        if len(rest) > 2 and rest[1].text == "[" and rest[2].kind == "text" and rest[2].text[1:-1] not in fields:  # noqa: PLR2004 - input["field"]
            raise refused(
                module.path, rest[0].line, f"input has no field {rest[2].text}", f"one of {', '.join(sorted(fields))}"
            )
        return
    below = fields.get(chain[1])
    if below is None:
        raise refused(
            module.path, rest[0].line, f"input has no field `{chain[1]}`", f"one of {', '.join(sorted(fields))}"
        )
    if below and len(chain) > 2 and chain[2] not in below:  # noqa: PLR2004 - input.target.<name>
        raise refused(
            module.path,
            rest[0].line,
            f"input.{chain[1]} has no field `{chain[2]}`",
            f"one of {', '.join(sorted(below))}",
        )


def _guard_reference(module: Module, token: Token, chain: list[str], names: Known) -> None:
    path = chain[1:] if token.text == "data" else [*module.imports[token.text].split("."), *chain[1:]]
    if _resolve(path, names) is None:
        raise refused(
            module.path,
            token.line,
            f"data.{'.'.join(path)} does not exist: it would be undefined",
            "name a package of this folder and a rule of it",
        )


def _resolve(path: Sequence[str], names: Known) -> str | None:
    """The package that this path leads to, given that the rule named after it exists in it."""
    for cut in range(len(path), 0, -1):
        package = ".".join(path[:cut])
        if package in names.packages:
            return package if cut == len(path) or path[cut] in names.packages[package] else None
    return None


def _declared(rule: Rule) -> set[str]:
    """Names that are variables somewhere in this rule. Scopes within a rule are not told apart."""
    found: set[str] = set()
    stream = rule.tokens
    if rule.shape == "function":
        found |= _names(stream[2 : _closing(stream, 1)])
    for i, token in enumerate(stream):
        if token.text in {"some", "every"} and token.kind == "name":
            found |= _names(_until(stream, i + 1))
        elif token.text == ":=" and i > 0:
            found |= _names(stream[_opening(stream, i - 1) : i])
    return found - {rule.name}


def _until(stream: Sequence[Token], i: int) -> Sequence[Token]:
    """What `some` or `every` declares: up to `in`, or to the end of the expression."""
    end = i
    while (
        end < len(stream)
        and stream[end].text not in {"in", ";"}
        and not (stream[end].first and end > i)
        and stream[end].depth >= stream[i].depth
    ):
        end += 1
    return stream[i:end]


def _opening(stream: Sequence[Token], i: int) -> int:
    """Where the pattern that ends at `i` begins: the name itself, or its opening bracket."""
    if stream[i].text not in _CLOSES:
        return i
    return next(
        (
            k
            for k in range(i - 1, -1, -1)
            if stream[k].depth == stream[i].depth and stream[k].text == _CLOSES[stream[i].text]
        ),
        i,
    )


def _closing(stream: Sequence[Token], i: int) -> int:
    return next(
        (k for k in range(i + 1, len(stream)) if stream[k].depth == stream[i].depth and stream[k].text in _CLOSES),
        len(stream),
    )


def _names(stream: Sequence[Token]) -> set[str]:
    return {t.text for t in stream if t.kind == "name" and t.text not in KEYWORDS and t.text not in {"input", "data"}}


def refused(path: str, line: int, message: str, fix: str) -> errors.ConfigError:
    return errors.ConfigError("rego", message, where=f"{path}:{line}", fix=fix)
