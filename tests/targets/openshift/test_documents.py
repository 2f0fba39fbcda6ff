"""The document of an openshift target, and the keys of objects (T01, T06, T14, T18)."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import targets

from reconciler import documents, errors, model
from reconciler.targets.openshift import document, naming
from reconciler.targets.openshift.desired import validation

POD = b"""apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: payments}
data: {a: b}
"""


def desired(spec: dict[str, Any] | None = None, connection: dict[str, Any] | None = None, **more: Any) -> model.Desired:
    around = {"kubeconfig": "env:KUBECONFIG_PROD"} if connection is None else connection
    return targets.desired(
        "openshift", {"manifests/a.yaml": POD}, around, spec={"namespaces": ["payments"], **(spec or {})}, **more
    )


def reasons(spec: dict[str, Any] | None = None, connection: dict[str, Any] | None = None, **more: Any) -> str:
    return "; ".join(reason.message for reason in validation.check(desired(spec, connection, **more)))


def test_the_document_of_the_reference_is_read() -> None:
    spec = {
        "render": "plain",
        "path": "manifests",
        "namespaces": ["payments"],
        "clusterKinds": ["ClusterRole", "Widget.example.com"],
        "conflicts": "take",
        "foreignItems": "remove",
        "replace": ["Job/payments/migrate"],
        "health": [{"kind": "Widget.example.com/v1", "current": 'self.status.phase == "Ready"'}],
    }
    wanted = desired(spec, {"kubeconfig": "vault:kv/a#b", "impersonate": {"user": "deployer", "groups": ["payments"]}})
    assert validation.check(wanted) == ()
    assert document.options(wanted).cluster_kinds == ("ClusterRole", "Widget.example.com")
    impersonate = document.connection(wanted).impersonate
    assert impersonate == document.Impersonate(user="deployer", groups=("payments",))


@pytest.mark.parametrize(
    "path",
    [
        "../other/manifests",
        "/etc",
        "a/../b",
        "a//b",
        "./a",
        "",
        "a/",
        "%2e%2e/a",
        "a\0b",
        "-rf",
        ".git",
        "files/x",
        "a b",
        "ü",
    ],
)
def test_t01_a_path_leaves_the_folder_of_its_target_in_no_spelling(path: str) -> None:
    assert "path" in reasons({"path": path})
    assert "values" in reasons({"render": "helm", "helm": {"release": "a", "values": [path]}})


@pytest.mark.parametrize("name", ["-n", "--post-renderer", "A", "a;b", "a b", "", "a/b"])
def test_t06_a_release_cannot_be_an_option_of_helm(name: str) -> None:
    assert "release" in reasons({"render": "helm", "helm": {"release": name}})


@pytest.mark.parametrize(
    "impersonate",
    [
        None,
        {},
        {"user": ""},
        {"user": " "},
        {"groups": ["a"]},
        {"user": "a", "groups": [""]},
        {"user": "a\r\nX: y"},
        {"user": None},
    ],
)
def test_t14_an_empty_identity_is_denied_and_never_no_impersonation(impersonate: object) -> None:
    assert "impersonate" in reasons(connection={"kubeconfig": "env:K", "impersonate": impersonate})


@pytest.mark.parametrize(
    "connection", [{}, {"inCluster": False}, {"kubeconfig": "env:K", "inCluster": True}, {"kubeconfig": ""}]
)
def test_there_is_exactly_one_way_in(connection: dict[str, Any]) -> None:
    assert reasons(connection=connection)
    with pytest.raises(errors.ConfigError):
        document.connection(desired(connection=connection))


def test_a_kubeconfig_that_was_pasted_is_refused_and_not_repeated() -> None:
    said = reasons(connection={"kubeconfig": "apiVersion: v1\nusers: [{token: hunter22}]"})
    assert "a reference is expected" in said
    assert "hunter22" not in said


@pytest.mark.parametrize("namespace", ["kube-system", "*", "pay*", "Payments", "a/b", ""])
def test_t18_namespaces_are_named_one_by_one_and_the_control_planes_are_nobodys(namespace: str) -> None:
    assert "namespaces" in reasons({"namespaces": [namespace]})


@pytest.mark.parametrize(
    "key", ["Namespace//payments", "PersistentVolumeClaim/payments/data", "job/x", "Widget/payments/a", "Job//a/b"]
)
def test_what_is_made_anew_is_named_by_a_key_and_never_holds_others(key: str) -> None:
    assert "replace" in reasons({"replace": [key]})


def test_a_probe_reads_no_file_of_the_daemons_host() -> None:
    assert "no files" in reasons(probes=[{"kind": "file", "fields": {"path": "/etc/passwd"}}])


def test_a_misspelt_option_is_answered_with_the_near_one() -> None:
    (found,) = validation.check(desired({"clusterKind": ["ClusterRole"]}))
    assert found.fix == "did you mean 'clusterKinds'?"


def test_what_adopt_names_must_be_a_key() -> None:
    assert "adopt" in reasons(adopt=["Deployment/api"])
    assert not reasons(adopt=["Deployment/payments/api", "ClusterRole//system%3Areader"])


GROUPS = st.sampled_from([*{group for group, _ in naming.SCOPES}, "example.com", "a.b.example"])
KINDS = st.one_of(st.sampled_from([kind for _, kind in naming.SCOPES]), st.from_regex(naming.KIND, fullmatch=True))
NAMES = st.from_regex(naming.NAME, fullmatch=True).filter(naming.is_name)
NAMESPACES = st.one_of(st.just(""), st.from_regex(naming.NAMESPACE, fullmatch=True))


@given(GROUPS, KINDS, NAMESPACES, NAMES)
def test_a_key_says_what_it_was_made_of(group: str, kind: str, namespace: str, name: str) -> None:
    named = naming.Named(group, kind, namespace, name)
    try:
        key = naming.make_key(named)
    except ValueError:
        assert not group, "only the core group is closed"
        return
    assert naming.parse_key(key) == named
    assert ":" not in key, "what stands before a colon is a member of a fleet"
    assert key.count("/") == 2


@given(st.text(max_size=40))
def test_no_text_is_two_keys(text: str) -> None:
    try:
        named = naming.parse_key(model.Key(text))
    except errors.ConfigError:
        return
    assert naming.make_key(named) == text


def test_kinds_of_one_name_in_two_groups_have_two_keys() -> None:
    def key(version: str) -> str:
        return naming.key_of({"apiVersion": version, "kind": "Ingress", "metadata": {"name": "a", "namespace": "b"}})

    assert key("networking.k8s.io/v1") == "Ingress/b/a"
    assert key("config.openshift.io/v1") == "Ingress.config.openshift.io/b/a"


PAGE = Path(__file__).parents[3] / "docs/reference/target.md"


def test_every_field_is_on_the_reference_page() -> None:
    words = {part for quoted in re.findall(r"`([^`]+)`", PAGE.read_text()) for part in re.split(r"[^A-Za-z]+", quoted)}
    models = (document.Options, document.Connection, document.Impersonate, document.HealthRule, document.Helm)
    named = {field.alias or name for each in models for name, field in each.model_fields.items()}
    assert named - words == set()


def test_the_example_of_the_reference_page_is_read() -> None:
    (text,) = (t for t in re.findall(r"(?:^    .*\n)+", PAGE.read_text(), re.MULTILINE) if "type: openshift\n" in t)
    head = "apiVersion: reconciler/v1\nkind: Target\nmetadata: {name: t}\n"
    blobs = {"target.yaml": (head + textwrap.dedent(text)).encode(), "manifests/a.yaml": POD}
    read = documents.parse_target("t", model.Oid("r"), model.sha256(b""), blobs).desired
    assert validation.check(read) == ()
    assert document.options(read).health[0].kind == "Widget.example.com/v1"
