"""What a driver may contact that only a secret names: by the policy in force, and by what the target is (trust.md 4.1)."""

from __future__ import annotations

from support import gating

from reconciler import model
from reconciler.audit import state
from reconciler.daemon import composing


def reach(made: gating.Estate, known: state.State) -> composing.PolicyReach:
    return composing.PolicyReach(lambda: known, made.store)


def desired(environment: str) -> model.Desired:
    made = gating.Estate()
    made.commit(gating.target(environment=environment))
    return made.read("app")


def test_the_environment_of_what_is_wanted_decides() -> None:
    made = gating.Estate()
    asked = reach(made, state.State(policies=made.head))
    assert asked.allows(desired("prod"), "api.prod.bank.example")
    assert asked.allows(desired("prod"), "10.20.3.4")
    assert not asked.allows(desired("dev"), "api.prod.bank.example")
    assert not asked.allows(desired("prod"), "prod.bank.example.evil.example")
    assert not asked.allows(desired("test"), "localhost"), "an environment that the policy does not name"


def test_nothing_is_reached_before_a_policy_was_accepted() -> None:
    assert not reach(gating.Estate(), state.State()).allows(desired("dev"), "localhost")


def test_on_the_way_back_to_a_snapshot_the_cleared_state_says_the_environment() -> None:
    made = gating.Estate()
    policies = made.head
    made.commit(gating.target(environment="prod"))
    cleared = model.Version(revision=made.head, digest=made.read("app").digest)
    target = state.Target(name="app", cleared=cleared)
    asked = reach(made, state.State(policies=policies, targets={"app": target}))
    back = model.Snapshot(target="app", kind="openshift", connection={}, resources={})
    assert asked.allows(back, "api.prod.bank.example")
    assert not asked.allows(back, "localhost")
    assert not asked.allows(back.model_copy(update={"target": "other"}), "api.prod.bank.example")
