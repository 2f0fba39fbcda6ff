"""`formerly`: a target that is renamed keeps its history and what it owns (design.md 6)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support import installation

from reconciler.audit import record


def documents(name: str, root: Path, files: dict[str, str], *, formerly: str = "") -> dict[str, bytes]:
    made = installation.vm(name, root, files)
    path = f"targets/{name}/target.yaml"
    if formerly:
        document = yaml.safe_load(made[path])
        document["metadata"]["formerly"] = formerly
        made[path] = yaml.safe_dump(document).encode()
    return made


def gone(name: str) -> dict[str, None]:
    return dict.fromkeys((f"targets/{name}/target.yaml", f"targets/{name}/vm.yaml"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "roots" / "web"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def lab(tmp_path: Path, root: Path) -> installation.Installation:
    made = installation.Installation(tmp_path, documents("web", root, {"a": "1\n"}))
    made.change(documents("web", root, {"a": "1\n", "b": "1\n", "c": "1\n"}))
    made.converge()
    assert made.outcomes("web") == ["change SUCCEEDED"]
    return made


def test_a_renamed_target_continues_what_it_owned(lab: installation.Installation, root: Path) -> None:
    before = {path.name: path.stat().st_ino for path in root.iterdir() if path.is_file()}
    lab.change({**gone("web"), **documents("portal", root, {"a": "1\n", "b": "1\n"}, formerly="web")})
    state = lab.converge().state
    assert set(state.targets) == {"portal"}
    assert {path.name: path.stat().st_ino for path in root.iterdir() if path.is_file()} == {
        name: inode for name, inode in before.items() if name != "c"
    }, "nothing is written again, and what went from Git goes"
    assert lab.outcomes("portal") == ["change SUCCEEDED"]
    lab.change(documents("portal", root, {"a": "1\n", "b": "2\n"}, formerly="web"))
    assert lab.converge().state.targets["portal"].standing is None
    assert (root / "b").read_text() == "2\n"


def test_a_renamed_target_goes_back_to_a_state_that_it_had_under_its_old_name(
    lab: installation.Installation, root: Path
) -> None:
    sick = documents("portal", root, {"a": "1\n", "b": "sick\n"}, formerly="web")
    document = yaml.safe_load(sick["targets/portal/target.yaml"])
    document["spec"]["health"] = [{"file": {"path": "b", "contains": "never"}}]
    sick["targets/portal/target.yaml"] = yaml.safe_dump(document).encode()
    lab.change({**gone("web"), **sick})
    state = lab.converge().state
    assert lab.outcomes("portal") == ["change FAILED", "rollback SUCCEEDED"]
    assert [(root / name).read_text() for name in "abc"] == ["1\n"] * 3
    assert state.targets["portal"].confirmed is not None
    assert state.targets["portal"].confirmed.folder == "web"


@pytest.mark.parametrize("left", ["the folder stays", "the connection moves"])
def test_a_rename_is_refused_when_it_is_not_only_that(
    lab: installation.Installation, root: Path, tmp_path: Path, left: str
) -> None:
    other = tmp_path / "roots" / "other"
    other.mkdir()
    new = documents("portal", other if left == "the connection moves" else root, {"a": "1\n"}, formerly="web")
    lab.change(new if left == "the folder stays" else {**gone("web"), **new})
    state = lab.converge().state
    assert not lab.events(record.Clearance)[-1].passed
    assert "formerly" in {
        r.code for r in (state.targets["portal"].standing or record.Standing(target="", code=None)).reasons
    }
    assert (root / "c").exists()


def test_two_targets_cannot_continue_the_same_one(lab: installation.Installation, root: Path) -> None:
    portal = documents("portal", root, {"a": "1\n"}, formerly="web")
    lab.change({**gone("web"), **portal, **documents("shop", root, {"b": "1\n"}, formerly="web")})
    lab.converge()
    findings = {f.code for r in lab.events(record.Clearance)[-1].results for f in r.findings}
    assert "formerly" in findings
    assert (root / "c").exists()
