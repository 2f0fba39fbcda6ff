"""Documents beside a real control plane: what the server says of secrets, names and identities (T09, T14, T16, T17)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from support import kube as planes
from support import kube_api, targets

from reconciler import errors, model, ports
from reconciler.targets.openshift import driver, kubeconfig, masking, naming

CANARY = "c4n4ry-of-a-secret"
pytestmark = pytest.mark.usefixtures("kube")


class Held:
    """Resolves what a test put in."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def resolve(self, reference: str) -> str:
        return self.values[reference.removeprefix("env:")]


class Anywhere:
    def allows(self, wanted: model.Wanted, host: str) -> bool:
        return host == "127.0.0.1"


def test_the_kubeconfig_of_a_real_server_is_one_endpoint(kube: planes.ControlPlane) -> None:
    found = kubeconfig.read(kube.kubeconfig("admin"))
    assert (found.server, found.host) == (kube.url, "127.0.0.1")
    certified = kubeconfig.read(kube.certified("somebody"))
    assert certified.client_key
    assert certified.token is None


def test_every_kind_that_a_key_knows_alone_lives_where_the_server_says(kube: planes.ControlPlane) -> None:
    """The table is checked against the API itself, for all kinds that this server has."""
    served = {("", each["kind"]): each["namespaced"] for each in _resources(kube, "/api/v1")}
    for group in kube.api.get("/apis")["groups"]:
        for version in group["versions"]:
            path = f"/apis/{version['groupVersion']}"
            served |= {(group["name"], each["kind"]): each["namespaced"] for each in _resources(kube, path)}
    known = {each: namespaced for each, namespaced in naming.SCOPES.items() if each in served}
    assert known == {each: served[each] for each in known}
    assert len(known) > 35


def _resources(kube: planes.ControlPlane, path: str) -> list[dict[str, Any]]:
    return [each for each in kube.api.get(path)["resources"] if "/" not in each["name"]]


def wanted(namespace: str, *, user: str = "", text: str = "") -> model.Desired:
    connection: dict[str, Any] = {"kubeconfig": "env:KUBECONFIG"}
    if user:
        connection["impersonate"] = {"user": user}
    secret = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{text}stringData: {{p: 'env:CANARY'}}\n"
    payload = {"manifests/s.yaml": secret.encode()}
    return targets.desired("openshift", payload, connection, spec={"namespaces": [namespace]})


def opened(kube: planes.ControlPlane, folder: Path, user: str = "admin") -> driver.Openshift:
    held = Held(KUBECONFIG=kube.kubeconfig(user), CANARY=CANARY)
    return driver.Openshift(ports.DriverFacilities("test", folder, (), held, targets.Clock(), Anywhere()))


def test_t09_what_a_server_says_of_an_invalid_secret_quotes_none_of_it(
    kube: planes.ControlPlane, kube_namespace: str
) -> None:
    body: dict[str, JsonValue] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {CANARY + "!": ""},
    }
    with pytest.raises(kube_api.RefusedError) as caught:
        kube.api.call("POST", f"/api/v1/namespaces/{kube_namespace}/secrets", body)
    assert CANARY in str(caught.value), "the server quotes what was invalid"
    assert CANARY not in masking.server_said(str(caught.value), body, "Invalid")


def test_t08_no_look_and_no_step_holds_the_value(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path
) -> None:
    made = opened(kube, tmp_path)
    desired = wanted(kube_namespace)
    try:
        look = made.observe(desired, {}, 30)
        (step,) = (step for each in look.observations for step in each.steps)
        permit = model.Permit(deployment="d", epoch=1, seq=1, deadline_s=30)
        (result,) = made.apply(desired, model.Stage(batch=0, order=look.observations[0].order, steps=(step,)), permit)
        after = made.observe(desired, {result.key: result.identity}, 30)
    finally:
        made.close()
    live = kube.api.get(f"/api/v1/namespaces/{kube_namespace}/secrets/s")
    assert (
        masking.seal(live, b"k")["data"]
        == masking.seal({**live, "data": None, "stringData": {"p": CANARY}}, b"k")["data"]
    )
    assert [each.steps for each in after.observations] == [()]
    for each in (look, step, result, after):
        shown = each.model_dump_json()
        assert CANARY not in shown
        assert str(live["data"]["p"]) not in shown


def test_t14_who_may_not_impersonate_reaches_nothing(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path
) -> None:
    made = opened(kube, tmp_path, "visitor")
    try:
        with pytest.raises(errors.ReconcilerError) as caught:
            made.observe(wanted(kube_namespace, user="deployer"), {}, 30)
    finally:
        made.close()
    assert "impersonate" in caught.value.message
