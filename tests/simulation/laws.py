"""The laws: what must hold whatever the schedule does. Each is a function with the sentence that it stands for.

They read the log as an auditor would, from the bytes that are stored, and hold it against what the simulation knows to be
true: who approved what, what was written where. The product's fold is one of the things under test; it is used here only
to be compared with itself.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import JsonValue

from reconciler import model
from reconciler.audit import record, verification
from simulation import world
from simulation.books import Books, Broken, History, read_snapshot

EVIL = "evil"


# --- laws of admission ---


def a_merge_comes_in_only_signed_and_approved(known: Books, decided: record.Decision) -> None:
    """From unsigned or unapproved to accepted there is no path; nobody approves their own change."""
    merge = known.site.merges.get(decided.revision)
    if merge is None or merge.direct or not merge.signed:
        raise Broken(f"{decided.revision} was accepted, and it is no signed merge")
    if merge.base != (decided.skipped or (decided.base,))[-1] or decided.base != known.state.tip:
        raise Broken(f"{decided.revision} was accepted out of its place")
    if merge.rejected & SRE:
        raise Broken(f"{decided.revision} was accepted against {merge.rejected}")
    if decided.emergency is not None:
        the_glass_is_broken_only_within_its_scope(known, merge, decided)
        return
    for team, count in needed(known, merge, decided).items():
        got = merge.approved & TEAMS[team] - {merge.author}
        if len(got) < count:
            raise Broken(f"{decided.revision} was accepted with {sorted(got)} of {count} {team}")


def the_glass_is_broken_only_within_its_scope(known: Books, merge: world.Merge, decided: record.Decision) -> None:
    """By somebody who may and has no part in it, in time, never for the policies or over a blocked history, so often a week."""
    assert decided.emergency
    assert decided.decided
    able = {who for who, until in merge.broken.items() if until > decided.decided} & BREAKERS - {merge.author}
    if not able or not set(decided.emergency.people) <= able:
        raise Broken(f"{decided.revision}: the glass was broken by {decided.emergency.people}, and {sorted(able)} may")
    if merge.policies or decided.skipped:
        raise Broken(
            f"{decided.revision}: an emergency let it in, and it changes the policies or passes over something"
        )
    if sum(each.emergency is not None for each in known.decisions.values()) >= MOST_EMERGENCIES:
        raise Broken(f"{decided.revision} is one emergency too many")


def what_is_owed_is_what_was_let_in_and_ends_by_others(known: Books, event: record.Obligation) -> None:
    """An accepted emergency owes a review, from the same append on; two others who looked at it afterwards end that."""
    if event.kind == "agree":
        return
    merge, decided = known.site.merges[event.revision], known.decisions[event.revision]
    last = known.records[-1].event
    if event.change == "opened" and (decided.emergency is None or last is not decided):
        raise Broken(f"{event.revision} owes a review, and no emergency let it in just now")
    if event.change == "closed":
        others = set(event.people) & BOARD - {merge.author, *merge.broken}
        late = {who for who in others if decided.decided and merge.reviewed.get(who, decided.decided) > decided.decided}
        if len(late) < 2 or event.revision not in known.state.reviews:
            raise Broken(f"{event.revision}: {event.people} reviewed it, of whom {sorted(late)} count")


BREAKERS, BOARD, MOST_EMERGENCIES = {"bob", "carol"}, {"dan", "erin", "frank"}, 2
SRE = {"alice", "bob", "grace", "heidi"}
TEAMS = {"sre": SRE, "policy-admins": {"dan", "erin", "frank"}}


def needed(known: Books, merge: world.Merge, decided: record.Decision) -> dict[str, int]:
    """Of each team, as the policy of the simulated bank asks; the lighter rule where everything returns to what was confirmed."""
    need = {"sre": 2 if "prod" in merge.environments else 1}
    returns = bool(decided.targets) and all(
        digest in known.history(name).ever_confirmed for name, digest in decided.targets.items()
    )
    if returns and not merge.policies:
        need["sre"] = 1
    if merge.policies or merge.skips:
        need["policy-admins"] = 2
    return need


def a_merge_is_cleared_only_if_it_was_accepted_and_all_its_gates_pass(known: Books, event: record.Clearance) -> None:
    """No result, an error and a late answer never pass; nothing evil does."""
    decided = known.decisions.get(event.revision)
    if decided is None:
        raise Broken(f"{event.revision} has a clearance and was never accepted")
    passes = bool(event.results) and all(r.outcome is model.Outcome.PASS for r in event.results)
    if event.passed != passes:
        raise Broken(f"{event.revision}: passed={event.passed}, and its results say {passes}")
    if not event.passed:
        return
    moved = known.state.pending.get(event.revision)
    for name, digest in known.state.moves(moved).items() if moved else ():
        if digest and EVIL in known.values(name, model.Version(revision=event.revision, digest=digest)).values():
            raise Broken(f"{event.revision} brings evil to {name} and was cleared")


# --- laws of intents ---


def one_deployment_is_open_at_a_time(known: Books, history: History, event: record.Intent) -> None:
    """A deployment has one target, one state and one cause, and is over when it is over."""
    if event.deployment in history.closed:
        raise Broken(f"{event.deployment} is closed, and has a new intent")
    if history.unsettled:
        raise Broken(f"{event.deployment}: an intent before the last one was accounted for")
    first = history.open
    same = ("deployment", "wanted", "cause")
    if first and any(getattr(first, name) != getattr(event, name) for name in same):
        raise Broken(f"{event.deployment} begins while {first.deployment} is open, or changes its aim")


def only_what_was_accepted_and_cleared_is_wanted(known: Books, history: History, event: record.Intent) -> None:
    """What is written was accepted and cleared, or confirmed here, or is the snapshot of what was there."""
    digest = event.wanted.digest
    if event.wanted.revision is None:
        cleared = digest in history.snapshots
    else:
        cleared = digest in history.passed or digest in history.ever_confirmed
    if not cleared:
        raise Broken(f"{history.name}: {event.wanted} was never cleared here")
    opens = history.open is None
    if history.taken_over and opens and digest not in history.ever_confirmed:
        raise Broken(f"{history.name} was taken over at genesis, and is written before a merge touched it")
    if history.released and opens:
        raise Broken(f"{history.name} is released, and is written")


def the_newest_cleared_state_is_wanted_unless_it_failed_or_another_is_pinned(
    known: Books, history: History, event: record.Intent
) -> None:
    """A deployment opens for what should be now, and calls itself what it is."""
    if history.open:
        return
    goal, digest = history.cleared.digest if history.cleared else None, event.wanted.digest
    if event.cause is model.Cause.CHANGE and digest != goal:
        raise Broken(f"{history.name}: a change to {digest[:8]}, and {goal} is wanted")
    if event.cause is model.Cause.DRIFT and digest != history.confirmed:
        raise Broken(f"{history.name}: drift is corrected to {digest[:8]}, and {history.confirmed} was confirmed")
    keeps = event.cause is model.Cause.DRIFT and digest == history.confirmed  # While its change is held.
    if digest not in {goal, history.pinned} and goal not in history.failed and not keeps:
        raise Broken(f"{history.name}: back to {digest[:8]}, and nothing failed and nothing is pinned")


def what_failed_stays_failed(known: Books, history: History, event: record.Intent) -> None:
    """Until a merge that touches the target is cleared, or somebody says reconcile."""
    if history.open is None and event.cause is not model.Cause.DRIFT and event.wanted.digest in history.failed:
        raise Broken(f"{history.name}: {event.wanted.digest[:8]} failed here and is tried again")


def a_suspended_target_is_left_alone(known: Books, history: History, event: record.Intent) -> None:
    """Suspended means that nothing is written."""
    if history.suspended:
        raise Broken(f"{history.name} is suspended, and is written")


def no_change_begins_in_a_freeze(known: Books, history: History, event: record.Intent) -> None:
    """A freeze of the policy in force defers changes to production; drift, rollback and merges under its rule go on."""
    freeze = known.site.freezes.get(known.site.policy(known.state.policies)) if known.state.policies else None
    if history.open or event.cause is not model.Cause.CHANGE or freeze is None or event.wanted.revision is None:
        return
    decided, at = known.decisions.get(event.wanted.revision), known.site.time.wall()
    if decided is not None and any(rule.id == "rollback" for rule in decided.rules):
        return
    if decided is not None and decided.emergency is not None and at < decided.emergency.until + HELD_UP:
        return
    document = known.site.documents[event.wanted.revision][history.name]
    if document.spec.get("environment", "prod") == "prod" and freeze[0] <= at < freeze[1]:
        raise Broken(f"{history.name}: a change begins at {at}, within {freeze}")


def no_ordinary_change_begins_while_a_review_is_overdue(known: Books, history: History, event: record.Intent) -> None:
    """Of its environment. Drift, rollback, merges under its rule and further emergencies go on."""
    if history.open or event.cause is not model.Cause.CHANGE or event.wanted.revision is None:
        return
    decided = known.decisions.get(event.wanted.revision)
    if decided is None or decided.emergency is not None or any(rule.id == "rollback" for rule in decided.rules):
        return
    environment = known.site.documents[event.wanted.revision][history.name].spec.get("environment", "prod")
    at = known.site.time.wall() - HELD_UP
    late = [o for o in known.state.reviews.values() if o.due and o.due <= at and environment in o.environments]
    if late and known.site.time.behind_s == 0:
        raise Broken(f"{history.name}: an ordinary change begins, and {late[0].revision} has to be reviewed first")


HELD_UP = timedelta(seconds=130)  # A turn that was held up after it had looked at the clock goes on within its lease.


def what_was_rejected_after_all_is_not_begun(known: Books, history: History, event: record.Intent) -> None:
    """A reject that was fetched before the first write withdraws the change, though the merge stays in history."""
    merge = known.site.merges.get(event.wanted.revision or model.Oid(""))
    if history.open or event.cause is not model.Cause.CHANGE or merge is None or merge.rejected_at is None:
        return
    if event.wanted.digest in history.ever_confirmed:
        return
    for process in known.site.processes:
        fetched = process.core.contact.fetches.last
        if event.deployment.startswith(f"{process.holder}-") and fetched and fetched > merge.rejected_at:
            raise Broken(f"{history.name}: {event.wanted.revision} was rejected and is begun")


INTENT_LAWS = (
    one_deployment_is_open_at_a_time,
    only_what_was_accepted_and_cleared_is_wanted,
    the_newest_cleared_state_is_wanted_unless_it_failed_or_another_is_pinned,
    what_failed_stays_failed,
    a_suspended_target_is_left_alone,
    no_change_begins_in_a_freeze,
    no_ordinary_change_begins_while_a_review_is_overdue,
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


def only_what_no_merge_has_touched_is_let_go_later(history: History, digest: model.Digest) -> None:
    """The operator's word at a later start is about what genesis took over, as it was taken over."""
    if not history.taken_over or history.cleared is None or history.cleared.digest != digest:
        raise Broken(f"{history.name} may be written by the word of an operator, and was not taken over as {digest}")


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


def only_the_wanted_value_is_written(known: Books, history: History, key: model.Key, value: JsonValue) -> None:
    """What lands is what the approved state says; on the way back, what was adopted is given back as it was."""
    intent = history.unsettled
    assert intent
    wanted = known.values(history.name, intent.wanted).get(key)
    if value == wanted:
        return
    back = read_snapshot(known.evidence(history.adopted[key])).resources if key in history.adopted else {}
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
    known: Books, target: world.World, history: History, key: model.Key
) -> None:
    """At most `deletes.max` and `deletes.maxPercent` in one deployment, one always; more only where the document acknowledges it."""
    intent = history.unsettled
    assert intent
    if intent.wanted.revision is None or key in history.created or intent.cause is not model.Cause.CHANGE:
        return
    spec = known.site.documents[intent.wanted.revision][target.name].spec
    limits, entries = spec.get("deletes"), spec.get("acknowledge")
    most, percent = (limits["max"], limits["maxPercent"]) if isinstance(limits, dict) else (5, 10)
    acknowledged = isinstance(entries, list) and any(
        isinstance(e, dict) and e["hazard"] == "delete_budget" for e in entries
    )
    assert isinstance(most, int)
    assert isinstance(percent, int)
    allowed = max(1, min(most, (len(history.owned) + history.deleted) * percent // 100))
    if not acknowledged and history.deleted > allowed:
        raise Broken(f"{target.name}: {history.deleted} deletes, {allowed} allowed")


# --- laws of the log ---


def the_fold_is_the_same_for_everybody(known: Books) -> None:
    """What a process believes is what the stored records fold to, record by record."""
    for process in known.site.processes:
        if process.log.state.size == known.state.size and process.log.state != known.state:
            raise Broken(f"{process.holder} believes something else than the log says")


def the_whole_log_verifies(known: Books) -> None:
    """Leaves, chain, tree, checkpoints and evidence, from the first record; and nothing names evidence that is not there."""
    report = verification.verify(known.site.engine, world.SIGNER.public, world.ORIGIN)
    if not report.good or report.size != known.chain.size or report.caches:
        raise Broken(f"the log does not verify: {report.problems} {report.caches}")


def what_was_dropped_is_gone(known: Books) -> None:
    """A target that an operator dropped stays unknown until a merge brings it back."""
    for name, history in known.targets.items():
        if history.dropped and name in known.state.targets and known.state.target(name).waiting is None:
            raise Broken(f"{name} was dropped and is listed")
