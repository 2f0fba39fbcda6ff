from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import logs

from reconciler import errors
from reconciler.audit import record, storage, verification


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[sa.Engine]:
    made = storage.make_engine(f"sqlite:///{tmp_path / 'audit.db'}")
    yield made
    made.dispose()


def test_racing_writers_of_different_scopes_share_one_chain(disk: sa.Engine) -> None:
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            process = logs.make_log(disk, logs.Clock(), holder=name)
            process.lease(f"target:{name}")
            for _ in range(20):
                process.append(record.Standing(target=name, code="stuck"), record.Standing(target=name, code=None))
        except BaseException as exc:  # noqa: BLE001 - it is the test that must hear of it.
            failures.append(exc)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    report = verification.verify(disk, logs.SIGNER.public, logs.ORIGIN)
    assert (report.problems, report.caches, report.size) == ((), (), 120)


def test_many_who_open_a_new_log_at_once_all_come_in(tmp_path: Path) -> None:
    """SQLite does not wait, as it does elsewhere, while several connections switch a database to WAL."""
    for attempt in range(20):
        engine = storage.make_engine(f"sqlite:///{tmp_path / f'{attempt}.db'}")
        together = threading.Barrier(4)

        def come_in(engine: sa.Engine = engine, together: threading.Barrier = together) -> int:
            opened = storage.Store(engine)
            together.wait()
            opened.open()
            return 1

        with futures.ThreadPoolExecutor(4) as pool:
            assert sum(done.result() for done in [pool.submit(come_in) for _ in range(4)]) == 4
        engine.dispose()


def test_a_writer_that_lost_its_lease_is_refused_and_others_hear_what_was_written(
    disk: sa.Engine, clock: logs.Clock
) -> None:
    first, second = logs.make_log(disk, clock), logs.make_log(disk, clock, holder="other")
    first.lease("target:t")
    first.append(logs.STUCK)
    clock.sleep(121)
    heard: list[int] = []
    second.subscribe(lambda entry, after: heard.append(entry.seq))
    second.lease("target:t")
    assert (heard, second.state.size) == ([0], 1), "all that the old holder wrote was folded"
    with pytest.raises(errors.AuditError) as lost:
        first.append(logs.FREE)
    assert lost.value.code == "lease_lost"
    second.append(logs.FREE)
    assert [e.node for e in second.records()] == ["node", "other"]


def test_the_next_life_of_a_holder_takes_its_lease_at_once_and_ends_the_former(
    disk: sa.Engine, clock: logs.Clock
) -> None:
    first = logs.make_log(disk, clock)
    first.lease("watch")
    second = logs.make_log(disk, clock)
    second.lease("watch")
    second.append(record.Halt(codes=("pin",)))
    with pytest.raises(errors.AuditError) as lost:
        first.append(record.Halt(codes=()))
    assert lost.value.code == "lease_lost"
    assert second.state.halted == ("pin",)


def test_a_lease_is_renewed_under_the_same_epoch(disk: sa.Engine, clock: logs.Clock) -> None:
    process = logs.make_log(disk, clock)
    for _ in range(5):
        process.lease("watch")
        process.append(record.Halt(codes=()))
        clock.sleep(100)
    assert {e.epoch for e in process.records()} == {1}


def test_a_closed_log_gives_its_leases_back_and_takes_no_append(disk: sa.Engine, clock: logs.Clock) -> None:
    first = logs.make_log(disk, clock)
    first.lease("watch")
    first.close()
    first.close()
    with pytest.raises(errors.AuditError) as closed:
        first.append(record.Halt(codes=()))
    assert closed.value.code == "log_closed"
    second = logs.make_log(disk, clock, holder="other")
    second.lease("watch")
    assert second.append(record.Halt(codes=())).size == 1
