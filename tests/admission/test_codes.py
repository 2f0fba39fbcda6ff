"""The table of codes, its page, and the design that names them are one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import estate

from reconciler import model
from reconciler.admission import codes

DOCS = Path(__file__).parents[2] / "docs"


def design() -> dict[str, set[str]]:
    """Verdict -> the codes that trust.md 2.4 lists for it."""
    text = (
        (DOCS / "design/trust.md").read_text().split("### 2.4 Codes", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]
    )
    found: dict[str, set[str]] = {}
    for line in re.findall(r"^- (.+(?:\n  .+)*)", text, re.MULTILINE):
        verdict = line.split(",", 1)[0]
        named = {word for quoted in re.findall(r"`([a-z_ ]+)`", line) for word in quoted.split()}
        found[verdict] = found.get(verdict, set()) | named
    return found


def test_the_table_holds_the_codes_of_the_design_in_their_classes() -> None:
    for verdict, named in design().items():
        assert {code.name for code in codes.TABLE if code.verdict == verdict} == named, verdict
    assert set(design()) == {"HALT", "REJECT", "HOLD"}


def test_the_page_is_made_of_the_table() -> None:
    made = codes.as_markdown()
    command = "python -c 'from reconciler.admission import codes; print(codes.as_markdown(), end=\"\")'"
    assert (DOCS / "reference/verdicts.md").read_text() == made, f"write it again: {command}"


@pytest.mark.parametrize("code", codes.TABLE, ids=lambda code: f"{code.name}-{code.group}")
def test_a_code_says_something_and_what_to_do_next(code: codes.Code) -> None:
    assert code.says.endswith(".")
    assert code.fix
    assert "|" not in code.says + code.fix


def test_only_two_codes_stand_in_two_classes() -> None:
    names = [code.name for code in codes.TABLE]
    assert {name for name in names if names.count(name) > 1} == {"namespace", "limit"}


def test_every_reason_of_a_decision_says_what_to_do_next() -> None:
    bank = estate.Estate(estate.targets())
    octopus = bank.store.make_commit({}, bank.tip, bank.branch({"x": b"1"}), bank.branch({"x": b"2"}))
    for decision in (bank.judge(octopus), bank.judge(bank.change({"policies/approval.yaml": None}))):
        assert decision.verdict is model.Verdict.REJECT
        assert all(reason.fix for reason in decision.reasons)
