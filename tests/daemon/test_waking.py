"""What a record makes due: nothing that has come true may wait for an interval."""

from __future__ import annotations

from support import logs

from reconciler import model
from reconciler.audit import record, state
from reconciler.daemon import core


def test_a_target_that_begins_to_wait_for_another_looks_once_more() -> None:
    """The other may have been confirmed after this one looked, and before its standing was written: nobody else tells it."""
    kept = logs.make_log()
    heard: list[tuple[record.Record, state.State]] = []
    kept.subscribe(lambda entry, after: heard.append((entry, after)))
    kept.lease("target:web")
    kept.append(record.Standing(target="web", code="dependency"))
    entry, after = heard[-1]
    assert core.due(entry, after) == ["target:web"]


def test_a_scanner_that_answers_again_is_asked_for_all_that_waited_for_it() -> None:
    """Each merge backs off by itself, for a quarter of an hour in the end: nobody has to wait for that."""
    kept = logs.make_log()
    heard: list[tuple[record.Record, state.State]] = []
    kept.subscribe(lambda entry, after: heard.append((entry, after)))
    kept.lease("watch")
    kept.append(logs.genesis("t", "u", "v"))
    passes, breaks, no = model.Outcome.PASS, model.Outcome.ERROR, model.Outcome.FAIL
    for name, target, *outcomes in (("m1", "t", passes, breaks), ("m2", "u", passes, breaks), ("m3", "v", no, passes)):
        kept.append(logs.decision(name, targets={target: model.sha256(name.encode())}))
        kept.append(logs.clearance(name, *outcomes))
    kept.append(logs.clearance("m1", no, breaks))
    assert "clear:" + logs.oid("m2") not in core.due(*heard[-1])
    kept.append(logs.clearance("m1"))
    waking = core.due(*heard[-1])
    assert "clear:" + logs.oid("m2") in waking
    assert "clear:" + logs.oid("m3") not in waking
