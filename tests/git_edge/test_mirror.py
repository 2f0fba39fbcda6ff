"""The mirror fetches what it must, says what went wrong, and is not taken over by what it fetches or by who touches it."""

from __future__ import annotations

import fcntl
import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from support.clones import MAIN, Clone

from reconciler import errors, model
from reconciler.git import approvals, mirror, process, store, trees

Open = Callable[..., mirror.Mirror]


@pytest.fixture
def remote(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "remote", "--bare")


@pytest.fixture
def open_mirror(remote: Clone, tmp_path: Path) -> Iterator[Open]:
    made: list[mirror.Mirror] = []

    def open_one(url: str = "", ref: str = MAIN, **limits: float) -> mirror.Mirror:
        watched = mirror.Watched(process.Remote(url or remote.url, allow_file=True), ref)
        made.append(
            mirror.Mirror(
                tmp_path / "state/mirror.git",
                watched,
                process_limits=process.ProcessLimits(**limits),  # type: ignore[arg-type]
            )
        )
        return made[-1]

    yield open_one
    for one in made:
        one.close()


def merged(clone: Clone, base: model.Oid, name: str = "f") -> tuple[model.Oid, model.Oid]:
    head = clone.commit({name: b"branch"}, base, ref="refs/heads/feature")
    return head, clone.commit({name: b"branch"}, base, head)


def failure(fetch: Callable[[], object], kind: type[errors.ReconcilerError]) -> errors.ReconcilerError:
    with pytest.raises(kind) as caught:
        fetch()
    return caught.value


NONE: frozenset[model.Oid] = frozenset()


# --- what is fetched -----------------------------------------------------------------------------------------------


def test_the_tip_and_the_approvals_of_new_and_waiting_heads_come_and_nothing_else(
    remote: Clone, open_mirror: Open
) -> None:
    start = remote.commit({"a": b"1"})
    head, tip = merged(remote, start)
    waiting = remote.commit({"w": b"1"}, start, ref="refs/heads/other")
    stranger = remote.commit({"s": b"1"}, start, ref="refs/heads/stranger")
    for oid in (head, waiting, stranger):
        remote.approve(oid, oid.encode())
    remote.git("tag", "v1", tip)
    remote.git("update-ref", f"refs/replace/{tip}", stranger)
    source = open_mirror()
    assert source.fetch(start, frozenset({waiting})) == tip
    assert source.repository.envelopes(head) == (head.encode(),)
    assert source.repository.envelopes(waiting) == (waiting.encode(),)
    assert source.repository.envelopes(stranger) == ()
    assert not source.repository.exists(stranger)
    assert list(source.repository.first_parents(tip, start)) == [tip]


def test_the_approvals_of_the_heads_before_an_update_of_the_branch_come_too(remote: Clone, open_mirror: Open) -> None:
    start = remote.commit({"a": b"1"})
    moved = remote.commit({"a": b"1", "b": b"1"}, start)
    first = remote.commit({"f": b"1"}, start)
    second = remote.commit({"f": b"1", "b": b"1"}, first, moved)
    third = remote.commit({"f": b"1", "b": b"2"}, second, moved)
    before = remote.commit({"f": b"0"}, start, ref="refs/heads/other")
    for oid in (first, second, third, before):
        remote.approve(oid, oid.encode())
    tip = remote.commit({"f": b"1", "b": b"2"}, moved, third)
    source = open_mirror()
    assert source.fetch(start, NONE) == tip
    assert [source.repository.envelopes(oid) for oid in (first, second, third, before)] == [
        (first.encode(),), (second.encode(),), (third.encode(),), (),
    ]  # fmt: skip


def test_an_idle_poll_is_one_fetch_of_one_ref(
    remote: Clone, open_mirror: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = remote.commit({"a": b"1"})
    source = open_mirror()
    source.fetch(tip, NONE)
    calls: list[tuple[str, ...]] = []
    run = source._git.run

    def note(
        *command: str, remote: process.Remote | None = None, config: Iterable[str] = (), stdin: bytes = b""
    ) -> process.Finished:
        if remote:
            calls.append(command)
        return run(*command, remote=remote, config=config, stdin=stdin)

    monkeypatch.setattr(source._git, "run", note)
    assert source.fetch(tip, NONE) == tip
    assert [call[-1] for call in calls] == [f"+{MAIN}:refs/incoming/tip"]
    assert source.fetch(tip, frozenset({tip})) == tip
    assert len(calls) == 3


def test_an_envelope_that_was_seen_stays_when_the_remote_takes_it_away(remote: Clone, open_mirror: Open) -> None:
    start = remote.commit({"a": b"1"})
    head, _ = merged(remote, start)
    ref = remote.approve(head, b"reject")
    source = open_mirror()
    source.fetch(start, NONE)
    remote.git("update-ref", "-d", ref)
    remote.approve(head, b"approve")
    source.fetch(start, NONE)
    assert set(source.repository.envelopes(head)) == {b"reject", b"approve"}


def test_an_unmerged_head_comes_by_its_id(remote: Clone, open_mirror: Open) -> None:
    start = remote.commit({"a": b"1"})
    head = remote.commit({"a": b"2"}, start, ref="refs/heads/feature")
    remote.approve(head, b"early")
    source = open_mirror()
    assert source.fetch(start, NONE) == start
    assert not source.repository.exists(head)
    source.fetch_head(head)
    assert source.repository.brought_in(head, start) == (head,)
    assert source.repository.envelopes(head) == (b"early",)
    missing = failure(lambda: source.fetch_head(model.Oid("1" * 40)), errors.TransientError)
    assert (missing.code, missing.fix) == ("source_error", "push the head first")
    assert failure(lambda: source.fetch_head(model.Oid("main")), errors.ConfigError).code == "oid"


def test_a_sha256_repository_is_mirrored_as_one(tmp_path: Path) -> None:
    remote = Clone(tmp_path / "remote256", "--bare", "--object-format=sha256")
    tip = remote.commit({"a": b"1"})
    watched = mirror.Watched(process.Remote(remote.url, allow_file=True), MAIN, "sha256")
    source = mirror.Mirror(tmp_path / "mirror256", watched)
    assert source.fetch(tip, NONE) == tip
    assert source.repository.tree(tip)[b"a"].sha256 == model.sha256(b"1")
    source.close()


# --- histories that go wrong ---------------------------------------------------------------------------------------


def test_a_lagging_replica_gives_its_older_tip_and_the_walk_says_rewind(remote: Clone, open_mirror: Open) -> None:
    start = remote.commit({"a": b"1"})
    _, tip = merged(remote, start)
    source = open_mirror()
    assert source.fetch(start, NONE) == tip
    remote.git("update-ref", MAIN, start)
    assert source.fetch(tip, NONE) == start
    refused = failure(lambda: list(source.repository.first_parents(start, tip)), errors.PermanentError)
    assert refused.code == "rewind"
    assert source.repository.tree(tip)  # what was accepted is still here
    remote.git("update-ref", MAIN, tip)
    assert source.fetch(tip, NONE) == tip


def test_a_sideways_push_is_fetched_and_named(remote: Clone, open_mirror: Open) -> None:
    start = remote.commit({"a": b"1"})
    _, tip = merged(remote, start)
    source = open_mirror()
    source.fetch(start, NONE)
    other = remote.commit({"z": b"1"}, start)
    assert source.fetch(tip, NONE) == other
    assert (
        failure(lambda: list(source.repository.first_parents(other, tip)), errors.PermanentError).code
        == "non_descendant"
    )


def test_a_ref_that_is_gone_is_told_from_a_source_that_is_away(
    remote: Clone, open_mirror: Open, tmp_path: Path
) -> None:
    tip = remote.commit({"a": b"1"})
    remote.git("update-ref", "refs/heads/mainly", tip)
    source = open_mirror()
    source.fetch(tip, NONE)
    remote.git("update-ref", "-d", MAIN)
    assert failure(lambda: source.fetch(tip, NONE), errors.PermanentError).code == "ref_missing"
    remote.path.rename(tmp_path / "moved")
    assert failure(lambda: source.fetch(tip, NONE), errors.TransientError).code == "source_error"


def test_an_empty_remote_has_no_such_ref(open_mirror: Open) -> None:
    source = open_mirror()
    assert failure(lambda: source.fetch(model.Oid("1" * 40), NONE), errors.PermanentError).code == "ref_missing"


def test_a_commit_that_is_not_in_the_source_is_to_be_pushed_there(remote: Clone, open_mirror: Open) -> None:
    remote.commit({"a": b"1"})
    source, pinned = open_mirror(), model.Oid("1" * 40)
    refused = failure(lambda: source.fetch(pinned, NONE), errors.TransientError)
    assert refused.message == f"the commit {pinned} is not in the source"
    assert (refused.code, refused.where) == ("source_error", f"file://{remote.path}")
    assert "source.genesis" in refused.fix


def test_an_unreachable_host_is_a_source_error_without_its_secrets(tmp_path: Path) -> None:
    auth = process.Auth(token="hunter2")
    watched = mirror.Watched(process.Remote("https://127.0.0.1:1/ops/state.git", auth), MAIN)
    source = mirror.Mirror(tmp_path / "m", watched)
    refused = failure(lambda: source.fetch(model.Oid("1" * 40), NONE), errors.TransientError)
    assert refused.code == "source_error"
    assert "hunter2" not in str(refused)
    assert len(str(refused)) < 300
    source.close()


def test_ssh_trusts_no_host_that_is_not_in_the_given_file(tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    remote = process.Remote("ssh://git@127.0.0.1:1/x", process.Auth(ssh_key=tmp_path / "key", known_hosts=known))
    source = mirror.Mirror(tmp_path / "m", mirror.Watched(remote, MAIN))
    refused = failure(lambda: source.fetch(model.Oid("1" * 40), NONE), errors.TransientError)
    assert refused.code == "source_error"
    command = source._git._environment(remote)["GIT_SSH_COMMAND"]
    assert "StrictHostKeyChecking=yes" in command
    assert f"UserKnownHostsFile={known}" in command
    source.close()


def test_a_remote_that_hangs_is_given_up(remote: Clone, open_mirror: Open) -> None:
    tip = remote.commit({"a": b"1"})
    source = open_mirror(timeout_s=1.5)
    source.fetch(tip, NONE)
    packed = remote.path / "packed-refs"
    remote.git("pack-refs", "--all")
    packed.unlink()
    os.mkfifo(packed)  # upload-pack opens it and waits for a writer
    assert failure(lambda: source.fetch(tip, NONE), errors.TransientError).code == "source_error"


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "git~1", ".g\u200cit"])
def test_what_fsck_refuses_does_not_get_in(remote: Clone, open_mirror: Open, name: str) -> None:
    start = remote.commit({"a": b"1"})
    blob = remote.blob(b"x")
    raw = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
    tip = remote.commit_tree(remote.raw("tree", raw), start)
    source = open_mirror()
    refused = failure(lambda: source.fetch(start, NONE), errors.TransientError)
    assert (refused.code, refused.where) == ("source_error", f"file://{remote.path}")
    assert "error: object " in refused.message
    assert not source.repository.exists(tip)


def test_hooks_and_configuration_of_the_remote_run_nothing_here(
    remote: Clone, open_mirror: Open, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    modules = f'[submodule "x"]\n\tpath = x\n\turl = ext::touch {touched}\n'.encode()
    start = remote.commit(
        {"bare.git/HEAD": b"ref: x\n", "bare.git/config": f"[core]\n\tfsmonitor = touch {touched}\n".encode()}
    )
    tip = remote.commit({".gitmodules": modules, ".gitattributes": b"* filter=x\n"}, start)
    for name in ("core.fsmonitor", "core.sshCommand", "uploadpack.packObjectsHook", "core.gitProxy"):
        remote.git("config", name, f"touch {touched}")
    (remote.path / "hooks").mkdir(exist_ok=True)
    for hook in ("post-update", "reference-transaction", "pre-auto-gc"):
        (remote.path / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {touched}\n")
        (remote.path / "hooks" / hook).chmod(0o755)
    source = open_mirror()
    assert source.fetch(start, NONE) == tip
    tree = source.repository.tree(tip)
    assert tree[b"bare.git/HEAD"].mode == "100644"
    assert tree[b".gitmodules"].sha256 == model.sha256(modules)
    assert not touched.exists()
    remote.git("update-ref", "refs/heads/hooks-would-run", start)
    assert touched.exists()


def test_a_hook_in_the_mirror_does_not_run(remote: Clone, open_mirror: Open, tmp_path: Path) -> None:
    tip = remote.commit({"a": b"1"})
    source = open_mirror()
    hooks = tmp_path / "state/mirror.git/hooks"
    hooks.mkdir()
    touched = tmp_path / "touched"
    (hooks / "reference-transaction").write_text(f"#!/bin/sh\ntouch {touched}\n")
    (hooks / "reference-transaction").chmod(0o755)
    assert source.fetch(tip, NONE) == tip
    assert not touched.exists()


# --- the mirror's own state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shallow", "1" * 40 + "\n"),
        ("info/grafts", "1" * 40 + "\n"),
        ("info/attributes", "* merge=evil\n"),
        ("objects/info/alternates", "/elsewhere\n"),
        ("config", "[core]\n\tsshCommand = evil\n"),
        ("config.worktree", "[core]\n"),
        ("commondir", "../elsewhere\n"),
        ("HEAD", "ref: refs/heads/main\n"),
    ],
)
def test_a_mirror_that_is_not_as_we_made_it_is_an_integrity_alarm(
    remote: Clone, open_mirror: Open, tmp_path: Path, name: str, content: str
) -> None:
    tip = remote.commit({"a": b"1"})
    source = open_mirror()
    source.fetch(tip, NONE)
    path = tmp_path / "state/mirror.git" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    assert failure(lambda: source.fetch(tip, NONE), errors.AuditError).code == "repo_config"
    assert failure(lambda: source.fetch_head(tip), errors.AuditError).code == "repo_config"
    assert failure(open_mirror, errors.AuditError).code == "repo_config"


def test_a_mirror_is_opened_again_as_it_was(remote: Clone, open_mirror: Open) -> None:
    tip = remote.commit({"a": b"1"})
    open_mirror().fetch(tip, NONE)
    again = open_mirror()
    assert again.repository.exists(tip)
    assert again.fetch(tip, NONE) == tip


def test_locks_of_a_git_that_was_killed_do_not_stop_the_next_fetch(
    remote: Clone, open_mirror: Open, tmp_path: Path
) -> None:
    start = remote.commit({"a": b"1"})
    source = open_mirror()
    source.fetch(start, NONE)
    git_dir = tmp_path / "state/mirror.git"
    for left in ("refs/incoming/tip.lock", "packed-refs.lock", "objects/pack/tmp_pack_x"):
        (git_dir / left).touch()
    tip = remote.commit({"a": b"2"}, start)
    assert failure(lambda: source.fetch(start, NONE), errors.TransientError).code == "source_error"
    assert source.fetch(start, NONE) == tip
    (git_dir / "refs/incoming/tip.lock").touch()
    assert open_mirror().fetch(start, NONE) == tip
    assert not list(git_dir.rglob("*.lock"))


def test_two_writers_never_share_a_mirror(
    remote: Clone, open_mirror: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tip = remote.commit({"a": b"1"})
    source = open_mirror()
    monkeypatch.setattr(mirror, "LOCK_WAIT_S", 0.2)
    with (tmp_path / "state/mirror.git.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        refused = failure(lambda: source.fetch(tip, NONE), errors.TransientError)
    assert refused.code == "source_error"
    assert source.fetch(tip, NONE) == tip


def test_a_damaged_object_in_the_mirror_is_an_alarm_and_not_a_verdict(
    remote: Clone, open_mirror: Open, tmp_path: Path
) -> None:
    tip = remote.commit({"a": b"1"})
    source = open_mirror()
    source.fetch(tip, NONE)
    (pack,) = (tmp_path / "state/mirror.git/objects/pack").glob("*.pack")
    content = pack.read_bytes()
    pack.chmod(0o644)
    pack.write_bytes(content[:12] + bytes(len(content) - 32) + content[-20:])
    assert failure(lambda: source.repository.tree(tip), errors.AuditError).code == "object_hash"


def test_a_mirror_whose_reading_process_was_killed_goes_on(remote: Clone, open_mirror: Open) -> None:
    start = remote.commit({"a": b"1"})
    source = open_mirror()
    source.fetch(start, NONE)
    assert source.repository.tree(start)
    batch = source.repository._objects._batch
    assert batch is not None
    os.kill(batch._talk.running.pid, signal.SIGKILL)
    tip = remote.commit({"a": b"2"}, start)
    assert source.fetch(start, NONE) == tip
    assert len(source.repository.tree(tip)) == 1


def test_only_a_branch_can_be_watched(remote: Clone) -> None:
    for ref in ("HEAD", "main", "refs/tags/v1", "refs/heads/../x", "refs/approvals/v1/x"):
        with pytest.raises(errors.ConfigError):
            mirror.Watched(process.Remote(remote.url, allow_file=True), ref)


def test_the_names_of_approvals_are_an_index_by_twelve_digits() -> None:
    assert re.fullmatch(r"refs/approvals/v1/[0-9a-f]{12}/", approvals.prefix_of(model.Oid("ab" * 20)))


def test_many_packs_become_few_and_no_object_is_lost(
    remote: Clone, open_mirror: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mirror, "MANY_PACKS", 4)
    start = before = remote.commit({"a": b"0"})
    source = open_mirror()
    source.fetch(start, NONE)
    for number in range(3):
        before = remote.commit({"a": b"%d" % number}, before)
        source.fetch(start, NONE)
    lost = remote.commit({"a": b"lost"}, before)
    assert source.fetch(start, NONE) == lost
    after = before
    for number in range(10, 14):  # a sideways push: no ref reaches `lost` any more
        after = remote.commit({"b": b"%d" % number}, after)
        assert source.fetch(start, NONE) == after
    packs = list((tmp_path / "state/mirror.git/objects/pack").glob("*.pack"))
    assert len(packs) <= 5
    assert source.repository.tree(lost)[b"a"].sha256 == model.sha256(b"lost")
    assert len(list(source.repository.first_parents(after, start))) == 7


def test_what_a_stranger_pushes_beside_the_approvals_of_one_head_holds_no_other(
    remote: Clone, open_mirror: Open
) -> None:
    start = remote.commit({"a": b"1"})
    head, tip = merged(remote, start)
    other = remote.commit({"w": b"1"}, start, ref="refs/heads/other")
    for oid in (head, other):
        remote.approve(oid, b"honest")
    malformed = remote.raw("commit", f"tree {remote.tip(f'{start}^{{tree}}')}\nauthor x\n\n".encode())
    bad = f"refs/approvals/v1/{other[:12]}/bad"
    path = remote.path / bad
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(malformed + "\n")
    source = open_mirror()
    assert source.fetch(start, frozenset({other})) == tip
    assert source.repository.envelopes(head) == (b"honest",)
    assert failure(lambda: source.repository.envelopes(other), errors.TransientError).code == "source_error"
    path.unlink()
    assert source.fetch(start, frozenset({other})) == tip
    assert source.repository.envelopes(other) == (b"honest",)


def test_a_name_below_an_approval_that_was_seen_is_passed_over(remote: Clone, open_mirror: Open) -> None:
    start = remote.commit({"a": b"1"})
    head, tip = merged(remote, start)
    first = remote.approve(head, b"first")
    source = open_mirror()
    source.fetch(start, NONE)
    wrapper = remote.tip(first)
    remote.git("update-ref", "-d", first)
    remote.git("update-ref", f"{first}/below", wrapper)
    remote.approve(head, b"second")
    assert source.fetch(start, NONE) == tip
    assert set(source.repository.envelopes(head)) == {b"first", b"second"}


def test_a_source_that_goes_away_between_the_two_round_trips_is_a_source_error(
    remote: Clone, open_mirror: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start = remote.commit({"a": b"1"})
    merged(remote, start)
    source = open_mirror()
    tip = source._tip

    def tip_and_gone() -> model.Oid:
        remote.path.rename(tmp_path / "moved")
        return tip()

    monkeypatch.setattr(source, "_tip", tip_and_gone)
    assert failure(lambda: source.fetch(start, NONE), errors.TransientError).code == "source_error"


def test_an_uploaded_approval_lies_beside_the_fetched_ones(remote: Clone, open_mirror: Open) -> None:
    start = remote.commit({"a": b"1"})
    head, _ = merged(remote, start)
    remote.approve(head, b"pushed")
    source = open_mirror()
    ref = source.keep_approval(head, b"uploaded")
    assert source.keep_approval(head, b"uploaded") == ref
    source.fetch(start, NONE)
    assert set(source.repository.envelopes(head)) == {b"pushed", b"uploaded"}
    remote.approve(head, b"uploaded")
    source.fetch(start, NONE)
    assert len(source.repository.envelopes(head)) == 2
    refused = failure(lambda: source.keep_approval(head, b"x" * ((64 << 10) + 1)), errors.PermanentError)
    assert refused.code == "limit"


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    dead = tmp_path / "reconciler-git-4194304999-x"  # Beyond the highest process id.
    living = tmp_path / f"reconciler-git-{os.getpid()}-x"
    dead.mkdir()
    living.mkdir()
    made = store.Scratch(tmp_path)
    assert (dead.exists(), living.exists(), made.path.parent) == (False, True, tmp_path)
    made.close()
    assert not made.path.exists()


def test_a_head_with_more_approvals_than_are_read_is_fetched_once_and_not_asked_for_again(
    remote: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = remote.commit({"a": b"1"})
    head, tip = merged(remote, base)
    for number in range(3):
        remote.approve(head, b"%d" % number)
    watched = mirror.Watched(process.Remote(remote.url, allow_file=True), MAIN)
    source = mirror.Mirror(tmp_path / "m.git", watched, limits=trees.Limits(envelopes=2))
    source.fetch(base, frozenset({head}))
    with pytest.raises(errors.PermanentError) as caught:
        source.repository.envelopes(head)
    assert caught.value.code == "limit"
    assert (tmp_path / "m.git/packed-refs").read_text().count(approvals.prefix_of(head)) == 3

    asked: list[str] = []
    fetch = source._fetch

    def note(*refspecs: str) -> None:
        asked.extend(refspecs)
        fetch(*refspecs)

    monkeypatch.setattr(source, "_fetch", note)
    assert source.fetch(base, frozenset({head})) == tip
    assert not any("approvals" in refspec for refspec in asked)
    source.close()


def test_a_ref_whose_id_was_lost_in_a_power_cut_is_fetched_again(
    remote: Clone, open_mirror: Open, tmp_path: Path
) -> None:
    base = remote.commit({"a": b"1"})
    head, _ = merged(remote, base)
    ref = remote.approve(head, b"said")
    source = open_mirror()
    source.fetch(base, frozenset({head}))
    assert source.repository.envelopes(head) == (b"said",)
    source.close()
    (tmp_path / "state/mirror.git" / ref).write_bytes(b"")
    (tmp_path / "state/mirror.git/refs/incoming/tip").write_bytes(b"")
    again = open_mirror()
    again.fetch(base, frozenset({head}))
    assert again.repository.envelopes(head) == (b"said",)
