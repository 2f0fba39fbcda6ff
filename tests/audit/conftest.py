from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from support import logs

from reconciler.audit import log, storage


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    made = storage.make_engine("sqlite://")
    yield made
    made.dispose()


@pytest.fixture
def clock() -> logs.Clock:
    return logs.Clock()


@pytest.fixture
def process(engine: sa.Engine, clock: logs.Clock) -> log.Log:
    started = logs.make_log(engine, clock)
    started.lease("watch")
    started.lease("target:t")
    return started
