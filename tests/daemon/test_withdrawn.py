"""What was said after an acceptance and before the write (trust.md 2.3, P8)."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import estate, installation

from reconciler.audit import record


@pytest.fixture
def lab(tmp_path: Path) -> installation.Installation:
    root = tmp_path / "roots" / "web"
    root.mkdir(parents=True)
    return installation.Installation(tmp_path, installation.vm("web", root, {"a": "1\n"}))


def operate(lab: installation.Installation, verb: str) -> None:
    app = lab.application()
    app.operate(verb, "web", actor="uid:0", reason="CHG1")  # type: ignore[arg-type]
    app.close()


def test_a_reject_before_the_write_withdraws_the_target_and_a_new_approval_lets_it_go(
    lab: installation.Installation,
) -> None:
    root = lab.roots / "web"
    lab.converge()
    operate(lab, "suspend")
    merge = lab.change(installation.vm("web", root, {"a": "2\n"}))
    lab.converge()
    assert lab.events(record.Decision)[-1].verdict == "ACCEPT"
    lab.bank.approve(merge, "grace", decision="reject")
    lab.serve()
    operate(lab, "resume")
    lab.converge()
    standing = lab.events(record.Standing)[-1]
    assert (standing.code, {r.code for r in standing.reasons}) >= ("withdrawn", {"rejected"})
    assert not (root / "a").exists()
    lab.bank.approve(merge, *estate.SRE, "heidi", issued_at=estate.NOW)
    lab.serve()
    lab.converge()
    assert not (root / "a").exists(), "a standing reject holds, whoever else approves"
