"""What a record makes due: nothing that has come true may wait for an interval."""

from __future__ import annotations

from support import logs

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
