"""The driver under the real core, on a real control plane: deploy, drift, go back, take over, take down, rename."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import kube as planes
from support import kube_turns

from reconciler.audit import record

Object = dict[str, Any]
folder = kube_turns.folder


@pytest.fixture
def estate(kube: planes.ControlPlane, tmp_path: Path) -> Iterator[kube_turns.Estate]:
    made = kube_turns.Estate(kube, tmp_path)
    yield made
    made.close()


def config(namespace: str, name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def broken(namespace: str) -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "app", "image": "example.test/crash:1"}]}
    metadata = {"name": "broken", "namespace": namespace}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def data(estate: kube_turns.Estate, namespace: str) -> dict[str, dict[str, str]]:
    found = estate.api.items(f"/api/v1/namespaces/{namespace}/configmaps")
    return {each["metadata"]["name"]: each["data"] for each in found if each["metadata"]["name"] != "kube-root-ca.crt"}


def test_a_change_deploys_drift_is_corrected_and_what_is_wanted_no_longer_goes(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    ns = kube_namespace
    estate.merge("m1", folder([config(ns, "a", text="one"), config(ns, "b", text="one")]))
    estate.settle()
    assert data(estate, ns) == {"a": {"text": "one"}, "b": {"text": "one"}}
    estate.api.patch(f"/api/v1/namespaces/{ns}/configmaps/a", {"data": {"text": "by hand"}}, manager="kubectl-edit")
    estate.settle(lambda: data(estate, ns)["a"] == {"text": "one"})
    estate.settle()
    estate.merge("m2", folder([config(ns, "a", text="two")]))
    estate.settle()
    assert data(estate, ns) == {"a": {"text": "two"}}
    assert estate.outcomes() == ["SUCCEEDED"] * 3
    assert set(estate.process.known().owned) == {f"ConfigMap/{ns}/a"}


def test_detecting_reports_drift_and_leaves_it(estate: kube_turns.Estate, kube_namespace: str) -> None:
    ns = kube_namespace
    estate.merge("m1", folder([config(ns, "a", text="one")], mode="detect"))
    estate.settle()
    estate.api.patch(f"/api/v1/namespaces/{ns}/configmaps/a", {"data": {"text": "by hand"}}, manager="kubectl-edit")
    estate.settle(lambda: estate.process.events(record.Drift))
    estate.settle()
    (seen,) = estate.process.events(record.Drift)
    assert (seen.keys, seen.who) == ((f"ConfigMap/{ns}/a",), "kubectl-edit (data.text)")
    assert estate.standing()[0] == "detect"
    assert data(estate, ns) == {"a": {"text": "by hand"}}


def test_what_a_failed_first_change_took_over_is_given_back_as_it_was(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    ns = kube_namespace
    theirs = config(ns, "a", text="theirs", more="kept")
    estate.api.call("POST", f"/api/v1/namespaces/{ns}/configmaps?fieldManager=kubectl-create", theirs)
    bodies = [config(ns, "a", text="ours"), config(ns, "b", text="new"), broken(ns)]
    estate.merge("m1", folder(bodies, adopt=[f"ConfigMap/{ns}/a"]))
    estate.settle(lambda: len(estate.outcomes()) == 2)
    assert estate.outcomes() == ["FAILED", "SUCCEEDED"]
    assert data(estate, ns) == {"a": {"text": "theirs", "more": "kept"}}
    given = estate.find(config(ns, "a"))
    assert given
    assert "labels" not in given["metadata"]
    assert estate.find(broken(ns)) is None


def test_a_change_that_fails_goes_back_to_what_was_confirmed(estate: kube_turns.Estate, kube_namespace: str) -> None:
    ns = kube_namespace
    estate.merge("m1", folder([config(ns, "a", text="one"), config(ns, "gone", text="one")]))
    estate.settle()
    estate.merge("m2", folder([config(ns, "a", text="two"), config(ns, "new", text="two"), broken(ns)]))
    estate.settle(lambda: len(estate.outcomes()) == 3)
    assert estate.outcomes() == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert data(estate, ns) == {"a": {"text": "one"}, "gone": {"text": "one"}}


def test_an_object_that_somebody_else_made_blocks_the_target(estate: kube_turns.Estate, kube_namespace: str) -> None:
    ns = kube_namespace
    estate.api.create(config(ns, "a", text="theirs"))
    estate.merge("m1", folder([config(ns, "a", text="ours")]))
    estate.settle()
    code, why = estate.standing()
    assert (code, "adoption" in why) == ("blocked", True)
    assert data(estate, ns) == {"a": {"text": "theirs"}}


def test_two_targets_that_want_one_object_do_not_both_get_it(estate: kube_turns.Estate, kube_namespace: str) -> None:
    ns = kube_namespace
    estate.merge("m1", folder([config(ns, "a", text="first")], target="first"))
    estate.settle()
    estate.merge("m2", folder([config(ns, "a", text="second")], target="second", adopt=[f"ConfigMap/{ns}/a"]))
    estate.settle()
    assert "claimed" in estate.standing("second")[1]
    assert data(estate, ns) == {"a": {"text": "first"}}


def test_a_target_is_taken_down_with_the_namespace_it_made(estate: kube_turns.Estate) -> None:
    ns = planes.unique("made")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns}}
    options = {"namespaces": [ns], "clusterKinds": ["Namespace"]}
    bodies = [namespace, config(ns, "a", text="one")]
    estate.merge("m1", folder(bodies, options=options))
    estate.settle()
    assert data(estate, ns) == {"a": {"text": "one"}}
    reasons = [("deletes_target", "t"), ("delete_budget", "t"), ("deletes_data", f"Namespace//{ns}")]
    acknowledge = [{"hazard": hazard, "key": key, "reason": "CHG1"} for hazard, key in reasons]
    estate.merge("m2", folder(bodies, options=options, mode="absent", acknowledge=acknowledge))
    estate.settle(lambda: len(estate.outcomes()) == 2)
    assert estate.outcomes() == ["SUCCEEDED", "SUCCEEDED"]
    assert estate.find(namespace) is None
    assert dict(estate.process.known().owned) == {}
