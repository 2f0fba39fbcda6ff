"""What the cache believes of events, lists and answers that come in any order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.targets.openshift.connection import cache, comparing, discovery

RESOURCE = discovery.Resource("", "v1", "ConfigMap", "configmaps", is_namespaced=True)
SCOPE = cache.Scope(RESOURCE)


def body(name: str = "a", version: int = 1, uid: str = "u", target: str = "t") -> dict[str, Any]:
    labels = {comparing.LABEL: target}
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version), "labels": labels}}


def place(name: str = "a") -> cache.Place:
    return cache.Place(RESOURCE, "n", name)


def empty() -> cache.Cache:
    """Nothing here asks a server."""
    return cache.Cache(None)  # type: ignore[arg-type]


def held(kept: cache.Cache, target: str = "t") -> dict[str, str]:
    return {where.name: each["metadata"]["resourceVersion"] for where, each in kept.labelled(target)}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9)), max_size=12))
def test_of_one_object_the_newest_is_kept_whatever_the_order(events: list[tuple[str, int]]) -> None:
    kept = empty()
    for name, version in events:
        kept.keep(place(name), body(name, version))
    newest = {name: str(max(v for n, v in events if n == name)) for name, _ in events}
    assert held(kept) == newest


@given(st.lists(st.integers(1, 9), max_size=6))
def test_what_was_answered_as_gone_is_not_brought_back_by_late_events(versions: list[int]) -> None:
    kept = empty()
    kept.keep(place(), body())
    kept.forget(place(), "u")
    for version in versions:
        kept.changed(place(), body(version=version))
    assert held(kept) == {}
    kept.changed(place(), body(version=1, uid="another"))
    assert held(kept) == {"a": "1"}


def test_a_list_takes_away_what_it_does_not_hold_unless_we_wrote_it_since() -> None:
    kept = empty()
    for name, version in (("old", 3), ("ours", 7), ("there", 2)):
        kept.keep(place(name), body(name, version))
    kept.replace(SCOPE, {place("there"): body("there", 4)}, "5")
    assert held(kept) == {"ours": "7", "there": "4"}


def test_an_object_that_changes_hands_is_the_other_targets() -> None:
    kept = empty()
    kept.keep(place(), body())
    kept.changed(place(), body(version=2, target="other"))
    assert (held(kept), held(kept, "other")) == ({}, {"a": "2"})


def test_both_targets_hear_of_an_object_that_changes_hands_and_nobody_of_our_own_writes() -> None:
    kept, heard = empty(), []
    for target in ("t", "other"):
        kept.subscribe(target, lambda _place, _body, t=target: heard.append(t))  # type: ignore[misc]
    kept.writing({place()})
    kept.changed(place(), body())
    kept.written({place()})
    assert heard == []
    kept.changed(place(), body(version=2, target="other"))
    assert sorted(heard) == ["other", "t"]
    kept.changed(place(), None)
    assert sorted(heard) == ["other", "other", "t"]
