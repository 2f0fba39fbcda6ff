"""Order, danger and what may be made anew."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from support import targets

from reconciler import errors, model
from reconciler.convergence import planning
from reconciler.targets.openshift import naming
from reconciler.targets.openshift.desired import hooks, kinds


def thing(kind: str, api: str = "v1", name: str = "a", after: str = "", **more: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": "shop"}
    if after:
        metadata["annotations"] = {kinds.DEPENDS_ON: after}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **more}


RBAC = "rbac.authorization.k8s.io/v1"
HOOK = {"metadata": {"name": "h", "namespace": "shop", "annotations": {hooks.HOOK: "before"}}}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (thing("Namespace"), 100),
        (thing("CustomResourceDefinition", "apiextensions.k8s.io/v1"), 100),
        (thing("Project", "project.openshift.io/v1"), 100),
        (thing("ClusterRole", RBAC), 200),
        (thing("Secret"), 200),
        (thing("PersistentVolumeClaim"), 200),
        (thing("ImageStream", "image.openshift.io/v1"), 200),
        (thing("SecurityContextConstraints", "security.openshift.io/v1"), 200),
        ({**thing("Job", "batch/v1"), **HOOK}, 250),
        (thing("Job", "batch/v1"), 300),
        (thing("Deployment", "apps/v1"), 300),
        (thing("Route", "route.openshift.io/v1"), 300),
        (thing("Widget", "example.com/v1"), 300),
        (thing("Namespace", "example.com/v1"), 300),
        (thing("ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1"), 400),
        (thing("APIService", "apiregistration.k8s.io/v1"), 400),
    ],
)
def test_each_kind_has_its_stage(body: dict[str, Any], place: int) -> None:
    assert kinds.order(body) == place


def keyed(*bodies: dict[str, Any]) -> dict[model.Key, dict[str, Any]]:
    return {naming.key_of(each): each for each in bodies}


def test_what_depends_on_something_comes_after_it_within_its_stage() -> None:
    db = thing("StatefulSet", "apps/v1", "db")
    api = thing("Deployment", "apps/v1", "api", "StatefulSet/shop/db, Secret/shop/s")
    web = thing("Deployment", "apps/v1", "web", "Deployment/shop/api Secret/shop/s")
    found = kinds.orders(keyed(web, api, db, thing("Secret", name="s")))
    assert {key.rpartition("/")[2]: place for key, place in found.items()} == {
        "s": 200,
        "db": 300,
        "api": 301,
        "web": 302,
    }


@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        ([thing("Deployment", "apps/v1", "a", "Deployment/shop/b")], "Deployment/shop/b, which is not declared"),
        (
            [thing("Deployment", "apps/v1", "a", "Deployment/shop/a")],
            "wait for each other: Deployment/shop/a -> Deployment/shop/a",
        ),
        (
            [
                thing("Deployment", "apps/v1", "a", "Deployment/shop/b"),
                thing("Deployment", "apps/v1", "b", "Deployment/shop/a"),
            ],
            "Deployment/shop/a -> Deployment/shop/b -> Deployment/shop/a",
        ),
        ([thing("Secret", name="s", after="Service/shop/a"), thing("Service")], "comes in a later stage"),
    ],
)
def test_an_order_that_cannot_be_kept_is_refused_and_named(bodies: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        kinds.orders(keyed(*bodies), {naming.key_of(bodies[0]): "targets/t/manifests/a.yaml:3"})
    assert refused.value.code == "depends_on"
    assert words in refused.value.message
    assert refused.value.where == "targets/t/manifests/a.yaml:3"
    assert refused.value.fix


def test_a_chain_stays_within_its_stage_and_a_longer_one_is_refused() -> None:
    def chain(length: int) -> dict[model.Key, dict[str, Any]]:
        first = thing("Deployment", "apps/v1", "d0")
        return keyed(
            first, *(thing("Deployment", "apps/v1", f"d{n}", f"Deployment/shop/d{n - 1}") for n in range(1, length))
        )

    assert max(kinds.orders(chain(kinds.DEPTH + 1)).values()) == 300 + kinds.DEPTH
    with pytest.raises(errors.ConfigError, match="a chain of more than"):
        kinds.orders(chain(5000))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_every_order_keeps_every_edge(edges: list[tuple[int, int]]) -> None:
    down = [(max(pair), min(pair)) for pair in edges if pair[0] != pair[1]]
    after = {n: " ".join(f"Deployment/shop/d{low}" for high, low in down if high == n) for n in range(10)}
    found = kinds.orders(keyed(*(thing("Deployment", "apps/v1", f"d{n}", after[n]) for n in range(10))))
    places = {n: found[model.Key(f"Deployment/shop/d{n}")] for n in range(10)}
    assert all(places[high] > places[low] for high, low in down)


@pytest.mark.parametrize("kind", sorted(kinds.GUARDED))
def test_what_takes_data_along_is_never_deleted_without_an_acknowledgement(kind: str) -> None:
    api = next(f"{group}/v1" if group else "v1" for (group, name) in naming.SCOPES if name == kind)
    assert kinds.hazards(thing(kind, api), "delete") == ("deletes_data",)
    assert kinds.hazards(thing(kind, api), "replace") == ("deletes_data",)
    assert kinds.hazards(thing(kind, api), "update") == ()
    assert kinds.replaceable(thing(kind, api)) == (kind == "StatefulSet")


def test_other_kinds_go_without_one() -> None:
    assert kinds.hazards(thing("ConfigMap"), "delete") == ()
    assert kinds.replaceable(thing("Job", "batch/v1"))
    assert kinds.replaceable(thing("Namespace", "example.com/v1"))


def test_a_write_of_what_our_own_access_rests_on_is_named() -> None:
    subject = {"kind": "ServiceAccount", "namespace": "ops", "name": "deployer"}
    ours = thing("RoleBinding", RBAC, "ours", subjects=[subject], roleRef={"kind": "Role", "name": "deploy"})
    theirs = thing("RoleBinding", RBAC, "theirs", subjects=[{"kind": "User", "name": "ann"}], roleRef={"kind": "ClusterRole", "name": "edit"})  # fmt: skip
    group = thing("RoleBinding", RBAC, "group", subjects=[{"kind": "Group", "name": "payments"}], roleRef={"kind": "ClusterRole", "name": "view"})  # fmt: skip
    own = kinds.own_rights([ours, theirs, group], frozenset({"system:serviceaccount:ops:deployer", "payments"}))
    assert own == {
        "RoleBinding/shop/ours",
        "Role/shop/deploy",
        "RoleBinding/shop/group",
        "ClusterRole//view",
    }
    assert kinds.hazards(ours, "delete", own=True) == kinds.hazards(ours, "update", own=True) == ("own_access",)
    assert kinds.hazards(ours, "create", own=True) == kinds.hazards(theirs, "delete") == ()


def test_what_our_own_access_rests_on_is_written_and_deleted_after_all_else() -> None:
    def step(action: str, *hazards: str) -> model.Step:
        return model.Step(key=model.Key("Role//r"), action=action, command="", before=None, hazards=hazards)

    assert kinds.last([], 200) == kinds.last([step("update")], 200) == kinds.last([step("create")], 200) == 200
    write, delete = kinds.last([step("update", "own_access")], 200), kinds.last([step("delete", "own_access")], 200)
    seen = {
        "Role//own": (write, step("update", "own_access")),
        "Role//gone": (delete, step("delete", "own_access")),
        "Namespace//n": (100, step("delete")),
        "APIService//a": (449, step("update")),
    }
    observations = tuple(
        model.Observation(key=model.Key(k), wanted=None, actual=1, order=o, steps=(s.model_copy(update={"key": k}),))
        for k, (o, s) in seen.items()
    )
    look = model.Look(observations=observations, fingerprint=model.Digest("f"), health=model.Health.HEALTHY)
    guards = planning.Guards(owned={model.Key(k): "" for k in seen})
    plan = planning.make_plan(targets.desired("openshift", {}, {}), look, guards)
    assert [s.key for s in plan.steps] == ["APIService//a", "Namespace//n", "Role//own", "Role//gone"]


def definition(*versions: str, stored: tuple[str, ...] = ()) -> dict[str, Any]:
    spec = {"versions": [{"name": each, "served": True} for each in versions]}
    status = {"storedVersions": list(stored)}
    return thing("CustomResourceDefinition", "apiextensions.k8s.io/v1", "widgets.example.com", spec=spec, status=status)


def test_a_version_that_objects_are_stored_in_is_not_taken_from_a_definition() -> None:
    live = definition("v1", "v2", stored=("v1", "v2"))
    refused = kinds.refuse_crd_change(definition("v2"), live)
    assert refused
    assert refused.code == "crd_version"
    assert "stored as v1" in refused.message
    assert kinds.refuse_crd_change(definition("v1", "v2", "v3"), live) is None
    assert kinds.refuse_crd_change(definition("v2"), definition("v1", "v2", stored=("v2",))) is None
