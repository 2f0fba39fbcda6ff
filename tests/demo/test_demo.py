"""The demo as a person starts it: it plays to its end, and leaves nothing behind, also when it is interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli.demo import interrupting

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "reconciler", "demo", "--no-color")
SCENES = 8
WITHIN_S = 400


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the demo makes its folder. Not pytest's own: a socket's path has to be short."""
    with tempfile.TemporaryDirectory(prefix="demo-") as made:
        yield Path(made)


def start(place: Path, *options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        (*COMMAND, *options), env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def left_behind(place: Path) -> list[str]:
    """Files, and processes whose environment names the folder."""
    found = [str(path) for path in place.iterdir()]
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if int(each.name) != os.getpid() and str(place).encode() in (each / "environ").read_bytes():
                found.append((each / "cmdline").read_text().replace("\0", " "))
        except OSError:  # It ended meanwhile, or is somebody else's.
            continue
    return found


@pytest.mark.timeout(WITHIN_S + 60)
def test_the_whole_story_comes_true_and_leaves_nothing_behind(place: Path) -> None:
    with start(place) as demo:
        out, _ = demo.communicate(timeout=WITHIN_S)
    assert demo.returncode == 0, out
    ticked = re.findall(r"^ +✓ (\d)\. .+ \(\d+\.\d s\)$", out, re.MULTILINE)
    assert [int(number) for number in ticked] == list(range(1, SCENES + 1)), out
    assert re.search(r"^  first convergence +\d+\.\d s", out, re.MULTILINE)
    memory = re.search(r"^  the daemon's memory +(\d+) MiB", out, re.MULTILINE)
    assert memory is None or int(memory[1]) < 250
    assert left_behind(place) == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(place: Path, number: signal.Signals) -> None:
    with start(place) as demo:
        assert demo.stdout is not None
        seen = ""
        for line in demo.stdout:
            seen += line
            if re.match(r" +bob\$ reconciler approve", line):  # The daemon runs, and so does a command.
                break
        time.sleep(0.2)
        demo.send_signal(number)
        demo.send_signal(number)  # Impatience does not interrupt the cleaning up.
        rest, _ = demo.communicate(timeout=120)
    assert demo.returncode == 130, seen + rest
    assert "nothing is left behind" in rest
    assert left_behind(place) == []


def test_usage_is_printed_without_preparing_anything() -> None:
    done = subprocess.run([ROOT / "scripts/demo", "--help"], capture_output=True, text=True, check=True, timeout=30)
    assert "scripts/demo --keep" in done.stdout
    assert done.stderr == ""


def test_the_script_parses() -> None:
    done = subprocess.run(
        ["bash", "-n", ROOT / "scripts/demo"], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_example_that_is_not_there_is_named(place: Path) -> None:
    with start(place, "--example", str(place / "nowhere")) as demo:
        out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert "the example repository is not here" in out
    assert left_behind(place) == []


def test_a_signal_while_the_demo_cleans_up_does_not_stop_it() -> None:
    interruptions = interrupting.Interruptions()
    with interruptions.heard():
        with interruptions.ended():
            pass
        signal.raise_signal(signal.SIGINT)  # Unheard, where it raised KeyboardInterrupt before.
    assert interruptions.seen
