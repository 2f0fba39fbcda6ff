"""What the owner of the database file can do: drop the triggers, change what they like, put the triggers back (trust.md 10)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from support import logs

from reconciler import errors, model
from reconciler.audit import checkpoint, log, merkle, projection, record, schema, signing, storage, verification

SIZE = 10


class Owner:
    """Of the file: no trigger stops them, and the schema looks as before when they are done."""

    def __init__(self, engine: sa.Engine, clock: logs.Clock) -> None:
        self.engine, self.clock = engine, clock
        self.notes: list[str] = []

    def change(self, *statements: str) -> None:
        triggers = [s for s in schema.SQLITE if s.startswith("CREATE TRIGGER")]
        with storage.Store(self.engine).writing() as connection:
            for trigger in triggers:
                connection.exec_driver_sql(f"DROP TRIGGER {trigger.split()[2]}")
            for statement in (*statements, *triggers):
                connection.exec_driver_sql(statement)

    def bodies(self) -> list[str]:
        with storage.Store(self.engine).reading() as connection:
            return list(connection.scalars(sa.select(schema.log.c.body).order_by(schema.log.c.seq)))

    def rewrite(self, start: int, edit: Callable[[str], str], signer: signing.FileSigner | None = None) -> None:
        """Edit one record and recompute every hash after it, and all roots where there is a key to sign them with."""
        statements, prev = [], bytes(32)
        peaks: tuple[bytes, ...] = ()
        for seq, body in enumerate(self.bodies()):
            changed = json.loads(edit(body) if seq == start else body)
            content = model.canonical_json(changed | {"prev": prev.hex()}).decode()
            text = content.replace("'", "''")
            leaf = merkle.leaf(content.encode())
            peaks, _ = merkle.grow(peaks, seq, leaf)
            statements.append(
                f"UPDATE log SET body = '{text}', leaf = x'{leaf.hex()}', prev = x'{prev.hex()}' WHERE seq = {seq}"
            )
            if signer:
                note = checkpoint.sign(logs.ORIGIN, seq + 1, merkle.root(peaks), signer)
                statements.append(f"UPDATE checkpoint SET note = '{note}' WHERE size = {seq + 1}")
            prev = leaf
        self.change(*statements)

    def report(self, *anchored: str) -> verification.Report:
        return verification.verify(self.engine, logs.SIGNER.public, logs.ORIGIN, anchored=anchored)

    def first_problem(self, *anchored: str) -> tuple[str, str]:
        problem = self.report(*anchored).problems[0]
        return problem.code, problem.where

    def start(self) -> log.Log:
        return logs.make_log(self.engine, self.clock)

    def start_code(self) -> str:
        with pytest.raises(errors.AuditError) as refused:
            self.start()
        return refused.value.code


@pytest.fixture
def owner(engine: sa.Engine, clock: logs.Clock) -> Owner:
    made = Owner(engine, clock)
    process = logs.write_history(made.start())
    made.notes.append(process.checkpoint())
    assert made.report(*made.notes).good
    return made


def leaf_of(body: str) -> str:
    return merkle.leaf(body.encode()).hex()


@pytest.mark.parametrize("seq", range(SIZE))
def test_an_edited_body_is_named_by_its_record(owner: Owner, seq: int) -> None:
    edited = owner.bodies()[seq].replace('"node":"node"', '"node":"evil"')
    owner.change(f"UPDATE log SET body = '{edited}' WHERE seq = {seq}")
    assert owner.first_problem() == ("log_broken", f"record {seq}")
    assert owner.start_code() == "log_broken"


@pytest.mark.parametrize("seq", [0, 4, 5, SIZE - 1])
def test_an_edited_body_with_its_own_hash_is_named_by_the_root_that_was_signed(owner: Owner, seq: int) -> None:
    edited = owner.bodies()[seq].replace('"node":"node"', '"node":"evil"')
    owner.change(f"UPDATE log SET body = '{edited}', leaf = x'{leaf_of(edited)}' WHERE seq = {seq}")
    assert owner.first_problem() == ("log_broken", f"record {seq}")
    assert owner.start_code() == "log_broken"


def test_recomputing_all_later_hashes_does_not_help_without_the_key(owner: Owner) -> None:
    owner.rewrite(5, lambda body: body.replace('"closed":"SUCCEEDED"', '"closed":"FAILED"'))
    assert owner.first_problem() == ("log_broken", "record 5")
    assert owner.start_code() == "log_broken"
    thief = signing.FileSigner.from_seed(bytes(32))
    owner.rewrite(5, lambda body: body.replace('"closed":"FAILED"', '"closed":"SUPERSEDED"'), thief)
    assert owner.first_problem() == ("log_broken", "checkpoint of 1 records")
    assert owner.start_code() == "log_broken"


def test_a_history_signed_with_the_stolen_key_contradicts_the_anchor(owner: Owner) -> None:
    owner.rewrite(5, lambda body: body.replace('"closed":"SUCCEEDED"', '"closed":"FAILED"'), logs.SIGNER)
    assert owner.report().good, "nothing inside the database can tell"
    assert owner.first_problem(*owner.notes) == ("log_forked", "records 0 to 9")
    projection.rebuild(owner.engine)
    with pytest.raises(errors.AuditError) as forked:
        owner.start().check_anchor(owner.notes[0])
    assert forked.value.code == "log_forked"


@pytest.mark.parametrize("seq", [0, 3, SIZE - 2])
def test_a_deleted_record_is_named(owner: Owner, seq: int) -> None:
    owner.change(f"DELETE FROM log WHERE seq = {seq}")
    assert owner.first_problem() == ("log_broken", f"record {seq}")
    assert owner.start_code() == "log_broken"


def test_a_deleted_record_is_named_when_those_after_it_were_renumbered(owner: Owner) -> None:
    moved = [b.replace(f'"seq":{s}', f'"seq":{s - 1}') for s, b in enumerate(owner.bodies())]
    renumbered = [
        f"UPDATE log SET seq = {s - 1}, body = '{moved[s]}', leaf = x'{leaf_of(moved[s])}' WHERE seq = {s}"
        for s in range(4, SIZE)
    ]
    owner.change("DELETE FROM log WHERE seq = 3", *renumbered)
    assert owner.first_problem() == ("log_broken", "record 3")
    assert owner.start_code() == "log_broken"


def test_swapped_records_are_named(owner: Owner) -> None:
    four, five = owner.bodies()[4:6]
    four, five = four.replace('"seq":4', '"seq":5'), five.replace('"seq":5', '"seq":4')
    owner.change(
        "PRAGMA ignore_check_constraints = ON",
        f"UPDATE log SET body = '{five}', leaf = x'{leaf_of(five)}' WHERE seq = 4",
        f"UPDATE log SET body = '{four}', leaf = x'{leaf_of(four)}' WHERE seq = 5",
        "PRAGMA ignore_check_constraints = OFF",
    )
    assert owner.first_problem() == ("log_broken", "record 4")
    assert owner.start_code() == "log_broken"


def test_a_tail_that_was_cut_off_is_missed_by_its_checkpoint(owner: Owner) -> None:
    owner.change("DELETE FROM log WHERE seq >= 7")
    assert owner.first_problem() == ("log_truncated", "record 7")
    assert owner.start_code() == "log_truncated"


def test_a_tail_that_was_cut_off_with_its_checkpoints_is_missed_by_the_anchor(owner: Owner) -> None:
    owner.change("DELETE FROM log WHERE seq >= 5", "DELETE FROM checkpoint WHERE size > 5")
    assert owner.report().good, "this is what an honest backup looks like"
    assert owner.first_problem(*owner.notes) == ("log_truncated", "record 5")
    with pytest.raises(errors.AuditError) as truncated:
        owner.start().check_anchor(owner.notes[0])
    assert truncated.value.code == "log_truncated"


def test_a_tail_that_was_cut_off_under_a_signed_cache_is_missed_by_it(owner: Owner) -> None:
    owner.start().close()
    owner.change("DELETE FROM log WHERE seq >= 5", "DELETE FROM checkpoint WHERE size > 5")
    assert owner.start_code() == "log_truncated"


def test_all_checkpoints_gone_is_no_empty_log(owner: Owner) -> None:
    owner.change("DELETE FROM checkpoint")
    assert owner.first_problem() == ("log_foreign_row", "record 0")
    assert owner.start_code() == "log_foreign_row"


def test_a_forged_checkpoint_has_no_good_signature(owner: Owner) -> None:
    stranger = signing.FileSigner.from_seed(bytes(32))
    end = owner.start()
    root = checkpoint.open_note(end.checkpoint(), logs.ORIGIN, logs.SIGNER.public).root
    forged = checkpoint.sign(logs.ORIGIN, SIZE, root, stranger)
    owner.change(f"UPDATE checkpoint SET note = '{forged}' WHERE size = {SIZE}")
    assert owner.first_problem() == ("log_broken", f"checkpoint of {SIZE} records")
    assert owner.start_code() == "log_broken"


def test_a_checkpoint_under_another_size_is_refused(owner: Owner) -> None:
    owner.change("UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 4) WHERE size = 5")
    assert owner.first_problem()[0] == "log_broken"


def test_a_row_of_somebody_else_stops_a_start_and_a_running_process(owner: Owner) -> None:
    process = owner.start()
    process.lease("watch")
    body = json.loads(owner.bodies()[-1])
    prev = leaf_of(owner.bodies()[-1])
    content = model.canonical_json(body | {"seq": SIZE, "epoch": 2, "prev": prev}).decode()
    with storage.Store(owner.engine).writing() as connection:  # With every trigger in its place.
        connection.exec_driver_sql(
            f"INSERT INTO log VALUES ({SIZE}, 'watch', 2, x'{prev}', x'{leaf_of(content)}', '{content}')"
        )
    assert owner.first_problem() == ("log_foreign_row", f"record {SIZE}")
    assert owner.start_code() == "log_foreign_row"
    with pytest.raises(errors.AuditError) as foreign:
        process.append(record.Halt(codes=()))
    assert foreign.value.code == "log_foreign_row"
    with pytest.raises(errors.AuditError) as closed:
        process.append(record.Halt(codes=()))
    assert closed.value.code == "log_closed"


def test_replaced_evidence_fails_as_that_piece_and_nothing_else(owner: Owner) -> None:
    plan = model.sha256(logs.PLAN)
    owner.change(f"UPDATE evidence SET content = x'00' WHERE digest = '{plan}'")
    report = owner.report()
    assert [(p.code, p.where) for p in report.problems] == [("evidence_broken", plan)]
    assert "record 3" in report.problems[0].message
    assert report.size == SIZE
    process = owner.start()
    with pytest.raises(errors.AuditError) as refused:
        process.evidence(plan)
    assert refused.value.code == "evidence_broken"
    assert process.evidence(model.sha256(logs.SNAPSHOT)) == logs.SNAPSHOT


def test_deleted_evidence_is_missed(owner: Owner) -> None:
    owner.change("DELETE FROM evidence")
    assert {(p.code, p.where) for p in owner.report().problems} == {
        ("evidence_missing", model.sha256(logs.PLAN)),
        ("evidence_missing", model.sha256(logs.SNAPSHOT)),
    }


@pytest.mark.parametrize(
    ("cache", "edit"),
    [
        ("subject", "UPDATE subject SET value = 'mallory' WHERE value = 'bob'"),
        ("subject", "DELETE FROM subject WHERE kind = 'target'"),
        ("node", "UPDATE node SET hash = zeroblob(32) WHERE level = 1 AND position = 1"),
    ],
)
def test_an_edited_cache_is_told_and_made_again(owner: Owner, cache: str, edit: str) -> None:
    owner.change(edit)
    report = owner.report()
    assert report.good, "nothing that is proven reads it"
    assert report.caches == (cache,)
    projection.rebuild(owner.engine)
    assert owner.report().caches == ()


def test_a_hole_in_the_tree_proves_nothing(owner: Owner) -> None:
    process = owner.start()
    process.lease("watch")
    process.append(record.Halt(codes=()))
    process.check_anchor(owner.notes[0])
    owner.change("DELETE FROM node")
    with pytest.raises(errors.AuditError) as hole:
        process.check_anchor(owner.notes[0])
    assert hole.value.code == "cache_broken"


def test_what_somebody_put_into_a_cache_stops_no_append(owner: Owner) -> None:
    process = owner.start()
    process.lease("watch")
    owner.change(f"INSERT INTO node VALUES (1, {SIZE // 2}, zeroblob(32))")
    process.append(record.Halt(codes=()), record.Halt(codes=()))
    report = owner.report()
    assert (report.good, report.caches) == (True, ())


def test_a_dropped_or_weakened_trigger_is_noticed(owner: Owner) -> None:
    with storage.Store(owner.engine).writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER log_update")
    assert owner.first_problem()[0] == "schema"
    assert owner.start_code() == "schema"
    with storage.Store(owner.engine).writing() as connection:
        connection.exec_driver_sql("CREATE TRIGGER log_update BEFORE UPDATE ON log BEGIN SELECT 1; END")
    assert owner.start_code() == "schema"


def test_a_body_that_is_no_record_or_not_canonical_is_named(owner: Owner) -> None:
    body = owner.bodies()[4]
    for changed in (body.replace('"type":"applied"', '"type":"unheard"'), body.replace('{"actor"', '{ "actor"')):
        owner.change(f"UPDATE log SET body = '{changed}', leaf = x'{leaf_of(changed)}' WHERE seq = 4")
        assert owner.first_problem() == ("log_broken", "record 4")
