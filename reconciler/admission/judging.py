"""May this merge go in? The checklist of trust.md 2.3, P1 to P12; reads objects through the port, decides on values.

Everything that can be said against a merge is collected, but content is parsed only after P1 to P5 hold and every
signature is good. Not here: the network (`git/`), the log (`admit.py`), gates (`convergence/clearing.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime

from reconciler import errors, model, ports
from reconciler.admission import form, policy, verdict, voting
from reconciler.admission.verdict import HALT, HISTORY, REJECT
from reconciler.audit import record, state

Denied = form.Denied
Terms = form.Terms
Judged = verdict.Judged
Keep = Callable[[Judged], state.State]

TOLD = 1000  # accepted ones that a walk returns: what years brought is not held in memory twice

__all__ = ["HALT", "HISTORY", "REJECT", "Denied", "Judged", "Keep", "Terms", "examine", "examine_head", "judge", "walk"]


def walk(
    repository: ports.Repository,
    tip: model.Oid,
    known: state.State,
    keep: Keep,
    *,
    terms: Terms,
    clock: ports.Clock,
) -> tuple[record.Decision, ...]:
    """Judge the first-parent commits after the last accepted one, oldest first.

    One that is not accepted blocks what follows until a recovery merge, which is judged as one change from the last
    accepted commit. `keep` is the only difference between the daemon and a clone: an append there, a fold in memory here.
    A clone needs no log to begin with: `state.State(tip=<the remote-tracking ref of the watched branch>)`.

    Returns what was decided, oldest first; of what was accepted the newest `TOLD`: `keep` was given each. A rewritten
    history is one HALT, its revision the tip; it is not given to `keep`.

    Raises: AuditError(object_hash) when an object is not what its id says.
    """
    base = _tip(known)
    try:
        chain = tuple(repository.first_parents(tip, base))
    except errors.PermanentError as exc:
        return (verdict.refuse(base, tip, model.Reason.of(exc), decided=clock.now()),)
    decided: dict[model.Oid, record.Decision] = {}
    accepted = deque[model.Oid]()
    passed: tuple[model.Oid, ...] = ()
    seen = known.seen
    for revision in chain:
        # The fold forgets what was seen once something is accepted; what was seen of this chain before still holds.
        known = known.model_copy(update={"seen": seen})
        judged = examine(repository, revision, known, skipped=passed, terms=terms, now=clock.now())
        known = keep(judged)
        decided[revision] = judged.decision
        if judged.decision.verdict is model.Verdict.HALT:
            break
        passed = () if judged.decision.verdict is model.Verdict.ACCEPT else (*passed, revision)
        if not passed:
            accepted.append(revision)
        if len(accepted) > TOLD:
            del decided[accepted.popleft()]
    return tuple(decided.values())


def judge(
    repository: ports.Repository,
    revision: model.Oid,
    known: state.State,
    *,
    skipped: tuple[model.Oid, ...] = (),
    terms: Terms,
    now: datetime,
) -> record.Decision:
    """The verdict alone: see `examine`."""
    return examine(repository, revision, known, skipped=skipped, terms=terms, now=now).decision


def examine(
    repository: ports.Repository,
    revision: model.Oid,
    known: state.State,
    *,
    skipped: tuple[model.Oid, ...] = (),
    terms: Terms,
    now: datetime,
) -> Judged:
    """One merge against the policy of the last accepted commit, at one instant: its verdict, and what a statement binds.

    Blocks on nothing but the local repository.

    Raises: AuditError(object_hash) only.
    """
    base = _tip(known)
    case = form.Case(base, revision, skipped, known, terms, now)

    def look() -> Judged:
        rules = policy.read_policy(repository, base)
        shape = form.read_merge(repository, case, rules)
        if shape.reasons or shape.merge is None or shape.head is None:
            return verdict.of_form(case, rules, shape)
        return voting.judge_content(repository, case, rules, shape, repository.tree(revision))

    return _closed(look, case)


def examine_head(
    repository: ports.Repository, head: model.Oid, known: state.State, *, terms: Terms, now: datetime
) -> Judged:
    """The automatic merge of a head that is not merged yet: all but the merge's own commit and signature.

    Raises: AuditError(object_hash) only.
    """
    base = _tip(known)
    case = form.Case(base, head, (), known, terms, now)

    def look() -> Judged:
        rules = policy.read_policy(repository, base)
        shape = form.read_head(repository, case, rules)
        if shape.reasons or shape.tree is None:
            return verdict.of_form(case, rules, shape)
        return voting.judge_content(repository, case, rules, shape, shape.tree)

    return _closed(look, case)


def clone_state(tip: model.Oid, seen: Mapping[str, datetime] | None = None) -> state.State:
    """What a clone without a log knows: where the watched branch stands. Observation times are those of the question."""
    return state.State(tip=tip, genesis=tip, policies=tip, seen=dict(seen or {}))


def _closed(look: Callable[[], Judged], case: form.Case) -> Judged:
    """An error of reading is a reason, never an acceptance and never the end of the process."""
    try:
        if case.observed > case.now:
            raise _clock(case)
        return look()
    except (errors.TransientError, errors.PermanentError, errors.ConfigError) as exc:
        reason = model.Reason.of(exc)
        decision = verdict.refuse(case.base, case.revision, reason, skipped=case.skipped, decided=case.now)
        return Judged(decision=decision)


def _clock(case: form.Case) -> errors.TransientError:
    """Both times come from one clock that never goes back; what it says now would judge keys and expiries too early."""
    message = f"the clock says {model.print_time(case.now)}, before this was seen at {model.print_time(case.observed)}"
    return errors.TransientError("clock", message, where=case.revision, fix="set the clock of this machine")


def _tip(known: state.State) -> model.Oid:
    if known.tip is None:
        raise errors.ConfigError("pin", "no commit was ever accepted", fix="pin a genesis commit in the configuration")
    return known.tip
