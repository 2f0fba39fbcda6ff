"""The operator's steps out of an alarm, and the rotation of the log's key: by commands alone, and on record."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.workspace import Answer, Workspace


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.land("words", made.motd("Hello."))
    assert made.there("once").code == 0
    return made


def recorded(bank: Workspace, kind: str) -> list[dict[str, object]]:
    return [entry["event"] for entry in bank.there("audit", "query", "--type", kind, "-o", "json").items]


def recover(bank: Workspace, *more: str) -> Answer:
    return bank.there("recover", *more, "--reason", "INC1")


def verified(bank: Workspace, *more: str | Path) -> Answer:
    return bank.there("audit", "verify", *more)


# --- the mirror ---


def test_a_damaged_mirror_is_set_aside_fetched_anew_and_both_are_on_record(bank: Workspace) -> None:
    (bank.daemon / "state/mirror.git/info").mkdir(exist_ok=True)
    (bank.daemon / "state/mirror.git/info/grafts").write_text("x\n")
    stopped = bank.there("once")
    assert stopped.code == 7
    assert "recover --mirror" in stopped.err
    assert recover(bank, "--mirror").code == 0
    assert bank.there("once").code == 0
    (ended,) = recorded(bank, "halt")
    assert ended["why"] == "the mirror was set aside: INC1"
    assert list((bank.daemon / "state").glob("mirror.git.before-*/info/grafts"))


def test_an_object_that_is_not_what_its_id_says_halts_on_record_until_the_operators_step(bank: Workspace) -> None:
    damage(bank.daemon / "state/mirror.git")
    (bank.machine / "etc/motd").write_text("drifted\n")
    assert bank.there("once").code == 7
    assert (bank.machine / "etc/motd").read_text() == "drifted\n", "nothing is written while an alarm stands"
    (opened,) = recorded(bank, "halt")
    assert opened["codes"] == ["object_hash"]
    assert bank.there("get", "status", "-o", "json").document["halted"] == ["object_hash"]
    again = bank.there("once")
    assert (again.code, "recover --mirror" in again.err) == (7, True)

    assert "object_hash" in recover(bank, "--mirror").out
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "Hello.\n"
    ended = recorded(bank, "halt")[-1]
    assert (ended["codes"], ended["ended"]) == ([], ["object_hash"])
    assert bank.there("get", "status", "-o", "json").document["halted"] == []


def damage(mirror: Path) -> None:
    """One byte of every pack, in the middle of what it holds."""
    for pack in (mirror / "objects/pack").glob("*.pack"):
        content = bytearray(pack.read_bytes())
        for at in range(len(content) // 4, len(content) - 32, 16):
            content[at] ^= 0xFF
        pack.chmod(0o644)
        pack.write_bytes(content)


# --- the log ---


def test_an_honest_restore_is_told_by_a_checkpoint_and_recovered_from(bank: Workspace, tmp_path: Path) -> None:
    database = bank.daemon / "state/audit.db"
    backup = shutil.copy(database, tmp_path / "backup.db")
    size = bank.there("get", "status", "-o", "json").document["logSize"]
    assert bank.there("suspend", "hello", "--reason", "x").code == 0
    note = tmp_path / "newest.checkpoint"
    note.write_text(bank.there("audit", "checkpoint").out)
    shutil.copy(backup, database)

    missed = verified(bank, "--checkpoint", note)
    assert (missed.code, "log_truncated" in missed.out) == (7, True)
    done = recover(bank, "--log", "--checkpoint", str(note))
    assert done.code == 0, done.err
    assert "goes on as   reconciler/bank/2" in done.out
    assert bank.there("once").code == 0
    found = verified(bank, "--checkpoint", note)
    assert found.code == 0, found.out
    assert f"records {size} to {size} of reconciler/bank lost" in found.out
    assert recorded(bank, "log_recovered")[0]["reason"] == "INC1"
    assert verified(bank, "--checkpoint", note, "-o", "json").document["handed_over"][0]["code"] == "log_recovered"


def test_a_log_whose_tail_was_cut_off_starts_again_only_after_the_step(bank: Workspace) -> None:
    database = bank.daemon / "state/audit.db"
    with closing(sqlite3.connect(database)) as connection:
        (trigger,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'log_delete'").fetchone()
        connection.executescript(f"DROP TRIGGER log_delete; DELETE FROM log WHERE seq > 4; {trigger};")
    stopped = bank.there("once")
    assert (stopped.code, "log_truncated" in stopped.err) == (7, True)
    assert recover(bank, "--log").code == 0
    assert verified(bank).code == 0
    assert list(database.parent.glob("audit.db.before-*"))


def test_a_whole_log_and_a_missing_reason_are_no_case_for_it(bank: Workspace) -> None:
    whole = recover(bank, "--log")
    assert (whole.code, "nothing_lost" in whole.err) == (2, True)
    for option in ("--log", "--mirror"):
        assert "--reason" in bank.there("recover", option).err
    assert recover(bank, "--log", "--mirror").code == 2
    assert not list((bank.daemon / "state").glob("*.before-*"))


def test_no_step_is_taken_under_a_running_daemon(bank: Workspace) -> None:
    with (bank.daemon / "state/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (
            ("recover", "--mirror"),
            ("recover", "--log"),
            ("audit", "rotate-key", "--new", "new_key"),
        ):
            refused = bank.there(*command, "--reason", "x")
            assert (refused.code, "locked" in refused.err) == (2, True)
    assert not (bank.daemon / "new_key").exists()


# --- the key ---


def test_the_key_rotates_and_the_configuration_follows(bank: Workspace, tmp_path: Path) -> None:
    anchored = tmp_path / "before.checkpoint"
    anchored.write_text(bank.there("audit", "checkpoint").out)
    rotated = bank.there("audit", "rotate-key", "--new", "new_key", "--reason", "yearly")
    assert rotated.code == 0, rotated.err
    assert "store.signingKey" in rotated.err
    assert (bank.daemon / "new_key").stat().st_mode & 0o777 == 0o600

    old = bank.there("once")
    assert (old.code, "log_key" in old.err, "rotated" in old.err) == (2, True, True)
    config = bank.daemon / "reconciler.yaml"
    config.write_text(config.read_text().replace("signingKey: log_ed25519", "signingKey: new_key"))
    assert bank.there("once").code == 0
    for key in ("log_ed25519.pub", "new_key.pub"):
        copy = (
            "--db",
            bank.daemon / "state/audit.db",
            "--public-key",
            bank.daemon / key,
            "--origin",
            "reconciler/bank",
        )
        assert verified(bank, *copy, "--checkpoint", anchored).code == 0
    assert "handed the log over" in verified(bank).out
    again = bank.there("audit", "rotate-key", "--new", "log_ed25519", "--reason", "back")
    assert (again.code, "log_key" in again.err) == (2, True)
