"""What asking again right before a write costs: what the log holds is read once (trust.md 2.3)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import estate, lab

from reconciler import model
from reconciler.admission import statement
from reconciler.audit import log, record

TARGET = "payments"


@pytest.fixture
def life() -> lab.Process:
    return lab.Process(lab.Lab(bank=estate.Estate(estate.targets())))


@pytest.fixture
def merge(life: lab.Process) -> model.Oid:
    """Accepted, cleared, and not yet written."""
    life.core.judge()
    merged = life.lab.bank.change({f"targets/{TARGET}/resources.yaml": estate.resources(2)})
    life.core.judge()
    life.core.turn(f"clear:{merged}")
    return merged


def said(life: lab.Process, merge: model.Oid, person: str, decision: statement.Decision = "approve") -> None:
    life.lab.bank.approve(merge, person, decision=decision)
    life.core.contact.note_upload()


def codes(life: lab.Process) -> set[str]:
    known = life.log.state.target(TARGET)
    assert known.cleared is not None
    wanted = life.core.read(TARGET, known.cleared).state
    return {reason.code for reason in life.core.braking.brakes(wanted, known).withdrawn}


def test_each_statement_is_judged_and_the_log_is_read_once(
    life: lab.Process, merge: model.Oid, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    records = log.Log.records

    def counted(self: log.Log, *, after: int = -1, before: int | None = None) -> Iterator[record.Record]:
        reads.append(after)
        return records(self, after=after, before=before)

    monkeypatch.setattr(log.Log, "records", counted)
    assert codes(life) == set()
    assert reads
    reads.clear()
    said(life, merge, "heidi")
    assert codes(life) == set()
    said(life, merge, "grace", "reject")
    assert "rejected" in codes(life)
    assert reads == []
