"""The cause of what is not well, from the objects around it."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.targets.openshift.judging import health, reasons

Status = health.Status
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop", "uid": "d"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}},
}


def child(kind: str, uid: str, owner: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": f"web-{uid}", "uid": uid, "ownerReferences": [{"uid": owner}], **more.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def revision(number: int, uid: str, **more: Any) -> dict[str, Any]:
    return child("ReplicaSet", uid, "d", metadata={"annotations": {reasons.REVISION: str(number)}}, **more)


def pod(uid: str, owner: str, waiting: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "registry.example/app:2", "state": {"waiting": waiting} if waiting else {}}
    return child("Pod", uid, owner, status={"containerStatuses": [container], **status})


def event(about: str, reason: str, message: str, at: str = "2026-11-24T12:00:00Z") -> dict[str, Any]:
    involved = {"uid": about, "name": f"web-{about}"}
    return {"kind": "Event", "involvedObject": involved, "reason": reason, "message": message, "lastTimestamp": at}


PULL = {"reason": "ImagePullBackOff", "message": "not found"}
QUOTA = 'pods "web-x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=2, limited: pods=2'


@pytest.mark.parametrize(
    ("children", "words"),
    [
        ([revision(2, "n"), pod("p", "n", PULL)], "web-p: app: ImagePullBackOff: image registry.example/app:2: not found"),
        ([revision(2, "n"), event("n", "FailedCreate", QUOTA)], "quota compute, requested: pods=1, used: pods=2, limited: pods=2 is exceeded"),
        (
            [revision(2, "n", status={"conditions": [{"type": "ReplicaFailure", "status": "True", "message": QUOTA}]})],
            "quota compute, requested: pods=1, used: pods=2, limited: pods=2 is exceeded",
        ),
        (
            [revision(2, "n"), event("n", "FailedCreate", 'admission webhook "pods.example.com" denied the request: no')],
            'pods are refused: web-n: admission webhook "pods.example.com" denied the request: no',
        ),
        (
            [revision(2, "n"), pod("p", "n"), event("p", "Unhealthy", "Readiness probe failed: HTTP 503")],
            "web-p: Readiness probe failed: HTTP 503",
        ),
        (
            [revision(2, "n"), pod("p", "n", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}])],
            "web-p: no node takes it: 0/3 nodes are available",
        ),
        (
            [revision(2, "n"), pod("p", "n"), event("p", "FailedMount", 'secret "tls" not found')],
            'web-p: secret "tls" not found',
        ),
        ([revision(2, "n"), pod("p", "n")], ""),
        ([], ""),
    ],
)  # fmt: skip
def test_the_cause_is_named(children: list[dict[str, Any]], words: str) -> None:
    assert reasons.why(DEPLOYMENT, children) == words


def test_a_crash_is_told_with_the_code_of_the_last_run() -> None:
    crashing = pod("p", "n", {"reason": "CrashLoopBackOff", "message": "back-off"})
    crashing["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 2, "reason": "Error"}}
    assert reasons.why(DEPLOYMENT, [revision(1, "n"), crashing]) == "web-p: app: CrashLoopBackOff: exit code 2 (Error)"


def test_pods_of_an_older_revision_say_nothing_about_the_new_one() -> None:
    children = [revision(9, "old"), revision(10, "new"), pod("p", "old", PULL), event("p", "Unhealthy", "old")]
    assert reasons.why(DEPLOYMENT, children) == ""


def test_what_only_has_the_labels_of_ours_is_not_asked() -> None:
    children = [revision(1, "n"), pod("stranger", "elsewhere", PULL), event("stranger", "FailedMount", "x")]
    assert reasons.why(DEPLOYMENT, children) == ""


def test_what_to_read_is_chosen_by_the_selector() -> None:
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "DoesNotExist"}]}  # fmt: skip
    wide = {**DEPLOYMENT, "spec": {"selector": selector}}
    labels = "app=web,tier in (a,b),!x"
    assert reasons.children_of(wide) == (
        reasons.Selection("apps/v1", "ReplicaSet", "shop", labels),
        reasons.Selection("v1", "Pod", "shop", labels),
        reasons.Selection("v1", "Event", "shop", fields="type=Warning"),
    )


@pytest.mark.parametrize(
    "selector", [None, {}, {"matchLabels": {}}, {"matchExpressions": [{"key": "a", "operator": "?"}]}]
)
def test_a_selector_that_would_choose_everything_chooses_nothing(selector: Any) -> None:
    assert reasons.children_of({**DEPLOYMENT, "spec": {"selector": selector}}) == ()


CLAIM: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "namespace": "shop", "uid": "c"},
    "status": {"phase": "Pending"},
}


def test_a_claim_that_waits_for_its_first_pod_holds_up_no_later_stage() -> None:
    said = health.judge(CLAIM)
    waits = event("c", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    assert said.status is Status.IN_PROGRESS
    assert reasons.explain(CLAIM, said, [waits]).status is Status.CURRENT
    assert reasons.explain(CLAIM, said, [event("other", "WaitForFirstConsumer", "")]).status is Status.IN_PROGRESS


def test_a_claim_whose_provisioner_failed_does_not_merely_wait() -> None:
    waits = event("c", "WaitForFirstConsumer", "waiting")
    failed = event("c", "ProvisioningFailed", "no space in the pool", "2026-11-24T12:01:00Z")
    found = reasons.explain(CLAIM, health.judge(CLAIM), [waits, failed])
    assert found == (Status.IN_PROGRESS, "web-c: no space in the pool (phase Pending: not bound to a volume)")


def test_the_cause_goes_before_the_judgement_and_what_is_current_is_left_alone() -> None:
    said = health.Judged(Status.FAILED, "ProgressDeadlineExceeded")
    children = [revision(1, "n"), pod("p", "n", PULL)]
    cause = "web-p: app: ImagePullBackOff: image registry.example/app:2: not found"
    assert reasons.explain(DEPLOYMENT, said, children) == (Status.FAILED, f"{cause} (ProgressDeadlineExceeded)")
    assert reasons.explain(DEPLOYMENT, health.Judged(Status.CURRENT, "x"), children) == (Status.CURRENT, "x")
    assert reasons.explain(DEPLOYMENT, said, []) == said


def test_hostile_text_of_an_event_is_shown_on_one_line() -> None:
    hostile = event("n", "FailedCreate", "\x1b]0;x\x07a\nb\u202e" + "c" * 5000)
    found = reasons.why(DEPLOYMENT, [revision(1, "n"), hostile])
    assert "\x1b" not in found
    assert "\n" not in found
    assert len(found) < 500
