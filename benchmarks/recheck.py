"""What asking again right before a write costs, in an estate of 200 people, 1,000 targets and 100 waiting statements.

    PYTHONPATH=tests python benchmarks/recheck.py [--people 200] [--targets 1000] [--statements 100]

Asked are denials, rejects and revokes, freeze and window, the clock, the age of the last fetch, and whether the branch still holds
what was accepted (trust.md 2.3). "Nothing heard" is the case of nearly every write; after a poll the statements about the merge are compared, and only where one
is new the merge is judged again. The log is a file. Prints a table and
writes it to benchmarks/results/recheck.md.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import report
from support import estate, lab, objects

from reconciler import model
from reconciler.audit import storage
from reconciler.daemon import contact

ROUNDS = 200
AIM_MS = 5.0
TARGET = "t0000"


def make_estate(people: int, targets: int) -> estate.Estate:
    spec = copy.deepcopy(estate.policy_spec())
    names = [f"person-{n:03}" for n in range(people - len(spec["people"]))]
    spec["people"] |= {name: estate.person(name) for name in names}
    spec["teams"]["sre"] += names
    spec["freeze"] = [
        {"id": "f", "from": "2026-12-20T00:00:00Z", "to": "2027-01-03T00:00:00Z", "environments": ["prod"]}
    ]
    files = {k: v for n in range(targets) for k, v in estate.target(f"t{n:04}").items()}
    return estate.Estate(files, spec=spec)


def make_life(folder: Path, bank: estate.Estate, statements: int) -> tuple[lab.Process, model.Oid]:
    """A merge that is accepted, cleared and about to be written; the statements wait under the heads of merges beside it."""
    made = lab.Lab(bank=bank, engine=storage.make_engine(f"sqlite:///{folder / 'audit.db'}"))
    life = lab.Process(made)
    life.core.judge()
    merge = bank.change({f"targets/{TARGET}/resources.yaml": estate.resources(2)})
    life.core.judge()
    life.core.turn(f"clear:{merge}")
    for n in range(statements // 2):
        files: objects.Files = {f"targets/t{n + 1:04}/resources.yaml": estate.resources(n)}
        bank.change(files)
    life.core.judge()
    return life, merge


def asked_ms(life: lab.Process, before: Callable[[], object]) -> list[float]:
    known = life.log.state.target(TARGET)
    assert known.cleared is not None
    wanted = life.core.read(TARGET, known.cleared).state
    taken = []
    for _ in range(ROUNDS):
        before()
        began = time.perf_counter()
        brakes = life.core.braking.brakes(wanted, known)
        taken.append((time.perf_counter() - began) * 1000)
        assert not any((brakes.halted, brakes.withdrawn, brakes.deferred, brakes.dependency)), brakes
    return taken


def polled(life: lab.Process) -> None:
    life.core.contact.fetches = contact.Fetches(life.lab.clock.now())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--statements", type=int, default=100)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        life, merge = make_life(Path(folder), make_estate(told.people, told.targets), told.statements)
        rows = [(f"{told.people} people, {told.targets} targets, {told.statements} waiting statements", "")]
        for what, before in (
            ("asked again, nothing heard since", lambda: None),
            ("the same after a poll", lambda: polled(life)),
            ("the same after a statement about it, judged again", lambda: said_more(life, merge)),
        ):
            ms = asked_ms(life, before)
            worst = sorted(ms)[int(len(ms) * 0.99)]
            rows.append((what, f"median {statistics.median(ms):.2f} ms, 99 of 100 within {worst:.2f} ms"))
        rows.append(("aim", f"{AIM_MS:g} ms"))
    report.write("recheck", "Asking again right before a write", rows)


def said_more(life: lab.Process, merge: model.Oid) -> None:
    """By somebody whom nobody knows: it counts for nothing, and has to be read and judged all the same."""
    stranger = f"stranger-{life.core.contact.heard()}"
    life.lab.bank.approve(merge, "bob", with_key=stranger)
    life.core.contact.note_upload()


if __name__ == "__main__":
    main()
