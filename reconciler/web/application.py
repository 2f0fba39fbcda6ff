"""What the surfaces ask of the process behind them. The daemon is one; the command line, where no daemon runs, is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from pydantic import JsonValue

from reconciler import model
from reconciler.admission import judging, policy, reviewing
from reconciler.audit import record, state
from reconciler.views import audit, plans, status, targets

Verb = Literal["suspend", "resume", "reconcile", "drop"]  # `rollback` names a deployment and has its own method


@dataclass(frozen=True)
class Actor:
    """Who asks, as the operating system says it; never what a request claims."""

    name: str
    verbs: frozenset[str] = frozenset()


NOBODY = Actor("nobody")  # whoever comes over TCP


class Application(Protocol):
    """Used by many threads at once. Every method may raise the errors of `errors.py`; they become problem documents.

    An application that meets an AuditError ends its process itself: the answer only tells the one who asked.
    """

    def facts(self) -> status.Facts: ...

    def ready(self) -> model.ValidationResult:
        """Why this process is not of use now; empty: it is. From memory, at once."""
        ...

    def state(self) -> state.State: ...

    def live(self) -> Mapping[str, targets.Live]:
        """What is known of targets beside the log, from memory, at once. A target that is missing was not looked at."""
        ...

    def rules(self) -> policy.Policy:
        """The approval policy in force: of the newest accepted commit that touched it.

        Raises: ConfigError where nothing was accepted yet.
        """
        ...

    def reviews(self) -> Mapping[model.Oid, reviewing.Reviewed]:
        """By merge, how far each review that an emergency owes has come. Reads the mirror only, never raises for one of them."""
        ...

    def now(self) -> datetime: ...

    def records(self, query: audit.Query) -> Sequence[record.Record]:
        """Oldest first, at most `query.limit`."""
        ...

    def read(self, seq: int) -> record.Record:
        """Raises: ConfigError(no_record)."""
        ...

    def values(self, kind: str, beginning: str = "", limit: int = -1) -> Sequence[str]:
        """By what records are found, of one kind of `audit.subject.KINDS`: the names that begin so, sorted."""
        ...

    def declared(self, target: str, version: model.Version, key: model.Key) -> JsonValue:
        """What this state of the target declares for a resource, secrets as references; None: nothing. Reads content only.

        Raises: ConfigError(field) where the target's kind cannot say; ConfigError for a document that cannot be read.
        """
        ...

    def verify_log(self) -> int:
        """Verify every record, proof and checkpoint that is stored; return how many records that were. Blocks for long.

        Raises: AuditError with what is broken.
        """
        ...

    def diff(self, target: str) -> plans.Preview:
        """Look at the target now and plan its wanted state. Reads only, blocks until the target's deadlines."""
        ...

    def plan(self, head: model.Oid | None) -> Sequence[plans.Preview]:
        """What merging `head` would write, for each target it touches; None: what the next turns would write."""
        ...

    def verify(self, head: model.Oid | None) -> Sequence[record.Decision | judging.Judged]:
        """Judge the automatic merge of `head`, or every first-parent commit after the last accepted one. Records nothing."""
        ...

    def run_gates(self, head: model.Oid) -> record.Clearance:
        """Run every gate on the automatic merge of `head`. Records nothing."""
        ...

    def operate(self, verb: Verb, target: str, *, actor: str, reason: str) -> None:
        """Record what an operator wants and wake the target. The verb was allowed to the actor; the target is known.

        Raises: ConfigError where the target's state does not allow it (`drop` of one that is not released).
        """
        ...

    def rollback(
        self, deployment: str, *, actor: str, reason: str, acknowledged: tuple[tuple[str, model.Key], ...]
    ) -> model.Version:
        """Pin the state before that deployment and wake its target; return that state.

        Raises: ConfigError(no_deployment | not_pinnable).
        """
        ...

    def submit(self, envelope: bytes) -> model.Digest:
        """Keep a signed statement where the next poll finds it; return the digest of its payload. Safe to repeat.

        Raises: ConfigError(envelope_invalid) for what no key known here has signed.
        """
        ...

    def metrics(self) -> bytes:
        """In Prometheus' text format."""
        ...
