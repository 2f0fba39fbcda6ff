from __future__ import annotations

import pytest
import sqlalchemy as sa
from support import logs

from reconciler.audit import checkpoint, merkle, schema, storage, tree


def test_every_record_is_proven_under_the_newest_checkpoint_from_stored_nodes(engine: sa.Engine) -> None:
    process = logs.write_history(logs.make_log(engine))
    newest = checkpoint.open_note(process.checkpoint(), logs.ORIGIN, logs.SIGNER.public)
    assert newest.size == 10
    with storage.Store(engine).reading() as connection:
        bodies = list(connection.scalars(sa.select(schema.log.c.body).order_by(schema.log.c.seq)))
        for seq, body in enumerate(bodies):
            proof = tree.inclusion(connection, seq, newest.size)
            assert merkle.included(body.encode(), seq, newest.size, proof, newest.root)
            assert not merkle.included(body.replace("node", "evil").encode(), seq, newest.size, proof, newest.root)


def test_every_older_checkpoint_is_consistent_with_the_newest(engine: sa.Engine) -> None:
    process = logs.make_log(engine)
    assert process.checkpoint() == ""
    logs.write_history(process)
    with storage.Store(engine).reading() as connection:
        notes = list(connection.scalars(sa.select(schema.checkpoint.c.note)))
    assert len(notes) == 9, "one for each append, not for each record"
    for note in notes:
        process.check_anchor(note)


def test_a_size_that_never_was_has_no_chain(engine: sa.Engine) -> None:
    logs.write_history(logs.make_log(engine))
    with storage.Store(engine).reading() as connection:
        assert tree.read_chain(connection, 11) is None
        whole = tree.read_chain(connection, 10)
        assert whole
        assert whole.size == 10
        with pytest.raises(ValueError, match="not in a tree"):
            tree.inclusion(connection, 10, 10)
