"""A log that lost its end goes on as what is proven of it, and says so (trust.md 9.4, 10 L5, L6, L24)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from support import logs

from reconciler import errors, model
from reconciler.audit import log, merkle, record, rescue, schema, signing, storage, verification

SIZE = 10


@pytest.fixture
def written(engine: sa.Engine, clock: logs.Clock) -> log.Log:
    return logs.write_history(logs.make_log(engine, clock))


@pytest.fixture
def fresh() -> Iterator[sa.Engine]:
    made = storage.make_engine("sqlite://")
    yield made
    made.dispose()


def change(engine: sa.Engine, *statements: str) -> None:
    """What only the owner of the file can do."""
    triggers = [s for s in schema.SQLITE if s.startswith("CREATE TRIGGER")]
    with storage.Store(engine).writing() as connection:
        for trigger in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {trigger.split()[2]}")
        for statement in (*statements, *triggers):
            connection.exec_driver_sql(statement)


def cut(engine: sa.Engine, size: int, *, checkpoints: bool = True) -> None:
    """With its checkpoints: an honest backup."""
    also = [f"DELETE FROM checkpoint WHERE size > {size}"] if checkpoints else []
    change(engine, f"DELETE FROM log WHERE seq >= {size}", *also)


def examine(engine: sa.Engine, *outside: str) -> rescue.Proven:
    return rescue.examine(engine, logs.SIGNER.public, logs.ORIGIN, outside)


def recover(old: sa.Engine, fresh: sa.Engine, *outside: str) -> log.Log:
    found = examine(old, *outside)
    rescue.copy(old, fresh, found.kept)
    following = logs.make_log(fresh, seed=7)
    following.lease("watch")
    following.append(rescue.event_of(found, logs.ORIGIN, "restored, INC7"), actor="uid:1000")
    return following


def verify(engine: sa.Engine, *anchored: str) -> verification.Report:
    return verification.verify(engine, logs.SIGNER.public, logs.ORIGIN, anchored=anchored)


def test_an_honest_restore_names_the_checkpoint_that_was_kept_and_what_was_lost(
    engine: sa.Engine, written: log.Log, fresh: sa.Engine
) -> None:
    note = written.checkpoint()
    cut(engine, 6)
    assert verify(engine).good, "from inside nobody can tell"
    following = recover(engine, fresh, note)
    (event,) = following.state.recovered.values()
    assert (event.before, event.origin) == (logs.ORIGIN, f"{logs.ORIGIN}/2")
    assert (event.kept, event.signed, event.checkpoint, event.reason) == (6, SIZE, note, "restored, INC7")
    report = verify(fresh, note)
    assert (report.problems, report.size, report.caches) == ((), 7, ())
    assert [r.code for r in report.handed_over] == ["log_recovered"]
    assert f"records 6 to {SIZE - 1}" in report.handed_over[0].message


def test_it_goes_on_under_its_own_name_over_restarts_and_anchors(
    engine: sa.Engine, written: log.Log, fresh: sa.Engine
) -> None:
    lost, kept = written.checkpoint(), ""
    with storage.Store(engine).reading() as connection:
        kept = str(connection.scalar(sa.select(schema.checkpoint.c.note).where(schema.checkpoint.c.size == 4)))
    cut(engine, 6)
    following = recover(engine, fresh, lost)
    following.append(record.Halt(codes=()))
    assert following.checkpoint().startswith(f"{logs.ORIGIN}/2\n8\n")
    following.close()
    again = logs.make_log(fresh, seed=8)
    assert again.state == following.state
    for note in (kept, lost, again.checkpoint()):
        again.check_anchor(note)
    assert verify(fresh, kept, lost, again.checkpoint()).good


def test_more_than_is_said_to_be_lost_is_still_missed(engine: sa.Engine, written: log.Log, fresh: sa.Engine) -> None:
    old = written.checkpoint()
    written.append(record.Halt(codes=()))
    newer = written.checkpoint()
    cut(engine, 6)
    following = recover(engine, fresh, old)
    assert [p.code for p in verify(fresh, old, newer).problems] == ["log_truncated"]
    with pytest.raises(errors.AuditError):
        following.check_anchor(newer)


def test_a_tail_that_was_cut_off_under_its_checkpoints_needs_none_from_outside(
    engine: sa.Engine, written: log.Log, fresh: sa.Engine
) -> None:
    cut(engine, 6, checkpoints=False)
    found = examine(engine)
    assert (found.kept, found.rows, found.signed, found.lost) == (6, 6, SIZE, True)
    recover(engine, fresh)
    assert verify(fresh).good


def test_a_tail_that_was_cut_off_under_the_cache_is_known_by_it(
    engine: sa.Engine, written: log.Log, fresh: sa.Engine
) -> None:
    written.close()
    cut(engine, 6)
    assert examine(engine).signed == SIZE
    assert recover(engine, fresh).state.recovered[6].signed == SIZE


def test_a_row_of_somebody_else_is_left_behind(engine: sa.Engine, written: log.Log, fresh: sa.Engine) -> None:
    with storage.Store(engine).reading() as connection:
        last = connection.execute(sa.select(schema.log).order_by(schema.log.c.seq.desc()).limit(1)).one()
    prev = merkle.leaf(last.body.encode()).hex()
    content = model.canonical_json(json.loads(last.body) | {"seq": SIZE, "prev": prev}).decode()
    with storage.Store(engine).writing() as connection:
        leaf = merkle.leaf(content.encode()).hex()
        insert = f"INSERT INTO log VALUES ({SIZE}, 'watch', 1, x'{prev}', x'{leaf}', '{content}')"
        connection.exec_driver_sql(insert)
    found = examine(engine)
    assert (found.kept, found.rows, found.signed) == (SIZE, SIZE + 1, SIZE)
    following = recover(engine, fresh)
    assert following.state.recovered[SIZE].signed == SIZE
    assert verify(fresh).good


def test_what_follows_a_broken_record_is_lost_up_to_the_checkpoint_before_it(
    engine: sa.Engine, written: log.Log, fresh: sa.Engine
) -> None:
    change(engine, 'UPDATE log SET body = replace(body, \'"node":"node"\', \'"node":"evil"\') WHERE seq = 5')
    found = examine(engine)
    assert (found.kept, found.rows, found.signed) == (5, SIZE, SIZE)
    recover(engine, fresh)
    report = verify(fresh)
    assert report.good
    assert "records 5 to 9" in report.handed_over[0].message


def test_a_checkpoint_that_contradicts_the_log_is_no_matter_of_recovering(engine: sa.Engine, written: log.Log) -> None:
    other = storage.make_engine("sqlite://")
    fork = logs.make_log(other, seed=9)
    fork.lease("watch")
    fork.append(logs.genesis("t"))
    with pytest.raises(errors.AuditError) as forked:
        examine(engine, fork.checkpoint())
    assert forked.value.code == "log_forked"
    other.dispose()


def test_a_checkpoint_of_another_key_is_refused(engine: sa.Engine, written: log.Log) -> None:
    stranger = signing.FileSigner.from_seed(bytes(32))
    other = storage.make_engine("sqlite://")
    process = log.Log(other, logs.Clock(), holder="x", signer=stranger, origin=logs.ORIGIN)
    process.lease("watch")
    process.append(logs.genesis("t"))
    with pytest.raises(errors.AuditError) as refused:
        examine(engine, process.checkpoint())
    assert refused.value.code == "log_broken"
    other.dispose()


def test_a_whole_log_has_lost_nothing(engine: sa.Engine, written: log.Log) -> None:
    found = examine(engine, written.checkpoint())
    assert (found.kept, found.rows, found.signed, found.lost) == (SIZE, SIZE, SIZE, False)


def test_it_recovers_twice_and_after_a_rotation(engine: sa.Engine, written: log.Log, fresh: sa.Engine) -> None:
    successor = signing.FileSigner.from_seed(b"the key of the log after that...")
    written.rotate(successor, reason="yearly", actor="uid:1000")
    written.append(record.Halt(codes=("pin",)))
    note = written.checkpoint()
    cut(engine, SIZE + 1)
    found = rescue.examine(engine, successor.public, logs.ORIGIN, [note])
    assert (found.kept, found.signed, found.authority.public) == (SIZE + 1, SIZE + 2, successor.public)
    rescue.copy(engine, fresh, found.kept)
    following = log.Log(fresh, logs.Clock(), holder="node", signer=successor, origin=logs.ORIGIN)
    following.lease("watch")
    following.append(rescue.event_of(found, logs.ORIGIN, "first"))
    again = following.checkpoint()
    cut(fresh, SIZE + 1)
    second = rescue.examine(fresh, successor.public, logs.ORIGIN, [note])
    assert second.recovered == 0
    assert not rescue.examine(engine, successor.public, logs.ORIGIN).lost
    assert again.startswith(f"{logs.ORIGIN}/2\n")


def test_epochs_go_on_growing(engine: sa.Engine, written: log.Log, fresh: sa.Engine) -> None:
    note = written.checkpoint()
    for holder in ("other", "third"):
        logs.make_log(engine, holder=holder).close()
    cut(engine, 6)
    following = recover(engine, fresh, note)
    with storage.Store(engine).reading() as connection:
        before = {row.scope: row.epoch for row in connection.execute(sa.select(schema.lease))}
    assert following._epochs["watch"][0] > before["watch"]
