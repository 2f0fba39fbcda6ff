"""Runs the tests of policies, and tests the tests: each `deny` rule must be shown to deny, and shown not to.

With a rule switched off some test must fail (a denying case); another must hold so, and fail where the rule always denies
(a passing case). A policy without them could be a green one that never says no.

A test is written for OPA: `test_x if count(p.deny) == 0 with input as {...}`. The embedded engine (regopy 1.5.2) dies where
`with` meets a function call. So the input of a test is evaluated first, alone, and the test then runs on it without `with`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from reconciler import errors
from reconciler.gates import embedded, rego

INPUT = "reconciler_test_input"
NEVER, ALWAYS = 'deny contains "never" if 1 == 2', 'deny contains "always" if 1 == 1'


@dataclass(frozen=True)
class Case:
    """One test: where its input comes from, and the rest of it."""

    module: rego.Module
    rule: rego.Rule
    shown: str  # the term that is its input, and what makes it; empty: the test runs on an empty input

    @property
    def query(self) -> str:
        return f"data.{self.module.package}.{self.rule.name}"


def prove(modules: Sequence[rego.Module], *, within_s: float) -> None:
    """The cases of `a.rego` are looked for in `a_test.rego`.

    Raises: ConfigError(rego) for a test that does not hold, and for a `deny` rule without a denying and a passing case.
    """
    policies = [module for module in modules if not module.tests]
    tests = {module.path: module for module in modules if module.tests}
    cases = [case for module in tests.values() for case in _cases(module)]
    shown = dict(zip(((c.module.path, c.rule.name) for c in cases), _inputs(policies, cases, within_s), strict=True))
    beside = {m.path: [case for case in cases if case.module.path == _beside(m)] for m in policies}
    rules = [(policy, rule) for policy in policies for rule in policy.named("deny")]
    mutants = [
        _session(policies, beside[policy.path], shown, (policy, rule, text))
        for policy, rule in rules
        for text in (NEVER, ALWAYS)
    ]
    plain, *mutated = embedded.evaluate([_session(policies, cases, shown), *mutants], within_s=within_s)
    _judge_tests(cases, plain)
    held = [{i for i, value in enumerate(values) if value is True} for values in mutated]
    for (policy, rule), off, always in zip(rules, held[::2], held[1::2], strict=True):
        if len(off) == len(beside[policy.path]):
            raise _untested(policy, rule, "denying", "expects this rule's message")
        if off <= always:
            raise _untested(policy, rule, "passing", "expects no message of this rule")


_Shown = Mapping[tuple[str, str], JsonValue]


def _judge_tests(cases: Sequence[Case], values: Sequence[JsonValue]) -> None:
    for case, value in zip(cases, values, strict=True):
        if value is not True:
            where = f"{case.module.path}:{case.rule.line}"
            message = f"the test {case.rule.name} does not hold"
            raise errors.ConfigError("rego", message, where=where, fix="correct the policy or the test")


def _session(
    policies: Sequence[rego.Module],
    cases: Sequence[Case],
    shown: _Shown,
    mutant: tuple[rego.Module, rego.Rule, str] | None = None,
) -> embedded.Session:
    """These tests against the policies, in one of which one rule is written differently."""
    sources = {m.path: m.source for m in policies} | {c.module.path: _stripped(c.module) for c in cases}
    if mutant is not None:
        module, rule, text = mutant
        sources[module.path] = module.replaced([(rule.span, text)])
    queries = tuple((c.query, shown[c.module.path, c.rule.name]) for c in cases)
    # A test that reads `denied.msg` may fail on what a changed rule says instead: then it does not hold.
    return embedded.Session(sources, queries, undefined=True, failed=mutant is not None)


def _beside(policy: rego.Module) -> str:
    return policy.path.removesuffix(".rego") + rego.TEST_SUFFIX


def _untested(policy: rego.Module, rule: rego.Rule, case: str, expects: str) -> errors.ConfigError:
    return errors.ConfigError(
        "rego",
        f"no test has a {case} case of this `deny` rule",
        where=f"{policy.path}:{rule.line}",
        fix=f"add a test to {_beside(policy)} that {expects}",
    )


def _inputs(policies: Sequence[rego.Module], cases: Sequence[Case], within_s: float) -> Iterator[JsonValue]:
    """What each test shows to the policies. It may use functions and constants of its own file."""
    sources = {m.path: m.source for m in policies} | {c.module.path: _stripped(c.module) for c in cases}
    asked = {f"{INPUT}_{i}": case for i, case in enumerate(cases) if case.shown}
    for name, case in asked.items():
        sources[case.module.path] += f"\n{name} := {case.shown}\n"
    session = embedded.Session(sources, tuple((f"data.{c.module.package}.{name}", {}) for name, c in asked.items()))
    values = iter(embedded.evaluate([session], within_s=within_s)[0] if asked else ())
    for case in cases:
        yield next(values) if case.shown else {}


# --- `with input as` ------------------------------------------------------------------------------------------------


def _cases(module: rego.Module) -> Iterator[Case]:
    names: set[str] = set()
    for rule in module.rules:
        if not rule.name.startswith("test_"):
            continue
        if rule.name in names:
            raise rego.refused(module.path, rule.line, f"a second test {rule.name}", "give each test its own name")
        names.add(rule.name)
        yield Case(module, rule, _shown(module, rule))


def _stripped(module: rego.Module) -> str:
    """The source without any `with input as ...`."""
    spans = [(start, end) for rule in module.rules for start, _, end in _withs(module, rule)]
    return module.replaced([(span, "") for span in spans])


def _shown(module: rego.Module, rule: rego.Rule) -> str:
    found = list(_withs(module, rule))
    texts = {module.source[term:end].strip() for _, term, end in found}
    if len(texts) > 1:
        raise rego.refused(
            module.path, rule.line, f"{rule.name} has more than one input", "write one test for each input"
        )
    if not texts:
        return ""
    before = _before(module, rule, found[0][0])
    return texts.pop() + (f" if {{\n{before}\n}}" if before else "")


def _withs(module: rego.Module, rule: rego.Rule) -> Iterator[tuple[int, int, int]]:
    """(start of `with`, start of its term, end of its term), as offsets in the source."""
    stream = rule.tokens
    for i, token in enumerate(stream):
        if token.kind != "name" or token.text != "with":
            continue
        follows = [t.text for t in stream[i + 1 : i + 3]]
        if follows != ["input", "as"] or token.depth > 1:
            raise rego.refused(
                module.path,
                token.line,
                "only `with input as` can be tested, at the top of a test's body",
                "move it there",
            )
        end = i + 3
        while end < len(stream) and not _ends(stream[end], token.depth):
            end += 1
        yield token.start, stream[i + 3].start, stream[end - 1].end


def _ends(token: rego.Token, depth: int) -> bool:
    if token.depth < depth:
        return True
    return token.depth == depth and not token.closes and (token.first or token.text in {";", "with"})


def _before(module: rego.Module, rule: rego.Rule, start: int) -> str:
    """The expressions of a test's body before the one that has the input: they may make it."""
    body = next((t for t in rule.tokens if t.text == "{" and t.depth == 0), None)
    within = [t for t in rule.tokens if body and body.end <= t.start < start and t.depth == 1]
    cuts = [t.start for t in within if t.first and not t.closes] + [t.end for t in within if t.text == ";"]
    return module.source[body.end : max(cuts)].strip().strip(";") if body and body.start < start and cuts else ""
