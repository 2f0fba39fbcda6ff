"""Guards against policies that can only pass: what an engine takes in silence is refused before it runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler import errors
from reconciler.gates import embedded, guards, library, rego

SOUND = """# A policy.
package p

import rego.v1

limit := 3

# Too many of something.
large(n) if n > limit

deny contains {"msg": sprintf("%d is too many", [input.target.spec.count]), "path": ["spec", "count"]} if {
	large(input.target.spec.count)
}

deny contains "no owner" if not input.target.labels.owner

warn contains msg if {
	some path, text in input.texts
	contains(text, "}") # A bracket in a string, `}` too, closes nothing.
	msg := concat(" ", [path, `has a }`])
}
"""
TESTS = """package p_test

import data.p
import rego.v1

shown(count, labels) := {"target": {"spec": {"count": count}, "labels": labels}, "texts": {}}

test_too_many if {
	labels := {"owner": "a"}
	some denied in p.deny with input as shown(4, labels)
	denied.msg == "4 is too many"
}

test_no_owner if count(p.deny) == 1 with input as shown(1, {})

test_sound if count(data.p.deny) == 0 with input as {
	"target": {"spec": {"count": 3}, "labels": {"owner": "a"}},
	"texts": {},
}
"""


def load(source: str = SOUND, tests: str = TESTS) -> library.Library:
    return library.load((("policies/p.rego", source.encode()), ("policies/p_test.rego", tests.encode())))


def refused(source: str = SOUND, tests: str = TESTS) -> errors.ConfigError:
    with pytest.raises(errors.ConfigError) as caught:
        load(source, tests)
    assert caught.value.code == "rego"
    return caught.value


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def answer(source: str, query: str = "data.p.deny", shown: object = None) -> object:
    """What the engine itself says."""
    (values,) = embedded.evaluate([embedded.Session({"p": source}, ((query, shown or {}),))], within_s=30)  # type: ignore[arg-type]
    return values[0]


def test_a_sound_policy_loads() -> None:
    found = load()
    assert found.packages == {"p": ("policies/p.rego",)}
    assert found.rules("p") == ("deny", "warn")


# --- what the engine would take in silence ----------------------------------------------------------------------------


def test_the_engine_gives_nothing_for_an_undeclared_variable_and_the_guard_refuses_it() -> None:
    source = edited(SOUND, "if n > limit", "if n > limti")
    assert answer(source, shown={"target": {"spec": {"count": 9}, "labels": {"owner": "a"}}}) == []
    assert "limti" in refused(source).message
    assert refused(source).where == "policies/p.rego:9"


def test_the_engine_gives_nothing_for_a_misspelt_input_and_the_guard_refuses_it() -> None:
    source = edited(SOUND, "large(input.target", "large(inptu.target")
    assert answer(source, shown={"target": {"spec": {"count": 9}, "labels": {"owner": "a"}}}) == []
    assert "inptu" in refused(source).message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("large(input.target.spec", "large(input.taget.spec", "no field `taget`"),
        ("large(input.target.spec", 'large(input["taget"].spec', "no field"),
        ("input.target.labels.owner", "input.target.label.owner", "no field `label`"),
        ("n > limit", "n > data.limits.count", "data.limits.count does not exist"),
        ("n > limit", "n > data.p.limti", "data.p.limti does not exist"),
        ("import rego.v1", "import rego.v1\nimport data.lib", "data.lib"),
        ("import rego.v1", "import input.target", "import"),
    ],
)
def test_a_reference_to_what_does_not_exist_is_refused(old: str, new: str, said: str) -> None:
    assert said in refused(edited(SOUND, old, new)).message


@pytest.mark.parametrize("name", ["dney", "denies", "Deny", "violation"])
def test_a_rule_that_nothing_uses_is_refused_as_a_misspelt_deny(name: str) -> None:
    source = edited(SOUND, 'deny contains "no owner"', f'{name} contains "no owner"')
    assert refused(source).where == "policies/p.rego:15"
    assert f"`{name}`" in refused(source).message


def test_what_stands_in_a_test_file_is_not_there_for_a_policy() -> None:
    source = edited(SOUND, "n > limit", "n > data.p_test.limit")
    assert "data.p_test.limit does not exist" in refused(source, TESTS + "\nlimit := 3\n").message
    same = TESTS.replace("package p_test\n\nimport data.p\n", "package p\n").replace("p.deny", "deny")
    assert "`more`" in refused(edited(SOUND, "n > limit", "n > more"), same + "\nmore := 3\n").message


def test_helpers_that_only_use_each_other_are_refused() -> None:
    assert "`one`" in refused(SOUND + "\none if two\n\ntwo if one\n").message


def test_a_package_without_deny_is_refused() -> None:
    source = SOUND.replace("deny contains", "warn contains")
    assert "no `deny` rule" in refused(source, "package p_test\n").message


@pytest.mark.parametrize(
    "head", ["deny := true", "deny", "deny[msg]", 'deny["no owner"]', "default deny := false", "deny(x)", "deny.a"]
)
def test_a_deny_that_is_no_set_is_refused(head: str) -> None:
    rest = "" if head.startswith("default") else " if not input.target.labels.owner"
    source = edited(SOUND, 'deny contains "no owner" if not input.target.labels.owner', head + rest)
    assert "not a set" in refused(source).message


def test_a_rule_that_hides_behind_an_indent_is_refused() -> None:
    source = edited(SOUND, 'deny contains "no owner"', '  dney contains "no owner"')
    assert refused(source).where == "policies/p.rego:15"


@pytest.mark.parametrize(
    "call", ["opa.runtime().env.HOME", 'http.send({"url": "http://localhost"})', "time.now_ns()", "print(1)"]
)
def test_what_is_no_function_of_its_input_is_refused(call: str) -> None:
    assert "not a function of its input" in refused(edited(SOUND, "n > limit", f"n > {call}")).message


def test_an_unknown_function_is_refused_by_the_engine() -> None:
    assert "nosuch" in refused(edited(SOUND, "n > limit", "nosuch(n, limit)")).message


def test_a_function_that_fails_is_an_error_and_not_undefined() -> None:
    with pytest.raises(errors.ConfigError):
        answer('package p\nimport rego.v1\ndeny contains "a" if to_number(input.x) == 1', shown={"x": "abc"})


@pytest.mark.parametrize(
    "source",
    [
        "package p\nimport rego.v1\ndeny contains input.x if {",
        "package p\nimport rego.v1\na if b\nb if a\ndeny contains 1 if a",
    ],
)
def test_an_engine_error_is_an_error(source: str) -> None:
    with pytest.raises(errors.ConfigError):
        answer(source)


def test_an_undefined_query_is_an_error() -> None:
    with pytest.raises(errors.ConfigError, match="undefined"):
        answer(SOUND, "data.q.deny")


def test_an_engine_that_dies_is_an_error() -> None:
    with pytest.raises(errors.PermanentError, match="ended with status"):  # regopy 1.5.2: `with` meets a function call.
        answer(
            'package p\nimport rego.v1\ndeny contains upper(input.x)\nt if count(deny) == 1 with input as {"x": "a"}',
            "data.p.t",
        )


def test_an_engine_that_does_not_end_is_stopped_at_the_deadline() -> None:
    loops = "; ".join(f"some x{i} in numbers.range(1, 3000)" for i in range(4))
    source = f'package p\nimport rego.v1\ndeny contains "a" if {{ {loops}; x0 + x1 + x2 + x3 == 0 }}'
    with pytest.raises((errors.TransientError, errors.PermanentError)):
        embedded.evaluate([embedded.Session({"p": source}, (("data.p.deny", {}),))], within_s=1)


def test_with_in_a_policy_is_refused_because_the_engine_dies_of_it() -> None:
    assert "`with`" in refused(edited(SOUND, "if n > limit", 'if n > limit with input as {"a": 1}')).message


@pytest.mark.parametrize(
    "blob", [b"\xff", b"package p\n\0", b"", b"# nothing\n", b"deny contains 1\n", b"package p\ndeny $ 1\n"]
)
def test_a_file_that_cannot_be_read_is_refused(blob: bytes) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        library.load((("policies/p.rego", blob),))
    assert caught.value.where.startswith("policies/p.rego")


def test_no_policy_at_all_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="no policy"):
        library.load(())
    with pytest.raises(errors.ConfigError, match="no policy"):
        library.load((("policies/p_test.rego", TESTS.encode()),))


# --- tests, and tests of the tests ------------------------------------------------------------------------------------


def test_a_policy_without_tests_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="no test has a denying case"):
        library.load((("policies/p.rego", SOUND.encode()),))


def test_tests_in_a_file_of_another_name_do_not_count() -> None:
    with pytest.raises(errors.ConfigError, match="no test has a denying case"):
        library.load((("policies/p.rego", SOUND.encode()), ("policies/q_test.rego", TESTS.encode())))


def test_a_test_that_does_not_hold_is_refused() -> None:
    found = refused(tests=edited(TESTS, "4 is too many", "5 is too many"))
    assert (found.message, found.where) == ("the test test_too_many does not hold", "policies/p_test.rego:8")


@pytest.mark.parametrize(("name", "line"), [("test_too_many", 11), ("test_no_owner", 15)])
def test_a_deny_rule_without_a_denying_case_is_refused(name: str, line: int) -> None:
    found = refused(tests=without(name))
    assert "no test has a denying case" in found.message
    assert found.where == f"policies/p.rego:{line}"


def without(*names: str) -> str:
    module = rego.read_module("policies/p_test.rego", TESTS)
    return module.replaced([(rule.span, "") for rule in module.rules if rule.name in names])


def test_a_deny_rule_without_a_passing_case_is_refused() -> None:
    always = """package p

import rego.v1

deny contains "always" if input.target
"""
    tests = 'package p_test\n\nimport data.p\nimport rego.v1\n\ntest_denies if "always" in p.deny with input as {"target": {}}\n'
    assert "no test has a passing case" in refused(always, tests).message


def test_a_test_that_asserts_nothing_proves_nothing() -> None:
    tests = (
        without("test_too_many") + "\ntest_idle if {\n\tsome denied in p.deny with input as shown(4, {})\n\tdenied\n}\n"
    )
    assert refused(tests=tests).where == "policies/p.rego:11"


def test_a_test_that_breaks_on_a_changed_rule_counts_as_failed() -> None:
    picky = '\ntest_picky if {\n\tsome denied in p.deny with input as shown(4, {"owner": "a"})\n\tobject.get(denied, "msg", "") != ""\n}\n'
    assert load(tests=TESTS + picky).packages


def test_a_misspelt_test_is_refused() -> None:
    assert "`tset_sound`" in refused(tests=edited(TESTS, "test_sound", "tset_sound")).message


def test_a_test_outside_of_a_test_file_is_refused() -> None:
    assert "outside" in refused(SOUND + "\ntest_a if limit == 3\n").message


def test_a_deny_in_a_test_file_is_refused() -> None:
    assert "in a test file" in refused(tests=TESTS + '\ndeny contains "x"\n').message


def test_a_test_with_two_inputs_is_refused() -> None:
    twice = "\ntest_two if {\n\tcount(p.deny) == 1 with input as shown(1, {})\n\tcount(p.deny) == 2 with input as shown(4, {})\n}\n"
    assert "more than one input" in refused(tests=TESTS + twice).message


def test_two_tests_of_one_name_are_refused() -> None:
    assert "second test" in refused(tests=TESTS + "\ntest_sound if 1 == 1\n").message


def test_another_with_than_that_of_the_input_is_refused() -> None:
    odd = "\ntest_odd if count(p.deny) == 0 with input.target as {}\n"
    assert "only `with input as`" in refused(tests=TESTS + odd).message


# --- reading ----------------------------------------------------------------------------------------------------------


def shapes(source: str) -> Iterator[tuple[str, str]]:
    return ((rule.name, rule.shape) for rule in rego.read_module("a.rego", "package a.b\n" + source).rules)


def test_rules_are_told_apart_by_their_heads() -> None:
    source = "a := 1\nb if a\nc(x) := x\nd contains 1\ne[k] := 1 if some k in [1]\nf.g := 1\ndefault h := 1\nelse_not := 1 if a\nelse := 2\n"
    assert list(shapes(source)) == [
        ("a", "value"),
        ("b", "value"),
        ("c", "function"),
        ("d", "set"),
        ("e", "object"),
        ("f", "object"),
        ("h", "default"),
        ("else_not", "value"),
    ]


def test_declarations_are_found_in_every_form() -> None:
    source = """package p

import rego.v1

deny contains msg if {
	[one, {"k": two}] := [1, {"k": 2}]
	some three, four in input.files
	some five
	every six in [1] { six == 1 }
	seven := [eight | some eight in [one, two, four, five]]
	walk(seven, [five, _])
	msg := sprintf("%v", [three])
}
"""
    module = rego.read_module("policies/p.rego", source)
    guards.guard([module], library.FIELDS)
    assert module.package == "p"
