"""Who we are on a cluster, as far as our own credentials say it: so that a change of our own rights is seen to be one.

Nobody is asked. A certificate names its holder and groups (RFC 5280; Kubernetes reads CN and O), a service account's token is a
JWT whose `sub` is its name (RFC 7519); it is read, not verified: it decides what needs an acknowledgement, not who may do what.
A token of another kind says nothing. Who is impersonated is named by the document.
"""

from __future__ import annotations

import base64
import binascii
import json

from cryptography import x509
from cryptography.x509.oid import NameOID

from reconciler.targets.openshift.connection import client, kubeconfig
from reconciler.targets.openshift.judging import judged

ACCOUNT = "system:serviceaccount:"


def names(endpoint: kubeconfig.Endpoint, identity: client.Identity) -> frozenset[str]:
    """Users and groups that bindings may name us by; both the one who calls and the one who is impersonated."""
    found = {identity.user, *identity.groups} | _of_certificate(endpoint.client_certificate) | _of_token(endpoint.token)
    accounts = {each for each in found if each.startswith(ACCOUNT)}
    groups = {f"system:serviceaccounts:{each.removeprefix(ACCOUNT).partition(':')[0]}" for each in accounts}
    return frozenset((found | groups) - {""})


def _of_certificate(pem: str | None) -> set[str]:
    if pem is None:
        return set()
    try:
        subject = x509.load_pem_x509_certificate(pem.encode()).subject
    except ValueError:
        return set()
    wanted = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    return {str(each.value) for oid in wanted for each in subject.get_attributes_for_oid(oid)}


def _of_token(token: str | None) -> set[str]:
    parts = (token or "").split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims and signature
        return set()
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return set()
    subject = judged.text(claims, "sub")
    return {subject} if subject.startswith(ACCOUNT) else set()
