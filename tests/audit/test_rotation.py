"""The log's key gives way to another (trust.md 9.2, 10 L8 and L9): one checkpoint that both sign, and no other way."""

from __future__ import annotations

import random

import pytest
import sqlalchemy as sa
from support import logs

from reconciler import errors
from reconciler.audit import checkpoint, log, record, schema, signing, storage, verification

NEW = signing.FileSigner.from_seed(b"the key of the log after that...")
THIEF = signing.FileSigner.from_seed(b"a key that was never handed to..")


def start(engine: sa.Engine, clock: logs.Clock, signer: signing.FileSigner, *, seed: int = 2) -> log.Log:
    return log.Log(
        engine, clock, holder="node", signer=signer, origin=logs.ORIGIN, random=random.Random(seed).randbytes
    )


def verify(engine: sa.Engine, signer: signing.FileSigner, *anchored: str) -> verification.Report:
    return verification.verify(engine, signer.public, logs.ORIGIN, anchored=anchored)


def rotate(process: log.Log, successor: signing.FileSigner = NEW) -> None:
    process.rotate(successor, reason="yearly", actor="uid:1000")


@pytest.fixture
def rotated(process: log.Log) -> log.Log:
    logs.write_history(process)
    rotate(process)
    process.append(record.Halt(codes=("pin",)), record.Halt(codes=()))
    return process


def test_each_part_verifies_under_its_key_from_either_key(engine: sa.Engine, rotated: log.Log) -> None:
    for signer in (logs.SIGNER, NEW):
        report = verify(engine, signer)
        assert (report.problems, report.size) == ((), rotated.size)
        assert [reason.code for reason in report.handed_over] == ["key_rotated"]
    assert [p.code for p in verify(engine, THIEF).problems] == ["log_broken"]


def test_the_checkpoint_that_hands_over_is_signed_by_both_and_the_others_by_one(
    engine: sa.Engine, rotated: log.Log
) -> None:
    with storage.Store(engine).reading() as connection:
        notes = {row.size: row.note for row in connection.execute(sa.select(schema.checkpoint))}
    (seq,) = rotated.state.rotated
    signers = {size: [s for s in (logs.SIGNER, NEW) if is_by(note, s)] for size, note in notes.items()}
    assert all(found == [logs.SIGNER] for size, found in signers.items() if size <= seq)
    assert signers[seq + 1] == [logs.SIGNER, NEW]
    assert all(found == [NEW] for size, found in signers.items() if size > seq + 1)


def is_by(note: str, signer: signing.FileSigner) -> bool:
    try:
        checkpoint.open_note(note, logs.ORIGIN, signer.public)
    except errors.AuditError:
        return False
    return True


@pytest.mark.parametrize("cached", [True, False])
def test_a_restart_goes_on_with_the_new_key_and_refuses_the_old_one(
    engine: sa.Engine, clock: logs.Clock, rotated: log.Log, *, cached: bool
) -> None:
    if cached:
        rotated.close()
    following = start(engine, clock, NEW)
    assert following.state == rotated.state
    following.lease("watch")
    following.append(record.Halt(codes=()))
    with pytest.raises(errors.ConfigError) as refused:
        start(engine, clock, logs.SIGNER)
    assert refused.value.code == "log_key"
    assert "rotated" in refused.value.message
    assert signing.public_line(NEW.public) in refused.value.fix
    assert verify(engine, NEW).good


def test_right_after_the_rotation_the_old_key_is_refused_though_its_signature_is_there(
    engine: sa.Engine, clock: logs.Clock, process: log.Log
) -> None:
    logs.write_history(process)
    rotate(process)
    with pytest.raises(errors.ConfigError) as refused:
        start(engine, clock, logs.SIGNER)
    assert refused.value.code == "log_key"
    assert start(engine, clock, NEW).state == process.state


def test_anchors_of_before_and_after_are_of_this_log(engine: sa.Engine, clock: logs.Clock, process: log.Log) -> None:
    logs.write_history(process)
    old = process.checkpoint()
    rotate(process)
    process.append(record.Halt(codes=()))
    anchors = (old, process.checkpoint())
    assert verify(engine, NEW, *anchors).good
    following = start(engine, clock, NEW)
    for note in anchors:
        following.check_anchor(note)


def test_a_key_may_rotate_again_and_never_back(engine: sa.Engine, rotated: log.Log) -> None:
    third = signing.FileSigner.from_seed(b"the third key of this audit log.")
    for before in (NEW, logs.SIGNER):
        with pytest.raises(errors.ConfigError) as refused:
            rotate(rotated, before)
        assert refused.value.code == "log_key"
    rotate(rotated, third)
    for signer in (logs.SIGNER, NEW, third):
        assert verify(engine, signer).good
    assert len(verify(engine, third).handed_over) == 2


def forge(process: log.Log, signer: signing.FileSigner, *, claims: signing.FileSigner = logs.SIGNER) -> None:
    """What somebody who owns the database, and not the key, can write: a rotation to a key of theirs."""
    process._signer = signer
    before, after = (signing.public_line(each.public) for each in (claims, signer))
    process.append(record.KeyRotated(before=before, after=after, reason="trust me"))


def test_a_rotation_without_the_signature_of_the_old_key_is_refused(
    engine: sa.Engine, clock: logs.Clock, process: log.Log
) -> None:
    logs.write_history(process)
    forge(process, THIEF)
    for signer in (logs.SIGNER, THIEF):
        (problem,) = verify(engine, signer).problems
        assert (problem.code, problem.where) == ("log_broken", f"record {process.size - 1}")
        with pytest.raises(errors.AuditError) as refused:
            start(engine, clock, signer)
        assert refused.value.code == "log_broken"


def test_a_rotation_that_names_another_key_before_it_is_refused(engine: sa.Engine, process: log.Log) -> None:
    """The thief's own two keys hand over to each other; the log was signed by neither."""
    logs.write_history(process)
    rotate(process)
    forge(process, THIEF, claims=logs.SIGNER)
    for signer in (logs.SIGNER, NEW, THIEF):
        assert [p.code for p in verify(engine, signer).problems] == ["log_broken"]


def test_a_running_process_goes_no_further_when_another_rotated_the_key(
    engine: sa.Engine, clock: logs.Clock, process: log.Log
) -> None:
    logs.write_history(process)
    other = start(engine, clock, logs.SIGNER)
    other._epochs = dict(process._epochs)
    rotate(other)
    with pytest.raises(errors.ConfigError) as refused:
        process.append(record.Halt(codes=()))
    assert refused.value.code == "log_key"


def test_nothing_is_rotated_where_the_append_fails(engine: sa.Engine, process: log.Log) -> None:
    logs.write_history(process)
    size = process.size
    with storage.Store(engine).writing() as connection:
        connection.exec_driver_sql("ALTER TABLE fold RENAME TO gone")
    with pytest.raises(errors.AuditError):
        rotate(process)
    with storage.Store(engine).writing() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO fold")
    report = verify(engine, logs.SIGNER)
    assert (report.size, report.handed_over) == (size, ())
