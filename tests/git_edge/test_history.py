"""Ranges and merge bases are those of the commits' own links, whatever was asked before and whatever the dates say."""

from __future__ import annotations

import hashlib
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.clones import Clone

from reconciler import errors, model
from reconciler.git import history, objects, process, store, trees

EMPTY = process.EMPTY_TREE["sha1"]
START = 1_795_000_000


class Lot(NamedTuple):
    """A store, the git that reads it and a reader; histories are made on it anew."""

    git_dir: Path
    git: process.GitProcess
    reader: objects.ObjectReader

    def add(self, parents: tuple[model.Oid, ...], date: int, message: str) -> model.Oid:
        """Write one commit, without a process."""
        links = "".join(f"parent {parent}\n" for parent in parents)
        who = f"Alice <alice@bank.example> {date} +0000"
        return self.write(f"tree {EMPTY}\n{links}author {who}\ncommitter {who}\n\n{message}\n".encode())

    def write(self, content: bytes) -> model.Oid:
        raw = b"commit %d\0" % len(content) + content
        oid = hashlib.sha1(raw).hexdigest()
        path = self.git_dir / "objects" / oid[:2] / oid[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(raw, 1))
        return model.Oid(oid)

    def history(self, **limits: int) -> history.History:
        return history.History(self.reader, self.git, trees.Limits(**limits))

    def asks(self, *command: str) -> frozenset[str]:
        """What the installed git says."""
        done = subprocess.run(("git", "--git-dir", self.git_dir, *command), capture_output=True, check=False)
        assert done.returncode in {0, 1}, done.stderr
        return frozenset(done.stdout.decode().split())


@pytest.fixture(scope="module")
def lot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lot]:
    clone = Clone(tmp_path_factory.mktemp("lot") / "bare", "--bare")
    scratch = store.Scratch()
    git = store.private_git(scratch, (clone.git_dir / "objects",), "sha1")
    reader = objects.ObjectReader(git)
    yield Lot(clone.git_dir, git, reader)
    reader.close()
    scratch.close()


class Shape(NamedTuple):
    parents: list[list[int]]  # of each commit, among those before it
    dates: list[int]
    questions: list[tuple[int, int]]
    short: int


@st.composite
def shapes(draw: st.DrawFn, *, skewed: bool) -> Shape:
    size = draw(st.integers(1, 14))
    parents: list[list[int]] = []
    for number in range(size):
        # Mostly the newest ones, so that branches are long and merges cross each other.
        near = st.integers(max(0, number - 4), number - 1) if number else st.nothing()
        most = min(number, draw(st.sampled_from([1, 1, 1, 2, 2, 3, 0])))
        parents.append(draw(st.lists(near, min_size=min(most, 1), max_size=most, unique=True)) if most else [])
    steps = st.integers(-3, 3) if skewed else st.integers(0, 1)
    dates = [START]
    for _ in range(size):
        dates.append(dates[-1] + draw(steps))
    pair = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    return Shape(parents, dates, draw(st.lists(pair, min_size=1, max_size=6)), draw(st.integers(1, 6)))


def make(lot: Lot, shape: Shape) -> tuple[list[model.Oid], list[set[int]]]:
    """The ids, and what each reaches, itself too."""
    oids: list[model.Oid] = []
    reached: list[set[int]] = []
    for number, parents in enumerate(shape.parents):
        oids.append(lot.add(tuple(oids[parent] for parent in parents), shape.dates[number], str(number)))
        reached.append({number}.union(*(reached[parent] for parent in parents)))
    return oids, reached


def best(common: set[int], reached: list[set[int]]) -> set[int]:
    return {one for one in common if not any(one in reached[other] for other in common - {one})}


laws = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


@laws
@given(shapes(skewed=True))
def test_dates_that_lie_change_no_answer(lot: Lot, shape: Shape) -> None:
    oids, reached = make(lot, shape)
    asked = lot.history()
    asked._short = shape.short
    for head, base in shape.questions:
        found = asked.brought_in(oids[head], oids[base])
        assert set(found) == {oids[number] for number in reached[head] - reached[base]}
        place = {oid: number for number, oid in enumerate(found)}
        for number in reached[head] - reached[base]:
            assert all(place.get(oids[parent], -1) < place[oids[number]] for parent in shape.parents[number])
        assert set(asked.merge_bases(oids[base], oids[head])) == {
            oids[number] for number in best(reached[head] & reached[base], reached)
        }
        assert found == lot.history().brought_in(oids[head], oids[base])


@settings(laws, max_examples=40)
@given(shapes(skewed=False))
def test_git_gives_the_same_answers_where_dates_are_in_order(lot: Lot, shape: Shape) -> None:
    oids, _ = make(lot, shape)
    asked = lot.history()
    asked._short = shape.short
    for head, base in shape.questions[:3]:
        assert set(asked.brought_in(oids[head], oids[base])) == lot.asks("rev-list", oids[head], f"^{oids[base]}")
        assert set(asked.merge_bases(oids[base], oids[head])) == lot.asks("merge-base", "--all", oids[base], oids[head])


def chain(lot: Lot, length: int, name: str, *start: model.Oid) -> list[model.Oid]:
    made = [*start]
    for number in range(length):
        made.append(lot.add(tuple(made[-1:]), START + number, f"{name} {number}"))
    return made


def test_a_base_that_moves_on_by_merges_needs_no_other_process(lot: Lot, monkeypatch: pytest.MonkeyPatch) -> None:
    bases = [lot.add((), START, "moving")]
    heads = []
    for number in range(30):
        heads.append(lot.add((bases[max(0, number - 3)],), START + number, f"head {number}"))
        bases.append(lot.add((bases[-1], heads[-1]), START + number, f"merge {number}"))
    monkeypatch.setattr(lot.git, "run", None)
    monkeypatch.setattr(lot.git, "text", None)
    asked = lot.history()
    for number, head in enumerate(heads):
        assert asked.brought_in(head, bases[number]) == (head,)
        assert asked.merge_bases(bases[number], head) == (bases[max(0, number - 3)],)
    assert asked.first_parents(bases[30], bases[1]) == tuple(bases[2:])


def test_an_older_base_is_answered_as_well_as_the_newest(lot: Lot) -> None:
    made = chain(lot, 12, "older")
    head = lot.add((made[9],), START, "on the ninth")
    asked = lot.history()
    for base in (11, 3, 9, 10, 5):
        expected = (*made[base + 1 : 10], head)
        assert asked.brought_in(head, made[base]) == expected
        assert asked.merge_bases(made[base], head) == (made[min(base, 9)],)


def test_a_long_branch_that_was_cut_long_ago_is_read_whole(lot: Lot) -> None:
    trunk = chain(lot, 300, "trunk")
    branch = chain(lot, 200, "branch", trunk[20])
    asked = lot.history()
    assert asked.brought_in(branch[-1], trunk[-1]) == tuple(branch[1:])
    assert asked.merge_bases(trunk[-1], branch[-1]) == (trunk[20],)
    assert asked.first_parents(trunk[-1], trunk[50]) == tuple(trunk[51:])


def test_a_set_that_grew_too_large_is_begun_anew(lot: Lot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "GROWN", 10)
    made = chain(lot, 100, "growing")
    asked = lot.history()
    for number in range(99):
        assert asked.brought_in(made[number + 1], made[number]) == (made[number + 1],)
        assert len(asked._numbers) <= 11


def test_an_ancestor_that_git_claims_must_be_reached_by_our_own_walk(lot: Lot, monkeypatch: pytest.MonkeyPatch) -> None:
    root, *_, base = chain(lot, 5, "claims")
    hidden = lot.add((root,), START, "hidden")
    head = lot.add((hidden,), START, "stands on what is hidden")
    text = lot.git.text

    def lie(*command: str, stdin: bytes = b"") -> str:
        return text(*command, stdin=stdin) + (f"{hidden}\n" if command[:2] == ("rev-list", base) else "")

    monkeypatch.setattr(lot.git, "text", lie)
    with pytest.raises(errors.AuditError) as caught:
        lot.history().brought_in(head, base)
    assert caught.value.code == "object_hash"


def test_an_ancestor_that_git_conceals_counts_as_brought_in(lot: Lot, monkeypatch: pytest.MonkeyPatch) -> None:
    made = chain(lot, 5, "conceals")
    head = lot.add((made[1],), START, "stands on what is concealed")
    text = lot.git.text

    def conceal(*command: str, stdin: bytes = b"") -> str:
        return text(*command, stdin=stdin).replace(made[1], made[2])

    monkeypatch.setattr(lot.git, "text", conceal)
    assert lot.history().brought_in(head, made[-1]) == (made[1], head)


def test_more_commits_than_the_limit_are_refused_however_they_are_read(lot: Lot) -> None:
    made = chain(lot, 150, "many")
    for limit in (5, 100):
        asked = lot.history(commits=limit)
        assert len(asked.brought_in(made[limit], made[0])) == limit
        for _ in range(2):
            with pytest.raises(errors.PermanentError) as caught:
                asked.brought_in(made[-1], made[0])
            assert caught.value.code == "limit"


def test_a_base_or_a_head_that_is_missing_is_a_reason_to_wait(lot: Lot) -> None:
    made = chain(lot, 2, "missing")
    gone = model.Oid("1" * 40)
    for head, base in ((gone, made[0]), (made[1], gone), (lot.add((gone,), START, "on nothing"), made[1])):
        with pytest.raises(errors.TransientError):
            lot.history().brought_in(head, base)


def test_parents_are_the_lines_that_follow_the_tree_and_no_others() -> None:
    tree, parent = "1" * 40, "2" * 40
    raw = f"tree {tree}\nparent {parent}\nauthor x\nparent {'3' * 40}\n\nparent {'4' * 40}\n".encode()
    links = history.parse_links(raw, model.Oid("0" * 40))
    assert links == history.Links(model.Oid(tree), (model.Oid(parent),))
    with pytest.raises(errors.PermanentError) as caught:
        history.parse_links(b"author x\n" + raw, model.Oid("0" * 40))
    assert caught.value.code == "commit_grammar"
