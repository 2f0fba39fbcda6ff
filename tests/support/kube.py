"""A real Kubernetes control plane for tests: etcd, kube-apiserver and kube-controller-manager on loopback.

Fixtures (support/kube_fixtures.py, known to every test):

    def test_a(kube: kube.ControlPlane) -> None: ...     # one for the whole run, shared by all workers: never stop it
    def test_b(kube_namespace: str) -> None: ...         # a new namespace on it, for this test
    def test_c(make_kube) -> None: plane = make_kube()   # a plane of its own, to kill and restart: ~5 s, stopped after the test

On the shared one tests keep apart by namespaces and by names that nobody else has (`unique("widget")`). What a plane gives:

    plane.url, plane.ca_path                             # https://127.0.0.1:PORT with a certificate of plane.ca_path
    plane.api                                            # the administrator's client, support/kube_api.py: get, items, create,
                                                         # apply, patch, set_status, delete, wait(lambda: ...)
    plane.make_namespace("payments")                     # payments-1f2e3d4c, ready for pods
    who = plane.daemon()                                 # an identity nobody else uses: who.name, who.kubeconfig (text, with a
                                                         # token and certificate-authority-data). May do nothing itself but
                                                         # impersonate user `deployer` and group `payments`
    plane.kubeconfig("admin" | "deployer" | "visitor")   # deployer: cluster-admin; visitor: signed in, no rights
    plane.certified("alice", ["team"])                   # a kubeconfig with a client certificate instead of a token
    plane.grant("alice", "edit", namespace)              # a RoleBinding to a ClusterRole
    at = plane.mark(); ...                               # from here on
    plane.requests(at, user=who.name)                    # what was asked since, but for plane.api's own: support/kube_audit.py,
                                                         # Request(verb, resource, name, code, impersonated, groups, query,
                                                         # dry_run, writes, ...)
    plane.kill_api(); plane.stop_api(); plane.start_api()    # on a plane of one's own only; same port, same data

There is no kubelet. A fake one (support/kubelet.py, in a process that ends with the run) marks pods by the image of their first
container: `unpullable` in it = ImagePullBackOff, `crash` = CrashLoopBackOff (in a Job: Failed), `slow` = Pending for ever,
`late` = Ready after two seconds, anything else = Ready at once (in a Job: Succeeded). It also plays what OpenShift's own
controllers would do: Routes are admitted unless their host contains `refused`, DeploymentConfigs become available unless their
image contains `crash`, ImageStream tags get an item unless their name contains `missing`, a Project brings its Namespace.
Route and SecurityContextConstraints are OpenShift's own CRDs; those of Project, ImageStream, DeploymentConfig and BuildConfig
are stand-ins of ours (support/crds/stand-in-*.yaml), because OpenShift serves these from its own API servers.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import yaml
from parts import build_kube

from support import kube_api, kube_audit, kube_certificates, kube_processes

TESTS = Path(__file__).parents[1]
STAND_INS = Path(__file__).parent / "crds"
FIXED_USERS = {
    "admin": "system:masters",
    "deployer": "payments",
    "visitor": "visitors",
    "fake-kubelet": "system:masters",
}
CONTROLLER_MANAGER = "system:kube-controller-manager"
DAEMONS = 2000  # identities, each taken once
MEMORY = {"etcd": "200MiB", "kube-apiserver": "500MiB", "kube-controller-manager": "200MiB", "keeper": "0"}
CONTROLLERS = [
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolume-binder-controller",
    "persistentvolumeclaim-protection-controller",
    "replicaset-controller",
    "replicationcontroller-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
]
READY_WITHIN_S = 120.0


class Identity(NamedTuple):
    name: str
    kubeconfig: str


def unique(prefix: str) -> str:
    """A name of an object that no other test has."""
    return f"{prefix}-{secrets.token_hex(4)}"


class ControlPlane:
    """One in a folder, for whoever knows the folder; processes are known by their ids in FOLDER/pids.

    `begin` returns at once and `wait` when it is ready; both do nothing where another process has done it.
    """

    def __init__(self, folder: Path, *, while_pid: int | None = None) -> None:
        self.folder = folder
        self._while_pid = while_pid or os.getpid()
        self._api: kube_api.Api | None = None
        self.ca_path, self.audit_path = folder / "ca.crt", folder / "audit.log"
        self._processes = kube_processes.Processes(folder)

    # --- its life ---

    def begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if not (self.folder / "ports").exists():
                self._write_files()
                self._begin_on_new_ports()
                self._begin("keeper", [sys.executable, "-m", "support.kubelet", str(self.folder), str(self._while_pid)])

    def wait(self) -> ControlPlane:
        self.begin()
        with self._alone():
            if not (self.folder / "ready").exists():
                self._await_api(may_move=True)
                self._furnish()
                self._begin_controllers()
                (self.folder / "ready").touch()
        return self

    def stop(self) -> None:
        """Every process; in the other order, so that nobody misses what it needs."""
        if self._api:
            self._api.close()
        for name in ("kube-controller-manager", "keeper", "kube-apiserver", "etcd"):
            self._processes.end(name, signal.SIGTERM)

    def stop_api(self) -> None:
        """As a rolling update would; who still watches after three seconds is cut off."""
        self._processes.end("kube-apiserver", signal.SIGTERM)

    def kill_api(self) -> None:
        self._processes.end("kube-apiserver", signal.SIGKILL)

    def start_api(self) -> None:
        """Where it was, with what etcd holds; returns when it answers."""
        self._begin_api()
        self._await_api(may_move=False)

    # --- what tests use ---

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._ports['api']}"

    @property
    def api(self) -> kube_api.Api:
        if self._api is None:
            self._api = self.client("admin")
        return self._api

    def client(self, user: str) -> kube_api.Api:
        return kube_api.Api(self.url, self.ca_path, self.token(user))

    def token(self, user: str) -> str:
        return self._tokens[user]

    def make_namespace(self, prefix: str = "t") -> str:
        name = unique(prefix)
        self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        if self._processes.find("kube-controller-manager"):  # Without its service account no pod is let in.
            self.api.wait(lambda: self.api.find(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
        return name

    def daemon(self) -> Identity:
        taken = self.folder / "taken"
        for number in range(DAEMONS):
            try:
                (taken / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            return Identity(f"daemon-{number}", self.kubeconfig(f"daemon-{number}"))
        raise AssertionError("no identity is left")

    def kubeconfig(self, user: str) -> str:
        return self._kubeconfig({"token": self._tokens[user]})

    def certified(self, user: str, groups: Sequence[str] = ()) -> str:
        certificate, key = kube_certificates.Authority(self.folder).identify(user, groups)
        return self._kubeconfig({"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)})

    def grant(self, user: str, role: str, namespace: str) -> None:
        self.api.create(_binding("RoleBinding", unique("grant"), role, user, namespace=namespace))

    def mark(self) -> int:
        """A place in the audit log; all that was answered before is behind it."""
        for _ in range(2):  # Each is written before it is answered, but another may still be on its way to the file.
            name = unique("mark")
            self.api.find(f"/api/v1/namespaces/{name}")
            self.api.wait(partial(self._is_written, name.encode()), every_s=0.01)
        return self.audit_path.stat().st_size

    def _is_written(self, name: bytes) -> bool:
        with self.audit_path.open("rb") as log:
            log.seek(max(0, self.audit_path.stat().st_size - 200_000))
            return name in log.read()

    def requests(
        self, since: int = 0, *, user: str | None = None, namespace: str | None = None
    ) -> list[kube_audit.Request]:
        self.mark()
        return [
            request
            for request in kube_audit.read(self.audit_path, since).values()
            if user in {None, request.user} and namespace in {None, request.namespace} and request.agent != "tests"
        ]

    # --- how it is made ---

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def _ports(self) -> dict[str, int]:
        return {name: int(port) for name, port in json.loads((self.folder / "ports").read_text()).items()}

    @property
    def _tokens(self) -> dict[str, str]:
        lines = (self.folder / "tokens.csv").read_text().splitlines()
        return {user: token for token, user, *_ in (line.split(",") for line in lines)}

    def _write_files(self) -> None:
        authority = kube_certificates.Authority(self.folder)
        authority.serve(self.folder / "server.crt", self.folder / "server.key")
        kube_certificates.write_key(self.folder / "accounts.key")
        daemons = {f"daemon-{number}": "daemons" for number in range(DAEMONS)}
        users = {**FIXED_USERS, CONTROLLER_MANAGER: "", **daemons}
        lines = [f'token-{secrets.token_hex(16)},{user},{user},"{group}"' for user, group in users.items()]
        (self.folder / "tokens.csv").touch(mode=0o600)
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        (self.folder / "audit-policy.json").write_text(json.dumps(kube_audit.POLICY))
        self.audit_path.touch()
        (self.folder / "taken").mkdir()

    def _begin(self, name: str, command: list[str]) -> None:
        more = {"GOMEMLIMIT": MEMORY[name], "GOMAXPROCS": "2", "PYTHONPATH": str(TESTS)}
        self._processes.begin(name, command, more)

    def _begin_on_new_ports(self) -> None:
        (self.folder / "ports").write_text(
            json.dumps(dict(zip(("etcd", "peer", "api"), kube_processes.free_ports(3), strict=True)))
        )
        self._begin_etcd()
        self._begin_api()

    def _begin_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{self._ports[name]}" for name in ("etcd", "peer"))
        listens = [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        peers = [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        data = self.folder / f"etcd-{self._ports['etcd']}"
        options = [f"--data-dir={data}", f"--initial-cluster=default={peer}"]
        self._begin("etcd", [_binary("etcd"), "--unsafe-no-fsync", *options, *listens, *peers])

    def _begin_api(self) -> None:
        folder, ports = self.folder, self._ports
        options = {
            "etcd-servers": f"http://127.0.0.1:{ports['etcd']}",
            "bind-address": "127.0.0.1",
            "secure-port": ports["api"],
            "tls-cert-file": folder / "server.crt",
            "tls-private-key-file": folder / "server.key",
            "client-ca-file": self.ca_path,
            "cert-dir": folder / "made",
            "token-auth-file": folder / "tokens.csv",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": folder / "accounts.key",
            "service-account-signing-key-file": folder / "accounts.key",
            "authorization-mode": "RBAC",
            "service-cluster-ip-range": "10.0.0.0/16",
            "endpoint-reconciler-type": "none",
            "allow-privileged": "true",
            "audit-policy-file": folder / "audit-policy.json",
            "audit-log-path": self.audit_path,
            "audit-log-maxsize": "0",  # Never another file: a place in it stays a place.
            "profiling": "false",
        }
        self._begin("kube-apiserver", [_binary("kube-apiserver"), *(f"--{k}={v}" for k, v in options.items())])

    def _begin_controllers(self) -> None:
        path = self.folder / "controllers.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(self.kubeconfig(CONTROLLER_MANAGER))
        options = {
            "kubeconfig": path,
            "bind-address": "127.0.0.1",
            "secure-port": kube_processes.free_ports(1)[0],
            "cert-dir": self.folder / "made",
            "leader-elect": "false",
            "service-account-private-key-file": self.folder / "accounts.key",
            "root-ca-file": self.ca_path,
            "use-service-account-credentials": "true",
            "controllers": ",".join(CONTROLLERS),
            "kube-api-qps": 500,  # Else a hundred Deployments wait for its own modesty.
            "kube-api-burst": 1000,
        }
        command = [_binary("kube-controller-manager"), *(f"--{k}={v}" for k, v in options.items())]
        self._begin("kube-controller-manager", command)

    def _await_api(self, *, may_move: bool) -> None:
        end, moves = time.monotonic() + READY_WITHIN_S, 0
        while not self.api.ready():
            dead = next((name for name in ("etcd", "kube-apiserver") if not self._processes.find(name)), None)
            if dead and may_move and moves < 3 and "address already in use" in self._processes.said(dead):
                moves += 1
                self.stop_api()
                self._processes.end("etcd", signal.SIGTERM)
                self._begin_on_new_ports()
                self._api = None
            elif dead:
                raise AssertionError(f"{dead} ended: {self._processes.said(dead)[-2000:]}")
            assert time.monotonic() < end, f"not ready: {self._processes.said('kube-apiserver')[-2000:]}"
            time.sleep(0.1)

    def _furnish(self) -> None:
        """Who may do what, and OpenShift's kinds; returns when these are served."""
        self.api.apply(_impersonator())
        self.api.apply(_binding("ClusterRoleBinding", "deployer", "cluster-admin", "deployer"))
        self.api.apply(_binding("ClusterRoleBinding", "daemons", "impersonator", "daemons", kind="Group"))
        definitions = [
            yaml.safe_load(path.read_bytes())
            for folder in (build_kube.crds(), STAND_INS)
            for path in sorted(folder.glob("*.yaml"))
        ]
        for each in definitions:
            self.api.apply(each)
        for each in definitions:
            self.api.wait(partial(self._serves, kube_api.path_of(each)))

    def _serves(self, definition: str) -> bool:
        conditions = self.api.get(definition).get("status", {}).get("conditions") or ()  # null at first
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    def _kubeconfig(self, user: dict[str, str]) -> str:
        cluster = {"server": self.url, "certificate-authority-data": _base64(self.ca_path.read_bytes())}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        }
        return yaml.safe_dump(document, sort_keys=False)


def _binary(name: str) -> str:
    found = build_kube.find(name)
    assert found, f"{name}: {build_kube.why()}"
    return str(found)


def _impersonator() -> kube_api.Object:
    names = {"users": "deployer", "groups": "payments"}
    rules = [
        {"apiGroups": [""], "resources": [resource], "resourceNames": [name], "verbs": ["impersonate"]}
        for resource, name in names.items()
    ]
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    return {**kind, "metadata": {"name": "impersonator"}, "rules": rules}


def _binding(
    of: str, name: str, role: str, subject: str, *, kind: str = "User", namespace: str | None = None
) -> kube_api.Object:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": of,
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": kind, "name": subject}],
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
