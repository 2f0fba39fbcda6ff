"""One cluster brought to its desired state and kept there: ours beside Flux and Argo CD's engine, on real API servers.

    PYTHONPATH=tests python benchmarks/openshift.py [--objects 500 2000] [--subjects ours flux] [--peers-from DIR] [--interval 30]

Objects are a fifth each ConfigMaps, ServiceAccounts, Services, Roles and Deployments (of no pods). Each subject gets an API
server of its own, started alike, with a controller manager, in the same run, one after the other. Seconds are from the moment
that the new state is published (ours: the watched branch moves to a merge, which is then fetched, judged and cleared; Flux: its
source controller's artifact; the engine: its own folder) until the API server holds every object as wanted; in brackets, the
subject's own processor seconds until then. Peers come from a folder with k8s_peers.py; where there is none they are left out.
Writes benchmarks/results/openshift.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import kube_subjects
import report
from kube_watching import KINDS, NAMESPACE, Watched, objects
from support import kube

from reconciler import errors

PEERS = Path(__file__).parents[2] / "shared" / "bench"
WITHIN_S = 300.0
REST_S = 5.0
IDLE_S = 60.0
COLUMNS = ("initial", "all changed", "one changed", "drift corrected", "prune one", "idle CPU s/min", "RSS MiB")


class Course:
    """The same steps for everybody."""

    def __init__(self, subject: kube_subjects.Subject, plane: kube.ControlPlane, count: int, idle_s: float) -> None:
        self._subject, self._plane, self._count, self._idle_s = subject, plane, count, idle_s
        self._seen = Watched(plane.api)
        self.figures: list[str] = []
        self.notes: list[str] = []

    def run(self) -> None:
        count, seen = self._count, self._seen
        first, second, one = objects(count, 1), objects(count, 2), [*objects(1, 3), *objects(count, 2)[1:]]
        self._subject.start()
        self._publish("initial", first, lambda: seen.at(1) == count)
        self._publish("all changed", second, lambda: seen.at(2) == count)
        self._publish("one changed", one, lambda: seen.at(3) == 1)
        self._drift()
        last = one[-1]
        self._publish("prune one", one[:-1], lambda: not seen.has(last["kind"], last["metadata"]["name"]))
        self._idle()

    def _publish(self, what: str, wanted: Sequence[dict[str, Any]], done: Callable[[], bool]) -> None:
        self._subject.prepare(wanted)
        time.sleep(REST_S)
        before = self._subject.cost().cpu_s
        self._subject.publish()
        self._note(what, self._seen.until(done, within_s=WITHIN_S), before)
        steps = self._subject.settle(within_s=WITHIN_S)
        if steps:
            told = ", ".join(f"{name} {at_s:.2f}" for name, at_s in steps.items())
            self.notes.append(f"{self._subject.name}, {self._count} objects, {what}: {told}")

    def _drift(self) -> None:
        time.sleep(REST_S)
        before = self._subject.cost().cpu_s
        self._plane.api.patch(f"{KINDS['ConfigMap']}/app-1", {"data": {"version": "by hand"}})
        assert self._seen.until(lambda: self._seen.at("by hand") == 1, within_s=10) is not None
        self._note("drift corrected", self._seen.until(lambda: not self._seen.at("by hand"), within_s=WITHIN_S), before)

    def _idle(self) -> None:
        time.sleep(REST_S)
        before = self._subject.cost().cpu_s
        time.sleep(self._idle_s)
        after = self._subject.cost()
        self.figures += [f"{(after.cpu_s - before) * 60 / self._idle_s:.2f}", f"{after.rss_mib:.0f}"]

    def _note(self, what: str, seconds: float | None, cpu_before_s: float) -> None:
        spent = self._subject.cost().cpu_s - cpu_before_s
        taken = f"none in {WITHIN_S:.0f} s" if seconds is None else f"{seconds:.2f}"
        self.figures.append(f"{taken} ({spent:.1f})")
        print(f"{self._subject.name} {self._count} {what}: {self.figures[-1]}", file=sys.stderr)


def measure(make: Callable[..., kube_subjects.Subject], count: int, options: argparse.Namespace) -> Course:
    with tempfile.TemporaryDirectory() as folder:
        plane = kube.ControlPlane(Path(folder) / "plane")
        try:
            plane.wait()
            plane.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
            subject = make(plane, Path(folder) / "subject", options.interval)
            course = Course(subject, plane, count, options.idle)
            try:
                course.run()
            except (AssertionError, errors.ReconcilerError) as broken:
                course.notes.append(f"{subject.name}, {count} objects: did not come through: {str(broken)[:300]}")
            finally:
                subject.stop()
            return course
        finally:
            plane.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--subjects", nargs="+", default=["ours", "flux"])
    parser.add_argument("--peers-from", type=Path, default=PEERS)
    parser.add_argument("--interval", type=int, default=30, help="seconds, of everybody")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="seconds to be idle")
    parser.add_argument("--dry", action="store_true", help="write no results")
    options = parser.parse_args()
    known: dict[str, Callable[..., kube_subjects.Subject]] = {"ours": kube_subjects.Ours}
    known |= kube_subjects.peers(options.peers_from)
    rows: list[list[str]] = []
    notes = [
        f"seconds, in brackets of them the subject's own processor; interval of everybody: {options.interval} s",
        f"load of the machine before it began: {os.getloadavg()[1]:.1f}",
    ]
    notes += [f"{name}: not here, left out" for name in options.subjects if name not in known]
    for count, name in itertools.product(options.objects, options.subjects):
        if name in known:
            course = measure(known[name], count, options)
            rows.append([name, str(count), *course.figures, *["-"] * (len(COLUMNS) - len(course.figures))])
            notes += course.notes
            tell(rows, notes, dry=options.dry)


def tell(rows: list[list[str]], notes: list[str], *, dry: bool) -> None:
    """After each subject, so that what was measured stays when a later one breaks."""
    table = report.table("openshift", "One cluster, kept at its desired state", ("", "objects", *COLUMNS), rows, notes)
    print(table)
    if not dry:
        report.keep("openshift", table)


if __name__ == "__main__":
    main()
