"""An application over a real log, for surfaces: what it knows of targets beside the log is what a test puts there."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from pydantic import JsonValue

from reconciler import model
from reconciler.admission import policy, reviewing
from reconciler.audit import log, query, record, state, storage
from reconciler.views import audit, metrics, plans, status, targets
from support import estate, logs

T = TypeVar("T")

GENESIS, MERGE, HEAD = (model.Oid(c * 40) for c in "abc")
OLD, NEW, OTHER = (model.Digest(c * 64) for c in "123")
PLAN = model.Digest("4" * 64)
KEY = model.Key("file/etc/app.conf")


def version(revision: model.Oid | None, digest: model.Digest) -> model.Version:
    return model.Version(revision=revision, digest=digest)


GENESIS_EVENT = record.Genesis(revision=GENESIS, reason="taken over", targets={"api": OLD, "db": OTHER})
CONFIRMED = tuple(
    record.Confirmed(target=name, version=version(GENESIS, digest), fingerprint=PLAN)
    for name, digest in (("api", OLD), ("db", OTHER))
)
DECISION = record.Decision(
    base=GENESIS,
    revision=MERGE,
    head=HEAD,
    verdict=model.Verdict.ACCEPT,
    targets={"api": NEW},
    merge_signature=record.MergeSignature(principal="carol", key_id="SHA256:c", algorithm="ssh-ed25519"),
    approvals=(model.Approval(person="bob", level="A2", key_id="SHA256:b", statement=PLAN),),
    duties=record.Duties(authors=("alice",)),
    rules=(record.RuleResult(id="base", paths=("targets/api/target.yaml",), need=("1 of sre (A2)",), got=("bob",)),),
)
PASSED = record.Clearance(
    revision=MERGE,
    passed=True,
    results=(
        model.GateResult(outcome=model.Outcome.PASS, check="opa: compliance_policy", targets=("api",), duration_ms=120),
    ),
)


def intent(deployment: str = "d1", cause: model.Cause = model.Cause.CHANGE, decision: int = 3) -> record.Intent:
    return record.Intent(
        deployment=deployment,
        target="api",
        wanted=version(MERGE, NEW),
        cause=cause,
        decisions=(decision,),
        clearance=decision + 1,
        plan=PLAN,
        before=version(GENESIS, OLD),
        snapshot=PLAN,
        actions={KEY: "update"},
    )


def applied(deployment: str = "d1") -> record.Applied:
    results = (model.StepResult(key=KEY, effect=model.Effect.CHANGED, identity="17"),)
    return record.Applied(deployment=deployment, target="api", results=results, owned={KEY: "17"})


def outcome(deployment: str = "d1", closed: model.Closed = model.Closed.SUCCEEDED) -> record.Outcome:
    return record.Outcome(deployment=deployment, target="api", closed=closed)


DEPLOYED: tuple[record.Event, ...] = (GENESIS_EVENT, *CONFIRMED, DECISION, PASSED, intent(), applied(), outcome())


@dataclass
class Application:
    """`web.application.Application` as a daemon would be it, without its loops."""

    engine: sa.Engine = field(default_factory=lambda: storage.make_engine("sqlite://"))
    watching: bool = True
    seen: dict[str, targets.Live] = field(default_factory=dict)
    not_ready: model.ValidationResult = ()
    asked: list[tuple[str, ...]] = field(default_factory=list)  # what reached the application
    hangs: threading.Event | None = None  # until it is set, whatever looks or judges does not answer
    fails: Exception | None = None  # raised by everything that looks or judges
    policy_blob: bytes = field(default_factory=estate.policy_blob)

    def __post_init__(self) -> None:
        self.clock = logs.Clock()
        self.log: log.Log = logs.make_log(self.engine, self.clock)
        self._metrics = metrics.Metrics(self.state, self.live, self.facts, self.clock.now, self.rules)
        self.log.subscribe(self._metrics.heard)
        self.turned = self._metrics.turned

    def happen(self, *events: record.Event) -> None:
        for event in events:
            self.log.lease(record.scope(event))
            self.log.append(event)

    def facts(self) -> status.Facts:
        return status.Facts(
            installation="test", profile="development", version="0", watching=self.watching, warnings=("development",)
        )

    def ready(self) -> model.ValidationResult:
        return self.not_ready

    def state(self) -> state.State:
        return self.log.state

    def live(self) -> Mapping[str, targets.Live]:
        return self.seen

    def rules(self) -> policy.Policy:
        return policy.parse_policy(self.policy_blob)

    def reviews(self) -> Mapping[model.Oid, reviewing.Reviewed]:
        return {}

    def now(self) -> datetime:
        return self.clock.now()

    def records(self, query: audit.Query) -> Sequence[record.Record]:
        return audit.find(self.engine, query)

    def read(self, seq: int) -> record.Record:
        return query.show(self.engine, seq)

    def values(self, kind: str, beginning: str = "", limit: int = -1) -> Sequence[str]:
        return query.values(self.engine, kind, beginning, limit=limit)

    def declared(self, target: str, version: model.Version, key: model.Key) -> JsonValue:
        return {"colour": version.digest, "key": key} if target == "api" else None

    def verify_log(self) -> int:
        return self._answer("verify_log", self.log.size)

    def diff(self, target: str) -> plans.Preview:
        return self._answer("diff", plans.Preview(target=target, plan=self.seen[target].plan))

    def plan(self, head: model.Oid | None) -> Sequence[plans.Preview]:
        return self._answer("plan", [plans.Preview(target="api", content=f"+{head}")])

    def verify(self, head: model.Oid | None) -> Sequence[record.Decision]:
        return self._answer("verify", [DECISION])

    def run_gates(self, head: model.Oid) -> record.Clearance:
        return self._answer("run_gates", PASSED)

    def operate(self, verb: str, target: str, *, actor: str, reason: str) -> None:
        self.asked.append((verb, target, actor, reason))

    def rollback(
        self, deployment: str, *, actor: str, reason: str, acknowledged: tuple[tuple[str, model.Key], ...]
    ) -> model.Version:
        self.asked.append(("rollback", deployment, actor, reason, *(f"{h}|{k}" for h, k in acknowledged)))
        return self.log.intent(deployment).before

    def submit(self, envelope: bytes) -> model.Digest:
        self.asked.append(("submit", envelope.decode()))
        return model.sha256(envelope)

    def metrics(self) -> bytes:
        return self._metrics.exposition()

    def _answer(self, name: str, value: T) -> T:
        self.asked.append((name,))
        if self.hangs:
            self.hangs.wait()
        if self.fails:
            raise self.fails
        return value
