"""A desired-state repository in memory and the gates over it: what a test of a gate needs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar

import pydantic
import yaml

from reconciler import documents, errors, model, ports
from reconciler.targets import memory
from support import objects

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PERSON = {
    "emails": ["dan@bank.example"],
    "keys": [
        {
            "id": "SHA256:" + "A" * 43,
            "type": "ssh-ed25519",
            "public": "AAAA",
            "use": ["approve", "merge"],
            "notBefore": "2026-06-01T00:00:00Z",
            "notAfter": "2027-06-01T00:00:00Z",
        }
    ],
}
POLICY = {
    "apiVersion": "reconciler/v1",
    "kind": "ApprovalPolicy",
    "spec": {
        "repository": {"id": "urn:uuid:6f1c0b1e-8d0a-4a7e-9a52-3f0c7d1b2a44", "ref": "refs/heads/main"},
        "namespace": "change-approval@bank.example",
        "people": {"dan": PERSON},
        "teams": {"policy-admins": ["dan"]},
        "environments": {
            "prod": {"secrets": ["vault:kv/prod/**"], "endpoints": ["*.prod.bank.example", "10.20.0.0/16"]},
            "dev": {"secrets": ["vault:kv/dev/**", "env:*"], "endpoints": ["*.dev.bank.example", "localhost"]},
        },
        "rules": [{"id": "base", "paths": ["/**"], "need": [{"from": ["policy-admins"]}]}],
    },
}


class Clock:
    def now(self) -> datetime:
        return NOW

    def monotonic_s(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("a gate sleeps")


class Options(documents.Camel):
    purge: bool = False


class Host(memory.Memory):
    """A kind of target with a connection. What stands in a payload file named `bad` is refused; nothing is contacted."""

    schema: ClassVar[type[pydantic.BaseModel]] = Options
    refuses: ClassVar[frozenset[str]] = frozenset({"bad"})
    closed: ClassVar[list[str]] = []

    def validate(self, desired: model.Desired) -> model.ValidationResult:
        if "broken" in desired.payload:
            raise errors.ConfigError("parse", "it cannot be read")
        found = self.refuses & desired.payload.keys()
        return tuple(model.Reason(code="schema", message=f"{name} is refused") for name in sorted(found))

    def references(self, desired: model.Desired) -> tuple[tuple[str, str], ...]:
        """As a driver says it that renders: here of the one file that looks rendered."""
        return (("vault:kv/prod/root#p", "targets/app/rendered.yaml:1"),) if "rendered.yaml" in desired.payload else ()

    def rendered(self, desired: model.Desired) -> ports.Rendered | None:
        """`template` is what goes in, as it comes out."""
        text = desired.payload.get("template.yaml")
        return ports.Rendered("targets/app (rendered)", text, frozenset({"broken.yaml"})) if text else None

    def close(self) -> None:
        self.closed.append("host")


def target(name: str = "app", /, **fields: object) -> dict[str, bytes]:
    """A target.yaml, one value a line. `labels` goes to metadata, all else to spec."""
    metadata = {"name": name, "labels": fields.pop("labels", {})}
    connection = {"transport": "local", "root": f"/srv/{name}"}
    spec = {"type": "host", "environment": "dev", "connection": connection, **fields}
    document = {"apiVersion": "reconciler/v1", "kind": "Target", "metadata": metadata, "spec": spec}
    return {f"targets/{name}/target.yaml": yaml.safe_dump(document, sort_keys=False).encode()}


def _world(_name: str) -> memory.World:
    return memory.World()


class Estate:
    """Commits one after the other, each on top of the last."""

    def __init__(self, *, policy: Mapping[str, object] = POLICY, production: bool = False) -> None:
        self.store = objects.ObjectStore()
        self.head = self.store.make_commit({"policies/approval.yaml": yaml.safe_dump(policy).encode()})
        drivers: ports.Drivers = {"host": lambda: Host.on(_world), "memory": lambda: memory.Memory.on(_world)}
        self.facilities = ports.GateFacilities(
            repository=self.store, drivers=drivers, clock=Clock(), production=production
        )

    def commit(self, files: Mapping[str, bytes | None]) -> model.Oid:
        self.head = self.store.make_commit(files, self.head)
        return self.head

    def read(self, name: str, revision: model.Oid | None = None) -> model.Desired:
        found = documents.read_target(self.store, revision or self.head, name)
        assert found is not None
        return found.desired

    def change(
        self,
        name: str = "app",
        *,
        since: model.Oid | None = None,
        acknowledged: frozenset[tuple[str, model.Key]] = frozenset(),
    ) -> model.Change:
        """What the newest commit asks of this target, from what it was at `since`."""
        return model.Change(
            revision=self.head,
            head=None,
            policies=self.head,
            targets=frozenset({name}),
            before={name: self.read(name, since)} if since else {},
            after={name: self.read(name)},
            acknowledged={name: acknowledged} if acknowledged else {},
        )
