"""May an accepted merge go out? Every check of every target that it touches, all at once, one deadline (design.md 2 and 8).

Level-triggered: whatever merge the log shows as accepted and not cleared is cleared, after a restart too. Nothing here
holds up judging, other merges or a target's turn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from reconciler import documents, errors, model, ports
from reconciler.admission import form, policy, waiving
from reconciler.audit import log, record, state

ALWAYS = ("rollback", "schema")
PURE = frozenset({"opa", "rollback", "schema"})  # Functions of their input alone.
BACK_OFF_S = (5.0, 900.0)
ROLLBACK_WINDOW_S = 14 * 86400.0  # Where the policy names none.
FINDINGS_KEPT = 20  # In the record; all of them are evidence.
WAIVERS_S = 30.0  # Between looks for a waiver: a poll brings them.


@dataclass(frozen=True)
class Suite:
    """How gates are run: which there are, how long they may take, and side by side on what."""

    gates: ports.Gates
    concurrency: ports.Concurrency
    clock: ports.Clock
    per_gate_s: float = 90
    within_s: float = 110
    denied: form.Denied = field(default_factory=form.Denied)  # whose waivers never count


class Sides(NamedTuple):
    """One touched target as it was last confirmed (at genesis: taken over), in the merge's first parent, and in the merge."""

    confirmed: documents.TargetDocument | None
    parent: documents.TargetDocument | None
    merged: documents.TargetDocument | None

    @property
    def documents(self) -> tuple[documents.TargetDocument, ...]:
        return tuple(side for side in self if side)


def clear(revision: model.Oid, repository: ports.Repository, audit: log.Log, suite: Suite) -> float | None:
    """Try to clear one merge and record what is new; return the seconds until the next try, None when that is over.

    Over: passed, overtaken, or a FAIL, until its input changes or somebody asks (`reconcile`). An ERROR is tried again
    after as long as has already been waited: back-off without a counter, across restarts. Blocks for the gates.

    A FAIL that people may answer for is looked at again for their waivers; where they suffice the gates are asked anew.
    """
    known = audit.state
    merge = known.pending.get(revision)
    if merge is None or (_failed(merge.results) and not _may_be_waived(merge.results, repository, known)):
        return None
    if _failed(merge.results) and not passes(_waive(merge.results, merge.decision, repository, known, suite)[0]):
        return WAIVERS_S
    envelopes: tuple[bytes, ...] = ()
    renamed: dict[str, str] = {}
    try:
        sides = read_sides(repository, merge, known)
        renamed = renames(repository, sides, known, revision)
        change = make_change(sides, known, revision, head=merge.decision.head)
        results = _ask(sides, change, repository, known, suite)
        results, envelopes = _waive(results, merge.decision, repository, known, suite)
    except errors.ConfigError as exc:  # A document that nobody can read is its own merge's failure, and no one else's.
        unreadable = model.GateResult(outcome=model.Outcome.FAIL, findings=(model.Reason.of(exc),), check="schema")
        results = (unreadable.model_copy(update={"targets": tuple(sorted(known.moves(merge)))}),)
    if (audit.state.moves(merge), audit.state.policies) != (known.moves(merge), known.policies):
        return 0  # The question has changed meanwhile: ask again.
    passed = passes(results)
    if [(r.check, r.outcome) for r in results] != [(r.check, r.outcome) for r in merge.results]:
        kept = tuple(_keep(r) for r in results)
        event = record.Clearance(
            revision=revision, results=tuple(r for r, _ in kept), passed=passed, renamed=renamed if passed else {}
        )
        audit.append(event, evidence=(*(report for _, report in kept if report), *envelopes))
    if passed:
        return None
    if _failed(results):
        return WAIVERS_S if _may_be_waived(results, repository, known) else None
    waited_s = (suite.clock.now() - merge.at).total_seconds()
    return min(max(waited_s, BACK_OFF_S[0]), BACK_OFF_S[1])


def preview(
    decision: record.Decision, repository: ports.Repository, known: state.State, suite: Suite, *, by_log: bool = True
) -> tuple[model.GateResult, ...]:
    """What the gates would say of a merge that is not in history yet, its waivers counted. Records nothing.

    `by_log`: `known` is the fold of the log; a clone has none, and does not know what is owned.

    Raises: ConfigError when a document of it cannot be read.
    """
    merge = state.Merge(decision=decision, seq=known.size, at=suite.clock.now())
    sides = read_sides(repository, merge, known)
    change = make_change(sides, known, decision.revision, head=decision.head)
    change = change if by_log else change.model_copy(update={"owned": {}})
    return _waive(_ask(sides, change, repository, known, suite), decision, repository, known, suite)[0]


def recheck(
    name: str, version: model.Version, repository: ports.Repository, known: state.State, suite: Suite
) -> model.ValidationResult:
    """Why an operator may not go back to this state: not confirmed here within the rollback window, or a pure gate says no today."""
    document = None
    if version.revision:
        document = documents.read_version(repository, version, name)
    rules = _rules(repository, known)
    if document is None or not _returns(known.target(name), version.digest, rules, suite.clock.now()):
        message = f"{name}: {version.digest[:12]} was not its confirmed state within the rollback window"
        return (model.Reason(code="not_confirmed", message=message),)
    sides = {name: Sides(None, None, document)}
    change = make_change(sides, known, document.desired.revision)
    results = _ask(sides, change, repository, known, suite)
    return tuple(
        model.Reason(code="gate", message=f"{r.check}: {r.outcome}")
        for r in results
        if r.outcome is not model.Outcome.PASS
    )


def passes(results: tuple[model.GateResult, ...]) -> bool:
    """An empty list never passes."""
    return bool(results) and not any(r.blocks for r in results)


def read_sides(repository: ports.Repository, merge: state.Merge, known: state.State) -> dict[str, Sides]:
    """Raises: ConfigError when what is wanted cannot be read. A first parent may be unreadable: this merge may mend it."""

    def read(name: str, version: model.Version | None) -> documents.TargetDocument | None:
        return documents.read_version(repository, version, name) if version else None

    sides = {}
    for name, digest in known.moves(merge).items():
        merged = read(name, model.Version(revision=merge.decision.revision, digest=digest)) if digest else None
        was = _was(name, merged, known)
        target, parent = known.target(was), None
        taken = target.cleared if target.taken_over else None
        origin = target.confirmed if target.confirmed and target.confirmed.revision else taken
        if origin and was != name and not origin.folder:
            origin = origin.model_copy(update={"folder": was})
        with contextlib.suppress(errors.ConfigError):
            parent = documents.read_target(repository, merge.decision.base, was)
        sides[name] = Sides(read(name, origin), parent, merged)
    return sides


def renames(
    repository: ports.Repository, sides: Mapping[str, Sides], known: state.State, revision: model.Oid
) -> dict[str, str]:
    """Target -> the one that it was: its document says `formerly`, and that one's folder is gone in this revision.

    Raises: ConfigError(formerly) where it may not take over: the folder is still there, or type or connection differ;
    TransientError(busy) while the old one is being written.
    """
    found = {}
    for name, side in sides.items():
        was = _was(name, side.merged, known)
        if was == name or side.merged is None:
            continue
        where = f"targets/{name}/target.yaml"
        if documents.target_digest(repository.tree(revision), was) is not None:
            fix = f"remove targets/{was}/ in the same merge"
            raise errors.ConfigError("formerly", f"the folder of {was} is still there", where=where, fix=fix)
        old, new = side.confirmed or side.parent, side.merged
        if old is None or (old.desired.kind, old.desired.connection) != (new.desired.kind, new.desired.connection):
            fix = "rename first, and change type or connection in a merge after that"
            raise errors.ConfigError("formerly", f"{was} had another type or connection", where=where, fix=fix)
        if known.target(was).open:
            raise errors.TransientError("busy", f"{was} is being written; the rename waits for that")
        found[name] = was
    return found


def _was(name: str, merged: documents.TargetDocument | None, known: state.State) -> str:
    """Whose history a target continues: its own, or, new here, that of the one that it says it was."""
    formerly = merged.desired.formerly if merged else ""
    mine, other = known.target(name), known.targets.get(formerly)
    takes_over = other is not None and not other.released and not (mine.confirmed or mine.owned)
    return formerly if takes_over else name


def make_change(
    sides: Mapping[str, Sides], known: state.State, revision: model.Oid, *, head: model.Oid | None = None
) -> model.Change:
    """Not from the merge's first parent: what a blocked merge brought in was never cleared, so the next one carries it."""
    acknowledged = {
        name: frozenset(
            (a.hazard, a.key) for a in s.merged.acknowledge - (s.confirmed.acknowledge if s.confirmed else frozenset())
        )
        for name, s in sides.items()
        if s.merged
    }
    return model.Change(
        revision=revision,
        head=head,
        policies=known.policies or revision,
        targets=frozenset(sides),
        before={n: s.confirmed.desired for n, s in sides.items() if s.confirmed},
        after={n: s.merged.desired for n, s in sides.items() if s.merged},
        acknowledged=acknowledged,
        owned={n: len(known.target(_was(n, s.merged, known)).owned) for n, s in sides.items()},
    )


def checks_for(
    sides: Mapping[str, Sides], rules: policy.Policy, returning: frozenset[str], *, implemented: Container[str]
) -> dict[model.Check, frozenset[str]]:
    """Check -> the targets it concerns: what any side lists, what the policy requires, and `ALWAYS`.

    A change may only add: options that stood before hold, and a check that is dropped runs once more. A target that
    returns to a state which it had waits for no scanner: only the pure gates are asked again. A name that nobody
    implements and only the first parent lists never ran: correcting it is enough.
    """
    asked: dict[model.Check, frozenset[str]] = {}
    for name in sorted(sides):
        stood = [side.desired for side in sides[name].documents]
        listed: dict[tuple[str, str], model.Check] = {}
        for side in sides[name].documents:
            for check in side.desired.checks:
                if check.gate in implemented or side is not sides[name].parent:
                    listed.setdefault((check.gate, check.profile), check)
        required = {*ALWAYS, *(gate for side in stood for gate in rules.gates.required.get(side.environment, ()))}
        for gate in sorted(required - {gate for gate, _ in listed}):
            listed[gate, ""] = model.Check(gate=gate)
        for check in (c for c in listed.values() if name not in returning or c.gate in PURE):
            asked[check] = asked.get(check, frozenset()) | {name}
    return asked


def run_checks(
    asked: Mapping[model.Check, frozenset[str]], change: model.Change, suite: Suite
) -> tuple[model.GateResult, ...]:
    """Start all at once and wait for the deadline at most; one result for each check, in their order. Late = ERROR."""
    within_s = min(suite.per_gate_s, suite.within_s)
    calls = [_call(check, change.only(targets), suite) for check, targets in asked.items()]
    answers = suite.concurrency.gather(calls, within_s=within_s)
    late = _error("late", f"no answer within {within_s:.0f} s")
    return tuple(
        (answer or late).model_copy(update={"check": check.title, "targets": tuple(sorted(targets))})
        for (check, targets), answer in zip(asked.items(), answers, strict=True)
    )


def _ask(
    sides: Mapping[str, Sides], change: model.Change, repository: ports.Repository, known: state.State, suite: Suite
) -> tuple[model.GateResult, ...]:
    """`schema` first: nothing else is called for what its environment limits forbid. Then all the others at once."""
    rules, now = _rules(repository, known), suite.clock.now()
    returning = frozenset(
        n for n, s in sides.items() if s.merged and _returns(known.target(n), s.merged.desired.digest, rules, now)
    )
    asked = checks_for(sides, rules, returning, implemented=suite.gates)
    schema = {check: targets for check, targets in asked.items() if check.gate == "schema"}
    results = run_checks(schema, change, suite)
    if not passes(results):
        return results
    return results + run_checks({c: t for c, t in asked.items() if c not in schema}, change, suite)


def _call(check: model.Check, change: model.Change, suite: Suite) -> Callable[[], model.GateResult]:
    def call() -> model.GateResult:
        begun = suite.clock.monotonic_s()
        result = _check(check, change, suite)
        return result.model_copy(update={"duration_ms": int((suite.clock.monotonic_s() - begun) * 1000)})

    return call


def _check(check: model.Check, change: model.Change, suite: Suite) -> model.GateResult:
    if check.gate not in suite.gates:
        known = ", ".join(sorted(suite.gates))
        return _error("unknown_check", f"nobody implements the check {check.title!r}", fix=f"checks here: {known}")
    try:
        return suite.gates[check.gate](check).check(change, suite.per_gate_s)
    except errors.ReconcilerError as exc:
        return model.GateResult(outcome=model.Outcome.ERROR, findings=(model.Reason.of(exc),))
    except Exception as exc:  # noqa: BLE001 - a gate that breaks, whatever the way, blocks with its own reason
        return _error("broken", f"the gate broke: {type(exc).__name__}")


def _may_be_waived(results: tuple[model.GateResult, ...], repository: ports.Repository, known: state.State) -> bool:
    """Whether nothing but people's word is missing: every result that blocks is a FAIL which the policy lets them answer for."""
    try:
        rules = _rules(repository, known)
    except errors.ConfigError:
        return False
    return all(r.outcome is model.Outcome.FAIL and waiving.may_be_waived(rules, r.gate) for r in results if r.blocks)


def _waive(
    results: tuple[model.GateResult, ...],
    decision: record.Decision,
    repository: ports.Repository,
    known: state.State,
    suite: Suite,
) -> tuple[tuple[model.GateResult, ...], tuple[bytes, ...]]:
    """The results with what people answer for, and the statements of these; by the policy in force now."""
    if not _failed(results):
        return results, ()
    rules = _rules(repository, known)
    around = waiving.Circumstances(suite.clock.now(), suite.denied, known.reset)
    found = waiving.find(repository, decision, rules, around)
    return waiving.waive(results, found, rules), found.envelopes


def _rules(repository: ports.Repository, known: state.State) -> policy.Policy:
    """Of the newest accepted commit, whatever the merge stood on: a gate asks what is forbidden now."""
    if known.policies is None:
        raise errors.ConfigError(
            "policy", "no policy was ever accepted", fix="pin a genesis that has policies/approval.yaml"
        )
    return policy.read_policy(repository, known.policies)


def _returns(target: state.Target, digest: model.Digest, rules: policy.Policy, now: datetime) -> bool:
    """Whether this was the target's confirmed state at some moment of the rollback window."""
    if target.confirmed is not None and target.confirmed.digest == digest:
        return True
    left = target.past.get(digest)
    within_s = rules.rollback.within if rules.rollback else ROLLBACK_WINDOW_S
    return left is not None and (now - left).total_seconds() <= within_s


def _keep(result: model.GateResult) -> tuple[model.GateResult, bytes]:
    """What the record keeps of a result, and the whole of it as evidence where that is more."""
    if len(result.findings) <= FINDINGS_KEPT:
        return result, b""
    report = result.canonical()
    cut = {"findings": result.findings[:FINDINGS_KEPT], "evidence": model.sha256(report)}
    return result.model_copy(update=cut), report


def _error(code: str, message: str, *, fix: str = "") -> model.GateResult:
    reason = model.Reason(code=code, message=message, fix=fix)
    return model.GateResult(outcome=model.Outcome.ERROR, findings=(reason,))


def _failed(results: tuple[model.GateResult, ...]) -> bool:
    return any(r.outcome is model.Outcome.FAIL for r in results)
