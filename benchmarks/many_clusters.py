"""Ten clusters and ten thousand objects on one daemon, and what a cluster that is dead costs the others.

    PYTHONPATH=tests python benchmarks/many_clusters.py [--clusters 10] [--objects 10000] [--changes 20] [--interval 30] [--idle 60]

`reconciler run` on a signed repository, one target for each cluster; a fifth each ConfigMaps, ServiceAccounts, Services, Roles and
Deployments (of no pods). All clusters are namespaces of one real API server, each with its own kubeconfig, user, connection and
watches: see fleet.py. Then one change (a merge of one ConfigMap of one cluster) and one drift (the same changed by hand) at a time,
on one cluster after the other; first with all alive, then with dead ones beside them, one way of being dead after the other, and
in the end with one that stops answering in the middle of its life, all its connections open. The dead stay: each row has those
above it too. Writes benchmarks/results/many_clusters.md, after each row.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import fleet
import kube_subjects
import report
from support import dead_servers, estate, installation, kube, running

from reconciler import model
from reconciler.audit import record

WITHIN_S = 60.0
INITIAL_WITHIN_S = 1800.0
REST_S = 5.0
COLUMNS = (
    "seen to applied",
    "published to applied",
    "drift corrected",
    "idle CPU s/min",
    "RSS MiB",
    "threads",
    "connections",
)


class Bank:
    """The repository, the daemon on it, and what its log says."""

    def __init__(self, folder: Path, interval_s: int) -> None:
        folder.mkdir()
        limits = {"secrets": ["env:KUBECONFIG_*"], "endpoints": ["127.0.0.1/32"]}
        self.lab = installation.Installation(
            folder, {}, environments={**estate.policy_spec()["environments"], "dev": limits}
        )
        self.lab.poll, self.lab.web = f"{interval_s}s", f"127.0.0.1:{running.free_port()}"
        self.lab.configure()
        self._daemon: running.Running | None = None

    def start(self, environment: dict[str, str]) -> None:
        """Twice: the first life compiles what the interpreter then keeps."""
        kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.lab.folder / "compiled")}
        for _ in range(2):
            if self._daemon:
                self._daemon.stop()
            self._daemon = running.Running(self.lab, **environment, **kept)
            self._daemon.until(lambda: self.lab.configuration.socket.exists() and self.lab.records())
            time.sleep(2)

    @property
    def daemon(self) -> running.Running:
        assert self._daemon
        return self._daemon

    def publish(self) -> None:
        self.lab.git("update-ref", estate.REF, self.lab.bank.tip)

    def since(self, seq: int) -> list[record.Record]:
        return [entry for entry in self.lab.records() if entry.seq > seq]

    @property
    def seq(self) -> int:
        return self.lab.records()[-1].seq

    def turns(self) -> tuple[float, float]:
        """Turns of targets so far, and the seconds that they took."""
        text = urllib.request.urlopen(f"http://{self.lab.web}/metrics", timeout=10).read().decode()
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        name = 'reconciler_turn_duration_seconds_{}{{turn="target"}}'
        return float(lines[name.format("count")]), float(lines[name.format("sum")])


class Change(NamedTuple):
    seen_s: float  # from the verdict being recorded until the write is
    published_s: float  # from the branch moving until the API server has it


class Course:
    def __init__(self, plane: kube.ControlPlane, folder: Path, options: argparse.Namespace) -> None:
        self._options = options
        self._bank = Bank(folder / "bank", options.interval)
        self._seen = fleet.Seen(plane.api)
        self._plane = plane
        self._clusters = [f"c{number}" for number in range(options.clusters)]
        self._applications = options.objects // options.clusters // fleet.OF_ONE_APPLICATION
        self._version = 1
        self.rows: list[list[str]] = []
        self.notes: list[str] = []

    def run(self) -> None:
        with contextlib.ExitStack() as dead:
            passage = dead.enter_context(dead_servers.Passage(int(self._plane.url.rpartition(":")[2])))
            ways = {
                "refused": dead.enter_context(dead_servers.refusing()),
                "silent": dead.enter_context(dead_servers.silent()),
                "dropped": dead.enter_context(dead_servers.dropping()),
            }
            configs = {name: fleet.furnish(self._plane, name) for name in self._clusters}
            last = self._clusters[-1]
            configs[last] = configs[last].replace(self._plane.url, f"https://127.0.0.1:{passage.port}")
            configs |= {name: fleet.kubeconfig_at(self._plane, port) for name, port in ways.items()}
            self._bank.start({fleet.variable(name): text for name, text in configs.items()})
            try:
                self._initial()
                alive = self._clusters
                self._row(f"all {len(alive)} alive", alive)
                for name in ways:
                    self._add(name)
                    self._row(f"+ one {name}", alive)
                passage.hang()
                self._row("+ one of them stops answering", alive[:-1])
                self._tell_log()
            finally:
                self._bank.daemon.kill()

    def _initial(self) -> None:
        applications = dict.fromkeys(range(self._applications), 1)
        merged: dict[str, bytes | None] = {}
        for name in self._clusters:
            merged |= fleet.files(name, applications, self._options.interval)
        self._bank.lab.merge(merged)
        before = self._cpu()
        self._bank.publish()
        each = self._applications * fleet.OF_ONE_APPLICATION
        begun = time.monotonic()
        for share in (1, len(self._clusters)):
            done = self._seen.until(lambda: self._full(each) >= share, within_s=INITIAL_WITHIN_S)  # noqa: B023 - waited for here
            assert done is not None, self._bank.daemon.log.read_text()
            spent = time.monotonic() - begun
            self._note(f"initial, {share} of {len(self._clusters)} clusters with {each} objects each: {spent:.1f} s")
        self._bank.daemon.until(lambda: self._closed() == len(self._clusters), within_s=INITIAL_WITHIN_S)
        spent = time.monotonic() - begun
        self._note(f"initial, all confirmed: {spent:.1f} s, {self._cpu() - before:.1f} s of the daemon's processor")

    def _full(self, count: int) -> int:
        return sum(self._seen.counts[name] == count for name in self._clusters)

    def _closed(self) -> int:
        return len({e.target for e in self._bank.lab.events(record.Outcome) if e.closed is model.Closed.SUCCEEDED})

    def _add(self, name: str) -> None:
        """A target on a dead cluster, with an application of its own; nobody waits for it."""
        self._bank.lab.merge(fleet.files(name, {0: 1}, self._options.interval))
        self._bank.publish()
        self._bank.daemon.until(
            lambda: name in {e.target for e in self._bank.lab.events(record.Intent)} or self._cleared(name)
        )
        time.sleep(REST_S)

    def _cleared(self, name: str) -> bool:
        return any(name in each.targets for each in self._bank.lab.events(record.Decision))

    def _row(self, what: str, alive: Sequence[str]) -> None:
        time.sleep(REST_S)
        changes, drifts = [], []
        for number in range(self._options.changes):
            changes.append(self._change(alive[number % len(alive)], number))
            drifts.append(self._drift(alive[number % len(alive)], number))
        turns, cpu = self._bank.turns(), self._cpu()
        time.sleep(self._options.idle)
        after = self._bank.turns()
        idle = (self._cpu() - cpu) * 60 / self._options.idle
        cost = kube_subjects.cost_of([self._bank.daemon.process.pid])
        taken = (after[1] - turns[1]) / max(after[0] - turns[0], 1)
        self._note(f"{what}: {after[0] - turns[0]:.0f} turns while idle, {taken * 1000:.0f} ms each on average")
        pid = self._bank.daemon.process.pid
        figures = [
            spread([each.seen_s for each in changes]),
            spread([each.published_s for each in changes]),
            spread(drifts),
            f"{idle:.1f}",
            f"{cost.rss_mib:.0f}",
            str(len(list(Path(f"/proc/{pid}/task").iterdir()))),
            str(sum(each.startswith("socket:") for each in descriptors(pid))),
        ]
        self.rows.append([what, *figures])
        tell(self.rows, self.notes, self._options)

    def _change(self, cluster: str, number: int) -> Change:
        self._version += 1
        version, application = self._version, number % self._applications
        self._bank.lab.merge({fleet.path(cluster, application): fleet.manifests(cluster, application, version)})
        time.sleep(0.5)
        known = self._bank.seq
        self._bank.publish()
        key = (cluster, f"app-{application}")
        published_s = self._seen.until(lambda: self._seen.versions.get(key) == str(version), within_s=WITHIN_S)
        assert published_s is not None, (
            f"{cluster} never came to {version}:\n{self._bank.daemon.log.read_text()[-5000:]}"
        )
        self._bank.daemon.until(
            lambda: any(
                isinstance(e.event, record.Outcome) and e.event.target == cluster for e in self._bank.since(known)
            ),
            within_s=WITHIN_S,
        )
        entries = self._bank.since(known)
        judged = next(e.at for e in entries if isinstance(e.event, record.Decision))
        applied = next(e.at for e in entries if isinstance(e.event, record.Applied) and e.event.target == cluster)
        return Change((applied - judged).total_seconds(), published_s)

    def _drift(self, cluster: str, number: int) -> float:
        key, known = (cluster, f"app-{number % self._applications}"), self._bank.seq
        self._plane.api.patch(f"/api/v1/namespaces/{cluster}/configmaps/{key[1]}", {"data": {"version": "by hand"}})
        assert self._seen.until(lambda: self._seen.versions.get(key) == "by hand", within_s=WITHIN_S) is not None
        spent = self._seen.until(lambda: self._seen.versions.get(key) != "by hand", within_s=WITHIN_S)
        assert spent is not None, f"the drift on {cluster} stayed"
        self._bank.daemon.until(
            lambda: any(
                isinstance(e.event, record.Outcome) and e.event.target == cluster for e in self._bank.since(known)
            ),
            within_s=WITHIN_S,
        )
        return spent

    def _cpu(self) -> float:
        return kube_subjects.cost_of([self._bank.daemon.process.pid]).cpu_s

    def _tell_log(self) -> None:
        lines = self._bank.daemon.log.read_text().splitlines()
        dead = [line for line in lines if "cannot look" in line]
        self._note(f"the daemon logged {len(lines)} lines, {len(dead)} of them that a cluster cannot be looked at")
        failed = [e.target for e in self._bank.lab.events(record.Outcome) if e.closed is model.Closed.FAILED]
        self._note(f"{len(self._bank.lab.records())} records in its audit log; deployments that failed: {len(failed)}")
        tell(self.rows, self.notes, self._options)

    def _note(self, text: str) -> None:
        self.notes.append(text)
        print(text, file=sys.stderr, flush=True)


def spread(seconds: Sequence[float]) -> str:
    """Median, the 95th of a hundred, and the worst."""
    ordered = sorted(seconds)
    high = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return f"{statistics.median(ordered):.2f} / {high:.2f} / {ordered[-1]:.2f}"


def descriptors(pid: int) -> Iterator[str]:
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(each.readlink())


def tell(rows: Sequence[Sequence[str]], notes: Sequence[str], options: argparse.Namespace) -> None:
    title = f"{options.clusters} clusters and {options.objects} objects on one daemon"
    first = [
        "seconds: median / 95 of 100 / worst",
        "the clusters are namespaces of one API server on the same machine, each with its own kubeconfig, user and watches",
        f"{options.changes} changes and drifts in each row; interval {options.interval} s",
        f"load of the machine at the end: {os.getloadavg()[1]:.1f}",
    ]
    made = report.table("many_clusters", title, ("", *COLUMNS), rows, [*first, *notes])
    print(made, flush=True)
    if not options.dry:
        report.keep("many_clusters", made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--objects", type=int, default=10_000, help="on all clusters together")
    parser.add_argument("--changes", type=int, default=20, help="in each row")
    parser.add_argument("--interval", type=int, default=30, help="seconds")
    parser.add_argument("--idle", type=float, default=60, help="seconds")
    parser.add_argument("--dry", action="store_true", help="write no results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plane = kube.ControlPlane(Path(folder) / "plane")
        try:
            plane.wait()
            Course(plane, Path(folder), options).run()
        finally:
            plane.stop()


if __name__ == "__main__":
    main()
