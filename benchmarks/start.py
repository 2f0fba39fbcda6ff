"""How long `reconciler --help` takes, as a person waits for it, and how much memory it takes.

    python benchmarks/start.py [--runs 20]

Prints a table and writes it to benchmarks/results/start.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import report


def timed(command: list[str]) -> tuple[float, int]:
    """Seconds, and KiB at the most."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.monotonic() - begun, usage.ru_maxrss


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=20)
    runs = options.parse_args().runs
    program = str(Path(sys.executable).with_name("reconciler"))
    rows = []
    for words in (["--help"], ["get", "--help"], ["run", "--help"]):
        timed([program, *words])
        taken = [timed([program, *words]) for _ in range(runs)]
        spent = [s * 1000 for s, _ in taken]
        memory = max(kib for _, kib in taken) >> 10
        rows.append(
            (
                f"`reconciler {' '.join(words)}`",
                f"{statistics.median(spent):.0f} ms (to {max(spent):.0f}), {memory} MiB",
            )
        )
    bare = [timed([sys.executable, "-c", "pass"])[0] * 1000 for _ in range(runs)]
    rows.append(("Python alone", f"{statistics.median(bare):.0f} ms"))
    report.write("start", "Starting", rows)


if __name__ == "__main__":
    main()
