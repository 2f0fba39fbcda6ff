"""A cluster that does not answer is tried again and again: that must cost nobody anything."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml
from support import dead_servers, kube_certificates, openshift
from support import kube as planes

from reconciler import errors
from reconciler.targets.openshift import driver
from reconciler.targets.openshift.connection import cache, client, cluster, kubeconfig

WAYS = (dead_servers.refusing, dead_servers.silent, dead_servers.dropping)


@pytest.mark.parametrize("dead", WAYS)
def test_neither_manifests_nor_secrets_are_read_for_a_cluster_that_does_not_answer(
    tmp_path: Path, dead: Callable[[], AbstractContextManager[int]]
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}}
    wanted = openshift.desired(
        "n", {**secret, "stringData": {"password": "env:NOT_THERE"}}, deadlines={"connect_s": 0.1, "command_s": 0.1}
    )
    with dead() as port:
        made = driver.Openshift(openshift.facilities(tmp_path, kubeconfig_at(port, tmp_path)))
        with pytest.raises(errors.TransientError) as refused:
            made.observe(wanted, {}, 5)
        made.close()
    assert refused.value.code in {"unreachable", "broken"}


def kubeconfig_at(port: int, folder: Path) -> str:
    authority = kube_certificates.Authority(folder)
    ca, certificate, key = (base64.b64encode(each).decode() for each in (authority.pem, *authority.identify("nobody")))
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": ca}
    user = {"client-certificate-data": certificate, "client-key-data": key}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
    )


def test_a_cluster_that_hangs_is_let_go_within_seconds_however_many_watches_it_had(
    kube: planes.ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WATCH_SILENCE_S", 0.2)
    monkeypatch.setattr(cache, "PAUSE_S", (0.01, 0.01))
    with dead_servers.Passage(int(kube.url.rpartition(":")[2])) as passage:
        text = kube.kubeconfig("admin").replace(kube.url, f"https://127.0.0.1:{passage.port}")
        address = cluster.Address(kubeconfig.read(text), client.Identity(), client.Limits(20, 20))
        shared = cluster.Cluster(address)
        for kind in ("ConfigMap", "Service", "Pod", "Endpoints"):
            resource = shared.discovery.find("", kind)
            assert resource
            shared.follow(resource, ())
        passage.hang()
        time.sleep(1)  # By now each watch was given up, and each thread waits for a new connection.
        begun = time.monotonic()
        shared.close()
        assert time.monotonic() - begun < 2 * cache.END_WITHIN_S
