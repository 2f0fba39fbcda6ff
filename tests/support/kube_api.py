"""What tests ask of an API server themselves, as its administrator: JSON over HTTPS, without the vendor's client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import urllib3

Object: TypeAlias = dict[str, Any]
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"

PLURALS = {
    "Endpoints": "endpoints",
    "Ingress": "ingresses",
    "NetworkPolicy": "networkpolicies",
    "StorageClass": "storageclasses",
    "PriorityClass": "priorityclasses",
    "SecurityContextConstraints": "securitycontextconstraints",
}
CLUSTER_SCOPED = frozenset(
    {
        "APIService",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "Project",
        "SecurityContextConstraints",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    }
)


class RefusedError(Exception):
    """The server's own Status; `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Api:
    """Methods take a path, or an object whose path follows from it. Each raises RefusedError unless the server agrees."""

    def __init__(self, url: str, ca: Path, token: str) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {token}", "User-Agent": "tests"}
        self._pool = urllib3.PoolManager(ca_certs=str(ca), cert_reqs="CERT_REQUIRED", maxsize=8)

    def call(self, method: str, path: str, body: object = None, content: str = "application/json") -> Object:
        data = None if body is None else json.dumps(body)
        headers = {**self._headers, "Content-Type": content}
        answer = self._pool.request(method, self._url + path, headers=headers, body=data, retries=False, timeout=30)
        if answer.status >= 300:
            raise RefusedError(answer.status, _message(answer.data))
        return _object(answer.data)

    def ready(self) -> bool:
        try:
            answer = self._pool.request("GET", f"{self._url}/readyz", headers=self._headers, retries=False, timeout=2)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    def get(self, path: str) -> Object:
        return self.call("GET", path)

    def find(self, path: str) -> Object | None:
        """None where there is no such object."""
        try:
            return self.get(path)
        except RefusedError as refused:
            if refused.code == 404:
                return None
            raise

    def items(self, path: str) -> list[Object]:
        return list(self.get(path)["items"])

    def create(self, document: Mapping[str, Any]) -> Object:
        return self.call("POST", path_of(document).rpartition("/")[0], document)

    def apply(self, document: Mapping[str, Any], *, manager: str = "tests", force: bool = True) -> Object:
        """Server-side apply, as another manager than ours."""
        path = f"{path_of(document)}?fieldManager={manager}&force={str(force).lower()}"
        return self.call("PATCH", path, document, APPLY)

    def patch(self, path: str, body: object, *, content: str = MERGE, manager: str = "tests") -> Object:
        """A hand that changes a live object: a merge patch, or a list of JSON patch operations with JSON_PATCH."""
        return self.call("PATCH", f"{path}?fieldManager={manager}", body, content)

    def set_status(self, path: str, status: object) -> Object:
        return self.call("PATCH", f"{path}/status", {"status": status}, MERGE)

    def delete(self, path: str) -> None:
        """Also where there is none."""
        try:
            self.call("DELETE", path)
        except RefusedError as refused:
            if refused.code != 404:
                raise

    def watch(self, path: str) -> Iterator[Object]:
        """Every event from now on, the objects that are there first; ends when the server ends it."""
        url = f"{self._url}{path}?watch=true"
        answer = self._pool.request("GET", url, headers=self._headers, preload_content=False, retries=False)
        try:
            if answer.status >= 300:
                raise RefusedError(answer.status, _message(answer.read()))
            rest = b""
            for piece in answer.stream(65536):
                *lines, rest = (rest + piece).split(b"\n")
                yield from map(_object, lines)
        finally:
            answer.close()

    def wait(self, what: Callable[[], object], *, within_s: float = 30, every_s: float = 0.05) -> None:
        """Until it is true, or the test fails."""
        end = time.monotonic() + within_s
        while not what():
            assert time.monotonic() < end, "did not come true in time"
            time.sleep(every_s)

    def close(self) -> None:
        self._pool.clear()


def path_of(document: Mapping[str, Any]) -> str:
    """The path of an object as `kubectl get --raw` takes it."""
    kind, metadata = document["kind"], document["metadata"]
    group = "/apis" if "/" in document["apiVersion"] else "/api"
    plural = PLURALS.get(kind, f"{kind.lower()}s")
    inside = "" if kind in CLUSTER_SCOPED else f"/namespaces/{metadata['namespace']}"
    return f"{group}/{document['apiVersion']}{inside}/{plural}/{metadata['name']}"


def _object(data: bytes) -> Object:
    found: Object = json.loads(data)
    return found


def _message(data: bytes) -> str:
    try:
        return str(_object(data).get("message", ""))
    except ValueError:
        return data[:300].decode(errors="replace")
