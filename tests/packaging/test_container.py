"""What can be known of the container without an engine that builds it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())  # Continued lines as one.
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
FINAL = LINES[max(n for n, line in enumerate(LINES) if line.startswith("FROM ")) :]


def _arguments(lines: list[str], instruction: str) -> list[str]:
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{instruction} ")]


def test_everything_that_is_copied_exists_and_is_sent_to_the_engine() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {s for a in _arguments(LINES, "COPY") if not a.startswith("--from") for s in a.split()[:-1]}
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


def test_the_process_is_not_root_and_says_so_by_number() -> None:
    (user,) = _arguments(FINAL, "USER")
    uid, gid = (int(part) for part in user.split(":"))
    assert uid >= 10000
    assert f"--uid {uid} --gid {gid}" in "\n".join(FINAL)


def test_no_build_tool_reaches_the_final_stage() -> None:
    assert len(_arguments(LINES, "FROM")) == 2
    assert not re.search(r"\b(gcc|build-essential|uv|pip)\b", "\n".join(FINAL))


def test_what_the_targets_and_secrets_of_this_version_need_is_installed() -> None:
    """A driver's own library is an extra; without it every target of that kind fails in the container alone."""
    (extras,) = [a for a in _arguments(LINES, "ENV") if "EXTRAS=" in a]
    syncs = [line for line in _arguments(LINES, "RUN") if line.startswith("uv sync")]
    assert len(syncs) == 2
    assert all("$EXTRAS" in line for line in syncs)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"--extra (\w+)", extras)) == declared.keys() - {
        "network"
    }  # Of which there is no target yet.


def test_the_health_check_runs_without_a_shell_and_asks_livez() -> None:
    (check,) = _arguments(FINAL, "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[0] == "python"
    compile(command[-1], "HEALTHCHECK", "exec")
    assert "/livez" in command[-1]


def test_the_only_place_that_is_written_is_a_volume() -> None:
    (volume,) = _arguments(FINAL, "VOLUME")
    assert f"HOME={volume}" in "\n".join(_arguments(FINAL, "ENV"))
    assert "PYTHONDONTWRITEBYTECODE=1" in "\n".join(_arguments(FINAL, "ENV"))
