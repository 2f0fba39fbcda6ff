from __future__ import annotations

import itertools

import pytest

from reconciler import errors
from reconciler.admission import verdict
from reconciler.audit import record
from reconciler.cli import exit_codes


def test_the_worst_code_wins_in_the_documented_order() -> None:
    order = (70, 7, 8, 4, 3, 6, 5, 1, 0)
    assert order == exit_codes.WORST_FIRST
    for worse, better in itertools.combinations(order, 2):
        assert exit_codes.worst([better, worse, better]) == worse


def test_the_codes_of_a_broken_history_are_those_of_admission() -> None:
    assert exit_codes._HISTORY == verdict.HISTORY


def test_nothing_at_all_is_fine() -> None:
    assert exit_codes.worst([]) == 0


@pytest.mark.parametrize(
    ("verdict", "codes", "code"),
    [
        ("ACCEPT", [], 0),
        ("HALT", ["rewind"], 7),
        ("REJECT", ["unsigned_merge"], 4),
        ("HOLD", ["no_approval"], 4),
        ("HOLD", ["source_error"], 6),
        ("HOLD", ["forge_error"], 6),
        ("HOLD", ["forge_error", "no_approval"], 4),
        ("HOLD", [], 4),
        ("SOMETHING", [], 4),
    ],
)
def test_a_verdict_has_one_code(verdict: str, codes: list[str], code: int) -> None:
    assert exit_codes.of_verdict(verdict, codes) == code


def test_every_standing_has_a_code() -> None:
    found = {name: exit_codes.of_standing(name) for name in record.Code.__args__}  # type: ignore[attr-defined]
    special = {"uncleared": 3, "degraded": 8, "stuck": 8, "detect": 1}
    assert found == {name: special.get(name, 5) for name in found}
    assert exit_codes.of_standing(None) == 0


@pytest.mark.parametrize(
    ("kind", "reason", "code"),
    [
        (errors.ConfigError, "config", 2),
        (errors.TransientError, "source_error", 6),
        (errors.OutcomeUnknownError, "no_answer", 6),
        (errors.AuditError, "log_broken", 7),
        (errors.PermanentError, "rewind", 7),
        (errors.PermanentError, "excluded", 4),
        (errors.PermanentError, "git", 6),
    ],
)
def test_an_error_ends_with_what_the_caller_must_do(kind: type[errors.ReconcilerError], reason: str, code: int) -> None:
    assert exit_codes.of_error(kind(reason, "x")) == code
