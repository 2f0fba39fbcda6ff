"""Cases beside a policy say what it means; each is held against the same rules, slots and matching that judge a merge."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from support import estate

from reconciler import errors
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
    assert [trying.run(rules(), each) for each in cases] == [(), ()]
