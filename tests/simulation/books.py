"""What an auditor writes down while reading the log, by target; nothing in it comes from the product's fold."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from reconciler import model, ports
from reconciler.audit import chain, record, state
from simulation import world


class Broken(BaseException):
    """A law does not hold."""


@dataclass
class History:
    """One target, as an auditor reads it from the records."""

    name: str
    cleared: model.Version | None = None
    cleared_at: int = -1
    accepted: set[model.Digest] = field(default_factory=set)
    passed: set[model.Digest] = field(default_factory=set)
    taken_over: bool = False
    released: bool = False
    dropped: bool = False
    confirmed: model.Digest | None = None
    ever_confirmed: set[model.Digest] = field(default_factory=set)
    snapshots: set[model.Digest] = field(default_factory=set)
    failed: set[model.Digest] = field(default_factory=set)
    suspended: bool = False
    pinned: model.Digest | None = None
    open: record.Intent | None = None  # the first of the open deployment
    unsettled: record.Intent | None = None
    closed: dict[str, model.Closed] = field(default_factory=dict)
    owned: set[model.Key] = field(default_factory=set)
    adopted: dict[model.Key, model.Digest] = field(default_factory=dict)  # since it was confirmed
    deleted: int = 0  # by the open deployment
    created: set[model.Key] = field(default_factory=set)  # since it was confirmed


class Books:
    """What the auditor knows so far; what the laws look things up in."""

    def __init__(self, site: world.Site) -> None:
        self.site = site
        self.chain = chain.Chain()
        self.state = state.State()  # the product's own fold, over what is stored
        self.targets: dict[str, History] = {}
        self.decisions: dict[model.Oid, record.Decision] = {}  # the accepted ones
        self.clearances: dict[model.Oid, record.Clearance] = {}  # the newest of each merge
        self.records: list[record.Record] = []

    def history(self, name: str) -> History:
        return self.targets.setdefault(name, History(name))

    def values(self, name: str, version: model.Version) -> Mapping[model.Key, JsonValue]:
        """What a state of a target holds, read without the product's readers."""
        if version.revision is None:
            there = read_snapshot(self.evidence(version.digest)).resources
            return {key: value for key, value in there.items() if value is not None}
        return _declared(self.site.bank.store, version.revision, name)

    def evidence(self, digest: model.Digest) -> bytes:
        found = self.site.sqlite.execute("SELECT content FROM evidence WHERE digest = ?", (digest,)).fetchone()
        if found is None:
            raise Broken(f"evidence {digest} is missing")
        return bytes(found[0])


@functools.lru_cache(maxsize=512)
def _read(blob: bytes) -> Mapping[model.Key, JsonValue]:
    return world.read_document(blob)


@functools.lru_cache(maxsize=512)
def read_snapshot(content: bytes) -> model.Snapshot:
    return model.Snapshot.model_validate_json(content)


def _declared(store: ports.Repository, revision: model.Oid, name: str) -> Mapping[model.Key, JsonValue]:
    tree = store.tree(revision)
    document, payload = (tree[f"targets/{name}/{f}.yaml".encode()] for f in ("target", "resources"))
    if b'"absent"' in store.read(document.oid):
        return {}
    return _read(store.read(payload.oid))
