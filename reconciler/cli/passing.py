"""One pass for `once`: what it found, as a document and as an exit code. A command counts its own pass only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from reconciler import config, errors, model
from reconciler.audit import record, state
from reconciler.cli import exit_codes, printing
from reconciler.views import status, targets

if TYPE_CHECKING:
    from reconciler.daemon import application


def make_pass(told: config.Configuration, *, within_s: float, converge: bool = False) -> int:
    """Raises: ConfigError(locked) while a daemon owns the state folder; AuditError."""
    from reconciler.daemon import application, process

    with process.owning(told.state):
        made = application.Application(told, converge=converge)
        try:
            made.note_configuration()
            if converge:
                warn_after_reset(made)
            before = made.core.audit.state.size
            running = process.Pass(made)
            ended = running.run(within_s=within_s)
            found = tuple(_findings(made, before))
            _say(made, running.unreachable)
        finally:
            made.close()
    if running.unreachable is not None:
        found = (*found, exit_codes.of_error(running.unreachable))
    if not ended:
        printing.say("error: the pass did not come to an end in time\nfix: give it longer with --within")
        return exit_codes.DEADLINE
    return exit_codes.worst(found)


def warn_after_reset(made: application.Application) -> None:
    """`--converge` is about the targets of the genesis; see `admit.let_converge`."""
    if made.state().reset is not None:
        printing.say(
            "warning: --converge: source.genesis was moved, targets stay as they are until a merge touches them"
        )


def _findings(made: application.Application, before: int) -> Iterator[int]:
    known = made.core.audit.state
    if known.halted:
        yield exit_codes.BROKEN
    for entry in made.core.audit.records(after=before - 1):
        yield of_event(entry.event)
    yield from of_state(known, made.core.held())
    for live in made.live().values():
        if live.look is not None and live.look.errors:
            yield exit_codes.UNREACHABLE


def of_event(event: record.Event) -> int:
    """What happened in this pass. Verdicts and standings are read off the state: there they are as they stand at its end."""
    match event:
        case record.Outcome(closed=model.Closed.FAILED):
            return exit_codes.FAILED
        case _:
            return exit_codes.FINE


def of_state(known: state.State, held: Iterable[record.Decision]) -> Iterator[int]:
    for decision in held:
        yield exit_codes.of_verdict(decision.verdict, (reason.code for reason in decision.reasons))
    for merge in known.pending.values():
        if merge.results:
            yield exit_codes.GATE
    for target in known.targets.values():
        yield exit_codes.of_standing(target.standing.code if target.standing else None)


def _say(made: application.Application, unreachable: errors.ReconcilerError | None) -> None:
    known = made.core.audit.state
    if unreachable is not None:
        printing.say(f"error: {_full(model.Reason.of(unreachable))}")
    for reason in status.alarms(known):
        printing.say(_full(reason))
    for decision in made.core.held():
        for reason in decision.reasons:
            printing.say(f"{decision.revision[:12]} {decision.verdict}: {_full(reason)}")
    for merge in known.pending.values():
        for result in merge.results:
            for finding in result.findings if result.blocks else ():
                printing.say(f"{merge.decision.revision[:12]} {result.check}: {_full(finding)}")
    live = made.live()
    for name, target in known.targets.items():
        look = live[name].look if name in live else None
        away = tuple(look.errors.values()) if look else ()
        printing.say(f"{name}: {_where(target)}" + ("; could not be looked at" if away else ""))
        for reason in (*(targets.why(target.standing) if target.standing else ()), *away):
            printing.say(f"  {_full(reason)}")


def _where(target: state.Target) -> str:
    return f"stands {target.standing.code}" if target.standing and target.standing.code else "rests"


def _full(reason: model.Reason) -> str:
    return printing.reason(reason.model_dump())
