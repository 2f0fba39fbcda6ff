"""`PYTHONPATH=tests python -m simulation --seed 17 --steps 60 --trace`, or `--seeds 1000` to look for one that breaks a law."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from simulation import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--steps", type=int, default=run.STEPS)
    parser.add_argument("--trace", action="store_true", help="print every line")
    asked = parser.parse_args()
    counts, turns, began, broken = Counter[str](), 0, time.monotonic(), 0
    for seed in range(asked.seed, asked.seed + asked.seeds):
        trace = run.run(seed, asked.steps)
        counts += trace.counts
        turns += trace.turns
        if asked.trace:
            print("\n".join(trace.lines))  # noqa: T201 - what a person asked for
        if trace.broken:
            broken += 1
            print(f"seed {seed}: {trace.broken}"[:600])  # noqa: T201 - what a person asked for
    took_s = time.monotonic() - began
    print(f"{asked.seeds} seeds, {turns} turns in {took_s:.1f} s: {turns / took_s * 60:.0f} turns a minute")  # noqa: T201 - what a person asked for
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))  # noqa: T201 - what a person asked for
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
