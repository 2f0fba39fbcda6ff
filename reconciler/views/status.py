"""The installation as a whole: who is running, what was accepted last, since when nothing was heard."""

from __future__ import annotations

from typing import Literal

from reconciler import model
from reconciler.admission import codes
from reconciler.audit import state
from reconciler.views import document


class Facts(model.Value):
    """What a process knows of itself, beside the log."""

    installation: str
    profile: str
    version: str
    watching: bool  # a daemon looks at the targets; False: only what was recorded is known
    started: model.Time | None = None
    fetched: model.Time | None = None  # the last fetch that succeeded
    fetch_error: model.Reason | None = None  # of the last one, if it did not
    warnings: tuple[str, ...] = ()


class Status(document.Document):
    kind: Literal["Status"] = "Status"
    installation: str
    profile: str
    version: str
    mode: Literal["daemon", "recorded"]
    started: model.Time | None
    tip: model.Oid | None
    genesis: model.Oid | None
    fetched: model.Time | None
    fetch_error: model.Reason | None
    halted: tuple[str, ...]
    held: int  # commits after the tip that were not accepted
    pending: int  # accepted merges that wait for their gates
    targets: int
    log_size: int
    warnings: tuple[str, ...]


def status(facts: Facts, known: state.State) -> Status:
    return Status(
        installation=facts.installation,
        profile=facts.profile,
        version=facts.version,
        mode="daemon" if facts.watching else "recorded",
        started=facts.started,
        tip=known.tip,
        genesis=known.genesis,
        fetched=facts.fetched,
        fetch_error=facts.fetch_error,
        halted=known.halted,
        held=len(known.held),
        pending=len(known.pending),
        targets=len(known.targets),
        log_size=known.size,
        warnings=facts.warnings,
    )


def alarms(known: state.State) -> model.ValidationResult:
    """Why nothing is written, or nothing let in, until a person has looked: each code with its sentence and its way out."""
    said = {code.name: code.says for code in codes.TABLE if code.name in codes.HALT}
    return tuple(
        model.Reason(code=code, message=f"halted: {said.get(code, 'an integrity alarm')}", fix=codes.fix(code))
        for code in known.halted
    )
