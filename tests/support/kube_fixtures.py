"""The fixtures of support/kube.py. A plugin of every test run: it costs nothing where no test needs a control plane."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from parts import build_kube

from support import kube as planes
from support import parts

FOLDER = "TESTS_KUBE_FOLDER"  # set by the first process of a run, inherited by its workers
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


def _needs(item: pytest.Item) -> bool:
    return not NEEDING.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a plane goes last: the first run of a checkout builds it meanwhile. The order among them stays random."""
    items.sort(key=_needs)


def pytest_collection_finish(session: pytest.Session) -> None:
    """It starts by itself while other tests run."""
    if not session.config.option.collectonly and any(map(_needs, session.items)) and not build_kube.missing():
        _shared(session.config).begin()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A build that is under way is waited for here, before the test's time limit counts."""
    if _needs(item):
        build_kube.wait()
    return (yield)


def _shared(config: pytest.Config) -> planes.ControlPlane:
    return planes.ControlPlane(Path(os.environ[FOLDER]), while_pid=_first_pid(config))


@pytest.fixture(scope="session")
def kube(request: pytest.FixtureRequest) -> planes.ControlPlane:
    parts.need_kube()
    return _shared(request.config).wait()


@pytest.fixture
def kube_namespace(kube: planes.ControlPlane) -> str:
    return kube.make_namespace()


@pytest.fixture
def make_kube(request: pytest.FixtureRequest) -> Iterator[Callable[[], planes.ControlPlane]]:
    """Makes control planes of the test's own."""
    parts.need_kube()
    made: list[planes.ControlPlane] = []

    def make() -> planes.ControlPlane:
        folder = Path(tempfile.mkdtemp(prefix="kube-"))
        made.append(planes.ControlPlane(folder, while_pid=_first_pid(request.config)))
        return made[-1].wait()

    yield make
    for each in made:
        each.stop()
        shutil.rmtree(each.folder, ignore_errors=True)
