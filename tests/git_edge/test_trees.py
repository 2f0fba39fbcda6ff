"""Trees: strict grammar, bounded growth, and no second reading of what is known."""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clones import Clone

from reconciler import errors, model
from reconciler.git import objects, store, trees

OID = bytes(range(20))


class Reading:
    """A tree reader on a clone that counts the objects it asks for."""

    def __init__(self, clone: Clone, limits: trees.Limits = trees.DEFAULT_LIMITS) -> None:
        self._scratch = store.Scratch()
        self.reader = objects.ObjectReader(store.private_git(self._scratch, (clone.git_dir / "objects",), "sha1"))
        self.trees = trees.TreeReader(self.reader, object_format="sha1", limits=limits)

    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[model.Oid]:
        """From now on, the ids that are read."""
        seen: list[model.Oid] = []
        check = self.reader._check_hash

        def note(oid: model.Oid, raw: objects.Raw, kind: str) -> None:
            seen.append(oid)
            check(oid, raw, kind)

        monkeypatch.setattr(self.reader, "_check_hash", note)
        return seen

    def close(self) -> None:
        self.reader.close()
        self._scratch.close()


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


@pytest.fixture
def reading(clone: Clone) -> Iterator[Reading]:
    made = Reading(clone)
    yield made
    made.close()


def refusal(reading: Reading, root: model.Oid) -> str:
    with pytest.raises(errors.PermanentError) as caught:
        reading.trees.tree(root)
    return caught.value.code


def line(mode: bytes, name: bytes, oid: bytes = OID) -> bytes:
    return mode + b" " + name + b"\0" + oid


# --- the grammar ---------------------------------------------------------------------------------------------------

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name.lower() not in {b".", b"..", b".git"}
)
modes = st.sampled_from([b"40000", b"100644", b"100755", b"120000", b"160000"])


@given(st.dictionaries(names, st.tuples(modes, st.binary(min_size=20, max_size=20)), max_size=12))
def test_what_git_would_write_is_read_back(entries: dict[bytes, tuple[bytes, bytes]]) -> None:
    ordered = sorted(entries, key=lambda name: name + (b"/" if entries[name][0] == b"40000" else b""))
    parsed = trees.parse_tree(b"".join(line(entries[name][0], name, entries[name][1]) for name in ordered))
    assert [entry.name for entry in parsed] == ordered
    assert [(entry.mode, bytes.fromhex(entry.oid)) for entry in parsed] == [
        (entries[name][0].decode().zfill(6), entries[name][1]) for name in ordered
    ]


@given(st.binary(max_size=80))
def test_no_bytes_break_the_parser(raw: bytes) -> None:
    parsed: tuple[trees.Name, ...] | None = None
    with contextlib.suppress(errors.PermanentError):
        parsed = trees.parse_tree(raw)
    assert parsed is None or raw == b"".join(
        line(entry.mode.lstrip("0").encode(), entry.name, bytes.fromhex(entry.oid)) for entry in parsed
    )


@pytest.mark.parametrize(
    "raw",
    [
        line(b"100644", b"a")[:-1],
        line(b"100644", b"a") + b"1",
        line(b"100644", b""),
        line(b"100644", b"."),
        line(b"40000", b".."),
        line(b"40000", b".git"),
        line(b"40000", b".GIT"),
        line(b"100644", b"a/b"),
        line(b"040000", b"a"),
        line(b"0100644", b"a"),
        line(b"10644", b"a"),
        line(b"000000", b"a"),
        line(b"140000", b"a"),
        line(b"100648", b"a"),
        line(b"100644", b"a") * 2,
        line(b"100644", b"b") + line(b"100644", b"a"),
        line(b"100644", b"a") + line(b"100644", b"a-b") + line(b"40000", b"a"),
        line(b"40000", b"a") + line(b"100644", b"a-b"),
    ],
)
def test_a_malformed_tree_is_refused(raw: bytes) -> None:
    with pytest.raises(errors.PermanentError) as caught:
        trees.parse_tree(raw)
    assert caught.value.code == "fsck"


def test_an_odd_mode_of_a_file_is_left_to_the_judge() -> None:
    assert trees.parse_tree(line(b"100664", b"a"))[0].mode == "100664"


def test_sha256_trees_have_longer_ids() -> None:
    (entry,) = trees.parse_tree(line(b"100644", b"a", bytes(32)), oid_bytes=32)
    assert entry.oid == "0" * 64


# --- the walk ------------------------------------------------------------------------------------------------------


def test_every_file_stands_under_its_whole_raw_path(clone: Clone, reading: Reading) -> None:
    tip = clone.commit({"a": b"1", "targets/web/target.yaml": b"2", "targets/web/x/y": b"3", '"\\377"': b"4"})
    tree = reading.trees.tree(clone.tip(f"{tip}^{{tree}}"))
    assert list(tree) == [b"a", b"targets/web/target.yaml", b"targets/web/x/y", b"\xff"]
    assert tree[b"targets/web/x/y"] == model.Entry("100644", clone.blob(b"3"), model.sha256(b"3"))


def test_symlinks_and_gitlinks_appear_as_they_are_and_nothing_runs(
    clone: Clone, reading: Reading, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    modules = f'[submodule "x"]\n\tpath = sub\n\turl = ext::touch {touched}\n\tupdate = !touch {touched}\n'.encode()
    gone = model.Oid("1" * 40)
    root = clone.directory(
        f"100644 {clone.blob(modules)} .gitmodules",
        f"120000 {clone.blob(b'/etc/passwd')} link",
        f"160000 {gone} sub",
        f"100644 {clone.blob(b'* filter=evil merge=evil text ident export-subst')} .gitattributes",
    )
    tree = reading.trees.tree(root)
    assert tree[b"sub"] == model.Entry("160000", gone, model.Digest(""))
    assert tree[b"link"].mode == "120000"
    assert tree[b"link"].sha256 == hashlib.sha256(b"/etc/passwd").hexdigest()
    assert tree[b".gitmodules"].sha256 == model.sha256(modules)
    assert not touched.exists()


def test_a_neighbouring_tree_costs_what_differs(
    clone: Clone, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = clone.commit({f"targets/t{number}/f{file}": b"%d" % file for number in range(20) for file in range(10)})
    second = clone.commit({"targets/t3/f1": b"new"}, first)
    before = reading.trees.tree(clone.tip(f"{first}^{{tree}}"))
    asked = reading.asked(monkeypatch)
    after = reading.trees.tree(clone.tip(f"{second}^{{tree}}"))
    assert len(asked) == 4  # the root, targets, t3 and the blob
    assert {path for path in after if before.get(path) != after[path]} == {b"targets/t3/f1"}
    assert reading.trees.tree(clone.tip(f"{second}^{{tree}}")) is after


def test_what_is_read_beside_its_neighbours_is_what_is_read_alone(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MANY", 4)
    chance = random.Random(7)
    names = [f"{folder}/{inner}{name}" for folder in "ab" for inner in ("", "c/", "c-d/") for name in "efgh"]
    content: dict[str, bytes | None] = dict.fromkeys(names, b"0")
    tips = [clone.commit(content)]
    for number in range(40):
        name = chance.choice([*names, "a", "b/c"]) if number % 4 == 0 else chance.choice(names)
        tips.append(clone.commit({name: chance.choice([None, b"%d" % number, b"0"])}, tips[-1]))
    roots = [clone.tip(f"{tip}^{{tree}}") for tip in tips]
    together = Reading(clone)
    together.trees.read_ahead(roots[:20])
    for root in roots:
        alone = Reading(clone)
        assert list(together.trees.tree(root).items()) == list(alone.trees.tree(root).items())
        alone.close()
    together.close()


def test_trees_that_were_forgotten_are_read_again(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "KEPT_TREES", 1)
    reading = Reading(clone, trees.Limits(files=12))
    tips = [clone.commit({f"d{number}/f": b"0" for number in range(10)})]
    for number in range(10):
        tips.append(clone.commit({f"d{number}/f": b"1"}, tips[-1]))
    roots = [clone.tip(f"{tip}^{{tree}}") for tip in tips]
    for root in (*roots, *roots):
        assert len(reading.trees.tree(root)) == 10
        assert reading.trees._paths <= 12 + 2 * 11 + 2
    reading.close()


def test_reading_ahead_says_nothing_of_what_is_wrong_and_spoils_nothing(clone: Clone, reading: Reading) -> None:
    folder = clone.directory(f"100644 {clone.blob(b'x')} f")
    good = clone.directory(f"040000 {folder} d")
    big = clone.directory(f"100644 {clone.blob(bytes(2 << 20))} big")
    malformed = clone.raw("tree", line(b"100644", b"b") + line(b"100644", b"a"))
    reading.trees.read_ahead([model.Oid("1" * 40), malformed, clone.blob(b"x"), big, good])
    assert list(reading.trees.tree(good)) == [b"d/f"]
    assert refusal(reading, malformed) == "fsck"
    assert refusal(reading, big) == "limit"


def test_a_tree_cannot_be_changed_by_who_asked_for_it(clone: Clone, reading: Reading) -> None:
    clone.commit({"a": b"1"})
    tree = reading.trees.tree(clone.tip("refs/heads/main^{tree}"))
    with pytest.raises(TypeError):
        tree[b"a"] = model.Entry("100644", model.Oid(""), model.Digest(""))  # type: ignore[index]
    assert len(tree) == 1


def nested(clone: Clone, depth: int) -> model.Oid:
    """A file below `depth` - 1 folders."""
    oid = clone.directory(f"100644 {clone.blob(b'x')} f")
    for _ in range(depth - 1):
        raw = b"40000 d\0" + bytes.fromhex(oid)
        oid = model.Oid(hashlib.sha1(b"tree %d\0" % len(raw) + raw).hexdigest())
        path = clone.loose_path(oid)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(b"tree %d\0" % len(raw) + raw, 1))
    return oid


def test_depth_32_is_read_and_depth_5000_is_refused_after_33_trees(
    clone: Clone, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(reading.trees.tree(nested(clone, 32))) == [b"d/" * 31 + b"f"]
    assert refusal(reading, nested(clone, 33)) == "limit"
    deep = nested(clone, 5000)
    asked = reading.asked(monkeypatch)
    assert refusal(reading, deep) == "limit"
    assert len(asked) <= 33


@pytest.mark.parametrize("leaf", ["a file", "an empty folder"])
def test_a_tree_of_ten_billion_paths_in_ten_objects_is_refused_at_once(
    clone: Clone, reading: Reading, leaf: str
) -> None:
    empty = clone.git("mktree", stdin=b"")
    oid = clone.directory(f"100644 {clone.blob(b'x')} f") if leaf == "a file" else clone.directory(f"040000 {empty} e")
    for _ in range(10):
        oid = clone.directory(*(f"040000 {oid} d{number}" for number in range(10)))
    started = time.monotonic()
    assert refusal(reading, oid) == "limit"
    assert time.monotonic() - started < 5


def test_too_many_files_are_refused_before_a_blob_is_read(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(clone, trees.Limits(files=50))
    blobs = [clone.blob(b"%d" % number) for number in range(3)]
    folder = [f"100644 {blobs[number % 3]} f{number}" for number in range(25)]
    at_limit = clone.directory(f"040000 {clone.directory(*folder)} a", f"040000 {clone.directory(*folder)} b")
    over = clone.directory(
        f"100644 {blobs[0]} 0", f"040000 {clone.directory(*folder)} a", f"040000 {clone.directory(*folder)} b"
    )
    assert len(reading.trees.tree(at_limit)) == 50
    asked = reading.asked(monkeypatch)
    assert refusal(reading, over) == "limit"
    assert not set(asked) & set(blobs)
    reading.close()


def test_a_million_names_in_one_folder_are_refused_by_the_size_of_the_folder(clone: Clone, reading: Reading) -> None:
    raw = b"".join(line(b"100644", b"%07d" % number) for number in range(600_000))
    assert refusal(reading, clone.raw("tree", raw)) == "limit"


def test_many_wide_folders_are_given_up_before_all_are_read(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(clone, trees.Limits(files=50))
    blob = clone.blob(b"x")
    wide = [clone.directory(*(f"100644 {blob} {n}-{f}" for f in range(60))) for n in range(100)]
    root = clone.directory(*(f"040000 {oid} d{number}" for number, oid in enumerate(wide)))
    monkeypatch.setattr(objects, "CHUNK", 4)
    asked = reading.asked(monkeypatch)
    assert refusal(reading, root) == "limit"
    assert len(asked) < 10
    reading.close()


def test_a_long_name_is_not_multiplied(clone: Clone, reading: Reading) -> None:
    inner = clone.directory(*(f"100644 {clone.blob(b'x')} f{number}" for number in range(100)))
    assert refusal(reading, clone.directory(f"040000 {inner} {'n' * 1025}")) == "limit"
    assert len(reading.trees.tree(clone.directory(f"040000 {inner} {'n' * 1000}"))) == 100


def test_a_blob_over_the_limit_refuses_the_tree_and_a_configured_limit_goes_up(clone: Clone, reading: Reading) -> None:
    root = clone.directory(f"100644 {clone.blob(bytes((1 << 20) + 1))} big", f"100644 {clone.blob(b'x')} small")
    assert refusal(reading, root) == "limit"
    roomy = Reading(clone, trees.Limits(blob_bytes=2 << 20))
    assert len(roomy.trees.tree(root)) == 2
    roomy.close()


def test_the_sum_of_all_files_is_limited_whatever_is_known_already(clone: Clone) -> None:
    reading = Reading(clone, trees.Limits(tree_bytes=1000))
    blobs = [clone.blob(bytes([number]) * 400) for number in range(3)]
    two = clone.directory(*(f"100644 {oid} f{number}" for number, oid in enumerate(blobs[:2])))
    three = clone.directory(*(f"100644 {oid} f{number}" for number, oid in enumerate(blobs)))
    assert len(reading.trees.tree(two)) == 2
    assert refusal(reading, three) == "limit"
    assert refusal(reading, three) == "limit"
    reading.close()


def test_a_folder_that_names_a_file_is_refused(clone: Clone, reading: Reading) -> None:
    raw = line(b"40000", b"d", bytes.fromhex(clone.blob(b"x")))
    assert refusal(reading, clone.raw("tree", raw)) == "fsck"


def test_a_damaged_folder_is_an_integrity_alarm(clone: Clone, reading: Reading) -> None:
    folder = clone.directory(f"100644 {clone.blob(b'x')} f")
    root = clone.directory(f"040000 {folder} d")
    raw = line(b"100644", b"g", bytes.fromhex(clone.blob(b"x")))
    clone.damage(folder, b"tree %d\0" % len(raw) + raw)
    with pytest.raises(errors.AuditError) as caught:
        reading.trees.tree(root)
    assert caught.value.code == "object_hash"
