"""`run(seed, steps)`: one whole simulated life, and what it came to. The same numbers give the same life on every machine."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass

from simulation import books, ends, laws, schedule

STEPS = 60


@dataclass(frozen=True)
class Trace:
    """What happened, a line each; `broken` is empty where every law held."""

    seed: int
    steps: int
    turns: int
    records: int
    seconds: float  # of simulated time
    counts: Counter[str]
    lines: list[str]
    broken: str = ""

    def story(self, last: int = 120) -> str:
        """For a failed test: how to see it again, and how it ended."""
        again = f"PYTHONPATH=tests python -m simulation --seed {self.seed} --steps {self.steps} --trace"
        return "\n".join(
            (f"seed {self.seed}: {self.broken}", f"again: {again}", *(line[:240] for line in self.lines[-last:]))
        )


def run(seed: int, steps: int = STEPS, *, whole: bool = True) -> Trace:
    """Live through one seed. `whole`: verify the whole log in the end, which costs as much as the rest."""
    plan = schedule.Schedule(seed)
    broken = ""
    try:
        for _ in range(steps):
            plan.step()
        ends.settle(plan)
        ends.check(plan)
        if whole:
            laws.the_whole_log_verifies(plan.auditor)
    except books.Broken as exc:
        broken = f"{_law(exc)}: {exc}"
    except Exception as exc:  # noqa: BLE001 - whatever the product raised here, it should not have
        broken = f"{type(exc).__name__}: {exc}"
        plan.site.lines += traceback.format_exc().splitlines()[-30:]
    site = plan.site
    site.engine.dispose()
    return Trace(
        seed=seed,
        steps=steps,
        turns=site.turns,
        records=plan.auditor.chain.size,
        seconds=site.time.passed_s,
        counts=site.counts,
        lines=site.lines,
        broken=broken,
    )


def _law(exc: BaseException) -> str:
    """The name of the law that was broken: the innermost function of the laws."""
    frames = [f.name for f in traceback.extract_tb(exc.__traceback__) if "simulation" in f.filename]
    return frames[-1].strip("_").replace("_", " ") if frames else ""
