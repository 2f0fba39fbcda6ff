"""A finding that people answer for lets a merge out, and nobody's word reaches further than that (trust.md 3.1, `waive`)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Unpack

import pytest
import yaml
from support import estate, installation, signing

from reconciler import model
from reconciler.admission import statement
from reconciler.audit import record

REASON = "until the vendor's next release"
RULE = "compliance_policy.world_writable"
LOOSE = [{"path": "a", "content": "2\n", "mode": "0666"}]
WAIVE = {"need": [estate.need("security", 1)], "maxDuration": "30d"}
GATES = {"critical": ["schema", "rollback"], "waive": WAIVE}


class Lab(installation.Installation):
    """One machine; the second merge lets everybody write a file of it, and the library of policies says no."""

    def __init__(self, folder: Path, gates: object = None) -> None:
        self.root = folder / "roots" / "web"
        self.root.mkdir(parents=True)
        super().__init__(folder, self.files("1\n", "0644"), gates=gates or GATES)
        self.change(self.files("1\n", "0644", checks=True))
        self.converge()
        self.merged = self.change(self.files("2\n", "0666", checks=True))

    def files(self, content: str, mode: str, *, checks: bool = False) -> dict[str, bytes]:
        deploy = {"checks": [{"opa": "compliance_policy"}] if checks else []}
        files = installation.vm("web", self.root, {"a": content}, deploy=deploy)
        payload = yaml.safe_load(files["targets/web/vm.yaml"])
        payload["files"][0]["mode"] = mode
        return {**files, "targets/web/vm.yaml": yaml.safe_dump(payload).encode()}

    def waive(self, *people: str, **fields: Unpack[signing.ClaimFields]) -> tuple[bytes, ...]:
        claim: signing.ClaimFields = {"decision": "waive", "gate": "opa", "rule": RULE, "reason": REASON}
        claim = {**claim, **self.approval_times(), **fields}
        made = self.bank.approve(self.merged, *people, **claim)
        self.serve()
        return made

    @property
    def content(self) -> str:
        return (self.root / "a").read_text()

    def cleared(self) -> record.Clearance:
        return [each for each in self.events(record.Clearance) if each.revision == self.merged][-1]

    def outcome(self) -> model.Outcome:
        (found,) = (r.outcome for r in self.cleared().results if r.gate == "opa")
        return found

    @property
    def later(self) -> datetime:
        return self.at + timedelta(days=7)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_finding_that_somebody_of_security_answers_for_blocks_no_more(lab: Lab) -> None:
    lab.converge()
    assert (lab.content, lab.outcome()) == ("1\n", "FAIL")
    (finding,) = {f.rule for r in lab.cleared().results for f in r.findings}
    assert finding == RULE
    (envelope,) = lab.waive("carol")
    lab.converge()
    assert (lab.content, lab.outcome(), lab.cleared().passed) == ("2\n", "WAIVED", True)
    (waived,) = next(r.waived for r in lab.cleared().results if r.gate == "opa")
    opened = statement.open_envelope(envelope, namespace=signing.NAMESPACE)
    assert isinstance(opened, statement.Statement)
    assert waived.people == ("carol",)
    assert waived.until == lab.later
    assert waived.statements == (opened.digest,)
    assert waived.reasons == (REASON,)
    app = lab.application()
    assert app.core.audit.evidence(model.sha256(envelope)) == envelope
    app.close()


@pytest.mark.parametrize(
    ("person", "fields", "hours"),
    [
        ("grace", {}, None),  # of no team that may
        ("carol", {"rule": "compliance_policy.private_key"}, None),
        ("carol", {"gate": "trivy"}, None),
        ("carol", {"rule": "compliance_policy"}, None),
        ("carol", {}, (-2, -1)),
        ("carol", {}, (0, 31 * 24)),
    ],
)
def test_a_waiver_reaches_no_further_than_it_says(
    lab: Lab, person: str, fields: signing.ClaimFields, hours: tuple[int, int] | None
) -> None:
    issued, ends = (lab.at + timedelta(hours=each) for each in hours or (0, 24))
    times: signing.ClaimFields = {"issued_at": issued, "expires_at": ends}
    claim: signing.ClaimFields = {**times, **fields}
    lab.waive(person, **claim)
    lab.converge()
    assert (lab.content, lab.outcome()) == ("1\n", "FAIL")


def test_authors_and_whoever_merged_answer_for_nothing_of_their_own(tmp_path: Path) -> None:
    everybody = {"need": [estate.need("sre", 1)], "maxDuration": "30d"}
    lab = Lab(tmp_path, gates={**GATES, "waive": everybody})
    lab.waive("alice")
    lab.converge()
    assert lab.outcome() == "FAIL"
    lab.waive("heidi")
    lab.converge()
    assert lab.outcome() == "WAIVED"


def test_two_people_are_two_people(tmp_path: Path) -> None:
    two = {"need": [estate.need("security", 2)], "maxDuration": "30d"}
    lab = Lab(tmp_path, gates={**GATES, "waive": two})
    lab.waive("carol")
    lab.waive("carol", reason="again")
    lab.converge()
    assert lab.outcome() == "FAIL"
    lab.waive("erin")
    lab.converge()
    (waived,) = next(r.waived for r in lab.cleared().results if r.gate == "opa")
    assert waived.people == ("carol", "erin")


def test_a_critical_gate_is_never_waived(tmp_path: Path) -> None:
    lab = Lab(tmp_path, gates={**GATES, "critical": ["schema", "opa"]})
    lab.waive("carol")
    lab.converge()
    assert (lab.content, lab.outcome()) == ("1\n", "FAIL")


def test_a_policy_without_the_entry_waives_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path, gates={"critical": ["schema"]})
    lab.waive("carol")
    lab.converge()
    assert (lab.content, lab.outcome()) == ("1\n", "FAIL")


def test_what_is_waived_for_one_merge_is_not_for_the_next(lab: Lab) -> None:
    lab.waive("carol")
    lab.converge()
    assert lab.content == "2\n"
    lab.merged = lab.change(lab.files("3\n", "0666", checks=True))
    lab.converge()
    assert (lab.content, lab.outcome()) == ("2\n", "FAIL")


def test_a_waiver_that_is_taken_back_before_the_write_withdraws_the_target(lab: Lab) -> None:
    app = lab.application()
    app.operate("suspend", "web", actor="uid:0", reason="CHG1")
    app.close()
    (envelope,) = lab.waive("carol")
    lab.converge()
    assert (lab.outcome(), lab.content) == ("WAIVED", "1\n")
    said = statement.open_envelope(envelope, namespace=signing.NAMESPACE)
    assert isinstance(said, statement.Statement)
    lab.waive("carol", decision="revoke", revokes=said.digest, gate="", rule="", reason="")
    app = lab.application()
    app.operate("resume", "web", actor="uid:0", reason="CHG1")
    app.close()
    lab.converge()
    standing = lab.events(record.Standing)[-1]
    assert (standing.code, [r.code for r in standing.reasons]) == ("withdrawn", ["approval_revoked"])
    assert lab.content == "1\n"


def test_a_file_that_cannot_be_read_hides_findings_and_is_nobodys_to_answer_for(lab: Lab) -> None:
    lab.waive("carol")
    lab.merged = lab.change({**lab.files("2\n", "0644", checks=True), "targets/web/notes.yaml": b"a: 1\na: 2\n"})
    lab.waive("carol", rule="parse")
    lab.waive("carol", rule=model.NOBODYS)
    lab.converge()
    (finding,) = next(r.findings for r in lab.cleared().results if r.gate == "opa")
    assert (finding.code, finding.rule, lab.outcome()) == ("parse", model.NOBODYS, "FAIL")
