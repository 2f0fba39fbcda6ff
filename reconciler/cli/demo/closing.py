"""The figures at the end, and what there is to try."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from reconciler.cli.demo.opening import Start
from reconciler.cli.demo.stage import Stage

_LOOK_S = 0.5  # whether the daemon still runs


def sum_up(stage: Stage, start: Start, whole_s: float) -> None:
    records = stage.daemon.ask("/status")["logSize"]
    peak_kib = stage.daemon.measure()
    memory = f"{peak_kib / 1024:.0f} MiB" if peak_kib else "not known on this system"
    stage.teller.line()
    stage.teller.line(f"All {len(stage.teller.took_s)} scenes came true.", "bold green")
    stage.teller.line(f"  first convergence    {start.first_s:.1f} s after the daemon was started")
    stage.teller.line(f"  the whole story      {whole_s:.1f} s")
    stage.teller.line(f"  the daemon's memory  {memory} at its most")
    stage.teller.line(f"  the audit log        {records} records, verified")


def suggest(stage: Stage) -> None:
    stage.teller.line()
    stage.teller.line("With --keep all this stays until Ctrl-C, to look around and to change things.")


def keep(stage: Stage) -> None:
    """Leave everything running until Ctrl-C, or until the daemon ends by itself."""
    for line in _things_to_try(stage):
        stage.teller.line(line)
    try:
        while stage.daemon.runs():
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        stage.teller.line("ending ...")
        return
    stage.teller.line(f"the daemon ended by itself; the last of {stage.daemon.log}:", "red")
    stage.teller.line(stage.daemon.last_words())


def _things_to_try(stage: Stage) -> list[str]:
    quoted = {
        name: shlex.quote(str(path)) for name, path in (("demo", stage.folder), ("bin", Path(sys.executable).parent))
    }
    return [
        "",
        "It goes on running. In another terminal:",
        "",
        f"  export DEMO={quoted['demo']} PATH={quoted['bin']}:$PATH",
        "  export RECONCILER_CONFIG=$DEMO/daemon/reconciler.yaml",
        "  reconciler get targets                           # where each is, and why it is not where Git says",
        "  reconciler history payments-api                  # everything that happened to one of them",
        "  reconciler trace payments-api file//status       # who let that in",
        "  date >> $DEMO/machines/payments-api/status       # a hand edit; then look at it again",
        "  reconciler audit query --type decision",
        *_of_a_cluster(stage),
        "",
        "A change of your own, in alice's clone and with her key:",
        "",
        "  cd $DEMO/people/alice/state && git fetch && git switch -c mine origin/main",
        "  $EDITOR targets/dev-sandbox/vm.yaml && git commit -S -am 'mine' && git push origin mine",
        "  reconciler verify --head HEAD; reconciler plan HEAD; reconciler gates run HEAD",
        "  (cd ../../bob/state && git fetch && reconciler approve origin/mine --key ../id_ed25519 --push)",
        "  git fetch origin '+refs/approvals/*:refs/approvals/*' && reconciler merge mine --key ../id_ed25519 --push",
        "",
        "The daemon's own log: tail -f $DEMO/daemon/daemon.log",
        "",
        "Ctrl-C here ends it and removes everything.",
    ]


def _of_a_cluster(stage: Stage) -> list[str]:
    if stage.plane is None:
        return []
    config = stage.plane.administrator.relative_to(stage.folder)
    return [
        f"  export KUBECONFIG=$DEMO/{config}         # kubectl past the daemon, in the namespace wallet",
        "  kubectl -n wallet delete configmap wallet        # and look at it again",
    ]
