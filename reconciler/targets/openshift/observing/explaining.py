"""Reads what is around a workload that is not well, so that its judgement names the cause. Reads only, and never for long."""

from __future__ import annotations

import collections
from typing import NamedTuple

from reconciler import errors, model
from reconciler.targets.openshift import naming
from reconciler.targets.openshift.connection import cluster
from reconciler.targets.openshift.connection.client import Body
from reconciler.targets.openshift.judging import judged, reasons

MOST = 5  # workloads explained in one look, of those that failed and of the others: their causes are mostly the same
AGAIN_S = 2.0  # A cause is read again after so long, while the workload itself does not change.
PATIENCE_S = (
    5.0  # What is on its way for less long needs no explanation; a claim does: it may only wait for its first pod.
)
MAX_CHILDREN = "200"


class _Explained(NamedTuple):
    version: str
    until: float
    said: judged.Judged


class Explainer:
    """Of one target; remembers causes for as long as a look every second would only read the same again."""

    def __init__(self) -> None:
        self._known: dict[model.Key, _Explained] = {}
        self._since: dict[model.Key, float] = {}  # when each was first seen on its way
        self._left: collections.Counter[bool] = collections.Counter()

    def begin(self) -> None:
        """A look begins."""
        self._left = collections.Counter({True: MOST, False: MOST})

    def is_well(self, key: model.Key) -> None:
        """It needs no explanation any more."""
        self._since.pop(key, None)
        self._known.pop(key, None)

    def explain(
        self, on: cluster.Cluster, key: model.Key, body: Body, said: judged.Judged, now: float
    ) -> judged.Judged:
        """The same judgement with its cause, if that can be read; what cannot be read explains nothing."""
        since = self._since.setdefault(key, now)
        patient = said.status is judged.Status.IN_PROGRESS and body.get("kind") != "PersistentVolumeClaim"
        if patient and now < since + PATIENCE_S:
            return said
        known, version = self._known.get(key), str(body["metadata"].get("resourceVersion", ""))
        if known and known.version == version and now < known.until:
            return known.said
        selections = reasons.children_of(body)
        has_failed = (
            said.status is judged.Status.FAILED
        )  # What ends a deployment is not crowded out by what is only slow.
        if not selections or self._left[has_failed] <= 0:
            return said
        self._left[has_failed] -= 1
        children: list[Body] = []
        for each in selections:
            children += _read(on, each)
        explained = reasons.explain(body, said, children)
        self._known[key] = _Explained(version, now + AGAIN_S, explained)
        return explained


def _read(on: cluster.Cluster, selection: reasons.Selection) -> list[Body]:
    version = selection.api_version.rpartition("/")[2]
    try:
        resource = on.discovery.find(naming.group_of(selection.api_version), selection.kind, version)
        if resource is None:
            return []
        query = {"limit": MAX_CHILDREN, "labelSelector": selection.labels, "fieldSelector": selection.fields}
        path = resource.collection(selection.namespace)
        page = on.calls.get(path, query={name: text for name, text in query.items() if text}) or {}
    except (errors.PermanentError, errors.TransientError):
        return []
    return [{**each, "apiVersion": selection.api_version, "kind": selection.kind} for each in page.get("items") or ()]
