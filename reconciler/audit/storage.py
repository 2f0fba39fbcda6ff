"""The database under the log: transactions, creation and the check of its schema. What is in the tables is not judged here.

SQLite: WAL, synchronous=FULL (a commit has reached the disk when it returns), BEGIN IMMEDIATE for each write, because a
transaction that reads first and then asks for the write lock can fail half way. Python's driver would start transactions by
itself and leave DDL outside; it is put into autocommit mode and told when to begin.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import event

from reconciler import errors
from reconciler.audit import schema

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import pool

_BUSY_TIMEOUT_MS = 30_000  # A writer holds the lock for one append; longer means that something is wrong.
_BUSY_PAUSE_S = 0.01
_BEGIN = "reconciler_begin"
_one_connection: weakref.WeakKeyDictionary[sa.Engine, threading.RLock] = weakref.WeakKeyDictionary()


def make_engine(url: str) -> sa.Engine:
    """An engine for a `store.url`; `sqlite://` is a database in memory that all threads of this process share.

    Raises: ConfigError(store) for a dialect that has no tested schema yet.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        raise errors.ConfigError("store", f"{parsed.drivername} is not supported", fix="use sqlite:////path/audit.db")
    if parsed.database in (None, "", ":memory:"):
        return sa.create_engine(url, poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    return sa.create_engine(url)


class Store:
    """Transactions on one engine. Any number of Stores, and of processes, may share a database."""

    def __init__(self, engine: sa.Engine) -> None:
        if engine.dialect.name != "sqlite":
            raise errors.ConfigError(
                "store", f"{engine.dialect.name} is not supported", fix="use sqlite:////path/audit.db"
            )
        if not event.contains(engine, "checkout", _prepare):
            event.listen(engine, "checkout", _prepare)
            event.listen(engine, "begin", _begin)
        self.engine = engine
        self._writer = engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        # A database in memory has one connection, which holds one transaction: threads take turns.
        static = isinstance(engine.pool, sa.StaticPool)
        self._turn = _one_connection.setdefault(engine, threading.RLock()) if static else nullcontext()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A snapshot. Never keep it over a `yield`: in memory nobody else could write meanwhile.

        Raises: AuditError(log_read).
        """
        with (
            _storage_errors("log_read", "the audit log could not be read"),
            self._turn,
            self.engine.begin() as connection,
        ):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """The only write transaction of the database; durable when the block is left without an exception.

        Raises: AuditError(log_append), also where the block raised SQLAlchemyError.
        """
        with (
            _storage_errors("log_append", "the audit log could not be written"),
            self._turn,
            self._writer.begin() as connection,
        ):
            yield connection

    def open(self) -> None:
        """Create the tables in an empty database, or bring an older one up to date, and check what is there.

        Raises: AuditError(schema) when tables or triggers are not what this version made.
        """
        version = self._version()
        if version is None:
            with self.writing() as connection:
                if not _statements(connection):  # Another process may have been first.
                    create(connection)
        elif version != schema.REVISION:
            self._migrate()
        self.check_schema()

    def check_schema(self) -> None:
        with self.reading() as connection:
            found = _statements(connection)
        if schema.digest(found) != schema.digest(schema.SQLITE):
            changed = sorted({_name(s) for s in set(found) ^ set(schema.SQLITE)})
            raise errors.AuditError(
                "schema",
                f"tables or triggers of the audit log were changed: {', '.join(changed) or 'one twice'}",
                fix="stop, keep a copy of the database, and compare it with a backup: reconciler audit verify",
            )

    def _version(self) -> str | None:
        with self.reading() as connection:
            if not _scalar(connection, "SELECT count(*) FROM sqlite_schema WHERE name = 'alembic_version'"):
                return None
            return str(_scalar(connection, "SELECT version_num FROM alembic_version"))

    def _migrate(self) -> None:
        # Imported where it is used: a start without a migration shall not wait for it.
        from alembic import command, config, util

        options = config.Config()
        options.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.writing() as connection:
            options.attributes["connection"] = connection
            try:
                command.upgrade(options, "head")
            except util.CommandError as exc:
                raise errors.AuditError(
                    "schema", "the audit log was written by a newer version", fix="install that version again"
                ) from exc


def create(connection: sa.Connection) -> None:
    """What the migrations up to `schema.REVISION` make, in one go: a simulation makes thousands of databases."""
    for statement in schema.SQLITE:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (schema.REVISION,))


@contextmanager
def _storage_errors(code: str, message: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as exc:
        # The driver's words, not SQLAlchemy's: those quote the statement with all that was to be logged.
        raise errors.AuditError(code, f"{message}: {getattr(exc, 'orig', None) or type(exc).__name__}") from exc


def _statements(connection: sa.Connection) -> list[str]:
    rows = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'alembic_version'"
    return [str(sql) for sql in connection.exec_driver_sql(rows).scalars()]


def _scalar(connection: sa.Connection, statement: str) -> object:
    # Without SQLAlchemy's compiler, whose cache is one of each engine: a new one would compile at each start.
    return connection.exec_driver_sql(statement).scalar()


def _name(statement: str) -> str:
    return " ".join(statement.split()[1:3])


def _prepare(dbapi: sqlite3.Connection, entry: pool.ConnectionPoolEntry, _proxy: pool.PoolProxiedConnection) -> None:
    """Set up a connection when it is first handed out, also one that was made before the engine came to us."""
    if entry.info.get("reconciler"):
        return
    dbapi.isolation_level = None
    dbapi.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    _write_ahead(dbapi)
    dbapi.execute("PRAGMA synchronous=FULL")
    entry.info["reconciler"] = True


def _write_ahead(dbapi: sqlite3.Connection) -> None:
    """Switch a new database to WAL, which it then stays in.

    SQLite answers SQLITE_BUSY at once, and does not wait as `busy_timeout` says, while two connections switch together.
    """
    tries_end_s = time.monotonic() + _BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            dbapi.execute("PRAGMA journal_mode=WAL")  # Answers `memory` where there is no file.
        except dbapi.OperationalError as exc:
            if exc.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > tries_end_s:
                raise
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(str(connection.get_execution_options().get(_BEGIN, "BEGIN")))
