"""Breaking the glass at the command line: for a head, its review, and what is refused before anybody signs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.workspace import Workspace, git

PEOPLE = ("alice", "bob", "carol", "dan", "erin")
POLICY = "policies/approval.yaml"
EMERGENCY = """
  emergency:
    need: [{from: [emergency], count: 1, level: A2}]
    maxDuration: 2h
    maxPerWeek: 2
    requires: [incident]
    review: {within: 24h, need: [{from: [change-board], count: 2, level: A2}]}
"""


@pytest.fixture
def bank(tmp_path: Path) -> Workspace:
    """Five people; the policy says who may break the glass: carol and dan; the others and dan look at it afterwards."""
    made = Workspace(tmp_path, PEOPLE)
    path = made.daemon / "repository" / POLICY
    teams = "teams: {emergency: [carol, dan], change-board: [alice, bob, dan, erin], "
    made.branch("glass", {POLICY: path.read_text().replace("teams: {", teams) + EMERGENCY.removeprefix("\n")})
    for person in ("bob", "dan", "erin"):
        made.approve("glass", person)
    merged = made.merge("glass")
    assert merged.code == 0, merged.out
    assert made.there("once").code == 3, "nothing has touched the target yet"
    git(made.clone, "fetch", "-q", "origin")
    return made


def broken(bank: Workspace, head: str, person: str, *more: str) -> Any:
    given = more or ("--incident", "INC1", "--reason", "payments are down")
    return bank.here("emergency", head, "--key", bank.keys[person], "--yes", "--push", *given)


def review(bank: Workspace, merge: str, person: str, *more: str) -> Any:
    return bank.here("review", merge, "--key", bank.keys[person], "--yes", "--push", *more)


def test_an_emergency_goes_in_is_reviewed_and_both_can_be_asked_about(bank: Workspace) -> None:
    bank.branch("mend", bank.motd("Mended at night."))
    said = broken(bank, "mend", "carol")
    assert (said.code, "verdict      ACCEPT" in said.out, "owes         a review by 2 of change-board" in said.out) == (
        0,
        True,
        True,
    ), said.out + said.err
    row = bank.here("verify", "--head", "mend", "-o", "json").items[0]
    assert (row["verdict"], row["emergency"]["people"], row["emergency"]["incident"]) == ("ACCEPT", ["carol"], "INC1")
    told = bank.here("verify", "--head", "mend")
    assert "emergency: INC1 by carol" in told.out
    assert "is on the daemon's record" in told.err
    (statement,) = bank.here("get", "approvals", "mend", "-o", "json").items
    assert (statement["decision"], statement["counts"]) == ("emergency", True)

    merge = bank.merge("mend", "bob").out.strip()
    assert bank.there("once").code == 0
    assert (bank.machine / "etc/motd").read_text() == "Mended at night.\n"
    (owed,) = bank.there("get", "obligations", "-o", "json").items
    assert (owed["kind"], owed["state"], owed["revision"], owed["people"]) == ("review", "open", merge, ["carol"])
    assert merge[:12] in bank.there("get", "obligations").out

    git(bank.clone, "fetch", "-q", "origin")
    first = review(bank, merge, "bob")
    assert (first.code, "missing      2 of change-board (A2) needed, 1 found" in first.out) == (0, True), first.err
    assert "carol" in first.out
    assert "INC1: payments are down" in first.out
    assert bank.there("once").code == 0
    (owed,) = bank.there("get", "obligations", "-o", "json").items
    assert (owed["reviewers"], [each["code"] for each in owed["missing"]]) == (["bob"], ["threshold"])
    assert f"{merge[:12]} missing: threshold: 2 of change-board" in bank.there("get", "obligations").out
    listed = bank.here("get", "approvals", merge, "-o", "json").document
    assert listed["missing"] == ["2 of change-board (A2) needed, 1 found"]
    assert [(a["person"], a["counts"]) for a in listed["items"] if a["decision"] == "review"] == [("bob", True)]
    second = review(bank, merge, "erin")
    assert (second.code, "complete" in second.out) == (0, True), second.err
    assert bank.there("once").code == 0
    assert bank.there("get", "obligations", "-o", "json").items == []
    (closed,) = bank.there("get", "obligations", "--all", "-o", "json").items
    assert (closed["state"], closed["people"], closed["reviewers"]) == ("closed", ["carol"], ["bob", "erin"])
    assert bank.there("audit", "query", "--type", "obligation").code == 0
    assert bank.there("audit", "verify").code == 0


def test_a_clone_counts_the_emergencies_of_the_week_from_the_statements_that_lie_there(bank: Workspace) -> None:
    for number in (1, 2):
        bank.branch(f"mend-{number}", bank.motd(f"Mended {number} times."))
        said = broken(bank, f"mend-{number}", "carol", "--incident", f"INC{number}", "--reason", "down")
        assert f"spent        {number - 1} of 2 this week, as far as this clone knows" in said.out, said.out
        assert bank.merge(f"mend-{number}", "bob").code == 0
        git(bank.clone, "fetch", "-q", "origin")
    bank.land("usual", bank.motd("As usual."))
    git(bank.clone, "fetch", "-q", "origin")
    bank.branch("mend-3", bank.motd("Once more."))
    third = broken(bank, "mend-3", "dan")
    assert "spent        2 of 2 this week, as far as this clone knows" in third.out
    assert [f"INC{number} by carol" in third.out for number in (1, 2)] == [True, True]
    assert "one more is a HOLD(emergency_scope) until about" in third.out
    assert "the daemon counts by its record" in third.out


def test_reviews_that_strangers_bury_are_told_and_the_way_out_of_the_page_leads_out(bank: Workspace) -> None:
    head = bank.branch("mend", bank.motd("Mended at night."))
    assert broken(bank, "mend", "carol").code == 0
    merge = bank.merge("mend", "bob").out.strip()
    assert bank.there("once").code == 0
    git(bank.clone, "fetch", "-q", "origin")
    assert [review(bank, merge, person).code for person in ("bob", "erin")] == [0, 0]
    prefix = f"refs/approvals/v1/{head[:12]}/"
    git(bank.server, "pack-refs", "--all")
    strangers = "".join(f"{merge} {prefix}{n:064x}\n" for n in range(4097))
    packed = bank.server / "packed-refs"
    honest = packed.read_text()
    lines = [*honest.splitlines(keepends=True)[1:], *strangers.splitlines(keepends=True)]
    packed.write_text(honest.splitlines(keepends=True)[0] + "".join(sorted(lines, key=lambda line: line.split(" ")[1])))

    assert bank.there("once").code == 0
    (owed,) = bank.there("get", "obligations", "-o", "json").items
    assert [each["code"] for each in owed["missing"]] == ["limit"]
    told = bank.there("get", "obligations").out
    assert "more than 4096 approvals" in told
    assert "docs/how-to/sre.md" in told

    packed.write_text(honest)
    page = (Path(__file__).parents[2] / "docs/how-to/sre.md").read_text()
    (command,) = re.findall(r"^    (git --git-dir STATE/mirror\.git for-each-ref .*)$", page, re.MULTILINE)
    told = command.replace("STATE/mirror.git", str(bank.daemon / "state/mirror.git")).replace("HEAD12", head[:12])
    subprocess.run(told, shell=True, check=True)
    assert bank.there("once").code == 0
    assert bank.there("get", "obligations", "-o", "json").items == []


def test_what_could_not_count_is_not_signed(bank: Workspace) -> None:
    bank.branch("mend", bank.motd("Mended at night."), "carol")
    own = broken(bank, "mend", "carol")
    assert (own.code, "may not break the glass for it" in own.err) == (4, True), own.err
    other = broken(bank, "mend", "bob")
    assert (other.code, "bob may not break the glass" in other.err) == (4, True), other.err
    nameless = broken(bank, "mend", "dan", "--reason", "down")
    assert (nameless.code, "--incident" in nameless.err) == (2, True), nameless.err
    long = broken(bank, "mend", "dan", "--incident", "INC1", "--reason", "down", "--for", "3h")
    assert (long.code, "the policy allows 2h" in long.err) == (2, True), long.err
    bank.branch("rules", {"policies/more.rego": "package more\n"}, "alice")
    rules = broken(bank, "rules", "dan")
    assert (rules.code, "change of the policies" in rules.err) == (2, True), rules.err


def test_whoever_broke_the_glass_or_has_a_part_in_it_does_not_review_it(bank: Workspace) -> None:
    bank.branch("mend", bank.motd("Mended at night."), "bob")
    assert broken(bank, "mend", "dan").code == 0
    merge = bank.merge("mend").out.strip()
    git(bank.clone, "fetch", "-q", "origin")
    for person in ("dan", "bob"):
        refused = review(bank, merge, person)
        assert (refused.code, f"{person} broke the glass, or has a part" in refused.err) == (4, True), refused.err
    stranger = review(bank, merge, "carol")
    assert (stranger.code, "carol may not review" in stranger.err) == (4, True), stranger.err
    assert review(bank, merge, "erin").code == 0


def test_a_review_of_what_no_emergency_let_in_is_refused(bank: Workspace) -> None:
    merge = bank.land("words", bank.motd("Words."))
    git(bank.clone, "fetch", "-q", "origin")
    refused = review(bank, merge, "erin")
    assert (refused.code, "no emergency let" in refused.err) == (2, True), refused.err
