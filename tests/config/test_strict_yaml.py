"""What is wrong with a document, said once, and how to mend it, said once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from reconciler import documents, errors, model, strict_yaml

TARGET = """\
apiVersion: reconciler/v1
kind: Target
metadata: {name: app}
spec:
  type: vm
  environment: prod
  deletes: {max: 5}
"""


def refusal(text: str) -> errors.ConfigError:
    with pytest.raises(errors.ConfigError) as caught:
        documents.parse_target("app", model.Oid("a" * 40), model.sha256(b""), {"target.yaml": text.encode()})
    return caught.value


def test_how_to_write_it_stands_in_the_fix_and_not_in_the_message() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        strict_yaml.load(b"a: 1\nb: NO\n", "x.yaml")
    assert caught.value.message == "'NO' is read differently by different parsers"
    assert (caught.value.where, caught.value.fix) == ("x.yaml:2", 'write "NO" if it is a string')


def test_a_misspelt_field_of_a_target_is_answered_with_the_near_one() -> None:
    refused = refusal(TARGET.replace("environment:", "enviroment:"))
    assert "spec.enviroment: no field of this name" in refused.message
    assert "spec.environment: this field is missing" in refused.message
    assert refused.fix == "did you mean 'environment'?"
    nested = refusal(TARGET.replace("max:", "maxPercents:"))
    assert (nested.where, nested.fix) == ("targets/app/target.yaml:7", "did you mean 'maxPercent'?")
    assert refusal(TARGET + "  xyzzy: 1\n").fix == ""


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"{name: app}": "app"}, "metadata: a mapping is expected"),
        ({"{max: 5}": "[5]"}, "spec.deletes: a mapping is expected"),
        ({"{max: 5}": "{max: many}"}, "spec.deletes.max: a whole number is expected"),
        ({"{max: 5}": "{max: -1}"}, "spec.deletes.max: 0 or more is expected"),
        ({"type: vm": "type: 7"}, "spec.type: a text is expected; quote it"),
        ({"type: vm": "type: vm\n  dependsOn: ledger"}, "spec.dependsOn: a list is expected"),
        ({"kind: Target": "kind: Targets"}, "kind: 'Target' is expected"),
        ({"environment: prod": 'environment: ""'}, "spec.environment: a text of at least 1 is expected"),
    ],
)
def test_what_is_wrong_with_a_value_is_said_in_the_words_of_a_document(replaced: Mapping[str, str], said: str) -> None:
    text = TARGET
    for old, new in replaced.items():
        text = text.replace(old, new)
    assert refusal(text).message == said


def test_a_file_of_several_documents_is_read_with_the_lines_of_the_file() -> None:
    read = strict_yaml.parse_all(b"# first\na: 1\n---\n\n---\nb:\n  c: 2\n", "x.yaml")
    assert [each.value for each in read] == [{"a": 1}, {"b": {"c": 2}}]
    assert [each.line(("b", "c")) for each in read[1:]] == [7]


def test_what_is_wrong_in_a_later_document_is_named_with_its_line_in_the_file() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        strict_yaml.parse_all(b"a: 1\n---\nb: 1\nb: 2\n", "x.yaml")
    assert caught.value.where == "x.yaml:4"
    with pytest.raises(errors.ConfigError) as caught:
        strict_yaml.parse_all(b"a: 1\n---\nb: [\n---\n", "x.yaml")
    assert caught.value.where == "x.yaml:4"


def test_a_file_that_did_not_change_is_read_once_and_errors_name_their_own_file() -> None:
    blob = b"a: 1\n---\nb: 2\n"
    assert strict_yaml.parse_all(blob, "x.yaml") is strict_yaml.parse_all(bytes(bytearray(blob)), "x.yaml")
    assert strict_yaml.parse_all(blob, "x.yaml") is not strict_yaml.parse_all(blob, "y.yaml")
    for where in ("x.yaml", "y.yaml", "x.yaml"):
        with pytest.raises(errors.ConfigError, match=f"{where}:1"):
            strict_yaml.parse_all(b"a: NO\n", where)


def test_of_a_file_that_changed_only_the_documents_that_did_are_read_and_all_have_their_new_lines() -> None:
    before = strict_yaml.parse_all(b"a: 1\n---\nb: 2\n---\nc:\n  d: 3\n", "x.yaml")
    after = strict_yaml.parse_all(b"a: 1\ne: 5\n---\nb: 2\n---\nc:\n  d: 3\n", "x.yaml")
    assert [one.value is other.value for one, other in zip(before, after, strict=True)] == [False, True, True]
    assert [one.source is other.source for one, other in zip(before, after, strict=True)] == [False, True, True]
    assert [each.line(("c", "d")) for each in (before[2], after[2])] == [6, 7]
    assert [each.line(()) for each in after] == [1, 4, 6]


def test_what_is_kept_of_files_has_a_limit() -> None:
    kept = strict_yaml._Last(10)
    for text in (b"a: 1\n", b"b: 1\n", b"c: 1\n", b"c: 1\n"):
        kept.put(text, "x", ())
    assert [kept.get(text, "x") for text in (b"a: 1\n", b"b: 1\n", b"c: 1\n")] == [None, (), ()]
    kept.put(b"far too long to be kept", "x", ())
    assert kept.get(b"far too long to be kept", "x") is None
