"""Where a target could get stuck: each says why and where, holds up nobody else, and has a way out that is a merge."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import estate, installation

from reconciler import model
from reconciler.audit import record, state

ACKNOWLEDGED = [{"hazard": hazard, "key": "web", "reason": "CHG1"} for hazard in ("deletes_target", "delete_budget")]


class Bank:
    """The vm targets web and other; a merge has reached web."""

    def __init__(self, folder: Path) -> None:
        self.root, self.beside = folder / "roots" / "web", folder / "roots" / "other" / "a"
        self.root.mkdir(parents=True)
        self.beside.parent.mkdir()
        self.file = self.root / "a"
        self.lab = installation.Installation(folder, {**self.web({"a": "0\n"}), **self.other("0\n")})

    def web(self, files: dict[str, str], **spec: object) -> dict[str, bytes]:
        return installation.vm("web", self.root, files, **spec)  # type: ignore[arg-type]

    def other(self, content: str) -> dict[str, bytes]:
        return installation.vm("other", self.beside.parent, {"a": content})

    def after(self, files: dict[str, bytes] | dict[str, None], *approvers: str) -> state.Target:
        """What is known of web when this is merged and everything rests."""
        self.lab.change(files, approvers=approvers or estate.SRE)
        return self.lab.converge().state.targets["web"]

    def standing(self, files: dict[str, bytes] | dict[str, None]) -> tuple[str | None, tuple[model.Reason, ...]]:
        standing = self.after(files).standing
        return (standing.code, standing.reasons) if standing else (None, ())


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    made = Bank(tmp_path)
    assert made.after(made.web({"a": "1\n"})).standing is None
    return made


def test_a_broken_policy_is_rejected_however_many_approve(bank: Bank) -> None:
    broken = bank.lab.policy_spec()
    broken["rules"][0]["need"][0]["from"] = ["nobody"]
    people = ("dan", "frank", "bob", "grace")
    bank.lab.change({estate.POLICY_PATH: estate.policy_blob(broken)}, approvers=people)
    decision = bank.lab.converge().state.held[bank.lab.bank.tip]
    assert decision.verdict is model.Verdict.REJECT
    assert any(
        reason.code == "policy_lint"
        and "nobody" in reason.message
        and reason.where.startswith(estate.POLICY_PATH + ":")
        for reason in decision.reasons
    ), decision.reasons


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"  intervall: 5s\n", "intervall"),
        (b"  interval: soon\n", "interval"),
        (b"  deadlines: {health: -1s}\n", "health"),
        (b"  deploy: {checks: [{opa: [compliance]}]}\n", "checks"),
    ],
)
def test_a_document_of_the_wrong_shape_blocks_its_target_only_and_says_where(
    bank: Bank, line: bytes, says: str
) -> None:
    path = "targets/web/target.yaml"
    good = bank.web({"a": "1\n"})[path]
    standing, reasons = bank.standing({path: good + line})
    assert standing == "uncleared"
    place = f"{path}:{len(good.splitlines()) + 1}"
    assert any(says in reason.message and reason.where == place for reason in reasons), reasons

    bank.lab.change(bank.other("1\n"))
    bank.lab.converge()
    assert (bank.beside.read_text(), bank.file.read_text()) == ("1\n", "1\n")
    assert bank.after({path: good, "targets/web/note": b""}).standing is None, "the next merge mends it"


def test_a_check_that_nobody_implements_blocks_and_runs_once_more_when_it_is_dropped(bank: Bank) -> None:
    good = bank.web({"a": "1\n"})
    standing, reasons = bank.standing(bank.web({"a": "2\n"}, deploy={"checks": [{"magic": "scan"}]}))
    assert standing == "uncleared"
    assert "unknown_check" in {reason.code for reason in reasons}
    bank.after(good | {"targets/web/note": b"1"})
    assert bank.after(good | {"targets/web/note": b"2"}).standing is None
    assert bank.file.read_text() == "1\n"


def test_a_type_that_nobody_drives_blocks_its_target_only(bank: Bank) -> None:
    path = "targets/web/target.yaml"
    good = bank.web({"a": "1\n"})[path]
    standing, reasons = bank.standing({path: good.replace(b"type: vm", b"type: mainframe")})
    assert standing == "uncleared"
    assert any("mainframe" in reason.message and reason.where.startswith(path) for reason in reasons), reasons
    bank.lab.change(bank.other("1\n"))
    bank.lab.converge()
    assert bank.beside.read_text() == "1\n"


def test_a_folder_that_goes_releases_its_target_and_one_that_returns_owns_it_again(bank: Bank) -> None:
    documents = bank.web({"a": "1\n"})
    gone = bank.after(dict.fromkeys(documents))
    assert (gone.released, gone.standing and gone.standing.code) == (True, "released")
    bank.file.write_text("by hand")
    bank.lab.converge()
    assert bank.file.read_text() == "by hand", "nobody's any more"

    back = bank.after(bank.web({"a": "2\n"}))
    assert (back.released, back.standing, bank.file.read_text()) == (False, None, "2\n")


def test_a_target_is_emptied_by_mode_absent_with_its_acknowledgement(bank: Bank) -> None:
    (bank.root / "bystander").write_text("nobody's")
    code, reasons = bank.standing(bank.web({"a": "1\n"}, mode="absent"))
    assert code in {"uncleared", "blocked"}
    assert any("deletes_target" in reason.message or reason.code == "deletes_target" for reason in reasons), reasons
    assert bank.file.exists()

    assert bank.after(bank.web({"a": "1\n"}, mode="absent", acknowledge=ACKNOWLEDGED)).standing is None
    assert not bank.file.exists()
    assert (bank.root / "bystander").read_text() == "nobody's"


def test_what_is_there_already_is_adopted_by_name_only(bank: Bank) -> None:
    there = bank.root / "there"
    there.write_text("the old one's\n")
    there.chmod(0o600)
    code, reasons = bank.standing(bank.web({"a": "1\n", "there": "ours\n"}))
    assert code == "blocked"
    assert [reason.code for reason in reasons] == ["adoption"]
    assert "file//there" in reasons[0].message + reasons[0].where
    assert there.read_text() == "the old one's\n"

    adopting = bank.web({"a": "1\n", "there": "ours\n"}, adopt=["file//there"])
    assert bank.after(adopting).standing is None
    assert there.read_text() == "ours\n"


def test_a_failed_change_gives_back_what_it_adopted(bank: Bank) -> None:
    there = bank.root / "there"
    there.write_text("the old one's\n")
    there.chmod(0o600)
    never = [{"file": {"path": "there", "contains": "never"}}]
    files = bank.web({"a": "2\n", "there": "ours\n", "new": "made\n"}, adopt=["file//there"], health=never)
    failed = bank.after(files)
    assert failed.standing is not None
    assert failed.standing.code == "failed"
    assert bank.lab.outcomes("web") == ["change SUCCEEDED", "change FAILED", "rollback SUCCEEDED"]
    assert (there.read_text(), there.stat().st_mode & 0o777) == ("the old one's\n", 0o600)
    assert (bank.file.read_text(), (bank.root / "new").exists()) == ("1\n", False)
    written = len(bank.lab.events(record.Intent))
    there.write_text("still the old one's\n")
    bank.lab.converge()
    assert there.read_text() == "still the old one's\n", "it is not ours"
    assert len(bank.lab.events(record.Intent)) == written
