"""One change the whole way, by commands alone, and what can be asked about it afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support import signing, workspace
from support.workspace import Workspace


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_a_change_goes_from_a_branch_to_the_machine(bank: Workspace) -> None:
    head = bank.branch("words", bank.motd("Approved words."))
    held = bank.here("verify", "--head", "HEAD", "-o", "json")
    assert (held.code, held.items[0]["verdict"], held.items[0]["codes"]) == (4, "HOLD", ["no_approval", "threshold"])
    (missing,) = held.items[0]["open"]
    assert (missing["missing"], "bob" in missing["may"], "alice" in missing["may"]) == (1, True, False)
    told = bank.here("verify", "--head", "HEAD").out
    assert "rule base: needs" in told
    assert f"may: {', '.join(missing['may'])}" in told

    own = bank.approve("words", "alice")
    assert own.code == 4
    assert "alice signed, or is named in" in own.err
    early = bank.merge("words")
    assert early.code == 4

    approved = bank.approve("words", "bob", "--ticket", "CHG1", "--reason", "words")
    assert (approved.code, approved.out.splitlines()[-1]) == (0, "verdict      ACCEPT")
    judged = bank.here("verify", "--head", "words", "-o", "json")
    assert (judged.code, judged.items[0]["verdict"], judged.items[0]["head"]) == (0, "ACCEPT", head)
    merge = bank.merge("words").out.strip()

    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "Approved words.\n"
    row = bank.there("get", "targets", "-o", "json").items[0]
    assert (row["sync"], row["health"], row["confirmedRevision"]) == ("Synced", "Healthy", merge)
    accepted = bank.there("get", "revisions", "-o", "json").items[0]
    assert (accepted["revision"], accepted["ticket"], accepted["gates"]) == (merge, "CHG1", "passed")
    assert [a["person"] for a in accepted["approvals"] if a["counts"]] == ["bob"]
    assert bank.there("get", "deployments", "-o", "json").items[0]["outcome"] == "SUCCEEDED"
    texts = [h["text"] for h in bank.there("history", "hello", "-o", "json").items]
    assert texts[-1] == "SUCCEEDED"
    assert {g["outcome"] for g in bank.there("get", "gates", "-o", "json").items} == {"PASS"}
    traced = bank.there("trace", "hello", "file//etc/motd", "-o", "json").document
    assert traced["merges"][0]["head"] == head
    assert "approved: bob (A2" in bank.there("trace", "hello", "file//etc/motd").out
    field = bank.there("trace", "hello", "file//etc/motd", "--field", "mode", "-o", "json").document
    assert (field["field"], field["value"], field["merges"][0]["head"]) == ("mode", "0644", head)
    refused = bank.there("trace", "hello", "file//etc/motd", "--field", "..mode")
    assert (refused.code, "containers[name=api].image" in refused.err) == (2, True)
    assert "type: genesis" in bank.there("audit", "show", "1").out
    assert bank.there("audit", "verify").code == 0


def test_whoever_merges_fills_no_slot(bank: Workspace) -> None:
    bank.branch("words", bank.motd("Approved words."))
    assert bank.approve("words", "bob").code == 0
    refused = bank.merge("words", "bob")
    assert refused.code == 4
    assert workspace.git(bank.server, "rev-parse", "main") == bank.genesis
    assert bank.merge("words", "alice").code == 0


def test_drift_is_shown_and_the_next_pass_takes_it_back(bank: Workspace) -> None:
    bank.land("words", bank.motd("Approved words."))
    assert bank.there("once").code == 0
    assert bank.there("diff", "hello").code == 0
    (bank.machine / "etc/motd").write_text("by hand\n")
    differing = bank.there("diff", "hello")
    assert differing.code == 1
    assert "-by hand" in differing.out
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "Approved words.\n"


def test_a_merge_that_nobody_approved_is_named_and_goes_nowhere(bank: Workspace) -> None:
    head = bank.branch("bad", bank.motd("Nobody read this."))
    merge = bank.force("bad")
    passed = bank.there("once")
    assert passed.code == 4
    assert f"{merge[:12]} HOLD: no_approval" in passed.err
    assert not (bank.machine / "etc/motd").exists()
    verdict = bank.here("verify", "--after", bank.genesis, "-o", "json")
    assert (verdict.code, [i["revision"] for i in verdict.items], verdict.items[0]["head"]) == (4, [merge], head)


def test_a_rejection_holds_what_was_approved_until_it_is_taken_back(bank: Workspace) -> None:
    bank.branch("words", bank.motd("Approved words."))
    assert bank.approve("words", "bob").code == 0
    rejected = bank.approve("words", "carol", "--reject")
    assert rejected.code == 0
    held = bank.here("verify", "--head", "words", "-o", "json")
    assert "rejected" in held.items[0]["codes"]
    listed = bank.here("get", "approvals", "words", "-o", "json").items
    assert {(a["person"], a["decision"]) for a in listed} == {("bob", "approve"), ("carol", "reject")}
    statement = next(a["statement"] for a in listed if a["person"] == "bob")
    assert bank.approve("words", "bob", "--revoke", statement).code == 0
    codes = bank.here("verify", "--head", "words", "-o", "json").items[0]["codes"]
    assert "approval_revoked" in codes


def test_an_approver_sees_people_difference_rules_and_hidden_characters(bank: Workspace) -> None:
    bank.branch("words", {"README.md": "safe\u202e reversed\n"})
    seen = bank.here("approve", "words", "--key", bank.keys["bob"])
    assert seen.code == 2  # nobody confirmed
    assert "nothing was done" in seen.err
    assert "signed by alice, author Alice <alice@bank.example>" in seen.out
    assert "+safe\\u202e reversed" in seen.out
    assert "rule         base: needs 1 of reviewers (A2); has nobody" in seen.out
    assert "excluded     alice" in seen.out
    assert bank.here("get", "approvals", "words", "-o", "json").items == []


def test_a_strangers_key_signs_nothing(bank: Workspace, tmp_path: Path) -> None:
    bank.branch("words", bank.motd("Approved words."))
    stranger = signing.Key("mallory").write(tmp_path / "mallory")
    refused = bank.here("approve", "words", "--key", stranger, "--yes")
    assert refused.code == 2
    assert "key_unknown" in refused.err


def test_an_envelope_goes_into_a_file_where_one_is_named(bank: Workspace, tmp_path: Path) -> None:
    bank.branch("words", bank.motd("Approved words."))
    made = bank.here("approve", "words", "--key", bank.keys["bob"], "--yes", "-o", tmp_path / "envelope.json")
    assert made.code == 0
    assert yaml.safe_load((tmp_path / "envelope.json").read_text())["payloadType"] == "application/vnd.in-toto+json"
    assert bank.here("verify", "--head", "words").code == 4


def test_an_approver_sees_what_git_merges_where_both_sides_changed_one_file(bank: Workspace) -> None:
    lines = [f"line {n}\n" for n in range(20)]
    bank.land("long", {"README.md": "".join(lines)})
    workspace.git(bank.clone, "fetch", "-q", "origin")
    head = bank.branch("first", {"README.md": "".join(["line zero\n", *lines[1:]])})
    bank.land("last", {"README.md": "".join([*lines[:-1], "line nineteen\n"])})
    workspace.git(bank.clone, "fetch", "-q", "origin")
    seen = bank.here("approve", head, "--key", bank.keys["bob"])
    assert "+line zero" in seen.out
    assert "+line nineteen" not in seen.out
    assert bank.approve("first", "bob").code == 0


def test_a_merge_made_by_hand_needs_an_approver_who_says_so(bank: Workspace) -> None:
    bank.branch("words", bank.motd("Approved words."))
    bank.land("other", {"README.md": "another\n"})
    onto = workspace.git(bank.clone, "rev-parse", "origin/main")
    head = workspace.git(bank.clone, "rev-parse", "words")
    tree = workspace.git(bank.clone, "rev-parse", f"{head}^{{tree}}")  # loses what the other change brought
    signer = bank.signer("carol")
    named = ("-c", f"user.name={signer.name}", "-c", f"user.email={signer.email}", *signer.options)
    evil = workspace.git(bank.clone, *named, "commit-tree", "-S", "-p", onto, "-p", head, "-m", "Merge", tree)
    refused = bank.here("approve", evil, "--key", bank.keys["bob"], "--yes", "--after", onto)
    assert refused.code == 2
    assert "ack_manual_merge" in refused.err
    assert "-another" in refused.out
    taken = bank.here("approve", evil, "--key", bank.keys["bob"], "--yes", "--after", onto, "--ack-manual-merge")
    assert taken.code == 0
    judged = bank.here("verify", "--after", onto, "--tip", evil, "-o", "json")
    assert judged.items[0]["verdict"] == "ACCEPT"


def test_a_merge_that_was_not_pushed_yet_is_judged_in_the_clone(bank: Workspace) -> None:
    assert bank.here("verify", "-o", "json").items == []
    bank.branch("words", bank.motd("Approved words."))
    assert bank.approve("words", "bob").code == 0
    made = bank.here("merge", "words", "--key", bank.keys["carol"]).out.strip()
    judged = bank.here("verify", "-o", "json")
    assert (judged.code, [(i["revision"], i["verdict"]) for i in judged.items]) == (0, [(made, "ACCEPT")])
    assert bank.here("verify", "--after", made, "-o", "json").items == []


def test_a_tree_that_is_refused_is_neither_planned_nor_given_to_gates(bank: Workspace) -> None:
    bank.branch("words", {"targets/hello/new\nline": "x", **bank.motd("Words.")})
    for command in (("plan", "words"), ("gates", "run", "words")):
        for more in ((), ("--config", bank.daemon / "reconciler.yaml")):
            answer = bank.here(*command, *more)
            assert (answer.code, answer.out) == (4, "")
            assert "where: targets/hello/new\\nline" in answer.err
