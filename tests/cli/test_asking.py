"""Answers: one document in three forms, errors with a way out, and commands that ask without a daemon."""

from __future__ import annotations

import importlib.metadata
import json
import sqlite3
from pathlib import Path

import pytest
import yaml
from support import workspace
from support.workspace import Workspace

from reconciler.cli import main


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.land("words", made.motd("Approved words."))
    assert made.there("once").code == 0
    return made


def test_json_and_yaml_are_the_same_document_and_stdout_holds_nothing_else(bank: Workspace) -> None:
    for command in (("get", "targets"), ("get", "revisions"), ("history", "hello"), ("audit", "query")):
        as_json, as_yaml = bank.there(*command, "-o", "json"), bank.there(*command, "-o", "yaml")
        assert json.loads(as_json.out) == yaml.safe_load(as_yaml.out)
        assert as_json.document["apiVersion"] == "reconciler/v1"
        assert "as recorded" in as_json.err


def test_what_is_asked_wrongly_says_how_to_ask(tmp_path: Path) -> None:
    unknown = workspace.run("gett", cwd=tmp_path)
    assert (unknown.code, unknown.out) == (2, "")
    assert "Did you mean 'get'?" in unknown.err
    nowhere = workspace.run("get", "targets", cwd=tmp_path, env={"RECONCILER_CONFIG": ""})
    assert nowhere.code == 2
    assert "fix: run `reconciler init --person NAME=KEY.pub DIR`" in nowhere.err
    assert workspace.run("get", "targets", "-o", "xml", cwd=tmp_path).code == 2


def test_a_defect_of_ours_is_seventy_and_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.COMMANDS, "broken", main._Place("nowhere", "A module that is not there."))
    broken = workspace.run("broken", cwd=tmp_path)
    assert (broken.code, broken.out) == (70, "")
    assert "error: internal: ModuleNotFoundError" in broken.err
    assert "Traceback" not in broken.err


def test_the_version_is_said(tmp_path: Path) -> None:
    said = workspace.run("--version", cwd=tmp_path)
    assert (said.code, said.out.strip()) == (0, importlib.metadata.version("reconciler"))


def test_every_command_of_the_table_loads_and_has_help(tmp_path: Path) -> None:
    for name in main.COMMANDS:
        helped = workspace.run(name, "--help", cwd=tmp_path)
        assert helped.code == 0, helped.err
        assert "Usage: reconciler" in helped.out


def test_nothing_is_made_by_asking(tmp_path: Path) -> None:
    bank = Workspace(tmp_path)
    answer = bank.there("get", "status")
    assert answer.code == 2
    assert "nothing was ever recorded here" in answer.err
    assert not (bank.daemon / "state/audit.db").exists()


def test_an_unknown_target_is_named(bank: Workspace) -> None:
    answer = bank.there("history", "hallo")
    assert (answer.code, answer.out) == (2, "")
    assert "code: no_target" in answer.err


def test_the_records_about_a_person_are_found(bank: Workspace) -> None:
    found = bank.there("audit", "query", "--person", "bob", "--type", "decision", "-o", "json")
    assert [entry["event"]["verdict"] for entry in found.items] == ["ACCEPT"]
    limited = bank.there("audit", "query", "--limit", "1", "-o", "json").document
    assert (len(limited["items"]), limited["next"]) == (1, 0)


def test_a_copy_of_the_log_verifies_with_its_public_key_and_name(bank: Workspace, tmp_path: Path) -> None:
    copy = copied(bank, tmp_path)
    told = ("--public-key", bank.daemon / "log_ed25519.pub", "--origin", "reconciler/bank")
    assert bank.there("audit", "verify", "--db", copy, *told).code == 0
    without = bank.there("audit", "verify", "--db", copy)
    assert without.code == 2
    assert "a copy does not say by whom it is signed" in without.err


def test_a_record_that_somebody_altered_is_named(bank: Workspace, tmp_path: Path) -> None:
    copy = copied(bank, tmp_path)
    with sqlite3.connect(copy) as connection:
        (seq,) = connection.execute("SELECT min(seq) FROM log WHERE body LIKE '%bob%'").fetchone()
        connection.execute("DROP TRIGGER log_update")
        connection.execute("UPDATE log SET body = replace(body, 'bob', 'eve') WHERE seq = ?", (seq,))
    connection.close()
    told = ("--public-key", bank.daemon / "log_ed25519.pub", "--origin", "reconciler/bank")
    found = bank.there("audit", "verify", "--db", copy, *told)
    assert found.code == 7
    assert f"BROKEN record {seq}:" in found.out


def copied(bank: Workspace, folder: Path) -> Path:
    copy = folder / "copy.db"
    with sqlite3.connect(bank.daemon / "state/audit.db") as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def test_a_plan_in_a_clone_shows_content_and_differs(bank: Workspace) -> None:
    workspace.git(bank.clone, "fetch", "-q")
    bank.branch("more", bank.motd("More words."))
    shown = bank.here("plan", "more", "-o", "json")
    assert shown.code == 0
    assert [(p["target"], p["contacted"]) for p in shown.items] == [("hello", False)]
    assert '+  - {path: etc/motd, content: "More words.' in shown.items[0]["content"]
    assert bank.here("plan", "more", "--exit-code").code == 1
    assert "```diff" in bank.here("plan", "more", "-o", "markdown").out


def test_with_the_configuration_at_hand_a_plan_comes_from_the_target(bank: Workspace) -> None:
    workspace.git(bank.clone, "fetch", "-q")
    bank.branch("more", bank.motd("More words."))
    workspace.git(bank.clone, "push", "-q", "origin", "more")
    shown = bank.here("plan", "more", "--config", bank.daemon / "reconciler.yaml", "-o", "json")
    assert [(p["contacted"], [s["key"] for s in p["steps"]]) for p in shown.items] == [(True, ["file//etc/motd"])]
    ran = bank.here("gates", "run", "more", "--config", bank.daemon / "reconciler.yaml", "-o", "json")
    assert (ran.code, {g["outcome"] for g in ran.items}) == (0, {"PASS"})


@pytest.mark.parametrize("asked", ["the clone", "the daemon"])
def test_a_plan_of_a_document_that_cannot_be_read_is_no_success(bank: Workspace, asked: str) -> None:
    workspace.git(bank.clone, "fetch", "-q")
    sound = (bank.clone / "targets/hello/target.yaml").read_text()
    bank.branch("bad", {"targets/hello/target.yaml": sound.replace("environment:", "enviroment:")})
    workspace.git(bank.clone, "push", "-q", "origin", "bad")
    told = ("--config", bank.daemon / "reconciler.yaml") if asked == "the daemon" else ()
    planned = bank.here("plan", "HEAD", *told)
    assert planned.code == 3
    assert "spec.enviroment: no field of this name (targets/hello/target.yaml:" in planned.out
    assert "did you mean 'environment'?" in planned.out


def test_a_head_that_was_not_pushed_is_to_be_pushed(bank: Workspace) -> None:
    workspace.git(bank.clone, "fetch", "-q")
    head = bank.branch("more", bank.motd("More words."))
    told = bank.here("plan", "HEAD", "--config", bank.daemon / "reconciler.yaml")
    assert told.code == 0
    assert f"the daemon cannot say: the source has no commit {head}; push the head first" in told.err
    assert "hello: not contacted" in told.out


def test_a_head_that_nobody_signed_is_not_read(bank: Workspace) -> None:
    workspace.git(bank.clone, "switch", "-q", "-c", "unsigned", "origin/main")
    (bank.clone / "targets/hello/vm.yaml").write_text("files: []\n")
    workspace.git(bank.clone, "-c", "user.name=x", "-c", "user.email=alice@bank.example", "commit", "-qam", "x")
    for command in (("plan", "unsigned"), ("gates", "run", "unsigned")):
        refused = bank.here(*command)
        assert (refused.code, refused.out) == (4, "")
        assert "its content is not looked at" in refused.err


def test_the_gates_in_a_clone_say_what_the_daemon_would(bank: Workspace) -> None:
    workspace.git(bank.clone, "fetch", "-q")
    bank.branch("bad", {"targets/hello/vm.yaml": 'files:\n  - {path: /etc/motd, content: "x", mode: "0777"}\n'})
    said = bank.here("gates", "run", "bad", "-o", "json")
    assert said.code == 3
    assert {(g["check"], g["outcome"]) for g in said.items} == {("schema", "FAIL")}
    assert any("targets/hello/vm.yaml" in f["where"] for g in said.items for f in g["findings"])


def test_the_policy_linter_names_the_line(bank: Workspace) -> None:
    path = bank.clone / "policies/approval.yaml"
    assert bank.here("policy", "lint").code == 0
    path.write_text(path.read_text().replace("policy-admins: [alice,", "policy-admins: [zoe,"))
    found = bank.here("policy", "lint", "-o", "json")
    assert found.code == 2
    assert any("zoe" in e["message"] and "approval.yaml:" in e["where"] for e in found.document["errors"])


def test_schemas_and_completion_are_printed(tmp_path: Path) -> None:
    assert "target.vm" in workspace.run("schema", cwd=tmp_path).out.split()
    assert workspace.run("schema", "target", cwd=tmp_path).document["title"] == "Target"
    assert workspace.run("schema", "nothing", cwd=tmp_path).code == 2
    assert "_RECONCILER_COMPLETE" in workspace.run("completion", "bash", cwd=tmp_path).out
    assert workspace.run("completion", "tcsh", cwd=tmp_path).code == 2
