"""What an installed package offers: its command, its drivers and gates, and the files that they read."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [(group, name) for group, points in PROJECT["entry-points"].items() for name in points]


@pytest.mark.parametrize(("group", "name"), DECLARED)
def test_an_entry_point_leads_to_a_class(group: str, name: str) -> None:
    points = [point for point in importlib.metadata.entry_points(group=group, name=name) if point.dist]
    ours = [point for point in points if point.dist and point.dist.name == PROJECT["name"]]
    assert len(ours) == 1, "the environment is older than pyproject.toml: run scripts/test --prepare"
    assert isinstance(ours[0].load(), type)


def test_the_command_leads_to_a_function() -> None:
    (point,) = importlib.metadata.entry_points(group="console_scripts", name="reconciler")
    assert point.value == PROJECT["scripts"]["reconciler"]
    assert callable(point.load())


def test_an_installed_package_says_its_version() -> None:
    assert importlib.metadata.version(PROJECT["name"]) == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_nothing_that_the_package_reads_is_kept_out_by_gitignore() -> None:
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    packaged = {path.name for path in (ROOT / "reconciler").rglob("*") if path.name != "__pycache__"}
    assert ignored & packaged == set()
