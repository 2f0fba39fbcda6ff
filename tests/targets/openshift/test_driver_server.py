"""The driver against a real API server: what it writes, what it finds, what it leaves alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import kube as planes
from support import kube_api, openshift

from reconciler import errors, model

CORE = "/api/v1/namespaces"


@pytest.fixture
def woken() -> list[float]:
    return []


@pytest.fixture
def daemon(kube: planes.ControlPlane, tmp_path: Path, woken: list[float]) -> Iterator[openshift.Daemon]:
    around = openshift.facilities(
        tmp_path,
        kube.kubeconfig("deployer"),
        installation=planes.unique("i"),
        wake=lambda _target: woken.append(time.monotonic()),
        PASSWORD="first-password",
    )
    made = openshift.Daemon(around)
    yield made
    made.driver.close()


def path(namespace: str, name: str, plural: str = "configmaps") -> str:
    return f"{CORE}/{namespace}/{plural}/{name}"


def one(namespace: str, text: str = "one", **more: Any) -> model.Desired:
    return openshift.desired(namespace, openshift.config_map(namespace, "a", {"text": text}), **more)


def key(namespace: str, name: str = "a", kind: str = "ConfigMap") -> model.Key:
    return model.Key(f"{kind}/{namespace}/{name}")


def steps(look: model.Look) -> list[model.Step]:
    return [step for seen in look.observations for step in seen.steps]


def deployment(namespace: str, image: str = "example.test/app:1", **spec: Any) -> dict[str, Any]:
    pod = {"containers": [{"name": "app", "image": image}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    whole = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    metadata = {"name": "web", "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": whole}


# --- drift --------------------------------------------------------------------------------------------------------------


def test_what_is_applied_bears_our_marks_and_our_manager(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    (result,) = daemon.converge(one(kube_namespace))
    found = kube.api.get(path(kube_namespace, "a"))
    assert result.identity == found["metadata"]["uid"]
    assert found["metadata"]["labels"] == {"reconciler/target": "t"}
    installation = daemon.facilities.installation
    assert found["metadata"]["annotations"]["reconciler/owner"] == f"{installation}/t"
    managers = {(m["manager"], m["operation"]) for m in found["metadata"]["managedFields"]}
    assert managers == {(f"reconciler:{installation}:t", "Apply")}


def test_drift_names_who_took_the_field_wakes_within_a_second_and_is_taken_back(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, woken: list[float]
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    assert woken == [], "our own writes wake nobody"
    at = time.monotonic()
    kube.api.patch(path(kube_namespace, "a"), {"data": {"text": "by hand"}}, manager="kubectl-edit")
    kube.api.wait(lambda: woken)
    assert woken[0] - at < 1
    (step,) = steps(daemon.look(wanted))
    assert "data.text from kubectl-edit" in step.command
    assert '-  text: "by hand"' in step.diff
    assert '+  text: "one"' in step.diff
    daemon.converge(wanted)
    assert kube.api.get(path(kube_namespace, "a"))["data"] == {"text": "one"}


def test_what_controllers_write_beside_us_is_no_drift_and_wakes_nobody(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, woken: list[float]
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    there = kube.api.patch(
        path(kube_namespace, "a"), {"metadata": {"annotations": {"theirs": "yes"}}, "data": {"b": "2"}}
    )
    openshift.await_watches(path(kube_namespace, "a"), there)
    assert steps(daemon.look(wanted)) == []
    assert woken == []


def test_an_object_that_lost_its_label_is_marked_again(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    kube.api.patch(path(kube_namespace, "a"), {"metadata": {"labels": {"reconciler/target": None}}})
    openshift.await_watches(path(kube_namespace, "a"), None)
    (seen,) = daemon.look(wanted).observations
    assert not seen.marked
    assert [step.action for step in seen.steps] == ["update"]
    daemon.converge(wanted)
    assert kube.api.get(path(kube_namespace, "a"))["metadata"]["labels"] == {"reconciler/target": "t"}


def test_a_look_where_nothing_moved_asks_the_server_nothing(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path
) -> None:
    who = kube.daemon()
    daemon = openshift.Daemon(openshift.facilities(tmp_path, who.kubeconfig, installation=planes.unique("i")))
    wanted = one(kube_namespace, connection={"impersonate": {"user": "deployer"}})
    daemon.converge(wanted)
    time.sleep(0.1)
    at = kube.mark()
    for _ in range(20):
        assert steps(daemon.look(wanted)) == []
    assert [r for r in kube.requests(at, user=who.name) if r.verb != "watch"] == []
    daemon.driver.close()


# --- restarts -----------------------------------------------------------------------------------------------------------


def test_a_new_daemon_finds_everything_as_it_was_and_writes_nothing(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    wanted = openshift.desired(
        kube_namespace,
        openshift.config_map(kube_namespace, "a", {"text": "one"}),
        secret(kube_namespace),
        deployment(kube_namespace),
    )
    daemon.converge(wanted)
    next_ = daemon.restarted()
    assert steps(next_.look(wanted)) == []
    assert all(seen.wanted == seen.actual for seen in next_.look(wanted).observations)
    next_.driver.close()


def test_drift_from_while_no_daemon_ran_is_found_and_taken_back(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    daemon.driver.close()
    kube.api.patch(path(kube_namespace, "a"), {"data": {"text": "by hand"}}, manager="kubectl-edit")
    next_ = daemon.restarted()
    (step,) = steps(next_.look(wanted))
    assert "data.text from kubectl-edit" in step.command
    next_.converge(wanted)
    assert kube.api.get(path(kube_namespace, "a"))["data"] == {"text": "one"}
    next_.driver.close()


# --- prune --------------------------------------------------------------------------------------------------------------


def test_a_namesake_with_another_uid_is_not_pruned(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    both = openshift.desired(
        kube_namespace, *(openshift.config_map(kube_namespace, name, {"text": "x"}) for name in ("a", "b"))
    )
    daemon.converge(both)
    plan = daemon.plan(one(kube_namespace, "x"))
    assert [(step.action, step.key) for step in plan.steps] == [("delete", key(kube_namespace, "b"))]
    kube.api.delete(path(kube_namespace, "b"))
    kube.api.create(openshift.config_map(kube_namespace, "b", {"text": "somebody else's"}))
    (result,) = daemon.write(one(kube_namespace, "x"), plan)
    assert result.effect is model.Effect.MOVED
    assert kube.api.get(path(kube_namespace, "b"))["data"] == {"text": "somebody else's"}


def test_what_waits_for_a_finalizer_stays_ours_and_says_whose_it_is(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    both = openshift.desired(
        kube_namespace, *(openshift.config_map(kube_namespace, name, {"text": "x"}) for name in ("a", "b"))
    )
    daemon.converge(both)
    kube.api.patch(path(kube_namespace, "b"), {"metadata": {"finalizers": ["example.test/hold"]}})
    wanted = one(kube_namespace, "x")
    (result,) = daemon.write(wanted, daemon.plan(wanted))
    assert result.effect is model.Effect.SKIPPED
    assert result.finding
    assert "example.test/hold" in result.finding.message
    look = daemon.look(wanted)
    assert look.health is model.Health.PROGRESSING
    assert steps(look) == []
    assert key(kube_namespace, "b") in daemon.owned
    kube.api.patch(path(kube_namespace, "b"), {"metadata": {"finalizers": None}})
    openshift.await_watches(path(kube_namespace, "b"), None)
    daemon.converge(wanted)
    assert key(kube_namespace, "b") not in daemon.owned


def test_what_bears_our_marks_and_is_not_recorded_is_reported_and_never_pruned(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    found = kube.api.get(path(kube_namespace, "a"))["metadata"]
    marks = {"labels": found["labels"], "annotations": found["annotations"]}
    copy = kube.api.create(openshift.config_map(kube_namespace, "copy", {"text": "one"}, **marks))
    openshift.await_watches(path(kube_namespace, "copy"), copy)
    kube.api.wait(lambda: daemon.look(wanted).foreign)
    look = daemon.look(wanted)
    assert [(seen.key, seen.steps) for seen in look.foreign] == [(key(kube_namespace, "copy"), ())]
    assert steps(look) == []


# --- others' objects and fields -------------------------------------------------------------------------------------------


def test_what_appears_between_the_look_and_the_write_is_not_written_over(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    wanted = one(kube_namespace)
    plan = daemon.plan(wanted)
    kube.api.create(openshift.config_map(kube_namespace, "a", {"other": "theirs"}))
    (result,) = daemon.write(wanted, plan)
    assert result.effect is model.Effect.MOVED
    found = kube.api.get(path(kube_namespace, "a"))
    assert found["data"] == {"other": "theirs"}
    assert "labels" not in found["metadata"]
    assert [r.code for r in daemon.plan(wanted).refusals] == ["adoption"]


def test_adopting_takes_over_what_kubectl_owned_and_removes_what_the_manifest_does_not_say(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    theirs = openshift.config_map(kube_namespace, "a", {"text": "theirs", "extra": "x"})
    kube.api.call("POST", f"{CORE}/{kube_namespace}/configmaps?fieldManager=kubectl-client-side-apply", theirs)
    wanted = one(kube_namespace, adopt=frozenset({key(kube_namespace)}))
    plan = daemon.plan(wanted)
    assert [step.action for step in plan.steps] == ["adopt"]
    daemon.write(wanted, plan)
    found = kube.api.get(path(kube_namespace, "a"))
    assert found["data"] == {"text": "one"}
    assert {m["manager"] for m in found["metadata"]["managedFields"]} == {
        f"reconciler:{daemon.facilities.installation}:t"
    }
    assert steps(daemon.look(wanted)) == []


def test_a_conflict_fails_and_names_every_field_with_its_owner(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    daemon.converge(one(kube_namespace))
    more = openshift.config_map(kube_namespace, "a", {"text": "one", "mode": "ours", "size": "1"})
    kube.api.apply(openshift.config_map(kube_namespace, "a", {"mode": "theirs", "size": "2"}), manager="tuner")
    wanted = openshift.desired(kube_namespace, more)
    (result,) = daemon.write(wanted, daemon.plan(wanted))
    assert result.effect is model.Effect.FAILED
    assert result.finding
    assert result.finding.code == "conflict"
    for field in ("data.mode", "data.size"):
        assert f"{field} belongs to tuner" in result.finding.message
    assert kube.api.get(path(kube_namespace, "a"))["data"] == {"text": "one", "mode": "theirs", "size": "2"}


def test_a_conflict_is_taken_where_the_document_says_so(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    daemon.converge(one(kube_namespace))
    kube.api.apply(openshift.config_map(kube_namespace, "a", {"mode": "theirs"}), manager="tuner")
    more = openshift.config_map(kube_namespace, "a", {"text": "one", "mode": "ours"})
    daemon.converge(openshift.desired(kube_namespace, more, options={"conflicts": "take"}))
    assert kube.api.get(path(kube_namespace, "a"))["data"] == {"text": "one", "mode": "ours"}


def test_a_field_under_ignore_is_left_to_its_owner(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    rule = model.Ignore(key="ConfigMap/*/a", path="data.mode", reason="tuner")
    more = openshift.config_map(kube_namespace, "a", {"text": "one", "mode": "ours"})
    wanted = openshift.desired(kube_namespace, more, ignore=(rule,))
    daemon.converge(wanted)
    there = kube.api.apply(openshift.config_map(kube_namespace, "a", {"mode": "theirs"}), manager="tuner")
    openshift.await_watches(path(kube_namespace, "a"), there)
    assert steps(daemon.look(wanted)) == []
    changed = openshift.config_map(kube_namespace, "a", {"text": "two", "mode": "ours"})
    daemon.converge(openshift.desired(kube_namespace, changed, ignore=(rule,)))
    assert kube.api.get(path(kube_namespace, "a"))["data"] == {"text": "two", "mode": "theirs"}


def test_a_container_that_nobody_declared_is_reported(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    wanted = openshift.desired(kube_namespace, deployment(kube_namespace))
    daemon.converge(wanted)
    place = f"/apis/apps/v1/namespaces/{kube_namespace}/deployments/web"
    evil = {
        "op": "add",
        "path": "/spec/template/spec/containers/-",
        "value": {"name": "evil", "image": "example.test/x"},
    }
    there = kube.api.patch(place, [evil], content=kube_api.JSON_PATCH, manager="intruder")
    openshift.await_watches(place, there)
    look = daemon.look(wanted)
    assert [seen.actual for seen in look.foreign] == [
        {"path": "spec.template.spec.containers", "name": "evil", "manager": "intruder"}
    ]
    assert steps(look) == []


def test_a_container_that_nobody_declared_is_removed_where_the_document_says_so(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, woken: list[float]
) -> None:
    wanted = openshift.desired(kube_namespace, deployment(kube_namespace), options={"foreignItems": "remove"})
    daemon.converge(wanted)
    place = f"/apis/apps/v1/namespaces/{kube_namespace}/deployments/web"
    evil = {
        "op": "add",
        "path": "/spec/template/spec/containers/0",
        "value": {"name": "evil", "image": "example.test/x"},
    }
    there = kube.api.patch(place, [evil], content=kube_api.JSON_PATCH, manager="intruder")
    openshift.await_watches(place, there)
    assert woken, "an intruder wakes the turn"
    (step,) = steps(daemon.look(wanted))
    assert "remove" in step.command
    assert "evil" in step.command
    daemon.converge(wanted)
    found = kube.api.get(place)["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in found] == ["app"]


def test_a_renamed_target_keeps_its_objects_and_nothing_stays_with_the_old_name(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    before = openshift.config_map(kube_namespace, "a", {"text": "one", "more": "x"})
    (first,) = daemon.converge(openshift.desired(kube_namespace, before, target="old"))
    daemon.converge(one(kube_namespace, "two", target="new", formerly="old"))
    found = kube.api.get(path(kube_namespace, "a"))
    assert (found["metadata"]["uid"], found["data"]) == (first.identity, {"text": "two"})
    assert found["metadata"]["labels"] == {"reconciler/target": "new"}
    assert [each["manager"].rpartition(":")[2] for each in found["metadata"]["managedFields"]] == ["new"]


# --- what cannot be changed -----------------------------------------------------------------------------------------------


def job(namespace: str, image: str) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]}
    named = {"name": "migrate", "namespace": namespace}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": named, "spec": {"template": {"spec": pod}}}


def stateful_set(namespace: str, service: str) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"containers": [{"name": "a", "image": "example.test/a:1"}]},
    }
    spec = {
        "serviceName": service.partition("/")[2],
        "replicas": 0,
        "selector": {"matchLabels": {"app": "db"}},
        "template": template,
    }
    named = {"name": "db", "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": named, "spec": spec}


def secret_of(namespace: str, kind: str) -> dict[str, Any]:
    named = {"name": "s", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": named, "type": kind, "stringData": {"p": "env:PASSWORD"}}


@pytest.mark.parametrize("make", [job, stateful_set, secret_of])
def test_what_cannot_be_changed_is_called_so_in_few_words(
    make: Callable[[str, str], dict[str, Any]],
    kube: planes.ControlPlane,
    kube_namespace: str,
    tmp_path: Path,
) -> None:
    """A Job's server quotes the whole pod in front of what is wrong; a StatefulSet's has other words; of a Secret nothing is shown."""
    held = openshift.Daemon(openshift.facilities(tmp_path, kube.kubeconfig("deployer"), PASSWORD="hunter2-4711"))
    held.converge(openshift.desired(kube_namespace, make(kube_namespace, "example.test/one")))
    changed = openshift.desired(kube_namespace, make(kube_namespace, "example.test/two"))
    (result,) = held.write(changed, held.plan(changed))
    assert result.finding is not None
    assert (result.effect, result.finding.code) == (model.Effect.FAILED, "immutable")
    assert "replace:" in result.finding.fix
    assert len(result.finding.message) < 500
    assert "hunter2" not in result.finding.message
    held.driver.close()


def test_an_immutable_field_fails_unless_the_document_lets_the_object_be_replaced(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    daemon.converge(openshift.desired(kube_namespace, deployment(kube_namespace, replicas=0)))
    labels = {"app": "web", "part": "2"}
    other = deployment(kube_namespace, replicas=0, selector={"matchLabels": labels})
    other["spec"]["template"]["metadata"]["labels"] = labels
    changed = openshift.desired(kube_namespace, other)
    (result,) = daemon.write(changed, daemon.plan(changed))
    assert result.effect is model.Effect.FAILED
    assert result.finding
    assert result.finding.code == "immutable"
    allowed = openshift.desired(kube_namespace, other, options={"replace": [f"Deployment/{kube_namespace}/web"]})
    plan = daemon.plan(allowed)
    assert [step.action for step in plan.steps] == ["replace"]
    (result,) = daemon.write(allowed, plan)
    assert result.effect is model.Effect.CHANGED
    place = f"/apis/apps/v1/namespaces/{kube_namespace}/deployments/web"
    assert kube.api.get(place)["spec"]["selector"]["matchLabels"] == labels


def test_an_unknown_field_is_refused_for_good(kube_namespace: str, daemon: openshift.Daemon) -> None:
    typo = openshift.config_map(kube_namespace, "a", {}) | {"datum": {"a": "b"}}
    wanted = openshift.desired(kube_namespace, typo)
    (result,) = daemon.write(wanted, daemon.plan(wanted))
    assert result.effect is model.Effect.FAILED
    assert result.finding
    assert result.finding.code == "schema"
    assert result.finding.where == "targets/t/manifests/0000.yaml:1"


# --- secrets ----------------------------------------------------------------------------------------------------------------


def secret(namespace: str) -> dict[str, Any]:
    metadata = {"name": "s", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": "env:PASSWORD"}}


def test_a_secret_is_sent_and_shown_nowhere_and_sent_again_when_it_was_rotated(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    wanted = openshift.desired(kube_namespace, secret(kube_namespace))
    first = daemon.look(wanted)
    plan = daemon.plan(wanted, first)
    results = daemon.write(wanted, plan)
    after = daemon.look(wanted)
    place = path(kube_namespace, "s", "secrets")
    assert kube.api.get(place)["data"] == {"password": "Zmlyc3QtcGFzc3dvcmQ="}
    assert steps(after) == []
    daemon.facilities.secrets.known["env:PASSWORD"] = "second-password"  # type: ignore[attr-defined]
    next_ = daemon.restarted()
    rotated = next_.look(wanted)
    assert [step.action for step in steps(rotated)] == ["update"]
    next_.converge(wanted)
    assert kube.api.get(place)["data"] == {"password": "c2Vjb25kLXBhc3N3b3Jk"}
    said = "".join(value.model_dump_json() for value in (first, plan, *results, after, rotated)) + repr(
        next_.driver.__dict__
    )
    for shown in ("first-password", "second-password", "Zmlyc3QtcGFzc3dvcmQ", "c2Vjb25kLXBhc3N3b3Jk"):
        assert shown not in said
    next_.driver.close()


def test_a_secret_changed_by_hand_is_drift_without_showing_either_value(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    wanted = openshift.desired(kube_namespace, secret(kube_namespace))
    daemon.converge(wanted)
    place = path(kube_namespace, "s", "secrets")
    there = kube.api.patch(place, {"data": {"password": "aGFja2VkLXBhc3N3b3Jk"}}, manager="kubectl-edit")
    openshift.await_watches(place, there)
    look = daemon.look(wanted)
    (step,) = steps(look)
    assert "hacked-password" not in look.model_dump_json()
    assert "aGFja2Vk" not in look.model_dump_json()
    assert step.action == "update"
    daemon.converge(wanted)
    assert kube.api.get(place)["data"] == {"password": "Zmlyc3QtcGFzc3dvcmQ="}


# --- several targets, identities --------------------------------------------------------------------------------------------


def test_two_targets_of_a_cluster_share_its_watches_and_wake_only_themselves(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path
) -> None:
    woken: list[str] = []
    around = openshift.facilities(
        tmp_path, kube.kubeconfig("deployer"), installation=planes.unique("i"), wake=woken.append
    )
    here, there = openshift.Daemon(around), openshift.Daemon(around)
    first = one(kube_namespace, target="first")
    second = openshift.desired(
        kube_namespace, openshift.config_map(kube_namespace, "b", {"text": "one"}), target="second"
    )
    here.converge(first)
    there.converge(second)
    assert [t.name for t in threading.enumerate()].count("watch-configmaps") == 1
    kube.api.patch(path(kube_namespace, "b"), {"data": {"text": "by hand"}})
    kube.api.wait(lambda: woken)
    assert woken == ["second"]
    here.driver.close()
    there.converge(second)
    assert kube.api.get(path(kube_namespace, "b"))["data"] == {"text": "one"}
    there.driver.close()
    assert "watch-configmaps" not in [t.name for t in threading.enumerate()]


def test_what_another_target_owns_is_not_ours_to_write(kube_namespace: str, daemon: openshift.Daemon) -> None:
    daemon.converge(one(kube_namespace))
    other = openshift.Daemon(daemon.facilities)
    wanted = one(kube_namespace, "two", target="other", adopt=frozenset())
    assert [r.code for r in other.plan(wanted).refusals] == ["adoption"]
    other.driver.close()


def test_every_request_is_made_as_the_impersonated_identity(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path
) -> None:
    who = kube.daemon()
    at = kube.mark()
    around = openshift.facilities(tmp_path, who.kubeconfig, installation=planes.unique("i"), PASSWORD="a-password")
    daemon = openshift.Daemon(around)
    impersonate = {"impersonate": {"user": "deployer", "groups": ["payments"]}}
    wanted = one(kube_namespace, connection=impersonate)
    daemon.converge(wanted)
    daemon.driver.confirm(wanted, "d")
    daemon.converge(
        openshift.desired(
            kube_namespace,
            secret(kube_namespace),
            openshift.config_map(kube_namespace, "a", {}),
            connection=impersonate,
        )
    )
    daemon.driver.close()
    made = kube.requests(at, user=who.name)
    assert {request.verb for request in made} >= {"get", "list", "watch", "patch"}
    assert {(request.impersonated, request.groups) for request in made} == {("deployer", ("payments",))}


def test_who_may_read_one_namespace_only_watches_that_one(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path
) -> None:
    name = planes.unique("alice")
    kube.grant(name, "edit", kube_namespace)
    woken: list[str] = []
    around = openshift.facilities(tmp_path, kube.certified(name), installation=planes.unique("i"), wake=woken.append)
    daemon = openshift.Daemon(around)
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    kube.api.patch(path(kube_namespace, "a"), {"data": {"text": "by hand"}})
    kube.api.wait(lambda: woken)
    daemon.converge(wanted)
    assert kube.api.get(path(kube_namespace, "a"))["data"] == {"text": "one"}
    daemon.driver.close()


def test_what_may_not_be_read_is_an_error_and_neither_there_nor_absent(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path
) -> None:
    around = openshift.facilities(tmp_path, kube.kubeconfig("visitor"), installation=planes.unique("i"))
    daemon = openshift.Daemon(around)
    look = daemon.look(one(kube_namespace))
    assert look.errors[key(kube_namespace)].code == "forbidden"
    assert steps(look) == []
    daemon.driver.close()


def test_a_wrong_credential_is_a_security_error(kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path) -> None:
    token = next(line.split()[-1] for line in kube.kubeconfig("deployer").splitlines() if "token:" in line)
    daemon = openshift.Daemon(openshift.facilities(tmp_path, kube.kubeconfig("deployer").replace(token, "x" * 32)))
    with pytest.raises(errors.PermanentError) as caught:
        daemon.look(one(kube_namespace))
    assert caught.value.code == "target.auth_failed"
    daemon.driver.close()
