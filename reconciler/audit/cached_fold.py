"""The state and the end of the chain as they were at some size, so that a start need not read ten million records.

A cache: it is believed only if the log's own key signed it, this very code folded it, and the tree that is stored has the
root that it names. Anything else is no error; the log is folded from its first record.
"""

from __future__ import annotations

import functools
import inspect

import sqlalchemy as sa

from reconciler import model, ports
from reconciler.audit import chain, checkpoint, fold, record, schema, state, tree


@functools.cache
def code() -> model.Digest:
    """Of the source that folds: a state that other code folded is not read."""
    return model.sha256("".join(inspect.getsource(module) for module in (model, record, state, fold)).encode())


def save(connection: sa.Connection, end: chain.Chain, known: state.State, origin: str, signer: ports.Signer) -> None:
    """Keep this state instead of the one that is kept. Within the caller's transaction."""
    text = known.model_dump_json()
    signature = signer.sign(_message(origin, (end.size, end.prev, end.root), code(), text))
    connection.execute(schema.fold.delete())
    connection.execute(
        schema.fold.insert().values(
            size=end.size, prev=end.prev, root=end.root, code=code(), state=text, signature=signature
        )
    )


def load(connection: sa.Connection, origin: str, public: bytes) -> tuple[chain.Chain, state.State] | None:
    """Raises: AuditError(log_truncated) when we signed for more records than there are."""
    kept = _signed(connection, origin, public)
    if kept is None:
        return None
    last = connection.scalar(sa.select(sa.func.max(schema.log.c.seq)))
    if last is None or last < kept.size - 1:
        raise checkpoint.truncated(0 if last is None else last + 1, kept.size)
    end = tree.read_chain(connection, kept.size)
    if kept.code != code() or end is None or (end.prev, end.root) != (kept.prev, kept.root):
        return None
    return end, state.State.model_validate_json(kept.state)


def signed_size(connection: sa.Connection, origin: str, public: bytes) -> int:
    """How many records the state that is kept was folded from, as far as our key says so; else 0."""
    kept = _signed(connection, origin, public)
    return int(kept.size) if kept is not None else 0


def _signed(connection: sa.Connection, origin: str, public: bytes) -> sa.Row[tuple[object, ...]] | None:
    kept = connection.execute(sa.select(schema.fold).order_by(schema.fold.c.size.desc()).limit(1)).one_or_none()
    if kept is None:
        return None
    message = _message(origin, (kept.size, kept.prev, kept.root), kept.code, kept.state)
    return kept if checkpoint.verify_signature(message, kept.signature, public) else None


def _message(origin: str, end: tuple[int, bytes, bytes], folded_by: str, text: str) -> bytes:
    """What is signed. Its second line is no number, so it can never be taken for a checkpoint."""
    size, prev, root = end
    lines = (origin, "state cache", str(size), prev.hex(), root.hex(), folded_by, model.sha256(text.encode()))
    return "".join(f"{line}\n" for line in lines).encode()
