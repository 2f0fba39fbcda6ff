"""History and merges as the bytes say, in mirrors and clones that serve hostile configuration."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clones import MAIN, Clone

from reconciler import errors, model
from reconciler.git import repository, store, trees


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


@pytest.fixture
def opened(clone: Clone) -> Iterator[repository.GitRepository]:
    with repository.GitRepository(clone.git_dir) as made:
        yield made


def history_code(opened: repository.GitRepository, tip: model.Oid, after: model.Oid) -> str:
    with pytest.raises(errors.PermanentError) as caught:
        list(opened.first_parents(tip, after))
    return caught.value.code


def merged(clone: Clone, base: model.Oid, number: int = 1) -> tuple[model.Oid, model.Oid]:
    """A branch of one commit and its merge."""
    head = clone.commit({f"f{number}": b"branch"}, base, ref="refs/heads/feature")
    return head, clone.commit({f"f{number}": b"branch"}, base, head)


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- first parents -------------------------------------------------------------------------------------------------


def test_first_parents_come_oldest_first_without_what_they_bring_in(
    clone: Clone, opened: repository.GitRepository
) -> None:
    start = clone.commit({"a": b"1"})
    _, one = merged(clone, start, 1)
    _, two = merged(clone, one, 2)
    assert list(opened.first_parents(two, start)) == [one, two]
    assert list(opened.first_parents(two, two)) == []


def test_a_tip_older_than_the_last_accepted_commit_is_a_rewind(clone: Clone, opened: repository.GitRepository) -> None:
    start = clone.commit({"a": b"1"})
    _, one = merged(clone, start)
    assert history_code(opened, start, one) == "rewind"


def test_a_sideways_push_is_no_descendant(clone: Clone, opened: repository.GitRepository) -> None:
    start = clone.commit({"a": b"1"})
    one, other = clone.commit({"a": b"2"}, start), clone.commit({"a": b"3"}, start)
    assert history_code(opened, other, one) == "non_descendant"
    assert history_code(opened, clone.commit({"z": b"1"}), one) == "non_descendant"


def test_an_accepted_commit_reached_only_through_a_second_parent_breaks_the_chain(
    clone: Clone, opened: repository.GitRepository
) -> None:
    start = clone.commit({"a": b"1"})
    accepted = clone.commit({"a": b"2"}, start)
    feature = clone.commit({"b": b"1"}, start)
    foxtrot = clone.commit({"a": b"2"}, feature, accepted)
    assert history_code(opened, foxtrot, accepted) == "first_parent_broken"


def test_a_missing_commit_is_a_reason_to_wait_and_a_damaged_one_an_alarm(
    clone: Clone, opened: repository.GitRepository
) -> None:
    start = clone.commit({"a": b"1"})
    tip = clone.commit({"a": b"2"}, start)
    with pytest.raises(errors.TransientError):
        list(opened.first_parents(model.Oid("1" * 40), start))
    other = opened.commit(clone.commit({"a": b"3"}, start))
    clone.damage(tip, b"commit %d\0" % len(other) + other)
    with pytest.raises(errors.AuditError) as caught:
        list(opened.first_parents(tip, start))
    assert caught.value.code == "object_hash"


def test_a_commit_over_64_kib_is_refused(clone: Clone, opened: repository.GitRepository) -> None:
    start = clone.commit({"a": b"1"})
    raw = opened.commit(start)
    big = clone.raw("commit", raw + b"x" * (64 << 10))
    with pytest.raises(errors.PermanentError) as caught:
        opened.commit(big)
    assert caught.value.code == "limit"


# --- what a head brings in -----------------------------------------------------------------------------------------


def test_everything_between_base_and_head_comes_parents_first(clone: Clone, opened: repository.GitRepository) -> None:
    start = clone.commit({"a": b"1"})
    one = clone.commit({"b": b"1"}, start, ref="refs/heads/x")
    two = clone.commit({"c": b"1"}, start, ref="refs/heads/y")
    both = clone.commit({"c": b"1"}, one, two, ref="refs/heads/x")
    _, base = merged(clone, start)
    updated = clone.commit({"d": b"1"}, both, base, ref="refs/heads/x")
    found = opened.brought_in(updated, base)
    assert set(found) == {one, two, both, updated}
    assert found.index(both) > max(found.index(one), found.index(two))
    assert found[-1] == updated
    assert opened.brought_in(base, updated) == ()
    assert opened.brought_in(updated, updated) == ()


def test_more_commits_than_the_limit_are_refused(clone: Clone) -> None:
    start = tip = clone.commit({"a": b"0"})
    for number in range(6):
        tip = clone.commit({"a": b"%d" % number}, tip)
    with repository.GitRepository(clone.git_dir, limits=trees.Limits(commits=5)) as opened:
        with pytest.raises(errors.PermanentError) as caught:
            opened.brought_in(tip, start)
        assert caught.value.code == "limit"
        assert len(opened.brought_in(clone.tip("main~1"), start)) == 5


def test_all_merge_bases_are_told(clone: Clone, opened: repository.GitRepository) -> None:
    start = clone.commit({"a": b"1"})
    one, two = clone.commit({"b": b"1"}, start), clone.commit({"c": b"1"}, start)
    left, right = clone.commit({"c": b"1"}, one, two), clone.commit({"b": b"1"}, two, one)
    assert opened.merge_bases(one, two) == (start,)
    assert set(opened.merge_bases(left, right)) == {one, two}
    assert opened.merge_bases(one, clone.commit({"z": b"1"})) == ()


# --- the automatic merge -------------------------------------------------------------------------------------------


def test_the_automatic_merge_is_gits_and_its_tree_can_be_read(clone: Clone, opened: repository.GitRepository) -> None:
    start = clone.commit({"a": b"1\n2\n3\n4\n5\n", "b": b"x"})
    base = clone.commit({"a": b"one\n2\n3\n4\n5\n"}, start)
    head = clone.commit({"a": b"1\n2\n3\n4\nfive\n"}, start, ref="refs/heads/x")
    tree = opened.automatic_merge(base, head)
    assert tree is not None
    assert opened.tree(tree)[b"a"].sha256 == model.sha256(b"one\n2\n3\n4\nfive\n")
    other = clone.commit({"a": b"uno\n2\n3\n4\n5\n"}, start, ref="refs/heads/x")
    assert opened.automatic_merge(base, other) is None


def test_a_clone_is_never_written(clone: Clone) -> None:
    start = clone.commit({"a": b"1"})
    head, tip = merged(clone, start)
    other = clone.commit({"c": b"1"}, start, ref="refs/heads/y")
    before = snapshot(clone.path)
    with repository.GitRepository(clone.git_dir) as opened:
        assert opened.automatic_merge(tip, other) is not None
        assert opened.tree(tip) is not None
        assert opened.envelopes(head) == ()
        assert opened.brought_in(head, start) == (head,)
    assert snapshot(clone.path) == before


def test_served_configuration_and_attributes_run_nothing(clone: Clone, tmp_path: Path) -> None:
    attributes = b"* filter=evil merge=evil diff=evil text eol=crlf ident export-subst\n"
    start = clone.commit({".gitattributes": attributes, "a": b"$Id$\n2\n3\n4\n5\n"})
    base = clone.commit({"a": b"$Id$\none\n3\n4\n5\n"}, start)
    head = clone.commit({"a": b"$Id$\n2\n3\n4\nfive\n"}, start, ref="refs/heads/x")
    touched = tmp_path / "touched"
    run = f"touch {touched}; cat"
    for name in (
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "diff.external",
        "credential.helper",
    ):
        clone.git("config", name, f"!{run}" if name.startswith("cred") else run)
    for name in (
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "merge.evil.driver",
        "diff.evil.textconv",
    ):
        clone.git("config", name, f"{run} %A")
    clone.git("config", "alias.rev-list", f"!{run}")
    clone.git("config", "core.hooksPath", str(tmp_path / "hooks"))
    for folder in (tmp_path / "hooks", clone.git_dir / "hooks"):
        folder.mkdir(exist_ok=True)
        for hook in ("reference-transaction", "post-checkout", "pre-merge-commit", "post-index-change"):
            (folder / hook).write_text(f"#!/bin/sh\ntouch {touched}\n")
            (folder / hook).chmod(0o755)
    (clone.git_dir / "info").mkdir(exist_ok=True)
    (clone.git_dir / "info/attributes").write_bytes(attributes)
    with repository.GitRepository(clone.git_dir) as opened:
        tree = opened.automatic_merge(base, head)
        assert tree is not None
        assert opened.read(opened.tree(tree)[b"a"].oid) == b"$Id$\none\n3\n4\nfive\n"
        assert opened.resolve(MAIN) == base
        assert opened.envelopes(head) == ()
        assert list(opened.first_parents(base, start)) == [base]
    assert not touched.exists()
    clone.git("update-ref", "refs/heads/hooks-would-run", base)
    assert touched.exists()


# --- what would make git see another history -----------------------------------------------------------------------


def test_replacement_refs_grafts_and_a_false_commit_graph_change_nothing(clone: Clone) -> None:
    start = clone.commit({"a": b"1"})
    evil = clone.commit({"a": b"evil"}, start)
    head, tip = merged(clone, start)
    clone.git("commit-graph", "write", "--reachable")
    graph = clone.git_dir / "objects/info/commit-graph"
    graph.chmod(0o644)
    graph.write_bytes(graph.read_bytes().replace(bytes.fromhex(head), bytes.fromhex(evil)))
    clone.git("update-ref", f"refs/replace/{tip}", evil)
    (clone.git_dir / "info").mkdir(exist_ok=True)
    (clone.git_dir / "info/grafts").write_text(f"{tip} {evil}\n{head} {evil}\n")
    with repository.GitRepository(clone.git_dir) as opened:
        assert list(opened.first_parents(tip, start)) == [tip]
        assert opened.brought_in(head, start) == (head,)
        assert opened.tree(tip)[b"a"].sha256 == model.sha256(b"1")
        assert opened.merge_bases(head, start) == (start,)


def test_a_shallow_boundary_is_missing_history_and_no_beginning(clone: Clone, tmp_path: Path) -> None:
    start = clone.commit({"a": b"1"})
    first = clone.commit({"a": b"2"}, start)
    tip = clone.commit({"a": b"3"}, first)
    shallow = Clone(tmp_path / "shallow")
    shallow.git(
        "-c", "protocol.file.allow=always", "fetch", "--quiet", "--depth=1", clone.url, f"{MAIN}:refs/heads/fetched"
    )
    with repository.GitRepository(shallow.git_dir) as opened:
        assert opened.tree(tip)
        with pytest.raises(errors.TransientError):
            list(opened.first_parents(tip, start))


# --- approvals -----------------------------------------------------------------------------------------------------


def test_envelopes_come_in_the_order_of_their_names_and_only_for_their_head(
    clone: Clone, opened: repository.GitRepository
) -> None:
    head, other = clone.commit({"a": b"1"}), clone.commit({"a": b"2"})
    envelopes = [json.dumps({"payload": number}).encode() for number in range(5)]
    for envelope in envelopes:
        clone.approve(head, envelope)
    clone.approve(other, b"other")
    assert opened.envelopes(head) == tuple(sorted(envelopes, key=model.sha256))
    assert opened.envelopes(other) == (b"other",)


def test_what_is_no_envelope_is_passed_over(clone: Clone, opened: repository.GitRepository) -> None:
    head = clone.commit({"a": b"1"})
    prefix = f"refs/approvals/v1/{head[:12]}"
    clone.approve(head, b"honest")
    clone.approve(head, b"x" * ((64 << 10) + 1))
    clone.git("update-ref", f"{prefix}/blob", clone.blob(b"x"))
    clone.commit_tree(clone.directory(f"100644 {clone.blob(b'x')} other.json"), ref=f"{prefix}/other")
    clone.commit_tree(clone.directory(f"120000 {clone.blob(b'/etc/passwd')} envelope.json"), ref=f"{prefix}/link")
    assert opened.envelopes(head) == (b"honest",)


def test_an_approval_that_another_process_wrote_is_seen_at_the_next_call(
    clone: Clone, opened: repository.GitRepository
) -> None:
    head = clone.commit({"a": b"1"})
    assert opened.envelopes(head) == ()
    seen = set()
    for number in range(6):
        envelope = b"%d" % number
        clone.approve(head, envelope)
        seen.add(envelope)
        assert set(opened.envelopes(head)) == seen
        if number % 2:
            clone.git("pack-refs", "--all")
            assert set(opened.envelopes(head)) == seen
    ref = clone.approve(head, b"taken back")
    clone.git("pack-refs", "--all")
    assert len(opened.envelopes(head)) == 7
    clone.git("update-ref", "-d", ref)
    assert set(opened.envelopes(head)) == seen


def test_what_approvals_of_one_name_say_is_the_newest_place(clone: Clone, opened: repository.GitRepository) -> None:
    head = clone.commit({"a": b"1"})
    ref = clone.approve(head, b"old")
    clone.git("pack-refs", "--all")
    assert opened.envelopes(head) == (b"old",)
    clone.git("update-ref", ref, clone.tip(clone.approve(head, b"new")))
    assert opened.envelopes(head) == (b"new", b"new")


def test_an_approval_whose_objects_are_not_here_is_a_reason_to_wait(
    clone: Clone, opened: repository.GitRepository
) -> None:
    head = clone.commit({"a": b"1"})
    clone.approve(head, b"here")
    ref = clone.git_dir / f"refs/approvals/v1/{head[:12]}/missing"
    ref.write_text("1" * 40 + "\n")
    with pytest.raises(errors.TransientError):
        opened.envelopes(head)
    ref.write_text("half writ")  # As git does: no ref yet.
    assert opened.envelopes(head) == (b"here",)


def test_merges_that_are_read_ahead_are_read_in_few_exchanges(
    clone: Clone, opened: repository.GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    tips, heads = [clone.commit({"targets/a/f": b"0", "targets/b/f": b"0"})], []
    for number in range(5):
        head = clone.commit({"targets/a/f": b"%d" % number}, tips[-1], ref="refs/heads/x")
        heads.append(head)
        tips.append(clone.commit({"targets/a/f": b"%d" % number}, tips[-1], head))
        clone.approve(head, head.encode())
    assert opened.tree(tips[0])
    exchanges: list[int] = []
    ask = opened._objects._ask

    def note(oids: tuple[model.Oid, ...], *rest: Any) -> Any:
        exchanges.append(len(oids))
        return ask(oids, *rest)

    monkeypatch.setattr(opened._objects, "_ask", note)
    for number, tip in enumerate(opened.first_parents(tips[-1], tips[0])):
        assert opened.commit(tip)
        assert opened.brought_in(heads[number], tips[number]) == (heads[number],)
        assert opened.tree(heads[number]) is opened.tree(tip)
        assert opened.envelopes(heads[number]) == (heads[number].encode(),)
    assert len(exchanges) < 30


def test_too_many_approvals_hold_their_own_head_only(clone: Clone) -> None:
    head, other = clone.commit({"a": b"1"}), clone.commit({"a": b"2"})
    wrapper = clone.tip()
    names = (f"refs/approvals/v1/{head[:12]}/{number:064x}" for number in range(4097))
    packed = "".join(f"{wrapper} {name}\n" for name in names)
    (clone.git_dir / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + packed)
    clone.approve(other, b"other")
    with repository.GitRepository(clone.git_dir) as opened:
        with pytest.raises(errors.PermanentError) as caught:
            opened.envelopes(head)
        assert caught.value.code == "limit"
        assert opened.envelopes(other) == (b"other",)


# --- names, folders, quarantine ------------------------------------------------------------------------------------


def test_a_name_is_resolved_only_in_full(clone: Clone, opened: repository.GitRepository) -> None:
    tip = clone.commit({"a": b"1"})
    blob = clone.blob(b"x")
    assert opened.resolve(MAIN) == opened.resolve("HEAD") == opened.resolve(tip) == tip
    assert opened.exists(tip)
    assert not opened.exists(model.Oid("1" * 40))
    for name in (
        "main",
        "-x",
        "--all",
        "HEAD~1",
        "refs/heads/main^",
        "refs/heads/none",
        "main@{1}",
        tip[:12],
        blob,
        "@",
    ):
        with pytest.raises(errors.ConfigError):
            opened.resolve(name)


def test_linked_work_trees_and_inner_folders_lead_to_their_repository(clone: Clone, tmp_path: Path) -> None:
    tip = clone.commit({"a/b": b"1"})
    clone.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), tip)
    for folder in (tmp_path / "linked", tmp_path / "linked/a", clone.path, clone.git_dir):
        with repository.GitRepository(store.find_git_dir(folder)) as opened:
            assert opened.resolve(MAIN) == tip
            assert list(opened.tree(tip)) == [b"a/b"]
    with pytest.raises(errors.ConfigError):
        store.find_git_dir(tmp_path)
    with pytest.raises(errors.ConfigError):
        repository.GitRepository(tmp_path)


def test_a_hooks_quarantine_is_read_only_when_it_is_handed_over_and_lies_inside(clone: Clone, tmp_path: Path) -> None:
    start = clone.commit({"a": b"1"})
    clone.unpack()
    quarantine = clone.git_dir / "objects/incoming-x"
    tip = clone.commit({"a": b"2"}, start)
    clone.unpack()
    quarantine.mkdir()
    for oid in (tip, clone.tip(f"{tip}^{{tree}}"), clone.blob(b"2")):
        (quarantine / oid[:2]).mkdir(exist_ok=True)
        clone.loose_path(oid).rename(quarantine / oid[:2] / oid[2:])
    hook = {"GIT_OBJECT_DIRECTORY": str(quarantine), "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(clone.git_dir / "objects")}
    with repository.GitRepository(clone.git_dir) as blind, pytest.raises(errors.TransientError):
        blind.tree(tip)
    with repository.GitRepository(clone.git_dir, quarantine=hook) as opened:
        assert list(opened.first_parents(tip, start)) == [tip]
        assert opened.tree(tip)[b"a"].sha256 == model.sha256(b"2")
    with pytest.raises(errors.ConfigError) as caught:
        repository.GitRepository(clone.git_dir, quarantine={"GIT_QUARANTINE_PATH": str(tmp_path)})
    assert caught.value.code == "quarantine"


def test_a_sha256_repository_is_read_as_one(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "sha256", "--object-format=sha256")
    start = clone.commit({"a": b"1"})
    head, tip = merged(clone, start)
    clone.approve(head, b"envelope")
    with repository.GitRepository(clone.git_dir) as opened:
        assert list(opened.first_parents(tip, start)) == [tip]
        assert opened.brought_in(head, start) == (head,)
        assert opened.tree(tip)[b"a"].sha256 == model.sha256(b"1")
        assert opened.automatic_merge(start, head) == clone.tip(f"{head}^{{tree}}")
        assert opened.envelopes(head) == (b"envelope",)


def test_nothing_is_left_behind(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tip = clone.commit({"a": b"1"})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with repository.GitRepository(clone.git_dir) as opened:
        assert opened.tree(tip)
        assert any(scratch.iterdir())
    assert not any(scratch.iterdir())


def test_a_repository_that_nobody_closed_ends_its_process_and_its_folder(clone: Clone) -> None:
    tip = clone.commit({"a": b"1"})
    opened = repository.GitRepository(clone.git_dir)
    assert opened.tree(tip)
    assert opened._objects._batch is not None
    running, folder = opened._objects._batch._talk.running, opened._scratch.path
    del opened
    gc.collect()
    assert running.poll() is not None
    assert not folder.exists()
