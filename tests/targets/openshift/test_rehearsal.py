"""A plan tried on a real API server: what the server makes of it, what it says no to, and that nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import kube as planes
from support import kube_turns, openshift, webhook

from reconciler import errors, model
from reconciler.cli import exit_codes, reading
from reconciler.convergence import rehearsing
from reconciler.targets.openshift.connection import client
from reconciler.views import plans

CORE = "/api/v1/namespaces"
CANARY = "canary-4711-password"
Object = dict[str, Any]


@pytest.fixture
def daemon(kube: planes.ControlPlane, tmp_path: Path) -> Iterator[openshift.Daemon]:
    """It calls under a name of its own, as somebody else: every request can be told from others."""
    who = kube.daemon()
    made = openshift.Daemon(
        openshift.facilities(
            tmp_path, who.kubeconfig, installation=planes.unique("i"), PASSWORD=CANARY, OTHER=f"{CANARY}-2"
        )
    )
    made.caller = who.name  # type: ignore[attr-defined]
    yield made
    made.driver.close()


@pytest.fixture
def hook(kube: planes.ControlPlane, tmp_path: Path) -> Iterator[webhook.Webhook]:
    made = webhook.Webhook(kube, tmp_path / "hook")
    yield made
    made.close()


def desired(namespace: str, *objects: Mapping[str, Any], **more: Any) -> model.Desired:
    return openshift.desired(namespace, *objects, connection={"impersonate": {"user": "deployer"}}, **more)


def config(namespace: str, name: str = "a", **data: str) -> Object:
    return openshift.config_map(namespace, name, data)


def deployment(namespace: str, **spec: Any) -> Object:
    pod = {"containers": [{"name": "app", "image": "example.test/app:1"}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    whole = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    named = {"name": "web", "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": named, "spec": whole}


def secret(namespace: str, reference: str) -> Object:
    named = {"name": "s", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": named, "stringData": {"password": reference}}


def rehearse(daemon: openshift.Daemon, wanted: model.Desired) -> dict[str, model.Rehearsed]:
    plan = daemon.plan(wanted)
    return {str(key): said for key, said in daemon.driver.rehearse(wanted, plan.steps, 30).items()}


def only(daemon: openshift.Daemon, wanted: model.Desired) -> model.Rehearsed:
    (said,) = rehearse(daemon, wanted).values()
    return said


def codes(said: model.Rehearsed) -> list[str]:
    return [reason.code for reason in said.reasons]


def versions(kube: planes.ControlPlane, namespace: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for root in (f"{CORE}/{namespace}/configmaps", f"{CORE}/{namespace}/secrets", f"{CORE}/{namespace}/services"):
        found |= {
            f"{root}/{m['name']}": m["resourceVersion"] for m in (each["metadata"] for each in kube.api.items(root))
        }
    return found


@contextmanager
def registered(kube: planes.ControlPlane, namespace: str, hook: webhook.Webhook) -> Iterator[None]:
    """While the API server asks this webhook about the ConfigMaps of a namespace."""
    configuration = hook.configuration(planes.unique("hook"), namespace, "", "configmaps")
    kube.api.create(configuration)
    probe = config(namespace, "probe", value="0")
    for number in range(200):
        kube.api.apply({**probe, "data": {"value": str(number)}})
        if hook.asked:
            break
    assert hook.asked
    try:
        yield
    finally:
        kinds = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
        kube.api.delete(f"{kinds}/{configuration['metadata']['name']}")


# --- what the server makes of it ------------------------------------------------------------------------------------------


def test_what_the_server_fills_in_by_itself_shows_in_the_diff(kube_namespace: str, daemon: openshift.Daemon) -> None:
    wanted = desired(kube_namespace, deployment(kube_namespace))
    (step,) = daemon.plan(wanted).steps
    said = only(daemon, wanted)
    assert said.outcome is model.DryRun.ACCEPTED
    assert "progressDeadlineSeconds" not in step.diff
    assert "+  progressDeadlineSeconds: 600" in said.diff
    assert "reconciler/" not in said.diff, "our own marks are no news"


def test_of_an_update_only_what_really_changes_is_shown(kube_namespace: str, daemon: openshift.Daemon) -> None:
    daemon.converge(desired(kube_namespace, config(kube_namespace, text="one")))
    said = only(daemon, desired(kube_namespace, config(kube_namespace, text="two")))
    changed = [line for line in said.diff.splitlines() if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
    assert (said.outcome, changed) == (model.DryRun.ACCEPTED, ['-  text: "one"', '+  text: "two"'])


def test_nothing_is_written_by_trying_and_every_call_is_made_as_who_writes(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    ns = kube_namespace
    daemon.converge(desired(ns, config(ns, text="one"), config(ns, "gone", text="one"), secret(ns, "env:PASSWORD")))
    before = versions(kube, ns)
    wanted = desired(ns, config(ns, text="two"), config(ns, "new", text="two"), secret(ns, "env:OTHER"))
    plan = daemon.plan(wanted)
    at = kube.mark()
    said = daemon.driver.rehearse(wanted, plan.steps, 30)
    asked = kube.requests(at, user=daemon.caller)  # type: ignore[attr-defined]
    assert {step.action for step in plan.steps} == {"create", "update", "delete"}
    assert {each.outcome for each in said.values()} == {model.DryRun.ACCEPTED}
    tried = [each for each in asked if each.verb in {"create", "update", "patch", "delete"}]
    assert sorted(each.verb for each in tried) == ["delete", "patch", "patch", "patch"]
    assert all(each.dry_run and each.impersonated == "deployer" for each in tried)
    assert not any("force" in each.query for each in tried)
    assert {each.query["fieldValidation"] for each in tried if each.verb == "patch"} == {"Strict"}
    assert not [each for each in asked if each.writes]
    assert versions(kube, ns) == before


def test_a_secret_is_shown_as_changed_and_its_value_nowhere(kube_namespace: str, daemon: openshift.Daemon) -> None:
    ns = kube_namespace
    daemon.converge(desired(ns, secret(ns, "env:PASSWORD")))
    wanted = desired(ns, secret(ns, "env:OTHER"))
    plan = daemon.plan(wanted)
    said = daemon.driver.rehearse(wanted, plan.steps, 30)
    (one,) = said.values()
    document = plans.plans([plans.Preview(target="t", plan=plan, rehearsed=said)])
    shown = openshift.shown(document.model_dump(mode="json"))
    assert one.outcome is model.DryRun.ACCEPTED
    assert '+  password: "(changed)"' in one.diff
    assert CANARY not in shown
    assert "Y2FuYXJ5" not in shown, "nor in base64"


def test_what_the_server_quotes_of_an_invalid_secret_is_withheld(kube_namespace: str, daemon: openshift.Daemon) -> None:
    broken = {**secret(kube_namespace, "env:PASSWORD"), "type": "kubernetes.io/dockerconfigjson"}
    said = only(daemon, desired(kube_namespace, broken))
    assert said.outcome is model.DryRun.REFUSED
    assert CANARY not in openshift.shown(said.model_dump(mode="json"))


# --- what it says no to ---------------------------------------------------------------------------------------------------


def test_a_field_that_no_schema_has_is_a_finding(kube_namespace: str, daemon: openshift.Daemon) -> None:
    said = only(daemon, desired(kube_namespace, deployment(kube_namespace, replicsa=3)))
    assert (said.outcome, codes(said)) == (model.DryRun.REFUSED, ["schema"])
    assert "replicsa" in said.reasons[0].message
    assert "manifests/0000.yaml" in said.reasons[0].where


def test_a_quota_that_is_spent_is_a_finding(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    ns, path = kube_namespace, f"{CORE}/{kube_namespace}/resourcequotas/few"
    spec = {"hard": {"count/services": "0"}}
    kube.api.create(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": ns}, "spec": spec}
    )
    kube.api.wait(lambda: kube.api.get(path).get("status", {}).get("used"))
    ports = [{"port": 80, "name": "http"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": ns},
        "spec": {"ports": ports},
    }
    said = only(daemon, desired(ns, service))
    assert said.outcome is model.DryRun.REFUSED
    assert "exceeded quota: few" in said.reasons[0].message


def test_a_webhook_that_denies_is_a_finding_with_its_words(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, hook: webhook.Webhook
) -> None:
    with registered(kube, kube_namespace, hook):
        hook.verdict, hook.only = "reject", "a"
        said = rehearse(
            daemon, desired(kube_namespace, config(kube_namespace, v="1"), config(kube_namespace, "b", v="1"))
        )
    outcomes = {key.rpartition("/")[2]: each.outcome for key, each in said.items()}
    assert outcomes == {"a": model.DryRun.REFUSED, "b": model.DryRun.ACCEPTED}
    (refused,) = [each for each in said.values() if each.outcome is model.DryRun.REFUSED]
    assert "policy 7 forbids it" in refused.reasons[0].message
    assert (True, "a") in hook.asked, "it was told that nothing is kept"


def test_a_webhook_without_dry_runs_leaves_it_unproven(
    kube_namespace: str, daemon: openshift.Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a webhook that an older server registered is one: v1 of the API takes none. So the answer is the server's, from its source."""
    wanted = desired(kube_namespace, secret(kube_namespace, "env:PASSWORD"))
    plan = daemon.plan(wanted)
    message = f'admission webhook "old.example.test" does not support dry run {CANARY}'
    answer = client.Answer(400, {"kind": "Status", "reason": "BadRequest", "message": message})
    monkeypatch.setattr(client.Client, "request", lambda *_, **__: answer)
    (said,) = daemon.driver.rehearse(wanted, plan.steps, 30).values()
    assert (said.outcome, codes(said)) == (model.DryRun.UNPROVEN, ["webhook"])
    assert "old.example.test" in said.reasons[0].message
    assert CANARY not in said.reasons[0].message


@pytest.mark.parametrize(
    ("status", "code"), [(401, "target.auth_failed"), (500, "server_error"), (504, "server_error")]
)
def test_a_server_that_did_not_judge_leaves_it_unproven(
    status: int, code: str, kube_namespace: str, daemon: openshift.Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = desired(kube_namespace, config(kube_namespace, text="one"))
    plan = daemon.plan(wanted)
    answer = client.Answer(status, {"kind": "Status", "message": "not now"})
    monkeypatch.setattr(client.Client, "request", lambda *_, **__: answer)
    (said,) = daemon.driver.rehearse(wanted, plan.steps, 30).values()
    assert (said.outcome, codes(said)) == (model.DryRun.UNPROVEN, [code])


def test_a_conflict_is_told_for_each_field_and_its_manager(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    ns, path = kube_namespace, f"{CORE}/{kube_namespace}/configmaps/a"
    daemon.converge(desired(ns, config(ns, text="one")))
    there = kube.api.patch(path, {"data": {"more": "x"}}, manager="team-a")
    there = kube.api.patch(path, {"data": {"other": "y"}}, manager="team-b")
    openshift.await_watches(path, there)
    bodies = [config(ns, text="one", more="ours", other="ours")]
    said = only(daemon, desired(ns, *bodies))
    assert said.outcome is model.DryRun.REFUSED
    assert [(each.code, each.message) for each in said.reasons] == [
        ("conflict", f"ConfigMap/{ns}/a: data.more belongs to team-a"),
        ("conflict", f"ConfigMap/{ns}/a: data.other belongs to team-b"),
    ]
    taking = only(daemon, desired(ns, *bodies, options={"conflicts": "take"}))
    assert (taking.outcome, codes(taking)) == (model.DryRun.UNPROVEN, ["takes_fields"])
    assert "data.more of team-a; data.other of team-b" in taking.reasons[0].message
    assert kube.api.get(path)["data"] == {"text": "one", "more": "x", "other": "y"}


def test_a_field_that_is_left_to_its_owner_is_no_conflict(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    ns, path = kube_namespace, f"{CORE}/{kube_namespace}/configmaps/a"
    daemon.converge(desired(ns, config(ns, text="one")))
    openshift.await_watches(path, kube.api.patch(path, {"data": {"more": "x"}}, manager="team-a"))
    rule = model.Ignore(key=f"ConfigMap/{ns}/a", path="data.more", reason="theirs")
    said = only(daemon, desired(ns, config(ns, text="two", more="ours"), ignore=(rule,)))
    assert said.outcome is model.DryRun.ACCEPTED
    assert '+  text: "two"' in said.diff


def test_a_field_that_is_taken_back_or_over_is_not_tried_with_force(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    ns = kube_namespace
    daemon.converge(desired(ns, config(ns, text="one")))
    moved = kube.api.patch(f"{CORE}/{ns}/configmaps/a", {"data": {"text": "by hand"}}, manager="kubectl-edit")
    openshift.await_watches(f"{CORE}/{ns}/configmaps/a", moved)
    theirs = config(ns, "b", text="theirs")
    kube.api.call("POST", f"{CORE}/{ns}/configmaps?fieldManager=kubectl-create", theirs)
    wanted = desired(ns, config(ns, text="one"), config(ns, "b", text="ours"), adopt=(f"ConfigMap/{ns}/b",))
    assert [step.action for step in daemon.plan(wanted).steps] == ["update", "adopt"]
    said = rehearse(daemon, wanted)
    assert {each.outcome for each in said.values()} == {model.DryRun.UNPROVEN}
    assert {codes(each)[0] for each in said.values()} == {"takes_fields"}
    assert "data.text of kubectl-edit" in said[f"ConfigMap/{ns}/a"].reasons[0].message


def test_an_item_that_nobody_declared_is_shown_as_going(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    ns, path = kube_namespace, f"/apis/apps/v1/namespaces/{kube_namespace}/deployments/web"
    wanted = desired(ns, deployment(ns), options={"foreignItems": "remove"})
    daemon.converge(wanted)
    pod = {"containers": [{"name": "miner", "image": "example.test/miner:1"}]}
    kube.api.patch(path, {"spec": {"template": {"spec": pod}}}, content="application/strategic-merge-patch+json")
    kube.api.wait(lambda: daemon.plan(wanted).steps)
    said = only(daemon, wanted)
    assert said.outcome is model.DryRun.ACCEPTED
    assert '"miner"' in "".join(line for line in said.diff.splitlines() if line.startswith("-"))


def test_a_field_that_cannot_be_changed_is_a_finding_with_its_way_out(
    kube_namespace: str, daemon: openshift.Daemon
) -> None:
    ns = kube_namespace
    fixed = {**config(ns, text="one"), "immutable": True}
    daemon.converge(desired(ns, fixed))
    changed = {**fixed, "data": {"text": "two"}}
    said = only(daemon, desired(ns, changed))
    assert (said.outcome, codes(said)) == (model.DryRun.REFUSED, ["immutable"])
    assert "replace:" in said.reasons[0].fix
    anew = only(daemon, desired(ns, changed, options={"replace": [f"ConfigMap/{ns}/a"]}))
    assert (anew.outcome, codes(anew)) == (model.DryRun.UNPROVEN, ["replaced"])


# --- what it cannot say ---------------------------------------------------------------------------------------------------


def test_what_lies_in_a_namespace_that_only_comes_with_the_change_is_unproven(daemon: openshift.Daemon) -> None:
    ns = planes.unique("later")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns}}
    wanted = desired(ns, namespace, config(ns, text="one"), options={"clusterKinds": ["Namespace"]})
    said = rehearse(daemon, wanted)
    assert said[f"Namespace//{ns}"].outcome is model.DryRun.ACCEPTED
    inner = said[f"ConfigMap/{ns}/a"]
    assert (inner.outcome, codes(inner)) == (model.DryRun.UNPROVEN, ["comes_first"])


def test_an_object_of_a_kind_that_only_comes_with_the_change_is_unproven(
    kube_namespace: str, daemon: openshift.Daemon
) -> None:
    kind, group = planes.unique("widget").replace("-", "").capitalize(), "later.example.test"
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    named = {"name": "w", "namespace": kube_namespace}
    widget = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": named}
    wanted = desired(kube_namespace, definition, widget, options={"clusterKinds": ["CustomResourceDefinition"]})
    outcomes = {key.partition("/")[0].partition(".")[0]: each for key, each in rehearse(daemon, wanted).items()}
    assert outcomes["CustomResourceDefinition"].outcome is model.DryRun.ACCEPTED
    assert codes(outcomes[kind]) == ["comes_first"]


def test_a_namespace_that_nobody_makes_is_said(daemon: openshift.Daemon) -> None:
    ns = planes.unique("nowhere")
    said = only(daemon, desired(ns, config(ns, text="one")))
    assert (said.outcome, codes(said)) == (model.DryRun.REFUSED, ["not_found"])


def test_a_secret_that_cannot_be_resolved_is_unproven_and_not_sent(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon
) -> None:
    wanted = desired(kube_namespace, secret(kube_namespace, "env:PASSWORD"))
    plan = daemon.plan(wanted)
    assert isinstance(daemon.facilities.secrets, openshift.Secrets)
    del daemon.facilities.secrets.known["env:PASSWORD"]
    at = kube.mark()
    (said,) = daemon.driver.rehearse(wanted, plan.steps, 30).values()
    assert (said.outcome, codes(said)) == (model.DryRun.UNPROVEN, ["secret"])
    assert kube.requests(at, namespace=kube_namespace) == []


def test_what_was_not_asked_by_the_deadline_is_unproven(kube_namespace: str, daemon: openshift.Daemon) -> None:
    wanted = desired(kube_namespace, config(kube_namespace, text="one"))
    (said,) = daemon.driver.rehearse(wanted, daemon.plan(wanted).steps, 0).values()
    assert (said.outcome, codes(said)) == (model.DryRun.UNPROVEN, ["deadline"])


# --- before the merge -----------------------------------------------------------------------------------------------------


@pytest.fixture
def estate(kube: planes.ControlPlane, tmp_path: Path) -> Iterator[kube_turns.Estate]:
    made = kube_turns.Estate(kube, tmp_path)
    yield made
    made.close()


def head(estate: kube_turns.Estate, *bodies: Object) -> model.Desired:
    estate.lab.revisions["h"] = estate.lab.store.make_commit(kube_turns.folder(bodies), estate.lab.revisions["m1"])
    return estate.process.desired("t", "h")


def test_before_the_merge_a_new_key_is_not_asked_about(estate: kube_turns.Estate, kube_namespace: str) -> None:
    ns = kube_namespace
    estate.merge("m1", kube_turns.folder([config(ns, text="one")]))
    estate.settle()
    wanted, target = head(estate, config(ns, text="two"), config(ns, "new", text="two")), estate.process.target()
    plan = target.plan(wanted)
    at = estate.plane.mark()
    said = target.rehearse(plan, wanted)
    asked = estate.plane.requests(at, user=estate.daemon.name)
    assert said[model.Key(f"ConfigMap/{ns}/a")].outcome is model.DryRun.ACCEPTED
    assert codes(said[model.Key(f"ConfigMap/{ns}/new")]) == ["not_asked"]
    assert {each.name for each in asked if each.namespace == ns} == {"a"}


def test_before_the_merge_nothing_is_read_that_only_the_head_names(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    """A branch must not make the daemon read what it alone may read: another object, or another namespace."""
    ns, other = kube_namespace, estate.plane.make_namespace("other")
    estate.api.create(config(ns, "theirs", text=CANARY))
    estate.api.create(config(other, "theirs", text=CANARY))
    estate.merge("m1", kube_turns.folder([config(ns, text="one")]))
    estate.settle()
    wanted = head(estate, config(ns, text="two"), config(ns, "theirs", text="x"), config(other, "theirs", text="x"))
    target, at = estate.process.target(), estate.plane.mark()
    plan = target.plan(wanted)
    said = target.rehearse(plan, wanted)
    assert CANARY not in plan.model_dump_json()
    assert plan.refusals == ()  # Whether it is there already is not told either.
    for space in (ns, other):
        assert codes(said[model.Key(f"ConfigMap/{space}/theirs")]) == ["not_asked"]
    asked = estate.plane.requests(at, user=estate.daemon.name)
    assert not [each for each in asked if each.namespace == other or each.name == "theirs"]


def test_before_the_merge_a_new_reference_is_neither_resolved_nor_sent(
    estate: kube_turns.Estate, kube_namespace: str
) -> None:
    estate.merge("m1", kube_turns.folder([config(kube_namespace, text="one")]))
    estate.settle()
    wanted = head(estate, config(kube_namespace, text="one"), secret(kube_namespace, "env:KUBECONFIG_OF_TESTS"))
    with pytest.raises(errors.ConfigError, match="env:KUBECONFIG_OF_TESTS was not accepted") as caught:
        estate.process.target().plan(wanted)
    assert "manifests/all.yaml" in caught.value.where


def test_what_is_accepted_is_asked_about_whole(estate: kube_turns.Estate, kube_namespace: str) -> None:
    ns = kube_namespace
    estate.merge("m1", kube_turns.folder([config(ns, text="one"), config(ns, "b", text="one")]))
    estate.settle()
    for name in ("a", "b"):
        estate.api.delete(f"{CORE}/{ns}/configmaps/{name}")
        openshift.await_watches(f"{CORE}/{ns}/configmaps/{name}", None)
    target = estate.process.target()
    plan = target.next_plan()
    said = target.rehearse(plan)
    assert {key: each.outcome for key, each in said.items()} == {
        f"ConfigMap/{ns}/{name}": model.DryRun.ACCEPTED for name in ("a", "b")
    }
    gone = target.rehearse(plan.model_copy(update={"wanted": model.Digest("another")}))
    assert {codes(each)[0] for each in gone.values()} == {"moved"}


# --- what people see ------------------------------------------------------------------------------------------------------

KEY = model.Key("ConfigMap/n/a")
STEP = model.Step(key=KEY, action="update", command="apply", before=None, diff="+compared")
PLAN = model.Plan(
    target="t",
    wanted=model.Digest("d"),
    fingerprint=model.Digest("f"),
    stages=(model.Stage(batch=0, order=0, steps=(STEP,)),),
)


def document(said: model.Rehearsed | None) -> Object:
    preview = plans.Preview(target="t", plan=PLAN, rehearsed={KEY: said} if said else {})
    shown: Object = json.loads(plans.plans([preview]).model_dump_json())
    return shown


def test_the_diff_is_the_servers_where_it_said_yes() -> None:
    (step,) = document(model.Rehearsed(outcome=model.DryRun.ACCEPTED, diff="+kept"))["items"][0]["steps"]
    assert (step["dryRun"], step["dryRunReasons"], step["diff"]) == ("accepted", [], "+kept")
    (step,) = document(None)["items"][0]["steps"]
    assert (step["dryRun"], step["diff"]) == (None, "+compared")


def test_a_refusal_of_the_server_is_printed_and_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    reason = model.Reason(code="schema", message="no such field", where="manifests/a.yaml:3")
    shown = document(model.Rehearsed(outcome=model.DryRun.REFUSED, reasons=(reason,)))
    reading.plans(shown)
    printed = capsys.readouterr().out
    assert "dry run: refused" in printed
    assert "no such field" in printed
    assert "+compared" in printed
    assert reading.of_plans(shown, differs=False) == exit_codes.DEFERRED
    unproven = document(rehearsing.all_unproven([STEP], reason)[KEY])
    assert reading.of_plans(unproven, differs=False) == exit_codes.FINE
