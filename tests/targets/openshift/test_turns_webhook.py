"""A webhook that says no, or nothing, under the real core: the change fails with the server's words, and goes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import kube as planes
from support import kube_turns, lab, webhook

Object = dict[str, Any]
folder = kube_turns.folder


@pytest.fixture
def estate(kube: planes.ControlPlane, tmp_path: Path) -> Iterator[kube_turns.Estate]:
    made = kube_turns.Estate(kube, tmp_path)
    yield made
    made.close()


class Guarded:
    """A namespace whose ConfigMaps a webhook is asked about."""

    def __init__(self, plane: planes.ControlPlane, namespace: str, folder: Path) -> None:
        self.hook = webhook.Webhook(plane, folder)
        self.namespace, self._api = namespace, plane.api
        self.configuration = self.hook.configuration(planes.unique("hook"), namespace, "", "configmaps")
        self._path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"

    def register(self) -> None:
        """Returns when the API server asks it."""
        self._api.create(self.configuration)
        probe = self.config("probe", "1")
        for _ in range(200):
            self._api.apply(probe)
            if self.hook.asked:
                break
            probe["data"] = {"value": str(int(probe["data"]["value"]) + 1)}
        assert self.hook.asked

    def config(self, name: str, value: str) -> Object:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}

    def value(self, name: str) -> str | None:
        found = self._api.find(f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")
        return str(found["data"]["value"]) if found else None

    def close(self) -> None:
        self._api.delete(f"{self._path}/{self.configuration['metadata']['name']}")
        self.hook.close()


@pytest.fixture
def guarded(kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path) -> Iterator[Guarded]:
    made = Guarded(kube, kube_namespace, tmp_path / "hook")
    yield made
    made.close()


def test_a_webhook_that_says_no_fails_the_change_with_its_words(estate: kube_turns.Estate, guarded: Guarded) -> None:
    estate.merge("m1", folder([guarded.config("a", "one")]))
    estate.settle()
    guarded.register()
    guarded.hook.verdict = "reject"
    estate.merge("m2", folder([guarded.config("a", "two")]))
    estate.settle()
    assert estate.outcomes()[:2] == ["SUCCEEDED", "FAILED"]
    assert "policy 7 forbids it" in estate.reasons()
    assert guarded.value("a") == "one"
    assert estate.standing()[0] == "failed"


def test_what_was_written_before_the_webhook_said_no_goes_back(estate: kube_turns.Estate, guarded: Guarded) -> None:
    estate.merge("m1", folder([guarded.config("a", "one"), guarded.config("b", "one")]))
    estate.settle()
    guarded.register()
    guarded.hook.verdict, guarded.hook.only = "reject", "b"
    estate.merge("m2", folder([guarded.config(name, "two") for name in ("a", "b", "new")]))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert [guarded.value(name) for name in ("a", "b", "new")] == ["one", "one", None]


def test_a_webhook_that_hangs_holds_up_its_own_target_and_nobody_else(
    estate: kube_turns.Estate, guarded: Guarded
) -> None:
    estate.merge("m1", folder([guarded.config("a", "one")]))
    estate.settle()
    guarded.register()
    guarded.hook.verdict = "hang"
    estate.merge("m2", folder([guarded.config("a", "two")]), lab.folder("other", {"x": 1}))
    estate.settle()
    assert estate.outcomes()[:2] == ["SUCCEEDED", "FAILED"]
    assert "webhook" in estate.reasons()
    assert estate.outcomes("other") == ["SUCCEEDED"]
    assert guarded.value("a") == "one"
    guarded.hook.verdict = "admit"
    estate.merge("m3", folder([guarded.config("a", "three")]))
    estate.settle()
    assert estate.outcomes()[-1] == "SUCCEEDED"
    assert guarded.value("a") == "three"


def test_a_webhook_of_the_same_merge_comes_after_what_it_would_judge(
    estate: kube_turns.Estate, guarded: Guarded
) -> None:
    guarded.hook.verdict = "reject"
    options = {"clusterKinds": ["ValidatingWebhookConfiguration"]}
    estate.merge("m1", folder([guarded.configuration, guarded.config("a", "one")], options=options))
    estate.settle()
    assert estate.outcomes() == ["SUCCEEDED"], estate.reasons()
    assert guarded.value("a") == "one"
    assert estate.find(guarded.configuration)
