"""What kinds a cluster serves, and under which paths. Kept in memory: there is no cache file that anybody could poison.

Two calls read all of it (aggregated discovery, Kubernetes 1.26 and later); an older server is asked group by group.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from reconciler.targets.openshift.connection import client

AGGREGATED = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)
NEEDED = frozenset({"get", "list", "watch", "patch"})


class Resource(NamedTuple):
    """One kind in one version."""

    group: str
    version: str
    kind: str
    plural: str
    is_namespaced: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def collection(self, namespace: str = "") -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{quote(namespace, safe='')}/{self.plural}" if namespace else f"{root}/{self.plural}"

    def path(self, namespace: str, name: str) -> str:
        return f"{self.collection(namespace)}/{quote(name, safe='')}"


class Discovery:
    """Asked by many threads; read again when somebody misses a kind."""

    def __init__(self, calls: client.Client) -> None:
        self._calls = calls
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], dict[str, Resource]] = {}  # (group, kind) -> version, the preferred first

    def find(self, group: str, kind: str, version: str = "") -> Resource | None:
        """The kind in this version; without one in the version that the server prefers. None where nobody serves it.

        Raises: as `Client.get`.
        """
        self.ensure()
        versions = self._found.get((group, kind), {})
        return versions.get(version) if version else next(iter(versions.values()), None)

    def ensure(self) -> None:
        """Have read it once. Raises: as `Client.get`."""
        if not self._found:
            self.refresh()

    def refresh(self) -> None:
        """Read all of it anew. Raises: as `Client.get`."""
        with self._lock:
            found: dict[tuple[str, str], dict[str, Resource]] = {}
            for root in ("/api", "/apis"):
                for each in self._read(root):
                    found.setdefault((each.group, each.kind), {}).setdefault(each.version, each)
            self._found = found

    def _read(self, root: str) -> Iterator[Resource]:
        answer = self._calls.get(root, accept=f"{AGGREGATED},{client.JSON}") or {}
        if answer.get("kind") == "APIGroupDiscoveryList":
            yield from aggregated(answer)
        elif root == "/api":
            for version in answer.get("versions", ()):
                yield from listed(self._calls.get(f"/api/{version}") or {}, "", version)
        else:
            for group in answer.get("groups", ()):
                preferred = group.get("preferredVersion")
                others = [each for each in group["versions"] if each != preferred]
                for each in [preferred, *others] if preferred else others:
                    document = self._calls.get(f"/apis/{each['groupVersion']}") or {}
                    yield from listed(document, group["name"], each["version"])


def aggregated(answer: Mapping[str, Any]) -> Iterator[Resource]:
    """An APIGroupDiscoveryList; the versions of a group come with the preferred one first."""
    for group in answer.get("items", ()):
        name = group.get("metadata", {}).get("name", "")
        for version in group.get("versions", ()):
            for each in version.get("resources", ()):
                kind = (each.get("responseKind") or {}).get("kind", "")
                if kind and set(each.get("verbs", ())) >= NEEDED:
                    namespaced = each.get("scope") == "Namespaced"
                    yield Resource(name, version["version"], kind, each["resource"], namespaced)


def listed(answer: Mapping[str, Any], group: str, version: str) -> Iterator[Resource]:
    """An APIResourceList of one group and version."""
    for each in answer.get("resources", ()):
        if "/" not in each.get("name", "/") and set(each.get("verbs", ())) >= NEEDED:
            yield Resource(group, version, each["kind"], each["name"], bool(each.get("namespaced")))
