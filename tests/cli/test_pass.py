"""What a pass found is what `once` exits with."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import workspace
from support.workspace import Workspace

TARGET = """apiVersion: reconciler/v1
kind: Target
metadata: {name: rules}
spec: {type: memory, environment: dev, connection: {}}
"""
RESOURCES = "resources:\n  - {kind: rule, namespace: cards, name: one, value: VALUE}\n"
MORE = "  - {kind: rule, namespace: cards, name: two, value: 2}\n"


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def rules(value: str) -> dict[str, str]:
    return {"targets/rules/target.yaml": TARGET, "targets/rules/resources.yaml": RESOURCES.replace("VALUE", value)}


def test_a_deployment_that_turns_out_sick_is_eight(bank: Workspace) -> None:
    bank.land("healthy", rules("good"))
    assert bank.there("once").code == 3  # `hello` still waits for its first merge
    bank.land("words", bank.motd("Words."))
    assert bank.there("once").code == 0
    bank.land("sick", rules("bad"))
    assert bank.there("once").code == 8
    failed = [d for d in bank.there("get", "deployments", "-o", "json").items if d["outcome"] == "FAILED"]
    assert [(d["target"], d["rolledBack"]) for d in failed] == [("rules", True)]
    # A command counts its own pass only: what failed stays away, which the standing says.
    assert bank.there("once").code == 5


def test_a_gate_that_says_no_is_three(bank: Workspace) -> None:
    bank.land("words", bank.motd("Words."))
    assert bank.there("once").code == 0
    bank.land("loose", {"targets/hello/vm.yaml": 'files:\n  - {path: etc/motd, content: "x", mode: "9999"}\n'})
    passed = bank.there("once")
    assert passed.code == 3
    assert "schema" in passed.err
    assert (bank.machine / "etc/motd").read_text() == "Words.\n"


def test_a_source_that_is_away_is_six(bank: Workspace) -> None:
    bank.there("once")
    bank.land("words", bank.motd("Words."))
    assert bank.there("once").code == 0
    bank.server.rename(bank.server.with_name("away"))
    passed = bank.there("once")
    assert passed.code == 6
    assert "the source cannot be fetched" in passed.err


def test_a_pin_that_is_not_in_the_source_is_named_with_what_to_do(bank: Workspace) -> None:
    path = bank.daemon / "reconciler.yaml"
    path.write_text(path.read_text().replace(bank.genesis, "1" * 40))
    passed = bank.there("once")
    assert passed.code == 6
    assert f"the commit {'1' * 40} is not in the source" in passed.err
    assert "push it to the watched branch there; if it is the pinned one, see source.genesis too" in passed.err


def test_a_history_that_was_rewritten_is_seven(bank: Workspace) -> None:
    merge = bank.land("words", bank.motd("Words."))
    assert bank.there("once").code == 0
    workspace.git(bank.server, "update-ref", "refs/heads/main", bank.genesis)
    passed = bank.there("once")
    assert passed.code == 7
    assert "rewind: halted: The watched branch is older than the last accepted commit." in passed.err
    assert "; push a descendant of the last accepted commit again" in passed.err
    halted = bank.here("verify", "--after", merge, "--tip", bank.genesis, "-o", "json")
    assert halted.code == 7
    assert [(i["verdict"], i["codes"], i["revision"]) for i in halted.items] == [("HALT", ["rewind"], bank.genesis)]
    workspace.git(bank.server, "update-ref", "refs/heads/main", merge)
    assert bank.there("once").code == 0


def test_a_merge_that_was_taken_back_is_no_finding_of_the_next_pass(bank: Workspace) -> None:
    accepted = bank.land("words", bank.motd("Words."))
    assert bank.there("once").code == 0
    workspace.git(bank.clone, "fetch", "-q")
    bank.branch("bad", bank.motd("Bad words."))
    bad = bank.force("bad")
    first = bank.there("once")
    assert (first.code, bad[:12] in first.err) == (4, True)
    assert bank.there("once").code == 4, "it is still there"
    workspace.git(bank.server, "update-ref", "refs/heads/main", accepted)
    again = bank.there("once")
    assert (again.code, bad[:12] in again.err) == (0, False)
    workspace.git(bank.clone, "fetch", "-q")
    bank.branch("other", bank.motd("Other words."))
    other = bank.force("other")
    third = bank.there("once")
    assert (third.code, other[:12] in third.err, bad[:12] in third.err) == (4, True, False)


def test_a_pass_that_does_not_end_in_time_is_a_deadline(bank: Workspace) -> None:
    assert bank.there("once", "--within", "0s").code == 124
    assert bank.there("once", "--within", "soon").code == 2


def test_a_target_that_is_away_is_six(bank: Workspace) -> None:
    bank.land("words", bank.motd("Words."))
    assert bank.there("once").code == 0
    bank.machine.rename(bank.machine.with_name("away"))
    passed = bank.there("once")
    assert passed.code == 6
    assert "hello: rests; could not be looked at\n  " in passed.err
    looked = bank.there("diff", "hello", "-o", "json")
    assert (looked.code, looked.items[0]["contacted"]) == (6, False)


def test_who_takes_a_target_down_learns_at_once_all_that_it_needs(bank: Workspace) -> None:
    bank.land("two", rules("good") | {"targets/rules/resources.yaml": RESOURCES.replace("VALUE", "1") + MORE})
    bank.there("once")
    absent = TARGET.replace("connection: {}", "connection: {}, mode: absent")
    bank.branch("bare", {"targets/rules/target.yaml": absent})
    for asked in (bank.here("gates", "run", "bare"), _land_and_pass(bank, "bare")):
        assert asked.code == 3
        said = asked.out + asked.err
        assert "acknowledge: [{hazard: deletes_target, key: rules, reason: ...}]" in said
        assert "acknowledge: [{hazard: delete_budget, key: rules, reason: ...}]" in said
    meant = ", ".join(
        f"{{hazard: {hazard}, key: rules, reason: CHG1}}" for hazard in ("deletes_target", "delete_budget")
    )
    bank.branch("meant", {"targets/rules/target.yaml": absent.replace("absent", f"absent, acknowledge: [{meant}]")})
    assert bank.here("gates", "run", "meant").code == 0
    assert _land_and_pass(bank, "meant").code == 3  # `hello` still waits for its first merge
    (row,) = [row for row in bank.there("get", "targets", "-o", "json").items if row["name"] == "rules"]
    assert (row["sync"], row["standing"]) == ("Synced", None)
    assert bank.there("once").code == 3


def _land_and_pass(bank: Workspace, name: str) -> workspace.Answer:
    assert bank.approve(name, "bob").code == 0
    assert bank.merge(name).code == 0
    workspace.git(bank.clone, "fetch", "-q")
    return bank.there("once")


def test_converge_holds_on_a_later_pass_too_and_is_on_record(bank: Workspace) -> None:
    assert bank.there("once").code == 3
    assert not (bank.machine / "etc/motd").exists()
    assert bank.there("once", "--converge").code == 0
    assert (bank.machine / "etc/motd").exists()
    told = bank.there("history", "hello", "-o", "json").document["items"]
    assert "taken over; may be written before a merge touches it" in [row["text"] for row in told]
    (bank.machine / "etc/motd").unlink()
    assert bank.there("once").code == 0  # Said once, it stays said.
    assert (bank.machine / "etc/motd").exists()
