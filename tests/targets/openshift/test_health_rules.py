"""Health of custom resources by expressions of CEL, and what bounds them."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reconciler.targets.openshift import document
from reconciler.targets.openshift.judging import expressions, health, judged

Status = health.Status


def rule(current: str, failed: str | None = None, kind: str = "Widget.example.com/v1") -> document.HealthRule:
    return document.HealthRule(kind=kind, current=current, failed=failed)


def widget(status: Any, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", **metadata}, "status": status}


READY = 'self.status.phase == "Ready"'
BROKEN = 'self.status.phase in ["Error"]'
EXISTS = 'self.status.conditions.exists(c, c.type == "Synced" && c.status == "True")'


@pytest.mark.parametrize(
    ("given", "status", "judgement"),
    [
        (rule(READY, BROKEN), {"phase": "Ready"}, Status.CURRENT),
        (rule(READY, BROKEN), {"phase": "Error"}, Status.FAILED),
        (rule(READY, BROKEN), {"phase": "Working"}, Status.UNKNOWN),
        (rule(READY, BROKEN), {}, Status.UNKNOWN),
        (rule("true", "true"), {}, Status.FAILED),
        (rule("true"), {}, Status.CURRENT),
        (rule("1 / 0 == 1"), {}, Status.UNKNOWN),
        (rule('"true"'), {}, Status.UNKNOWN),
        (rule("self.status.phase ==", "true"), {"phase": "Ready"}, Status.FAILED),
        (rule(EXISTS), {"conditions": [{"type": "Synced", "status": "True"}]}, Status.CURRENT),
        (rule(EXISTS), {"conditions": [{"type": "Synced", "status": "False"}]}, Status.UNKNOWN),
        (rule("true", kind="Widget.example.com/v2"), {}, Status.UNKNOWN),
    ],
)
def test_failed_wins_an_error_is_false_and_the_rest_is_unknown(
    given: document.HealthRule, status: dict[str, Any], judgement: health.Status
) -> None:
    assert health.judge(widget(status), (given,)).status is judgement


@pytest.mark.parametrize(
    ("status", "metadata", "judgement"),
    [
        ({"conditions": [{"type": "Ready", "status": "False"}]}, {}, Status.IN_PROGRESS),
        ({"conditions": [{"type": "Stalled", "status": "True"}]}, {}, Status.FAILED),
        ({"observedGeneration": 1}, {"generation": 2}, Status.IN_PROGRESS),
        ({}, {"deletionTimestamp": "2026-11-24T12:00:00Z"}, Status.TERMINATING),
    ],
)
def test_a_rule_makes_nothing_green_that_says_itself_that_it_is_not(
    status: dict[str, Any], metadata: dict[str, Any], judgement: health.Status
) -> None:
    assert health.judge(widget(status, **metadata), (rule("true"),)).status is judgement


def test_a_condition_makes_nothing_green_that_a_rule_says_is_not() -> None:
    ready = widget({"conditions": [{"type": "Ready", "status": "True"}]})
    assert health.judge(ready, (rule("false"),)).status is Status.UNKNOWN
    assert health.judge(ready, (rule("false", "true"),)).status is Status.FAILED
    assert health.judge(ready, (rule("true", "false"),)).status is Status.CURRENT


def test_a_rule_may_say_that_nobody_gives_addresses_here_but_not_that_a_rollout_is_done() -> None:
    ingress: judged.Body = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a"}}
    deployment: judged.Body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}
    rules = (rule("true", kind="Ingress/v1"), rule("true", kind="Deployment/v1"))
    assert health.judge(ingress).status is Status.IN_PROGRESS
    assert health.judge(ingress, rules).status is Status.CURRENT
    assert health.judge(deployment, rules).status is Status.IN_PROGRESS


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (READY, ""),
        (EXISTS, ""),
        ('has(self.status.phase) && size(self.status.phase) > 0 && self.metadata.name.matches("^a")', ""),
        ('timestamp(self.metadata.creationTimestamp) > timestamp("2026-01-01T00:00:00Z")', ""),
        ("int(self.status.count) > 1 || type(self.status) == map", ""),
        ("self.status..phase", "parse"),
        ("status.phase == 1", "'status' is not known"),
        ('open("/etc/passwd")', "'open' is not known"),
        ('self.status.phase.lowerAscii() == "ready"', "'lowerAscii' is not known"),
        ("(" * 1000, "parse"),
        ("self.a" * 1000, "longer than"),
    ],
)
def test_an_expression_is_checked_before_it_is_used(expression: str, words: str) -> None:
    found = expressions.check(expression)
    assert words in found
    assert bool(found) == bool(words)


def test_a_rule_that_cannot_be_used_is_a_reason_that_says_which_part_and_how_to_mend_it() -> None:
    found = health.check_rule(rule(READY, "state == 1"))
    assert found
    assert found.code == "health_rule"
    assert found.message == "Widget.example.com/v1: failed: 'state' is not known; the object is `self`"
    assert "self" in found.fix
    assert health.check_rule(rule(READY, BROKEN)) is None


HOSTILE = [
    "self.l.all(a, self.l.all(b, self.l.all(c, a + b + c >= 0)))",  # years
    "self.l.map(a, self.l.map(b, self.s + self.s)).size() > 0",  # memory
]


@pytest.mark.parametrize("expression", HOSTILE)
def test_an_expression_that_never_ends_costs_two_seconds_once_and_is_unknown(expression: str) -> None:
    body = {**widget({"conditions": [{"type": "Ready", "status": "True"}]}), "l": list(range(2000)), "s": "a" * 40_000}
    began = time.monotonic()
    assert health.judge(body, (rule("true", expression),)).status is Status.UNKNOWN
    asked = time.monotonic()
    assert asked - began < expressions.ANSWERS_IN_S + 3
    for _ in range(50):
        assert health.judge(body, (rule("true", expression),)).status is Status.UNKNOWN
    assert time.monotonic() - asked < expressions.ANSWERS_IN_S


@pytest.mark.parametrize(
    "expression",
    [
        'self.s.matches("^(a+)+$b")',
        'self.s.matches("(a?){200}a{200}$")',
        'self.s.matches("(((a{100}){100}){100})")',
        "!" * 2000 + "true",
        "self" + ".a" * 1000,
    ],
)
def test_a_hostile_regex_or_a_deep_expression_is_answered_at_once(expression: str) -> None:
    began = time.monotonic()
    assert expressions.holds((expression,), {"s": "a" * 40_000})[0] is not None
    assert time.monotonic() - began < expressions.ANSWERS_IN_S


def test_an_object_that_is_too_large_has_no_answer_but_what_says_who_wrote_it_does_not_count() -> None:
    large = "a" * expressions.MAX_BODY_BYTES
    assert expressions.holds(("true",), {"a": large}) == (None,)
    assert expressions.holds(("true",), {"metadata": {"managedFields": [large]}}) == (True,)


def test_the_daemon_does_not_wait_for_the_expressions_of_another_target() -> None:
    slow: judged.Body = {"l": list(range(2000))}
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(expressions.holds, ("self.l.all(a, self.l.all(b, self.l.all(c, a + b + c > -1)))",), slow)
        time.sleep(0.2)
        began = time.monotonic()
        assert expressions.holds(("self.a == 1",), {"a": 1}) == (True,)
        took_s = time.monotonic() - began
        assert not waiting.done() or took_s < 1
        assert waiting.result() == (None,)


def test_the_child_has_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_CANARY", "canary-secret")
    child = expressions.Child()
    try:
        environment = Path(f"/proc/{child.pid}/environ").read_bytes()
        assert child.pid != os.getpid()
        assert environment == b""
    finally:
        child.close()
