"""Which results people's word turns into WAIVED: none but a FAIL whose every finding is answered for."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import estate

from reconciler import model
from reconciler.admission import policy, waiving

UNTIL = datetime(2026, 12, 1, tzinfo=UTC)
CHECKS = ("schema", "rollback", "opa: compliance_policy", "trivy: vulnerability_scan")
RULES = ("one", "two", "three")


@functools.cache
def rules(*critical: str, waive: bool = True) -> policy.Policy:
    entry = {"waive": {"need": [estate.need("security", 1)], "maxDuration": "30d"}} if waive else {}
    spec = {**estate.policy_spec(), "gates": {"critical": [*critical], **entry}}
    return policy.parse_policy(estate.policy_blob(spec))


def finding(rule: str, code: str = "policy") -> model.Reason:
    return model.Reason(code=code, message="no", rule=rule)


def granted(*what: tuple[str, str]) -> waiving.Waivers:
    return waiving.Waivers({each: _waived(each[1]) for each in what})


def _waived(rule: str) -> model.Waived:
    return model.Waived(rule=rule, people=("carol",), reasons=("CHG9",), statements=(model.sha256(b""),), until=UNTIL)


def outcome(result: model.GateResult, found: waiving.Waivers, by: policy.Policy | None = None) -> model.Outcome:
    (after,) = waiving.waive((result,), found, by or rules("rollback"))
    assert after.model_copy(update={"outcome": result.outcome, "waived": ()}) == result, "all else stays as it was"
    return after.outcome


FAIL = model.GateResult(outcome=model.Outcome.FAIL, check="opa: compliance_policy", findings=(finding("one"),))


def test_a_fail_whose_findings_are_all_answered_for_is_waived() -> None:
    assert outcome(FAIL, granted(("opa", "one"))) is model.Outcome.WAIVED
    two = FAIL.model_copy(update={"findings": (finding("one"), finding("two"))})
    assert outcome(two, granted(("opa", "one"))) is model.Outcome.FAIL
    assert outcome(two, granted(("opa", "one"), ("opa", "two"))) is model.Outcome.WAIVED


def test_a_warning_needs_nobodys_word() -> None:
    warned = FAIL.model_copy(update={"findings": (finding("one"), finding("two", model.WARNING))})
    assert outcome(warned, granted(("opa", "one"))) is model.Outcome.WAIVED


def test_a_finding_without_a_rule_is_known_by_its_code() -> None:
    coded = FAIL.model_copy(update={"check": "trivy: image", "findings": (finding("", "CVE-2026-1"),)})
    assert outcome(coded, granted(("trivy", "CVE-2026-1"))) is model.Outcome.WAIVED
    assert outcome(coded, granted(("trivy", ""))) is model.Outcome.FAIL


@pytest.mark.parametrize(
    ("fields", "by"),
    [
        ({"outcome": model.Outcome.ERROR}, rules()),
        ({"findings": ()}, rules()),
        ({"findings": (finding("one"), finding(model.NOBODYS))}, rules()),
        ({"check": "schema"}, rules()),
        ({}, rules("opa")),
        ({}, rules(waive=False)),
    ],
)
def test_what_nobody_may_answer_for_blocks_whatever_was_signed(fields: dict[str, object], by: policy.Policy) -> None:
    result = FAIL.model_copy(update=fields)
    everything = granted(*((gate, rule) for gate in ("opa", "schema") for rule in ("one", "two", "", model.NOBODYS)))
    assert outcome(result, everything, by) is result.outcome


results = st.builds(
    model.GateResult,
    outcome=st.sampled_from(model.Outcome),
    check=st.sampled_from(CHECKS),
    findings=st.lists(st.builds(finding, st.sampled_from((*RULES, model.NOBODYS))), max_size=3).map(tuple),
)
words = st.sets(st.tuples(st.sampled_from([check.partition(":")[0] for check in CHECKS]), st.sampled_from(RULES)))
criticals = st.sets(st.sampled_from(("schema", "rollback", "opa"))).map(lambda names: rules(*sorted(names)))


@given(results, words, criticals)
def test_a_word_less_never_lets_more_pass_and_only_a_fail_changes(
    result: model.GateResult, said: set[tuple[str, str]], by: policy.Policy
) -> None:
    after = outcome(result, granted(*said), by)
    assert after is result.outcome or (result.outcome, after) == (model.Outcome.FAIL, model.Outcome.WAIVED)
    for each in said:
        less = outcome(result, granted(*(said - {each})), by)
        assert less is after or (less, after) == (model.Outcome.FAIL, model.Outcome.WAIVED)
    assert outcome(result, granted(), by) is result.outcome
