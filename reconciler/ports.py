"""What the core asks of the outside. Each protocol carries its whole contract; a fake of each ships or stands in the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, JsonValue

from reconciler import model

T = TypeVar("T")


class Clock(Protocol):
    """Wall and monotonic time. One object in a process; `now` never goes back (a step back is HOLD(clock))."""

    def now(self) -> datetime:
        """UTC, cut to milliseconds."""
        ...

    def monotonic_s(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class Concurrency(Protocol):
    """Runs blocking calls side by side. The daemon gives each a thread; a simulation runs them in an order of its own."""

    def gather(self, calls: Sequence[Callable[[], T]], *, within_s: float) -> tuple[T | None, ...]:
        """Start all at once and return their answers in the order of `calls`; None for one that was late.

        A late call is abandoned, never joined. The calls do not raise.
        """
        ...


class Repository(Protocol):
    """Local objects by full id, re-hashed on every read. The daemon's mirror and a developer's clone are both one.

    Every method raises AuditError(object_hash) when bytes do not have the id they were asked for by, and
    TransientError(source_error) when an object is missing.
    """

    def commit(self, oid: model.Oid) -> bytes:
        """The raw commit object, without its header. At most 64 KiB, else PermanentError(limit)."""
        ...

    def read(self, oid: model.Oid) -> bytes:
        """A raw blob, capped at the repository's blob limit, else PermanentError(limit)."""
        ...

    def tree(self, commit: model.Oid) -> model.Tree:
        """Every blob of a commit's whole tree, gitlinks and symlinks too; what stands in it is not judged here.

        The id of a tree, as `automatic_merge` returns it, serves as well.

        Raises: PermanentError(limit) beyond the limits on files and depth.
        """
        ...

    def first_parents(self, tip: model.Oid, after: model.Oid) -> Iterator[model.Oid]:
        """The first-parent commits after `after` up to and with `tip`, oldest first; none where they are equal.

        Raises: PermanentError(rewind) when tip is an ancestor of after; (first_parent_broken) when after is reachable,
        but not along first parents; (non_descendant) when it is not reachable at all.
        """
        ...

    def brought_in(self, head: model.Oid, base: model.Oid) -> tuple[model.Oid, ...]:
        """`base..head`: every commit reachable from head and not from base, in topological order, parents first."""
        ...

    def merge_bases(self, one: model.Oid, other: model.Oid) -> tuple[model.Oid, ...]: ...

    def automatic_merge(self, base: model.Oid, head: model.Oid) -> model.Oid | None:
        """The tree id that git's own merge of the two commits gives; None where it conflicts."""
        ...

    def envelopes(self, head: model.Oid) -> tuple[bytes, ...]:
        """The raw approval envelopes that lie under `refs/approvals/v1/<12 digits of head>/`, in the order of their names.

        Raises: PermanentError(limit) beyond 4,096 names.
        """
        ...


class Source(Protocol):
    """The remote. The only network call of admission."""

    def fetch(self, after: model.Oid, heads: frozenset[model.Oid]) -> model.Oid:
        """Bring the watched ref into the mirror, then the approval refs of the heads that it newly brought and of `heads`,
        and of those that their branches had before they took in the watched one.

        Return the pinned tip. An idle fetch is one round trip.

        Raises: TransientError(source_error); PermanentError(ref_missing) when the remote answered and has no such ref.
        A source that cannot be read never looks like a deletion.
        """
        ...


class Answer(NamedTuple):
    """What a verifier of OpenPGP signatures said: its exit code, and its machine-readable status lines as printed."""

    code: int
    status: bytes


class OpenPgp(Protocol):
    """Asks about detached OpenPGP signatures. What the answer means is admission's to say: the exit code decides nothing."""

    def verify(self, payload: bytes, signature: bytes, keys: Sequence[bytes]) -> Answer:
        """Check a binary signature over these bytes, with these public keys, in their binary form, and no others.

        Raises: TransientError(verifier_error) where there is no answer: it is missing, it crashed, or it took too long.
        """
        ...


class Secrets(Protocol):
    """Resolves `vault:mount/path#key`, `env:NAME` and `file:/path` at the moment of use."""

    def resolve(self, reference: str) -> str:
        """Raises: ConfigError(secret) for a reference that has no such form; TransientError where its store is away."""
        ...


class Gate(Protocol):
    """One check. Made anew for each run, with the check's options bound."""

    def check(self, change: model.Change, deadline_s: float) -> model.GateResult:
        """Judge content. Reads only; may block until the deadline.

        Returns PASS or FAIL with findings (`where` is file:line of the desired state). Raises for anything else; the
        runner makes ERROR of that, and anything but PASS blocks.
        """
        ...


Gates = Mapping[str, Callable[[model.Check], Gate]]  # by name; entry points `reconciler.gates`


class Driver(Protocol):
    """One target of one kind. Used by one thread at a time, closed and made anew after anything it raised."""

    schema: ClassVar[type[BaseModel]]  # of the target's own part of target.yaml: what stands under the name of its type

    def validate(self, desired: model.Desired) -> model.ValidationResult:
        """What can be known without secrets and without writing; `where` is file:line."""
        ...

    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        """Look, and propose. Reads only. `owned`: key -> identity of all that the log says we wrote, so that leftovers are found.

        What is in `owned` and no longer wanted is observed with `wanted` None and a delete step. What nobody declared and
        is not ours stands in `foreign` and never has steps.
        """
        ...

    def apply(self, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> tuple[model.StepResult, ...]:
        """Write exactly these steps, each only where its `before` holds (else MOVED); arm the dead-man first where there is one.

        Safe to repeat. Raises OutcomeUnknownError where a write may have landed; never lies.
        """
        ...

    def confirm(self, wanted: model.Wanted, deployment: str) -> bool:
        """Over a fresh connection: disarm the dead-man, save to start-up. False: the target took it back. Repeatable."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Declaring(Protocol):
    """A driver that can also say, without looking, what a document declares: what `trace --field` asks."""

    def declared(self, desired: model.Desired) -> Mapping[model.Key, JsonValue]:
        """Every resource as the document has it, secrets as references. Touches nothing.

        Raises: ConfigError where the document cannot be read.
        """
        ...


class Rendered(NamedTuple):
    """What becomes of a payload before it is applied, and the files that go in and need be no documents themselves."""

    where: str  # of the text: what a finding's line is a line of
    text: bytes  # YAML, several documents
    inputs: frozenset[str]


@runtime_checkable
class Rendering(Protocol):
    """A driver whose payload may be rendered: what it will send is more than what the files show."""

    def references(self, desired: model.Desired) -> Sequence[tuple[str, str]]:
        """Every secret that this payload will be sent with, and file:line of what names it. As `validate`, without secrets."""
        ...

    def rendered(self, desired: model.Desired) -> Rendered | None:
        """What the gates judge beside the files; None where the files are applied as they are.

        Raises: ConfigError where the payload cannot be rendered; TransientError where the renderer is away.
        """
        ...


@runtime_checkable
class Previewing(Protocol):
    """A driver that can look for an unmerged state without reading what nothing but that state names (design.md 9)."""

    def preview(
        self, wanted: model.Desired, owned: Mapping[model.Key, str], known: AbstractSet[model.Key], deadline_s: float
    ) -> model.Look:
        """As `observe`; of a key outside `known` only the wanted side is shown, as if nothing were there, and nobody is asked."""
        ...


@runtime_checkable
class Rehearsing(Protocol):
    """A driver whose target can try a write without keeping it. Only previews ask; no deployment rests on the answer."""

    def rehearse(
        self, wanted: model.Wanted, steps: Sequence[model.Step], deadline_s: float
    ) -> Mapping[model.Key, model.Rehearsed]:
        """Have the target judge these steps of a plan, after the look that the plan was made from. Writes nothing.

        A step that would send nothing has no answer. What was not asked by the deadline is unproven, as is what rests on
        something that only an earlier stage brings. Diffs and reasons are masked.
        """
        ...


Drivers = Mapping[
    str, Callable[[], Driver]
]  # by kind; entry points `reconciler.targets`, secrets bound by the composition root


class Reach(Protocol):
    """What the policy in force lets a target contact (trust.md 4.1).

    The gate `schema` holds what a document says against it; a driver asks about what it learns later: a host that stands in
    a resolved secret.
    """

    def allows(self, wanted: model.Wanted, host: str) -> bool:
        """Whether it may contact this lower-case name or address, without port.

        Raises: as reading the policy does.
        """
        ...


class Nowhere:
    """Allows nothing: a clone, which has no policy in force, and whatever was forgotten."""

    def allows(self, wanted: model.Wanted, host: str) -> bool:  # noqa: ARG002 - the port passes them
        return False


NOWHERE = Nowhere()


class Signer(Protocol):
    """Signs checkpoints. A file first, a KMS later."""

    public: bytes  # raw Ed25519, 32 bytes

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519."""
        ...


def wake_nobody(target: str) -> None:
    """For whoever takes no turns: a preview, a single pass, a test."""


@dataclass(frozen=True)
class DriverFacilities:
    """What the composition root hands to a driver: `entry_point(facilities)` makes one."""

    installation: str  # names ownership marks
    state: Path  # a private folder of this kind of driver, 0700, made on first use
    local_roots: tuple[Path, ...]  # what the daemon's configuration lets the local transport write
    secrets: Secrets
    clock: Clock
    reach: Reach = NOWHERE  # asked before a host is contacted that only a secret names
    wake: Callable[[str], None] = wake_nobody  # `Watch` of targets.md 1.2: from any thread, that this target has moved


@dataclass(frozen=True)
class GateFacilities:
    """What the composition root hands to a gate: `entry_point(check, facilities)` makes one."""

    repository: Repository
    drivers: Drivers
    clock: Clock
    production: bool  # the profile: embedded stand-ins are refused where it is true
