"""Every case of the attack catalogue (trust.md 8): none is accepted, each is refused by name, its honest twin goes in."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support import catalogue

from attacks import emergencies, histories, limits, merges, paths, people, policies, signatures, statements, updates
from reconciler.audit import record
from reconciler.git import repository


def _case(each: pytest.ParameterSet) -> catalogue.Case:
    """What pytest keeps together with a name, by itself again."""
    (case,) = each.values
    assert isinstance(case, catalogue.Case)
    return case


TABLES = (people, signatures, merges, histories, paths, statements, policies, emergencies, updates, limits)
ALL = [each for table in TABLES for each in table.case.cases]
SEEN_BEFORE = [each for each in ALL if _case(each).before_merge]
IN_GIT = [each for each in ALL if _case(each).in_git]


@pytest.mark.parametrize("case", ALL)
def test_it_is_refused_by_name_and_its_twin_goes_in(case: catalogue.Case) -> None:
    case.check(catalogue.Offer.judge)


@pytest.mark.parametrize("case", SEEN_BEFORE)
def test_c82_before_the_merge_the_same_is_said_of_the_head(case: catalogue.Case) -> None:
    case.check(catalogue.Offer.judge_head)


@pytest.mark.parametrize("case", IN_GIT)
def test_c82_a_walk_over_a_real_repository_says_the_same(case: catalogue.Case, tmp_path: Path) -> None:
    """Which is what the hook does, and what the verdict does not depend on."""
    git_dir = tmp_path / "bank.git"
    subprocess.run(["git", "init", "-q", "--bare", git_dir], check=True)

    def judge(offer: catalogue.Offer) -> record.Decision:
        catalogue.publish(offer.bank.store, git_dir)
        with repository.GitRepository(git_dir) as opened:
            return offer.judge(opened)

    case.check(judge)


def test_every_number_of_the_catalogue_has_a_case() -> None:
    """In a table, or as `test_c49_...` in a module beside this one."""
    tables = {_case(each).number for each in ALL}
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    functions = {
        f"C{n}" for names in re.findall(r"def test((?:_c[0-9]+)+)_", text) for n in re.findall("[0-9]+", names)
    }
    assert tables | functions == catalogue.numbers()
