"""The Merkle tree as it is stored: leaves in `log`, inner nodes in a cache. What is read here is a claim until a signed root agrees."""

from __future__ import annotations

import sqlalchemy as sa

from reconciler import errors
from reconciler.audit import chain, merkle, schema


def read_chain(connection: sa.Connection, size: int) -> chain.Chain | None:
    """The chain as it was at this size; None where a leaf or a node of it is not there."""
    prev = connection.scalar(sa.select(schema.log.c.leaf).where(schema.log.c.seq == size - 1))
    peaks = tuple(_node(connection, level, position) for level, position in merkle.peak_places(size))
    known = tuple(peak for peak in peaks if peak is not None)
    return chain.Chain(size, prev, known) if prev is not None and len(known) == len(peaks) else None


def inclusion(connection: sa.Connection, seq: int, size: int) -> tuple[bytes, ...]:
    """Raises: ValueError when the tree has no such leaf; AuditError(cache_broken)."""
    return merkle.inclusion(_lookup(connection), seq, size)


def consistency(connection: sa.Connection, old: int, new: int) -> tuple[bytes, ...]:
    """Raises: ValueError for an old tree that is empty or larger; AuditError(cache_broken)."""
    return merkle.consistency(_lookup(connection), old, new)


def _lookup(connection: sa.Connection) -> merkle.Lookup:
    def look_up(level: int, position: int) -> bytes:
        found = _node(connection, level, position)
        if found is None:
            raise errors.AuditError(
                "cache_broken",
                "it is not there",
                where=f"node {position} of level {level}",
                fix="reconciler audit verify says what differs; reconciler recover --log --reason WHY makes the caches again",
            )
        return found

    return look_up


def _node(connection: sa.Connection, level: int, position: int) -> bytes | None:
    node, log = schema.node.c, schema.log.c
    if level == 0:
        found = connection.scalar(sa.select(log.leaf).where(log.seq == position))
    else:
        found = connection.scalar(sa.select(node.hash).where(node.level == level, node.position == position))
    return found if isinstance(found, bytes) else None
