"""How long one idle pass over a thousand targets takes, and what a hundred targets that hang cost the other nine hundred.

    PYTHONPATH=tests python benchmarks/idle_pass.py [--targets 1000] [--hung 100] [--folder DIR]

Every target is the memory driver behind the real turn: lease, read, observe, plan, decide. The log is a file. A hung target
answers after 30 s. Prints a table and writes it to benchmarks/results/idle_pass.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import report
from support import estate, lab

from reconciler import model, ports
from reconciler.audit import identity, log, signing, storage
from reconciler.daemon import clock, core, turns
from reconciler.targets import memory

HANG_S = 30.0
ROUNDS = 5
SECONDS_PER_ROUND = 1.0


class Slow(memory.Memory):
    """Answers late for the names in `hung`."""

    hung: frozenset[str] = frozenset()

    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        if wanted.target in self.hung:
            time.sleep(HANG_S)
        return super().observe(wanted, owned, deadline_s)


def make_core(folder: Path, count: int) -> core.Core:
    """A daemon's core with that many converged targets."""
    files = {k: v or b"" for n in range(count) for k, v in lab.folder(f"t{n:04}", {"one": "1"}).items()}
    bank = estate.Estate(files=files)
    system = clock.SystemClock()
    worlds: dict[str, memory.World] = {}
    audit = log.Log(
        storage.make_engine(f"sqlite:///{folder / 'audit.db'}"),
        system,
        holder="benchmark",
        signer=signing.FileSigner.from_seed(b"k" * 32),
        origin="reconciler/benchmark",
    )
    drivers: ports.Drivers = {"memory": lambda: Slow.on(lambda name: worlds.setdefault(name, memory.World()))}
    outside = core.Ports(
        audit=audit,
        source=bank.store,
        repository=bank.store,
        drivers=drivers,
        gates={},
        clock=system,
        concurrency=clock.Threads(),
        new_id=lambda: identity.uuid7(system.now()),
    )
    pin = bank.pin.__class__(**{**vars(bank.pin), "converge": True})
    made = core.Core(outside, core.Settings(terms=bank.terms, pin=pin))
    made.judge()
    return made


def settle(made: core.Core) -> float:
    """Take every target's turns until all rest; how long that took."""
    begun = time.monotonic()
    left = [name for name in made.names() if name.startswith("target:")]
    while left:
        left = [name for name in left if type(made.turn(name)[0]).__name__ not in {"Rest", "Stand"}]
    return time.monotonic() - begun


def idle(made: core.Core) -> float:
    begun = time.monotonic()
    for name in made.names():
        if name.startswith("target:"):
            made.turn(name)
    return time.monotonic() - begun


def served(made: core.Core, hung: frozenset[str], rounds: int) -> float:
    """How long fair turns need until every target that does not hang was looked at `rounds` times, a second apart."""
    Slow.hung = hung
    counts: dict[str, int] = {}
    done = threading.Event()
    waiting = {n for n in made.names() if n.startswith("target:") and n.removeprefix("target:") not in hung}

    def turn(name: str) -> float | None:
        made.turn(name)
        counts[name] = counts.get(name, 0) + 1
        if counts[name] == rounds:
            waiting.discard(name)
            if not waiting:
                done.set()
        return SECONDS_PER_ROUND if counts[name] < rounds else None

    fair = turns.Turns(turn)
    for name in made.names():
        if name.startswith("target:"):
            fair.wake(name)
    begun = time.monotonic()
    threading.Thread(target=lambda: fair.run(grace_s=0), daemon=True).start()
    done.wait(300)
    spent = time.monotonic() - begun
    fair.stop()
    return spent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--targets", type=int, default=1000)
    options.add_argument("--hung", type=int, default=100)
    options.add_argument("--folder", type=Path)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        made = make_core(Path(folder), chosen.targets)
        first = settle(made)
        passes = [idle(made) for _ in range(5)]
        calm = served(made, frozenset(), ROUNDS)
        hung = served(made, frozenset(f"t{n:04}" for n in range(chosen.hung)), ROUNDS)
    rows = [
        ("targets", f"{chosen.targets}"),
        ("first convergence, one thread, each record fsynced", f"{first:.1f} s"),
        ("idle pass, one thread (median of 5)", f"{statistics.median(passes) * 1000:.0f} ms"),
        ("idle turn", f"{statistics.median(passes) * 1e6 / chosen.targets:.0f} us"),
        (f"{ROUNDS} rounds a second apart, nothing hangs", f"{calm:.2f} s"),
        (f"the same for the others while {chosen.hung} hang for {HANG_S:.0f} s", f"{hung:.2f} s"),
    ]
    report.write("idle_pass", "An idle pass over many targets", rows)


if __name__ == "__main__":
    main()
