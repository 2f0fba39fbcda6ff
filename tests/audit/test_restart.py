"""What a process knows is what the next one folds: from the first record, from a cache, and from any prefix."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from support import logs

from reconciler import model
from reconciler.audit import cached_fold, fold, log, record, schema, state, storage, verification

TARGETS = st.sampled_from(["t", "u"])
DEPLOYMENTS = st.sampled_from(["d1", "d2", "d3"])
MERGES = st.sampled_from(["m1", "m2", "m3"])
OUTCOMES = st.sampled_from(list(model.Outcome))


def on(event: record.Event, target: str) -> record.Event:
    return event.model_copy(update={"target": target})


EVENTS: st.SearchStrategy[record.Event] = st.one_of(
    st.builds(logs.decision, MERGES),
    st.builds(logs.decision, MERGES, verdict=st.just("HOLD")),
    st.builds(logs.clearance, MERGES, OUTCOMES, OUTCOMES),
    st.builds(
        lambda target, code: record.Standing(target=target, code=code), TARGETS, st.sampled_from([None, "stuck"])
    ),
    st.builds(logs.intent, DEPLOYMENTS, TARGETS),
    st.builds(on, st.builds(logs.applied, DEPLOYMENTS), TARGETS),
    st.builds(on, st.builds(logs.outcome, DEPLOYMENTS, st.sampled_from(list(model.Closed))), TARGETS),
    st.builds(
        lambda target, verb: record.Operator(actor="uid:1000", verb=verb, target=target, reason="é – \u2028"),
        TARGETS,
        st.sampled_from(["suspend", "resume", "reconcile"]),
    ),
    st.builds(lambda target: record.Drift(target=target, keys=(model.Key("item/n/one"),), count=1), TARGETS),
    st.builds(lambda name: record.Seen(subject=logs.oid(name)), MERGES),
    st.just(record.Halt(codes=("rewind",))),
)
HISTORIES = st.lists(st.lists(EVENTS, min_size=1, max_size=3), max_size=8)


def write(engine: sa.Engine, history: list[list[record.Event]]) -> log.Log:
    process = logs.make_log(engine)
    for scope in ("watch", "target:t", "target:u"):
        process.lease(scope)
    process.append(logs.genesis("t", "u"), evidence=(logs.PLAN, logs.SNAPSHOT))
    for events in history:
        process.append(*events)
    return process


def copy_prefix(engine: sa.Engine, size: int) -> sa.Engine:
    """The first records and their checkpoints, in a database of their own and under its triggers."""
    prefix = storage.make_engine("sqlite://")
    storage.Store(prefix).open()
    with storage.Store(engine).reading() as old, storage.Store(prefix).writing() as new:
        for table in (schema.lease, schema.evidence, schema.log):
            rows = [r._asdict() for r in old.execute(sa.select(table)) if table is not schema.log or r.seq < size]
            if table is not schema.log:
                new.execute(table.insert(), rows)
        for row in rows:
            new.execute(schema.log.insert(), row)
            note = old.execute(
                sa.select(schema.checkpoint).where(schema.checkpoint.c.size == row["seq"] + 1)
            ).one_or_none()
            if note:
                new.execute(schema.checkpoint.insert(), note._asdict())
    return prefix


@given(HISTORIES)
@settings(max_examples=25, deadline=None)
def test_a_restart_comes_to_the_same_state_with_and_without_the_cache(history: list[list[record.Event]]) -> None:
    engine = storage.make_engine("sqlite://")
    process = write(engine, history)
    known = process.state
    folded = state.State()
    for entry in process.records():
        folded = fold.fold(folded, entry)
    assert folded == known
    assert logs.make_log(engine).state == known, "folded from the first record"
    process.close()
    following = logs.make_log(engine)
    assert following._cached == known.size
    assert following.state == known, "read from the cache"
    assert following.state.model_dump() == known.model_dump()
    following.lease("watch")
    following.append(record.Halt(codes=()))
    assert verification.verify(engine, logs.SIGNER.public, logs.ORIGIN).good
    engine.dispose()


@given(HISTORIES)
@settings(max_examples=10, deadline=None)
def test_every_prefix_that_ends_at_a_commit_verifies_and_no_other(history: list[list[record.Event]]) -> None:
    engine = storage.make_engine("sqlite://")
    whole = write(engine, history).state
    commits = {1}
    for events in history:
        commits.add(max(commits) + len(events))
    entries = list(logs.make_log(engine).records())
    folded = state.State()
    for size in range(1, whole.size + 1):
        folded = fold.fold(folded, entries[size - 1])
        prefix = copy_prefix(engine, size)
        report = verification.verify(prefix, logs.SIGNER.public, logs.ORIGIN)
        if size in commits:
            assert report.good
            assert report.size == size
            assert logs.make_log(prefix).state == folded
        else:
            assert [p.code for p in report.problems] == ["log_foreign_row"]
        prefix.dispose()
    engine.dispose()


@pytest.fixture
def cached(engine: sa.Engine) -> state.State:
    process = logs.write_history(logs.make_log(engine))
    process.close()
    return process.state


def change(engine: sa.Engine, **values: object) -> None:
    with storage.Store(engine).writing() as connection:
        connection.execute(schema.fold.update().values(**values))


def test_the_cache_is_used_when_nothing_speaks_against_it(engine: sa.Engine, cached: state.State) -> None:
    assert logs.make_log(engine)._cached == cached.size


def test_an_edited_cache_is_not_believed(engine: sa.Engine, cached: state.State) -> None:
    released = cached.target("t").model_copy(update={"suspended": "by nobody"})
    forged = cached.model_copy(update={"targets": {**cached.targets, "t": released}})
    change(engine, state=forged.model_dump_json())
    following = logs.make_log(engine)
    assert (following._cached, following.state) == (0, cached)


@pytest.mark.parametrize(
    "edit",
    [{"root": bytes(32)}, {"prev": bytes(32)}, {"size": 9}, {"code": "0" * 64}, {"signature": bytes(64)}],
    ids=str,
)
def test_a_cache_of_another_place_or_other_code_is_not_believed(
    engine: sa.Engine, cached: state.State, edit: dict[str, object]
) -> None:
    change(engine, **edit)
    following = logs.make_log(engine)
    assert (following._cached, following.state) == (0, cached)


def test_a_state_that_other_code_folded_is_folded_again(
    engine: sa.Engine, cached: state.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_fold, "code", lambda: model.sha256(b"the next version"))
    following = logs.make_log(engine)
    assert (following._cached, following.state) == (0, cached)


def test_a_hole_in_the_nodes_costs_the_cache_and_nothing_else(engine: sa.Engine, cached: state.State) -> None:
    with storage.Store(engine).writing() as connection:
        connection.execute(schema.node.delete())
    following = logs.make_log(engine)
    assert (following._cached, following.state) == (0, cached)


def test_the_state_is_kept_from_time_to_time(process: log.Log, engine: sa.Engine) -> None:
    for _ in range(log.CACHE_EVERY // 100 + 1):
        process.append(*([logs.STUCK] * 100))
    following = logs.make_log(engine)
    assert (following._cached, following.state) == (log.CACHE_EVERY, process.state)


def test_ids_and_hashes_are_the_same_in_every_run(engine: sa.Engine) -> None:
    other = storage.make_engine("sqlite://")
    first, second = (logs.write_history(logs.make_log(e)) for e in (engine, other))
    assert list(first.records()) == list(second.records())
    assert first.checkpoint() == second.checkpoint()
    assert len({e.id for e in first.records()}) == first.size
    other.dispose()
