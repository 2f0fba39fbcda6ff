"""The vm driver against real folders: what it refuses to touch, and what a fault in the middle leaves (D13, D21-D25, D37)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import targets

from reconciler import errors, model
from reconciler.convergence import planning
from reconciler.targets import conformance
from reconciler.targets.vm import document, driver, ledger, rootfs

A, CONF, B = model.Key("file//a"), model.Key("directory//conf.d"), model.Key("file//conf.d/b")


class Host:
    """A root with a driver and what the log would know about it."""

    def __init__(self, folder: Path) -> None:
        self.subject = targets.VmSubject(folder)
        self.root, self.facilities = self.subject.root, self.subject.facilities
        self.daemon = conformance.Daemon(self.subject)

    def desired(self, text: str, **more: object) -> model.Desired:
        connection = {"transport": "local", "root": str(self.root)}
        return targets.desired("vm", {"vm.yaml": text.encode()}, connection, **more)

    def look(self, wanted: model.Wanted) -> model.Look:
        return self.daemon.driver.observe(wanted, self.daemon.owned, 30)

    def write(self, wanted: model.Wanted, look: model.Look | None = None) -> dict[model.Key, model.StepResult]:
        """All proposed steps as one stage, whatever a planner would say."""
        seen = (look or self.look(wanted)).observations
        stage = model.Stage(batch=0, order=0, steps=tuple(step for o in seen for step in o.steps))
        return {r.key: r for r in self.daemon.driver.apply(wanted, stage, self.daemon.permit())}

    def everything(self) -> list[str]:
        """All paths below the root but our own folder, whose temporary files would show."""
        found = (p.relative_to(self.root) for p in self.root.rglob("*"))
        return sorted(str(p) for p in found if p.parts[0] != ".reconciler")

    def ledger(self) -> ledger.Ledger:
        return ledger.Ledger.model_validate_json((self.root / ".reconciler" / "ledger.json").read_bytes())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def files(*lines: str) -> str:
    return "\n".join(['directories: [{path: conf.d, mode: "0755"}]', "files:", *(f"  - {line}" for line in lines)])


ONE = files('{path: a, content: one, mode: "0644"}', '{path: conf.d/b, content: one, mode: "0600"}')


def test_modes_and_owners_are_as_declared_whatever_the_umask(host: Host) -> None:
    text = files('{path: a, content: x, mode: "0666"}', '{path: conf.d/b, content: x, mode: "4711", special: true}')
    if os.geteuid() == 0:
        text = text.replace('mode: "0666"', 'mode: "0666", owner: "12", group: "34"')
    host.daemon.converge(host.desired(text))
    a, b = (host.root / "a").stat(), (host.root / "conf.d" / "b").stat()
    assert (oct(a.st_mode), oct(b.st_mode)) == ("0o100666", "0o104711")
    if os.geteuid() == 0:
        assert (a.st_uid, a.st_gid) == (12, 34)


def test_a_changed_mode_is_drift_and_is_mended(host: Host) -> None:
    wanted = host.desired(ONE)
    host.daemon.converge(wanted)
    (host.root / "a").chmod(0o600)
    (host.root / "conf.d").chmod(0o777)
    assert CONF in {step.key for seen in host.look(wanted).observations for step in seen.steps}
    host.write(wanted)
    host.daemon.converge(wanted)
    assert [oct((host.root / p).stat().st_mode & 0o7777) for p in ("a", "conf.d")] == ["0o644", "0o755"]


# --- D21: no room, in the middle of a stage -----------------------------------------------------------------------------


@contextlib.contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond this: the kernel then refuses a write as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_without_room_nothing_is_renamed_and_nothing_is_left(host: Host) -> None:
    host.daemon.converge(host.desired(ONE))
    before, traces = host.everything(), host.subject.truth()
    large = "x" * 10_000
    wanted = host.desired(
        files('{path: a, content: two, mode: "0644"}', f'{{path: conf.d/b, content: {large}, mode: "0600"}}')
    )
    look = host.look(wanted)
    with room_for(4096):
        results = host.write(wanted, look)
    assert {key: str(r.effect) for key, r in results.items()} == {A: "SKIPPED", B: "FAILED"}
    finding = results[B].finding
    assert finding
    assert (finding.code, finding.message) == ("disk_full", "conf.d/b: no room for it")
    assert (host.everything(), host.subject.truth()) == (before, traces)
    host.daemon.converge(wanted)
    assert host.subject.truth() == {"a": "two", "b": large}


def test_without_room_for_the_ledger_nothing_is_renamed(host: Host) -> None:
    wanted = host.desired(ONE)
    look = host.look(wanted)
    with room_for(16):
        results = host.write(wanted, look)
    assert {str(r.effect) for r in results.values()} == {"FAILED", "SKIPPED"}
    assert host.everything() == []


# --- D22: symlinks, special files, folders that others may write --------------------------------------------------------


def outside(host: Host) -> Path:
    folder = host.root.parent / "outside"
    folder.mkdir()
    (folder / "b").write_text("theirs")
    return folder


def test_a_symlink_in_the_place_of_a_file_is_an_error_and_stays(host: Host) -> None:
    theirs = outside(host) / "b"
    (host.root / "a").symlink_to(theirs)
    look = host.look(host.desired(ONE))
    assert look.errors[A].code == "symlink"
    assert not any(step.key == A for seen in look.observations for step in seen.steps)
    assert theirs.read_text() == "theirs"


def test_a_symlink_in_the_place_of_a_folder_is_an_error_for_all_below_it(host: Host) -> None:
    (host.root / "conf.d").symlink_to(outside(host))
    look = host.look(host.desired(ONE))
    assert {key: r.code for key, r in look.errors.items()} == {CONF: "symlink", B: "symlink"}


def test_a_symlink_swapped_in_between_plan_and_write_leads_nowhere(host: Host) -> None:
    host.daemon.converge(host.desired(ONE))
    wanted = host.desired(ONE.replace("content: one", "content: two"))
    look = host.look(wanted)
    folder = outside(host)
    (host.root / "conf.d").rename(host.root.parent / "moved")
    (host.root / "conf.d").symlink_to(folder)
    results = host.write(wanted, look)
    assert results[B].effect is model.Effect.FAILED
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"b": "theirs"}


def test_a_symlink_on_the_way_to_the_root_is_refused(host: Host, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(host.root)
    with pytest.raises(errors.PermanentError, match="symlink"):
        rootfs.open_root(str(tmp_path / "link"), [tmp_path])
    with rootfs.open_root(str(host.root), [tmp_path]) as root:
        assert root.path == str(host.root)


def test_a_configured_root_may_itself_be_reached_through_a_symlink(host: Host, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(host.root)
    with rootfs.open_root(str(tmp_path / "link"), [tmp_path / "link"]) as root:
        assert root.path == str(host.root), "identities name the real folder"


def test_our_own_folder_is_not_followed_elsewhere(host: Host) -> None:
    (host.root / ".reconciler").symlink_to(outside(host))
    with pytest.raises(errors.PermanentError, match="symlink"):
        host.look(host.desired(ONE))


def test_a_folder_that_others_may_write_is_refused(host: Host) -> None:
    (host.root / "conf.d").mkdir()
    (host.root / "conf.d").chmod(0o777)
    assert host.look(host.desired(ONE)).errors[B].code == "writable"
    host.root.chmod(0o757)
    with pytest.raises(errors.PermanentError, match="writable by others"):
        host.look(host.desired(ONE))


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_is_an_error_and_holds_nobody(host: Host, kind: str) -> None:
    {"fifo": os.mkfifo, "folder": os.mkdir}[kind](host.root / "a")
    assert host.look(host.desired(ONE)).errors[A].code in {"special", "in_the_way"}


def test_a_missing_root_is_an_error_and_not_an_empty_target(host: Host) -> None:
    host.daemon.converge(host.desired(ONE))
    host.root.rename(host.root.parent / "elsewhere")
    with pytest.raises(errors.ConfigError, match="does not exist"):
        host.look(host.desired(ONE))


# --- ownership ----------------------------------------------------------------------------------------------------------


def test_the_ledger_names_us_and_what_we_wrote(host: Host) -> None:
    host.daemon.converge(host.desired(ONE))
    book = host.ledger()
    assert (book.installation, book.target, book.epoch, set(book.keys)) == ("test", "t", 1, {A, CONF, B})
    assert oct((host.root / ".reconciler").stat().st_mode & 0o777) == "0o700"


def test_a_lost_ledger_is_drift_and_is_written_again(host: Host) -> None:
    wanted = host.desired(ONE)
    host.daemon.converge(wanted)
    (host.root / ".reconciler" / "ledger.json").unlink()
    look = host.look(wanted)
    assert not any(seen.marked for seen in look.observations)
    assert all(step.command.startswith("mark ") for seen in look.observations for step in seen.steps)
    inode = (host.root / "a").stat().st_ino
    host.daemon.converge(wanted)
    assert set(host.ledger().keys) == {A, CONF, B}
    assert (host.root / "a").stat().st_ino == inode, "only the mark was written"


def test_what_lost_its_mark_is_never_deleted(host: Host) -> None:
    host.daemon.converge(host.desired(ONE))
    (host.root / ".reconciler" / "ledger.json").unlink()
    without = host.desired('files: [{path: a, content: one, mode: "0644"}]')
    host.daemon.converge(without)
    assert (host.root / "conf.d" / "b").read_text() == "one"


@pytest.mark.parametrize("change", [{"target": "u"}, {"installation": "other"}])
def test_a_root_that_another_target_keeps_is_refused(host: Host, change: dict[str, str]) -> None:
    host.daemon.converge(host.desired(ONE))
    path = host.root / ".reconciler" / "ledger.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(errors.PermanentError, match="is kept by"):
        host.look(host.desired(ONE))


def test_a_renamed_target_keeps_its_marks(host: Host) -> None:
    host.daemon.converge(host.desired(ONE))
    renamed = host.desired(ONE, target="u", formerly="t")
    assert all(seen.marked and not seen.steps for seen in host.look(renamed).observations)


def test_a_ledger_that_cannot_be_read_is_an_error(host: Host) -> None:
    host.daemon.converge(host.desired(ONE))
    (host.root / ".reconciler" / "ledger.json").write_text("{")
    with pytest.raises(errors.PermanentError, match="cannot be read"):
        host.look(host.desired(ONE))


def test_two_targets_that_want_one_file_have_one_identity_for_it(host: Host, tmp_path: Path) -> None:
    host.daemon.converge(host.desired(ONE))
    above = targets.desired(
        "vm",
        {"vm.yaml": b'files: [{path: root/a, content: x, mode: "0644"}]\ndirectories: [{path: root, mode: "0755"}]'},
        {"transport": "local", "root": str(tmp_path)},
        target="u",
    )
    look = driver.Vm(host.facilities).observe(above, {}, 5)
    mine = {seen.key: seen.identity for seen in host.look(host.desired(ONE)).observations}
    assert mine[A] in {seen.identity for seen in look.observations}
    plan = planning.make_plan(above, look, planning.Guards(owned={}, claimed=dict.fromkeys(mine.values(), "t")))
    assert "claimed" in {r.code for r in plan.refusals}


def test_files_that_nobody_declared_are_foreign_and_survive(host: Host) -> None:
    wanted = host.desired(ONE)
    host.daemon.converge(wanted)
    (host.root / "conf.d" / "theirs").write_text("x")
    assert [seen.key for seen in host.look(wanted).foreign] == ["file//conf.d/theirs"]
    bare = host.desired('files: [{path: a, content: one, mode: "0644"}]')
    effects = host.daemon.write(bare, planning.first_stage(host.daemon.plan(bare)))
    assert [(r.key, r.effect) for r in effects] == [(B, model.Effect.CHANGED)]
    (result,) = host.daemon.write(bare, planning.first_stage(host.daemon.plan(bare)))
    assert result.finding
    assert (result.key, result.finding.code) == (CONF, "not_empty")
    assert host.everything() == ["a", "conf.d", "conf.d/theirs"]


def test_an_empty_document_deletes_nothing(host: Host) -> None:
    """D37: the core refuses the plan."""
    host.daemon.converge(host.desired(ONE))
    empty = host.desired("files: []")
    plan = planning.make_plan(empty, host.look(empty), planning.Guards(owned=host.daemon.owned))
    assert "empty" in {r.code for r in plan.refusals}


def test_an_absent_target_loses_all_that_we_own_and_nothing_else(host: Host) -> None:
    host.daemon.converge(host.desired(ONE))
    (host.root / "theirs").write_text("x")
    absent = host.desired("{}", mode=model.Mode.ABSENT).model_copy(update={"payload": {}})
    while steps := [step for seen in host.look(absent).observations for step in seen.steps]:
        last = max(steps, key=lambda step: document.order_of(step.key))
        stage = model.Stage(batch=0, order=0, steps=(last,))
        assert host.daemon.write(absent, stage)[0].effect is model.Effect.CHANGED
    assert host.everything() == ["theirs"]
    assert host.ledger().keys == {}


# --- what people see ----------------------------------------------------------------------------------------------------


def step_of(host: Host, wanted: model.Wanted, key: model.Key = A) -> model.Step:
    return next(step for seen in host.look(wanted).observations for step in seen.steps if step.key == key)


def test_a_step_says_what_will_be_written_and_shows_the_lines(host: Host) -> None:
    host.daemon.converge(host.desired('files: [{path: a, content: "one\\nsame\\n", mode: "0644"}]'))
    step = step_of(host, host.desired('files: [{path: a, content: "two\\nsame\\n", mode: "0644"}]'))
    assert step.action == "update"
    assert step.command.startswith("write a mode 0644 owner ")
    assert [line for line in step.diff.splitlines() if line[1:] in {"one", "two", "same"}] == ["-one", "+two", " same"]
    assert step.undo
    assert "as kept" in step.undo


def test_a_difference_ends_with_its_last_line_and_says_where_the_newline_is_missing(host: Host) -> None:
    host.daemon.converge(host.desired('files: [{path: a, content: "one\\n", mode: "0644"}]'))
    same = step_of(host, host.desired('files: [{path: a, content: "one\\ntwo\\n", mode: "0644"}]'))
    assert same.diff.splitlines()[-2:] == [" one", "+two"]
    without = step_of(host, host.desired('files: [{path: a, content: "one", mode: "0644"}]'))
    assert without.diff.splitlines()[-3:] == ["-one", "+one", "\\ No newline at end of file"]


@pytest.mark.parametrize("sensitive", ["old", "new"])
def test_a_sensitive_side_masks_the_difference(host: Host, sensitive: str) -> None:
    mark = {"old": ", sensitive: true"}
    host.daemon.converge(
        host.desired(f'files: [{{path: a, content: canary-1, mode: "0644"{mark.get(sensitive, "")}}}]')
    )
    mark = {"new": ", sensitive: true"}
    wanted = host.desired(f'files: [{{path: a, content: canary-2, mode: "0644"{mark.get(sensitive, "")}}}]')
    assert step_of(host, wanted).diff == "(changed)"
    assert "canary" not in host.look(wanted).model_dump_json()


def test_the_content_of_a_file_that_is_not_ours_is_shown_to_nobody(host: Host) -> None:
    (host.root / "a").write_text("canary")
    look = host.look(host.desired(ONE))
    assert "canary" not in look.model_dump_json()


def test_escape_sequences_are_shown_and_not_sent(host: Host) -> None:
    """D25."""
    host.daemon.converge(host.desired('files: [{path: a, content: "x", mode: "0644"}]'))
    (host.root / "a").write_bytes(b"\x1b]0;owned\x07\x1b[2J\xe2\x80\xae\xe2\x80\xa8\r\n")
    diff = step_of(host, host.desired('files: [{path: a, content: "x", mode: "0644"}]')).diff
    assert "\\x1b]0;owned\\x07\\x1b[2J\\u202e\\u2028\\r" in diff
    assert diff.replace("\n", "").isprintable()


def test_what_was_there_is_kept_for_people_by_its_digest(host: Host) -> None:
    host.daemon.converge(host.desired('files: [{path: a, content: one, mode: "0644"}]'))
    host.daemon.converge(host.desired('files: [{path: a, content: two, mode: "0644"}]'))
    (kept,) = (host.facilities.state / "t" / "previous").iterdir()
    assert (kept.name, kept.read_text()) == (model.sha256(b"one"), "one")
    assert oct(kept.stat().st_mode & 0o777) == "0o600"


def test_a_content_that_is_kept_no_more_is_no_way_back(host: Host) -> None:
    one, two = (host.desired(f'files: [{{path: a, content: {c}, mode: "0644"}}]') for c in ("one", "two"))
    host.daemon.converge(one)
    there = {seen.key: seen.actual for seen in host.look(one).observations}
    host.daemon.converge(two)
    for kept in (host.facilities.state / "t" / "previous").iterdir():
        kept.unlink()
    snapshot = model.Snapshot(target="t", kind="vm", connection=one.connection, resources=there)
    finding = host.write(snapshot)[A].finding
    assert finding
    assert finding.code == "no_way_back"
    assert (host.root / "a").read_text() == "two"


# --- health, locks, time ------------------------------------------------------------------------------------------------


def test_file_probes_are_read_inside_the_root(host: Host) -> None:
    probe = model.Probe(kind="file", fields={"path": "/conf.d/b", "contains": "one"})
    wanted = host.desired(ONE, probes=(probe,))
    assert host.look(wanted).health is model.Health.PROGRESSING
    host.daemon.converge(wanted)
    assert host.look(wanted).health is model.Health.HEALTHY


def test_who_holds_the_lock_is_waited_for_and_seen_as_busy(host: Host) -> None:
    wanted = host.desired(ONE)
    host.daemon.converge(wanted)
    changed = host.desired(ONE.replace("one", "two"))
    look = host.look(changed)
    assert not look.busy
    with (host.root / ".reconciler" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert host.look(wanted).busy
        with pytest.raises(errors.TransientError, match="another writer"):
            host.write(changed, look)
    assert host.subject.truth() == {"a": "one", "b": "one"}
    host.write(changed, look)
    assert host.subject.truth() == {"a": "two", "b": "two"}


def test_a_stage_without_time_writes_nothing(host: Host) -> None:
    wanted = host.desired('files: [{path: a, content: one, mode: "0644"}]')
    stage = model.Stage(batch=0, order=0, steps=(step_of(host, wanted),))
    permit = model.Permit(deployment="d", epoch=1, seq=1, deadline_s=0)
    (result,) = host.daemon.driver.apply(wanted, stage, permit)
    assert (result.effect, host.everything()) == (model.Effect.FAILED, [])


def test_a_look_without_time_is_an_error_and_not_an_empty_one(host: Host) -> None:
    with pytest.raises(errors.TransientError, match="longer than"):
        host.daemon.driver.observe(host.desired(ONE), {}, 0)


def test_what_a_killed_apply_had_staged_is_swept(host: Host) -> None:
    wanted = host.desired(ONE)
    host.daemon.converge(wanted)
    (host.root / "conf.d" / ".reconciler-0123").write_text("half")
    assert host.look(wanted).foreign == ()
    assert host.daemon.driver.confirm(wanted, "d1")
    assert not (host.root / "conf.d" / ".reconciler-0123").exists()


def test_the_root_is_watched_and_our_own_files_wake_nobody(host: Host) -> None:
    assert driver.watched_paths(host.desired(ONE), host.facilities) == (host.root,)
    elsewhere = host.desired(ONE).model_copy(update={"connection": {"transport": "local", "root": "/elsewhere"}})
    assert driver.watched_paths(elsewhere, host.facilities) == ()
    assert driver.is_our_own(host.root / ".reconciler" / "lock")
    assert not driver.is_our_own(host.root / "conf.d" / "b")


def test_an_owner_that_this_host_does_not_know_is_an_error_of_its_file(host: Host) -> None:
    wanted = host.desired('files: [{path: a, content: x, mode: "0644", owner: nobody-of-this-name}]')
    assert host.look(wanted).errors[A].code == "owner"
