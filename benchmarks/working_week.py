"""A working week of a bank on the real core: which approvals went stale and why, how long each target waited and for what.

    PYTHONPATH=tests python benchmarks/working_week.py [--seed 1] [--requests 250] [--story]

200 people, 60 targets, 50 requests a day for five days, over one virtual clock: two keys change, a rule is tightened, somebody
pushes directly, a scanner is down for a day, production is frozen on Friday evening. Admission, clearing, turns and the log are
the product's, signatures are real SSH signatures; the repository is the one in memory, the targets are of type memory, and the
scanner is a stand-in that only says yes or gives no answer. Prints tables and writes benchmarks/results/working_week.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import week_bank
import week_figures
import week_people
from support import estate

from reconciler import errors, model, ports
from reconciler.audit import log, record, signing, state, storage
from reconciler.daemon import core
from reconciler.gates import rollback, schema
from reconciler.targets import memory

T = TypeVar("T")

POLL_S = 60.0
END = week_bank.MONDAY + timedelta(days=7, hours=7)
SCANNER_DOWN = (week_bank.MONDAY + timedelta(days=3, hours=8), week_bank.MONDAY + timedelta(days=4, hours=8))


class Clock:
    """Virtual; every look takes a millisecond, so that no two records bear the same time."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        self.passed_s += 0.001
        return model.utc_ms(week_bank.MONDAY + timedelta(seconds=self.passed_s))

    def monotonic_s(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds

    def until(self, at: datetime) -> None:
        self.passed_s = max(self.passed_s, (at - week_bank.MONDAY).total_seconds())


class InTurn:
    """`ports.Concurrency`: one after the other."""

    def gather(self, calls: Sequence[Callable[[], T]], *, within_s: float) -> tuple[T | None, ...]:  # noqa: ARG002 - the port's
        return tuple(call() for call in calls)


class ScannerStandIn:
    """No scanner at all: it passes everything, and gives no answer on the day it is down."""

    def __init__(self, clock: ports.Clock) -> None:
        self._clock = clock

    def check(self, change: model.Change, deadline_s: float) -> model.GateResult:  # noqa: ARG002 - the port's
        begins, ends = SCANNER_DOWN
        if begins <= self._clock.now() < ends:
            raise errors.TransientError("scanner_down", "no answer")
        return model.GateResult(outcome=model.Outcome.PASS)


class Daemon:
    """The core with its turns, taken when they are due on the virtual clock; without threads, as in the simulation."""

    def __init__(self, bank: estate.Estate, clock: Clock) -> None:
        self.clock = clock
        worlds: dict[str, memory.World] = {}
        ids = random.Random("ids")
        self.log = log.Log(
            storage.make_engine("sqlite://"),
            clock,
            holder="bank:1",
            signer=signing.FileSigner.from_seed(b"log-key-of-the-simulated-daemon!"),
            origin="reconciler.example/week",
            random=ids.randbytes,
        )
        drivers: ports.Drivers = {
            "memory": lambda: memory.Memory.on(lambda name: worlds.setdefault(name, memory.World()), clock)
        }
        around = ports.GateFacilities(repository=bank.store, drivers=drivers, clock=clock, production=False)
        gates: ports.Gates = {
            "schema": lambda check: schema.SchemaGate(check, around),
            "rollback": lambda check: rollback.RollbackGate(check, around),
            week_bank.SCANNER: lambda _: ScannerStandIn(clock),
        }
        outside = core.Ports(
            audit=self.log,
            source=bank.store,
            repository=bank.store,
            drivers=drivers,
            gates=gates,
            clock=clock,
            concurrency=InTurn(),
            new_id=lambda: f"d-{ids.getrandbits(48):012x}",
        )
        pin = dataclasses.replace(bank.pin, converge=True)
        self.core = core.Core(outside, core.Settings(terms=bank.terms, pin=pin, poll_s=POLL_S))
        self.due: dict[str, float] = {"watch": 0.0}
        self.turns = 0
        self.log.subscribe(self._heard)

    @property
    def next_s(self) -> float:
        return min(self.due.values())

    def turn(self) -> None:
        name = min(self.due, key=self.due.__getitem__)
        self.clock.passed_s = max(self.clock.passed_s, self.due.pop(name))
        _, in_s = self.core.turn(name)
        self.turns += 1
        if in_s is not None:
            self._wake(name, in_s)

    def _heard(self, entry: record.Record, after: state.State) -> None:
        for name in core.due(entry, after):
            self._wake(name)

    def _wake(self, name: str, in_s: float = 0) -> None:
        self.due[name] = min(self.clock.passed_s + in_s, self.due.get(name, float("inf")))


def plan(people: week_people.People, requests: int) -> None:
    """What happens when: ordinary requests at random, the rest at fixed times."""
    rng, monday = people.rng, week_bank.MONDAY
    names = sorted(week_bank.targets())
    for n in range(requests):
        at = week_bank.moment(rng, n * week_bank.DAYS // requests)
        people.at(at, lambda n=n: people.open(ordinary(people, n, names)))  # type: ignore[misc]
    for day, hour, what in (
        (1, 10.0, lambda: people.rotate(week_bank.SRE[1])),
        (1, 14.0, lambda: reject_one(people)),
        (2, 11.0, people.tighten),
        (2, 15.0, lambda: people.push_directly(week_bank.SRE[2])),
        (3, 11.0, lambda: people.lose_key(week_bank.SRE[3:])),
    ):
        people.at(monday + timedelta(days=day, hours=hour), what)


def ordinary(people: week_people.People, number: int, names: Sequence[str]) -> week_people.Request:
    """One target, now and then two, or none; mostly its payload, now and then only its document."""
    rng = people.rng
    author = rng.choice([person for team in week_bank.TEAMS.values() for person in team])
    own = [name for name in names if name.startswith(week_bank.team_of(author))]
    chosen = rng.sample(own, rng.choices((0, 1, 2), (6, 82, 12))[0])
    edits = {}
    for name in chosen:
        line = rng.choices((*week_bank.LINES, "owner"), (30, 30, 15, 15, 10))[0]
        edits[name] = {line: f"{author}-{number}"}
    return week_people.Request(number, author, edits, people.now)


def reject_one(people: week_people.People) -> None:
    """Somebody says no to a request that others approved; its author commits again."""
    waiting = [request for request in people.requests if not request.merged and request.edits and request.votes]
    if not waiting:
        people.at(people.now + timedelta(minutes=20), lambda: reject_one(people))
        return
    request, person = waiting[0], week_bank.SRE[4]
    people.say(f"{person} rejects request {request.number}")
    people.review(request, person, "reject")


def live(seed: int, requests: int) -> tuple[week_people.People, Daemon]:
    clock, rng = Clock(), random.Random(seed)
    made = week_bank.targets()
    bank = estate.Estate(files={estate.POLICY_PATH: week_bank.policy(), **week_bank.files(made)})
    daemon = Daemon(bank, clock)
    people = week_people.People(bank, lambda: daemon.log.state, clock, rng)
    people.targets[bank.genesis] = made
    plan(people, requests)
    end_s = (END - week_bank.MONDAY).total_seconds()
    while min(daemon.next_s, end_s) < end_s or people.events:
        event_s = (people.events[0][0] - week_bank.MONDAY).total_seconds() if people.events else float("inf")
        if event_s <= max(clock.passed_s, daemon.next_s):
            clock.until(people.events[0][0])
            people.next()
        elif daemon.next_s < end_s:
            daemon.turn()
        else:
            break
    return people, daemon


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--requests", type=int, default=250)
    options.add_argument("--story", action="store_true", help="print what happened, too")
    chosen = options.parse_args()
    begun = time.monotonic()
    people, daemon = live(chosen.seed, chosen.requests)
    took_s = time.monotonic() - begun
    found = week_figures.Figures(people, tuple(daemon.log.records()), END, SCANNER_DOWN[1])
    week_figures.write(found, f"seed {chosen.seed}, {daemon.turns:,} turns, lived through in {took_s:.0f} s")
    if chosen.story:
        print("\n".join(people.happened))


if __name__ == "__main__":
    main()
