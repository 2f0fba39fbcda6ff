"""What the committed texts promise: links that lead somewhere, commands that exist, nothing of one machine."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Spelled apart, so that this file does not hold what it looks for.
OF_A_MACHINE = re.compile("|".join(["/ro" + "ot/", "/ho" + r"me/[a-z]", "/wo" + "rk/", r"\.py" + "env"]))
REGISTRIES = re.compile(
    "|".join(["py" + "pi" + r"\.", "pythonho" + "sted", "npm" + "js", "crates" + r"\.io", "maven" + r"\.org"])
)
INFLATED = re.compile(r"\b(sim" + r"pl[ey]|rob" + r"ust|pow" + r"erful|comprehen" + r"sive)\b", re.IGNORECASE)


def _committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name]


def _texts() -> list[tuple[str, str]]:
    paths = [path for path in _committed() if path.is_file() and path.name != "uv.lock"]  # Its format names the index.
    return [(str(path.relative_to(ROOT)), path.read_text(errors="replace")) for path in paths]


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in _anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_pages_say_what_holds_and_do_not_praise(page: Path) -> None:
    assert INFLATED.findall(page.read_text()) == []


def test_the_modules_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`([a-z_]+/(?:[a-z_]+/)*(?:[a-z_]+\.py)?)`", page))
    assert len(named) > 20
    assert [
        name
        for name in sorted(named)
        if not any((ROOT / place / name).exists() for place in ("reconciler", "", "examples/repo"))
    ] == []


def test_the_commands_of_the_readme_exist_and_run_on_their_own() -> None:
    commands = re.findall(r"^    (scripts/\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands == ["scripts/demo", "scripts/test"]
    for command in commands:
        assert os.access(ROOT / command, os.X_OK), command
        assert (ROOT / command).read_text().startswith("#!"), command


def test_no_committed_file_names_a_place_of_one_machine() -> None:
    assert [(name, hit.group()) for name, text in _texts() for hit in OF_A_MACHINE.finditer(text)] == []


def test_no_committed_file_names_a_package_registry() -> None:
    assert [(name, hit.group()) for name, text in _texts() for hit in REGISTRIES.finditer(text)] == []


def test_the_lock_file_names_one_public_index_and_no_local_place() -> None:
    locked = tomllib.loads((ROOT / "uv.lock").read_text())
    sources = [package["source"] for package in locked["package"]]
    assert len({source.get("registry") for source in sources if "registry" in source}) == 1
    assert [source for source in sources if "registry" not in source] == [{"editable": "."}]
    assert "file:" not in (ROOT / "uv.lock").read_text()


def test_the_lock_file_is_as_new_as_the_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = tomllib.loads((ROOT / "uv.lock").read_text())
    (ours,) = [package for package in locked["package"] if package["name"] == "reconciler"]
    groups = ours["metadata"]["requires-dev"]["dev"]
    optional = project["project"]["optional-dependencies"].values()
    asked = [*project["project"]["dependencies"], *(requirement for extra in optional for requirement in extra)]
    assert {_requirement(entry) for entry in ours["metadata"]["requires-dist"]} == {_split(line) for line in asked}
    assert {_requirement(entry) for entry in groups} == {_split(line) for line in project["dependency-groups"]["dev"]}


def _requirement(entry: dict[str, str]) -> tuple[str, frozenset[str]]:
    return entry["name"], frozenset(part for part in entry.get("specifier", "").split(",") if part)


def _split(line: str) -> tuple[str, frozenset[str]]:
    """`apscheduler>=3.11,<4`."""
    name = re.match(r"[\w.-]+", line)
    assert name is not None
    return name.group(), frozenset(part for part in line[name.end() :].split(",") if part)


def test_usage_of_the_test_script_is_printed_without_preparing_anything() -> None:
    done = subprocess.run([ROOT / "scripts/test", "--help"], capture_output=True, text=True, check=True, timeout=30)
    assert "scripts/test --prepare" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("script", ["scripts/test", ".ci/run"])
def test_the_shell_scripts_parse(script: str) -> None:
    done = subprocess.run(["bash", "-n", ROOT / script], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
