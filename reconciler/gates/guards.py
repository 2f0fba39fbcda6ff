"""Refuses a policy that can only pass, before anything is evaluated.

An engine gives "undefined" for a misspelt variable, rule or field, and undefined denies nothing. So every variable is
declared with `some`, `every` or `:=`, every reference leads somewhere, every rule is used, and `deny` and `warn` are sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.gates import rego

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


@dataclass(frozen=True)
class Known:
    """What a name may mean outside of a rule: the packages with their rules, and the fields of the input document."""

    packages: Mapping[str, frozenset[str]]
    fields: Mapping[str, frozenset[str]]  # of input: name -> the names below it, empty where they are free


def known(modules: Sequence[rego.Module], fields: Mapping[str, frozenset[str]]) -> Known:
    packages: dict[str, set[str]] = {}
    for module in modules:
        packages.setdefault(module.package, set()).update(rule.name for rule in module.rules)
    return Known({name: frozenset(rules) for name, rules in packages.items()}, fields)


def guard(modules: Sequence[rego.Module], fields: Mapping[str, frozenset[str]]) -> None:
    """Refuse what an engine would evaluate to nothing without a word.

    Raises: ConfigError(rego): a package without `deny`; a `deny` that is no set; a rule that nothing uses (a misspelt
    `dney`); a variable that is not declared; a reference to a package, rule or input field that does not exist; a
    built-in function that is not a function of its input.
    """
    policies = known([m for m in modules if not m.tests], fields)
    everything = known(modules, fields)
    for module in modules:
        names = everything if module.tests else policies  # What stands in a test file is not there when policies judge.
        for rule in module.rules:
            _guard_head(module, rule)
            _guard_names(module, rule, names)
        for alias, target in module.imports.items():
            if _resolve(target.split("."), names) is None:
                raise rego.refused(
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


def _guard_head(module: rego.Module, rule: rego.Rule) -> None:
    if rule.name in RESULTS and (module.tests or rule.shape != "set"):
        what = "in a test file" if module.tests else "that is not a set"
        raise rego.refused(
            module.path, rule.line, f"a `{rule.name}` {what}", f'write `{rule.name} contains {{"msg": ...}} if {{...}}`'
        )
    if not module.tests and any(t.text == "with" and t.kind == "name" for t in rule.tokens):
        raise rego.refused(
            module.path, rule.line, "`with` in a policy: the embedded engine cannot evaluate it", "write a function"
        )
    if rule.name.startswith("test_") and not module.tests:
        raise rego.refused(
            module.path, rule.line, f"the test {rule.name} stands outside of a _test.rego file", "move it"
        )


def _guard_package(modules: Sequence[rego.Module]) -> None:
    if not any(module.named("deny") for module in modules):
        raise rego.refused(
            modules[0].path,
            1,
            f"package {modules[0].package} has no `deny` rule: it could only pass",
            "add `deny contains ...`",
        )
    _guard_used(modules, lambda name: name in RESULTS, "deny or warn")


def _guard_used(modules: Sequence[rego.Module], is_root: Callable[[str], bool], roots: str) -> None:
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
                raise rego.refused(
                    module.path,
                    rule.line,
                    f"no {roots} rule uses `{rule.name}`",
                    "use it, remove it, or correct its spelling",
                )


def _guard_names(module: rego.Module, rule: rego.Rule, names: Known) -> None:
    declared = _declared(rule)
    own = names.packages[module.package]
    for i, token in enumerate(rule.tokens):
        if token.kind != "name" or token.text in rego.KEYWORDS or token.text == "_" or _after(rule, i, "."):
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
            raise rego.refused(
                module.path, token.line, f"{'.'.join(chain)} is not a function of its input alone", "leave it out"
            )
        else:
            raise rego.refused(
                module.path,
                token.line,
                f"`{token.text}` is not declared: it would be undefined, and undefined denies nothing",
                "declare it with `some` or `:=`, or correct its spelling",
            )


def _after(rule: rego.Rule, i: int, mark: str) -> bool:
    return i > 0 and rule.tokens[i - 1].text == mark and rule.tokens[i - 1].end == rule.tokens[i].start


def _chain(stream: Sequence[rego.Token], i: int) -> list[str]:
    """`data.a.b` from the token `data` on; brackets end it."""
    chain = [stream[i].text]
    while i + 2 < len(stream) and stream[i + 1].text == "." and stream[i + 2].kind == "name":
        i += 2
        chain.append(stream[i].text)
    return chain


def _guard_field(
    module: rego.Module, rest: Sequence[rego.Token], chain: list[str], fields: Mapping[str, frozenset[str]]
) -> None:
    if len(chain) == 1:
        if len(rest) > 2 and rest[1].text == "[" and rest[2].kind == "text" and rest[2].text[1:-1] not in fields:  # noqa: PLR2004 - input["field"]
            raise rego.refused(
                module.path, rest[0].line, f"input has no field {rest[2].text}", f"one of {', '.join(sorted(fields))}"
            )
        return
    below = fields.get(chain[1])
    if below is None:
        raise rego.refused(
            module.path, rest[0].line, f"input has no field `{chain[1]}`", f"one of {', '.join(sorted(fields))}"
        )
    if below and len(chain) > 2 and chain[2] not in below:  # noqa: PLR2004 - input.target.<name>
        raise rego.refused(
            module.path,
            rest[0].line,
            f"input.{chain[1]} has no field `{chain[2]}`",
            f"one of {', '.join(sorted(below))}",
        )


def _guard_reference(module: rego.Module, token: rego.Token, chain: list[str], names: Known) -> None:
    path = chain[1:] if token.text == "data" else [*module.imports[token.text].split("."), *chain[1:]]
    if _resolve(path, names) is None:
        raise rego.refused(
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


def _declared(rule: rego.Rule) -> set[str]:
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


def _until(stream: Sequence[rego.Token], i: int) -> Sequence[rego.Token]:
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


def _opening(stream: Sequence[rego.Token], i: int) -> int:
    """Where the pattern that ends at `i` begins: the name itself, or its opening bracket."""
    if stream[i].text not in rego.CLOSES:
        return i
    return next(
        (
            k
            for k in range(i - 1, -1, -1)
            if stream[k].depth == stream[i].depth and stream[k].text == rego.CLOSES[stream[i].text]
        ),
        i,
    )


def _closing(stream: Sequence[rego.Token], i: int) -> int:
    return next(
        (k for k in range(i + 1, len(stream)) if stream[k].depth == stream[i].depth and stream[k].text in rego.CLOSES),
        len(stream),
    )


def _names(stream: Sequence[rego.Token]) -> set[str]:
    return {
        t.text for t in stream if t.kind == "name" and t.text not in rego.KEYWORDS and t.text not in {"input", "data"}
    }
