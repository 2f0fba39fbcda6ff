"""/metrics: gauges are computed from the state when Prometheus asks; counters start with the process, as its counters do."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from reconciler import errors, model, redact
from reconciler.admission import policy
from reconciler.audit import record, state
from reconciler.views import obligations, status, targets

_GATE_BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60, 90, 120)
_TURN_BUCKETS_S = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300)


class Metrics:
    """One for a process; every method may be called from any thread. Nothing in it is global."""

    def __init__(
        self,
        known: Callable[[], state.State],
        live: Callable[[], Mapping[str, targets.Live]],
        facts: Callable[[], status.Facts],
        now: Callable[[], datetime],
        rules: Callable[[], policy.Policy],
    ) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(_Gauges(known, live, facts, now))
        self._registry.register(_Expiries(rules))
        self._decisions = self._counter("decisions", "Verdicts on merges, recorded when new or changed.", "verdict")
        self._emergencies = self._counter("emergencies", "Merges that were accepted because the glass was broken.")
        self._deployments = self._counter("deployments", "Deployments that closed.", "cause", "outcome")
        self._operations = self._counter("operations", "What operators asked for.", "verb")
        self._gates = self._histogram("gate", "Run time of a check.", _GATE_BUCKETS_S, "check", "outcome")
        self._turns = self._histogram("turn", "Run time of a turn.", _TURN_BUCKETS_S, "turn")

    def heard(self, entry: record.Record, after: state.State) -> None:
        """Count a record: `audit.log.Log.subscribe(metrics.heard)`."""
        match entry.event:
            case record.Decision() as event:
                self._decisions.labels(event.verdict.value).inc()
                if event.emergency is not None:
                    self._emergencies.inc()
            case record.Outcome() as event:
                self._deployments.labels(_cause(event, after), event.closed.value).inc()
            case record.Operator() as event:
                self._operations.labels(event.verb).inc()
            case record.Clearance() as event:
                for result in event.results:
                    check = redact.line(result.check, limit_chars=100)
                    self._gates.labels(check, result.outcome.value).observe(result.duration_ms / 1000)
            case _:
                pass

    def turned(self, turn: str, duration_s: float) -> None:
        """Count a turn by its subject: `watch`, `clear`, `target`."""
        self._turns.labels(turn).observe(duration_s)

    def exposition(self) -> bytes:
        return prometheus_client.generate_latest(self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> prometheus_client.Counter:
        return prometheus_client.Counter(f"reconciler_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> prometheus_client.Histogram:
        return prometheus_client.Histogram(
            f"reconciler_{name}_duration_seconds", text, labels, registry=self._registry, buckets=buckets
        )


class _Gauges(Collector):
    def __init__(
        self,
        known: Callable[[], state.State],
        live: Callable[[], Mapping[str, targets.Live]],
        facts: Callable[[], status.Facts],
        now: Callable[[], datetime],
    ) -> None:
        self._known, self._live, self._facts, self._now = known, live, facts, now

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not read a state that is not there yet."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        known, facts, now = self._known(), self._facts(), self._now()
        rows = targets.targets(known, self._live(), watching=facts.watching).items
        yield from _of_installation(known, facts, now)
        yield from _of_targets(rows, now)
        yield from _of_obligations(known, now)


class _Expiries(Collector):
    """What ends by time alone: the policy in force and its keys. None of these samples: it cannot be read."""

    def __init__(self, rules: Callable[[], policy.Policy]) -> None:
        self._rules = rules

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: as above."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            rules = self._rules()
        except errors.ReconcilerError:
            return
        if rules.expires is not None:
            yield _gauge(
                "policy_expiry_timestamp_seconds",
                "When the approval policy ends: afterwards only changes of it are accepted.",
                rules.expires.timestamp(),
            )
        keys = GaugeMetricFamily(
            "reconciler_policy_key_expiry_timestamp_seconds",
            "When a key of the approval policy ends; revoked ones are left out.",
            labels=["person", "key"],
        )
        listed = [(name, person.keys) for name, person in rules.people.items()]
        listed += [(name, robot.keys) for name, robot in rules.robots.items()]
        for name, key in ((name, key) for name, owned in listed for key in owned if key.revoked is None):
            keys.add_metric([name, key.id], key.not_after.timestamp())
        yield keys


def _of_installation(known: state.State, facts: status.Facts, now: datetime) -> Iterator[GaugeMetricFamily]:
    yield _gauge("log_records", "Records in the audit log.", known.size)
    yield _gauge("merges_pending", "Accepted merges that have not passed their gates.", len(known.pending))
    yield _gauge("commits_held", "Commits after the last accepted one that were not accepted.", len(known.held))
    # Infinite where nothing was ever fetched: an alert on the age must fire, not find nothing.
    yield _gauge("source_fetch_age_seconds", "Since the last fetch that succeeded.", _age_s(facts.fetched, now))
    halted = GaugeMetricFamily("reconciler_halted", "Integrity alarms that stop writes or admission.", labels=["code"])
    for code in known.halted:
        halted.add_metric([code], 1)
    yield halted


def _of_obligations(known: state.State, now: datetime) -> Iterator[GaugeMetricFamily]:
    owed = obligations.owed(known)
    counted = GaugeMetricFamily("reconciler_obligations_open", "What is owed, by kind.", labels=["kind"])
    for kind in ("review", "agree"):
        counted.add_metric([kind], sum(each.kind == kind for each in owed))
    yield counted
    late = sum(obligations.is_overdue(each, now) for each in owed)
    yield _gauge("obligations_overdue", "Reviews of emergencies that ordinary changes wait for.", late)


def _of_targets(rows: tuple[targets.Target, ...], now: datetime) -> Iterator[GaugeMetricFamily]:
    counted = GaugeMetricFamily("reconciler_targets", "Targets.", labels=["sync", "health", "standing"])
    for labels, count in sorted(Tally((row.sync, row.health, row.standing or "") for row in rows).items()):
        counted.add_metric(labels, count)
    names = ["target", "type", "environment", "sync", "health", "standing"]
    info = GaugeMetricFamily("reconciler_target_info", "One for each target.", labels=names)
    drift = GaugeMetricFamily("reconciler_target_drifted_resources", "Not as confirmed.", labels=["target"])
    age = GaugeMetricFamily("reconciler_target_observed_age_seconds", "Since the last look.", labels=["target"])
    for row in rows:
        texts = [row.name, row.type, row.environment, row.sync, row.health, row.standing or ""]
        info.add_metric([redact.line(text, limit_chars=100) for text in texts], 1)
        drift.add_metric([redact.line(row.name)], row.drifted)
        age.add_metric([redact.line(row.name)], _age_s(row.observed, now))
    yield from (counted, info, drift, age)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"reconciler_{name}", text, value=value)


def _age_s(since: datetime | None, now: datetime) -> float:
    return float("inf") if since is None else max(0.0, (now - since).total_seconds())


def _cause(event: record.Outcome, after: state.State) -> str:
    """Of the deployment that closed; a later one may have closed in the same transaction."""
    last = after.target(event.target).last
    cause: model.Cause | None = last.cause if last and last.id == event.deployment else None
    return cause.value if cause else "unknown"
