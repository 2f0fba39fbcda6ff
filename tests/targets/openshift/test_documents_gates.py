"""The gates over an openshift target: what they hold is what would be sent (T17, and the library's own policies)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support import gating, targets

from reconciler import model, ports
from reconciler.gates import opa, schema
from reconciler.targets.openshift import driver

POLICIES = Path(__file__).parents[3] / "policies"
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec:
  replicas: 2
  template: {spec: {containers: [{name: c, image: "registry.example/api:1.2.3"}]}}
"""
PRIVILEGED = """\
resources: [app.yaml]
namespace: payments
patches:
  - target: {kind: Deployment}
    patch: |
      - {op: add, path: /spec/template/spec/containers/0/securityContext, value: {privileged: true}}
"""


@pytest.fixture
def estate(tmp_path: Path) -> gating.Estate:
    made = gating.Estate()
    policies = {f"policies/{path.name}": path.read_bytes() for path in POLICIES.glob("workloads*.rego")}
    made.commit(policies)
    around = ports.DriverFacilities("test", tmp_path, (), targets.NoSecrets(), targets.Clock())
    drivers: ports.Drivers = {"openshift": lambda: driver.Openshift(around)}
    made.facilities = ports.GateFacilities(made.store, drivers, gating.Clock(), production=False)
    return made


def commit(estate: gating.Estate, files: dict[str, str], **spec: Any) -> None:
    document = {
        "apiVersion": "reconciler/v1",
        "kind": "Target",
        "metadata": {"name": "app"},
        "spec": {
            "type": "openshift",
            "environment": "dev",
            "connection": {"kubeconfig": "env:KUBECONFIG_DEV"},
            "openshift": {"namespaces": ["payments"], **spec},
        },
    }
    blobs = {f"targets/app/{path}": text.encode() for path, text in files.items()}
    estate.commit({"targets/app/target.yaml": yaml.safe_dump(document).encode(), **blobs})


def findings(estate: gating.Estate, gate: ports.Gate) -> list[tuple[str, str]]:
    return [(reason.code, reason.where) for reason in gate.check(estate.change(), 60).findings]


def judged(estate: gating.Estate) -> list[tuple[str, str]]:
    return findings(estate, schema.SchemaGate(model.Check(gate="schema"), estate.facilities))


def complied(estate: gating.Estate) -> list[tuple[str, str]]:
    return findings(estate, opa.OpaGate(model.Check(gate="opa"), estate.facilities))


def test_sound_manifests_pass_both(estate: gating.Estate) -> None:
    commit(estate, {"manifests/app.yaml": DEPLOYMENT})
    assert judged(estate) == complied(estate) == []


def test_a_patch_of_an_overlay_brings_in_nothing_that_a_policy_forbids(estate: gating.Estate) -> None:
    commit(
        estate, {"prod/app.yaml": DEPLOYMENT, "prod/kustomization.yaml": PRIVILEGED}, render="kustomize", path="prod"
    )
    assert judged(estate) == []
    ((code, where),) = complied(estate)
    assert code == "policy"
    assert where.startswith("targets/app/prod/kustomization.yaml (rendered):")


def test_t17_a_secret_of_another_environment_is_found_wherever_it_is_written(estate: gating.Estate) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  url: 'vault:kv/prod/db#url'\n"
    commit(estate, {"manifests/s.yaml": secret})
    assert judged(estate) == [("environment_limits", "targets/app/manifests/s.yaml:5")]
    patch = PRIVILEGED.replace("Deployment", "Secret").replace("app.yaml", "s.yaml").partition("      - ")[0]
    patch += '      - {op: replace, path: /stringData/url, value: "vault:kv/prod/db#url"}\n'
    files = {"prod/s.yaml": secret.replace("vault:kv/prod/db#url", "env:URL"), "prod/kustomization.yaml": patch}
    commit(estate, {**files, "manifests/s.yaml": DEPLOYMENT}, render="kustomize", path="prod")
    assert ("environment_limits", "targets/app/prod/s.yaml:1") in judged(estate)


def test_every_finding_of_a_document_has_its_line(estate: gating.Estate) -> None:
    commit(estate, {"manifests/app.yaml": DEPLOYMENT}, clusterKind=["ClusterRole"])
    ((code, where),) = judged(estate)
    assert (code, where.partition(":")[0]) == ("schema", "targets/app/target.yaml")
    assert int(where.partition(":")[2]) > 1


@pytest.mark.parametrize(("namespace", "codes"), [("payments", ["claimed"]), ("ledger", [])])
def test_one_name_in_the_namespaces_of_two_targets_is_two_objects(
    estate: gating.Estate, namespace: str, codes: list[str]
) -> None:
    """Over one cluster: manifests need not repeat the namespace that is a target's only one."""
    commit(estate, {"manifests/app.yaml": DEPLOYMENT})
    spec = {
        "type": "openshift",
        "environment": "dev",
        "connection": {"kubeconfig": "env:KUBECONFIG_DEV"},
        "openshift": {"namespaces": [namespace]},
    }
    document = {"apiVersion": "reconciler/v1", "kind": "Target", "metadata": {"name": "other"}, "spec": spec}
    files = {"target.yaml": yaml.safe_dump(document), "manifests/app.yaml": DEPLOYMENT}
    estate.commit({f"targets/other/{path}": text.encode() for path, text in files.items()})
    assert [code for code, _ in judged(estate)] == codes
