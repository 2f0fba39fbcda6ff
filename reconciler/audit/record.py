"""What can happen: one frozen class per event, and the frame that the log puts around it (trust.md 9.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic

from reconciler import model

Code = Literal[
    "halted",
    "suspended",
    "withdrawn",
    "deferred",
    "dependency",
    "detect",
    "blocked",
    "degraded",
    "uncleared",
    "released",
    "failed",
    "pinned",
    "stuck",
]


class Genesis(model.Value):
    """Where trust starts, on the operator's authority. Its targets are observed; nothing is written to them yet.

    `converge`: the operator said that they may be.
    """

    type: Literal["genesis"] = "genesis"
    revision: model.Oid
    reason: str
    targets: Mapping[str, model.Digest]
    converge: bool = False


class Reset(model.Value):
    """The operator moved the pin. Approvals that were signed or seen before it count no more."""

    type: Literal["reset"] = "reset"
    before: model.Oid | None
    revision: model.Oid
    reason: str
    targets: Mapping[str, model.Digest]


class TakenOver(model.Value):
    """More targets of a genesis or a reset than one record holds; appended together with it.

    By itself, with `converge`: the operator said later that those of the genesis may be written.
    """

    type: Literal["taken_over"] = "taken_over"
    revision: model.Oid
    targets: Mapping[str, model.Digest]
    converge: bool = False


class Config(model.Value):
    """The daemon's own configuration is not what it was: its digest, and where it was read from."""

    type: Literal["config"] = "config"
    digest: model.Digest
    where: str


class Seen(model.Value):
    """A commit or an envelope was first held completely. Its frame time is t_obs."""

    type: Literal["seen"] = "seen"
    subject: str  # an Oid, or `sha256:` and the digest of an envelope


class SignedCommit(model.Value):
    """One commit that a merge brings in: who signed it, and who it claims to be by."""

    oid: model.Oid
    signer: str
    key_id: str
    author: str  # name <email>, as claimed


class MergeSignature(model.Value):
    principal: str
    key_id: str
    algorithm: str


class Ticket(model.Value):
    """Why the change is made, as its approvers signed it."""

    uri: str = ""
    ticket: str = ""
    risk: str = ""
    reason: str = ""
    security_impact: str = ""


class Duties(model.Value):
    authors: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


class RuleResult(model.Value):
    """One rule that a merge hit: what it needs, and who filled it."""

    id: str
    paths: tuple[str, ...]  # of those changed, the first 20 that it matches
    need: tuple[str, ...]  # "2 of sre (A2)"
    got: tuple[str, ...]  # people


class Emergency(model.Value):
    """The glass was broken for a merge (trust.md 5.3): by whom, why, and what it stood in for."""

    people: tuple[str, ...]
    incident: str
    reason: str
    until: model.Time  # the first of its statements ends: from then on freezes and windows hold again
    rules: tuple[str, ...] = ()  # whose slots nobody filled; none: it stood in for a freeze or a window only


class Decision(model.Value):
    """The verdict on one merge: who may. Every reason in it; recorded when new or changed, not at every poll."""

    type: Literal["decision"] = "decision"
    base: model.Oid  # A: the last accepted commit
    revision: model.Oid
    head: model.Oid | None = None
    verdict: model.Verdict
    reasons: tuple[model.Reason, ...] = ()
    effect: model.Digest | None = None  # what the approvals bind
    targets: Mapping[str, model.Digest | None] = {}  # touched: folder digest in M; None: the document is gone
    policies: model.Digest | None = None  # the same for policies/, where touched
    skipped: tuple[model.Oid, ...] = ()  # what a recovery merge passes over
    decided: model.Time | None = None  # t_dec
    auto_merge: bool = True  # M's tree is git's own merge of A and H
    change: Ticket = Ticket()
    commits: tuple[SignedCommit, ...] = ()
    merge_signature: MergeSignature | None = None
    approvals: tuple[model.Approval, ...] = ()
    duties: Duties = Duties()
    policy: model.Digest | None = None  # SHA-256 of the blob of the approval policy that judged
    rules: tuple[RuleResult, ...] = ()
    emergency: Emergency | None = None

    def same(self, other: Decision) -> bool:
        """Whether there is nothing new in it: the time of deciding alone is no news."""
        return self.model_copy(update={"decided": None}) == other.model_copy(update={"decided": None})


class Clearance(model.Value):
    """What the gates say of one accepted merge. `passed` only if every result is PASS and there is at least one."""

    type: Literal["clearance"] = "clearance"
    revision: model.Oid
    results: tuple[model.GateResult, ...]
    passed: bool
    renamed: Mapping[str, str] = {}  # target -> the one whose history and ownership it takes over (`formerly`)


class Intent(model.Value):
    """Durable before the first byte of one stage goes out. The first intent of a deployment opens it."""

    type: Literal["intent"] = "intent"
    deployment: str
    target: str
    wanted: model.Version
    cause: model.Cause
    decisions: tuple[int, ...]  # seq of every decision that touched the target since `before`
    clearance: int
    plan: model.Digest  # evidence
    before: model.Version  # the way back: where this target goes when this deployment fails or is undone
    snapshot: model.Digest  # evidence: the canonical state that was there
    actions: Mapping[model.Key, str]


class Applied(model.Value):
    """What became of one stage; also written by recovery, from a look, when the process died in between."""

    type: Literal["applied"] = "applied"
    deployment: str
    target: str
    results: tuple[model.StepResult, ...]
    owned: Mapping[model.Key, str | None]  # gained: identity; lost: None
    recovered: bool = False


class Outcome(model.Value):
    """A deployment closed, after its last look."""

    type: Literal["outcome"] = "outcome"
    deployment: str
    target: str
    closed: model.Closed
    reasons: tuple[model.Reason, ...] = ()
    fingerprint: model.Digest | None = None
    health: model.Health = model.Health.UNKNOWN
    started: model.Time | None = None


class Confirmed(model.Value):
    """A look found the wanted state already true and healthy: no deployment was needed."""

    type: Literal["confirmed"] = "confirmed"
    target: str
    version: model.Version
    fingerprint: model.Digest


class Drift(model.Value):
    """A target that rested is no longer as it was confirmed; `who` where the target can tell."""

    type: Literal["drift"] = "drift"
    target: str
    keys: tuple[model.Key, ...]  # the first 100
    count: int
    who: str = ""


class Standing(model.Value):
    """A target stays as it is for a reason, or (code None) no longer does. Transitions only."""

    type: Literal["standing"] = "standing"
    target: str
    code: Code | None
    reasons: tuple[model.Reason, ...] = ()
    until: model.Time | None = None


class Operator(model.Value):
    """Somebody asked. `actor` comes from the socket, never from the request. `reconcile` = try again what failed here."""

    type: Literal["operator"] = "operator"
    actor: str
    verb: Literal["suspend", "resume", "reconcile", "rollback", "drop"]
    target: str
    reason: str
    deployment: str = ""  # rollback: the one that it undoes
    pin: model.Version | None = None  # rollback: the `before` of that deployment
    acknowledged: tuple[tuple[str, model.Key], ...] = ()  # rollback: (hazard, key)


class Halt(model.Value):
    """The integrity alarms that stand from here on; what ended the others, where some ended."""

    type: Literal["halt"] = "halt"
    codes: tuple[str, ...]  # empty = cleared
    reasons: tuple[model.Reason, ...] = ()
    ended: tuple[str, ...] = ()
    why: str = ""  # what ended them; an operator's own words, where one did


class KeyRotated(model.Value):
    """Another key signs the log from here on. The checkpoint that ends with this record is signed by both (trust.md 9.2)."""

    type: Literal["key_rotated"] = "key_rotated"
    before: str  # OpenSSH public keys: "ssh-ed25519 AAAA..."
    after: str
    reason: str


class LogRecovered(model.Value):
    """An operator goes on with a log that had lost its end, under a name of its own (trust.md 9.4)."""

    type: Literal["log_recovered"] = "log_recovered"
    before: str  # the name that it had
    origin: str
    kept: int  # records
    signed: int  # records that the newest checkpoint that is known covers: those from `kept` on are lost
    checkpoint: str  # that checkpoint, as it was signed
    reason: str


class Obligation(model.Value):
    """Something is owed from here on, or no longer (trust.md 5.3).

    `review`: other people look at an emergency afterwards. `agree`: a target went back by itself, so Git says something else.
    """

    type: Literal["obligation"] = "obligation"
    change: Literal["opened", "closed"]
    kind: Literal["review", "agree"]
    revision: model.Oid  # the merge that is reviewed; the one whose state failed
    base: model.Oid | None = None  # review: the commit whose policy let it in
    head: model.Oid | None = None  # review: what it merged, and what a statement about it binds
    effect: model.Digest | None = None
    target: str = ""  # agree
    deployment: str = ""  # agree: the way back
    environments: tuple[str, ...] = ()
    people: tuple[str, ...] = ()  # opened: who broke the glass; closed: who reviewed
    barred: tuple[str, ...] = ()  # who may not review because they have a part in the change
    need: tuple[str, ...] = ()  # "2 of change-board (A2)"
    incident: str = ""
    reason: str = ""
    opened: model.Time | None = None
    due: model.Time | None = None  # from then on ordinary changes of these environments wait; None: nothing ever does
    statements: tuple[model.Digest, ...] = ()  # closed: the reviews


TargetEvent = Intent | Applied | Outcome | Confirmed | Drift | Standing
LogEvent = KeyRotated | LogRecovered
Event = (
    Genesis
    | Reset
    | TakenOver
    | Config
    | Seen
    | Decision
    | Clearance
    | Halt
    | Operator
    | Obligation
    | LogEvent
    | TargetEvent
)


def scope(event: Event) -> str:
    """Whose lease an append needs: `watch`, or `target:NAME`."""
    target = event.target if isinstance(event, TargetEvent | Obligation) else ""
    return f"target:{target}" if target else "watch"


class Record(model.Value):
    """An event in its frame: place, writer, time, chain. Its canonical JSON is the body of a row of the log, under 64 KiB."""

    record_schema: Literal["reconciler/record/v1"] = pydantic.Field(default="reconciler/record/v1", alias="schema")
    seq: int
    scope: str
    epoch: int
    prev: model.Digest  # the leaf hash of seq - 1, hex; 64 zeros for the first
    id: str  # UUIDv7
    at: model.Time
    node: str  # the holder of the lease: host and state folder
    actor: str = "daemon"
    daemon: Mapping[str, str] = {}  # version, config_sha256, process
    event: Annotated[Event, pydantic.Field(discriminator="type")]

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)
