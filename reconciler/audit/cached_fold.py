"""The state and the end of the chain as they were at some size, so that a start need not read ten million records.

A cache: it is believed only if the log's own key signed it, this very code folded it, and the tree that is stored has the
root that it names. Anything else is no error; the log is folded from its first record.
"""

from __future__ import annotations

import functools
import inspect

import sqlalchemy as sa

from reconciler import model, ports
from reconciler.audit import chain, checkpoint, merkle, record, schema, state


@functools.cache
def code() -> model.Digest:
    """Of the source that folds: a state that other code folded is not read."""
    return model.sha256("".join(inspect.getsource(module) for module in (model, record, state)).encode())


def save(connection: sa.Connection, end: chain.Chain, known: state.State, origin: str, signer: ports.Signer) -> None:
    """Keep this state instead of the one that is kept. Within the caller's transaction."""
    text = known.model_dump_json()
    signature = signer.sign(_message(origin, end, text))
    connection.execute(schema.fold.delete())
    connection.execute(schema.fold.insert().values(size=end.size, code=code(), state=text, signature=signature))


def load(connection: sa.Connection, origin: str, public: bytes) -> tuple[chain.Chain, state.State] | None:
    kept = connection.execute(sa.select(schema.fold).order_by(schema.fold.c.size.desc()).limit(1)).one_or_none()
    if kept is None or kept.code != code():
        return None
    end = read_chain(connection, kept.size)
    if end is None or not checkpoint.verify_signature(_message(origin, end, kept.state), kept.signature, public):
        return None
    return end, state.State.model_validate_json(kept.state)


def read_chain(connection: sa.Connection, size: int) -> chain.Chain | None:
    """The chain at this size from the stored nodes: a claim, to be checked against something signed."""
    prev = connection.scalar(sa.select(schema.log.c.leaf).where(schema.log.c.seq == size - 1))
    found = [stored_node(connection, level, position) for level, position in merkle.peak_places(size)]
    peaks = tuple(peak for peak in found if peak is not None)
    if prev is None or len(peaks) != len(found):
        return None
    return chain.Chain(size, prev, peaks)


def stored_node(connection: sa.Connection, level: int, position: int) -> bytes | None:
    """The hash of one complete subtree, as stored."""
    node, log = schema.node.c, schema.log.c
    if level == 0:
        found = connection.scalar(sa.select(log.leaf).where(log.seq == position))
    else:
        found = connection.scalar(sa.select(node.hash).where(node.level == level, node.position == position))
    return found if isinstance(found, bytes) else None


def _message(origin: str, end: chain.Chain, text: str) -> bytes:
    """What is signed. Its second line is no number, so it can never be taken for a checkpoint."""
    lines = (origin, "state cache", str(end.size), end.root.hex(), end.prev.hex(), code(), model.sha256(text.encode()))
    return "".join(f"{line}\n" for line in lines).encode()
