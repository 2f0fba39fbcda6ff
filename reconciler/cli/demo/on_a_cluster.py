"""The scenes of `--openshift`: a target that is a namespace of a real control plane. Each function is the scene, top to bottom."""

from __future__ import annotations

import json
import textwrap
import time
from pathlib import Path

from pydantic import JsonValue

from reconciler.cli.demo import control_plane, people, telling
from reconciler.cli.demo.scenes import expect
from reconciler.cli.demo.stage import Stage

TARGET = "wallet"
FOLDER = f"targets/{TARGET}"
CONF = f"{FOLDER}/manifests/conf.yaml"
QUICKLY_S = 5.0  # on a machine that does other things too

_OBJECTS = """\
apiVersion: v1
kind: Service
metadata: {name: wallet}
spec: {selector: {app: wallet}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: wallet}
spec: {podSelector: {matchLabels: {app: wallet}}, policyTypes: [Ingress]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: wallet-old}
data: {note: "will not stay"}
"""
_CONF = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: wallet}
data: {dailyLimit: "50000"}
"""


def land_on_it(stage: Stage) -> None:
    alice, bob = stage.people["alice"], stage.people["bob"]
    plane = _plane(stage)
    _kubectl(stage, "create", "namespace", TARGET)
    _grant(stage)
    secret = stage.folder / "daemon" / "ledger.secret"
    secret.touch(mode=0o600)
    secret.write_text("a password that nobody put into Git\n")
    manifests = {
        f"{FOLDER}/target.yaml": _document(plane.kubeconfig),
        f"{FOLDER}/manifests/objects.yaml": _OBJECTS,
        f"{FOLDER}/manifests/secret.yaml": _secret(secret),
        CONF: _CONF,
    }
    head = alice.commits("wallet", "wallet: begin", manifests)
    people.approve(head, [bob])
    merge = alice.merges(head)
    begun = time.monotonic()
    stage.daemon.until_judged(merge, "ACCEPT")  # Before that nobody knows the target.
    stage.daemon.until_converged(TARGET, merge)
    stage.teller.fact(f"on the cluster {time.monotonic() - begun:.1f} s after the merge")
    shown = _kubectl(stage, "get", "service,networkpolicy,configmap,secret", "-l", f"reconciler/target={TARGET}")
    stage.teller.came(shown, only=TARGET)
    expect(
        stage, "the Secret holds what its reference names", holds=_value(stage, "secret", "ledger", "password") != ""
    )
    traced = alice.types("reconciler", "trace", TARGET, f"ConfigMap/{TARGET}/wallet")
    stage.teller.came(traced, only="merge |written by|approved:")


def put_right(stage: Stage) -> None:
    alice = stage.people["alice"]
    seen = len(stage.daemon.records("drift", target=TARGET))
    _kubectl(stage, "patch", "configmap", "wallet", "-p", "data: {dailyLimit: 9M}")
    begun = time.monotonic()
    stage.daemon.until("the limit is as it was", lambda: _value(stage, "configmap", "wallet", "dailyLimit") == "50000")
    took_s = time.monotonic() - begun
    expect(stage, f"the cluster says 50000 again, {took_s:.1f} s after the edit", holds=took_s < QUICKLY_S)
    stage.daemon.until("the drift is on record", lambda: len(stage.daemon.records("drift", target=TARGET)) > seen)
    _kubectl(stage, "delete", "networkpolicy", "wallet")
    stage.daemon.until("the policy is back", lambda: _names(stage, "networkpolicy") == ["wallet"])
    expect(stage, "what was deleted is back too", holds=True)
    stage.daemon.until("all is said", lambda: stage.daemon.target(TARGET)["deploying"] is None)
    stage.teller.came("\n".join(alice.types("reconciler", "history", TARGET).splitlines()[-3:]))


def prune(stage: Stage) -> None:
    alice, bob = stage.people["alice"], stage.people["bob"]
    _kubectl(stage, "create", "configmap", "somebody-elses", "--from-literal=a=b")
    kept, _, _ = _OBJECTS.rpartition("---\n")
    head = alice.commits("no-old", "wallet: drop the old settings", {f"{FOLDER}/manifests/objects.yaml": kept})
    people.approve(head, [bob])
    merge = alice.merges(head)
    stage.daemon.until_converged(TARGET, merge)
    names = _names(stage, "configmap")
    stage.teller.came(_kubectl(stage, "get", "configmap"))
    expect(stage, "wallet-old is gone, somebody-elses is not", holds=names == ["somebody-elses", "wallet"])


# --- the parts ------------------------------------------------------------------------------------------------------------


def _plane(stage: Stage) -> control_plane.ControlPlane:
    if stage.plane is None:
        raise telling.SceneFailedError("there is no control plane")
    return stage.plane


def _kubectl(stage: Stage, *arguments: str) -> str:
    """As an administrator who reaches past the daemon."""
    stage.teller.typed("root@cluster", ("kubectl", *arguments))
    return _run(stage, *arguments)


def _run(stage: Stage, *arguments: str) -> str:
    plane = _plane(stage)
    around = (f"--kubeconfig={plane.administrator}", f"--cache-dir={plane.folder / 'kubectl'}")
    space = () if arguments[:2] == ("create", "namespace") else (f"--namespace={TARGET}",)
    command = (str(control_plane.find("kubectl")), *around, *space, *arguments)
    return stage.terminal.run(command, plane.folder).expect(0, ("kubectl", *arguments)).out


def _items(stage: Stage, kind: str) -> list[dict[str, JsonValue]]:
    found: list[dict[str, JsonValue]] = json.loads(_run(stage, "get", kind, "-o", "json"))["items"]
    return found


def _names(stage: Stage, kind: str) -> list[str]:
    named = (each["metadata"] for each in _items(stage, kind))
    return sorted(str(each["name"]) for each in named if isinstance(each, dict))


def _value(stage: Stage, kind: str, name: str, field: str) -> str:
    return _run(stage, "get", kind, name, "-o", f"jsonpath={{.data.{field}}}")


def _grant(stage: Stage) -> None:
    """What docs/how-to/openshift.md gives to the daemon: one namespace, and nothing of the rest."""
    kinds = "configmaps,secrets,services,networkpolicies.networking.k8s.io"
    verbs = "--verb=get,list,watch,create,patch,delete"
    _kubectl(stage, "create", "role", "reconciler", f"--resource={kinds}", verbs)
    _kubectl(stage, "create", "rolebinding", "reconciler", "--role=reconciler", "--user=reconciler")


def _document(kubeconfig: Path) -> str:
    return textwrap.dedent(f"""\
        apiVersion: reconciler/v1
        kind: Target
        metadata: {{name: {TARGET}, labels: {{owner: payments, service: wallet}}}}
        spec:
          type: openshift
          environment: dev
          connection: {{kubeconfig: "file:{kubeconfig}"}}
          openshift: {{namespaces: [{TARGET}]}}
          deploy:
            checks:
              - opa: compliance_policy
        """)


def _secret(path: Path) -> str:
    return textwrap.dedent(f"""\
        apiVersion: v1
        kind: Secret
        metadata: {{name: ledger}}
        stringData: {{password: "file:{path}"}}
        """)
