"""What is labelled as ours on one cluster, kept up to date by watches. Shared by all targets of that cluster.

A watch is a hint. It shows objects that bear our label; one that is gone from it may only have lost the label, so whoever
misses an object asks the server (`driver.py`). A scope that is not being watched is listed again by the look that needs it:
a look rests on a live watch or on a list that it made itself, never on what an old one left behind.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from reconciler import errors
from reconciler.targets.openshift.connection import client, comparing, discovery
from reconciler.targets.openshift.connection.client import Body

PAGE = 500
STREAM_S = 290  # then the server ends a watch, and it is resumed
LIST_EVERY_S = 600.0  # A full list, whatever the watch said.
END_WITHIN_S = 3.0  # all watches of a cluster together
PAUSE_S = (0.5, 30.0)  # the first and the longest one before a broken watch is tried again

Heard = Callable[["Place | None", Body | None], None]  # None for a place: a watch broke, and anything may have moved


class Scope(NamedTuple):
    """What one watch covers: a kind, everywhere or in one namespace."""

    resource: discovery.Resource
    namespace: str = ""


class Place(NamedTuple):
    """Where one object lives."""

    resource: discovery.Resource
    namespace: str
    name: str

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.name)


class Cache:
    def __init__(self, calls: client.Client) -> None:
        self._calls = calls
        self._lock = threading.Lock()  # guards all below
        self._objects: dict[Place, Body] = {}
        self._labelled: dict[str, set[Place]] = {}  # by the target that their label names
        self._gone: dict[str, None] = {}  # uids whose deletion was answered: late events do not bring them back
        self._writing: set[Place] = set()
        self._listeners: dict[str, list[Heard]] = {}
        self._followed: dict[Scope, _Following] = {}
        self._closed = False

    def follow(self, scope: Scope) -> None:
        """List this scope unless a watch keeps it up to date, and go on watching it. Blocks for the list.

        Raises: as `Client.get`.
        """
        with self._lock:
            if self._closed:
                raise errors.TransientError("closed", "the connection was given up")
            following = self._followed.get(scope)
            if following is None:
                following = self._followed[scope] = _Following(self, self._calls, scope)
        following.ensure()

    def get(self, place: Place) -> Body | None:
        return self._objects.get(place)

    def labelled(self, target: str) -> list[tuple[Place, Body]]:
        """Everything that bears this target's label, in the scopes that are followed."""
        with self._lock:
            return [(place, self._objects[place]) for place in self._labelled.get(target, ())]

    def writing(self, places: set[Place]) -> None:
        """We are about to write these: their events are answers, and wake nobody."""
        with self._lock:
            self._writing |= places

    def written(self, places: set[Place]) -> None:
        with self._lock:
            self._writing -= places

    def keep(self, place: Place, body: Body) -> None:
        """What the server answered; events that are older do not overwrite it."""
        self.changed(place, body)

    def forget(self, place: Place, uid: str) -> None:
        """The server answered that this object is gone."""
        with self._lock:
            self._gone[uid] = None
            while len(self._gone) > 10 * PAGE:
                del self._gone[next(iter(self._gone))]
            found = self._objects.get(place)
            if found is not None and _uid(found) == uid:
                self._put(place, None)

    def drop(self, place: Place) -> None:
        """It bears our label no longer, by our own hand."""
        with self._lock:
            self._put(place, None)

    def subscribe(self, target: str, heard: Heard) -> None:
        with self._lock:
            self._listeners.setdefault(target, []).append(heard)

    def unsubscribe(self, target: str, heard: Heard) -> None:
        with self._lock:
            left = [each for each in self._listeners.get(target, []) if each != heard]
            self._listeners[target] = left

    def close(self) -> None:
        """Cut every watch and wait for its thread; one that waits for a server that is dead ends by itself, later."""
        with self._lock:
            self._closed = True
            followed = list(self._followed.values())
        for each in followed:
            each.stop()
        until = time.monotonic() + END_WITHIN_S
        for each in followed:
            each.join(until)

    # --- told by the threads that follow ---

    def replace(self, scope: Scope, found: Mapping[Place, Body], version: str) -> None:
        """A full list of a scope, as of this version: what it does not hold is gone, unless we wrote it since."""
        with self._lock:
            missing = [
                place
                for place, body in self._objects.items()
                if place not in found and _covers(scope, place) and not _is_newer(_version(body), version)
            ]
        for place in missing:
            self.changed(place, None)
        for place, body in found.items():
            self.changed(place, body)

    def changed(self, place: Place, body: Body | None) -> None:
        with self._lock:
            before = self._objects.get(place)
            if body is None:
                if before is None:
                    return
            elif _uid(body) in self._gone or (before is not None and not _supersedes(body, before)):
                return
            self._put(place, body)
            quiet = place in self._writing
            names = {_label(each) for each in (before, body) if each is not None}
            told = [] if quiet else [heard for name in names for heard in self._listeners.get(name, [])]
        for heard in told:
            heard(place, body)

    def lost(self) -> None:
        """A watch broke: whoever rested on it looks for itself, and says so where nobody answers."""
        with self._lock:
            told = [heard for listeners in self._listeners.values() for heard in listeners]
        for heard in told:
            heard(None, None)

    def _put(self, place: Place, body: Body | None) -> None:
        """With the lock held."""
        before = self._objects.pop(place, None)
        if before is not None:
            self._labelled.get(_label(before), set()).discard(place)
        if body is not None:
            self._objects[place] = body
            self._labelled.setdefault(_label(body), set()).add(place)


class _Following:
    """One scope: a list, then a watch, in a thread of its own."""

    def __init__(self, cache: Cache, calls: client.Client, scope: Scope) -> None:
        self._cache, self._calls, self._scope = cache, calls, scope
        self._listing = threading.Lock()
        self._version = ""
        self._listed = 0.0  # monotonic; when the last list was complete
        self._live = False
        self._stopping = threading.Event()
        self._stream: client.Stream | None = None
        self._thread: threading.Thread | None = None

    def ensure(self) -> None:
        if self._live:
            return
        with self._listing:
            if not self._live:
                self._list()
                self._live = True
                if not self._stopping.is_set() and (self._thread is None or not self._thread.is_alive()):
                    name = f"watch-{self._scope.resource.plural}"
                    self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                    self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if stream := self._stream:
            stream.cut()

    def join(self, until: float) -> None:
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(timeout=max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            self._live = False  # Whatever ended it: no look believes in a watch that nobody reads.

    def _follow(self) -> None:
        pauses = _pauses()
        while not self._stopping.is_set():
            try:
                if time.monotonic() - self._listed > LIST_EVERY_S:
                    with self._listing:
                        self._list()
                self._watch()
                pauses = _pauses()
            except errors.ReconcilerError as exc:
                if self._stopping.is_set():
                    return
                stood, self._live = self._live, False  # Every look lists for itself, until the watch stands again.
                self._listed = 0.0
                if exc.code != "expired":
                    if stood:
                        self._cache.lost()
                    self._stopping.wait(next(pauses))

    def _list(self) -> None:
        found: dict[Place, Body] = {}
        query = {"labelSelector": comparing.LABEL, "limit": str(PAGE)}
        more = ""
        while True:
            path = self._scope.resource.collection(self._scope.namespace)
            page = self._calls.get(path, query={**query, "continue": more} if more else query)
            if page is None:
                raise errors.TransientError("kind_gone", f"GET {path}: this kind is not served any more")
            for body in page.get("items") or ():
                found[self._place(body)] = self._typed(body)
            metadata = page.get("metadata", {})
            self._version, more = str(metadata.get("resourceVersion", "")), str(metadata.get("continue") or "")
            if not more:
                break
        self._cache.replace(self._scope, found, self._version)
        self._listed = time.monotonic()

    def _watch(self) -> None:
        query = {
            "watch": "1",
            "labelSelector": comparing.LABEL,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(STREAM_S),
        }
        self._stream = stream = self._calls.stream(self._scope.resource.collection(self._scope.namespace), query)
        try:
            self._live = True
            if not self._stopping.is_set():
                for event in stream:
                    self._take(event)
        finally:
            self._stream = None
            stream.close()

    def _take(self, event: Body) -> None:
        body = event.get("object")
        if not isinstance(body, dict):
            raise errors.TransientError("broken", "an event without an object")
        match event.get("type"):
            case "ADDED" | "MODIFIED":
                self._cache.changed(self._place(body), self._typed(body))
            case "DELETED":
                self._cache.changed(self._place(body), None)
            case "ERROR":
                raise client.refusal(
                    client.Answer(int(body.get("code") or 0), body), f"watch {self._scope.resource.plural}"
                )
            case _:
                pass
        self._version = _version(body) or self._version

    def _place(self, body: Body) -> Place:
        metadata = body["metadata"]
        return Place(self._scope.resource, metadata.get("namespace", ""), metadata["name"])

    def _typed(self, body: Body) -> Body:
        """Items of a list come without their kind."""
        body["apiVersion"], body["kind"] = self._scope.resource.api_version, self._scope.resource.kind
        return body


def _pauses() -> Iterator[float]:
    first, longest = PAUSE_S
    return (min(longest, first * 2**n) * random.uniform(0.5, 1.0) for n in itertools.count())  # noqa: S311 - jitter


def _label(body: Body) -> str:
    labels = body["metadata"].get("labels") or {}
    return str(labels.get(comparing.LABEL, ""))


def _uid(body: Body) -> str:
    return str(body["metadata"].get("uid", ""))


def _version(body: Body) -> str:
    return str(body.get("metadata", {}).get("resourceVersion", ""))


def _covers(scope: Scope, place: Place) -> bool:
    return place.resource == scope.resource and scope.namespace in {"", place.namespace}


def _supersedes(body: Body, before: Body) -> bool:
    return _uid(body) != _uid(before) or _is_newer(_version(body), _version(before))


def _is_newer(version: str, than: str) -> bool:
    """Versions are compared as the API conventions allow since 1.35, and as etcd has always counted them."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than
