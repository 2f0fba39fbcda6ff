"""The caches beside the log: made again from it, and compared with it. What they say is never authoritative."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import sqlalchemy as sa

from reconciler.audit import chain, merkle, record, schema, storage, subject

_ADDING = 1 << 256


class Sum:
    """A digest of a set of rows in any order, so that two sets compare without either being held or sorted."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, *fields: str | int | bytes) -> None:
        self.value = (self.value + int.from_bytes(hashlib.sha256(repr(fields).encode()).digest(), "big")) % _ADDING


class Expected:
    """What the caches must hold, from the records as they are passed by."""

    def __init__(self) -> None:
        self.nodes, self.subjects = Sum(), Sum()

    def take(self, entry: record.Record, nodes: Iterable[merkle.Node]) -> None:
        for node in nodes:
            self.nodes.add(*node)
        for kind, value in subject.subjects(entry):
            self.subjects.add(kind, value, entry.seq)

    def differing(self, connection: sa.Connection) -> tuple[str, ...]:
        """The names of the caches that hold something else."""
        pairs = ((schema.node, self.nodes), (schema.subject, self.subjects))
        return tuple(table.name for table, expected in pairs if _stored(connection, table) != expected.value)


def rebuild(engine: sa.Engine) -> None:
    """Make the caches again. The log itself is checked by `verification.verify`, not here.

    Raises: AuditError(log_broken) when the log cannot be followed.
    """
    end = chain.Chain()
    with storage.Store(engine).writing() as connection:
        for table in (schema.node, schema.subject, schema.fold):
            connection.execute(table.delete())
        for found in connection.execute(sa.select(schema.log).order_by(schema.log.c.seq)):
            following, entry = end.follow(chain.Row(*found))
            _, nodes = end.add(found.leaf)
            if nodes:
                connection.execute(schema.node.insert(), [node._asdict() for node in nodes])
            connection.execute(schema.subject.insert(), subject.rows([entry]))
            end = following


def _stored(connection: sa.Connection, table: sa.Table) -> int:
    found = Sum()
    for row in connection.execute(sa.select(table)):
        found.add(*row)
    return found.value
