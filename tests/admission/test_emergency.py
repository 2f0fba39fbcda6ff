"""What a policy may say about emergencies, and who fills which slot when the glass is broken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import estate

from reconciler.admission import lint, policy, slots

Change = Callable[[estate.Spec], object]
HOUR = timedelta(hours=1)
PEOPLE = ("bob", "carol", "dan", "erin", "grace")


def linted(change: Change) -> lint.Findings:
    spec = estate.emergency_spec()
    change(spec)
    return lint.lint(
        estate.policy_blob(spec),
        source_id=estate.REPOSITORY_ID,
        source_ref=estate.REF,
        now=estate.NOW,
        production=True,
    )


def test_a_policy_with_emergencies_lints() -> None:
    found = linted(lambda _: None)
    assert (found.errors, [r for r in found.warnings if "emergency" in r.message]) == ((), [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["emergency"].update(maxDuration="5h"), "maxDuration"),
        (lambda s: s["emergency"].update(requires=["ticket"]), "requires"),
        (lambda s: s["emergency"]["review"].update(within="0s"), "within"),
        (lambda s: s["emergency"].update(need=[estate.need("nobody", 1)]), "there is no team 'nobody'"),
        (lambda s: s["emergency"].update(need=[estate.need("emergency", 2)]), "only 1 could approve"),
        (lambda s: s["emergency"]["review"].update(need=[estate.need("change-board", 3)]), "2 could approve"),
        (lambda s: s["teams"].update({"change-board": ["bob", "dan", "erin"]}), "1 left beside the author"),
        (lambda s: s["rules"].append({**s["rules"][0], "id": "emergency"}), "'emergency' is taken"),
    ],
)
def test_an_emergency_that_could_not_work_is_refused(change: Change, said: str) -> None:
    found = linted(change).errors
    assert any(said in reason.message for reason in found), found


def rules() -> policy.Policy:
    return policy.parse_policy(estate.policy_blob(estate.emergency_spec()))


def test_an_emergency_stands_in_for_windows_and_for_the_freezes_that_allow_it() -> None:
    edges = {"from": "2026-11-24T00:00:00Z", "to": "2026-11-25T00:00:00Z", "environments": ["prod"]}
    never = {"environments": ["prod"], "days": ["sun"], "from": "03:00", "to": "04:00", "zone": "UTC"}
    for allow, still in ((["emergency"], False), ([], True)):
        spec = {**estate.emergency_spec(), "windows": [never], "freeze": [{"id": "f", "allow": allow, **edges}]}
        made = policy.parse_policy(estate.policy_blob(spec))
        assert made.deferred("prod", estate.NOW)
        assert bool(made.deferred("prod", estate.NOW, emergency=True)) == still
        assert not made.deferred("prod", estate.NOW + 24 * HOUR, emergency=True)


@given(st.sets(st.sampled_from(PEOPLE)), st.sets(st.sampled_from(PEOPLE)))
def test_approvals_never_break_the_glass_and_emergencies_never_approve(approving: set[str], breaking: set[str]) -> None:
    made = rules()
    assert made.emergency
    glass = policy.Rule(id="emergency", paths=("/**",), need=made.emergency.need)
    hazard = policy.Rule(id="hazards-0", paths=("/**",), need=made.hazards[0].need)
    asked = slots.ask(made, [slots.Hit(glass, (), glass=True), slots.Hit(hazard, ())], frozenset())
    filled = slots.fill(asked, sorted(approving), sorted(breaking))
    for each, people in zip(filled.asked, filled.people, strict=True):
        assert set(people) <= (breaking if each.glass else approving) & each.members
    seated = [person for people in filled.people for person in people]
    assert len(seated) == len(set(seated)), "nobody sits twice"
    enough = any(b != a for b in breaking & {"bob", "carol"} for a in approving & {"carol", "erin"})
    assert (not filled.missing) == enough


def test_two_needs_of_one_team_do_not_melt_into_one_because_one_is_the_glass() -> None:
    made = rules()
    need = (policy.Slot.model_validate({"from": ["security"], "count": 1}),)
    one, other = (policy.Rule(id=name, paths=("/**",), need=need) for name in ("emergency", "hazards-0"))
    asked = slots.ask(made, [slots.Hit(one, (), glass=True), slots.Hit(other, ())], frozenset())
    assert sorted(each.glass for each in asked) == [False, True]
    assert slots.fill(asked, ["erin"], ["carol"]).missing == ()
    assert {r.code for r in slots.fill(asked, ["carol"], ["carol"]).missing} <= {"emergency_scope", "distinct_persons"}
    assert slots.fill(asked, ["carol"], ["carol"]).missing
