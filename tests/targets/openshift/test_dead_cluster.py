"""A cluster that does not answer is tried again and again: that must cost nobody anything."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml
from support import dead_servers, kube_certificates, openshift

from reconciler import errors
from reconciler.targets.openshift import driver

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
