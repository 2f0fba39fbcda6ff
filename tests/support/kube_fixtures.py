"""The fixtures of support/kube.py. A plugin of every test run: it costs nothing where no test needs a control plane."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from parts import build_kube

from support import kube as planes

FOLDER = "RECONCILER_TESTS_KUBE"  # set by the first process of a run, inherited by its workers
NEEDING = {"kube", "make_kube"}


def _is_first(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput")  # pytest-xdist's mark of a worker


def _first_pid(config: pytest.Config) -> int:
    return os.getpid() if _is_first(config) else os.getppid()


def pytest_configure(config: pytest.Config) -> None:
    if _is_first(config):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="kube-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The workers are gone by now."""
    if _is_first(config) and (folder := os.environ.pop(FOLDER, None)):
        planes.ControlPlane(Path(folder)).stop()
        shutil.rmtree(folder, ignore_errors=True)


def _needing(session: pytest.Session) -> set[str]:
    return {name for item in session.items for name in getattr(item, "fixturenames", ()) if name in NEEDING}


def pytest_collection_finish(session: pytest.Session) -> None:
    """A build that is under way is waited for here, where no test's time limit counts; then the plane starts by itself."""
    needed = _needing(session)
    if needed and not session.config.option.collectonly:
        build_kube.wait()
    if "kube" in needed and not session.config.option.collectonly and not build_kube.missing():
        _shared(session.config).begin()


def _shared(config: pytest.Config) -> planes.ControlPlane:
    return planes.ControlPlane(Path(os.environ[FOLDER]), while_pid=_first_pid(config))


def _need() -> None:
    if missing := build_kube.missing():
        pytest.skip(f"{', '.join(missing)} not found: {build_kube.why()}")


@pytest.fixture(scope="session")
def kube(request: pytest.FixtureRequest) -> planes.ControlPlane:
    _need()
    return _shared(request.config).wait()


@pytest.fixture
def kube_namespace(kube: planes.ControlPlane) -> str:
    return kube.make_namespace()


@pytest.fixture
def make_kube(request: pytest.FixtureRequest) -> Iterator[Callable[[], planes.ControlPlane]]:
    """Makes control planes of the test's own."""
    _need()
    made: list[planes.ControlPlane] = []

    def make() -> planes.ControlPlane:
        folder = Path(tempfile.mkdtemp(prefix="kube-"))
        made.append(planes.ControlPlane(folder, while_pid=_first_pid(request.config)))
        return made[-1].wait()

    yield make
    for each in made:
        each.stop()
        shutil.rmtree(each.folder, ignore_errors=True)
