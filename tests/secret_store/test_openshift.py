"""A target of type openshift whose kubeconfig and Secrets lie in a real OpenBao, on a real control plane."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support import kube as planes
from support import kube_turns, openbao, openshift

from reconciler import ports
from reconciler.audit import record
from reconciler.secrets import resolving, session, vault
from reconciler.targets.openshift import driver
from reconciler.targets.openshift.observing import wants

CANARY = "canary-0815-of-the-ledger"


class Estate(kube_turns.Estate):
    """The daemon's own resolver in the place of that of the tests."""

    def __init__(self, plane: planes.ControlPlane, folder: Path, secrets: ports.Secrets) -> None:
        super().__init__(plane, folder)
        where = folder / "openshift"
        around = ports.DriverFacilities(planes.unique("lab"), where, (), secrets, self.lab.clock, kube_turns.Anywhere())
        self.process.drivers["openshift"] = lambda: driver.Openshift(around)


@pytest.fixture
def way(bao: openbao.OpenBao) -> Iterator[openbao.Way]:
    with openbao.between(bao) as between:
        yield between


def approle(bao: openbao.OpenBao, folder: Path, name: str) -> session.AppRole:
    role_id, secret_id = bao.make_role(name, [f"kv/data/{name}/*"])
    (folder / "role-id").write_text(role_id)
    (folder / "secret-id").write_text(secret_id)
    return session.AppRole(f"file:{folder}/role-id", f"file:{folder}/secret-id")


def secret(namespace: str, name: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": dict(data),
    }


def test_a_target_reaches_its_cluster_and_gets_its_secrets_from_the_vault(
    *,
    bao: openbao.OpenBao,
    way: openbao.Way,
    kube: planes.ControlPlane,
    kube_namespace: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    auth = approle(bao, tmp_path, "e2e")
    secrets = resolving.Secrets({}, kube_turns.RealTime(), vault.Settings(way.url, auth))
    estate = Estate(kube, tmp_path, secrets)
    bao.write("kv/e2e/cluster", {"kubeconfig": estate.daemon.kubeconfig})
    bao.write("kv/e2e/ledger", {"password": CANARY})
    ours = secret(kube_namespace, "ledger", {"password": "vault:kv/e2e/ledger#password"})
    connection = {"kubeconfig": "vault:kv/e2e/cluster#kubeconfig", "impersonate": {"user": "deployer"}}
    try:
        estate.merge("one", kube_turns.folder([ours], connection=connection))
        estate.settle()
        assert estate.outcomes() == ["SUCCEEDED"], estate.reasons()
        found = estate.find(ours)
        assert found
        assert base64.b64decode(found["data"]["password"]).decode() == CANARY
        for text in (" ".join(map(repr, estate.process.events(record.Intent))), caplog.text):
            assert CANARY not in text
            assert base64.b64encode(CANARY.encode()).decode() not in text
        assert [path for _, path in way.seen].count("/v1/auth/approle/login") == 1
    finally:
        estate.close()
        secrets.close()


class Clock:
    """Of the driver and the vault's client, moved by the test."""

    def __init__(self) -> None:
        self.at = time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def test_fifty_secrets_that_do_not_change_cost_ten_requests_a_minute_and_a_change_is_found(
    bao: openbao.OpenBao, way: openbao.Way, tmp_path: Path
) -> None:
    clock = Clock()
    secrets = resolving.Secrets({}, clock, vault.Settings(way.url, approle(bao, tmp_path, "fifty")))
    for number in range(50):
        bao.write(f"kv/fifty/{number}", {"password": f"password-{number}"})
    bodies = [secret("payments", f"s{n}", {"p": f"vault:kv/fifty/{n}#password"}) for n in range(50)]
    wanted = openshift.desired("payments", *bodies)
    reader = wants.Reader(secrets, clock, b"k" * 32)
    before = reader.read(wanted).by_key
    way.seen.clear()
    for _ in range(600):  # Ten minutes, a look every second.
        clock.at += 1
        assert {key: want.digest for key, want in reader.read(wanted).by_key.items()} == {
            key: want.digest for key, want in before.items()
        }
    assert len(way.seen) <= 10 * 10
    bao.write("kv/fifty/7", {"password": "another-password"})
    clock.at += wants.VAULT_FOR_S + vault.FRESH_S
    after = reader.read(wanted).by_key
    assert {key.rpartition("/")[2] for key in before if before[key].digest != after[key].digest} == {"s7"}
    secrets.close()
