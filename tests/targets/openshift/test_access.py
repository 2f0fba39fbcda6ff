"""Who we are, from our credentials alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from support import kube_certificates

from reconciler.targets.openshift.connection import access, client, kubeconfig


def endpoint(*, token: str | None = None, certificate: str | None = None) -> kubeconfig.Endpoint:
    return kubeconfig.Endpoint("https://a.example:6443", "a.example", 6443, token=token, client_certificate=certificate)


def jwt(subject: object) -> str:
    parts = ({"alg": "none"}, {"sub": subject})
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*coded, "signature"])


def test_a_certificate_names_its_holder_and_groups(tmp_path: Path) -> None:
    certificate, _ = kube_certificates.Authority(tmp_path).identify("ann", ["team", "ops"])
    found = access.names(endpoint(certificate=certificate.decode()), client.Identity())
    assert found == {"ann", "team", "ops"}


def test_a_service_accounts_token_names_it_and_its_namespace() -> None:
    found = access.names(endpoint(token=jwt("system:serviceaccount:ops:deployer")), client.Identity())
    assert found == {"system:serviceaccount:ops:deployer", "system:serviceaccounts:ops"}


def test_whoever_is_impersonated_is_us_too() -> None:
    found = access.names(endpoint(token="opaque"), client.Identity("deployer", ("payments",)))
    assert found == {"deployer", "payments"}


@pytest.mark.parametrize("token", [None, "", "a.b.c", "a.bm90IGpzb24.c", jwt(7), jwt("ann"), "é.é.é"])
def test_a_token_of_another_kind_says_nothing(token: str | None) -> None:
    assert access.names(endpoint(token=token), client.Identity()) == frozenset()


def test_a_certificate_that_cannot_be_read_says_nothing() -> None:
    assert access.names(endpoint(certificate="-----BEGIN"), client.Identity()) == frozenset()
