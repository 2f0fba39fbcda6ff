"""What a stage made ours, or let go: from its results, or from a look where the results were lost. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler import model


def by_results(stage: model.Stage, results: tuple[model.StepResult, ...]) -> dict[model.Key, str | None]:
    gone = {s.key for s in stage.steps if s.action == "delete"}
    done = (model.Effect.CHANGED, model.Effect.UNCHANGED)
    return {r.key: None if r.key in gone else r.identity for r in results if r.effect in done}


def by_look(keys: Mapping[model.Key, str], look: model.Look) -> dict[model.Key, str | None]:
    """After a lost result: of the keys that the intent names, those that now are as wanted were written by us."""
    return {
        seen.key: seen.identity if seen.actual is not None else None
        for seen in look.observations
        if seen.key in keys and not seen.steps
    }
