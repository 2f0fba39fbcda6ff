"""The nouns: frozen values. No I/O, no clock, no vendor; what the log keeps, the API prints and mypy checks is one class."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple, NewType, Self

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer

from reconciler import errors

Oid = NewType("Oid", str)  # full Git object id
Digest = NewType("Digest", str)  # lower-case hex SHA-256
Key = NewType("Key", str)  # "[member:]kind/namespace/name", unique in a target
Document = Mapping[str, JsonValue]

_MAX_NAMED = 5  # of those who changed something
_MOST = 2**53 - 1  # beyond it a number may not be exact everywhere (RFC 8785, appendix B)


def utc_ms(at: datetime) -> datetime:
    """The same instant in UTC, cut to the milliseconds that the log keeps."""
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    return at if at.microsecond % 1000 == 0 else at.replace(microsecond=at.microsecond // 1000 * 1000)


def print_time(at: datetime) -> str:
    """`2026-11-24T10:44:14.123Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, AfterValidator(utc_ms), PlainSerializer(print_time, return_type=str, when_used="json")]


def sha256(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


def canonical_json(value: JsonValue) -> bytes:
    """RFC 8785.

    Raises: ValueError for what has no canonical form (NaN, integers beyond 2^53, lone surrogates).
    """
    # The standard library writes the same bytes for what most documents are made of, and many times faster.
    if _is_plain(value):
        return _ENCODER.encode(value).encode()
    return rfc8785.dumps(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _is_plain(value: JsonValue) -> bool:
    """Whether there is no number to round and no key that UTF-16 sorts otherwise: where RFC 8785 asks for more than JSON."""
    if isinstance(value, str) or value is None:
        return True
    if isinstance(value, dict):
        # Most values are texts: those are not worth a call each.
        return all(map(str.isascii, value)) and all(type(v) is str or _is_plain(v) for v in value.values())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, int) and -_MOST <= value <= _MOST


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def canonical(self) -> bytes:
        """The bytes that digests and the log are made of: RFC 8785 of the JSON form."""
        return canonical_json(self.model_dump(mode="json"))

    def sha256(self) -> Digest:
        return sha256(self.canonical())


class Reason(Value):
    """Why not. `code` is stable; `where` is file:line, a commit or a person; `fix` says what to do."""

    code: str
    message: str
    where: str = ""
    fix: str = ""
    rule: str = Field(default="", exclude_if=lambda rule: not rule)  # of a gate's finding, where it is not its code

    @classmethod
    def of(cls, exc: errors.ReconcilerError) -> Self:
        return cls(code=exc.code, message=exc.message, where=exc.where, fix=exc.fix)


ValidationResult = tuple[Reason, ...]  # empty: nothing speaks against it


class Entry(NamedTuple):
    """One blob of a tree."""

    mode: str  # six digits: 100644, 100755, 120000, 160000
    oid: Oid
    sha256: Digest  # of the raw blob; empty for a gitlink, which has none


Tree = Mapping[bytes, Entry]  # raw path from the repository's root -> blob


# --- what a target should be --------------------------------------------------------------------------------------


class Version(Value):
    """A state of a target by name: the digest of its folder and a revision that holds it; or, without one, a snapshot.

    Accepted, cleared, confirmed, pinned and the way back are all Versions. Equal digests are the same state.
    """

    revision: Oid | None
    digest: Digest
    folder: str = ""  # under targets/, from before the target was renamed; empty: its own name


class Mode(enum.StrEnum):
    CORRECT = "correct"
    DETECT = "detect"
    ABSENT = "absent"


class Acknowledgement(Value):
    hazard: str
    key: Key
    reason: str


class Check(Value):
    """One line of `deploy.checks`: `sonarqube: quality_gate`, with its options beside it."""

    gate: str
    profile: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """`opa: compliance_policy`."""
        return f"{self.gate}: {self.profile}" if self.profile else self.gate


class Ignore(Value):
    """A field that is left to its owner: neither compared nor sent. `key` may hold `*` within a segment."""

    key: str
    path: str
    reason: str
    owner: str = ""
    until: str = ""  # a date; afterwards the entry no longer holds


class Probe(Value):
    """One line of `health`: `port`, `http` or `file`, with its fields. Probes run no command."""

    kind: str
    fields: Document


class Deadlines(Value):
    """All of them in seconds; none is unlimited (targets.md 1.7)."""

    connect_s: float = 10
    command_s: float = 30
    stage_s: float = 300
    health_s: float = 600  # since the last write of a deployment
    total_s: float = 1800  # since the deployment opened


class _Settings(Value):
    target: str
    kind: str
    connection: Document  # references to secrets, never secrets
    mode: Mode = Mode.CORRECT
    interval_s: float = 60
    deadlines: Deadlines = Deadlines()
    max_deletes: int = 5
    max_delete_percent: int = 10
    adopt: frozenset[Key] = frozenset()
    ignore: tuple[Ignore, ...] = ()
    probes: tuple[Probe, ...] = ()
    rollout: tuple[int | str, ...] = ()  # sizes of the batches of members: 1, "10%", "100%"
    max_failed: int = 0  # members of a batch that may be sick before the rollout stops


class Desired(_Settings):
    """What one target should be at one revision: its document and its payload, under the digest of its folder."""

    revision: Oid
    digest: Digest  # of the raw blobs, known before anything was parsed
    environment: str
    labels: Mapping[str, str] = {}
    spec: Document  # the driver's own part of target.yaml: what stands under the name of its type
    payload: Mapping[str, bytes]  # path in the folder -> raw blob; nothing where the mode is `absent`
    depends_on: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    formerly: str = ""
    folder: str = ""  # as in its Version
    given_back: Mapping[Key, JsonValue] = {}  # not declared here: what a failed change adopted, put back as it was


class Snapshot(_Settings):
    """The canonical state before a first deployment; wanted only where nothing was ever confirmed."""

    resources: Mapping[Key, JsonValue]

    @property
    def digest(self) -> Digest:
        return self.sha256()


Wanted = Desired | Snapshot


# --- may it go in, may it go out? -----------------------------------------------------------------------------------


class Verdict(enum.StrEnum):
    ACCEPT = "ACCEPT"
    HOLD = "HOLD"
    REJECT = "REJECT"
    HALT = "HALT"


class Approval(Value):
    """One statement as judged for one merge; `reason` says why it does not count."""

    person: str
    level: str
    decision: str = "approve"
    key_id: str = ""  # SHA256:... of the signing key
    statement: Digest  # of the payload
    issued_at: str = ""  # as claimed inside; grants nothing
    reason: Reason | None = None


class Change(Value):
    """What one merge asks of the targets it touches: each from its last confirmed state to the wanted one.

    Content only: a gate never sees a live target. Missing in `before`: nothing was confirmed; in `after`: released.
    """

    revision: Oid
    head: Oid | None
    policies: Oid  # where Rego and the approval policy are read from: the newest accepted commit that touched policies/
    targets: frozenset[str]
    before: Mapping[str, Desired]
    after: Mapping[str, Desired]
    acknowledged: Mapping[str, frozenset[tuple[str, Key]]] = {}  # target -> (hazard, key) added since it was confirmed
    owned: Mapping[str, int] = {}  # target -> how many resources are ours, as the log says; missing: nobody knows

    def only(self, targets: frozenset[str]) -> Change:
        def cut(side: Mapping[str, Desired]) -> dict[str, Desired]:
            return {name: desired for name, desired in side.items() if name in targets}

        return self.model_copy(update={"targets": targets, "before": cut(self.before), "after": cut(self.after)})


class Outcome(enum.StrEnum):
    PASS = "PASS"
    WAIVED = "WAIVED"  # it says no, and enough people answer for each of its findings
    FAIL = "FAIL"
    ERROR = "ERROR"


WARNING = "warning"  # the code of a finding that blocks nothing
NOBODYS = "-"  # the rule of one that hides others: nobody can answer for it


class Waived(Value):
    """A rule of one gate that people answer for, for one merge."""

    rule: str
    people: tuple[str, ...]
    reasons: tuple[str, ...]  # as each of them signed it
    statements: tuple[Digest, ...]
    until: Time


class GateResult(Value):
    """What one check says of the targets that asked for it; `check`, `targets` and `duration_ms` are filled in by the runner."""

    outcome: Outcome
    findings: tuple[Reason, ...] = ()
    evidence: Digest | None = None  # of the full report, where there is more than the findings
    duration_ms: int = 0
    check: str = ""  # "opa: compliance_policy"
    targets: tuple[str, ...] = ()
    waived: tuple[Waived, ...] = Field(default=(), exclude_if=lambda waived: not waived)

    @property
    def gate(self) -> str:
        return self.check.partition(":")[0]

    @property
    def blocks(self) -> bool:
        return self.outcome not in {Outcome.PASS, Outcome.WAIVED}


# --- make it so -----------------------------------------------------------------------------------------------------


class Health(enum.StrEnum):
    HEALTHY = "HEALTHY"
    PROGRESSING = "PROGRESSING"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"


class Step(Value):
    """One write. `before` is the digest of the resource that it may replace: apply refuses to write over another."""

    key: Key
    action: str  # create, update, replace, delete, quarantine, run
    command: str  # as it will be sent, secrets as references
    before: Digest | None  # None: absent
    undo: str | None = None  # evidence for people, never replayed; None: no way back
    hazards: tuple[str, ...] = ()
    diff: str = ""  # unified, masked, for people; empty where there is no text to compare
    impact: str = ""  # what goes with it, for people: what a delete takes along


class Observation(Value):
    """One resource of a target, both sides in the target's canonical form."""

    key: Key
    wanted: JsonValue  # None = absent
    actual: JsonValue
    marked: bool = True  # the target itself says that it is ours: label, ledger, marker
    identity: str = ""  # uid, inode or nothing
    order: int = 0  # stage within one member
    health: Health = Health.UNKNOWN
    steps: tuple[Step, ...] = ()
    source: str = ""  # file:line of the desired state that declares it
    changed_by: str = ""  # who moved it from what was written, where the target can tell; for people

    @property
    def member(self) -> str:
        head, _, rest = self.key.partition(":")
        return head if rest else ""


class Look(Value):
    """Everything one `observe` saw. Anything in `errors` is neither equal, absent nor deletable."""

    observations: tuple[Observation, ...]
    foreign: tuple[Observation, ...] = ()
    fingerprint: Digest
    health: Health  # probes of the whole target included
    findings: tuple[Reason, ...] = ()  # why the whole is not healthy: the probes that said no
    errors: Mapping[Key, Reason] = {}  # a key, or a prefix such as "member:"; "" is the whole target
    busy: bool = False  # an earlier apply still runs there: what it does is not yet seen
    reverted: str | None = None  # the deployment that the target's dead-man took back

    def changed_by(self, keys: Iterable[Key]) -> str:
        """Who moved these, where the target can tell: the first few, for people."""
        wanted = frozenset(keys)
        found = dict.fromkeys(seen.changed_by for seen in self.observations if seen.key in wanted and seen.changed_by)
        named = list(found)[:_MAX_NAMED]
        return ", ".join(named) + (", ..." if len(found) > len(named) else "")


class Stage(Value):
    """What one `apply` writes: one batch of members, one order within them."""

    batch: int
    order: int
    steps: tuple[Step, ...]


class Plan(Value):
    """From a look to the wanted state. Empty = converged (if healthy). `refusals` non-empty = may not be applied."""

    target: str
    wanted: Digest
    fingerprint: Digest
    stages: tuple[Stage, ...]
    refusals: tuple[Reason, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for stage in self.stages for step in stage.steps)


class DryRun(enum.StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNPROVEN = "unproven"  # the target cannot say, or was not asked


class Rehearsed(Value):
    """What a target answered when a step was tried on it and not kept. `reasons`: what it said no to, or why it cannot say."""

    outcome: DryRun
    diff: str = ""  # as `Step.diff`, but what the target would make of it: defaults and its own rules included
    reasons: tuple[Reason, ...] = ()

    @classmethod
    def unproven(cls, reason: Reason) -> Self:
        return cls(outcome=DryRun.UNPROVEN, reasons=(reason,))


class Permit(Value):
    """Leave to write one stage. Only `audit.log.Log.permit` makes one, once the intent is durable."""

    deployment: str
    epoch: int  # of the lease `target:NAME`: a target that can fence refuses an older one
    seq: int
    deadline_s: float


class Effect(enum.StrEnum):
    CHANGED = "CHANGED"
    UNCHANGED = "UNCHANGED"
    FAILED = "FAILED"
    MOVED = "MOVED"  # `before` did not hold: nothing written
    REVERTED = "REVERTED"
    SKIPPED = "SKIPPED"
    UNKNOWN = "UNKNOWN"


class StepResult(Value):
    key: Key
    effect: Effect
    identity: str = ""
    finding: Reason | None = None


class Closed(enum.StrEnum):
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"


class Cause(enum.StrEnum):
    CHANGE = "change"
    DRIFT = "drift"
    ROLLBACK = "rollback"


class Deployment(Value):
    """From the first intent to the outcome; open while `closed` is None."""

    id: str
    target: str
    wanted: Version
    cause: Cause
    started: Time
    written: Time | None = None  # when a stage was last accounted for
    ended: Time | None = None
    unsettled: Mapping[Key, str] = {}  # key -> action of an intent without its `applied`
    refused: tuple[Reason, ...] = ()  # steps that the target said no to
    fruitless: int = 0  # stages in a row that changed nothing: moved away, or lost and not there
    deleted: int = 0  # spent of the delete budget
    created: frozenset[Key] = frozenset()
    closed: Closed | None = None
    reasons: tuple[Reason, ...] = ()

    def due(self, wanted: Wanted) -> datetime:
        """The deadline: `health` since the last write, `total` since it opened."""
        limits = wanted.deadlines
        return min(
            (self.written or self.started) + timedelta(seconds=limits.health_s),
            self.started + timedelta(seconds=limits.total_s),
        )
