"""What people do to the repository: changes good and bad, approvals early, late and never, reverts, recoveries, policies."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Iterable, Mapping
from datetime import timedelta

from pydantic import JsonValue
from support import estate, lab, objects, signing

from reconciler import model
from reconciler.admission import effect, statement
from simulation import world

PROD, DEV = ("ledger", "payments"), ("sandbox", "edge")
NAMES = (*PROD, *DEV)
KEYS = ("one", "two", "three", "late", "m1:x", "m2:x", "extra")
AUTHORS = ("alice", "heidi", "carol")
BREAKERS, BOARD = ("bob", "carol"), ("dan", "erin", "frank")
EMERGENCIES = 2  # a week: no seed lasts longer
ADMINS, SRE = list(estate.ADMINS), list(estate.SRE)
# Short, so that a value that never becomes healthy does not fill the log with looks.
DEADLINES: dict[str, JsonValue] = {"health": "12s", "total": "60s"}
ACKNOWLEDGED = ("deletes_target", "delete_budget")
VALUES = ("1", "2", "3", "4", "5", "6", "bad", "slow", "evil")
WEIGHTS = (20, 20, 20, 20, 20, 20, 8, 2, 7)

Documents = dict[str, world.Document]


@functools.cache
def key(name: str) -> signing.Key:
    return signing.Key(name)


@functools.cache
def policy(freeze: tuple[str, str] | None) -> bytes:
    spec = rules()
    if freeze:
        edges = {"from": freeze[0], "to": freeze[1]}
        spec["freeze"] = [{"id": "close", **edges, "environments": ["prod"], "allow": ["emergency"]}]
    return estate.policy_blob(spec)


def rules() -> estate.Spec:
    review = {"within": "5m", "need": [estate.need("change-board", 2)]}
    return estate.emergency_spec(review=review, maxPerWeek=EMERGENCIES, maxDuration="1h")


def files(name: str, document: world.Document | None) -> dict[str, bytes | None]:
    if document is None:
        return {f"targets/{name}/target.yaml": None, f"targets/{name}/resources.yaml": None}
    return lab.folder(name, document.resources, **document.spec)


class People:
    """One seed's people. Each method does one thing and returns what it was, or "" where there was nothing to do."""

    def __init__(self, site: world.Site, rng: random.Random) -> None:
        self.site, self.rng = site, rng
        self.late: list[tuple[world.Merge, list[str]]] = []
        self.numbers = 0
        ledger, sandbox = self._new("ledger"), self._new("sandbox")
        documents: Documents = {"ledger": ledger, "sandbox": sandbox}
        content: dict[str, bytes] = {
            path: blob for name, each in documents.items() for path, blob in files(name, each).items() if blob
        }
        site.bank = estate.Estate(content, spec=rules())
        site.documents[site.bank.genesis] = documents

    @property
    def tip(self) -> Documents:
        return self.site.documents[self.site.bank.tip]

    # --- documents ---

    def _new(self, name: str) -> world.Document:
        spec: dict[str, JsonValue] = {"environment": "prod" if name in PROD else "dev", "deadlines": DEADLINES}
        if name in DEV:  # For production the policy asks.
            spec["deploy"] = {"checks": [{"opa": "compliance_policy"}]}
        keys = self.rng.sample(KEYS[:-1], self.rng.randint(1, 4))
        return world.Document({k: self._value() for k in keys}, spec)

    def _value(self) -> str:
        return self.rng.choices(VALUES, WEIGHTS)[0]

    def _edited(self, name: str, old: world.Document | None) -> world.Document:
        """The document after somebody worked on it."""
        if old is None:
            return self._new(name)
        new = copy.deepcopy(old)
        new.spec.pop("acknowledge", None)
        if new.spec.get("mode") == "absent":
            new.spec.pop("mode")
        for _ in range(self.rng.randint(1, 3)):
            self._edit(name, new)
        return new

    def _edit(self, name: str, new: world.Document) -> None:
        rng = self.rng
        match rng.choices(range(9), (30, 15, 8, 4, 3, 3, 3, 3, 3))[0]:
            case 0 | 1:
                new.resources[rng.choice(KEYS)] = self._value()
            case 2:
                kept = rng.sample(sorted(new.resources), rng.randint(0, len(new.resources)))
                new.resources = {k: new.resources[k] for k in kept}
            case 3:
                new.spec["mode"] = "absent"
                new.spec["acknowledge"] = [
                    {"hazard": h, "key": name, "reason": f"CHG{self._number()}"} for h in ACKNOWLEDGED
                ]
            case 4:
                new.spec["mode"] = rng.choice(("detect", "correct"))
            case 5:
                others = [n for n in self.tip if n != name]
                new.spec["dependsOn"] = rng.sample(others, min(len(others), 1))
            case 6:
                new.spec["memory"] = {"window": rng.choice(("30s", "300s"))}
            case 7:
                new.spec["deletes"] = {"max": rng.randint(0, 2), "maxPercent": 100}
                new.spec["rollout"] = {"serial": [1, 2]}
            case 8:
                new.spec["adopt"] = ["item/n/extra", "item/n/two"]

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    # --- merges ---

    def change(self) -> str:
        """An ordinary change of one or two targets, with the approvals that it happens to get."""
        names = self.rng.sample(NAMES, self.rng.choice((1, 1, 1, 2)))
        wanted = {name: self._edited(name, self.tip.get(name)) for name in names}
        return self._propose(wanted, "change")

    def revert(self) -> str:
        """A target goes back to what an earlier commit says of it."""
        name = self.rng.choice(NAMES)
        earlier = [d[name] for d in self.site.documents.values() if name in d]
        if not earlier or name not in self.tip:
            return ""
        return self._propose({name: self.rng.choice(earlier)}, "revert")

    def remove(self) -> str:
        """A folder vanishes: the target is released."""
        name = self.rng.choice(sorted(self.tip))
        return self._propose({name: None}, "remove") if len(self.tip) > 1 else ""

    def _propose(self, wanted: Mapping[str, world.Document | None], what: str) -> str:
        kinds = (
            *("good", "late", "few", "self", "rejected", "unsigned", "stranger", "direct", "empty-handed"),
            *("emergency", "emergency that ended", "emergency of an author", "emergency of an outsider"),
        )
        kind = self.rng.choices(kinds, (70, 10, 2, 2, 2, 2, 2, 1, 3, 8, 3, 3, 3))[0]
        changed = {p: b for name, each in wanted.items() for p, b in files(name, each).items()}
        after = {**self.tip, **{n: d for n, d in wanted.items() if d is not None}}
        after = {n: d for n, d in after.items() if wanted.get(n, d) is not None}
        author = "alice" if kind == "self" else "carol" if "author" in kind else self.rng.choice(AUTHORS)
        merge = self._merge(changed, after, author, kind)
        approvers = self._approvers(merge)
        match kind:
            case "good" | "unsigned" | "stranger":
                self.approve(merge, approvers)
            case "late" | "empty-handed":
                self.late.append((merge, approvers))
            case "few":
                self.approve(merge, approvers[:-1])
            case "self":
                self.approve(merge, [author, *approvers[:-1]])
            case "rejected":
                self.approve(merge, approvers)
                self._vote(merge, "heidi" if author != "heidi" else "alice", "reject")
            case _ if kind.startswith("emergency"):
                who = "carol" if "author" in kind else "grace" if "outsider" in kind else "bob"
                self._break_glass(merge, who, -60 if "ended" in kind else self.rng.choice((120, 1200, 3000)))
                self.late.append((merge, approvers))
            case _:
                pass
        self.site.counts[f"merge: {kind}"] += 1
        return f"{what} {kind} {merge.revision[:8]} by {author}: {sorted(wanted)}"

    def _approvers(self, merge: world.Merge) -> list[str]:
        need = SRE if "prod" in merge.environments else SRE[:1]
        return [*ADMINS, *need] if merge.policies or merge.skips else list(need)

    def _merge(
        self, changed: Mapping[str, bytes | None], after: Documents, author: str, kind: str = "good"
    ) -> world.Merge:
        bank, store, base = self.site.bank, self.site.bank.store, self.site.bank.tip
        environments = self._environments(self.tip, after)
        if kind == "direct":
            revision = store.make_commit(changed, base, author=objects.who(author), key=key(author))
            head = revision
        else:
            head = bank.branch(changed, author, signer="" if kind == "stranger" else None)
            revision = bank.merge(head, signer="" if kind == "unsigned" else "forge")
        merge = world.Merge(
            revision=revision,
            base=base,
            head=head,
            author=author,
            signed=kind not in {"unsigned", "stranger"},
            environments=environments,
            policies=any(p.startswith("policies/") for p in changed),
            direct=kind == "direct",
        )
        self.site.merges[revision] = merge
        self.site.documents[revision] = after
        bank.push(revision)
        return merge

    def _environments(self, before: Documents, after: Documents) -> frozenset[str]:
        """Of the targets that differ, on both sides."""
        names = {n for n in before.keys() | after.keys() if files(n, before.get(n)) != files(n, after.get(n))}
        return frozenset(str(side[n].spec["environment"]) for side in (before, after) for n in names if n in side)

    def approve(self, merge: world.Merge, people: Iterable[str], binding: statement.Binding | None = None) -> None:
        if merge.direct:
            return
        bound = binding or self._binding(merge, merge.base)
        for person in people:
            self._vote(merge, person, "approve", bound)

    def _binding(self, merge: world.Merge, base: model.Oid) -> statement.Binding:
        """What `Estate.binding` finds in the files, from what is known of them: parsing YAML in Python is slow."""
        store = self.site.bank.store
        return statement.Binding(
            repo=estate.REPOSITORY_ID,
            object_format="sha1",
            ref=estate.REF,
            head=merge.head,
            effect=effect.compare(store.tree(base), store.tree(merge.revision)).digest,
            environments=tuple(sorted(merge.environments)),
            skips=merge.skips,
        )

    def _vote(
        self, merge: world.Merge, person: str, decision: statement.Decision, bound: statement.Binding | None = None
    ) -> None:
        bound = bound or self._binding(merge, merge.base)
        at = self.site.time.wall().replace(microsecond=0)
        envelope = signing.approve(key(person), person, bound, decision=decision, issued_at=at)
        self.site.bank.store.add_envelope(merge.head, envelope, held=False)
        if decision == "approve":
            merge.approved.add(person)
        else:
            merge.rejected.add(person)
            merge.rejected_at = merge.rejected_at or self.site.time.wall()

    def _break_glass(self, merge: world.Merge, who: str, lasts_s: int) -> None:
        now = self.site.time.wall().replace(microsecond=0)
        said = estate.breaking(now, issued_at=now - timedelta(minutes=5), expires_at=now + timedelta(seconds=lasts_s))
        envelope = signing.approve(key(who), who, self._binding(merge, merge.base), **said)
        self.site.bank.store.add_envelope(merge.head, envelope, held=False)
        merge.broken[who] = now + timedelta(seconds=lasts_s)

    def review(self, merges: Iterable[world.Merge] = (), *people: str) -> str:
        """Somebody looks at what an emergency let in, or says so; now and then it is whoever broke the glass."""
        broken = [m for m in merges or list(self.site.merges.values())[-6:] if m.broken]
        for merge in broken:
            for person in people or self.rng.sample((*BOARD, *merge.broken), 2):
                at = self.site.time.wall().replace(microsecond=0) + timedelta(seconds=1)
                binding = self._binding(merge, merge.base)
                said = signing.approve(key(person), person, binding, decision="review", issued_at=at)
                self.site.bank.store.add_envelope(merge.head, said, held=False)
                merge.reviewed[person] = at
        return f"reviews of {[m.revision[:8] for m in broken]}" if broken else ""

    def approve_late(self) -> str:
        if not self.late:
            return ""
        merge, people = self.late.pop(self.rng.randrange(len(self.late)))
        if merge.skips:
            return ""
        self.approve(merge, people)
        return f"late approvals of {merge.revision[:8]}"

    def take_back(self) -> str:
        """Somebody rejects a merge of late, or an approver revokes: it was accepted, and may not be written yet."""
        recent = [m for m in list(self.site.merges.values())[-4:] if not m.direct and m.approved and not m.skips]
        if not recent:
            return ""
        merge = self.rng.choice(recent)
        who = "heidi" if merge.author != "heidi" else "alice"
        self._vote(merge, who, "reject")
        return f"{who} rejects {merge.revision[:8]}"

    def change_policy(self) -> str:
        """A policy merge: a freeze of production for half an hour, or its end."""
        now = self.site.time.wall().replace(microsecond=0)
        freeze = (now - timedelta(minutes=1), now + timedelta(minutes=self.rng.choice((5, 30))))
        if self.site.freezes and self.rng.random() < 0.5:
            freeze = (now - timedelta(hours=2), now - timedelta(hours=1, minutes=self._number()))
        spelled = tuple(at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in freeze)
        merge = self._merge({estate.POLICY_PATH: policy((spelled[0], spelled[1]))}, dict(self.tip), "alice")
        self.approve(merge, self._approvers(merge))
        self.site.freezes[self.site.policy(merge.revision)] = freeze
        return f"policy {merge.revision[:8]}: freeze {spelled}"

    def recover(self, accepted: model.Oid) -> str:
        """A recovery merge over all that was not accepted; content of commits that nobody signed goes."""
        bank = self.site.bank
        if bank.tip == accepted:
            return ""
        accepted, passed = self.standing(accepted)
        if not passed:
            return ""
        before = self.site.documents[accepted]
        after = dict(self.tip)
        changed: dict[str, bytes | None] = {}
        keeps = all(m.signed and not m.direct for m in passed) and self.rng.random() < 0.5
        if not keeps:
            for name in before.keys() | after.keys():
                if files(name, before.get(name)) != files(name, after.get(name)):
                    changed |= files(name, before.get(name))
            after = dict(before)
            if any(m.policies for m in passed):
                changed[estate.POLICY_PATH] = bank.store.read(self.site.policy(accepted))
        merge = self._merge(changed, after, "alice")
        merge.skips = tuple(m.revision for m in passed)
        merge.environments = self._environments(before, after)
        self.approve(merge, [*ADMINS, *SRE], self._binding(merge, accepted))
        self.site.counts["merge: recovery"] += 1
        return f"recovery {merge.revision[:8]} over {[r[:8] for r in merge.skips]}, keeps={keeps}"

    def standing(self, accepted: model.Oid) -> tuple[model.Oid, list[world.Merge]]:
        """Where the watched branch stands once all that is there was read, and what was not accepted after that."""
        passed: list[world.Merge] = []
        for revision in self.site.bank.store.first_parents(self.site.bank.tip, accepted):
            merge = self.site.merges[revision]
            if self._is_good(merge) and merge.skips == tuple(m.revision for m in passed):
                accepted, passed = revision, []
            else:
                passed.append(merge)
        return accepted, passed

    def _is_good(self, merge: world.Merge) -> bool:
        if merge.direct or not merge.signed or merge.rejected:
            return False
        if merge.broken and merge.revision in self.site.accepted:
            return True
        return set(self._approvers(merge)) <= merge.approved - {merge.author}
