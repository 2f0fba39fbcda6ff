"""One OpenBao for all tests of a worker; they keep apart by paths and roles."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import openbao


@pytest.fixture(scope="session")
def bao() -> Iterator[openbao.OpenBao]:
    folder = Path(tempfile.mkdtemp(prefix="bao-"))
    server = openbao.OpenBao(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)
