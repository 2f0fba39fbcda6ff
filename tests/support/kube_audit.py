"""What an API server was asked, by whom and as whom: its own audit log, read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Everybody but the control plane's own parts and the tests' administrator is written down, once answered; watches also begin.
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager", "fake-kubelet"]},
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Request:
    """`impersonated` and `groups` are empty where the caller spoke for itself; `resource` is empty for discovery."""

    verb: str  # get, list, watch, create, update, patch, delete, deletecollection
    user: str
    impersonated: str
    groups: tuple[str, ...]  # of the impersonated, without system:authenticated
    resource: str  # deployments, deployments/status
    namespace: str
    name: str
    code: int
    uri: str
    agent: str

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.uri).query).items()}

    @property
    def dry_run(self) -> bool:
        return "dryRun" in self.query

    @property
    def writes(self) -> bool:
        return self.verb in {"create", "update", "patch", "delete", "deletecollection"} and not self.dry_run


def read(path: Path, start: int = 0) -> dict[str, Request]:
    """The requests that were written down after that many bytes, by their audit id."""
    found: dict[str, Request] = {}
    with path.open("rb") as log:
        log.seek(start)
        for line in log:
            if line.endswith(b"\n"):
                event = json.loads(line)
                found[event["auditID"]] = _request(event)
    return found


def _request(event: dict[str, Any]) -> Request:
    reference, other = event.get("objectRef", {}), event.get("impersonatedUser", {})
    parts = (reference.get("resource"), reference.get("subresource"))
    return Request(
        verb=event["verb"],
        user=event["user"].get("username", ""),
        impersonated=other.get("username", ""),
        groups=tuple(group for group in other.get("groups", ()) if group != "system:authenticated"),
        resource="/".join(filter(None, parts)),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        uri=event["requestURI"],
        agent=event.get("userAgent", ""),
    )
