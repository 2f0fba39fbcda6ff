"""`get gates`: what each check said of each merge, newest clearance last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from reconciler import model
from reconciler.audit import record
from reconciler.views import document


class Waived(document.Row):
    """A rule that people answer for; `until`: it counts for what is cleared before."""

    rule: str
    people: tuple[str, ...]
    reasons: tuple[str, ...]
    statements: tuple[model.Digest, ...]  # what `--revoke` takes
    until: model.Time


class Gate(document.Row):
    revision: model.Oid
    check: str
    outcome: model.Outcome
    targets: tuple[str, ...]
    findings: tuple[model.Reason, ...]
    waived: tuple[Waived, ...]
    evidence: model.Digest | None
    duration_ms: int
    at: model.Time | None  # null: run just now, not recorded


class GateList(document.Document):
    kind: Literal["GateList"] = "GateList"
    items: tuple[Gate, ...]


def gates(records: Iterable[record.Record]) -> GateList:
    """The results of the last try of each merge. `records`: those of the type clearance, oldest first."""
    tries: dict[model.Oid, tuple[Gate, ...]] = {}
    for entry in records:
        if isinstance(entry.event, record.Clearance):
            tries.pop(entry.event.revision, None)
            tries[entry.event.revision] = _rows(entry.event, entry.at)
    return GateList(items=tuple(row for rows in tries.values() for row in rows))


def just_run(clearance: record.Clearance) -> GateList:
    return GateList(items=_rows(clearance, None))


def _rows(clearance: record.Clearance, at: model.Time | None) -> tuple[Gate, ...]:
    return tuple(
        Gate(
            revision=clearance.revision,
            check=result.check,
            outcome=result.outcome,
            targets=result.targets,
            findings=result.findings,
            waived=tuple(Waived(**dict(each)) for each in result.waived),
            evidence=result.evidence,
            duration_ms=result.duration_ms,
            at=at,
        )
        for result in clearance.results
    )
