"""A real log on a database in memory, signed with a key that is the same in every run."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from reconciler import model, ports
from reconciler.audit import log, record, signing, storage

ORIGIN = "reconciler.example/test"
SIGNER = signing.FileSigner.from_seed(b"a key of the audit log in tests.")


class Clock:
    """Every look at it takes a millisecond, so that no two records bear the same time."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        self.passed_s += 0.001
        return datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=round(self.passed_s, 3))

    def monotonic_s(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds


def make_log(
    engine: sa.Engine | None = None, clock: ports.Clock | None = None, *, holder: str = "node", seed: int = 1
) -> log.Log:
    """One life of a process on this database; a second call with the same engine is the next one, or another one."""
    return log.Log(
        engine or storage.make_engine("sqlite://"),
        clock or Clock(),
        holder=holder,
        signer=SIGNER,
        origin=ORIGIN,
        daemon_info={"version": "0", "config_sha256": "0" * 64},
        random=random.Random(seed).randbytes,
    )


PLAN, SNAPSHOT = b'{"plan":1}', b'{"snapshot":1}'
REVISION = model.Oid("a" * 40)
VERSION = model.Version(revision=REVISION, digest=model.sha256(b"folder"))
STUCK = record.Standing(target="t", code="stuck")
FREE = record.Standing(target="t", code=None)


def intent(deployment: str = "d1", target: str = "t") -> record.Intent:
    """An intent whose evidence is PLAN and SNAPSHOT."""
    return record.Intent(
        deployment=deployment,
        target=target,
        wanted=VERSION,
        cause=model.Cause.CHANGE,
        decisions=(0,),
        clearance=1,
        plan=model.sha256(PLAN),
        before=VERSION,
        snapshot=model.sha256(SNAPSHOT),
        actions={model.Key("item/n/one"): "create"},
    )


def oid(name: str) -> model.Oid:
    return model.Oid(hashlib.sha1(name.encode()).hexdigest())


def genesis(*targets: str) -> record.Genesis:
    return record.Genesis(revision=oid("genesis"), reason="taken over", targets=dict.fromkeys(targets, VERSION.digest))


def decision(name: str = "m1", **more: object) -> record.Decision:
    """An accepted merge by alice, approved by bob, that touches the target t."""
    fields = {
        "base": oid("genesis"),
        "revision": oid(name),
        "head": oid(f"{name}^2"),
        "verdict": model.Verdict.ACCEPT,
        "effect": model.sha256(name.encode()),
        "targets": {"t": model.sha256(name.encode())},
        "change": record.Ticket(ticket="CHG0012345"),
        "commits": (
            record.SignedCommit(oid=oid(f"{name}^2"), signer="alice", key_id="SHA256:a", author="alice <a@b>"),
        ),
        "merge_signature": record.MergeSignature(principal="forge", key_id="SHA256:f", algorithm="ssh-ed25519"),
        "approvals": (model.Approval(person="bob", level="A2", statement=model.sha256(b"envelope")),),
        "duties": record.Duties(authors=("alice",), excluded=("alice",)),
        "rules": (record.RuleResult(id="prod", paths=("targets/t/web.yaml",), need=("1 of sre (A2)",), got=("bob",)),),
    }
    return record.Decision.model_validate(fields | more)


def clearance(name: str = "m1", *outcomes: model.Outcome) -> record.Clearance:
    """What `opa` and `trivy` said of the target t; PASS where nothing is given."""
    said = dict(zip(("opa: compliance_policy", "trivy: image"), outcomes or [model.Outcome.PASS] * 2, strict=False))
    results = tuple(model.GateResult(outcome=o, check=check, targets=("t",)) for check, o in said.items())
    passed = all(r.outcome is model.Outcome.PASS for r in results)
    return record.Clearance(revision=oid(name), results=results, passed=passed)


def applied(deployment: str = "d1") -> record.Applied:
    key = model.Key("item/n/one")
    results = (model.StepResult(key=key, effect=model.Effect.CHANGED, identity="uid-1"),)
    return record.Applied(deployment=deployment, target="t", results=results, owned={key: "uid-1"})


def outcome(deployment: str = "d1", closed: model.Closed = model.Closed.SUCCEEDED) -> record.Outcome:
    return record.Outcome(deployment=deployment, target="t", closed=closed)


def write_history(process: log.Log) -> log.Log:
    """Ten records: taken over, a merge accepted and cleared, its deployment, a drift, an operator, a refused merge."""
    process.lease("watch")
    process.lease("target:t")
    process.append(genesis("t", "u"))
    process.append(decision())
    process.append(clearance())
    process.permit(intent(), evidence=(PLAN, SNAPSHOT), deadline_s=300)
    process.append(applied())
    process.append(outcome())
    process.append(record.Drift(target="t", keys=(model.Key("item/n/one"),), count=1), STUCK)
    process.append(record.Operator(actor="uid:1000", verb="reconcile", target="t", reason="INC1"), actor="uid:1000")
    process.append(decision("m2", verdict="REJECT", reasons=({"code": "unsigned_commit", "message": "no signature"},)))
    return process
