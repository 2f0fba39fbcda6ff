from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import logs

from reconciler import errors
from reconciler.audit import schema, storage


def on_disk(path: Path) -> sa.Engine:
    return storage.make_engine(f"sqlite:///{path}")


def dump(engine: sa.Engine) -> list[str]:
    with storage.Store(engine).reading() as connection:
        statements = list(connection.exec_driver_sql("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").scalars())
        return sorted("".join(s.split()) for s in statements)


def migrate(engine: sa.Engine) -> None:
    """From nothing, by alembic alone."""
    storage.Store(engine)._migrate()


def test_the_migrations_make_what_a_new_database_is_made_of(tmp_path: Path) -> None:
    made, migrated = on_disk(tmp_path / "made.db"), on_disk(tmp_path / "migrated.db")
    logs.make_log(made)
    migrate(migrated)
    assert dump(made) == dump(migrated)
    assert storage.Store(migrated)._version() == storage.Store(made)._version() == schema.REVISION
    assert logs.write_history(logs.make_log(migrated)).state.size == 10
    for engine in (made, migrated):
        engine.dispose()


def test_an_older_database_is_brought_up_to_date_when_it_is_opened(engine: sa.Engine) -> None:
    with storage.Store(engine).writing() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    logs.make_log(engine)
    assert storage.Store(engine)._version() == schema.REVISION


def test_a_database_of_a_newer_version_is_refused(engine: sa.Engine) -> None:
    logs.make_log(engine)
    with storage.Store(engine).writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(errors.AuditError, match="newer version"):
        logs.make_log(engine)


def test_a_database_of_something_else_is_refused(engine: sa.Engine) -> None:
    with storage.Store(engine).writing() as connection:
        connection.exec_driver_sql("CREATE TABLE invoices (id INTEGER PRIMARY KEY)")
    with pytest.raises(errors.AuditError, match="invoices") as refused:
        logs.make_log(engine)
    assert refused.value.code == "schema"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.db").write_text("no database at all" * 100)
    engine = on_disk(tmp_path / "audit.db")
    with pytest.raises(errors.AuditError) as refused:
        logs.make_log(engine)
    assert refused.value.code == "log_read"
    engine.dispose()


@pytest.mark.parametrize("url", ["postgresql+psycopg://u@h/d", "mysql://u@h/d"])
def test_a_store_that_was_never_tested_is_refused(url: str) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        storage.make_engine(url)
    assert refused.value.code == "store"


def test_a_commit_has_reached_the_disk_when_it_returns(tmp_path: Path) -> None:
    engine = on_disk(tmp_path / "audit.db")
    logs.make_log(engine)
    with storage.Store(engine).writing() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL"
    engine.dispose()


def test_opening_a_database_that_is_there_takes_no_time(tmp_path: Path) -> None:
    logs.write_history(logs.make_log(on_disk(tmp_path / "audit.db"))).close()
    engine, took_s = on_disk(tmp_path / "audit.db"), []
    for _ in range(5):
        started = time.thread_time()
        assert logs.make_log(engine).state.size == 10
        took_s.append(time.thread_time() - started)
    assert min(took_s) < 0.1
    engine.dispose()


def test_threads_share_a_database_in_memory(engine: sa.Engine) -> None:
    process = logs.write_history(logs.make_log(engine))
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(20):
                assert len(list(process.records())) >= 10
                assert process.evidence(logs.intent().plan) == logs.PLAN
        except BaseException as exc:  # noqa: BLE001 - it is the test that must hear of it.
            failures.append(exc)

    def write() -> None:
        try:
            for _ in range(20):
                process.append(logs.STUCK, logs.FREE)
        except BaseException as exc:  # noqa: BLE001 - it is the test that must hear of it.
            failures.append(exc)

    threads = [threading.Thread(target=run) for run in (read, write, read, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert process.state.size == 10 + 2 * 20 * 2


def test_an_append_while_records_are_read_is_no_conflict(engine: sa.Engine) -> None:
    process = logs.write_history(logs.make_log(engine))
    for entry in process.records(before=3):
        process.append(logs.STUCK)
        assert entry.seq < 3
    assert process.state.size == 13
