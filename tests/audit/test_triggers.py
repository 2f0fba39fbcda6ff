"""Each way around the append-only tables that trust.md 9.3 names, tried in SQL on a log that stands."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from support import logs

from reconciler.audit import merkle, storage, verification

ROW = (
    "INSERT INTO log SELECT {seq}, '{scope}', {epoch}, x'{prev}', x'{leaf}',"
    """ '{{"seq":{in_seq},"scope":"{in_scope}","epoch":{in_epoch},"prev":"{in_prev}"}}'"""
)
SIZE = 10


@pytest.fixture
def store(engine: sa.Engine, clock: logs.Clock) -> storage.Store:
    assert logs.write_history(logs.make_log(engine, clock)).state.size == SIZE
    return storage.Store(engine)


def run(store: storage.Store, statement: str) -> None:
    # On the driver's own connection: it is SQLite that must refuse, not a layer of ours.
    with store.reading() as connection:
        connection.exec_driver_sql(statement)


def refuse(store: storage.Store, statement: str, why: str) -> None:
    with pytest.raises(Exception, match=why):
        run(store, statement)
    report = verification.verify(store.engine, logs.SIGNER.public, logs.ORIGIN)
    assert report.good
    assert (report.size, report.caches) == (SIZE, ())


def row(store: storage.Store, **fields: object) -> str:
    """An INSERT of the next row, good but for these fields; a column that is changed is changed in the body too."""
    with store.reading() as connection:
        prev = connection.exec_driver_sql("SELECT hex(leaf) FROM log ORDER BY seq DESC").scalar()
    columns = {"seq": SIZE, "scope": "watch", "epoch": 1, "prev": str(prev).lower(), "leaf": "00" * 32} | fields
    inside = {f"in_{name}": columns[name] for name in ("seq", "scope", "epoch", "prev")}
    return ROW.format(**(inside | columns))


def test_the_row_that_the_others_vary_is_accepted(store: storage.Store) -> None:
    run(store, row(store))
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM log").scalar() == SIZE + 1


def test_a_record_is_never_changed_or_deleted(store: storage.Store) -> None:
    refuse(store, "UPDATE log SET body = body WHERE seq = 3", "append-only")
    refuse(store, "DELETE FROM log WHERE seq = 9", "append-only")
    refuse(store, "DELETE FROM log", "append-only")


def test_a_record_is_not_replaced_by_an_insert(store: storage.Store) -> None:
    replace = row(store, seq=3).replace("INSERT", "INSERT OR REPLACE")
    refuse(store, replace, "gap, wrong prev or lease lost")
    refuse(store, row(store, seq=SIZE - 1).replace("INSERT", "REPLACE"), "gap, wrong prev or lease lost")
    upsert = row(store, seq=3) + " WHERE true ON CONFLICT (seq) DO UPDATE SET body = excluded.body"
    refuse(store, upsert, "gap, wrong prev or lease lost")


def test_there_are_no_gaps_and_no_wrong_predecessors(store: storage.Store) -> None:
    refuse(store, row(store, seq=SIZE + 1), "gap, wrong prev or lease lost")
    refuse(store, row(store, prev="11" * 32), "gap, wrong prev or lease lost")


def test_only_the_holder_of_the_lease_appends(store: storage.Store) -> None:
    refuse(store, row(store, epoch=2), "gap, wrong prev or lease lost")
    refuse(store, row(store, scope="target:nobody"), "gap, wrong prev or lease lost")
    run(store, "UPDATE lease SET holder = 'thief', epoch = 2 WHERE scope = 'watch'")
    refuse(store, row(store, epoch=1), "gap, wrong prev or lease lost")


@pytest.mark.parametrize(
    "inside", [{"in_seq": 3}, {"in_scope": "target:t"}, {"in_epoch": 2}, {"in_prev": "00" * 32}], ids=str
)
def test_a_body_names_no_other_place_than_its_row(store: storage.Store, inside: dict[str, object]) -> None:
    refuse(store, row(store, **inside), "CHECK constraint failed")


def test_a_row_has_a_whole_leaf_and_a_body_within_the_limit(store: storage.Store) -> None:
    refuse(store, row(store, leaf="00" * 31), "CHECK constraint failed")
    refuse(store, row(store).replace('{"seq"', '{"x":"' + "é" * 32_760 + '","seq"'), "CHECK constraint failed")


def test_a_lease_never_changes_hands_without_a_new_epoch(store: storage.Store) -> None:
    epochs = "epochs only grow"
    refuse(store, "UPDATE lease SET holder = 'thief' WHERE scope = 'watch'", epochs)
    refuse(store, "UPDATE lease SET epoch = 0 WHERE scope = 'watch'", epochs)
    refuse(store, "UPDATE lease SET scope = 'target:v' WHERE scope = 'watch'", epochs)
    refuse(store, "DELETE FROM lease", epochs)
    refuse(store, "INSERT OR REPLACE INTO lease VALUES ('watch', 1, 'thief', '2099')", epochs)
    refuse(store, "INSERT OR REPLACE INTO lease VALUES ('watch', 0, 'node', '2099')", epochs)
    refuse(
        store,
        "INSERT INTO lease VALUES ('watch', 1, 'thief', '2099') ON CONFLICT DO UPDATE SET holder = excluded.holder",
        epochs,
    )


def test_a_checkpoint_is_never_changed_replaced_or_made_up(store: storage.Store) -> None:
    refuse(store, "UPDATE checkpoint SET note = '' WHERE size = 4", "append-only")
    refuse(store, "DELETE FROM checkpoint WHERE size = 10", "append-only")
    refuse(store, "INSERT OR REPLACE INTO checkpoint VALUES (10, 'made up')", "not of this log")
    refuse(store, "INSERT INTO checkpoint VALUES (11, 'made up')", "not of this log")
    refuse(store, "INSERT INTO checkpoint VALUES (7, 'made up')", "not of this log")


def test_evidence_is_never_changed_or_deleted_and_not_replaced_by_other_content(store: storage.Store) -> None:
    refuse(store, "UPDATE evidence SET content = x'00'", "append-only")
    refuse(store, "DELETE FROM evidence", "append-only")
    refuse(store, "INSERT OR REPLACE INTO evidence SELECT digest, x'00' FROM evidence", "append-only")
    run(store, "INSERT OR IGNORE INTO evidence SELECT digest, content FROM evidence")


def test_a_row_that_somebody_else_inserted_is_beyond_the_checkpoint(store: storage.Store) -> None:
    leaf = merkle.leaf(b"anything").hex()
    run(store, row(store, leaf=leaf))
    report = verification.verify(store.engine, logs.SIGNER.public, logs.ORIGIN)
    assert [p.where for p in report.problems] == [f"record {SIZE}"]
