"""Documents beside a real control plane: what the server says of secrets, names and identities (T09, T14, T16, T17)."""

from __future__ import annotations

import json
import re
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from support import kube as planes
from support import kube_api, targets

from reconciler import errors, model, ports, strict_yaml
from reconciler.daemon import clock
from reconciler.targets.openshift import driver, masking, naming
from reconciler.targets.openshift.connection import kubeconfig

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


HOW_TO = Path(__file__).parents[3] / "docs/how-to/openshift.md"
WORKLOAD = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  replicas: 2
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec: {containers: [{name: c, image: "registry.example/api:1.2.3"}]}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{port: 80}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: api}
spec: {minAvailable: 1, selector: {matchLabels: {app: api}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: api}
"""


def block(kind: str) -> list[dict[str, Any]]:
    """The objects of the one example of the page that declares this kind."""
    blocks = re.findall(r"(?:^    .*\n)+", HOW_TO.read_text(), re.MULTILINE)
    (text,) = (each for each in blocks if f"kind: {kind}\n" in each)
    return [json.loads(json.dumps(each.value)) for each in strict_yaml.parse_all(textwrap.dedent(text).encode(), kind)]


def converge(wanted: model.Desired, kubeconfig_: str, folder: Path) -> dict[model.Key, str]:
    """As the daemon does it: look, write a stage, look again. Nothing may be refused."""
    held = Held(KUBECONFIG=kubeconfig_)
    made = driver.Openshift(ports.DriverFacilities("test", folder, (), held, clock.SystemClock(), Anywhere()))
    owned: dict[model.Key, str] = {}
    try:
        for number in range(300):
            look = made.observe(wanted, owned, 30)
            assert not look.errors
            steps = [(each.order, step) for each in look.observations for step in each.steps]
            if not steps and look.health is model.Health.HEALTHY:
                return owned
            first = min((order for order, _ in steps), default=0)
            stage = model.Stage(batch=0, order=first, steps=tuple(step for order, step in steps if order == first))
            permit = model.Permit(deployment="d", epoch=1, seq=number, deadline_s=30)
            results = made.apply(wanted, stage, permit) if steps else ()
            assert not [result for result in results if result.finding]
            owned |= {result.key: result.identity for result in results}
            time.sleep(0 if steps else 0.1)
    finally:
        made.close()
    raise AssertionError("it does not converge")


def test_the_rights_of_the_how_to_are_enough(kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path) -> None:
    """Word by word, but for the namespace and the name of the account."""
    who = kube.daemon()
    for each in block("Role"):
        each["metadata"]["namespace"] = kube_namespace
        if "subjects" in each:
            each["subjects"] = [{"kind": "User", "name": who.name, "apiGroup": "rbac.authorization.k8s.io"}]
        kube.api.create(each)
    payload = {"manifests/a.yaml": WORKLOAD.encode()}
    spec = {"namespaces": [kube_namespace]}
    wanted_ = targets.desired("openshift", payload, {"kubeconfig": "env:KUBECONFIG"}, spec=spec)
    assert len(converge(wanted_, who.kubeconfig, tmp_path)) == 4


def test_t16_one_account_acts_as_the_account_of_each_target(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path
) -> None:
    who, account = kube.daemon(), planes.unique("payments")
    (role,) = block("ClusterRole")
    role["metadata"]["name"] = account
    role["rules"][0]["resourceNames"] = [account]
    group = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": account},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": account},
        "subjects": [{"kind": "User", "name": who.name, "apiGroup": group}],
    }
    kube.api.create(role)
    kube.api.create(binding)
    for each in block("Role"):
        each["metadata"]["namespace"] = kube_namespace
        if "subjects" in each:
            each["subjects"] = [{"kind": "ServiceAccount", "name": account, "namespace": kube_namespace}]
        kube.api.create(each)
    connection: dict[str, JsonValue] = {
        "kubeconfig": "env:KUBECONFIG",
        "impersonate": {"user": f"system:serviceaccount:{kube_namespace}:{account}"},
    }
    payload = {"manifests/a.yaml": b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b}\n"}
    wanted_ = targets.desired("openshift", payload, connection, spec={"namespaces": [kube_namespace]})
    since = kube.mark()
    assert list(converge(wanted_, who.kubeconfig, tmp_path)) == [f"ConfigMap/{kube_namespace}/a"]
    asked = [request for request in kube.requests(since, user=who.name) if request.resource]
    assert {request.verb for request in asked} >= {"list", "watch", "patch"}
    assert {request.impersonated for request in asked} == {f"system:serviceaccount:{kube_namespace}:{account}"}, "T16"
