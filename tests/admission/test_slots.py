"""Patterns, effects, trees and slots: values in, values out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import estate

from reconciler import documents, model
from reconciler.admission import effect, merging, patterns, policy, slots, tree

NOTHING = "000000 " + "0" * 64


def make_tree(files: Mapping[str, bytes], mode: str = "100644") -> model.Tree:
    return {p.encode(): model.Entry(mode, model.Oid(model.sha256(b)[:40]), model.sha256(b)) for p, b in files.items()}


# --- patterns ---


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/**", b"README", True),
        ("/**", b"a/b/c", True),
        ("/targets/**", b"targets/a/b", True),
        ("/targets/**", b"targets", False),
        ("/targets/**", b"Targets/a", False),
        ("/targets/**", b"x/targets/a", False),
        ("/targets/*", b"targets/a", True),
        ("/targets/*", b"targets/a/b", False),
        ("/targets/*/manifests/**", b"targets/a/manifests/x/y.yaml", True),
        ("/targets/*/manifests/**", b"targets/a/b/manifests/x", False),
        ("/**/secret.yaml", b"secret.yaml", True),
        ("/**/secret.yaml", b"a/b/secret.yaml", True),
        ("/**/secret.yaml", b"a/xsecret.yaml", False),
        ("/a/**/b", b"a/b", True),
        ("/a/**/b", b"a/x/y/b", True),
        ("/a.yaml", b"aXyaml", False),
        ("/a[b]?", b"a[b]?", True),
        ("/*.yaml", b".yaml", True),
        ("/targets/**", b"targets/a\nb", True),
        ("/targets/**", b"targets/\xff", True),
    ],
)
def test_what_a_pattern_means(pattern: str, path: bytes, *, matches: bool) -> None:
    assert patterns.problem(pattern) == ""
    assert patterns.matches(pattern, path) is matches


@pytest.mark.parametrize("pattern", ["targets/**", "", "/a//b", "/a***", "/a\nb", "/**/**/**", "/*a*b*"])
def test_what_is_no_pattern(pattern: str) -> None:
    assert patterns.problem(pattern)


def test_no_pattern_takes_long_on_a_long_path() -> None:
    assert not patterns.matches("/**a**b/*c*d", b"a" * 1024)


# --- the effect ---


def test_the_effect_digest_is_what_the_specification_says() -> None:
    before = make_tree({"policies/a": b"1", "targets/u/target.yaml": b"{}", "targets/u/x": b"x", "same": b"s"})
    after = make_tree({"policies/a": b"2", "targets/README": b"r", "same": b"s"})

    def blob(content: bytes) -> str:
        return "100644 " + hashlib.sha256(content).hexdigest()

    lines = [
        f"policies/a\0{blob(b'1')} {blob(b'2')}\n",
        f"targets/README\0{NOTHING} {blob(b'r')}\n",
        f"targets/u/target.yaml\0{blob(b'{}')} {NOTHING}\n",
        f"targets/u/x\0{blob(b'x')} {NOTHING}\n",
        f"folder policies {documents.content_digest(documents.folder(after, b'policies'))}\n",
        f"folder targets/u {'0' * 64}\n",
    ]
    done = effect.compare(before, after)
    assert done.digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert (done.targets, done.folders) == ({"u": None}, (b"policies", b"targets/u"))


def test_a_mode_is_part_of_the_effect() -> None:
    files = {"targets/u/target.yaml": b"{}"}
    assert effect.compare(make_tree(files), make_tree(files, "100755")).paths == (b"targets/u/target.yaml",)


def test_c48_two_blobs_with_one_id_are_two() -> None:
    one = {b"x": model.Entry("100644", model.Oid("1" * 40), model.sha256(b"good"))}
    other = {b"x": model.Entry("100644", model.Oid("1" * 40), model.sha256(b"evil"))}
    assert effect.compare({}, one).digest != effect.compare({}, other).digest
    assert effect.changed(one, other) == (b"x",)


def test_a_folder_without_a_document_is_released() -> None:
    before = make_tree({"targets/u/target.yaml": b"{}", "targets/u/x": b"x"})
    after = make_tree({"targets/u/x": b"x"})
    assert effect.compare(before, after).targets == {"u": None}


FILES = st.dictionaries(
    st.sampled_from(["a", "targets/t/target.yaml", "targets/t/x", "targets/u/x", "policies/p"]),
    st.sampled_from([b"1", b"2"]),
)


@given(FILES, FILES)
def test_the_digests_of_the_effect_are_those_of_the_folders(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    old, new = make_tree(before), make_tree(after)
    done = effect.compare(old, new)
    assert set(done.paths) == {p for p in old.keys() | new.keys() if old.get(p) != new.get(p)}
    for name, digest in done.targets.items():
        assert digest == documents.target_digest(new, name)


@given(FILES, FILES, FILES)
def test_a_merge_path_by_path_is_symmetric(
    base: dict[str, bytes], one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    trees = [make_tree(files) for files in (base, one, other)]
    left, right = merging.overlay(*trees), merging.overlay(trees[0], trees[2], trees[1])
    assert (left.conflict is None) == (right.conflict is None)
    if left.conflict is None:
        assert left.onto(trees[1]) == right.onto(trees[2])


def test_a_file_where_the_other_side_has_a_folder_is_a_conflict() -> None:
    folder, file = make_tree({"a/b": b"1"}), make_tree({"a": b"1"})
    assert merging.overlay({}, folder, file).conflict is not None
    assert merging.overlay({}, file, folder).conflict is not None


# --- collisions ---


def test_only_new_names_can_collide_in_a_clean_tree() -> None:
    before = make_tree({"Straße/x": b"1", "a/B": b"1"})
    for added in ("STRASSE/y", "A/c", "a/b"):
        after = {**before, **make_tree({added: b"1"})}
        found = tree.look_at(before, after, [added.encode()], max_files=100)
        assert [reason.code for reason in found] == ["path_collision"], added
    after = {**before, **make_tree({"a/c": b"1"})}
    assert tree.look_at(before, after, [b"a/c"], max_files=100) == ()


def test_a_renaming_of_case_alone_is_no_collision() -> None:
    before, after = make_tree({"a/B": b"1"}), make_tree({"a/b": b"1"})
    assert tree.look_at(before, after, [b"a/B", b"a/b"], max_files=100) == ()


# --- slots ---


def asked(*needs: tuple[str, int]) -> tuple[slots.Asked, ...]:
    rules = policy.parse_policy(estate.policy_blob())
    hits = [
        slots.Hit(policy.Rule.model_validate({"id": f"r{n}", "paths": ["/**"], "need": [estate.need(*each)]}), ())
        for n, each in enumerate(needs)
    ]
    return slots.ask(rules, hits, frozenset())


def test_equal_teams_take_the_larger_count_and_different_ones_add_up() -> None:
    union = asked(("sre", 1), ("sre", 2), ("security", 1))
    assert [(each.slot.among, each.slot.count) for each in union] == [(("security",), 1), (("sre",), 2)]


def test_one_person_sits_in_one_slot() -> None:
    both = asked(("security", 1), ("policy-admins", 1))  # erin is in both
    assert [r.code for r in slots.fill(both, ["erin"]).missing] == ["distinct_persons"]
    assert slots.fill(both, ["erin", "carol"]).missing == ()
    assert slots.fill(both, ["erin", "dan"]).missing == ()


@given(
    st.lists(st.tuples(st.sampled_from(["sre", "security", "policy-admins"]), st.integers(1, 3)), max_size=3),
    st.sets(st.sampled_from(estate.PEOPLE)),
)
def test_the_matching_is_a_largest_one(needs: list[tuple[str, int]], people: set[str]) -> None:
    wanted = asked(*needs)
    filled = slots.fill(wanted, sorted(people))
    sitting = [person for group in filled.people for person in group]
    assert len(sitting) == len(set(sitting))
    places = [each.members for each in wanted for _ in range(each.slot.count)]
    assert len(sitting) == largest(places, sorted(people))
    assert (filled.missing == ()) == (len(sitting) == len(places))


def largest(places: list[frozenset[str]], people: list[str]) -> int:
    """By trying every way: Hall's theorem over all subsets of places."""
    lack = 0
    for n in range(1, len(places) + 1):
        for some in itertools.combinations(places, n):
            lack = max(lack, n - len(frozenset().union(*some).intersection(people)))
    return len(places) - lack
