"""`plan` and `diff`: what would be written, or was not, and why (design.md, idea 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from reconciler import model
from reconciler.views import document


class Preview(model.Value):
    """What one target would get. Without a plan it was not contacted: `reasons` say why, `content` shows what differs in Git."""

    target: str
    plan: model.Plan | None = None
    rehearsed: Mapping[model.Key, model.Rehearsed] = {}  # what the target itself says to it, where it can be asked
    reasons: tuple[model.Reason, ...] = ()
    content: str = ""  # unified diff of the folder


class Step(document.Row):
    stage: int
    key: model.Key
    action: str
    command: str
    hazards: tuple[str, ...]
    reversible: bool
    diff: str  # as the target would leave it, where its dry run accepted the step
    impact: str = ""  # what goes with it
    dry_run: model.DryRun | None = None  # None: its kind of target cannot be asked, or nothing would be sent
    dry_run_reasons: tuple[model.Reason, ...] = ()  # what the target said no to, or why it cannot say


class Plan(document.Row):
    target: str
    contacted: bool
    empty: bool  # nothing would be written; False where nobody could look
    wanted: model.Digest | None
    steps: tuple[Step, ...]
    refusals: tuple[model.Reason, ...]
    reasons: tuple[model.Reason, ...]
    content: str


class PlanList(document.Document):
    kind: Literal["PlanList"] = "PlanList"
    items: tuple[Plan, ...]


def plans(previews: Iterable[Preview]) -> PlanList:
    return PlanList(items=tuple(_plan(each) for each in previews))


def _plan(preview: Preview) -> Plan:
    made = preview.plan
    return Plan(
        target=preview.target,
        contacted=made is not None,
        empty=made is not None and not made.stages,
        wanted=made.wanted if made else None,
        steps=tuple(_steps(made, preview.rehearsed)) if made else (),
        refusals=made.refusals if made else (),
        reasons=preview.reasons,
        content=preview.content,
    )


def _steps(plan: model.Plan, rehearsed: Mapping[model.Key, model.Rehearsed]) -> Iterator[Step]:
    for number, stage in enumerate(plan.stages):
        yield from (_step(number, step, rehearsed.get(step.key)) for step in stage.steps)


def _step(stage: int, step: model.Step, said: model.Rehearsed | None) -> Step:
    return Step(
        stage=stage,
        key=step.key,
        action=step.action,
        command=step.command,
        hazards=step.hazards,
        reversible=step.undo is not None,
        diff=said.diff if said and said.outcome is model.DryRun.ACCEPTED else step.diff,
        impact=step.impact,
        dry_run=said.outcome if said else None,
        dry_run_reasons=said.reasons if said else (),
    )
