from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.lab import Lab, Process


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.engine.dispose()


@pytest.fixture
def process(lab: Lab) -> Process:
    started = Process(lab)
    started.genesis()
    return started
