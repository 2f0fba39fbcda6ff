"""A small bank: its people, its approval policy, and changes that go the whole way from a branch to a signed merge.

Everything lies in an object store in memory; keys are in this process. One line makes a merge that is accepted:

    bank = estate.Estate(estate.targets())
    merge = bank.change({"targets/ledger/resources.yaml": b"..."}, approvers=["bob", "grace"])
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

import yaml

from reconciler import errors, model, strict_yaml
from reconciler.admission import admit, effect, form, judging, statement
from reconciler.audit import record, state
from support import objects, signing

REPOSITORY_ID = "urn:uuid:6f1c0b1e-8d0a-4a7e-9a52-3f0c7d1b2a44"
REF = "refs/heads/main"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLICY_PATH = "policies/approval.yaml"

# alice usually writes; bob, grace and heidi run things; carol and erin look at security; dan, erin and frank own the policies.
PEOPLE = ("alice", "bob", "carol", "dan", "erin", "frank", "grace", "heidi")
ROBOTS = ("forge", "image-updates")
SRE, SECURITY, ADMINS = ("bob", "grace"), ("carol", "erin"), ("dan", "frank")

Spec = dict[str, Any]  # a document under construction


@functools.cache
def key(name: str) -> signing.Key:
    return signing.Key(name)


def key_document(name: str, use: Sequence[str] = ("commit", "approve", "merge"), **fields: object) -> Spec:
    """One key as the policy lists it; `fields` in the spelling of the document: notAfter, revoked, userPresence."""
    made = key(name)
    document: Spec = {"id": made.key_id, "type": "ssh-ed25519", "public": made.public_line.split(" ")[1], "use": [*use]}
    document |= {"notBefore": "2026-06-01T00:00:00Z", "notAfter": "2027-06-01T00:00:00Z"}
    return {**document, **fields}


def person(name: str, *keys: Spec) -> Spec:
    return {"name": name.title(), "emails": [objects.who(name).email], "keys": [*keys] or [key_document(name)]}


def policy_spec() -> Spec:
    """`spec` of the policy of trust.md 4.1, to be changed at will: every call makes a new one."""
    return {
        "repository": {"id": REPOSITORY_ID, "ref": REF, "objectFormat": "sha1"},
        "namespace": signing.NAMESPACE,
        "people": {name: person(name) for name in PEOPLE},
        "robots": {
            "forge": {
                "keys": [key_document("forge", ["merge"])],
                "use": ["merge"],
                "emails": [objects.FORGE.email],
            },
            "image-updates": {
                "keys": [key_document("image-updates", ["commit"])],
                "use": ["commit"],
                "emails": [objects.who("image-updates").email],
                "paths": ["/targets/*/manifests/**"],
            },
        },
        "teams": {
            "sre": ["alice", "bob", "grace", "heidi"],
            "security": ["carol", "erin"],
            "policy-admins": ["dan", "erin", "frank"],
        },
        "environments": {
            "prod": {"secrets": ["vault:kv/prod/**"], "endpoints": ["*.prod.bank.example", "10.20.0.0/16"]},
            "dev": {"secrets": ["vault:kv/dev/**"], "endpoints": ["*.dev.bank.example", "localhost"]},
        },
        "rules": [
            {"id": "base", "paths": ["/**"], "need": [need("sre", 1)]},
            {"id": "prod", "paths": ["/targets/**"], "environments": ["prod"], "need": [need("sre", 2)]},
            {"id": "net", "paths": ["/targets/**"], "types": ["network"], "need": [need("security", 1)]},
            {"id": "meta", "paths": ["/policies/**"], "need": [need("policy-admins", 2)]},
        ],
        "hazards": [{"any": ["deletes_data"], "need": [need("security", 1)]}],
        "rollback": {"need": [need("sre", 1)], "within": "14d"},
        "recovery": {"need": [need("policy-admins", 2)]},
        "gates": {"required": {"prod": ["schema", "rollback", "opa"]}, "critical": ["schema", "rollback"]},
    }


def emergency_spec(**fields: object) -> Spec:
    """The same with teams that may break the glass, and that look at it afterwards; `fields` of `emergency`."""
    spec = policy_spec()
    spec["teams"] |= {"emergency": ["bob", "carol"], "change-board": ["dan", "erin", "frank"]}
    review = {"within": "24h", "need": [need("change-board", 2)]}
    asked = {"need": [need("emergency", 1)], "maxDuration": "4h", "maxPerWeek": 3, "requires": ["incident"]}
    spec["emergency"] = {**asked, "review": review, **fields}
    return spec


def breaking(now: datetime = NOW, **fields: Unpack[signing.ClaimFields]) -> signing.ClaimFields:
    """What an emergency statement says, signed an hour ago and good for another."""
    said = signing.ClaimFields(
        decision="emergency",
        incident="INC1",
        change=record.Ticket(reason="payments are down"),
        issued_at=now - timedelta(hours=1),
        expires_at=now + timedelta(hours=1),
    )
    return {**said, **fields}


def need(team: str, count: int, level: str = "A2") -> Spec:
    return {"from": [team], "count": count, "level": level}


def policy_blob(spec: Spec | None = None) -> bytes:
    document = {"apiVersion": "reconciler/v1", "kind": "ApprovalPolicy", "spec": spec or policy_spec()}
    return _dump(document)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes out what occurs twice: the strict reader refuses anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _quoted(dumper: Any, text: str) -> Any:
    """`01:30` too, which PyYAML leaves bare and the strict reader refuses."""
    style = "'" if ":" in text and text.replace(":", "").isdigit() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted)


def _dump(document: Spec) -> bytes:
    return bytes(yaml.dump(document, Dumper=_Dumper, sort_keys=False).encode())


def target(name: str, environment: str = "prod", kind: str = "memory", **spec: object) -> dict[str, bytes]:
    """The two files of one target."""
    document = {
        "apiVersion": "reconciler/v1",
        "kind": "Target",
        "metadata": {"name": name},
        "spec": {"type": kind, "environment": environment, **spec},
    }
    return {
        f"targets/{name}/target.yaml": _dump(document),
        f"targets/{name}/resources.yaml": resources(1),
    }


def resources(value: object) -> bytes:
    return yaml.safe_dump(
        {"resources": [{"kind": "item", "namespace": "demo", "name": "one", "value": value}]}
    ).encode()


def targets() -> dict[str, bytes]:
    """Two in production, one in development, a firewall."""
    made = (target("ledger"), target("payments"), target("sandbox", "dev"), target("edge", "dev", "network"))
    return {path: blob for files in made for path, blob in files.items()}


class Known(TypedDict, total=False):
    """What the log says beside the last accepted commit."""

    seen: Mapping[str, datetime]
    reset: datetime
    targets: Mapping[str, state.Target]
    held: Mapping[model.Oid, record.Decision]
    emergencies: tuple[tuple[model.Oid, datetime], ...]


@dataclass
class Estate:
    """`files`: of the genesis commit, beside the policy. `tip`: the last merge that was pushed."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    spec: Spec = field(default_factory=policy_spec)
    terms: admit.Terms = field(default_factory=lambda: admit.Terms(production=False))
    store: objects.ObjectStore = field(default_factory=objects.ObjectStore)

    def __post_init__(self) -> None:
        self.genesis = self.store.make_commit({POLICY_PATH: policy_blob(self.spec), **self.files})
        self.push(self.genesis)

    def push(self, tip: model.Oid) -> model.Oid:
        self.tip = tip
        self.store.push(tip)
        return tip

    @property
    def pin(self) -> admit.Pin:
        return admit.Pin(self.genesis, "taken over, CHG1", REPOSITORY_ID, REF, production=self.terms.production)

    # --- one change, step by step ---

    def branch(
        self, files: objects.Files, author: str = "alice", *, on: model.Oid | None = None, signer: str | None = None
    ) -> model.Oid:
        """A branch of one signed commit. `signer` "" leaves it unsigned."""
        who = objects.who(author)
        signed_by = author if signer is None else signer
        return self.store.make_commit(files, on or self.tip, author=who, key=key(signed_by) if signed_by else None)

    def merge(
        self,
        head: model.Oid,
        *,
        base: model.Oid | None = None,
        signer: str = "forge",
        files: objects.Files | None = None,
        tree: model.Oid | None = None,
        time: int | None = None,
    ) -> model.Oid:
        """The merge of this head, not pushed; `signer` "" leaves it unsigned, `files` makes it an evil one."""
        made = key(signer) if signer else None
        return self.store.make_merge(base or self.tip, head, made, files=files, tree=tree, time=time)

    def binding(
        self, merge: model.Oid, *, base: model.Oid | None = None, head: model.Oid | None = None, **other: object
    ) -> statement.Binding:
        """What an approval of this merge has to say; `other` fields say something else."""
        first, second = self.store.parents(merge)[:2]
        before, after = self.store.tree(base or first), self.store.tree(merge)
        done = effect.compare(before, after)
        sides = ((tree, name) for tree in (before, after) for name in done.targets)
        named = {each for tree, name in sides for each in _environments(self.store, tree, name)}
        told = statement.Binding(
            repo=REPOSITORY_ID,
            object_format="sha1",
            ref=REF,
            head=head or second,
            effect=done.digest,
            environments=tuple(sorted(named)),
        )
        return told.model_copy(update=other)

    def approve(
        self,
        merge: model.Oid,
        *people: str,
        binding: statement.Binding | None = None,
        with_key: str = "",
        **fields: Unpack[signing.ClaimFields],
    ) -> tuple[bytes, ...]:
        """Put a statement of each of them, an approval unless `decision` says otherwise, under the refs of the head."""
        bound = binding or self.binding(merge)
        made = tuple(signing.approve(key(with_key or name), name, bound, **fields) for name in people)
        for envelope in made:
            self.store.add_envelope(self.store.parents(merge)[1], envelope)
        return made

    def change(
        self,
        files: objects.Files,
        author: str = "alice",
        approvers: Iterable[str] = SRE,
        *,
        signer: str = "forge",
    ) -> model.Oid:
        """Branch, merge, approve and push; the merge."""
        merge = self.merge(self.branch(files, author), signer=signer)
        self.approve(merge, *approvers)
        return self.push(merge)

    def change_policy(
        self, spec: Spec, approvers: Iterable[str] = (*ADMINS, "bob"), author: str = "alice"
    ) -> model.Oid:
        return self.change({POLICY_PATH: policy_blob(spec)}, author, approvers)

    # --- judging without a log ---

    def known(self, tip: model.Oid | None = None, **fields: Unpack[Known]) -> state.State:
        """What is known when `tip`, or else the genesis, was accepted last."""
        return judging.clone_state(tip or self.genesis).model_copy(update=dict(fields))

    def judge(
        self,
        merge: model.Oid,
        *,
        after: model.Oid | None = None,
        skipped: tuple[model.Oid, ...] = (),
        now: datetime = NOW,
        denied: form.Denied | None = None,
        **known: Unpack[Known],
    ) -> record.Decision:
        """One merge on top of `after`, or else of its own first parent."""
        base = after or self.store.parents(merge)[0]
        terms = dataclasses.replace(self.terms, denied=denied or form.Denied())
        at = self.known(base, **known)
        return judging.judge(self.store, merge, at, skipped=skipped, terms=terms, now=now)


def changed(spec: Spec, **people: Spec) -> Spec:
    """A copy of the policy with these people in place of those of the same name."""
    made = copy.deepcopy(spec)
    made["people"] |= people
    return made


def codes(decision: record.Decision) -> set[str]:
    return {reason.code for reason in decision.reasons}


def _environments(store: objects.ObjectStore, tree: model.Tree, name: str) -> list[str]:
    """Of one target's document; both where it cannot be read, as no honest document."""
    entry = tree.get(f"targets/{name}/target.yaml".encode())
    try:
        return [str(strict_yaml.load(store.read(entry.oid), name)["spec"]["environment"])] if entry else []  # type: ignore[index,call-overload]
    except (errors.ConfigError, TypeError, KeyError):
        return ["dev", "prod"]
