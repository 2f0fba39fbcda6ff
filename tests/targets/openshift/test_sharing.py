"""What is equal in many answers is kept once, and no answer says anything else for it."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.targets.openshift.connection import sharing

NAMES = st.sampled_from(["f:a", "f:b", 'k:{"name":"c"}', ".", "a", "metadata"])
FIELDS: st.SearchStrategy[Any] = st.recursive(
    st.just({}), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=6
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=4,
)
ENTRIES = st.fixed_dictionaries(
    {"manager": st.sampled_from(["ours", "theirs"]), "fieldsV1": FIELDS | VALUES}, optional={"time": VALUES}
)
METADATA = st.fixed_dictionaries(
    {"name": st.text(max_size=40)}, optional={"managedFields": st.lists(ENTRIES | VALUES, max_size=2)}
)
OBJECTS = st.fixed_dictionaries({"metadata": METADATA | VALUES}, optional={"spec": VALUES, "kind": st.text()})
ANSWERS = st.one_of(
    OBJECTS,
    st.fixed_dictionaries({"items": st.lists(OBJECTS, max_size=3) | VALUES, "metadata": METADATA}),
    st.fixed_dictionaries({"type": st.just("MODIFIED"), "object": OBJECTS | VALUES}),
    st.dictionaries(NAMES, VALUES, max_size=3),
)


@given(st.lists(ANSWERS, max_size=4))
def test_an_answer_says_what_it_said(answers: list[dict[str, Any]]) -> None:
    shared = sharing.Shared()
    assert [_text(shared.answer(copy.deepcopy(each))) for each in answers] == [_text(each) for each in answers]


@given(st.lists(ANSWERS, max_size=4))
def test_an_answer_says_so_too_after_what_was_kept_is_forgotten(answers: list[dict[str, Any]]) -> None:
    shared = _Forgetful()
    assert [_text(shared.answer(copy.deepcopy(each))) for each in answers] == [_text(each) for each in answers]


class _Forgetful(sharing.Shared):
    limit = 3


def test_two_objects_of_one_manifest_have_one_set_of_fields() -> None:
    shared = sharing.Shared()
    one, other = (shared.answer(_object(number))["metadata"]["managedFields"][0] for number in (1, 2))
    assert one["fieldsV1"] == _object(1)["metadata"]["managedFields"][0]["fieldsV1"]
    assert one["fieldsV1"] is other["fieldsV1"]


def test_a_thousand_objects_that_are_alike_take_a_third_of_the_memory() -> None:
    shared = sharing.Shared()
    whole, lean = [_object(n) for n in range(1000)], [shared.answer(_object(n)) for n in range(1000)]
    assert whole == lean
    assert _size_bytes(lean) < _size_bytes(whole) / 3


def _text(answer: dict[str, Any]) -> str:
    """Truth is not 1 here."""
    return json.dumps(answer, sort_keys=True)


def _object(number: int) -> dict[str, Any]:
    """As the API server answers: parsed by itself."""
    names: dict[str, Any] = {
        f"f:{name}": {} for name in ("image", "imagePullPolicy", "name", "terminationMessagePath", "command")
    }
    fields = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, **names}}}}}}
    entry = {"manager": "reconciler:lab:c", "operation": "Apply", "time": "2026-11-24T12:00:00Z", "fieldsV1": fields}
    metadata = {"name": f"app-{number}", "uid": f"{number:036}", "managedFields": [entry]}
    text = json.dumps({"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "example.test/app:1"}]}})
    found: dict[str, Any] = json.loads(text)
    return found


def _size_bytes(whole: object) -> int:
    """What all of it takes, each part counted once."""
    seen: set[int] = set()
    left, total = [whole], 0
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list):
            left += each
    return total
