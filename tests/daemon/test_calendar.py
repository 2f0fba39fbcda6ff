"""A freeze defers what is new, and nothing that goes back (trust.md 2.3)."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support import estate, installation

from reconciler.audit import record


def test_a_merge_under_the_rollback_rule_does_not_wait_for_the_freeze(tmp_path: Path) -> None:
    root = tmp_path / "roots/web"
    root.mkdir(parents=True)

    def words(text: str) -> dict[str, bytes]:
        return installation.vm("web", root, {"a": text})

    lab = installation.Installation(tmp_path, words("0\n"))
    for text in ("1\n", "2\n"):
        lab.change(words(text))
        lab.converge()
    assert (root / "a").read_text() == "2\n"

    spec = copy.deepcopy(lab.bank.spec)
    edges = {
        name: f"{datetime.now(UTC) + timedelta(hours=h):%Y-%m-%dT%H:%M:%SZ}" for name, h in (("from", -1), ("to", 1))
    }
    spec["freeze"] = [{"id": "now", "environments": ["dev"], **edges}]
    lab.change({estate.POLICY_PATH: estate.policy_blob(spec)}, approvers=("bob", *estate.ADMINS))
    lab.change(words("3\n"))
    lab.converge()
    assert (root / "a").read_text() == "2\n"
    assert lab.events(record.Standing)[-1].code == "deferred"

    lab.change(words("1\n"), approvers=["bob"])
    lab.converge()
    decision = lab.events(record.Decision)[-1]
    assert (decision.verdict, [rule.id for rule in decision.rules]) == ("ACCEPT", ["rollback"]), decision.reasons
    assert (root / "a").read_text() == "1\n"
