from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from support import logs

from reconciler import errors, model
from reconciler.audit import log, query, record, storage, verification


@pytest.fixture
def history(engine: sa.Engine) -> log.Log:
    return logs.write_history(logs.make_log(engine))


def seqs(engine: sa.Engine, **terms: object) -> list[int]:
    return [entry.seq for entry in query.query(engine, **terms)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        ({}, list(range(10))),
        ({"target": "t"}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"target": "u"}, [0]),
        ({"target": "v"}, []),
        ({"person": "alice"}, [1, 9]),
        ({"person": "bob"}, [1, 9]),
        ({"person": "forge"}, [1, 9]),
        ({"person": "uid:1000"}, [8]),
        ({"deployment": "d1"}, [3, 4, 5]),
        ({"revision": logs.oid("m1")}, [1, 2]),
        ({"revision": logs.oid("m1^2")}, [1]),
        ({"revision": logs.REVISION}, [3, 4, 5]),
        ({"verdict": "ACCEPT"}, [1]),
        ({"verdict": "REJECT"}, [9]),
        ({"verdict": "PASS"}, [2]),
        ({"verdict": "SUCCEEDED"}, [5]),
        ({"gate": "opa"}, [2]),
        ({"rule": "prod"}, [1, 9]),
        ({"ticket": "CHG0012345"}, [1, 9]),
        ({"path": "targets/t/web.yaml"}, [1, 9]),
        ({"path": "targets/t/"}, [1, 9]),
        ({"path": "targets/"}, [1, 9]),
        ({"path": "targets/t"}, []),
        ({"type": "standing"}, [7]),
        ({"type": "decision", "verdict": "REJECT", "person": "alice", "target": "t"}, [9]),
        ({"type": "decision", "verdict": "PASS"}, []),
        ({"type": "outcome", "revision": logs.REVISION}, [5]),
        ({"revision": logs.REVISION, "verdict": "SUCCEEDED", "target": "t"}, [5]),
        ({"revision": logs.REVISION, "verdict": "FAILED"}, []),
        ({"revision": logs.oid("m1"), "deployment": "d1"}, []),
        ({"limit": 3}, [0, 1, 2]),
        ({"target": "t", "after": 4, "limit": 2}, [5, 6]),
    ],
    ids=str,
)
def test_records_are_found_by_what_they_are_about(
    history: log.Log, engine: sa.Engine, terms: dict[str, object], found: list[int]
) -> None:
    assert seqs(engine, **terms) == found


def test_times_are_from_and_up_to(history: log.Log, engine: sa.Engine) -> None:
    entries = list(history.records())
    assert seqs(engine, since=entries[3].at, until=entries[6].at) == [3, 4, 5]
    assert seqs(engine, since=entries[9].at + timedelta(milliseconds=1)) == []
    assert seqs(engine, until=entries[3].at, person="bob") == [1]


def test_a_failed_clearance_is_found_by_its_worst_result(process: log.Log, engine: sa.Engine) -> None:
    process.append(logs.clearance("m1", model.Outcome.PASS, model.Outcome.FAIL))
    process.append(logs.clearance("m2", model.Outcome.ERROR, model.Outcome.FAIL))
    process.append(record.Clearance(revision=logs.oid("m3"), results=(), passed=False))
    assert seqs(engine, verdict="FAIL") == [0, 2]
    assert seqs(engine, verdict="ERROR") == [1]


def test_an_answer_may_be_longer_than_a_page(process: log.Log, engine: sa.Engine) -> None:
    process.append(*([logs.STUCK] * 1_100))
    assert seqs(engine, target="t") == list(range(1_100))
    assert len(list(process.records())) == 1_100


def test_a_term_that_is_not_indexed_is_refused(history: log.Log, engine: sa.Engine) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        seqs(engine, colour="red")
    assert refused.value.code == "query"


def test_an_index_that_was_edited_adds_nothing_to_an_answer(history: log.Log, engine: sa.Engine) -> None:
    with storage.Store(engine).writing() as connection:
        connection.exec_driver_sql("INSERT INTO subject VALUES ('person', 'mallory', 1)")
        connection.exec_driver_sql("INSERT INTO subject VALUES ('deployment', 'd9', 3)")
    assert seqs(engine, person="mallory") == []
    with pytest.raises(errors.ConfigError):
        history.intent("d9")


def test_what_became_of_a_deployment_is_found_under_its_revision_and_no_other(
    process: log.Log, engine: sa.Engine
) -> None:
    """In a log of any age: the index holds no more than one record says by itself."""
    other = logs.intent("d2").model_copy(
        update={"wanted": model.Version(revision=logs.oid("m2"), digest=model.sha256(b"m2"))}
    )
    process.append(
        logs.intent("d1"), logs.applied("d1"), logs.outcome("d1", model.Closed.FAILED),
        other, logs.applied("d2"), logs.outcome("d2"),
    )  # fmt: skip
    undone = record.Operator(actor="uid:7", verb="rollback", target="t", reason="it failed", deployment="d1")
    process.append(undone)
    assert seqs(engine, revision=logs.REVISION) == [0, 1, 2, 6]
    assert seqs(engine, revision=logs.oid("m2")) == [3, 4, 5]
    assert not verification.verify(engine, logs.SIGNER.public, logs.ORIGIN).caches


def test_an_index_that_gives_a_deployment_to_another_revision_adds_nothing(history: log.Log, engine: sa.Engine) -> None:
    with storage.Store(engine).writing() as connection:
        connection.exec_driver_sql("INSERT INTO subject VALUES ('revision', ?, 3)", (logs.oid("m9"),))
    assert seqs(engine, revision=logs.oid("m9")) == []


def test_what_records_are_found_by_is_listed_once_and_by_its_beginning(history: log.Log, engine: sa.Engine) -> None:
    assert query.values(engine, "target") == ("t", "u")
    assert query.values(engine, "person") == ("alice", "bob", "forge", "uid:1000")
    assert query.values(engine, "person", "al") == ("alice",)
    assert query.values(engine, "person", limit=2) == ("alice", "bob")
    assert query.values(engine, "revision", logs.oid("m1")[:6]) == (logs.oid("m1"),)
    assert query.values(engine, "gate", "x") == ()


def test_a_record_is_shown_by_its_place_or_its_id(history: log.Log, engine: sa.Engine) -> None:
    entry = query.show(engine, 4)
    assert (entry.seq, entry.event) == (4, logs.applied())
    assert query.show(engine, "4") == query.show(engine, entry.id) == entry
    for name in (10, "-1", "00000000-0000-7000-8000-000000000000"):
        with pytest.raises(errors.ConfigError) as unknown:
            query.show(engine, name)
        assert unknown.value.code == "no_record"
