"""A source that cannot be read, or that was rewritten, never looks like a deletion, and what was accepted is still kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import estate, installation

from reconciler.web.application import Verb


@pytest.fixture
def lab(tmp_path: Path) -> installation.Installation:
    """The target web, which a merge has reached."""
    (tmp_path / "roots" / "web").mkdir(parents=True)
    lab = installation.Installation(tmp_path, web(tmp_path, "0\n"))
    lab.change(web(tmp_path, "1\n"))
    lab.converge()
    return lab


def web(folder: Path, content: str) -> dict[str, bytes]:
    return installation.vm("web", folder / "roots" / "web", {"a": content})


def operate(lab: installation.Installation, verb: Verb) -> None:
    app = lab.application()
    app.operate(verb, "web", actor="uid:0", reason="INC1")
    app.close()


def move_away(lab: installation.Installation) -> None:
    lab.git_dir.rename(lab.folder / "away")


def move_back(lab: installation.Installation) -> None:
    (lab.folder / "away").rename(lab.git_dir)


def lose_head(lab: installation.Installation) -> None:
    (lab.git_dir / "HEAD").rename(lab.folder / "HEAD")


def find_head(lab: installation.Installation) -> None:
    (lab.folder / "HEAD").rename(lab.git_dir / "HEAD")


def lose_objects(lab: installation.Installation) -> None:
    """The tip moved, and what it names is not there."""
    lab.change(web(lab.folder, "1\n") | {"targets/web/files/unused": b""})
    shutil.move(lab.git_dir / "objects", lab.folder / "objects")
    (lab.git_dir / "objects").mkdir()


def find_objects(lab: installation.Installation) -> None:
    shutil.rmtree(lab.git_dir / "objects")
    shutil.move(lab.folder / "objects", lab.git_dir / "objects")


Change = Callable[[installation.Installation], None]


@pytest.mark.parametrize(
    ("breaks", "heals"),
    [(move_away, move_back), (lose_head, find_head), (lose_objects, find_objects)],
    ids=["moved_away", "no_repository", "objects_missing"],
)
def test_an_unreadable_source_is_reported_and_costs_nothing_but_news(
    lab: installation.Installation, breaks: Change, heals: Change
) -> None:
    file = lab.roots / "web" / "a"
    breaks(lab)
    file.write_text("by hand")
    end = lab.converge()
    assert end.unreachable is not None
    assert end.unreachable.code == "source_error"
    assert end.state.halted == ()
    assert not end.state.targets["web"].released
    assert file.read_text() == "1\n"

    heals(lab)
    lab.change(web(lab.folder, "2\n"))
    end = lab.converge()
    assert (end.unreachable, file.read_text()) == (None, "2\n")


def test_no_change_begins_on_old_news(lab: installation.Installation) -> None:
    """It was accepted and cleared while the target was suspended; a revert could be waiting in the source."""
    file = lab.roots / "web" / "a"
    operate(lab, "suspend")
    lab.change(web(lab.folder, "2\n"))
    lab.converge()
    move_away(lab)
    operate(lab, "resume")
    standing = lab.converge().state.targets["web"].standing
    assert standing is not None
    assert (standing.code, standing.reasons[0].code, file.read_text()) == ("deferred", "source_error", "1\n")
    move_back(lab)
    assert lab.converge().state.targets["web"].standing is None
    assert file.read_text() == "2\n"


def delete(lab: installation.Installation) -> None:
    lab.git("update-ref", "-d", estate.REF)


def rewind(lab: installation.Installation) -> None:
    lab.git("update-ref", estate.REF, lab.bank.genesis)


def sideways(lab: installation.Installation) -> None:
    sibling = lab.bank.merge(lab.bank.branch(web(lab.folder, "9\n"), on=lab.bank.genesis), base=lab.bank.genesis)
    lab.bank.store.export(lab.git_dir)
    lab.git("update-ref", estate.REF, sibling)


@pytest.mark.parametrize(
    ("breaks", "code"), [(delete, "ref_missing"), (rewind, "rewind"), (sideways, "non_descendant")]
)
def test_a_rewritten_history_halts_and_heals_when_it_is_put_back(
    lab: installation.Installation, breaks: Change, code: str
) -> None:
    file = lab.roots / "web" / "a"
    breaks(lab)
    file.write_text("by hand")
    end = lab.converge()
    assert end.state.halted == (code,)
    assert file.read_text() == "1\n", "the last accepted state is kept, by correction too"

    lab.change(web(lab.folder, "2\n"))
    end = lab.converge()
    assert (end.state.halted, file.read_text()) == ((), "2\n")
