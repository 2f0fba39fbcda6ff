"""What `init` puts into a new repository, as bytes: the policy of the people named, and the files of `skeleton/`. Writes nothing."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from reconciler import errors, model
from reconciler.admission import policy, signature

LIFETIME = timedelta(days=365)
_EMAIL = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")
_PUBLIC_LINE = 2  # type and blob; the comment may be missing
_COMPLIANCE = ("policies/compliance.rego", "policies/compliance_test.rego")
_HELLO = ("targets/hello/target.yaml", "targets/hello/vm.yaml")


class Person(NamedTuple):
    name: str
    email: str
    kind: str  # ssh-ed25519
    public: str  # base64 of the blob
    key_id: str


class Pin(NamedTuple):
    """What the policy and reconciler.yaml have to agree on."""

    repository_id: str
    ref: str
    production: bool


def read_person(name: str, path: Path, email: str = "") -> Person:
    """One public key file. Without `email` its comment is taken where it is an address.

    Raises: ConfigError(person | weak_alg).
    """
    if not policy.NAME.fullmatch(name):
        raise errors.ConfigError(
            "person", f"{name!r} is no name", where=str(path), fix="letters, digits, `.`, `_`, `-`"
        )
    try:
        parts = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.ConfigError("person", "the public key cannot be read", where=str(path)) from exc
    if len(parts) < _PUBLIC_LINE or "PRIVATE" in parts:
        fix = "name the .pub file: ssh-keygen -t ed25519 makes both"
        raise errors.ConfigError("person", "this is no SSH public key", where=str(path), fix=fix)
    comment = parts[2] if len(parts) > _PUBLIC_LINE else ""
    address = email or (comment if _EMAIL.fullmatch(comment) else "")
    try:
        key_id = signature.key_id(f"{parts[0]} {parts[1]}")
    except errors.ConfigError as exc:
        raise errors.ConfigError(exc.code, exc.message, where=f"{name}: {path}", fix=exc.fix) from exc
    return Person(name, address, parts[0], parts[1], key_id)


def with_emails(people: Sequence[Person]) -> tuple[Person, ...]:
    """Two keys made on one machine bear the same comment: then it is nobody's address."""
    seen = [person.email.casefold() for person in people]
    return tuple(
        person
        if person.email and seen.count(person.email.casefold()) == 1
        else person._replace(email=f"{person.name}@localhost")
        for person in people
    )


def approval_policy(people: Sequence[Person], admins: Sequence[str], pin: Pin, now: datetime) -> bytes:
    """`policies/approval.yaml`: as strict as so many people allow.

    Raises: ConfigError(policy_lint) where some change could never be approved.
    """
    _check_enough(people, admins)
    slots = _slots(people, admins)
    lines = [
        "# Who may change what. The policy that judges a merge is the one in its first parent.",
        "apiVersion: reconciler/v1",
        "kind: ApprovalPolicy",
        "spec:",
        f"  repository: {{id: {json.dumps(pin.repository_id)}, ref: {pin.ref}, objectFormat: sha1}}",
        f"  namespace: change-approval@{pin.repository_id.removeprefix('urn:uuid:')}",
        "  people:",
        *(line for person in people for line in _person(person, now)),
        f"  teams: {{reviewers: [{', '.join(p.name for p in people)}], policy-admins: [{', '.join(admins)}]}}",
        "  environments:                          # what a target of this environment may reach",
        "    prod: {secrets: [], endpoints: []}",
        "    dev: {secrets: [], endpoints: [localhost]}",
        "  rules:                                 # all that match apply; for equal `from` the larger count, else both",
        f'    - {{id: base, paths: ["/**"], need: [{slots.base}]}}',
        f'    - {{id: prod, paths: ["/targets/**"], environments: [prod], need: [{slots.prod}]}}',
        f'    - {{id: meta, paths: ["/policies/**"], need: [{slots.meta}]}}',
        f"  rollback: {{need: [{slots.base}], within: 14d}}",
        f"  recovery: {{need: [{slots.recovery}]}}",
        f"  gates: {{required: {{prod: [{_required(pin)}]}}, critical: [schema, rollback]}}",
    ]
    return ("\n".join(lines) + "\n").encode()


class _Slots(NamedTuple):
    base: str
    prod: str
    meta: str
    recovery: str


def _check_enough(people: Sequence[Person], admins: Sequence[str]) -> None:
    """A policy that lints may still ask for more distinct people than are left beside an author: rules add up."""
    if len(people) < 2:  # noqa: PLR2004 - an author and somebody else
        raise errors.ConfigError(
            "policy_lint",
            "with one person nobody could approve: whoever wrote a change never approves it",
            fix="name a second person: --person NAME=KEY.pub, with a key of their own",
        )
    if len(people) == 2 and len(admins) == 1:  # noqa: PLR2004 - see above
        raise errors.ConfigError(
            "policy_lint",
            "with two people and one admin no change of a policy could be approved: it asks for two others",
            fix="name a third person, or leave --admin out: then both are",
        )


def _slots(people: Sequence[Person], admins: Sequence[str]) -> _Slots:
    """Counts that can be filled when one of them is the author; in a recovery often two are."""
    beside, two = len(people) - 1, min(2, len(people) - 1)
    spare = max(1, min(2, len(people) - 2))
    if len(admins) == len(people):  # One team: then the counts do not add up.
        return _Slots(
            _slot("reviewers", 1), _slot("reviewers", two), _slot("reviewers", two), _slot("reviewers", spare)
        )
    able = max(1, min(2, len(admins) - 1, beside - 1))
    admin = _slot("policy-admins", able)
    return _Slots(_slot("reviewers", 1), _slot("reviewers", two), admin, admin)


def _slot(team: str, count: int) -> str:
    return f"{{from: [{team}], count: {count}, level: A2}}"


def files(machine: Path | None) -> dict[str, bytes]:
    """Path -> content of all but the approval policy. `machine`: the folder that the example target may write."""
    names = ["README.md", *_COMPLIANCE, *(_HELLO if machine else ())]
    root = importlib.resources.files("reconciler.cli") / "skeleton"
    found = {name: root.joinpath(*name.split("/")).read_bytes() for name in names}
    return {name: blob.replace(b"@ROOT@", str(machine).encode()) for name, blob in found.items()}


def configuration(values: Mapping[str, str], pin: Pin, genesis: model.Oid) -> bytes:
    """reconciler.yaml. `values`: installation, url, reason."""
    local = (
        [] if pin.production else ["local: {roots: [machines]}        # what targets with `transport: local` may write"]
    )
    lines = [
        "# The daemon's own configuration. It stands outside the repository that it watches.",
        "apiVersion: reconciler/v1",
        "kind: Reconciler",
        f"installation: {values['installation']}",
        f"profile: {'production' if pin.production else 'development'}",
        "state: state                        # mirror, lock, socket and the audit log",
        "source:",
        f"  id: {json.dumps(pin.repository_id)}",
        f"  url: {json.dumps(values['url'])}",
        f"  ref: {pin.ref}",
        f"  genesis: {json.dumps(genesis)}    # where trust starts",
        f"  genesisReason: {json.dumps(values['reason'])}",
        f"  poll: {'30s' if pin.production else '5s'}",
        *(
            ['  # auth: {sshKey: id_ed25519, knownHosts: known_hosts}    # or {token: "file:..."} for https']
            if pin.production
            else []
        ),
        "store: {signingKey: log_ed25519}",
        *local,
    ]
    return ("\n".join(lines) + "\n").encode()


def installation(folder: Path) -> str:
    """A name that a log and ownership marks can bear, after the folder's."""
    made = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:63].strip("-")
    return made or "reconciler"


def _person(person: Person, now: datetime) -> Iterator[str]:
    begins, ends = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (now - timedelta(hours=1), now + LIFETIME))
    yield f"    {person.name}:"
    yield f"      emails: [{json.dumps(person.email)}]"
    yield "      keys:"
    yield f'        - {{id: "{person.key_id}", type: {person.kind}, public: "{person.public}",'
    touched = ", userPresence: true" if person.kind.startswith("sk-") else ""  # Without a touch malware could use it.
    yield f'           use: [commit, approve, merge], notBefore: "{begins}", notAfter: "{ends}"{touched}}}'


def _required(pin: Pin) -> str:
    """The engine that evaluates Rego in this process is for development; a production installation names its own first."""
    return "schema, rollback" if pin.production else "schema, rollback, opa"
