"""`reconciler run` with a fault in it: `patched.py FAULT CONFIG`. Everything else is as users run it."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reconciler import model
from reconciler.cli import main
from reconciler.targets.vm import driver


def slow(folder: Path) -> None:
    """Every write takes a second longer than it took; `writing` is there meanwhile."""
    real = driver.Vm.apply

    def apply(
        self: driver.Vm, wanted: model.Wanted, stage: model.Stage, permit: model.Permit
    ) -> tuple[model.StepResult, ...]:
        results = real(self, wanted, stage, permit)
        (folder / "writing").touch()
        time.sleep(1)
        return results

    driver.Vm.apply = apply  # type: ignore[method-assign]


def hung(folder: Path) -> None:
    """Nobody answers for a target whose name begins with `hung`, ever."""
    real = driver.Vm.observe

    def observe(self: driver.Vm, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        if wanted.target.startswith("hung"):
            threading.Event().wait()
        return real(self, wanted, owned, deadline_s)

    driver.Vm.observe = observe  # type: ignore[method-assign]


def full(folder: Path) -> None:
    """While `full` is there, no room is left for the record of an intent."""
    from reconciler.audit import log, record

    real = log.Log.permit

    def permit(self: log.Log, intent: record.Intent, **named: Any) -> model.Permit:
        if (folder / "full").exists():
            size = (folder / "state" / "audit.db-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return real(self, intent, **named)

    log.Log.permit = permit  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[Path], None]] = {"slow": slow, "hung": hung, "full": full}

if __name__ == "__main__":
    fault, configuration = sys.argv[1:]
    FAULTS[fault](Path(configuration).parent)
    sys.exit(main.run(["run", "--config", configuration]))
