"""How a seed ends: faults off, time passing, until every target rests, or stands for a reason that is true."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from reconciler import errors, model
from reconciler.audit import record, state
from reconciler.convergence import deciding
from simulation import auditing, books, laws, schedule

MAX_TURNS = 1500
Broken = books.Broken


def settle(plan: schedule.Schedule) -> None:
    """Let everything work again, and time pass until nothing moves any more."""
    site, auditor = plan.site, plan.auditor
    plan.accidents.heal()
    plan.people.review(list(site.merges.values()), "dan", "erin")
    for process in list(site.processes):
        site.end(process, "it was stopped")  # Without giving its leases back.
    moves: dict[str, object] = {}
    heard = False
    for _ in range(MAX_TURNS):
        site.processes or site.start()
        (process,) = site.processes
        name = min(process.due, key=lambda n: (process.due[n], n))
        site.time.passed_s = max(site.time.passed_s, process.due[name])
        size = auditor.chain.size
        moves[name] = plan.take(process, name)
        if auditor.chain.size != size or isinstance(moves[name], errors.ReconcilerError):
            moves = {}
        elif name == "watch" and not heard:  # What stood still for want of news is looked at again.
            heard, moves = True, {name: moves[name]}
        elif _is_quiet(moves, auditor.state):
            return
    raise Broken(f"it never comes to rest: {moves}")


def _is_quiet(moves: Mapping[str, object], known: state.State) -> bool:
    """Nothing was recorded since every target was looked at, and nothing waits for a time that comes."""
    names = ["watch", *(f"target:{n}" for n in known.targets)]
    if any(name not in moves for name in names):
        return False
    if any(r.outcome is model.Outcome.ERROR for m in known.pending.values() for r in m.results):
        return False
    if any(not m.results for m in known.pending.values()):
        return False
    return all(_is_last(moves[n]) for n in names[1:])


def _is_last(move: object) -> bool:
    stand = move.standing if isinstance(move, deciding.Rest) else move
    return stand is None or (isinstance(stand, deciding.Stand) and stand.until is None)


def check(plan: schedule.Schedule) -> None:
    """The laws of the end."""
    auditor = plan.auditor
    what_is_good_is_accepted(plan)
    for name, known in auditor.state.targets.items():
        nothing_is_left_open(auditor, name, known)
        code = known.standing.code if known.standing else None
        plan.site.counts[f"ends: {code or 'at rest'}"] += 1
        if code is None:
            a_target_at_rest_is_what_git_says(auditor, name, known)
        else:
            true_reason(auditor, known)


def what_is_good_is_accepted(plan: schedule.Schedule) -> None:
    """Signed, approved and in order: then it is in. What follows a commit that is not stays out."""
    known = plan.auditor.state
    if known.tip is None:
        raise Broken("genesis was never taken over")
    accepted, passed = plan.people.standing(known.tip)
    if accepted != known.tip:
        raise Broken(f"{accepted} is signed and approved, and is not accepted")
    if set(known.held) != {merge.revision for merge in passed}:
        raise Broken("what is held is not what follows the last accepted commit")
    if known.halted:
        raise Broken(f"still halted: {known.halted}")


def nothing_is_left_open(auditor: auditing.Auditor, name: str, known: state.Target) -> None:
    """In the end no deployment is open and every intent is accounted for."""
    history = auditor.history(name)
    if known.open or history.open or history.unsettled:
        raise Broken(f"{name}: a deployment is still open")


def a_target_at_rest_is_what_git_says(auditor: auditing.Auditor, name: str, known: state.Target) -> None:
    """Green means: the newest accepted state was cleared, confirmed, and is what the target holds."""
    newest = _newest(auditor, name)
    if not known.confirmed or known.confirmed.digest != newest:
        raise Broken(f"{name} rests at {known.confirmed}, and {newest} is the newest accepted")
    _holds(auditor, name, known.confirmed)


def _holds(auditor: auditing.Auditor, name: str, version: model.Version) -> None:
    target = auditor.site.world(name)
    for key, value in auditor.values(name, version).items():
        if target.values.get(key) != value:
            raise Broken(f"{name}: {key} is {target.values.get(key)!r}, and {value!r} is wanted")
    for key in auditor.history(name).owned - auditor.values(name, version).keys():
        if key in target.values and key not in target.unmarked:
            raise Broken(f"{name}: {key} is ours, is not wanted, and is still there")


def _newest(auditor: auditing.Auditor, name: str) -> model.Digest | None:
    """Of the last accepted commit that touched it."""
    found: model.Digest | None = None
    for entry in auditor.records:
        match entry.event:
            case record.Genesis() | record.Reset() as event:
                found = event.targets.get(name)
            case record.Decision(verdict=model.Verdict.ACCEPT, targets=targets) if name in targets:
                found = targets[name]
            case _:
                pass
    return found


def true_reason(auditor: auditing.Auditor, known: state.Target) -> None:
    """A standing says what is the case. Held against the records, the target and the repository, not against the fold."""
    assert known.standing
    name, code = known.name, known.standing.code
    history = auditor.history(name)
    if not _REASONS[code or ""](auditor, history, known.standing):
        raise Broken(f"{name} stands {code}, and that is not so: {known.standing.reasons}")


def _suspended(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    return history.suspended


def _uncleared(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    """Its gates say no to the newest merge, or it was taken over at genesis and differs."""
    waiting = auditor.state.target(history.name).waiting
    if waiting is None:
        return history.taken_over
    said = auditor.clearances.get(waiting)
    if said is None or said.passed or not any(r.outcome is model.Outcome.FAIL for r in said.results):
        return False
    opa = [r for r in said.results if r.check.startswith("opa") and r.outcome is model.Outcome.FAIL]
    documents = auditor.site.documents[waiting]
    touched = auditor.decisions[waiting].targets.keys() & documents.keys()
    evil = any(laws.EVIL in documents[n].resources.values() for n in touched)
    return evil or not opa


def _failed(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    back = auditor.state.target(history.name).confirmed
    if history.cleared is None or history.cleared.digest not in history.failed or back is None:
        return False
    _holds(auditor, history.name, back)
    return True


def _pinned(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    if history.pinned is None or history.confirmed != history.pinned:
        return history.pinned is not None and history.pinned in history.failed
    return True


def _released(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    return history.released


def _stuck(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    return bool(history.cleared and history.cleared.digest in history.failed)


def _blocked(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    """Each reason by itself: what is not ours is there, the document spends too much, somebody else writes too."""
    target = auditor.site.world(history.name)
    codes = {r.code for r in standing.reasons}
    there = {k for k in target.values if k not in history.owned}
    true = {
        "adoption": bool(there),
        "hazard": True,
        "empty": True,
        "fight": auditor.site.counts["edit"] + auditor.site.counts["fight"] > 0,
    }
    return bool(codes) and all(true.get(c, False) for c in codes)


def _degraded(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    """Something here is not healthy, and it is so as the wanted state says."""
    values: Mapping[model.Key, JsonValue] = auditor.site.world(history.name).values
    return any(v in {"bad", "slow"} for v in values.values())


def _detect(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    version = auditor.state.target(history.name).confirmed
    if version is None or version.revision is None:
        return False
    return auditor.site.documents[version.revision][history.name].spec.get("mode") == "detect"


def _dependency(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    if history.cleared is None or history.cleared.revision is None:
        return False
    documents = auditor.site.documents[history.cleared.revision]
    wanted = documents[history.name].spec.get("dependsOn")
    return isinstance(wanted, list) and any(
        auditor.state.target(str(n)).standing is not None or auditor.state.target(str(n)).confirmed is None
        for n in wanted
    )


def _withdrawn(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    """A merge that touched it was rejected after it was accepted."""
    touching = (d.revision for d in auditor.decisions.values() if history.name in d.targets)
    return any(auditor.site.merges[revision].rejected for revision in touching)


def _never(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    """`deferred` ends with its time, `halted` with its cause."""
    return False


def _deferred(auditor: auditing.Auditor, history: books.History, standing: record.Standing) -> bool:
    """An emergency of its environment was reviewed too early, or by too few, and is late."""
    now = auditor.site.time.wall()
    late = {owed.revision for owed in auditor.state.reviews.values() if owed.due and owed.due <= now}
    return bool(standing.reasons) and all(r.code == "obligation" and r.where in late for r in standing.reasons)


_REASONS = {
    "suspended": _suspended,
    "uncleared": _uncleared,
    "failed": _failed,
    "pinned": _pinned,
    "released": _released,
    "stuck": _stuck,
    "blocked": _blocked,
    "degraded": _degraded,
    "detect": _detect,
    "dependency": _dependency,
    "deferred": _deferred,
    "halted": _never,
    "withdrawn": _withdrawn,
}
