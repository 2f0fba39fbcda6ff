"""Runs pytest inside pytest: what CI makes of a test that skips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_THE_TEST = "from support import parts\ndef test_a(): parts.need('no-such-command')\n"
AT_IMPORT = "from support import parts\nparts.need('no-such-command')\ndef test_a(): assert True\n"
EXPECTED = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_b(): assert False\n"


def _pytest(folder: Path, *sources: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    for number, source in enumerate(sources):
        (folder / f"test_{number}.py").write_text(source)
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_") and k != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)],
        env={**own, "PYTHONPATH": str(ROOT / "tests"), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_missing_part_skips(tmp_path: Path) -> None:
    done = _pytest(tmp_path, IN_THE_TEST, AT_IMPORT)
    assert done.returncode in {0, 5}, done.stdout
    assert "2 skipped" in done.stdout


def test_in_ci_a_missing_part_fails_and_is_named_but_an_expected_failure_passes(tmp_path: Path) -> None:
    done = _pytest(tmp_path, IN_THE_TEST, EXPECTED, CI="true")
    assert done.returncode == 1, done.stdout
    assert "no-such-command not found" in done.stdout
    assert "1 xfailed, 1 error" in done.stdout or "1 failed, 1 xfailed" in done.stdout


def test_in_ci_a_module_whose_part_is_missing_stops_the_run(tmp_path: Path) -> None:
    done = _pytest(tmp_path, AT_IMPORT, CI="true")
    assert done.returncode == 2, done.stdout
    assert "no-such-command not found" in done.stdout
