from __future__ import annotations

import pytest
import sqlalchemy as sa
from support import logs
from support.logs import PLAN, REVISION, SNAPSHOT, STUCK, VERSION, intent

from reconciler import errors, model
from reconciler.audit import log, record, state


def test_each_scope_has_its_own_writer_and_all_share_one_log(
    process: log.Log, engine: sa.Engine, clock: logs.Clock
) -> None:
    other = logs.make_log(engine, clock, holder="other")
    other.lease("target:u")
    process.append(STUCK)
    other.append(record.Standing(target="u", code="stuck"))
    assert process.state.size == 1
    process.append(record.Config(digest=model.sha256(b"c"), where="here"))
    assert process.state.size == other.state.size + 1, "it catches up with its next append"
    assert {(e.scope, e.epoch) for e in process.records()} == {("watch", 1), ("target:t", 1), ("target:u", 1)}


def test_a_lease_that_ran_out_is_taken_over_and_its_old_holder_cannot_append(
    process: log.Log, engine: sa.Engine, clock: logs.Clock
) -> None:
    process.append(STUCK)
    other = logs.make_log(engine, clock, holder="other")
    with pytest.raises(errors.TransientError) as refused:
        other.lease("target:t")
    assert refused.value.code == "leased"
    clock.sleep(121)
    other.lease("target:t")
    with pytest.raises(errors.AuditError) as lost:
        process.append(STUCK)
    assert lost.value.code == "lease_lost"
    process.append(record.Halt(codes=()))
    other.append(STUCK)
    assert [e.epoch for e in process.records()] == [1, 1, 2]


def test_a_permit_names_the_intent_that_is_already_durable(process: log.Log) -> None:
    permit = process.permit(intent(), evidence=(PLAN, SNAPSHOT), deadline_s=300)
    kept = list(process.records())[permit.seq]
    assert (kept.event, kept.epoch) == (intent(), permit.epoch)
    assert process.intent("d1") == intent()
    assert process.evidence(intent().plan) == PLAN


def test_what_is_not_there_is_said_so(process: log.Log) -> None:
    with pytest.raises(errors.ConfigError) as unknown:
        process.intent("d9")
    assert unknown.value.code == "no_deployment"
    with pytest.raises(errors.AuditError) as missing:
        process.evidence(model.sha256(b"never"))
    assert missing.value.code == "evidence_missing"


def test_subscribers_hear_of_a_record_after_it_is_durable_and_outside_the_lock(process: log.Log) -> None:
    heard: list[tuple[int, int]] = []

    def hear(entry: record.Record, after: state.State) -> None:
        heard.append((entry.seq, after.size))
        if entry.event == STUCK:
            process.append(record.Standing(target="t", code=None))

    process.subscribe(hear)
    process.append(STUCK)
    assert heard == [(0, 1), (1, 2)]


def test_a_restart_comes_to_the_same_state(process: log.Log, engine: sa.Engine, clock: logs.Clock) -> None:
    process.append(record.Genesis(revision=REVISION, reason="taken over", targets={"t": VERSION.digest}))
    process.permit(intent(), evidence=(PLAN, SNAPSHOT), deadline_s=300)
    assert logs.make_log(engine, clock).state == process.state
    process.close()
    assert logs.make_log(engine, clock).state == process.state, "from the cache too"
