"""Objects hash to their names, stay within limits, and are told apart: missing, damaged, too large."""

from __future__ import annotations

import concurrent.futures
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clones import Clone

from reconciler import errors, model
from reconciler.git import objects, store

LIMIT = 1 << 20


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


@pytest.fixture
def reader(clone: Clone) -> Iterator[objects.ObjectReader]:
    scratch = store.Scratch()
    reader = objects.ObjectReader(store.private_git(scratch, (clone.git_dir / "objects",), "sha1"), timeout_s=20)
    yield reader
    reader.close()
    scratch.close()


def code_of(reader: objects.ObjectReader, oid: model.Oid, kind: str = "blob") -> tuple[type[Exception], str]:
    with pytest.raises(errors.ReconcilerError) as caught:
        reader.read(oid, kind, LIMIT)
    return type(caught.value), caught.value.code


def test_contents_come_in_the_order_asked_for(clone: Clone, reader: objects.ObjectReader) -> None:
    contents = [os.urandom(number * 37) for number in range(200)]
    oids = [clone.blob(content) for content in contents]
    assert list(reader.read_many(oids, "blob", LIMIT)) == list(zip(oids, contents, strict=True))
    assert list(reader.read_many([], "blob", LIMIT)) == []


def test_more_content_than_fits_at_once_comes_in_parts(
    clone: Clone, reader: objects.ObjectReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "CHUNK_BYTES", 1000)
    contents = [bytes([number]) * 600 for number in range(9)] + [b"x" * 5000, b""]
    oids = [clone.blob(content) for content in contents]
    assert [content for _, content in reader.read_many(oids, "blob", LIMIT)] == contents


def test_a_loose_object_under_the_wrong_name_is_an_integrity_alarm(clone: Clone, reader: objects.ObjectReader) -> None:
    good, bad = clone.blob(b"good"), clone.blob(b"was true")
    clone.damage(bad, b"blob 8\0was fals")
    assert code_of(reader, bad) == (errors.AuditError, "object_hash")
    assert reader.read(good, "blob", LIMIT) == b"good"


@pytest.mark.parametrize("kept", [0, 3, 10, -6])
def test_a_loose_object_cut_short_is_an_integrity_alarm(clone: Clone, reader: objects.ObjectReader, kept: int) -> None:
    oid = clone.blob(b"a file of some length " * 3)
    path = clone.loose_path(oid)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:kept])
    assert code_of(reader, oid) == (errors.AuditError, "object_hash")


def test_a_damaged_pack_is_an_integrity_alarm_and_others_are_still_read(
    clone: Clone, reader: objects.ObjectReader
) -> None:
    oids = [clone.blob(os.urandom(500)) for _ in range(20)]
    clone.commit_tree(clone.directory(*(f"100644 {oid} f{number}" for number, oid in enumerate(oids))))
    clone.git("repack", "-a", "-d", "-q")
    (pack,) = (clone.git_dir / "objects/pack").glob("*.pack")
    offset = next(
        int(line.split()[4]) for line in clone.git("verify-pack", "-v", str(pack)).splitlines() if oids[7] in line
    )
    content = bytearray(pack.read_bytes())
    content[offset + 6 : offset + 9] = b"\xff\xff\xff"
    pack.chmod(0o644)
    pack.write_bytes(content)
    with pytest.raises(errors.AuditError) as caught:
        list(reader.read_many(oids, "blob", LIMIT))
    assert oids[7] in str(caught.value)
    assert len(reader.read(oids[8], "blob", LIMIT)) == 500


def test_a_missing_object_is_a_reason_to_wait(reader: objects.ObjectReader) -> None:
    oid = model.Oid("1" * 40)
    assert code_of(reader, oid) == (errors.TransientError, "source_error")
    assert reader.kind_of(oid) == objects.MISSING


def test_a_large_blob_is_refused_before_any_of_it_is_sent(clone: Clone, reader: objects.ObjectReader) -> None:
    oid = clone.git("hash-object", "-w", "--stdin", stdin=bytes(40 << 20))
    assert code_of(reader, model.Oid(oid)) == (errors.PermanentError, "limit")
    assert reader._batch is not None
    assert len(reader._batch._held) < 4096
    assert reader.read(clone.blob(b"next"), "blob", LIMIT) == b"next"


def test_an_object_of_another_kind_is_refused(clone: Clone, reader: objects.ObjectReader) -> None:
    assert code_of(reader, clone.blob(b"x"), "tree") == (errors.PermanentError, "fsck")


@pytest.mark.parametrize("name", ["HEAD", "abc", "-x", "1" * 39, "1" * 40 + "\ninfo x", "A" * 40])
def test_only_full_ids_are_asked_for(reader: objects.ObjectReader, name: str) -> None:
    with pytest.raises(errors.ConfigError):
        reader.read(model.Oid(name), "blob", LIMIT)


def test_a_process_that_was_killed_is_started_again(clone: Clone, reader: objects.ObjectReader) -> None:
    oid = clone.blob(b"x")
    assert reader.read(oid, "blob", LIMIT) == b"x"
    assert reader._batch is not None
    os.kill(reader._batch._talk.running.pid, signal.SIGKILL)
    reader._batch._talk.running.wait()
    assert reader.read(clone.blob(b"y"), "blob", LIMIT) == b"y"


def test_a_process_that_hangs_is_given_up(clone: Clone, reader: objects.ObjectReader) -> None:
    reader.read(clone.blob(b"before"), "blob", LIMIT)
    oid = clone.blob(b"x")
    assert reader._batch is not None
    reader._batch._timeout_s = 0.2
    os.kill(reader._batch._talk.running.pid, signal.SIGSTOP)
    assert code_of(reader, oid) == (errors.TransientError, "source_error")
    assert reader.read(oid, "blob", LIMIT) == b"x"


def test_an_object_that_came_later_is_found(clone: Clone, reader: objects.ObjectReader) -> None:
    reader.read(clone.blob(b"first"), "blob", LIMIT)
    assert reader.read(clone.blob(b"second"), "blob", LIMIT) == b"second"


def test_many_threads_get_their_own_answers(clone: Clone, reader: objects.ObjectReader) -> None:
    contents = {clone.blob(content): content for content in (bytes([number]) * 100 for number in range(40))}

    def read_all() -> bool:
        return dict(reader.read_many(contents, "blob", LIMIT)) == contents

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: read_all(), range(12)))


def test_sha256_repositories_are_hashed_with_sha256(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "sha256", "--object-format=sha256")
    good, bad = clone.blob(b"good"), clone.blob(b"was true")
    clone.damage(bad, b"blob 8\0was fals")
    scratch = store.Scratch()
    git = store.private_git(scratch, (clone.git_dir / "objects",), "sha256")
    reader = objects.ObjectReader(git, object_format="sha256")
    assert reader.read(good, "blob", LIMIT) == b"good"
    assert code_of(reader, bad) == (errors.AuditError, "object_hash")
    reader.close()
    scratch.close()


def test_a_blob_that_holds_replies_is_only_a_blob(clone: Clone, reader: objects.ObjectReader) -> None:
    content = b"\n" + b"0" * 40 + b" blob 3\nabc\nflush\n"
    oids = [clone.blob(content), clone.blob(b"after")]
    assert [found for _, found in reader.read_many(oids, "blob", LIMIT)] == [content, b"after"]
