"""Reads what stands around an object that is not well, so that its reason names the cause (`reasons.py`).

Only then, and sparingly: a rollout that goes well costs nothing, one that is slow a few lists every five seconds, and no look
reads for more than `MOST_AT_ONCE` objects. Who may not list pods or events gets the judgement without its cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reconciler import errors, model, ports
from reconciler.targets.openshift import cluster, judged, reasons

PATIENCE_S = 3.0  # Until then a rollout is not slow.
AGAIN_S = 5.0
MOST_AT_ONCE = 8
MAX_ITEMS = 500


@dataclass
class _Ailing:
    """One object since it was first seen not to be well."""

    uid: str
    since: float
    asked: float | None = None
    status: judged.Status | None = None  # when it was asked
    children: Sequence[judged.Body] = ()


class Causes:
    """Kept by a driver from look to look; used by one thread."""

    def __init__(self, clock: ports.Clock) -> None:
        self._clock = clock
        self._ailing: dict[model.Key, _Ailing] = {}
        self._left = 0

    def begin(self) -> None:
        """A look begins."""
        self._left = MOST_AT_ONCE

    def explain(self, on: cluster.Cluster, key: model.Key, live: judged.Body, said: judged.Judged) -> judged.Judged:
        """The judgement with its cause, as far as that is known. Reads only.

        Raises: PermanentError(target.*) where the connection itself is not to be trusted any more.
        """
        if said.status is judged.Status.CURRENT:
            self._ailing.pop(key, None)
            return said
        wanted = reasons.children_of(live)
        if not wanted:
            return said
        now, uid = self._clock.monotonic_s(), judged.text(live, "metadata", "uid")
        known = self._ailing.get(key)
        if known is None or known.uid != uid:
            known = self._ailing[key] = _Ailing(uid, now)
        if self._left > 0 and _is_due(known, live, said, now):
            self._left -= 1
            known.asked, known.status = now, said.status
            known.children = [child for each in wanted for child in _read(on, each)]
        return reasons.explain(live, said, known.children)


def _is_due(known: _Ailing, live: judged.Body, said: judged.Judged, now: float) -> bool:
    if known.asked is not None and known.status is said.status:
        return now - known.asked >= AGAIN_S
    # A claim may hold up a stage that would end its waiting.
    urgent = said.status is judged.Status.FAILED or judged.text(live, "kind") == "PersistentVolumeClaim"
    return urgent or now - known.since >= PATIENCE_S


def _read(on: cluster.Cluster, wanted: reasons.Selection) -> list[dict[str, Any]]:
    """The objects with their kind; nothing where they may not be read, or not now."""
    group, _, version = wanted.api_version.rpartition("/")
    try:
        resource = on.discovery.find(group, wanted.kind, version)
        if resource is None:
            return []
        query = {"limit": str(MAX_ITEMS), "labelSelector": wanted.labels, "fieldSelector": wanted.fields}
        answer = on.calls.get(resource.collection(wanted.namespace), query={k: v for k, v in query.items() if v})
    except (errors.TransientError, errors.PermanentError) as exc:
        if exc.code.startswith("target."):
            raise
        return []
    found = {"apiVersion": wanted.api_version, "kind": wanted.kind}
    return [{**each, **found} for each in (answer or {}).get("items") or ()]
