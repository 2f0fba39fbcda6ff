"""The laws: what must hold whatever the schedule does. Each is a function with the sentence that it stands for.

They read the log as an auditor would, from the bytes that are stored, and hold it against what the simulation knows to be
true: who approved what, what was written where. The product's fold is one of the things under test; it is used here only
to be compared with itself.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue
from simulation import world

from reconciler import model
from reconciler.audit import chain, record, state, verification

EVIL = "evil"


class Broken(AssertionError):
    """A law does not hold."""


@dataclass
class History:
    """One target, as an auditor reads it from the records."""

    name: str
    cleared: model.Version | None = None
    cleared_at: int = -1
    accepted: set[model.Digest] = field(default_factory=set)
    passed: set[model.Digest] = field(default_factory=set)
    taken_over: bool = False
    released: bool = False
    dropped: bool = False
    confirmed: model.Digest | None = None
    ever_confirmed: set[model.Digest] = field(default_factory=set)
    snapshots: set[model.Digest] = field(default_factory=set)
    failed: set[model.Digest] = field(default_factory=set)
    suspended: bool = False
    pinned: model.Digest | None = None
    open: record.Intent | None = None  # the first of the open deployment
    unsettled: record.Intent | None = None
    closed: dict[str, model.Closed] = field(default_factory=dict)
    owned: set[model.Key] = field(default_factory=set)
    adopted: dict[model.Key, model.Digest] = field(default_factory=dict)  # since it was confirmed
    deleted: int = 0  # by the open deployment
    created: set[model.Key] = field(default_factory=set)  # since it was confirmed


class Auditor:
    """Follows the log as it grows; `take` runs the laws of records, `on_write` those of writes."""

    def __init__(self, site: world.Site) -> None:
        self.site = site
        self.chain = chain.Chain()
        self.state = state.State()
        self.targets: dict[str, History] = {}
        self.decisions: dict[model.Oid, record.Decision] = {}  # the accepted ones
        self.clearances: dict[model.Oid, record.Clearance] = {}  # the newest of each merge
        self.records: list[record.Record] = []
        site.on_write = self.on_write

    def read(self) -> None:
        """Follow what is stored: every row continues the chain, and every record keeps the laws."""
        rows = self.site.sqlite.execute(
            "SELECT seq, scope, epoch, prev, leaf, body FROM log WHERE seq >= ? ORDER BY seq", (self.chain.size,)
        ).fetchall()
        for row in rows:
            self.chain, entry = self.chain.follow(chain.Row(*row))
            self.site.say(f"  #{entry.seq} {entry.scope} {_brief(entry.event)}")
            self._take(entry)
            self.state = state.fold(self.state, entry)
            self.records.append(entry)

    def history(self, name: str) -> History:
        return self.targets.setdefault(name, History(name))

    def values(self, name: str, version: model.Version) -> Mapping[model.Key, JsonValue]:
        """What a state of a target holds, read without the product's readers."""
        if version.revision is None:
            there = _snapshot(self.evidence(version.digest)).resources
            return {key: value for key, value in there.items() if value is not None}
        return _declared(self.site.bank.store, version.revision, name)

    def evidence(self, digest: model.Digest) -> bytes:
        found = self.site.sqlite.execute("SELECT content FROM evidence WHERE digest = ?", (digest,)).fetchone()
        if found is None:
            raise Broken(f"evidence {digest} is missing")
        return bytes(found[0])

    # --- records ---

    def _take(self, entry: record.Record) -> None:
        match entry.event:
            case record.Genesis() | record.Reset() as event:
                for name, digest in event.targets.items():
                    history = self.history(name)
                    history.cleared = model.Version(revision=event.revision, digest=digest)
                    history.taken_over = not (isinstance(event, record.Genesis) and event.converge)
                    if not history.taken_over:
                        history.passed.add(digest)
            case record.Decision(verdict=model.Verdict.ACCEPT) as event:
                a_merge_comes_in_only_signed_and_approved(self, event)
                self.decisions[event.revision] = event
                for name, target_digest in event.targets.items():
                    if target_digest:
                        self.history(name).accepted.add(target_digest)
            case record.Clearance() as event:
                a_merge_is_cleared_only_if_it_was_accepted_and_all_its_gates_pass(self, event)
                self.clearances[event.revision] = event
                if event.passed:
                    self._move(event.revision)
            case record.Operator() as event:
                self._operate(event)
            case record.Intent() as event:
                for law in INTENT_LAWS:
                    law(self, self.history(event.target), event)
                self._intend(event)
            case record.Applied() as event:
                every_intent_is_accounted_for_once(self.history(event.target), event)
                self._apply(event)
            case record.Outcome() as event:
                a_deployment_has_one_outcome(self.history(event.target), event)
                self._close(event)
            case record.Confirmed() as event:
                only_what_was_accepted_and_cleared_is_confirmed(self.history(event.target), event)
                self._confirm(self.history(event.target), event.version.digest)
            case _:
                pass

    def _move(self, revision: model.Oid) -> None:
        decided = self.decisions[revision]
        seq = next(e.seq for e in reversed(self.records) if e.event is decided)
        for name, digest in decided.targets.items():
            history = self.history(name)
            if seq <= history.cleared_at:
                continue  # A newer merge has moved it.
            history.cleared_at = seq
            history.cleared = model.Version(revision=revision, digest=digest) if digest else None
            history.released, history.taken_over, history.dropped = digest is None, False, False
            history.failed.clear()
            history.pinned = None
            if digest:
                history.passed.add(digest)

    def _operate(self, event: record.Operator) -> None:
        history = self.history(event.target)
        match event.verb:
            case "suspend":
                history.suspended = True
            case "resume":
                history.suspended = False
            case "reconcile":
                history.failed.clear()
                history.pinned = None
            case "rollback":
                history.pinned = event.pin.digest if event.pin else None
            case "drop":
                if history.released:
                    self.targets[event.target] = History(
                        event.target,
                        cleared_at=history.cleared_at,
                        dropped=True,
                        closed=history.closed,
                        accepted=history.accepted,
                    )

    def _intend(self, event: record.Intent) -> None:
        history = self.history(event.target)
        history.open = history.open or event
        history.unsettled = event
        history.snapshots.add(event.snapshot)
        for key, action in event.actions.items():
            if action == "adopt":
                history.adopted.setdefault(key, event.snapshot)

    def _apply(self, event: record.Applied) -> None:
        history = self.history(event.target)
        intent, history.unsettled = history.unsettled, None
        for key, identity in event.owned.items():
            if identity is None:
                history.owned.discard(key)
                history.created.discard(key)
                continue
            history.owned.add(key)
            if intent and intent.actions.get(key) == "create":
                history.created.add(key)

    def _close(self, event: record.Outcome) -> None:
        history = self.history(event.target)
        history.closed[event.deployment] = event.closed
        intent, history.open, history.deleted = history.open, None, 0
        if intent is None:
            return
        if event.closed is model.Closed.SUCCEEDED:
            back = intent.cause is model.Cause.ROLLBACK
            if back:
                history.owned -= history.adopted.keys()
            self._confirm(history, intent.wanted.digest)
        if event.closed is model.Closed.FAILED and intent.cause is not model.Cause.DRIFT:
            history.failed.add(intent.wanted.digest)

    def _confirm(self, history: History, digest: model.Digest) -> None:
        history.confirmed = digest
        history.ever_confirmed.add(digest)
        history.adopted.clear()
        history.created.clear()

    # --- writes ---

    def on_write(self, target: world.World, permit: model.Permit, key: model.Key, value: JsonValue) -> None:
        self.read()
        self.site.say(f"  write {target.name} {key} = {value!r} ({permit.deployment})")
        history = self.history(target.name)
        nothing_is_written_without_a_durable_intent(history, permit, key)
        only_the_wanted_value_is_written(self, history, key, value)
        nothing_is_written_twice(target, permit, key, value)
        if value is None:
            only_what_is_ours_is_deleted(target, history, key)
            history.deleted += key not in history.created
            a_deployment_stays_within_its_delete_budget(self, target, history, key)


# --- laws of admission ---


def a_merge_comes_in_only_signed_and_approved(auditor: Auditor, decided: record.Decision) -> None:
    """From unsigned or unapproved to accepted there is no path; nobody approves their own change."""
    merge = auditor.site.merges.get(decided.revision)
    if merge is None or merge.direct or not merge.signed:
        raise Broken(f"{decided.revision} was accepted, and it is no signed merge")
    if merge.base != (decided.skipped or (decided.base,))[-1] or decided.base != auditor.state.tip:
        raise Broken(f"{decided.revision} was accepted out of its place")
    if merge.rejected & SRE:
        raise Broken(f"{decided.revision} was accepted against {merge.rejected}")
    for team, count in needed(auditor, merge, decided).items():
        got = merge.approved & TEAMS[team] - {merge.author}
        if len(got) < count:
            raise Broken(f"{decided.revision} was accepted with {sorted(got)} of {count} {team}")


SRE = {"alice", "bob", "grace", "heidi"}
TEAMS = {"sre": SRE, "policy-admins": {"dan", "erin", "frank"}}


def needed(auditor: Auditor, merge: world.Merge, decided: record.Decision) -> dict[str, int]:
    """Of each team, as the policy of the simulated bank asks; the lighter rule where everything returns to what was confirmed."""
    need = {"sre": 2 if "prod" in merge.environments else 1}
    returns = bool(decided.targets) and all(
        digest in auditor.history(name).ever_confirmed for name, digest in decided.targets.items()
    )
    if returns and not merge.policies:
        need["sre"] = 1
    if merge.policies or merge.skips:
        need["policy-admins"] = 2
    return need


def a_merge_is_cleared_only_if_it_was_accepted_and_all_its_gates_pass(
    auditor: Auditor, event: record.Clearance
) -> None:
    """No result, an error and a late answer never pass; nothing evil does."""
    decided = auditor.decisions.get(event.revision)
    if decided is None:
        raise Broken(f"{event.revision} has a clearance and was never accepted")
    passes = bool(event.results) and all(r.outcome is model.Outcome.PASS for r in event.results)
    if event.passed != passes:
        raise Broken(f"{event.revision}: passed={event.passed}, and its results say {passes}")
    if not event.passed:
        return
    moved = auditor.state.pending.get(event.revision)
    for name, digest in auditor.state.moves(moved).items() if moved else ():
        if digest and EVIL in auditor.values(name, model.Version(revision=event.revision, digest=digest)).values():
            raise Broken(f"{event.revision} brings evil to {name} and was cleared")


# --- laws of intents ---


def one_deployment_is_open_at_a_time(auditor: Auditor, history: History, event: record.Intent) -> None:
    """A deployment has one target, one state and one cause, and is over when it is over."""
    if event.deployment in history.closed:
        raise Broken(f"{event.deployment} is closed, and has a new intent")
    if history.unsettled:
        raise Broken(f"{event.deployment}: an intent before the last one was accounted for")
    first = history.open
    same = ("deployment", "wanted", "cause")
    if first and any(getattr(first, name) != getattr(event, name) for name in same):
        raise Broken(f"{event.deployment} begins while {first.deployment} is open, or changes its aim")


def only_what_was_accepted_and_cleared_is_wanted(auditor: Auditor, history: History, event: record.Intent) -> None:
    """What is written was accepted and cleared, or confirmed here, or is the snapshot of what was there."""
    digest = event.wanted.digest
    if event.wanted.revision is None:
        known = digest in history.snapshots
    else:
        known = digest in history.passed or digest in history.ever_confirmed
    if not known:
        raise Broken(f"{history.name}: {event.wanted} was never cleared here")
    opens = history.open is None
    if history.taken_over and opens and digest not in history.ever_confirmed:
        raise Broken(f"{history.name} was taken over at genesis, and is written before a merge touched it")
    if history.released and opens:
        raise Broken(f"{history.name} is released, and is written")


def the_newest_cleared_state_is_wanted_unless_it_failed_or_another_is_pinned(
    auditor: Auditor, history: History, event: record.Intent
) -> None:
    """A deployment opens for what should be now, and calls itself what it is."""
    if history.open:
        return
    goal, digest = history.cleared.digest if history.cleared else None, event.wanted.digest
    if event.cause is model.Cause.CHANGE and digest != goal:
        raise Broken(f"{history.name}: a change to {digest[:8]}, and {goal} is wanted")
    if event.cause is model.Cause.DRIFT and digest != history.confirmed:
        raise Broken(f"{history.name}: drift is corrected to {digest[:8]}, and {history.confirmed} was confirmed")
    if digest != goal and digest != history.pinned and goal not in history.failed:
        raise Broken(f"{history.name}: back to {digest[:8]}, and nothing failed and nothing is pinned")


def what_failed_stays_failed(auditor: Auditor, history: History, event: record.Intent) -> None:
    """Until a merge that touches the target is cleared, or somebody says reconcile."""
    if history.open is None and event.cause is not model.Cause.DRIFT and event.wanted.digest in history.failed:
        raise Broken(f"{history.name}: {event.wanted.digest[:8]} failed here and is tried again")


def a_suspended_target_is_left_alone(auditor: Auditor, history: History, event: record.Intent) -> None:
    """Suspended means that nothing is written."""
    if history.suspended:
        raise Broken(f"{history.name} is suspended, and is written")


def no_change_begins_in_a_freeze(auditor: Auditor, history: History, event: record.Intent) -> None:
    """A freeze of the policy in force defers changes to production; drift and rollback go on."""
    freeze = auditor.site.freezes.get(auditor.state.policies or model.Oid(""))
    if history.open or event.cause is not model.Cause.CHANGE or freeze is None or event.wanted.revision is None:
        return
    document = auditor.site.documents[event.wanted.revision][history.name]
    at = auditor.site.time.wall()
    if document.spec.get("environment", "prod") == "prod" and freeze[0] <= at < freeze[1]:
        raise Broken(f"{history.name}: a change begins at {at}, within {freeze}")


def what_was_rejected_after_all_is_not_begun(auditor: Auditor, history: History, event: record.Intent) -> None:
    """A reject that was fetched before the first write withdraws the change, though the merge stays in history."""
    merge = auditor.site.merges.get(event.wanted.revision or model.Oid(""))
    if history.open or event.cause is not model.Cause.CHANGE or merge is None or merge.rejected_at is None:
        return
    if event.wanted.digest in history.ever_confirmed:
        return
    for process in auditor.site.processes:
        fetched = process.core.fetches.last
        if event.deployment.startswith(f"{process.holder}-") and fetched and fetched > merge.rejected_at:
            raise Broken(f"{history.name}: {event.wanted.revision} was rejected and is begun")


INTENT_LAWS = (
    one_deployment_is_open_at_a_time,
    only_what_was_accepted_and_cleared_is_wanted,
    the_newest_cleared_state_is_wanted_unless_it_failed_or_another_is_pinned,
    what_failed_stays_failed,
    a_suspended_target_is_left_alone,
    no_change_begins_in_a_freeze,
    what_was_rejected_after_all_is_not_begun,
)


def every_intent_is_accounted_for_once(history: History, event: record.Applied) -> None:
    """One `applied` for each intent, of the same deployment."""
    if history.unsettled is None or history.unsettled.deployment != event.deployment:
        raise Broken(f"{event.deployment}: applied without an intent")
    if event.owned.keys() - history.unsettled.actions.keys():
        raise Broken(f"{event.deployment}: gained what its intent does not name")


def a_deployment_has_one_outcome(history: History, event: record.Outcome) -> None:
    """Each deployment ends once, with nothing unaccounted for."""
    if history.open is None or history.open.deployment != event.deployment or event.deployment in history.closed:
        raise Broken(f"{event.deployment} ends, and is not open")
    if history.unsettled:
        raise Broken(f"{event.deployment} ends, and nobody knows what became of its last write")


def only_what_was_accepted_and_cleared_is_confirmed(history: History, event: record.Confirmed) -> None:
    """A state that is found true was cleared, or taken over, or is the way back."""
    taken = {history.cleared.digest} if history.cleared and history.taken_over else set()
    if event.version.digest not in taken | history.passed | history.ever_confirmed | history.snapshots:
        raise Broken(f"{history.name}: {event.version} is confirmed and was never cleared")


# --- laws of writes ---


def nothing_is_written_without_a_durable_intent(history: History, permit: model.Permit, key: model.Key) -> None:
    """Before the first byte goes out, the log names the deployment and the key."""
    intent = history.unsettled
    if intent is None or intent.deployment != permit.deployment or key not in intent.actions:
        raise Broken(f"{history.name}: {key} is written, and no open intent names it")


def only_the_wanted_value_is_written(auditor: Auditor, history: History, key: model.Key, value: JsonValue) -> None:
    """What lands is what the approved state says; on the way back, what was adopted is given back as it was."""
    intent = history.unsettled
    assert intent
    wanted = auditor.values(history.name, intent.wanted).get(key)
    if value == wanted:
        return
    back = _snapshot(auditor.evidence(history.adopted[key])).resources if key in history.adopted else {}
    if intent.cause is not model.Cause.ROLLBACK or value is None or value != back.get(key):
        raise Broken(f"{history.name}: {key} becomes {value!r}, and {wanted!r} is wanted")


def nothing_is_written_twice(target: world.World, permit: model.Permit, key: model.Key, value: JsonValue) -> None:
    """One effective write for each deployment and key, unless somebody else changed it in between."""
    if target.values.get(key) == value:
        raise Broken(f"{target.name}: {key} is written, and is so already")
    if target.touched.get(key) == permit.deployment:
        raise Broken(f"{target.name}: {permit.deployment} writes {key} twice")


def only_what_is_ours_is_deleted(target: world.World, history: History, key: model.Key) -> None:
    """Owned by the log and marked at the target, and not only adopted since the last confirmed state."""
    if key not in history.owned or key in target.unmarked or key in history.adopted:
        raise Broken(f"{target.name}: {key} is deleted, and is not ours")


def a_deployment_stays_within_its_delete_budget(
    auditor: Auditor, target: world.World, history: History, key: model.Key
) -> None:
    """At most `deletes.max` in one deployment, one always; more only where the document acknowledges it."""
    intent = history.unsettled
    assert intent
    if intent.wanted.revision is None or key in history.created or intent.cause is not model.Cause.CHANGE:
        return
    spec = auditor.site.documents[intent.wanted.revision][target.name].spec
    limits, entries = spec.get("deletes"), spec.get("acknowledge")
    most = limits["max"] if isinstance(limits, dict) else 5
    acknowledged = isinstance(entries, list) and any(
        isinstance(e, dict) and e["hazard"] == "delete_budget" for e in entries
    )
    assert isinstance(most, int)
    if not acknowledged and history.deleted > max(1, most):
        raise Broken(f"{target.name}: {history.deleted} deletes, {most} allowed")


# --- laws of the log ---


def the_fold_is_the_same_for_everybody(auditor: Auditor) -> None:
    """What a process believes is what the stored records fold to, record by record."""
    for process in auditor.site.processes:
        if process.log.state.size == auditor.state.size and process.log.state != auditor.state:
            raise Broken(f"{process.holder} believes something else than the log says")


def the_whole_log_verifies(auditor: Auditor) -> None:
    """Leaves, chain, tree, checkpoints and evidence, from the first record; and nothing names evidence that is not there."""
    report = verification.verify(auditor.site.engine, world.SIGNER.public, world.ORIGIN)
    if not report.good or report.size != auditor.chain.size or report.caches:
        raise Broken(f"the log does not verify: {report.problems} {report.caches}")


def what_was_dropped_is_gone(auditor: Auditor) -> None:
    """A target that an operator dropped stays unknown until a merge brings it back."""
    for name, history in auditor.targets.items():
        if history.dropped and name in auditor.state.targets and auditor.state.target(name).waiting is None:
            raise Broken(f"{name} was dropped and is listed")


@functools.lru_cache(maxsize=512)
def _read(blob: bytes) -> Mapping[model.Key, JsonValue]:
    return world.read_document(blob)


@functools.lru_cache(maxsize=512)
def _snapshot(content: bytes) -> model.Snapshot:
    return model.Snapshot.model_validate_json(content)


def _declared(store: object, revision: model.Oid, name: str) -> Mapping[model.Key, JsonValue]:
    tree = store.tree(revision)  # type: ignore[attr-defined]
    document, payload = (tree.get(f"targets/{name}/{f}.yaml".encode()) for f in ("target", "resources"))
    if b'"absent"' in store.read(document.oid):  # type: ignore[attr-defined]
        return {}
    return _read(store.read(payload.oid))  # type: ignore[attr-defined]


def _brief(event: record.Event) -> str:
    match event:
        case record.Decision():
            codes = sorted({r.code for r in event.reasons})
            return f"decision {event.revision[:8]} {event.verdict.value} {codes} {sorted(event.targets)}"
        case record.Clearance():
            no = [f"{r.check} {r.outcome.value}" for r in event.results if r.outcome is not model.Outcome.PASS]
            why = [f.message for r in event.results for f in r.findings][:2]
            return f"clearance {event.revision[:8]} passed={event.passed} {no} {why}"
        case record.Intent():
            aim = f"{(event.wanted.revision or 'snapshot')[:8]}/{event.wanted.digest[:8]}"
            return f"intent {event.deployment} {event.cause.value} to {aim} {dict(event.actions)}"
        case record.Applied():
            said = {r.key: r.effect.value for r in event.results}
            return f"applied {event.deployment} owned={dict(event.owned)} {said} recovered={event.recovered}"
        case record.Outcome():
            return f"outcome {event.deployment} {event.closed.value} {[r.message for r in event.reasons[:2]]}"
        case record.Standing():
            return f"standing {event.code} {[f'{r.code}: {r.message}' for r in event.reasons[:2]]}"
        case record.Operator():
            return f"operator {event.verb} {event.target}"
        case record.Seen():
            return f"seen {event.subject[:16]}"
        case record.Confirmed():
            return f"confirmed {event.version.digest[:8]}"
        case record.Drift():
            return f"drift {event.count} {list(event.keys[:3])}"
        case record.Halt():
            return f"halt {event.codes}"
        case _:
            return event.type
