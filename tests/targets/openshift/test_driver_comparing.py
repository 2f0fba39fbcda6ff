"""Comparing under managed fields: laws over objects and their FieldsV1, and the forms that a server really sends."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import model
from reconciler.targets.openshift.applying import adopting
from reconciler.targets.openshift.connection import comparing, discovery

MANAGER = "reconciler:i:t"
KEY = model.Key("Deployment/payments/api")

names = st.sampled_from(["a", "b", "app", "x-y", "data.json"])
scalars = st.one_of(st.integers(0, 5), st.booleans(), st.text("abc", min_size=1, max_size=3))


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.lists(st.dictionaries(names, inner, max_size=2), min_size=1, max_size=3, unique_by=lambda _: object())
    named = items.map(lambda each: [{**item, "name": f"n{place}"} for place, item in enumerate(each)])
    return st.one_of(st.dictionaries(names, inner, min_size=1, max_size=3), named)


values = st.recursive(scalars, nested, max_leaves=12)
specs = st.dictionaries(names, values, min_size=1, max_size=3)


def fields_of(value: Any) -> dict[str, Any]:
    """FieldsV1 of everything in a value, as a server with this schema would keep it: lists of named items are associative."""
    if isinstance(value, dict):
        return {f"f:{name}": fields_of(inner) for name, inner in value.items()}
    if isinstance(value, list):
        keyed = ((f"k:{json.dumps({'name': item['name']}, separators=(',', ':'))}", item) for item in value)
        return {name: {".": {}, **fields_of(item)} for name, item in keyed}
    return {}


def owned(spec: dict[str, Any], fields: dict[str, Any] | None = None, *more: dict[str, Any]) -> dict[str, Any]:
    ours = {
        "manager": MANAGER,
        "operation": "Apply",
        "fieldsV1": {"f:spec": fields if fields is not None else fields_of(spec)},
    }
    return {"metadata": {"name": "api", "managedFields": [ours, *more]}, "spec": spec}


@given(specs)
def test_under_all_of_its_fields_an_object_is_itself(spec: dict[str, Any]) -> None:
    body = owned(spec)
    found = comparing.values_under(body, comparing.our_fields(body, MANAGER))
    assert sorted_items(found["spec"]) == sorted_items(spec)


@given(specs, specs)
def test_what_is_not_ours_is_not_compared(spec: dict[str, Any], theirs: dict[str, Any]) -> None:
    body = owned(spec)
    fields = comparing.our_fields(body, MANAGER)
    more = {**body, "status": theirs, "spec": {**spec, "z-theirs": theirs}}
    assert comparing.values_under(more, fields) == comparing.values_under(body, fields)
    assert comparing.lost_fields(more, fields, MANAGER) == ()


@given(specs)
def test_a_manifest_is_covered_by_the_fields_it_was_applied_with_and_by_no_fewer(spec: dict[str, Any]) -> None:
    manifest = {"apiVersion": "v1", "kind": "K", "metadata": {"name": "api"}, "spec": spec}
    fields: dict[str, Any] = {"f:spec": fields_of(spec)}
    assert list(comparing.uncovered(manifest, fields)) == []
    assert list(comparing.uncovered(manifest, {"f:metadata": {}})) != []


@given(specs, st.data())
def test_a_field_that_is_lost_is_named_with_its_taker(spec: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(spec)))
    fields = fields_of(spec)
    left = {key: inner for key, inner in fields.items() if key != f"f:{name}"}
    taken = {
        "manager": "kubectl-edit",
        "operation": "Update",
        "fieldsV1": {"f:spec": {f"f:{name}": fields[f"f:{name}"]}},
    }
    lost = comparing.lost_fields(owned(spec, left, taken), {"f:spec": fields}, MANAGER)
    assert lost
    assert all(each.path.startswith(f"spec.{name}") and each.taker == "kubectl-edit" for each in lost)


@given(specs)
def test_a_part_like_the_whole_is_the_whole(spec: dict[str, Any]) -> None:
    assert comparing.part_like(spec, spec) == spec


@given(specs, names)
def test_leaving_a_field_out_changes_nothing_else_and_nothing_twice(spec: dict[str, Any], name: str) -> None:
    body = {"kind": "K", "spec": spec}
    before = copy.deepcopy(body)
    path = f"spec[{name}]"
    rules = (model.Ignore(key="Deployment/*/api", path=path, reason="HPA"),)
    once = comparing.without_ignored(body, KEY, rules, "2026-11-24")
    assert body == before, "the manifest is shared and is not changed"
    assert once["spec"] == {key: value for key, value in spec.items() if key != name}
    assert comparing.without_ignored(once, KEY, rules, "2026-11-24") == once


def test_a_rule_that_ran_out_holds_no_more() -> None:
    rule = model.Ignore(key="Deployment/*/*", path="spec.replicas", reason="HPA", until="2026-11-23")
    assert comparing.without_ignored({"spec": {"replicas": 1}}, KEY, (rule,), "2026-11-24") == {"spec": {"replicas": 1}}
    assert not comparing.is_ignored(KEY, "spec.replicas", (rule,), "2026-11-24")
    assert comparing.is_ignored(KEY, "spec.replicas", (rule,), "2026-11-23")


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        ("spec.replicas", True),
        ("spec.replicas.x", True),
        ("spec.replicasets", False),
        ("spec", False),
    ],
)
def test_a_rule_covers_what_is_under_it(path: str, covered: bool) -> None:  # noqa: FBT001
    rule = model.Ignore(key="Deployment/payments/api", path="spec.replicas", reason="HPA")
    assert comparing.is_ignored(KEY, path, (rule,), "2026-11-24") is covered


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("Deployment/payments/api", True),
        ("Deployment/*/api", True),
        ("Deployment/pay*ts/a*", True),
        ("*/*/*", True),
        ("Deployment/*", False),
        ("Deployment/*/ap", False),
        ("deployment/*/api", False),
    ],
)
def test_a_star_stands_for_anything_within_a_segment(pattern: str, matches: bool) -> None:  # noqa: FBT001
    rule = model.Ignore(key=pattern, path="spec", reason="x")
    assert comparing.is_ignored(KEY, "spec", (rule,), "2026-11-24") is matches


@pytest.mark.parametrize(
    ("said", "path"),
    [
        (".spec.replicas", "spec.replicas"),
        ('.spec.template.spec.containers[name="app"].image', "spec.template.spec.containers[app].image"),
        ('.spec.ports[port=80,protocol="TCP"].targetPort', "spec.ports[80,TCP].targetPort"),
    ],
)
def test_a_cause_names_its_field_as_we_do(said: str, path: str) -> None:
    assert comparing.conflict_field(said) == path


def test_a_foreign_container_is_found_and_what_is_declared_or_elsewhere_is_not() -> None:
    container = 'k:{"name":"app"}'
    fields: dict[str, Any] = {
        "f:template": {
            "f:spec": {
                "f:containers": {container: {".": {}, "f:image": {}, "f:name": {}, "f:env": {'k:{"name":"A"}': {}}}}
            }
        }
    }
    theirs: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"evil"}': {".": {}}}}}}}
    intruder = {"manager": "intruder", "operation": "Update", "fieldsV1": theirs}
    containers = [
        {"name": "evil", "image": "x"},
        {"name": "app", "image": "a", "env": [{"name": "A", "value": "1"}, {"name": "LD_PRELOAD", "value": "x"}]},
    ]
    body = owned({"template": {"spec": {"containers": containers, "tolerations": [{"key": "k"}]}}}, fields, intruder)
    found = comparing.foreign_items(body, MANAGER, {})
    assert [(each.path, each.name, each.manager) for each in found] == [
        ("spec.template.spec.containers", "evil", "intruder"),
        ("spec.template.spec.containers.env", "LD_PRELOAD", ""),
    ]
    assert found[0].pointer == ("spec", "template", "spec", "containers", 0)


def test_an_object_that_was_never_ours_has_no_foreign_items() -> None:
    body = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "x"}]}}
    assert comparing.foreign_items(body, MANAGER, {}) == ()


def test_bookkeeping_is_neither_compared_nor_lost() -> None:
    annotations = {comparing.EPOCH: "1", comparing.APPLIED: "d", comparing.OWNER: "i/t"}
    fields: dict[str, Any] = {"f:metadata": {"f:annotations": {f"f:{name}": {} for name in annotations}}}
    body = {"metadata": {"name": "a", "annotations": annotations}}
    assert comparing.values_under(body, fields) == {"metadata": {"annotations": {comparing.OWNER: "i/t"}}}
    lost = comparing.lost_fields(body, fields, MANAGER)
    assert [each.path for each in lost] == [f"metadata.annotations.{comparing.OWNER}"]


# --- adopting -----------------------------------------------------------------------------------------------------------


@given(specs, specs)
def test_a_union_of_fields_is_idempotent_and_has_no_order(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = fields_of(one), fields_of(other)
    assert adopting.union(first, first) == first
    assert adopting.union(first, second) == adopting.union(second, first)
    assert adopting.union(adopting.union(first, second), second) == adopting.union(first, second)


@pytest.mark.parametrize(
    ("entry", "moves"),
    [
        ({"manager": "kubectl-client-side-apply", "operation": "Update"}, True),
        ({"manager": "kubectl-edit", "operation": "Update"}, True),
        ({"manager": "kubectl", "operation": "Update"}, True),
        ({"manager": "kubectl", "operation": "Apply"}, False),
        ({"manager": "kubectl", "operation": "Update", "subresource": "scale"}, False),
        ({"manager": "kube-controller-manager", "operation": "Update"}, False),
        ({"manager": "helm", "operation": "Update"}, False),
        ({"manager": "reconciler:i:old", "operation": "Apply"}, True),
    ],
)
def test_what_kubectl_owns_becomes_ours_and_nobody_elses(entry: dict[str, Any], moves: bool) -> None:  # noqa: FBT001
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
    body = {"metadata": {"name": "a", "managedFields": [{**entry, "fieldsV1": fields}]}}
    moved = adopting.moved_managers(body, MANAGER, ("reconciler:i:old",))
    if not moves:
        assert moved is None
        return
    assert moved is not None
    assert [(each["manager"], each["operation"], each["fieldsV1"]) for each in moved] == [(MANAGER, "Apply", fields)]


def test_kubectls_own_note_goes_with_it() -> None:
    noted: dict[str, Any] = {"f:metadata": {"f:annotations": {adopting.LAST_APPLIED: {}, "f:x": {}}}}
    assert adopting.without_last_applied(noted) == {"f:metadata": {"f:annotations": {"f:x": {}}}}


# --- discovery ----------------------------------------------------------------------------------------------------------


def test_a_kind_that_cannot_be_watched_is_none_for_us() -> None:
    verbs = ["get", "list", "watch", "patch", "create"]
    resources = [
        {"resource": "configmaps", "responseKind": {"kind": "ConfigMap"}, "scope": "Namespaced", "verbs": verbs},
        {"resource": "bindings", "responseKind": {"kind": "Binding"}, "scope": "Namespaced", "verbs": ["create"]},
        {"resource": "nodes", "responseKind": {"kind": "Node"}, "scope": "Cluster", "verbs": verbs},
    ]
    answer = {"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": resources}]}]}
    found = list(discovery.aggregated(answer))
    assert found == [
        discovery.Resource("", "v1", "ConfigMap", "configmaps", is_namespaced=True),
        discovery.Resource("", "v1", "Node", "nodes", is_namespaced=False),
    ]
    older = {
        "resources": [
            {"name": "configmaps", "kind": "ConfigMap", "namespaced": True, "verbs": verbs},
            {"name": "configmaps/x"},
        ]
    }
    assert list(discovery.listed(older, "", "v1")) == found[:1]


def test_names_stand_in_a_path_as_one_segment() -> None:
    resource = discovery.Resource("rbac.authorization.k8s.io", "v1", "Role", "roles", is_namespaced=True)
    assert (
        resource.path("n", "system:a/../b")
        == "/apis/rbac.authorization.k8s.io/v1/namespaces/n/roles/system%3Aa%2F..%2Fb"
    )


def sorted_items(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sorted_items(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted((sorted_items(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return value
