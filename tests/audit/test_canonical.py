"""Canonical JSON is that of RFC 8785 on the short way too."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import JsonValue

from reconciler import model

texts = st.text(st.characters(exclude_categories=()), max_size=8)
numbers = st.integers(-(2**54), 2**54) | st.floats() | st.sampled_from([2**53 - 1, 2**53, -(2**53), -0.0, 1e21, 1.0])
documents: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def outcome(document: JsonValue, *, ours: bool) -> bytes | None:
    try:
        return model.canonical_json(document) if ours else rfc8785.dumps(document)
    except ValueError:
        return None


@given(documents)
@example({"\U0001f600": 1, "\ufb33": 2})
@example({"b": '\x7f\u2028\x00\x1f"\\/\b\f\n\r\t', "a": True, "": None})
@example({"\ud800": 1})
@example(["\udfff"])
def test_the_bytes_are_those_of_the_reference(document: JsonValue) -> None:
    assert outcome(document, ours=True) == outcome(document, ours=False)


@pytest.mark.parametrize("document", [2**53, float("nan"), float("inf"), "\ud800", {"a": [2**53]}])
def test_what_has_no_canonical_form_is_refused(document: JsonValue) -> None:
    with pytest.raises(ValueError, match=r"."):
        model.canonical_json(document)
