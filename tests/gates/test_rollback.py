"""The gate `rollback`: there is a way back, or somebody said that there need not be one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support import gating

from reconciler import errors, model
from reconciler.gates import rollback

NAME = model.Key("app")


def change(*files: Mapping[str, bytes | None]) -> tuple[gating.Estate, model.Change]:
    """From the first of these commits to the last."""
    made = gating.Estate()
    since = made.commit(files[0])
    for each in files[1:]:
        made.commit(each)
    return made, made.change(since=since)


def check(made: gating.Estate, asked: model.Change, *hazards: str) -> model.GateResult:
    acknowledged = {"app": frozenset((hazard, NAME) for hazard in hazards)} if hazards else {}
    gate = rollback.RollbackGate(model.Check(gate="rollback"), made.facilities)
    result = gate.check(asked.model_copy(update={"acknowledged": acknowledged}), 90)
    assert (result.outcome is model.Outcome.PASS) == (not result.findings)
    return result


def told(result: model.GateResult) -> list[str]:
    return [reason.message.partition(":")[0] for reason in result.findings]


def test_a_change_with_a_way_back_passes() -> None:
    assert told(check(*change(gating.target(), {"targets/app/vm.yaml": b"a: 1\n"}))) == []


def test_a_first_deployment_has_nowhere_to_go_back_to_and_passes() -> None:
    made = gating.Estate()
    made.commit(gating.target(mode="absent"))
    assert told(check(made, made.change())) == []


@pytest.mark.parametrize(
    ("hazard", "line", "after"),
    [
        ("deletes_target", 12, gating.target(mode="absent")),
        ("changes_type", 7, gating.target(type="memory")),
        ("changes_connection", 9, gating.target(connection={"transport": "local", "root": "/srv/other"})),
    ],
)
def test_what_cannot_be_undone_needs_an_acknowledgement(hazard: str, line: int, after: dict[str, bytes]) -> None:
    made, asked = change(gating.target(), after)
    asked = asked.model_copy(update={"owned": {"app": 1}})
    result = check(made, asked)
    assert told(result) == [f"{hazard} app"]
    assert result.findings[0].where == f"targets/app/target.yaml:{line}"
    assert f"hazard: {hazard}, key: app" in result.findings[0].fix
    assert told(check(made, asked, "another")) == [f"{hazard} app"]
    assert told(check(made, asked, hazard)) == []


def test_an_acknowledgement_of_another_target_counts_for_nothing() -> None:
    made, asked = change(gating.target(), gating.target(mode="absent"))
    asked = asked.model_copy(update={"owned": {"app": 1}})
    other = {"app": frozenset({("deletes_target", model.Key("db"))})}
    gate = rollback.RollbackGate(model.Check(gate="rollback"), made.facilities)
    assert told(gate.check(asked.model_copy(update={"acknowledged": other}), 90)) == ["deletes_target app"]


@pytest.mark.parametrize(
    ("owned", "deletes", "says"),
    [
        (0, {}, []),
        (1, {}, []),
        (2, {}, ["delete_budget app"]),
        (None, {}, ["delete_budget app"]),
        (2, {"deletes": {"max": 5, "maxPercent": 100}}, ["delete_budget app"]),  # What stood before is smaller.
    ],
)
def test_taking_a_target_down_names_the_delete_budget_before_the_merge(
    owned: int | None, deletes: dict[str, object], says: list[str]
) -> None:
    made, asked = change(gating.target(), gating.target(mode="absent", **deletes))
    asked = asked.model_copy(update={"owned": {} if owned is None else {"app": owned}})
    result = check(made, asked)
    assert told(result) == ["deletes_target app", *says]
    assert [reason.where for reason in result.findings] == ["targets/app/target.yaml:12"] * (1 + len(says))
    assert told(check(made, asked, "deletes_target")) == says
    assert told(check(made, asked, "deletes_target", "delete_budget")) == []


def test_a_budget_that_stood_before_and_holds_all_of_it_needs_no_acknowledgement() -> None:
    budget = {"deletes": {"max": 50, "maxPercent": 100}}
    made, asked = change(gating.target(**budget), gating.target(mode="absent", **budget))
    asked = asked.model_copy(update={"owned": {"app": 50}})
    assert told(check(made, asked)) == ["deletes_target app"]


def test_new_credentials_are_no_new_place() -> None:
    place = {"host": "web1.dev.bank.example"}
    made, asked = change(
        gating.target(connection={**place, "password": "vault:kv/dev/a#p", "knownHosts": ["pin one"]}),
        gating.target(connection={**place, "password": "vault:kv/dev/b#p", "knownHosts": ["pin two"]}),
    )
    assert told(check(made, asked)) == []


def test_a_target_that_comes_back_from_absent_deletes_nothing() -> None:
    assert told(check(*change(gating.target(mode="absent"), gating.target()))) == []


def test_a_confirmed_state_that_no_longer_validates_is_no_way_back() -> None:
    made, asked = change(
        gating.target() | {"targets/app/bad": b"x"}, {"targets/app/bad": None, "targets/app/good": b"x"}
    )
    result = check(made, asked)
    assert told(result) == ["no_way_back app"]
    assert "targets/app/target.yaml:1 bad is refused" in result.findings[0].message
    assert told(check(made, asked, "no_way_back")) == []


def test_a_confirmed_state_that_the_driver_cannot_read_is_no_way_back() -> None:
    made, asked = change(
        gating.target() | {"targets/app/broken": b"x"}, {"targets/app/broken": None, "targets/app/good": b"x"}
    )
    assert told(check(made, asked)) == ["no_way_back app"]


def test_a_confirmed_state_of_an_unknown_type_is_no_way_back() -> None:
    made, asked = change(gating.target(type="mainframe"), gating.target())
    assert told(check(made, asked, "changes_type")) == ["no_way_back app"]


def test_a_confirmed_state_with_options_that_the_driver_dropped_is_no_way_back() -> None:
    made, asked = change(gating.target(host={"gone": 1}), gating.target())
    assert told(check(made, asked)) == ["no_way_back app"]


def test_a_confirmed_state_that_the_policy_no_longer_allows_is_no_way_back() -> None:
    made, asked = change(
        gating.target(connection={"host": "web1.dev.bank.example", "password": "vault:kv/old/a#p"}),
        gating.target(connection={"host": "web1.dev.bank.example", "password": "vault:kv/dev/a#p"}),
    )
    assert told(check(made, asked)) == ["no_way_back app"]


def test_a_confirmed_state_whose_dependency_is_gone_is_no_way_back() -> None:
    gone: dict[str, bytes | None] = {"targets/db/target.yaml": None, **gating.target()}
    made, asked = change(gating.target("db") | gating.target(dependsOn=["db"]), gone)
    assert told(check(made, asked)) == ["no_way_back app"]


def test_an_empty_payload_is_never_a_wish_to_delete() -> None:
    made, asked = change(gating.target() | {"targets/app/a": b"x"}, {"targets/app/a": None})
    result = check(made, asked)
    assert [reason.code for reason in result.findings] == ["emptied"]
    assert told(check(made, asked, "emptied")) == told(result)


def test_a_repository_without_what_was_confirmed_is_an_alarm() -> None:
    made, asked = change(gating.target(), {"targets/app/a": b"x"})
    lost = asked.before["app"].model_copy(update={"digest": model.Digest("0" * 64)})
    with pytest.raises(errors.AuditError):
        check(made, asked.model_copy(update={"before": {"app": lost}}))


def test_options_cannot_loosen_it() -> None:
    with pytest.raises(errors.ConfigError, match="no options"):
        rollback.RollbackGate(model.Check(gate="rollback", profile="lenient"), gating.Estate().facilities)
