"""The demo's scenes on a cluster: they come true where a control plane is, and where none is one line says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import parts

COMMAND = (sys.executable, "-m", "reconciler", "demo", "--no-color", "--openshift")
WITHIN_S = 280


@pytest.fixture
def place() -> Iterator[Path]:
    """Not pytest's own folder: a socket's path has to be short."""
    with tempfile.TemporaryDirectory(prefix="demo-") as made:
        yield Path(made)


def play(place: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TMPDIR": str(place), **more}
    return subprocess.run(
        COMMAND, env=environment, cwd=place, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


@pytest.mark.timeout(WITHIN_S + 20)
def test_the_story_on_a_cluster_comes_true_and_leaves_nothing_behind(place: Path) -> None:
    parts.need_kube()
    done = play(place)
    assert done.returncode == 0, done.stdout + done.stderr
    ticked = re.findall(r"^ +✓ (\d)\. .+ \(\d+\.\d s\)$", done.stdout, re.MULTILINE)
    assert ticked == ["1", "2", "3"], done.stdout
    assert list(place.iterdir()) == []


def test_where_no_control_plane_is_one_line_says_so(place: Path) -> None:
    programs = place / "bin"
    programs.mkdir()
    for name in ("git", "ssh-keygen"):
        found = subprocess.run(("which", name), capture_output=True, text=True, check=True).stdout.strip()
        (programs / name).symlink_to(found)
    done = play(place, PATH=str(programs), KUBEBUILDER_ASSETS="", XDG_CACHE_HOME=str(place))
    assert done.returncode == 2
    assert "no control plane here: etcd, kube-apiserver not found" in done.stderr
    assert "Traceback" not in done.stderr
