"""What `history` and `trace` answer, as people read it."""

from __future__ import annotations

import json

from reconciler.cli import printing

_text, _short = printing.text, printing.short


def _happened(document: printing.Document) -> None:
    header = ["SEQ", "AT", "NAME", "WHAT", "TEXT", "WHO", "REVISION", "DEPLOYMENT", "WHY"]
    rows = (
        [
            *(_text(h.get(name)) for name in ("seq", "at", "target", "what", "text", "who")),
            _short(h.get("revision")),
            _text(h.get("deployment")),
            printing.reasons(h.get("reasons")),
        ]
        for h in printing.items(document)
    )
    printing.grid(header, rows)


def history(document: printing.Document) -> None:
    _happened(document)
    _names(document)
    if document.get("renamedTo"):
        now, was = _text(document.get("renamedTo")), _text(document.get("target"))
        printing.out(f"{was} is {now} now, and goes on there: reconciler history {now}")


def _names(document: printing.Document) -> None:
    for each in printing.listed(document.get("formerly")):
        until = f"merge {_text(each.get('revision'))}, record {_text(each.get('record'))}"
        printing.out(f"it was {_text(each.get('name'))} until it was renamed: {until}")


def trace(document: printing.Document) -> None:
    deployment = document.get("deployment")
    printing.out(f"{_text(document.get('key'))} on {_text(document.get('target'))}: {_whose(document)}")
    if document.get("similar"):
        printing.out(f"  ours there, with a name like it: {_text(document.get('similar'))}")
    if document.get("field") and (deployment or document.get("declared")):
        value, field = document.get("value"), _text(document.get("field"))
        others = f" (it has {_text(document.get('fields'))})" if document.get("fields") else ""
        found = (
            f"is {json.dumps(value)}, which came with:"
            if value is not None
            else f"is not declared{others}; the resource:"
        )
        printing.out(f"  {field} {found}")
    if isinstance(deployment, dict):
        outcome = _text(deployment.get("outcome") or "open")
        under = _text(deployment.get("target"))
        then = f" of {under}" if under != document.get("target") else ""
        printing.out(
            f"  {_text(document.get('action'))} by deployment {_text(deployment.get('id'))}{then}: {outcome} at {_text(deployment.get('ended'))}"
        )
    for each in printing.listed(document.get("formerly")):
        until = f"merge {_text(each.get('revision'))}, record {_text(each.get('record'))}"
        printing.out(f"  the target was {_text(each.get('name'))} then; renamed by {until}")
    for merge in printing.listed(document.get("merges")):
        printing.out(
            f"  merge {_text(merge.get('revision'))} of {_text(merge.get('head'))}: {_text(merge.get('verdict'))}"
        )
        printing.out(f"    written by {_text(merge.get('authors'))}, merged by {_text(merge.get('mergedBy'))}")
        for approval in printing.listed(merge.get("approvals")):
            counts = "approved" if approval.get("counts") else "does not count"
            printing.out(
                f"    {counts}: {_text(approval.get('person'))} ({_text(approval.get('level'))}, key {_text(approval.get('keyId'))})"
            )
    for gate in printing.listed(document.get("gates")):
        printing.out(f"  gate {_text(gate.get('check'))}: {_text(gate.get('outcome'))}")
    if document.get("records"):
        printing.out(f"  records {_text(document.get('records'))}")


def _whose(document: printing.Document) -> str:
    if document.get("owned"):
        return "ours"
    if document.get("deployment"):
        return "not ours any more; the last that was done to it:"
    if document.get("declared"):
        return "never written by us: it was there already when the state that declares it was confirmed:"
    return (
        "not ours: no deployment ever wrote it, and the confirmed state does not declare it; nothing is recorded of it"
    )
