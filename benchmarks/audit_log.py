"""How fast the audit log is at 100,000 records: appends, restarts, queries, verification. On a file, each append fsynced.

    python benchmarks/audit_log.py [--records 100000] [--folder DIR]

Prints a table and writes it to benchmarks/results/audit_log.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from reconciler import model
from reconciler.audit import log, query, record, schema, signing, storage, verification

TARGETS = 100
ORIGIN = "reconciler.example/benchmark"
T = TypeVar("T")


class Clock:
    """A second passes at each look, so that the records spread over a day and more."""

    def __init__(self) -> None:
        self.passed_s = 0

    def now(self) -> datetime:
        self.passed_s += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed_s)

    def monotonic_s(self) -> float:
        return float(self.passed_s)

    def sleep(self, seconds: float) -> None:
        self.passed_s += int(seconds)


def changes() -> Iterator[tuple[record.Event, ...]]:
    """What one change leaves in the log: decision, clearance, intent, applied, outcome."""
    before = model.Version(revision=model.Oid("0" * 40), digest=model.sha256(b"0"))
    for number in range(10**9):
        target, revision = f"target-{number % TARGETS}", model.Oid(hashlib.sha1(b"%d" % number).hexdigest())
        wanted = model.Version(revision=revision, digest=model.sha256(b"%d" % number))
        deployment, key = f"d{number}", model.Key("v1/ConfigMap/shop/settings")
        approvals = tuple(
            model.Approval(person=person, level="A2", statement=wanted.digest)
            for person in (f"approver-{number % 7}", f"approver-{number % 11 + 7}")
        )
        commit = record.SignedCommit(oid=revision, signer=f"author-{number % 40}", key_id="SHA256:k", author="a <a@b>")
        yield (
            record.Decision(
                base=before.revision or revision,
                revision=revision,
                verdict=model.Verdict.ACCEPT,
                effect=wanted.digest,
                targets={target: wanted.digest},
                commits=(commit,),
                approvals=approvals,
                rules=(record.RuleResult(id="prod", paths=(f"targets/{target}/settings.yaml",), need=(), got=()),),
            ),
            record.Clearance(
                revision=revision,
                results=(model.GateResult(outcome=model.Outcome.PASS, check="opa: compliance_policy"),),
                passed=True,
            ),
            record.Intent(
                deployment=deployment,
                target=target,
                wanted=wanted,
                cause=model.Cause.CHANGE,
                decisions=(number * 5,),
                clearance=number * 5 + 1,
                plan=model.sha256(deployment.encode()),
                before=before,
                snapshot=model.sha256(deployment.encode()),
                actions={key: "update"},
            ),
            record.Applied(deployment=deployment, target=target, results=(), owned={key: "uid"}),
            record.Outcome(deployment=deployment, target=target, closed=model.Closed.SUCCEEDED),
        )
        before = wanted


def evidence(events: tuple[record.Event, ...]) -> list[bytes]:
    return [event.deployment.encode() for event in events if isinstance(event, record.Intent)]


def measure(run: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    return_value = run()
    return time.perf_counter() - started, return_value


def appends_per_s(process: log.Log, flow: Iterator[tuple[record.Event, ...]], changes_count: int) -> float:
    """One record in each transaction, as the daemon writes them."""
    batches = [next(flow) for _ in range(changes_count)]
    started = time.perf_counter()
    for events in batches:
        for event in events:
            process.append(event, evidence=evidence((event,)))
    return changes_count * 5 / (time.perf_counter() - started)


def fill(process: log.Log, flow: Iterator[tuple[record.Event, ...]], records: int) -> None:
    """To the size that is measured, several changes in each transaction."""
    while process.size < records:
        batch = tuple(event for _ in range(20) for event in next(flow))
        process.append(*batch, evidence=evidence(batch))


def measure_all(folder: Path, records: int) -> list[tuple[str, str]]:
    url = f"sqlite:///{folder / 'audit.db'}"
    signer, clock = signing.FileSigner.from_seed(bytes(32)), Clock()

    def start(engine: sa.Engine) -> log.Log:
        return log.Log(engine, clock, holder="benchmark", signer=signer, origin=ORIGIN)

    engine, flow = storage.make_engine(url), changes()
    process = start(engine)
    for scope in ("watch", *(f"target:target-{n}" for n in range(TARGETS))):
        process.lease(scope, for_s=10**9)
    rows = [("appends a second, log empty", f"{appends_per_s(process, flow, 100):,.0f}")]
    filled_s, _ = measure(lambda: fill(process, flow, records))
    rows += [
        ("records a second, 100 in each append", f"{(process.size - 500) / filled_s:,.0f}"),
        (f"appends a second, at {process.size:,} records", f"{appends_per_s(process, flow, 100):,.0f}"),
        ("raw SQLite on this disk: commits a second", f"{raw_commits_per_s(folder):,.0f}"),
    ]
    size = process.size
    killed_s, known = measure(lambda: start(storage.make_engine(url)).state)
    rows.append(("restart after kill -9", f"{killed_s:.2f} s"))
    process.close()
    closed_s, known_too = measure(lambda: start(storage.make_engine(url)).state)
    rows.append(("restart after a clean end", f"{closed_s:.2f} s"))
    with storage.Store(engine).writing() as connection:
        connection.execute(schema.fold.delete())
    folded_s, folded = measure(lambda: start(storage.make_engine(url)).state)
    rows.append(("start without a cache: all records folded", f"{folded_s:.1f} s"))
    assert known == known_too == folded
    rows += measure_queries(engine)
    verified_s, report = measure(lambda: verification.verify(engine, signer.public, ORIGIN))
    assert report.good, report.problems
    assert (report.size, report.caches) == (size, ())
    rows.append(("verify the whole log", f"{verified_s:.1f} s"))
    rows.append(("size on disk", f"{(folder / 'audit.db').stat().st_size / 1e6:,.0f} MB"))
    return rows


def measure_queries(engine: sa.Engine) -> Iterator[tuple[str, str]]:
    day = datetime(2026, 1, 1, 12, tzinfo=UTC)
    asked: dict[str, Callable[[], list[record.Record]]] = {
        "one deployment": lambda: list(query.query(engine, deployment="d777")),
        "one revision": lambda: list(query.query(engine, revision=hashlib.sha1(b"777").hexdigest())),
        "one target": lambda: list(query.query(engine, target="target-7")),
        "the first 100 of one person": lambda: list(query.query(engine, person="approver-3", limit=100)),
        "one hour": lambda: list(query.query(engine, since=day, until=day + timedelta(hours=1))),
        "accepted merges of one target in an hour": lambda: list(
            query.query(engine, target="target-7", verdict="ACCEPT", since=day, until=day + timedelta(hours=1))
        ),
    }
    for name, run in asked.items():
        took_s, found = measure(run)
        yield f"query: {name} ({len(found):,} records)", f"{took_s * 1000:,.1f} ms"


def raw_commits_per_s(folder: Path) -> float:
    """The same durability without a log on top: what the disk allows."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE raw (body TEXT)")
    started = time.perf_counter()
    for _ in range(500):
        connection.execute("INSERT INTO raw VALUES (?)", ("x" * 1000,))
    took_s = time.perf_counter() - started
    connection.close()
    return 500 / took_s


def describe_machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, load {os.getloadavg()[0]:.1f} at the start; {versions}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--records", type=int, default=100_000)
    arguments.add_argument("--folder", type=Path, help="where the database is made; a temporary folder otherwise")
    options = arguments.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = measure_all(Path(folder), options.records)
    head = [
        f"# Audit log at {options.records:,} records",
        "",
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {machine}. {TARGETS} targets, five records for each change.",
        "Made by `python benchmarks/audit_log.py`.",
        "",
    ]
    table = "\n".join([*head, "| what | measured |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])
    print(table)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "audit_log.md").write_text(table + "\n")


if __name__ == "__main__":
    main()
