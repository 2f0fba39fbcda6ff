"""A line for each record of a trace."""

from __future__ import annotations

from reconciler import model
from reconciler.audit import record


def brief(event: record.Event) -> str:  # noqa: C901, PLR0911, PLR0912 - a line for each event
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
        case record.Obligation():
            return f"obligation {event.kind} {event.change} {event.revision[:8]} {event.people} due {event.due}"
        case record.Drift():
            return f"drift {event.count} {list(event.keys[:3])}"
        case record.Halt():
            return f"halt {event.codes}"
        case _:
            return event.type
