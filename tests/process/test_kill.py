"""kill -9 of the real process, before and after each record and each change of a name: the next one ends the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import installation

RECORDS = ("genesis", "seen", "decision", "clearance", "standing", "drift", "intent", "applied", "outcome")
CALLS = ("fetch", "apply", "confirm")
CHUNKS = 6  # Points are dealt out in turn, so that the chunks can run side by side.


@pytest.mark.timeout(600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_killed_daemon_goes_on_where_it_was_and_writes_nothing_twice(tmp_path: Path, chunk: int) -> None:
    child = Path(__file__).with_name("child.py")
    command = [sys.executable, str(child), str(tmp_path), str(chunk), str(CHUNKS)]
    finished = subprocess.run(command, env=installation.OUR_ENVIRONMENT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    base, *ends = map(json.loads, finished.stdout.splitlines())
    points = [end.pop("at") for end in ends]

    assert set(base.pop("at")) == {f"{side} {what}" for side in ("before", "after") for what in (*RECORDS, *CALLS)} | {
        f"before {name}" for name in ("link", "rename", "unlink")
    }
    assert base["outcomes"] == ["change SUCCEEDED", "drift SUCCEEDED", "change FAILED", "rollback SUCCEEDED"]
    assert base["writes"] == [
        "rename conf.d -",  # The first merge: two stages.
        "link app.conf good 1",
        "link old goes",
        "rename app.conf good 1",  # Drift.
        "rename app.conf bad 2",  # The second merge, which is not healthy.
        "link new comes",
        "unlink old -",
        "rename app.conf good 1",  # The way back.
        "link old goes",
        "unlink new -",
    ]
    assert base["files"] == {"bystander": "nobody's\n", "conf.d/app.conf": "good 1\n", "conf.d/old": "goes\n"}
    assert (base["target"]["standing"]["code"], base["target"]["open"]) == ("failed", None)
    assert (base["merges"], base["problems"], base["unaccounted"]) == (["ACCEPT"] * 2, [], 0)
    assert base["bystander"]
    assert not base["lost"]

    assert len(points) > 10
    for point, end in zip(points, ends, strict=True):
        assert end == base, f"after a kill {point}"
