"""After an ACCEPT and before the write: was an approval taken back, did somebody reject, is anything denied (trust.md 2.3).

The merge stays in the history; the targets that it touched, and that are not yet written, stand `withdrawn` until its slots
are filled again. Time alone withdraws nothing: expiry was judged when the decision was made.
"""

from __future__ import annotations

from reconciler import model, ports
from reconciler.admission import judging, policy, waiving
from reconciler.audit import record, state


def unwaived(
    repository: ports.Repository,
    decision: record.Decision,
    clearance: record.Clearance,
    rules: policy.Policy,
    around: waiving.Circumstances,
) -> model.ValidationResult:
    """Which waivers that a clearance rests on were taken back since. `around.now`: when it was given.

    Raises: AuditError(object_hash).
    """
    used = [(result.gate, each) for result in clearance.results for each in result.waived]
    granted = waiving.find(repository, decision, rules, around).granted if used else {}
    return tuple(
        model.Reason(
            code="approval_revoked",
            message=f"the finding {gate}:{each.rule} is waived no more",
            where=decision.revision,
            fix="mend it, or have it waived again: reconciler approve HEAD --waive GATE:RULE --reason WHY --key KEY"
            " --push",
        )
        for gate, each in used
        if (gate, each.rule) not in granted
    )


def withdrawn(
    repository: ports.Repository, decision: record.Decision, known: state.State, *, terms: judging.Terms
) -> model.ValidationResult:
    """Why an accepted merge would not be accepted with what is said about it now; empty where it still would.

    Reads the repository only: the last fetch, no network. A fetch asks for the envelopes of every merge that waits.

    Raises: AuditError(object_hash).
    """
    if decision.decided is None:
        return ()
    again = _again(repository, decision, known, terms, decision.decided)
    return () if again.verdict is model.Verdict.ACCEPT else again.reasons


def is_broken_still(
    repository: ports.Repository, decision: record.Decision, known: state.State, *, terms: judging.Terms
) -> bool:
    """Whether nobody took back the emergency that this acceptance rests on. Raises: as `withdrawn`."""
    if decision.decided is None or decision.emergency is None:
        return False
    return _again(repository, decision, known, terms, decision.decided).emergency is not None


def _again(
    repository: ports.Repository,
    decision: record.Decision,
    known: state.State,
    terms: judging.Terms,
    decided: model.Time,
) -> record.Decision:
    then = known.model_copy(update={"tip": decision.base})
    return judging.judge(repository, decision.revision, then, skipped=decision.skipped, terms=terms, now=decided)
