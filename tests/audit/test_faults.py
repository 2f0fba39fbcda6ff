"""A disk that is full, a statement that fails, a process that is killed: before and after each step of an append."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from support import logs

from reconciler import errors
from reconciler.audit import log, record, storage, verification

EVENTS = (logs.STUCK, logs.FREE)


class Broken(sa.exc.SQLAlchemyError):
    """What SQLAlchemy raises when the disk fails."""


class Killed(BaseException):
    """kill -9."""


class Fault:
    """Raises at one of the points that an append passes; counts them."""

    def __init__(self, engine: sa.Engine, at: int, raises: type[BaseException]) -> None:
        self._engine, self._at, self._raises, self.passed = engine, at, raises, 0

    @contextmanager
    def planted(self) -> Iterator[None]:
        names = ("before_cursor_execute", "after_cursor_execute", "commit")
        for name in names:
            event.listen(self._engine, name, self._pass)
        real = self._engine.dialect.do_commit

        def commit(dbapi: object) -> None:
            real(dbapi)  # type: ignore[arg-type]
            self._pass()  # Failed, but persisted.

        self._engine.dialect.do_commit = commit  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            self._engine.dialect.do_commit = real  # type: ignore[method-assign]
            for name in names:
                event.remove(self._engine, name, self._pass)

    def _pass(self, *_: object) -> None:
        self.passed += 1
        if self.passed == self._at:
            raise self._raises


def verified_size(engine: sa.Engine) -> int:
    report = verification.verify(engine, logs.SIGNER.public, logs.ORIGIN)
    assert (report.problems, report.caches) == ((), ())
    return report.size


def points() -> int:
    """How many there are in one append."""
    engine = storage.make_engine("sqlite://")
    process = logs.write_history(logs.make_log(engine))
    fault = Fault(engine, 0, Broken)
    with fault.planted():
        process.append(*EVENTS, evidence=(b"report",))
    engine.dispose()
    return fault.passed


def fails(process: log.Log) -> bool:
    """Forgets the exception: its frames would keep the statement, and so the lock, of a connection that is gone."""
    try:
        process.append(*EVENTS, evidence=(b"report",))
    except (errors.AuditError, Killed):
        return True
    return False


@pytest.mark.parametrize("raises", [Broken, Killed])
def test_a_fault_at_any_point_of_an_append_leaves_all_of_it_or_nothing(
    raises: type[BaseException], tmp_path: Path
) -> None:
    kept = []
    for at in range(1, points() + 1):
        # SQLAlchemy throws the connection of a killed statement away, and with it a database in memory.
        url = f"sqlite:///{tmp_path / f'{at}.db'}" if raises is Killed else "sqlite://"
        engine, clock = storage.make_engine(url), logs.Clock()
        process = logs.write_history(logs.make_log(engine, clock))
        before = process.state
        with Fault(engine, at, raises).planted():
            assert fails(process)
        gc.collect()
        assert process.state == before, "what may not be kept is not believed"
        with pytest.raises(errors.AuditError) as closed:
            process.append(logs.STUCK)
        assert closed.value.code == "log_closed"
        size = verified_size(engine)
        following = logs.make_log(engine, clock)
        assert following.state.size == size
        following.lease("target:t")
        following.append(*EVENTS)
        assert verified_size(engine) == size + 2
        kept.append(size - before.size)
        engine.dispose()
    assert set(kept) == {0, 2}
    assert kept == sorted(kept), "everything before the commit is lost, what fails after it was kept"


def test_nothing_starts_when_the_disk_is_full_before_an_intent(tmp_path: Path) -> None:
    engine = storage.make_engine(f"sqlite:///{tmp_path / 'audit.db'}")
    process = logs.write_history(logs.make_log(engine))
    with storage.Store(engine).reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(errors.AuditError, match="full") as full:
        process.permit(logs.intent("d2"), evidence=(logs.PLAN, os.urandom(2_000_000)), deadline_s=1)
    assert full.value.code == "log_append"
    with pytest.raises(errors.AuditError) as closed:
        process.permit(logs.intent("d2"), evidence=(logs.PLAN,), deadline_s=1)
    assert closed.value.code == "log_closed"
    engine.dispose()
    assert verified_size(engine) == 10
    with pytest.raises(errors.ConfigError):
        logs.make_log(engine).intent("d2")
    engine.dispose()


def test_a_fault_while_a_lease_is_taken_closes_the_log_too(engine: sa.Engine, process: log.Log) -> None:
    with Fault(engine, 3, Broken).planted(), pytest.raises(errors.AuditError):
        process.lease("target:u")
    with pytest.raises(errors.AuditError) as closed:
        process.lease("target:u")
    assert closed.value.code == "log_closed"


def test_a_refusal_before_the_first_write_leaves_the_log_open(process: log.Log) -> None:
    for code, refused in (
        ("lease_lost", record.Standing(target="other", code="stuck")),
        ("record_size", record.Halt(codes=("x" * 70_000,))),
        ("record_form", record.Halt(codes=("\ud800",))),
    ):
        with pytest.raises(errors.AuditError) as caught:
            process.append(logs.STUCK, refused)
        assert caught.value.code == code
    assert process.append(logs.STUCK).size == 1


WRITER = """
import sys
from support import logs
from reconciler.audit import storage
process = logs.make_log(storage.make_engine("sqlite:///" + sys.argv[1]), holder="child")
process.lease("target:t")
while True:
    size = process.append(logs.STUCK, logs.FREE, evidence=(b"x" * 5000,)).size
    print(size, process.checkpoint().encode().hex(), flush=True)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """The files of a process that was killed while it appended, and the last size and checkpoint that it told."""
    path = tmp_path_factory.mktemp("killed") / "audit.db"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout
        told = [child.stdout.readline() for _ in range(30)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.readlines()
    size, note = next(line for line in reversed(told) if line.endswith("\n")).split()
    return path, int(size), bytes.fromhex(note).decode()


def copy(path: Path, to: Path) -> Path:
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{to}{suffix}")
    return to


def test_what_a_killed_process_was_told_is_kept_is_kept(killed: tuple[Path, int, str], tmp_path: Path) -> None:
    path, size, note = killed
    engine = storage.make_engine(f"sqlite:///{copy(path, tmp_path / 'audit.db')}")
    assert verified_size(engine) in (size, size + 2), "one append may have been under way"
    logs.make_log(engine).check_anchor(note)
    engine.dispose()


def test_a_torn_write_ahead_log_is_never_lost_in_silence(killed: tuple[Path, int, str], tmp_path: Path) -> None:
    path, size, note = killed
    whole = Path(f"{path}-wal").stat().st_size
    found = set()
    for tenth in range(10):
        torn = copy(path, tmp_path / f"{tenth}.db")
        os.truncate(f"{torn}-wal", whole * tenth // 10 + 17)
        engine = storage.make_engine(f"sqlite:///{torn}")
        try:
            left = logs.make_log(engine)
        except errors.AuditError as exc:  # Not even the tables are left.
            found.add(exc.code)
        else:
            assert left.state.size < size
            assert verified_size(engine) == left.state.size
            with pytest.raises(errors.AuditError) as truncated:
                left.check_anchor(note)
            found.add(truncated.value.code)
        engine.dispose()
    assert found == {"log_truncated"}
