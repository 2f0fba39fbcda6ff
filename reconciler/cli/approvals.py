"""`get approvals H`: the statements that lie in this clone about one head, and whether each of them counts."""

from __future__ import annotations

from typing import Literal

from reconciler.cli import candidates, clone, exit_codes, options, printing
from reconciler.views import document, revisions


class ApprovalList(document.Document):
    kind: Literal["ApprovalList"] = "ApprovalList"
    items: tuple[revisions.Approval, ...]
    missing: tuple[str, ...] = ()  # slots that nobody fills yet; of an emergency that went in: of its review


def show(head: str, where: clone.Place, output: options.Output) -> int:
    with clone.opened(where) as here:
        found = candidates.find(here, here.resolve(head), landed=True)
        items = tuple(approval for row in revisions.judged([found.judged.decision]).items for approval in row.approvals)
        missing = tuple(f"{slot.missing} of {slot.slot}" for slot in found.judged.open)
        if found.merged and here.repository.brought_in(found.commit, here.base) == () and _is_emergency(items):
            items, missing = _reviewed(here, found, items)
    printing.emit(ApprovalList(items=items, missing=missing).model_dump(mode="json", by_alias=True), output, _table)
    return exit_codes.FINE


def _is_emergency(items: tuple[revisions.Approval, ...]) -> bool:
    return any(each.decision == "emergency" and each.person for each in items)


def _reviewed(
    here: clone.Clone, found: candidates.Candidate, items: tuple[revisions.Approval, ...]
) -> tuple[tuple[revisions.Approval, ...], tuple[str, ...]]:
    """The same rows, each review as it counts for what the emergency owes; and what that still lacks."""
    from reconciler.cli import reviews

    done = reviews.reviewed(here, reviews.owed_for(here, found))
    rows = tuple(
        each.model_copy(update={"counts": each.statement in done.statements, "reason": done.faults.get(each.statement)})
        if each.decision == "review"
        else each
        for each in items
    )
    return rows, tuple(reason.message for reason in done.missing)


def _table(listed: printing.Document) -> None:
    rows = []
    for each in printing.items(listed):
        reason = each.get("reason")
        why = printing.reason(reason) if isinstance(reason, dict) else "-"
        names = ("person", "level", "decision", "counts", "statement")
        rows.append([*(printing.text(each.get(name)) for name in names), why])
    printing.grid(["PERSON", "LEVEL", "DECISION", "COUNTS", "STATEMENT", "WHY NOT"], rows)
    missing = listed.get("missing")
    for slot in missing if isinstance(missing, list) else ():
        printing.out(f"missing: {slot}")
