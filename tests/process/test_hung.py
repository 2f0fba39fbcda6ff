"""Targets that never answer delay nobody: neither the others, nor a merge, nor the end of the process."""

from __future__ import annotations

import sys
from pathlib import Path

from support import installation, running

from reconciler import model
from reconciler.audit import record

PATCHED = (sys.executable, str(Path(__file__).with_name("patched.py")))
TARGETS = tuple(f"{'hung' if number % 3 == 0 else 'well'}-{number}" for number in range(60))
WELL = tuple(name for name in TARGETS if name.startswith("well"))


def test_twenty_hung_targets_of_sixty_delay_neither_the_others_nor_the_end(tmp_path: Path) -> None:
    def files(content: str) -> dict[str, bytes]:
        made = (installation.vm(n, tmp_path / "roots" / n, {"a": content}, interval="5s") for n in TARGETS)
        return {path: blob for each in made for path, blob in each.items()}

    for name in TARGETS:
        (tmp_path / "roots" / name).mkdir(parents=True)
    lab = installation.Installation(tmp_path, files("1\n"))
    with running.Running(lab, (*PATCHED, "hung")) as daemon:
        daemon.until(lambda: len(lab.events(record.Standing)) >= len(WELL))
        lab.change(files("2\n"))
        daemon.until(lambda: all(running.holds(lab.roots / name / "a", "2\n")() for name in WELL), within_s=20)
        daemon.until(lambda: len(lab.events(record.Outcome)) == len(WELL), within_s=10)
        (lab.roots / WELL[-1] / "a").write_text("by hand")
        daemon.until(running.holds(lab.roots / WELL[-1] / "a", "2\n"), within_s=2)
        assert daemon.stop(within_s=20) == 0
    assert {each.target for each in lab.events(record.Outcome) if each.closed is model.Closed.SUCCEEDED} == set(WELL)
    assert {each.target for each in lab.events(record.Intent)} == set(WELL)
    assert lab.verification().problems == ()
