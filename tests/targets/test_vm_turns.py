"""The vm driver under the real core: a change deploys, a bad one goes back by itself, drift is corrected, a target is taken down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import targets
from support.lab import Lab, Process

from reconciler.audit import record
from reconciler.targets.vm import driver

READY = {"file": {"path": "/ready", "contains": "yes"}}


class Estate:
    def __init__(self, lab: Lab, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        facilities = targets.facilities(folder / "state", folder)
        self.process = Process(lab)
        self.process.drivers["vm"] = lambda: driver.Vm(facilities)
        self.process.genesis()

    def merge(self, revision: str, files: dict[str, str], **spec: object) -> None:
        folders = [{"path": "conf.d", "mode": "0755"}]
        listed = [{"path": path, "content": text, "mode": "0644"} for path, text in files.items()]
        connection = {"transport": "local", "root": str(self.root)}
        document = {
            "apiVersion": "reconciler/v1",
            "kind": "Target",
            "metadata": {"name": "t"},
            "spec": {"type": "vm", "environment": "prod", "connection": connection, "health": [READY], **spec},
        }
        values = {"target.yaml": document, "vm.yaml": {"directories": folders, "files": listed}}
        self.process.accept(revision, {f"targets/t/{n}": yaml.safe_dump(v).encode() for n, v in values.items()})
        self.process.settle()

    def files(self) -> dict[str, str]:
        found = [(p.relative_to(self.root), p) for p in sorted(self.root.rglob("*")) if p.is_file()]
        return {str(short): p.read_text() for short, p in found if not driver.is_our_own(short)}

    def outcomes(self) -> list[str]:
        return [str(e.closed) for e in self.process.events(record.Outcome)]


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    lab = Lab()
    yield Estate(lab, tmp_path)
    lab.engine.dispose()


GOOD = {"ready": "yes", "conf.d/app": "one"}


def test_a_change_deploys_and_drift_is_corrected(estate: Estate) -> None:
    estate.merge("m1", GOOD)
    assert estate.files() == GOOD
    (estate.root / "conf.d" / "app").write_text("by hand")
    (estate.root / "ready").unlink()
    estate.process.settle()
    assert estate.files() == GOOD
    assert estate.outcomes() == ["SUCCEEDED", "SUCCEEDED"]


def test_a_change_that_fails_its_probe_goes_back_by_itself_at_once(estate: Estate) -> None:
    estate.merge("m1", GOOD)
    at = estate.process.lab.clock.monotonic_s()
    estate.merge("m2", {"ready": "no", "conf.d/app": "two", "conf.d/new": "two"})
    assert estate.files() == GOOD
    assert estate.outcomes() == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    failed = estate.process.events(record.Outcome)[1]
    assert [r.code for r in failed.reasons] == ["probe_failed"]
    assert estate.process.lab.clock.monotonic_s() - at < 90, "nobody waited for the health deadline"


def test_a_first_change_that_fails_leaves_nothing_and_gives_back_what_it_took_over(estate: Estate) -> None:
    (estate.root / "ready").write_text("theirs")
    estate.merge("m1", {"ready": "no", "conf.d/app": "two"}, adopt=["file//ready"])
    assert estate.files() == {"ready": "theirs"}
    assert not (estate.root / "conf.d").exists()


def test_a_file_that_somebody_else_made_blocks_the_target(estate: Estate) -> None:
    (estate.root / "ready").write_text("theirs")
    estate.merge("m1", GOOD)
    standing = estate.process.known().standing
    assert standing
    assert (standing.code, [r.code for r in standing.reasons]) == ("blocked", ["adoption"])
    assert estate.files() == {"ready": "theirs"}


def test_a_target_is_taken_down_by_its_mode(estate: Estate) -> None:
    estate.merge("m1", GOOD)
    hazards = ("deletes_target", "delete_budget")
    acknowledge = [{"hazard": hazard, "key": "t", "reason": "CHG1"} for hazard in hazards]
    estate.merge("m2", GOOD, mode="absent", acknowledge=acknowledge, health=[])
    assert estate.files() == {}
    assert not (estate.root / "conf.d").exists()
