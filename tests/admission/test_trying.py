"""Cases beside a policy say what it means; each is held against the same rules, slots and matching that judge a merge."""

from __future__ import annotations

import itertools
import re
import textwrap
from pathlib import Path

import pytest
from support import estate

from reconciler import errors, model
from reconciler.admission import facts, policy, trying

LEDGER = "targets/ledger/resources.yaml"
PROD = {"paths": [LEDGER], "environments": ["prod"], "types": ["memory"], "author": "alice"}


def rules() -> policy.Policy:
    return policy.parse_policy(estate.policy_blob())


def case(**fields: object) -> trying.Case:
    return trying.Case.model_validate({"name": "x", "change": PROD, "expect": "accept", **fields})


def holds(**fields: object) -> bool:
    return trying.run(rules(), case(**fields)) == ()


def test_a_case_that_says_what_the_policy_says_holds() -> None:
    assert holds(approvals=["bob", "grace"], rules=["base", "prod"])
    assert holds(approvals=["bob"], expect="hold", codes=["threshold"])
    assert holds(approvals=[], expect="hold", codes=["no_approval"])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"approvals": ["bob"]}, "expected accept, but threshold"),
        ({"approvals": ["bob", "grace"], "expect": "hold"}, "expected hold, but every slot is filled"),
        ({"approvals": ["bob", "grace"], "rules": ["base"]}, "the rules that apply are base, prod"),
        ({"approvals": ["bob"], "expect": "hold", "codes": ["distinct_persons"]}, "not among the reasons"),
        ({"approvals": ["bobby"], "expect": "hold"}, "bobby: nobody of this name"),
    ],
)
def test_a_case_that_says_something_else_is_told_what_the_policy_says(fields: dict[str, object], said: str) -> None:
    found = trying.run(rules(), case(**fields))
    assert any(said in reason.message for reason in found), found


def test_an_author_a_robot_and_a_merging_person_fill_no_slot() -> None:
    assert holds(approvals=["alice", "bob"], expect="hold", codes=["threshold", "self_approval"])
    assert holds(approvals=["forge", "bob"], expect="hold", codes=["threshold"])
    assert holds(change={**PROD, "merger": "bob"}, approvals=["bob", "grace"], expect="hold")
    assert holds(change={**PROD, "merger": "bob"}, approvals=["heidi", "grace"])


def test_what_a_case_does_not_say_counts_as_every_environment_and_type() -> None:
    assert holds(change={"paths": [LEDGER]}, approvals=["bob", "grace"], expect="hold", rules=["base", "net", "prod"])
    assert holds(change={"paths": [LEDGER]}, approvals=["bob", "grace", "carol"])


def test_policies_and_hazards_ask_for_their_own_people() -> None:
    assert holds(change={"paths": ["/policies/x.rego"]}, approvals=["bob", "dan", "frank"], rules=["base", "meta"])
    change = {**PROD, "hazards": ["deletes_data"]}
    assert holds(change=change, approvals=["bob", "grace"], expect="hold")
    assert holds(change=change, approvals=["bob", "grace", "carol"])


def with_glass(**fields: object) -> policy.Policy:
    spec = estate.emergency_spec(**fields)
    spec["gates"] = {**spec["gates"], "waive": {"need": [estate.need("security", 1)], "maxDuration": "30d"}}
    return policy.parse_policy(estate.policy_blob(spec))


def tried(under: policy.Policy, **fields: object) -> list[str]:
    return [reason.message for reason in trying.run(under, case(**fields))]


def test_one_who_may_break_the_glass_stands_in_for_the_usual_rules() -> None:
    rules = with_glass()
    assert tried(rules, emergencies=["carol"], rules=["emergency"]) == []
    assert tried(rules, approvals=["bob", "grace"], emergencies=["carol"], rules=["base", "prod"]) == []
    assert tried(rules, emergencies=["grace"], expect="hold", codes=["emergency_scope", "threshold"]) == []
    assert tried(rules, approvals=["carol"], expect="hold", codes=["no_approval"]) == []
    assert tried(with_glass(need=[estate.need("emergency", 2)]), emergencies=["bob"], expect="hold") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"change": {**PROD, "author": "bob"}, "emergencies": ["bob"], "codes": ["self_approval"]},
        {"change": {**PROD, "merger": "bob"}, "emergencies": ["bob"]},
        {"change": {"paths": ["policies/x.rego"]}, "emergencies": ["bob", "carol"]},
        {"emergencies": ["carol"], "spent": 3},
        {"change": {**PROD, "hazards": ["deletes_data"]}, "emergencies": ["carol"], "codes": ["threshold"]},
    ],
)
def test_the_glass_is_not_broken_beyond_its_scope(fields: dict[str, object]) -> None:
    assert tried(with_glass(), **{"expect": "hold", **fields}) == []


def test_where_a_policy_allows_no_emergency_it_says_so() -> None:
    assert holds(emergencies=["carol"], expect="hold", codes=["emergency_scope"])


@pytest.mark.parametrize(
    ("gate", "by", "expect"),
    [
        ("opa", ["carol"], "granted"),
        ("opa", [], "refused"),
        ("opa", ["bob"], "refused"),
        ("schema", ["carol", "erin"], "refused"),
        ("rollback", ["carol"], "refused"),
    ],
)
def test_a_waiver_is_tried_as_the_gates_would_take_it(gate: str, by: list[str], expect: str) -> None:
    rules, approvals = with_glass(), ["bob", "grace"]
    other = "granted" if expect == "refused" else "refused"
    assert tried(rules, approvals=approvals, waivers=[{"gate": gate, "by": by, "expect": expect}]) == []
    (said,) = tried(rules, approvals=approvals, waivers=[{"gate": gate, "by": by, "expect": other}])
    assert said.startswith(f"expected a waiver of {gate} to be {other}, but ")


def test_an_author_and_a_merging_person_answer_for_no_finding() -> None:
    waivers = [{"gate": "opa", "by": ["carol"], "expect": "refused"}]
    for change in ({**PROD, "author": "carol"}, {**PROD, "merger": "carol"}):
        assert tried(with_glass(), change=change, approvals=["bob", "grace"], waivers=waivers) == []
    assert tried(policy.parse_policy(estate.policy_blob()), approvals=["bob", "grace"], waivers=waivers) == []


def test_a_case_says_of_the_glass_what_a_judge_says() -> None:
    """The same people, once in a case and once before the judge."""
    bank = estate.Estate(estate.targets(), spec=estate.emergency_spec())
    rules = policy.parse_policy(estate.policy_blob(bank.spec))
    for approvals, breakers in itertools.product(([], ["grace"], ["grace", "heidi"]), ([], ["bob"], ["grace"])):
        merge = bank.merge(bank.branch({LEDGER: estate.resources(2)}))
        bank.approve(merge, *approvals)
        bank.approve(merge, *breakers, **estate.breaking())
        accepted = bank.judge(merge).verdict is model.Verdict.ACCEPT
        expect = "accept" if accepted else "hold"
        assert tried(rules, approvals=approvals, emergencies=breakers, expect=expect) == [], (approvals, breakers)


def test_who_may_fill_a_slot() -> None:
    concern = facts.Concern(frozenset({"prod"}), frozenset({"memory"}), frozenset())
    asked = trying.ask(rules(), (LEDGER.encode(),), {b"targets/ledger": concern})
    assert asked.rules == ("base", "prod")
    assert str(asked.slots[0].slot) == "2 of sre (A2)"
    assert trying.able(rules(), asked.slots[0], "alice") == ("bob", "grace", "heidi")


@pytest.mark.parametrize(
    "text",
    [
        "kind: Nothing\n",
        "apiVersion: reconciler/v1\nkind: ApprovalPolicyTest\ncases: []\n",
        "apiVersion: reconciler/v1\nkind: ApprovalPolicyTest\ncases: [{name: x, expect: perhaps, change: {}}]\n",
        "apiVersion: reconciler/v1\nkind: ApprovalPolicyTest\ncases: [{name: x, expect: hold, change: {path: a}}]\n",
    ],
)
def test_a_file_of_cases_that_cannot_be_read_says_where(text: str) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        trying.read_cases(text.encode())
    assert refused.value.code == "policy_test"
    assert refused.value.where.startswith(trying.TEST_PATH)


def test_a_misspelt_field_of_a_case_is_told_the_near_name() -> None:
    text = (
        "apiVersion: reconciler/v1\nkind: ApprovalPolicyTest\ncases: [{name: x, expect: hold, change: {path: [a]}}]\n"
    )
    with pytest.raises(errors.ConfigError) as refused:
        trying.read_cases(text.encode())
    assert refused.value.fix == "did you mean 'paths'?"


def test_the_cases_of_the_page_are_read_and_hold() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text()
    (example,) = (text for text in re.findall(r"(?:^    .*\n)+", page, re.MULTILINE) if "ApprovalPolicyTest" in text)
    cases = trying.read_cases(textwrap.dedent(example).encode())
    assert [trying.run(with_glass(), each) for each in cases] == [()] * 3
