"""A real log on a database in memory, signed with a key that is the same in every run."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from reconciler import ports
from reconciler.audit import log, signing, storage

ORIGIN = "reconciler.example/test"
SIGNER = signing.FileSigner.from_seed(b"a key of the audit log in tests.")


class Clock:
    """Every look at it takes a millisecond, so that no two records bear the same time."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        self.passed_s += 0.001
        return datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=round(self.passed_s, 3))

    def monotonic_s(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds


def make_log(
    engine: sa.Engine | None = None, clock: ports.Clock | None = None, *, holder: str = "node", seed: int = 1
) -> log.Log:
    """One life of a process on this database; a second call with the same engine is the next one, or another one."""
    return log.Log(
        engine or storage.make_engine("sqlite://"),
        clock or Clock(),
        holder=holder,
        signer=SIGNER,
        origin=ORIGIN,
        daemon_info={"version": "0", "config_sha256": "0" * 64},
        random=random.Random(seed).randbytes,
    )
