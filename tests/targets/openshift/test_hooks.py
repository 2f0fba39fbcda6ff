"""Jobs that run once for a change."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler import errors
from reconciler.targets.openshift.desired import hooks


def job(when: str | None = "before", name: str = "migrate", image: str = "app:1", **spec: Any) -> dict[str, Any]:
    annotations = {"annotations": {hooks.HOOK: when}} if when else {}
    template = {"spec": {"containers": [{"name": "app", "image": image}]}}
    metadata = {"name": name, "namespace": "shop", **annotations}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template, **spec}}


def named(body: dict[str, Any]) -> Any:
    return hooks.named(body)["metadata"]


def done(body: Any, condition: str = "Complete") -> dict[str, Any]:
    return {**body, "status": {"conditions": [{"type": condition, "status": "True"}]}}


def test_a_hook_is_named_by_its_content_so_that_a_changed_one_runs_and_an_unchanged_one_does_not() -> None:
    assert named(job())["name"].startswith("migrate-")
    assert named(job()) == named(job())
    assert named(job())["name"] != named(job(image="app:2"))["name"]
    assert hooks.named(job())["spec"]["ttlSecondsAfterFinished"] == hooks.TTL_S  # type: ignore[index,call-overload]
    assert hooks.named(job(ttlSecondsAfterFinished=600))["spec"]["ttlSecondsAfterFinished"] == 600  # type: ignore[index,call-overload]


def test_a_long_name_stays_a_name() -> None:
    name = named(job(name="a" * 52 + "." + "b" * 200))["name"]
    assert len(name) <= hooks.MAX_NAME_CHARS
    assert "." not in name


def test_only_hooks_are_renamed() -> None:
    assert hooks.named(job(None)) == job(None)
    deployment = {**job(), "kind": "Deployment", "apiVersion": "apps/v1"}
    assert hooks.named(deployment) == deployment
    assert hooks.hook_of(deployment) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (job("during"), "neither before nor after"),
        ({**job(), "kind": "Pod", "apiVersion": "v1"}, "stands on a Pod"),
        (job(ttlSecondsAfterFinished=0), "may be gone before anybody saw"),
        (job(None, ttlSecondsAfterFinished=10), "may be gone before anybody saw"),
    ],
)
def test_a_hook_that_would_not_do_what_it_says_is_refused(body: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.ConfigError, match=words):
        hooks.check(body, "a.yaml:1")


def test_a_good_hook_passes() -> None:
    for body in (job(), job("after"), job(None), job(ttlSecondsAfterFinished=hooks.MIN_TTL_S)):
        hooks.check(body)
    assert hooks.hook_of(job("after")) == "after"


def test_the_log_remembers_that_just_this_content_finished() -> None:
    identity = hooks.memory("uid-1", job())
    assert hooks.remembers(identity, job())
    assert not hooks.remembers(identity, job(image="app:2"))
    assert not hooks.remembers("uid-1", job())
    assert hooks.is_kept(identity)
    assert not hooks.is_kept(hooks.memory("uid-1", job(None)))
    assert hooks.remembers(hooks.memory("uid-1", job(None)), job(None))
    assert hooks.uid_of(identity) == hooks.uid_of("uid-1") == "uid-1"


def test_a_job_that_failed_has_not_finished() -> None:
    assert hooks.finished(done(job()))
    assert not hooks.finished(done(job(), "Failed"))
    assert not hooks.finished(job())


def test_only_a_finished_hook_is_left_to_its_time() -> None:
    assert hooks.is_left(done(job()))
    assert not hooks.is_left(job())
    assert not hooks.is_left(done(job(), "Failed"))
    assert not hooks.is_left(done(job(None)))
