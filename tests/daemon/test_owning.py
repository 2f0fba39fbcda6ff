"""The lock on a state folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from reconciler import errors
from reconciler.daemon import process


def test_only_the_owner_of_a_state_folder_can_hold_its_lock_and_only_once(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o750)
    (folder / "lock").touch(0o644)
    with process.owning(folder):
        assert stat.S_IMODE((folder / "lock").stat().st_mode) == 0o600
        with pytest.raises(errors.ConfigError) as refused, process.owning(folder):
            pass
    assert refused.value.code == "locked"
