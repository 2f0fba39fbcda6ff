"""One cluster as one identity sees it: its client, what it serves, what is ours there, and the threads that write.

Targets of the same cluster and identity share it; the last one that gives it back closes it.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from reconciler import errors
from reconciler.targets.openshift.connection import cache, client, discovery, kubeconfig

T = TypeVar("T")

WORKERS = 8


class Address(NamedTuple):
    """What two targets must have in common to share a connection."""

    endpoint: kubeconfig.Endpoint
    identity: client.Identity
    limits: client.Limits


class Cluster:
    def __init__(self, address: Address) -> None:
        self.address = address
        self.calls = client.Client(address.endpoint, address.identity, WORKERS, address.limits)
        self.discovery = discovery.Discovery(self.calls)
        self.cache = cache.Cache(self.calls)
        self._narrow: set[discovery.Resource] = set()  # what may be listed in namespaces only
        self._workers = concurrent.futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="openshift")

    def side_by_side(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Run these on the workers and wait for all; their answers in order. The first exception is raised after that."""
        if len(calls) == 1:
            return [calls[0]()]
        futures = [self._workers.submit(call) for call in calls]
        concurrent.futures.wait(futures)
        return [future.result() for future in futures]

    def follow(self, resource: discovery.Resource, namespaces: Sequence[str]) -> None:
        """Keep what is ours of this kind up to date: everywhere, or where that is not allowed in these namespaces.

        Raises: as `Client.get`.
        """
        if resource not in self._narrow:
            try:
                self.cache.follow(cache.Scope(resource))
            except errors.PermanentError as exc:
                if exc.code != "forbidden" or not resource.is_namespaced or not namespaces:
                    raise
                self._narrow.add(resource)
            else:
                return
        for namespace in namespaces:
            self.cache.follow(cache.Scope(resource, namespace))

    def close(self) -> None:
        self.cache.close()
        self._workers.shutdown(wait=False, cancel_futures=True)
        self.calls.close()


_LOCK = threading.Lock()
_SHARED: dict[Address, tuple[Cluster, int]] = {}


def borrow(address: Address) -> Cluster:
    """The cluster at this address, made where nobody has it yet. Contacts nobody."""
    with _LOCK:
        shared, users = _SHARED.get(address) or (Cluster(address), 0)
        _SHARED[address] = (shared, users + 1)
        return shared


def give_back(shared: Cluster) -> None:
    with _LOCK:
        found, users = _SHARED.get(shared.address, (None, 0))
        if found is shared and users > 1:
            _SHARED[shared.address] = (shared, users - 1)
            return
        if found is shared:
            del _SHARED[shared.address]
    shared.close()
