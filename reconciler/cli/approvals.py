"""`get approvals H`: the statements that lie in this clone about one head, and whether each of them counts."""

from __future__ import annotations

from typing import Literal

from reconciler.cli import candidates, clone, exit_codes, options, printing
from reconciler.views import document, revisions


class ApprovalList(document.Document):
    kind: Literal["ApprovalList"] = "ApprovalList"
    items: tuple[revisions.Approval, ...]


def show(head: str, where: clone.Place, output: options.Output) -> int:
    with clone.opened(where) as here:
        found = candidates.find(here, here.resolve(head), landed=True)
    items = tuple(approval for row in revisions.judged([found.judged.decision]).items for approval in row.approvals)
    printing.emit(ApprovalList(items=items).model_dump(mode="json", by_alias=True), output, _table)
    return exit_codes.FINE


def _table(listed: printing.Document) -> None:
    rows = []
    for each in printing.items(listed):
        reason = each.get("reason")
        why = printing.reason(reason) if isinstance(reason, dict) else "-"
        names = ("person", "level", "decision", "counts", "statement")
        rows.append([*(printing.text(each.get(name)) for name in names), why])
    printing.grid(["PERSON", "LEVEL", "DECISION", "COUNTS", "STATEMENT", "WHY NOT"], rows)
