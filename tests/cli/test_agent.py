"""Signing with keys that only an agent holds: `--key FILE.pub`. Hardware keys are made in software here, since no hardware is."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import agents, workspace
from support.workspace import Workspace


def test_a_change_goes_the_whole_way_with_keys_that_only_the_agent_holds(tmp_path: Path) -> None:
    bank = Workspace(tmp_path)
    bank.branch("words", bank.motd("Signed by an agent."))
    public = {name: bank.keys[name].with_name(f"{name}.pub") for name in ("bob", "carol")}
    with agents.agent(tmp_path, bank.keys["bob"], bank.keys["carol"]) as environment:
        approved = bank.here("approve", "words", "--key", public["bob"], "--yes", "--push", env=environment)
        assert approved.code == 0, approved.err
        merged = bank.here("merge", "words", "--key", public["carol"], "--push", env=environment)
        assert merged.code == 0, merged.err
    assert not bank.keys["bob"].exists()
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "Signed by an agent.\n"


@pytest.mark.parametrize("agent", ["none", "another key"])
def test_a_key_that_no_agent_holds_is_told_with_what_to_name(tmp_path: Path, agent: str) -> None:
    bank = Workspace(tmp_path)
    bank.branch("words", bank.motd("Nobody signs this."))
    public = bank.keys["bob"].with_name("bob.pub")
    bank.keys["bob"].unlink()
    held = [bank.keys["carol"]] if agent == "another key" else []
    with agents.agent(tmp_path, *held) as environment:
        reached = environment if agent == "another key" else {"SSH_AUTH_SOCK": ""}
        refused = bank.here("approve", "words", "--key", public, "--yes", env=reached)
        assert (refused.code, "agent" in refused.err) == (2, True)
        merged = bank.here("merge", "words", "--key", public, "--before-approval", env=reached)
        assert merged.code != 0
        assert "Traceback" not in merged.err
    assert "refs/approvals" not in workspace.git(bank.clone, "for-each-ref", "--format=%(refname)")


@pytest.fixture
def token() -> agents.Token:
    return agents.Token("bob")


@pytest.fixture
def hardware(tmp_path: Path, token: agents.Token) -> Workspace:
    """bob's only key is a token."""
    return Workspace(tmp_path, public={"bob": token.write_public(tmp_path / "bob.pub", "bob")})


def test_a_touched_token_approves_and_merges(hardware: Workspace, token: agents.Token, tmp_path: Path) -> None:
    assert b"userPresence: true" in (hardware.daemon / "repository/policies/approval.yaml").read_bytes()
    with agents.token_agent(tmp_path, token) as environment:
        hardware.branch("words", hardware.motd("Touched."))
        approved = hardware.here("approve", "words", "--key", hardware.keys["bob"], "--yes", "--push", env=environment)
        assert approved.code == 0, approved.err
        assert hardware.merge("words").code == 0
        assert hardware.there("once").code == 0

        workspace.git(hardware.clone, "fetch", "-q")
        hardware.branch("more", hardware.motd("Merged by a token."))
        assert hardware.approve("more", "carol").code == 0
        merged = hardware.here("merge", "more", "--key", hardware.keys["bob"], "--push", env=environment)
        assert merged.code == 0, merged.err
    assert hardware.there("once").code == 0
    assert (hardware.machine / "etc/motd").read_text() == "Merged by a token.\n"


def test_a_token_that_nobody_touched_approves_nothing(hardware: Workspace, token: agents.Token, tmp_path: Path) -> None:
    token.touched = False
    hardware.branch("words", hardware.motd("By malware."))
    with agents.token_agent(tmp_path, token) as environment:
        said = hardware.here("approve", "words", "--key", hardware.keys["bob"], "--yes", "--push", env=environment)
    assert "no_user_presence" in said.out
    judged = hardware.here("verify", "--head", "words", "-o", "json")
    assert judged.code == 4
    assert "no_user_presence" in {reason["code"] for item in judged.items for reason in item["reasons"]}
