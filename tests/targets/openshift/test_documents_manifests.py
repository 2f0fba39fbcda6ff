"""Manifests as they lie in Git: what is read, and what is refused with its line (T01, T03, T17, T18, T19, T28)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue
from support import targets

from reconciler import errors, model
from reconciler.targets.openshift import naming
from reconciler.targets.openshift.desired import manifests

APP = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: payments}
spec: {replicas: 2}
---
apiVersion: v1
kind: Service
metadata:
  name: api
  namespace: payments
spec: {selector: {app: api}}
"""


def desired(*texts: str, **spec: Any) -> model.Desired:
    payload = {f"manifests/{number}.yaml": text.encode() for number, text in enumerate(texts)}
    return of(payload, **spec)


def of(payload: dict[str, bytes], **spec: Any) -> model.Desired:
    return targets.desired("openshift", payload, {"kubeconfig": "env:K"}, spec={"namespaces": ["payments"], **spec})


def said(*texts: str, **spec: Any) -> list[tuple[str, str]]:
    """(file:line, message) of each reason; each has a fix."""
    found = manifests.problems(desired(*texts, **spec))
    assert all(reason.fix for reason in found if reason.code != "parse")
    if found:
        with pytest.raises(errors.ConfigError):
            manifests.read(desired(*texts, **spec))
    return [(reason.where.removeprefix("targets/t/manifests/"), reason.message) for reason in found]


def thing(more: str = "", kind: str = "ConfigMap", version: str = "v1") -> str:
    return f"apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: a\n  namespace: payments\n{more}"


def test_every_document_of_every_file_is_an_object_with_its_line() -> None:
    found = manifests.read(desired(APP, thing()))
    assert [(m.key, m.source) for m in found] == [
        ("Deployment/payments/api", "targets/t/manifests/0.yaml:1"),
        ("Service/payments/api", "targets/t/manifests/0.yaml:6"),
        ("ConfigMap/payments/a", "targets/t/manifests/1.yaml:1"),
    ]
    assert found[0].body["spec"] == {"replicas": 2}


def test_json_and_lists_are_read_too() -> None:
    text = b'{"apiVersion": "v1", "kind": "List", "items": [\n{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}]}'
    (found,) = manifests.read(of({"manifests/x.json": text, "manifests/README.md": b"no", "other/y.yaml": b"kind: no"}))
    assert (found.key, found.source) == ("ConfigMap/payments/b", "targets/t/manifests/x.json:2")


def test_the_only_namespace_of_a_target_need_not_be_repeated() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    assert manifests.read(desired(text))[0].key == "ConfigMap/payments/a"
    assert manifests.read(desired(text))[0].body["metadata"] == {"name": "a", "namespace": "payments"}
    assert said(text, namespaces=["payments", "ledger"]) == [("0.yaml:3", "ConfigMap a: no namespace")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("- a\n", "1", "an object is expected here"),
        ("kind: ConfigMap\n", "1", "no apiVersion or no kind"),
        ("apiVersion: v1\nkind: 'a b'\n", "1", "no apiVersion or no kind"),
        ("apiVersion: v1/v1/v1\nkind: X\nmetadata: {name: a}\n", "1", "is no apiVersion"),
        ("apiVersion: v1\nkind: Deployment\nmetadata: {name: a}\n", "1", "no kind of the core group"),
        ("apiVersion: v1\nkind: ConfigMap\n", "1", "no metadata"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: payments}\n", "3", "no name"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: 12\n", "4", "a name that no object can have"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  generateName: a-\n", "4", "generateName is refused"),
        ("apiVersion: v1\nkind: PodList\nitems: []\n", "2", "a list without objects of its own"),
        (thing("  uid: abc\n"), "6", "metadata.uid is the server's own"),
        (thing("  resourceVersion: '1'\n"), "6", "metadata.resourceVersion is the server's own"),
        (thing("  managedFields: [{manager: m}]\n"), "6", "metadata.managedFields is the server's own"),
        (thing("  creationTimestamp: '2026-01-01T00:00:00Z'\n"), "6", "metadata.creationTimestamp"),
        (thing("status: {phase: Active}\n"), "6", "status is the server's own"),
        (thing("  labels:\n    a: true\n"), "7", "metadata.labels.a is no text"),
        (thing("  labels: [a]\n"), "6", "labels are a mapping"),
        (thing("  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: '{}'\n"), "7", "kubectl's own"),
        (thing("  annotations:\n    helm.sh/hook: pre-install\n"), "7", "a helm hook"),
        (thing(kind="Kustomization", version="kustomize.config.k8s.io/v1beta1"), "1", "an input of kustomize"),
    ],
)
def test_what_no_object_may_hold_is_named_with_its_line(text: str, line: str, message: str) -> None:
    ((where, found),) = said(text)
    assert where == f"0.yaml:{line}"
    assert message in found


def test_what_generators_leave_empty_is_left_out() -> None:
    (found,) = manifests.read(desired(thing("  creationTimestamp: null\n  labels: {a: b}\nstatus: {}\ndata: {a: b}\n")))
    assert found.body == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "payments", "labels": {"a": "b"}},
        "data": {"a": "b"},
    }


@pytest.mark.parametrize("name", ["../a", "a/b", "..", "a%2fb", "a\\0", "a\\nb", " a", "-a", "a..b", ""])
def test_t01_no_name_leads_to_another_path_of_the_server(name: str) -> None:
    ((where, message),) = said(f'apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: "{name}"}}\n')
    assert (where, "name" in message) == ("0.yaml:3", True)


def test_t03_names_of_files_choose_nothing() -> None:
    assert "no object" in manifests.problems(of({"manifests.yaml": thing().encode()}))[0].message
    assert "ending" in manifests.problems(of({"manifests/a.YAML": thing().encode()}))[0].message


def test_t17_every_reference_is_told_to_the_gate_wherever_it_stands() -> None:
    text = thing('stringData: {url: "env:LEDGER_URL", b: "vault:kv/ledger#b"}\n', kind="Secret")
    assert manifests.references(desired(text)) == (
        ("env:LEDGER_URL", "targets/t/manifests/0.yaml:1"),
        ("vault:kv/ledger#b", "targets/t/manifests/0.yaml:1"),
    )


@pytest.mark.parametrize(
    "more",
    [
        "  labels: {reconciler/target: other}\n",
        "  annotations: {reconciler/owner: prod/other}\n",
        "  annotations: {reconciler/anything: x}\n",
        "  labels: {reconciler/depends-on: x}\n",
        "data: {a: b}\nspec: {template: {metadata: {labels: {reconciler/target: t}}}}\n",
    ],
)
def test_t18_our_own_marks_are_set_by_no_document(more: str) -> None:
    ((_, message),) = said(thing(more))
    assert "is reserved" in message


def test_t18_our_two_annotations_may_be_written() -> None:
    job = thing("  annotations: {reconciler/hook: before}\nspec: {}\n", kind="Job", version="batch/v1")
    waits = thing("  annotations: {reconciler/depends-on: Secret/payments/a}\n")
    secret = thing('stringData: {a: "env:A"}\n', kind="Secret")
    keys = [m.key for m in manifests.read(desired(job, waits, secret))]
    assert keys[0].startswith("Job/payments/a-"), "a hook has the name that it is sent by"
    assert keys[1:] == ["ConfigMap/payments/a", "Secret/payments/a"]
    ((where, message),) = said(waits)
    assert (where, "which is not declared" in message) == ("0.yaml:1", True)


def test_a_request_of_a_project_is_no_object_that_stays() -> None:
    request = "apiVersion: project.openshift.io/v1\nkind: ProjectRequest\nmetadata: {name: payments}\n"
    located = desired(request, clusterKinds=["ProjectRequest"])
    (found,) = manifests.problems(located)
    assert "answered and not kept" in found.message
    assert "kind: Namespace" in found.fix


def test_t18_other_namespaces_and_the_cluster_are_out_of_reach() -> None:
    role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\n"
    away = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: ledger}\n"
    space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ledger}\n"
    assert "'ledger' is not this target's" in said(away)[0][1]
    assert "belongs to the whole cluster" in said(role)[0][1]
    assert "belongs to the whole cluster" in said(space)[0][1]
    assert "not a namespace of this target" in said(space, clusterKinds=["Namespace"])[0][1]
    own = space.replace("ledger", "payments")
    keys = [m.key for m in manifests.read(desired(role, own, clusterKinds=["ClusterRole", "Namespace"]))]
    assert keys == ["ClusterRole//r", "Namespace//payments"]
    inside = role.replace("name: r", "name: r, namespace: payments")
    assert "lives in no namespace" in said(inside, clusterKinds=["ClusterRole"])[0][1]


WIDGET = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n"
CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec: {group: example.com, scope: Cluster, names: {kind: Widget, plural: widgets}, versions: []}
"""


def test_where_a_custom_resource_lives_is_known_from_its_definition() -> None:
    spec = {"clusterKinds": ["CustomResourceDefinition", "Widget.example.com"]}
    assert [m.key for m in manifests.read(desired(CRD, WIDGET, **spec))][1] == "Widget.example.com//w"
    assert "belongs to the whole cluster" in said(CRD, WIDGET, clusterKinds=["CustomResourceDefinition"])[0][1]


def test_without_one_the_document_says_and_the_cluster_may_contradict() -> None:
    wanted = desired(WIDGET)
    assert manifests.read(wanted)[0].key == "Widget.example.com/payments/w"
    assert manifests.read(wanted, {("example.com", "Widget"): True})[0].key == "Widget.example.com/payments/w"
    with pytest.raises(errors.ConfigError, match="in the cluster as a whole"):
        manifests.read(wanted, {("example.com", "Widget"): False})
    whole = desired(WIDGET, clusterKinds=["Widget.example.com"])
    assert manifests.read(whole, {("example.com", "Widget"): False})[0].key == "Widget.example.com//w"
    with pytest.raises(errors.ConfigError, match="in namespaces"):
        manifests.read(whole, {("example.com", "Widget"): True})


@pytest.mark.parametrize(
    ("kind", "version", "more"),
    [
        ("Secret", "v1", "data: {p: aHVudGVyMjI=}\n"),
        ("Secret", "v1", "stringData: {p: hunter22}\n"),
        ("Secret", "v1", "stringData: {p: 'env:'}\n"),
        ("Secret", "v1", "stringData: {p: 'vault:kv/../x#y'}\n"),
        ("Secret", "v1", "stringData: {p: 'see env:A'}\n"),
        ("Secret", "v1", "stringData: {p: 12345678}\n"),
        ("Secret", "v1", "stringData: hunter22\n"),
        ("Route", "route.openshift.io/v1", "spec: {tls: {key: hunter22}}\n"),
        ("Template", "template.openshift.io/v1", "objects: [{apiVersion: v1, kind: Secret, data: {p: hunter22}}]\n"),
    ],
)
def test_t08_a_secret_stands_in_git_as_a_reference_only(kind: str, version: str, more: str) -> None:
    found = manifests.problems(desired(thing(more, kind=kind, version=version)))
    assert [reason.code for reason in found] == ["secret_literal"]
    assert found[0].where == "targets/t/manifests/0.yaml:6"
    assert "hunter22" not in repr(found)


class Known:
    def __init__(self, **values: str) -> None:
        self.values = values

    def resolve(self, reference: str) -> str:
        name = reference.removeprefix("env:")
        if name not in self.values:
            raise errors.ConfigError("secret", "the variable is not set or empty", where=reference, fix="set it")
        return self.values[name]


def test_references_are_resolved_at_the_moment_of_sending_in_a_copy() -> None:
    text = thing('stringData: {p: "env:A", "q.r/s": "env:B"}\n', kind="Secret")
    (found,) = manifests.read(desired(text))
    assert manifests.resolve(found, Known(A="one", B="two"))["stringData"] == {"p": "one", "q.r/s": "two"}
    assert found.body["stringData"] == {"p": "env:A", "q.r/s": "env:B"}
    with pytest.raises(errors.ConfigError) as caught:
        manifests.resolve(found, Known(A="one"))
    assert caught.value.where == "targets/t/manifests/0.yaml:1"
    assert "env:B" in caught.value.message
    assert "one" not in caught.value.message.split()


def test_the_same_object_twice_is_refused_with_both_places() -> None:
    older = thing(kind="CronJob", version="batch/v1beta1")
    ((where, message),) = said(thing(kind="CronJob", version="batch/v1"), older)
    assert where == "1.yaml:1"
    assert "CronJob/payments/a is declared twice, here and at targets/t/manifests/0.yaml:1" in message


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\nb: [*a, *a]\n",
        "x: " + "[" * 80 + "]" * 80 + "\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: " + "a" * (1 << 20) + "}\n",
        "- a\n" * 200_001,
        "a: !!python/object/apply:os.system ['id']\n",
    ],
)
def test_t19_bombs_end_at_a_limit(text: str) -> None:
    ((_, message),) = said(text)
    assert len(message) < 200


def test_t19_a_target_has_a_limit_of_objects() -> None:
    text = "---\n".join(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a{n}}}\n" for n in range(manifests.MAX_OBJECTS + 1)
    )
    assert "at most" in said(text)[0][1]


@pytest.mark.parametrize(
    "payload", [{}, {"manifests/a.yaml": b""}, {"manifests/a.yaml": b"---\n---\n"}, {"manifests/a.txt": b"x"}]
)
def test_t28_no_object_at_all_is_an_error_and_never_an_empty_state(payload: dict[str, bytes]) -> None:
    (found,) = manifests.problems(of(payload))
    assert "no object under manifests/" in found.message
    assert "mode: absent" in found.fix
    with pytest.raises(errors.ConfigError):
        manifests.read(of(payload))


def test_t28_one_file_that_cannot_be_read_leaves_no_other_to_act_on() -> None:
    with pytest.raises(errors.ConfigError, match=r"1\.yaml:2"):
        manifests.read(desired(thing(), "a: [\n"))


def test_a_target_that_goes_has_no_objects() -> None:
    assert manifests.read(desired().model_copy(update={"mode": model.Mode.ABSENT})) == ()


def test_what_is_put_back_stands_behind_what_is_declared() -> None:
    back: dict[model.Key, JsonValue] = {
        model.Key("ConfigMap/payments/a"): {"kind": "ConfigMap"},
        model.Key("ConfigMap/payments/old"): {"kind": "ConfigMap", "data": {}},
        model.Key("ConfigMap/payments/gone"): None,
    }
    wanted = desired(thing()).model_copy(update={"given_back": back})
    assert [(m.key, m.source) for m in manifests.read(wanted)] == [
        ("ConfigMap/payments/a", "targets/t/manifests/0.yaml:1"),
        ("ConfigMap/payments/old", ""),
    ]
    snapshot = model.Snapshot(target="t", kind="openshift", connection={}, resources=back)
    assert [m.key for m in manifests.read(snapshot)] == ["ConfigMap/payments/a", "ConfigMap/payments/old"]


def test_a_payload_is_read_once_and_another_of_the_same_digest_anew() -> None:
    wanted = desired(thing())
    assert manifests.read(wanted)[0] is manifests.read(wanted)[0]
    forged = desired(thing("data: {a: b}\n")).model_copy(update={"digest": wanted.digest})
    assert manifests.read(forged)[0].body["data"] == {"a": "b"}


def test_an_object_that_did_not_change_is_judged_once_and_has_its_new_line() -> None:
    before = manifests.read(desired(f"{APP}---\n{thing()}"))
    scaled = APP.replace("replicas: 2", "replicas: 3")
    after = manifests.read(desired(f"{scaled}---\n" + thing("immutable: false\n")))
    assert [one.body is other.body for one, other in zip(before, after, strict=True)] == [False, True, False]
    moved = manifests.read(desired(f"# moved\n{APP}---\n{thing()}"))
    assert [each.source.rpartition(":")[2] for each in moved] == ["2", "7", "14"]
    assert moved[2].body is before[2].body


def test_an_object_that_passed_under_one_document_is_judged_anew_under_another() -> None:
    kept = manifests.read(desired(thing()))
    assert said(thing(), namespaces=["ledger"]) == [
        ("0.yaml:5", "ConfigMap a: the namespace 'payments' is not this target's")
    ]
    assert manifests.read(desired(thing()))[0].body == kept[0].body


def test_every_kind_of_our_table_has_one_scope() -> None:
    kinds = [kind for _, kind in naming.SCOPES]
    assert len(kinds) == len(set(kinds))
