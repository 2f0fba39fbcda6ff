"""Looks, targets and deployments as values, for tests of what decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler import model
from reconciler.admission.admitted import Admitted
from reconciler.audit import state

NOW = datetime(2026, 11, 24, tzinfo=UTC)
KEY, OTHER = model.Key("item/n/one"), model.Key("item/n/other")
OLD, NEW = (
    model.Version(revision=model.Oid("m1"), digest=model.Digest("old")),
    model.Version(revision=model.Oid("m2"), digest=model.Digest("new")),
)


def admitted(version: model.Version = NEW, **settings: Any) -> Admitted:
    return Admitted(
        model.Desired(
            target="t",
            kind="memory",
            connection={},
            revision=version.revision or model.Oid(""),
            digest=version.digest,
            environment="prod",
            spec={},
            payload={},
            **settings,
        )
    )


def deployment(
    *, wanted: model.Version = NEW, cause: model.Cause = model.Cause.CHANGE, ago_s: float = 1, **more: Any
) -> model.Deployment:
    return model.Deployment(
        id="d", target="t", wanted=wanted, cause=cause, started=NOW - timedelta(seconds=ago_s), **more
    )


def known(**more: Any) -> state.Target:
    return state.Target(name="t", **{"cleared": NEW, "confirmed": OLD, "owned": {KEY: "1"}, **more})


def observation(
    key: model.Key = KEY, *, wanted: str | None = "2", actual: str | None = "1", action: str = "update", **more: Any
) -> model.Observation:
    steps = () if wanted == actual else (model.Step(key=key, action=action, command="", before=None),)
    return model.Observation(
        **{"key": key, "wanted": wanted, "actual": actual, "steps": steps, "health": model.Health.HEALTHY, **more}
    )


def look(*observations: model.Observation, **more: Any) -> model.Look:
    return model.Look(
        **{"observations": observations, "fingerprint": model.Digest(""), "health": model.Health.HEALTHY, **more}
    )
