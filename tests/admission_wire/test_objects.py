from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples, objects, signing

from reconciler import errors, model, ports


class Git:
    """A real bare repository, its environment closed to the machine's configuration."""

    def __init__(self, folder: Path) -> None:
        self.dir = folder / "real.git"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Alice",
            "GIT_AUTHOR_EMAIL": "alice@bank.example",
            "GIT_AUTHOR_DATE": "1795000001 +0000",
            "GIT_COMMITTER_NAME": "Alice",
            "GIT_COMMITTER_EMAIL": "alice@bank.example",
            "GIT_COMMITTER_DATE": "1795000001 +0000",
        }
        subprocess.run(["git", "init", "-q", "--bare", str(self.dir)], check=True, env=self.env, capture_output=True)

    def __call__(self, *argv: str, stdin: bytes = b"") -> str:
        run = subprocess.run(
            ["git", f"--git-dir={self.dir}", *argv], check=True, env=self.env, input=stdin, capture_output=True
        )
        return run.stdout.decode().strip()


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path)


def diamond(store: objects.ObjectStore) -> dict[str, model.Oid]:
    """root - base - merge, and head forked from root."""
    root = store.make_commit({"targets/a/target.yaml": b"a\n", "targets/b/target.yaml": b"b\n", "x": b"x\n"})
    base = store.make_commit({"targets/a/target.yaml": b"a2\n"}, root)
    head = store.make_commit({"targets/b/target.yaml": b"b2\n", "x": None, "n/e/w": b"new\n"}, root)
    return {"root": root, "base": base, "head": head, "merge": store.make_merge(base, head, signing.Key("forge"))}


def test_ids_are_those_that_git_gives(git: Git) -> None:
    store = objects.ObjectStore()
    blob = store.add(b"blob", b"hello\n")
    assert blob == git("hash-object", "-w", "--stdin", stdin=b"hello\n")
    files: dict[str, objects.Content] = {"b/c": b"hello\n", "b.d": ("100755", b"hello\n"), "b-": ("120000", b"hello\n")}
    oid = store.make_commit(files)
    inner = git("mktree", stdin=f"100644 blob {blob}\tc\n".encode())
    lines = f"120000 blob {blob}\tb-\n100755 blob {blob}\tb.d\n040000 tree {inner}\tb\n"
    root = git("mktree", stdin=lines.encode())
    assert store.tree_id(oid) == root
    assert oid == git("commit-tree", root, stdin=b"change\n")


def test_git_finds_nothing_wrong_with_what_is_exported(git: Git) -> None:
    store = objects.ObjectStore()
    made = diamond(store)
    store.export(git.dir)
    git("update-ref", "refs/heads/main", made["merge"])
    assert git("fsck", "--strict", "--full", "--no-dangling") == ""
    listed = git("ls-tree", "-r", made["merge"]).splitlines()
    assert [f"{e.mode} blob {e.oid}\t{p.decode()}" for p, e in sorted(store.tree(made["merge"]).items())] == listed


def test_history_reads_as_git_reads_it(git: Git) -> None:
    store = objects.ObjectStore()
    made = diamond(store)
    store.export(git.dir)
    assert list(store.first_parents(made["merge"], made["root"])) == [made["base"], made["merge"]]
    assert (
        list(store.brought_in(made["head"], made["base"])) == git("rev-list", f"^{made['base']}", made["head"]).split()
    )
    assert list(store.merge_bases(made["base"], made["head"])) == git("merge-base", made["base"], made["head"]).split()
    merged = git("merge-tree", "--write-tree", made["base"], made["head"])
    assert store.automatic_merge(made["base"], made["head"]) == merged == store.tree_id(made["merge"])


def test_a_path_changed_by_both_sides_conflicts() -> None:
    store = objects.ObjectStore()
    root = store.make_commit({"x": b"1"})
    base, head = store.make_commit({"x": b"2"}, root), store.make_commit({"x": b"3"}, root)
    same = store.make_commit({"x": b"2"}, root)
    assert store.automatic_merge(base, head) is None
    assert store.automatic_merge(base, same) == store.tree_id(base)


def test_a_file_where_the_other_side_has_a_folder_conflicts() -> None:
    store = objects.ObjectStore()
    root = store.make_commit({"x": b"1"})
    base, head = store.make_commit({"d/e": b"2"}, root), store.make_commit({"d": b"3"}, root)
    assert store.automatic_merge(base, head) is None


def test_two_merge_bases_are_both_found(git: Git) -> None:
    store = objects.ObjectStore()
    root = store.make_commit({"x": b"1"})
    one, two = store.make_commit({"a": b"1"}, root), store.make_commit({"b": b"1"}, root)
    left, right = store.make_merge(one, two), store.make_merge(two, one)
    store.export(git.dir)
    assert set(store.merge_bases(left, right)) == {one, two} == set(git("merge-base", "--all", left, right).split())


def test_each_broken_history_has_its_own_code() -> None:
    store = objects.ObjectStore()
    made = diamond(store)
    sideways = store.make_commit({"y": b"y"}, made["root"])
    cases = [
        (made["base"], made["merge"], "rewind"),
        (made["merge"], made["head"], "first_parent_broken"),
        (sideways, made["base"], "non_descendant"),
    ]
    for tip, after, code in cases:
        with pytest.raises(errors.PermanentError) as raised:
            store.first_parents(tip, after)
        assert raised.value.code == code
    assert list(store.first_parents(made["merge"], made["merge"])) == []


def test_brought_in_names_parents_before_their_children() -> None:
    store = objects.ObjectStore()
    made = diamond(store)
    update = store.make_merge(made["head"], made["base"])
    last = store.make_commit({"z": b"z"}, update)
    assert store.brought_in(last, made["base"]) == (made["head"], update, last)


@settings(max_examples=examples.at_least(60), deadline=None)
@given(st.lists(st.lists(st.integers(0, 11), max_size=3, unique=True), min_size=2, max_size=12), st.randoms())
def test_walks_of_any_history_follow_from_the_history_alone(shape: list[list[int]], order: random.Random) -> None:
    store, made, ancestors = objects.ObjectStore(), list[model.Oid](), dict[model.Oid, set[model.Oid]]()
    for number, chosen in enumerate(shape):
        parents = [made[at] for at in chosen if at < number]
        made.append(store.make_commit({}, *parents))
        ancestors[made[-1]] = {made[-1]}.union(*(ancestors[parent] for parent in parents))
    for oid in order.sample(made, len(made)):
        assert store.is_ancestor(oid, oid)
    head, base = made[-1], made[len(made) // 2]
    brought = store.brought_in(head, base)
    assert set(brought) == ancestors[head] - ancestors[base]
    places = {oid: at for at, oid in enumerate(brought)}
    assert all(places.get(parent, -1) < at for oid, at in places.items() for parent in store.parents(oid))
    common = ancestors[head] & ancestors[base]
    best = {one for one in common if not any(one in ancestors[other] for other in common - {one})}
    assert set(store.merge_bases(head, base)) == best
    store._forget()
    assert store.brought_in(head, base) == brought


def test_a_missing_object_is_transient_and_a_damaged_one_is_alarm() -> None:
    store = objects.ObjectStore()
    made = diamond(store)
    blob = store.tree(made["base"])[b"targets/a/target.yaml"].oid
    store.damage(blob, b"other")
    for read in (lambda: store.read(blob), lambda: store.tree(made["base"])):
        with pytest.raises(errors.AuditError, match="no blob of this id"):
            read()
    store.lose(made["head"])
    with pytest.raises(errors.TransientError) as raised:
        store.brought_in(made["merge"], made["base"])
    assert raised.value.code == "source_error"


def test_limits_are_permanent_errors() -> None:
    store = objects.ObjectStore(max_blob_bytes=10)
    deep = store.make_commit({"/".join("d" * 40): b"1", "big": b"12345678901"})
    with pytest.raises(errors.PermanentError, match="too deep"):
        store.tree(deep)
    with pytest.raises(errors.PermanentError, match="11 bytes"):
        store.read(store.add(b"blob", b"12345678901"))
    for number in range(objects.MAX_ENVELOPES + 1):
        store.add_envelope(deep, b"%d" % number)
    with pytest.raises(errors.PermanentError, match="4097 approval refs"):
        store.envelopes(deep)


def test_a_fetch_serves_what_was_pushed_and_fails_as_it_is_told() -> None:
    store = objects.ObjectStore()
    source: ports.Source = store
    made = diamond(store)
    with pytest.raises(errors.PermanentError, match="no such ref"):
        source.fetch(made["root"], frozenset())
    store.push(made["base"])
    store.push(made["merge"])
    assert source.fetch(made["root"], frozenset()) == made["merge"]
    store.lagging = 1
    assert source.fetch(made["root"], frozenset()) == made["base"]
    store.down = True
    with pytest.raises(errors.TransientError):
        source.fetch(made["root"], frozenset())
    store.down, store.lagging = False, 0
    store.push(None)
    with pytest.raises(errors.PermanentError, match="no such ref"):
        source.fetch(made["root"], frozenset())


def test_envelopes_come_with_the_fetch_that_asks_for_their_head() -> None:
    store = objects.ObjectStore()
    repository: ports.Repository = store
    made = diamond(store)
    waiting = store.make_commit({"w": b"w"}, made["root"])
    for head in (made["head"], waiting):
        store.add_envelope(head, b"2", held=False)
        store.add_envelope(head, b"1", held=False)
    store.push(made["merge"])
    assert repository.envelopes(made["head"]) == ()
    store.fetch(made["root"], frozenset())
    assert sorted(repository.envelopes(made["head"])) == [b"1", b"2"]
    assert repository.envelopes(waiting) == ()
    store.fetch(made["merge"], frozenset({waiting}))
    assert repository.envelopes(waiting) == repository.envelopes(made["head"])


_PATHS = st.sampled_from(["a", "a/b", "a/c/d", "e", "f/g", "f/h", "i/j/k/l"])
_FILES = st.dictionaries(_PATHS, st.sampled_from([b"1", b"2", None]), max_size=5)


@settings(max_examples=examples.at_least(60), deadline=None)
@given(st.lists(_FILES, min_size=1, max_size=5))
def test_changing_trees_step_by_step_is_writing_the_last_one_at_once(steps: list[dict[str, bytes | None]]) -> None:
    store = objects.ObjectStore()
    tip: tuple[model.Oid, ...] = ()
    for files in steps:
        ordered = {path: content for path, content in files.items() if content is None} | files
        clash = objects._file_and_folder({p.encode() for p, c in files.items() if c is not None})
        tip = tip if clash else (store.make_commit(ordered, *tip),)
    if tip:
        whole = {path: store.read(entry.oid) for path, entry in store.tree(tip[0]).items()}
        again = objects.ObjectStore()
        assert again.tree_id(again.make_commit(whole)) == store.tree_id(tip[0])
