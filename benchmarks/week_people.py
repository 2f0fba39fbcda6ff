"""What 200 people do in a working week: requests, reviews, update-branch clicks, conflicts, rotations, one bad push.

They see the daemon only through what it answers: `verify --head` for a reviewer and as the forge's check, the pre-receive
hook at the merge. Delays are drawn from distributions over working hours; the seed chooses all of it.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import week_bank
from support import estate, objects, signing

from reconciler import model, ports
from reconciler.admission import effect, judging, statement
from reconciler.audit import state

UPDATE_BRANCH = 0.25  # of the requests: somebody clicks it once
FIXUP = 0.10  # of the requests: the author adds a commit after the first review
REVIEW_MINUTES, MERGE_MINUTES, RECOVERY_MINUTES = 50.0, 15.0, 12.0  # medians
DAY = timedelta(days=1)

# Why a head is no longer the one that people approved.
CLICKED, AMENDED, RESOLVED = "update-branch click", "a new commit of the author", "a conflict resolved by hand"
MOVED = "another merge of the same target"
REWRITTEN = "its commits were signed with a key that was lost"


@dataclass
class Vote:
    """One signed statement, and what became of it where its head was left."""

    request: Request
    person: str
    head: model.Oid
    base: model.Oid  # the accepted commit that it was signed against
    at: datetime
    statement: model.Digest
    effect: model.Digest
    decision: str = "approve"
    lost: str = ""
    needless: bool = False  # it was lost although what would be merged stayed the same


@dataclass
class Request:
    number: int
    author: str
    edits: dict[str, dict[str, str]]  # target -> what is set in its payload; "owner" in its document
    opened: datetime
    policy: Callable[[], bytes] | None = None  # a change of the policy, written against the one that stands
    after: Callable[[], None] | None = None  # when it has landed
    head: model.Oid = week_bank.NOTHING
    votes: list[Vote] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)  # people who have it on their desk
    merged: datetime | None = None
    ready: bool = False  # it could have been merged
    delayed: tuple[str, datetime] | None = None  # why its approvals were lost, until they are all there again
    click: bool = False  # the author is about to merge


class People:
    """`known` is what the daemon's API says; everything else they do with git."""

    def __init__(
        self, bank: estate.Estate, known: Callable[[], state.State], clock: ports.Clock, rng: random.Random
    ) -> None:
        self.bank, self.known, self.clock, self.rng = bank, known, clock, rng
        self.clone = copy.copy(bank.store)
        self.clone._held = bank.store._remote  # noqa: SLF001 - a clone that fetched every approval
        self.events: list[tuple[datetime, int, Callable[[], None]]] = []
        self.requests: list[Request] = []
        self.votes: list[Vote] = []
        self.targets: dict[model.Oid, dict[str, week_bank.Target]] = {}  # by revision of the watched branch
        self.keys: dict[str, list[estate.Spec]] = {}
        self.signs: dict[str, str] = {}  # who signs with another key than the first
        self.away: set[str] = set()  # who has no key that works
        self.sre = 1
        self.delays: dict[str, list[timedelta]] = {}  # from the loss of approvals until all were there again
        self.refused: Counter[str] = Counter()
        self.seen_refused: dict[model.Digest, str] = {}
        self.waiting: list[Request] = []  # whose merge the hook refused because the history is blocked
        self.happened: list[str] = []
        self._numbers = itertools.count()

    # --- time ---

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def at(self, when: datetime, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self._numbers), what))

    def next(self) -> None:
        """Do what is due first."""
        _, _, what = heapq.heappop(self.events)
        what()

    def later(self, median_minutes: float, what: Callable[[], None], sigma: float = 0.9) -> None:
        minutes = self.rng.lognormvariate(math.log(median_minutes), sigma)
        self.at(week_bank.at_work(self.now, minutes), what)

    def say(self, line: str) -> None:
        self.happened.append(f"{self.now:%a %H:%M} {line}")

    # --- git ---

    def content(self, request: Request, targets: dict[str, week_bank.Target]) -> dict[str, bytes]:
        """The files of a request on top of these documents; notes them in `targets`."""
        if request.policy:
            return {estate.POLICY_PATH: request.policy()}
        made: dict[str, bytes] = {}
        for name, edit in request.edits.items():
            target = targets[name] = copy.deepcopy(targets[name])
            document, payload = week_bank.paths_of(name)
            for line, value in edit.items():
                if line == "owner":
                    target.owner = value
                    made[document] = week_bank.document(name, target)
                else:
                    target.values[line] = value
                    made[payload] = week_bank.payload(target)
        return made or {f"docs/{request.number}.md": f"Call {request.author}, {len(request.votes)}.\n".encode()}

    def commit(self, request: Request, parents: tuple[model.Oid, ...], tree: model.Oid | None = None) -> None:
        """One signed commit of the author's on the branch."""
        tip = self.bank.tip
        files = self.content(request, dict(self.targets[tip]))
        who = week_bank.author_of(request.author)
        request.head = self.bank.store.make_commit(
            files, *parents, author=who, key=self.key_of(request.author), tree=tree, message=f"{request.number}\n"
        )

    def key_of(self, person: str) -> signing.Key:
        return week_bank.key(self.signs.get(person, person))

    def lose(self, request: Request, why: str, votes: Sequence[Vote] | None = None) -> None:
        """The branch has another head, and approvals say which one they are for. `votes`: not all of them are lost."""
        for vote in request.votes if votes is None else votes:
            vote.lost = vote.lost or why
        request.click = False
        if request.ready or any(vote.lost == why for vote in request.votes):
            request.delayed = request.delayed or (why, self.now)

    # --- a request, from its first commit to its merge ---

    def open(self, request: Request) -> None:
        self.requests.append(request)
        self.commit(request, (self.bank.tip,))
        if self.rng.random() < UPDATE_BRANCH:
            self.later(90, lambda: self.update_branch(request))
        if self.rng.random() < FIXUP:
            self.later(70, lambda: self.amend(request))
        self.look(request)

    def examine(self, request: Request) -> judging.Judged:
        """`reconciler verify --head`, in a clone that fetched all approvals."""
        return judging.examine_head(
            self.clone, request.head, self.known(), terms=self.bank.terms, now=model.utc_ms(self.now)
        )

    def look(self, request: Request) -> None:
        """What the forge's check shows: ask who may fill the open slots, or merge."""
        if request.merged:
            return
        judged = self.examine(request)
        self._note_refused(judged)
        codes = {reason.code for reason in judged.decision.reasons}
        if judged.decision.verdict is model.Verdict.ACCEPT:
            request.ready = True
            if request.delayed:
                why, since = request.delayed
                self.delays.setdefault(why, []).append(self.now - since)
                request.delayed = None
            if not request.click:
                request.click = True
                self.later(MERGE_MINUTES, lambda: self.merge(request))
        elif "sig_key_revoked" in codes:
            self.later(30, lambda: self.rewrite(request))
        elif judged.binding is None:
            self.later(30, lambda: self.resolve(request))  # It conflicts.
        elif "rejected" in codes:
            self.later(60, lambda: self.amend(request))
        else:
            self.ask(request, judged)

    def _note_refused(self, judged: judging.Judged) -> None:
        """Why a statement does not count, as people see it first: in the forge's check, before a merge."""
        for approval in judged.decision.approvals:
            if approval.reason:
                self.seen_refused.setdefault(approval.statement, approval.reason.code)

    def ask(self, request: Request, judged: judging.Judged) -> None:
        for slot in judged.open:
            able = [person for person in slot.may if person not in request.asked and person != request.author]
            mates = [person for person in able if week_bank.team_of(person) == week_bank.team_of(request.author)]
            before = [vote.person for vote in request.votes if vote.person in able]  # Who knows it already.
            missing = slot.missing - sum(person in slot.may for person in request.asked)
            for _ in range(max(0, missing)):
                person = before.pop() if before else self.rng.choice(mates or able)
                able, mates = ([p for p in people if p != person] for people in (able, mates))
                request.asked.add(person)
                self.later(REVIEW_MINUTES, lambda who=person: self.review(request, who))  # type: ignore[misc]

    def review(self, request: Request, person: str, decision: statement.Decision = "approve") -> None:
        """`reconciler approve`: it signs what would be merged now."""
        if person in self.away:
            self.later(120, lambda: self.review(request, person, decision))
            return
        request.asked.discard(person)
        if request.merged:
            return
        judged = self.examine(request)
        if judged.binding is not None:
            self.vote(request, person, judged.binding, decision)
        self.look(request)

    def vote(
        self, request: Request, person: str, binding: statement.Binding, decision: statement.Decision = "approve"
    ) -> None:
        now = self.now.replace(microsecond=0)
        envelope = signing.approve(self.key_of(person), person, binding, issued_at=now, decision=decision)
        self.bank.store.add_envelope(request.head, envelope, held=False)
        opened = statement.open_envelope(envelope, namespace=signing.NAMESPACE)
        assert isinstance(opened, statement.Statement)
        base = self.known().tip or self.bank.genesis
        vote = Vote(request, person, request.head, base, self.now, opened.digest, binding.effect, decision)
        request.votes.append(vote)
        self.votes.append(vote)

    def update_branch(self, request: Request) -> None:
        """The forge merges the watched branch into this one and signs."""
        store, tip = self.bank.store, self.bank.tip
        if request.merged or store.is_ancestor(tip, request.head):
            return
        if store.automatic_merge(request.head, tip) is None:
            self.resolve(request)
            return
        request.head = store.make_merge(request.head, tip, week_bank.key("forge"), author=objects.FORGE)
        judged = self.examine(request)
        counted = {each.statement for each in judged.decision.approvals if each.reason is None}
        lost = [v for v in request.votes if not v.lost and v.decision == "approve" and v.statement not in counted]
        for vote in lost:
            vote.needless = judged.binding is not None and vote.effect == judged.binding.effect
        self.lose(request, CLICKED, lost)
        self.look(request)

    def amend(self, request: Request) -> None:
        if request.merged:
            return
        self.lose(request, AMENDED)
        for edit in request.edits.values():
            edit |= {line: f"{value}-x" for line, value in edit.items()}
        who = week_bank.author_of(request.author)
        before = request.head
        base = self.bank.store.merge_bases(self.bank.tip, before)[0]
        files = self.content(request, dict(self.targets[base]))
        request.head = self.bank.store.make_commit(
            files, before, author=who, key=self.key_of(request.author), message=f"{request.number} again\n"
        )
        self.look(request)

    def rewrite(self, request: Request) -> None:
        """The author commits it again with a key that works, on what stands there now."""
        if request.author in self.away:
            self.later(120, lambda: self.rewrite(request))
        elif not request.merged:
            self.lose(request, REWRITTEN)
            self.commit(request, (self.bank.tip,))
            self.look(request)

    def resolve(self, request: Request) -> None:
        """The author merges the watched branch by hand and makes the change again on what stands there now."""
        if request.merged:
            return
        self.lose(request, RESOLVED)
        tip = self.bank.tip
        self.commit(request, (request.head, tip), self.bank.store.tree_id(tip))
        self.look(request)

    def merge(self, request: Request) -> None:
        """The button. The forge makes the merge, and the pre-receive hook has the last word."""
        if request.merged or not request.click:
            return
        request.click = False
        tree = self.bank.store.automatic_merge(self.bank.tip, request.head)
        if tree is None:
            self.resolve(request)
            return
        revision = self.bank.merge(request.head)
        refused = self.hook(revision)
        if refused == {"blocked"}:
            self.waiting.append(request)
        elif refused:
            if "stale_effect" in refused:
                request.delayed = request.delayed or (MOVED, self.now)
            self.refused[" + ".join(sorted(refused))] += 1
            self.look(request)
        else:
            self.land(request, revision)

    def hook(self, revision: model.Oid) -> set[str]:
        """`verify --pre-receive`: the walk from what the daemon accepted to what is being pushed."""
        known = self.known()

        def keep(judged: judging.Judged) -> state.State:
            nonlocal known
            if judged.decision.verdict is model.Verdict.ACCEPT:
                update = {"tip": judged.decision.revision, "policies": judged.decision.revision}
                known = known.model_copy(update=update)
            return known

        decided = judging.walk(self.clone, revision, known, keep, terms=self.bank.terms, clock=self.clock)
        if decided[-1].verdict is model.Verdict.ACCEPT:
            return set()
        codes = {reason.code for reason in decided[-1].reasons}
        return {"blocked"} if "blocked" in codes else codes

    def land(self, request: Request, revision: model.Oid) -> None:
        targets = dict(self.targets[self.bank.tip])
        self.content(request, targets)
        self.targets[revision] = targets
        self.bank.push(revision)
        request.merged = self.now
        if request.after:
            request.after()

    # --- what does not happen every day ---

    def change_policy(
        self, author: str, change: Callable[[], None], why: str, after: Callable[[], None] | None = None
    ) -> None:
        """`change` is made to the policy that stands when the branch is cut."""
        self.say(f"a policy change is opened: {why}")

        def blob() -> bytes:
            change()
            return week_bank.policy(sre=self.sre, keys=self.keys)

        def landed() -> None:
            self.say(f"it lands: {why}")
            if after:
                after()

        self.open(Request(len(self.requests), author, {}, self.now, policy=blob, after=landed))

    def rotate(self, person: str) -> None:
        """A new key beside the old one, which goes on until its end."""
        fresh = f"{person}-second"
        both = [estate.key_document(person), estate.key_document(fresh)]
        self.change_policy(
            week_bank.ADMINS[0],
            lambda: self.keys.update({person: both}),
            f"{person} rotates a key",
            lambda: self.signs.update({person: fresh}),
        )

    def lose_key(self, among: list[str]) -> None:
        """The old key is revoked; until the new one is in force its owner signs nothing."""
        waiting = Counter(v.person for v in self.votes if not v.lost and not v.request.merged and v.person in among)
        person = max(among, key=lambda name: waiting[name])
        self.say(f"{waiting[person]} approvals of {person} wait for their merges")
        fresh = f"{person}-second"
        revoked = estate.key_document(person, revoked=week_bank.spelled(self.now))
        self.away.add(person)

        def landed() -> None:
            self.signs[person] = fresh
            self.away.discard(person)

        self.change_policy(
            week_bank.ADMINS[0],
            lambda: self.keys.update({person: [revoked, estate.key_document(fresh)]}),
            f"{person} lost a key",
            landed,
        )

    def tighten(self) -> None:
        self.change_policy(week_bank.ADMINS[1], lambda: setattr(self, "sre", 2), "production needs two of sre")

    def push_directly(self, person: str) -> None:
        """By somebody whom the hook does not stop."""
        name = "team03-api"
        targets = dict(self.targets[self.bank.tip])
        targets[name] = copy.deepcopy(targets[name])
        targets[name].values["limits"] = "hotfix"
        files = {week_bank.paths_of(name)[1]: week_bank.payload(targets[name])}
        before = self.bank.tip
        who = week_bank.author_of(person)
        revision = self.bank.store.make_commit(files, before, author=who, key=self.key_of(person))
        self.targets[revision] = targets
        self.bank.push(revision)
        self.say(f"{person} pushes to the watched branch directly")
        self.later(RECOVERY_MINUTES, lambda: self.recover(before, revision), sigma=0.3)

    def recover(self, accepted: model.Oid, bad: model.Oid) -> None:
        """`reconciler recover`: take the bad commit back; its approvals say what is skipped."""
        author = week_bank.SRE[0]
        store = self.bank.store
        changed = effect.compare(store.tree(accepted), store.tree(bad)).paths
        before = store.tree(accepted)
        files = {path: store.read(before[path].oid) for path in changed}
        who = week_bank.author_of(author)
        request = Request(len(self.requests), author, {}, self.now)
        request.head = store.make_commit(files, bad, author=who, key=self.key_of(author), message="recover\n")
        self.requests.append(request)
        revision = self.bank.merge(request.head)
        binding = statement.Binding(
            repo=estate.REPOSITORY_ID,
            object_format="sha1",
            ref=estate.REF,
            head=request.head,
            effect=effect.compare(store.tree(accepted), store.tree(revision)).digest,
            environments=(),
            skips=(bad,),
        )
        self.say("a recovery merge is prepared")
        approvers = [*self.rng.sample(week_bank.ADMINS, 2), self.rng.choice(week_bank.SRE[1:])]

        def approve(person: str) -> None:
            self.vote(request, person, binding)
            if len(request.votes) == len(approvers):
                self.targets[revision] = self.targets[accepted]
                self.bank.push(revision)
                request.merged = self.now
                self.say("the recovery merge lands")
                self.at(self.now + timedelta(minutes=2), self.go_on)

        for person in approvers:
            self.later(RECOVERY_MINUTES, lambda who=person: approve(who), sigma=0.5)  # type: ignore[misc]

    def go_on(self) -> None:
        """The history is open again: whoever waited merges."""
        waited, self.waiting = self.waiting, []
        self.say(f"{len(waited)} merges waited for that")
        for n, request in enumerate(waited):
            request.click = True
            self.at(self.now + timedelta(minutes=2 * n), lambda each=request: self.merge(each))  # type: ignore[misc]
