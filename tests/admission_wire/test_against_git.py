"""Thousands of mutated commits and random merges: what we say of them, against what git says (trust.md 8, differential tests).

git is asked once for all of them, so that thousands of cases take seconds; a failure names its case by number.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support import examples, objects, signing

from reconciler import model
from reconciler.admission import commit, merging

COMMITS, MERGES = examples.at_least(4000), examples.at_least(600)
PIECES = (
    *(
        b"\n",
        b" ",
        b"\n\n",
        b"gpgsig ",
        b"<",
        b">",
        b"x",
        b"\0",
        b"\xff",
        b"tree ",
        b"parent ",
        b"author ",
        b"0",
        b"-",
        b"+",
    ),
    *(b"9999999999999", b"encoding latin1\n", b"mergetag object ", b"committer ", b"A <a@b> 1 +0000"),
)
FIELDS = ("%H", "%T", "%P", "%an", "%ae", "%at", "%cn", "%ce", "%ct", "%B")
PATHS = ("a", "b", "d", "d/x", "d/y", "d/e/z", "f/g")
Files = dict[str, bytes | None]
History = tuple[model.Oid, model.Oid, model.Oid]  # ancestor, base, head


@pytest.fixture
def git_dir(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path)], check=True)
    return tmp_path


def git(git_dir: Path, *argv: str, stdin: str = "", config: Sequence[str] = ()) -> subprocess.CompletedProcess[bytes]:
    options = [word for each in config for word in ("-c", each)]
    return subprocess.run(
        ["git", "--git-dir", str(git_dir), *options, *argv], input=stdin.encode(), capture_output=True, check=False
    )


def signed_commit(store: objects.ObjectStore) -> bytes:
    root = store.make_commit({"a": b"1\n"})
    sides = [store.make_commit({"a": b"%d\n" % n}, root) for n in range(2)]
    return store.commit(store.make_commit({"b": b"2\n"}, *sides, key=signing.Key("alice"), message="one\n\ntwo\n"))


def mutated(raw: bytes, luck: random.Random) -> bytes:
    """The commit with one to three edits, most of them where its header is."""
    for _ in range(luck.randint(1, 3)):
        at = luck.randrange(len(raw)) if luck.random() < 0.3 else luck.randrange(raw.index(b"gpgsig") + 8)
        if luck.random() < 0.3:
            raw = raw[:at] + bytes([raw[at] ^ 1 << luck.randrange(8)]) + raw[at + 1 :]
        else:
            raw = raw[:at] + luck.choice(PIECES) + raw[at + luck.choice((0, 0, 1, 2, 8, 41)) :]
        if b"gpgsig" not in raw:
            break
    return raw


def as_told(found: commit.Commit) -> list[str]:
    people = [
        str(value) for each in (found.author, found.committer) for value in (each.name, each.email, each.timestamp)
    ]
    return [found.id, found.tree, " ".join(found.parents), *people, found.message]


def test_a_commit_that_we_accept_is_read_the_same_by_git_and_is_well_formed_to_it(git_dir: Path) -> None:
    store, luck = objects.ObjectStore(), random.Random(1)
    whole = signed_commit(store)
    raws = {whole, *(mutated(whole, luck) for _ in range(COMMITS))}
    ids = {store.add(b"commit", raw): raw for raw in raws}
    store.export(git_dir)
    parsed = {oid: commit.parse_commit(oid, raw) for oid, raw in ids.items()}
    accepted = {oid: found for oid, found in parsed.items() if isinstance(found, commit.Commit)}

    said = git(git_dir, "fsck", "--strict", "--no-dangling").stderr.decode(errors="replace")
    malformed = set(re.findall(r"^(?:error|warning) in commit ([0-9a-f]{40})", said, re.MULTILINE))
    assert malformed.isdisjoint(accepted), [ids[oid] for oid in malformed & accepted.keys()][:3]

    form = "%x1f".join(FIELDS) + "%x1e"
    told = git(git_dir, "log", "--no-walk=unsorted", "--stdin", f"--format={form}", stdin="\n".join(accepted)).stdout
    rows = [row.removeprefix("\n").split("\x1f") for row in told.decode().split("\x1e")[:-1]]
    assert rows == [as_told(found) for found in accepted.values()]
    assert len(malformed) > COMMITS / 4, "git finds fault with many of these"
    assert len(accepted) > COMMITS / 50, "and some are whole"


@pytest.mark.parametrize("has_renames", [False, True])
def test_our_automatic_merge_is_that_of_git(git_dir: Path, *, has_renames: bool) -> None:
    """Where both sides renamed one file git may see a conflict; path by path there is none, and nothing but what both changed."""
    store, luck = objects.ObjectStore(), random.Random(2)
    cases = [histories(store, luck, has_renames=has_renames) for _ in range(MERGES)]
    store.export(git_dir)
    clean = 0
    for (ancestor, base, head), tree in zip(cases, merged_by_git(git_dir, cases), strict=True):
        wanted = merging.overlay(store.tree(ancestor), store.tree(base), store.tree(head))
        if wanted.conflict is not None:
            continue
        clean += 1
        assert tree is not None or has_renames, (ancestor, base, head)
        if tree is not None:
            assert entries(wanted.onto(store.tree(base))) == entries_of(git_dir, tree), (ancestor, base, head)
    assert MERGES / 20 < clean < MERGES * 19 / 20, "both kinds come up"


def merged_by_git(git_dir: Path, cases: Sequence[History]) -> list[str | None]:
    """Of each merge the tree, or None where it conflicts."""
    config = ("merge.renames=true", "merge.directoryRenames=false")
    asked = "".join(f"{base} {head}\n" for _, base, head in cases)
    said = git(git_dir, "merge-tree", "--write-tree", "--stdin", "--no-messages", stdin=asked, config=config)
    trees = list(clean_trees(said.stdout))
    assert len(trees) == len(cases), said.stderr
    return trees


def histories(store: objects.ObjectStore, luck: random.Random, *, has_renames: bool) -> History:
    def text(path: str) -> bytes:
        """Much the same wherever it stands, which git takes for a rename; or no line of it in another path."""
        named = "" if has_renames else path
        return b"".join(
            b"line %d of %s %d\n" % (n, named.encode(), luck.randrange(3)) for n in range(luck.choice((1, 12)))
        )

    ancestor = store.make_commit({path: text(path) for path in fitting(luck.sample(PATHS, 5))})
    base, head = (store.make_commit(edits(store.tree(ancestor), luck, text), ancestor) for _ in range(2))
    return ancestor, base, head


def fitting(paths: Sequence[str]) -> list[str]:
    """Without a file where a folder stands."""
    return [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]


def edits(there: model.Tree, luck: random.Random, text: Callable[[str], bytes]) -> Files:
    left = {path.decode() for path in there}
    changes: Files = {}
    for _ in range(luck.randint(1, 3)):
        path = luck.choice(PATHS)
        remove = path in left and luck.random() < 0.4
        for other in [path] if remove else [each for each in left if fitting([each, path]) != [each, path]]:
            left.discard(other)
            changes[other] = None
        if not remove:
            left.add(path)
            changes[path] = text(path)
    return changes


def clean_trees(stdout: bytes) -> Iterator[str | None]:
    """Of each merge the tree, or None where it conflicts: `<1 or 0> NUL <tree> NUL <conflicts> NUL` (git-merge-tree(1))."""
    words = iter(stdout.split(b"\0"))
    for status in words:
        if status in {b"0", b"1"}:
            tree = next(words).decode()
            yield tree if status == b"1" else None


def entries(tree: model.Tree) -> set[tuple[str, str]]:
    return {(path.decode(), entry.oid) for path, entry in tree.items()}


def entries_of(git_dir: Path, tree: str) -> set[tuple[str, str]]:
    lines = git(git_dir, "ls-tree", "-r", tree).stdout.decode().splitlines()
    return {(line.split("\t")[1], line.split()[2]) for line in lines}
