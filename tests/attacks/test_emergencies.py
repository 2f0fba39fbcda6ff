"""What is owed after the glass was broken, and what does not pay it (trust.md 5.3; C68 and C69)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import estate, installation, logs, objects, signing
from support.catalogue import ACCEPT, HOLD, LEDGER, PAYMENTS, SANDBOX

from reconciler import model
from reconciler.admission import admit, reviewing, statement, withdrawing
from reconciler.audit import log, record

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BOARD = ("dan", "erin")


class Bank:
    """A bank in memory whose policy lets the glass be broken, its log taken over from genesis."""

    def __init__(self, spec: estate.Spec | None = None) -> None:
        self.bank = estate.Estate(estate.targets(), spec=spec or estate.emergency_spec())
        self.clock = logs.Clock()
        self.log: log.Log = logs.make_log(clock=self.clock)
        self.log.lease("watch")
        admit.take_over(self.bank.store, self.log, self.bank.pin, clock=self.clock)

    def poll(self) -> tuple[record.Decision, ...]:
        store = self.bank.store
        self.log.lease("watch")
        return admit.admit(store, store, self.log, terms=self.bank.terms, clock=self.clock)

    def emergency(self, files: dict[str, bytes], *people: str) -> model.Oid:
        merge = self.bank.change(files, approvers=[])
        self.bank.approve(merge, *people, **estate.breaking(self.clock.now()))
        return merge

    def say(self, merge: model.Oid, *people: str, **fields: object) -> tuple[bytes, ...]:
        """Statements about this merge, a review unless `decision` says otherwise; only a fetch that asks brings them here."""
        at = self.clock.now()
        said = {"decision": "review", "issued_at": at, "expires_at": at + DAY, **fields}
        binding = said.pop("binding", None) or self.bank.binding(merge)
        made = tuple(signing.approve(estate.key(p), p, binding, **said) for p in people)  # type: ignore[arg-type]
        for envelope in made:
            self.bank.store.add_envelope(self.bank.store.parents(merge)[1], envelope, held=False)
        return made

    def look(self) -> dict[model.Oid, reviewing.Reviewed]:
        """What `get obligations` says of them."""
        now = self.clock.now()
        return reviewing.look(self.bank.store, self.log.state, terms=self.bank.terms, now=now)

    def owed(self) -> list[model.Oid]:
        return [*self.log.state.reviews]

    def obligations(self) -> list[record.Obligation]:
        return [e.event for e in self.log.records() if isinstance(e.event, record.Obligation)]


@pytest.fixture
def bank() -> Iterator[Bank]:
    made = Bank()
    yield made
    made.log.close()


def test_an_accepted_emergency_opens_the_review_that_it_owes_in_the_same_append(bank: Bank) -> None:
    merge = bank.emergency(LEDGER, "bob")
    (decision,) = bank.poll()
    assert decision.verdict is ACCEPT
    assert decision.emergency is not None
    assert (decision.emergency.people, decision.emergency.incident) == (("bob",), "INC1")
    assert decision.emergency.rules == ("base", "prod")
    assert [(rule.id, rule.got) for rule in decision.rules] == [("emergency", ("bob",))]
    (opened,) = bank.obligations()
    assert (opened.change, opened.kind, opened.revision) == ("opened", "review", merge)
    assert (opened.people, opened.environments, opened.need) == (("bob",), ("prod",), ("2 of change-board (A2)",))
    assert decision.decided
    assert opened.due == decision.decided + DAY
    types = [entry.event.type for entry in bank.log.records()]
    assert types[-2:] == ["decision", "obligation"]


def test_an_ordinary_acceptance_owes_nothing_and_one_that_needs_no_emergency_neither(bank: Bank) -> None:
    bank.bank.change(LEDGER)
    merge = bank.emergency(PAYMENTS, "bob")
    bank.bank.approve(merge, "bob", "grace")
    assert [(d.verdict, d.emergency) for d in bank.poll()] == [(ACCEPT, None)] * 2
    assert bank.obligations() == []


def test_c69_reviews_by_others_close_it_although_the_head_was_merged(bank: Bank) -> None:
    merge = bank.emergency(LEDGER, "bob")
    bank.poll()
    bank.say(merge, "dan")
    bank.poll()
    assert bank.owed() == [merge], "one of two"
    bank.say(merge, "erin")
    bank.poll()
    assert bank.owed() == []
    opened, closed = bank.obligations()
    assert (closed.change, closed.people, len(closed.statements)) == ("closed", BOARD, 2)
    bank.poll()
    assert bank.obligations() == [opened, closed], "said once"


WRONG = {
    "whoever broke the glass": (("frank", "dan"), {}),
    "whoever wrote the change": (("heidi", "dan"), {}),
    "one person twice": (("dan", "dan"), {}),
    "an approval": (BOARD, {"decision": "approve"}),
    "another emergency": (BOARD, {"decision": "emergency", "incident": "INC1"}),
    "people of another team": (("grace", "alice"), {}),
    "a robot": (("dan", "forge"), {}),
    "an end that has passed": (BOARD, {"issued_at": datetime(2026, 11, 23, tzinfo=UTC), "expires_at": logs.Clock().now()}),
    "no end": (BOARD, {"expires_at": None}),
    "a date from before the merge": (BOARD, {"issued_at": datetime(2026, 11, 23, 22, tzinfo=UTC)}),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_c69_a_review_that_is_none_leaves_it_open(how: str) -> None:
    spec = estate.emergency_spec()
    spec["teams"] |= {"emergency": ["bob", "frank"], "change-board": ["dan", "erin", "frank", "heidi", "carol"]}
    bank = Bank(spec)
    merge = bank.bank.change(LEDGER, "heidi", approvers=[])
    bank.bank.approve(merge, "frank", **estate.breaking(bank.clock.now()))
    assert [d.verdict for d in bank.poll()] == [ACCEPT]
    people, fields = WRONG[how]
    for person in people:
        bank.say(merge, person, **fields)  # type: ignore[arg-type]
    bank.poll()
    assert bank.owed() == [merge]
    bank.say(merge, "dan", "erin", "carol")
    bank.poll()
    assert bank.owed() == []
    bank.log.close()


def test_c69_a_review_of_one_emergency_does_not_serve_for_another(bank: Bank) -> None:
    first, second = bank.emergency(LEDGER, "bob"), bank.emergency(PAYMENTS, "bob")
    bank.poll()
    bound = bank.bank.binding(first)
    bank.say(second, *BOARD, binding=bound)
    bank.say(second, *BOARD, binding=bound.model_copy(update={"head": bank.bank.store.parents(second)[1]}))
    bank.poll()
    assert bank.owed() == [first, second]
    bank.say(second, *BOARD)
    bank.poll()
    assert bank.owed() == [first]


def test_c69_a_review_that_was_signed_beforehand_reviews_nothing(bank: Bank) -> None:
    """Whoever hands out blank reviews looks at nothing."""
    merge = bank.emergency(LEDGER, "bob")
    for envelope in bank.say(merge, *BOARD, issued_at=bank.clock.now() + HOUR):
        bank.bank.store.add_envelope(bank.bank.store.parents(merge)[1], envelope)
    bank.poll()
    bank.poll()
    assert bank.owed() == [merge]
    bank.say(merge, *BOARD)
    bank.poll()
    assert bank.owed() == []


def test_c69_a_review_that_was_taken_back_does_not_count(bank: Bank) -> None:
    merge = bank.emergency(LEDGER, "bob")
    bank.poll()
    (envelope,) = bank.say(merge, "dan")
    opened = statement.open_envelope(envelope, namespace=signing.NAMESPACE)
    assert isinstance(opened, statement.Statement)
    bank.say(merge, "dan", decision="revoke", revokes=opened.digest)
    bank.say(merge, "erin")
    bank.poll()
    assert bank.owed() == [merge]
    bank.say(merge, "frank")
    bank.poll()
    assert bank.owed() == []


def test_c69_reviews_that_strangers_bury_stay_open_and_that_is_said(bank: Bank) -> None:
    """Anybody may push there. The way out: what strangers pushed goes."""
    merge, other = bank.emergency(LEDGER, "bob"), bank.emergency(PAYMENTS, "bob")
    bank.poll()
    bank.say(merge, *BOARD)
    bank.say(other, "dan")
    head = bank.bank.store.parents(merge)[1]
    for n in range(objects.MAX_ENVELOPES):
        bank.bank.store.add_envelope(head, b"%d" % n, held=False)
    bank.poll()
    assert bank.owed() == [merge, other]
    looked = bank.look()
    assert (looked[merge].is_read, [reason.code for reason in looked[merge].missing]) == (False, ["limit"])
    assert (looked[other].is_read, looked[other].people) == (True, ("dan",))
    assert "reconciler review" in looked[other].missing[0].fix
    for n in range(objects.MAX_ENVELOPES):
        bank.bank.store.remove_envelope(head, b"%d" % n)
    bank.poll()
    assert bank.owed() == [other]


def test_c68_the_fourth_emergency_of_a_week_waits_and_a_later_look_at_the_third_does_not_withdraw_it(
    bank: Bank,
) -> None:
    merges = [bank.emergency({LEDGER_FILE: estate.resources(n)}, "bob") for n in range(2, 6)]
    decisions = bank.poll()
    assert [d.verdict for d in decisions] == [ACCEPT, ACCEPT, ACCEPT, HOLD]
    assert "emergency_scope" in estate.codes(decisions[-1])
    for decision in decisions[:3]:
        assert withdrawing.withdrawn(bank.bank.store, decision, bank.log.state, terms=bank.bank.terms) == ()
    bank.clock.sleep((7 * DAY + HOUR).total_seconds())
    bank.bank.approve(merges[-1], "bob", **estate.breaking(bank.clock.now()))
    (later,) = bank.poll()
    assert (later.revision, later.verdict) == (merges[-1], ACCEPT)


LEDGER_FILE = next(iter(LEDGER))


def test_c68_an_emergency_that_is_taken_back_before_the_write_withdraws(bank: Bank) -> None:
    merge = bank.emergency(LEDGER, "bob")
    (decision,) = bank.poll()
    assert withdrawing.withdrawn(bank.bank.store, decision, bank.log.state, terms=bank.bank.terms) == ()
    said = next(each.statement for each in decision.approvals)
    bank.say(merge, "bob", decision="revoke", revokes=said)
    bank.poll()
    found = withdrawing.withdrawn(bank.bank.store, decision, bank.log.state, terms=bank.bank.terms)
    assert {reason.code for reason in found} >= {"approval_revoked", "threshold"}
    assert bank.owed() == [merge], "the glass stays broken"


def test_an_emergency_beside_full_approvals_stands_in_for_a_closed_window(bank: Bank) -> None:
    spec = estate.emergency_spec()
    frozen = {"id": "yearend", "from": "2026-11-01T00:00:00Z", "to": "2027-01-01T00:00:00Z", "environments": ["prod"]}
    for allow, broken in (([], None), (["emergency"], ())):
        made = Bank({**spec, "freeze": [{**frozen, "allow": allow}]})
        merge = made.emergency(LEDGER, "bob")
        made.bank.approve(merge, "bob", "grace")
        (decision,) = made.poll()
        assert decision.verdict is ACCEPT
        assert (decision.emergency.rules if decision.emergency else None) == broken
        assert len(made.owed()) == (broken is not None)
        made.log.close()


# --- in a daemon -----------------------------------------------------------------------------------------------------


class Lab(installation.Installation):
    """One target, `web`; a freeze that began an hour ago where there is one."""

    def __init__(self, folder: Path, **spec: object) -> None:
        (folder / "roots/web").mkdir(parents=True)
        made = estate.emergency_spec()
        asked = {name: made[name] for name in ("teams", "emergency")}
        super().__init__(folder, self.words("0\n", folder / "roots/web"), **{**asked, **spec})

    def words(self, text: str, root: Path | None = None) -> dict[str, bytes]:
        return installation.vm("web", root or self.roots / "web", {"a": text})

    @property
    def now(self) -> str:
        return (self.roots / "web/a").read_text()

    def broken(self, text: str) -> model.Oid:
        merge = self.change(self.words(text), approvers=[])
        self.bank.approve(merge, "bob", **estate.breaking(datetime.now(UTC).replace(microsecond=0)))
        self.serve()
        self.converge()
        return merge

    def review(self, merge: model.Oid, *people: str) -> None:
        at = datetime.now(UTC).replace(microsecond=0)
        self.bank.approve(merge, *people, decision="review", issued_at=at, expires_at=at + DAY)
        for_head = self.bank.tip
        self.bank.tip = merge
        self.store_tip()
        self.bank.tip = for_head
        self.converge()

    def standing(self) -> set[str]:
        said = self.events(record.Standing)[-1]
        return {f"{said.code}", *(reason.code for reason in said.reasons)}


def _frozen(*allow: str) -> list[dict[str, object]]:
    now = datetime.now(UTC)
    ends = {name: f"{now + timedelta(hours=h):%Y-%m-%dT%H:%M:%SZ}" for name, h in (("from", -1), ("to", 1))}
    return [{"id": "now", "environments": ["dev"], "allow": [*allow], **ends}]


def test_an_emergency_is_written_in_a_freeze_that_allows_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, freeze=_frozen("emergency"))
    lab.change(lab.words("1\n"))
    lab.converge()
    assert lab.standing() == {"deferred"}
    lab.broken("2\n")
    assert lab.now == "2\n"


def test_an_emergency_waits_in_a_freeze_that_does_not_allow_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, freeze=_frozen())
    lab.broken("2\n")
    assert lab.events(record.Decision)[-1].emergency is not None
    assert lab.standing() == {"deferred"}


def test_an_emergency_is_written_although_every_window_is_closed(tmp_path: Path) -> None:
    yesterday = f"{datetime.now(UTC) - 2 * DAY:%a}".lower()
    window = {"environments": ["dev"], "days": [yesterday], "from": "03:00", "to": "04:00", "zone": "UTC"}
    lab = Lab(tmp_path, windows=[window])
    lab.change(lab.words("1\n"))
    lab.converge()
    assert lab.standing() == {"deferred"}
    lab.broken("2\n")
    assert lab.now == "2\n"


def test_c69_ordinary_changes_wait_for_an_overdue_review_and_nothing_else_does(tmp_path: Path) -> None:
    emergency = estate.emergency_spec()["emergency"]
    emergency["review"]["within"] = "1s"
    lab = Lab(tmp_path, emergency=emergency)
    merge = lab.broken("1\n")
    assert lab.now == "1\n"
    _pass(1.1)
    lab.change(lab.words("2\n"))
    lab.converge()
    assert lab.standing() == {"deferred", "obligation"}
    (lab.roots / "web/a").write_text("by hand\n")
    lab.converge()
    assert lab.now == "1\n", "drift is corrected all the same"
    lab.broken("3\n")
    assert lab.now == "3\n", "a further emergency goes on"
    _pass(1.1)
    lab.change(lab.words("4\n"))
    lab.converge()
    assert lab.now == "3\n"
    lab.change(lab.words("1\n"), approvers=["bob"])
    lab.converge()
    assert lab.now == "1\n", "so does a return"
    lab.change(lab.words("5\n"))
    lab.review(merge, *BOARD)
    assert lab.now == "1\n", "the second emergency is not reviewed"
    (second,) = (o.revision for o in lab.events(record.Obligation) if o.revision != merge)
    lab.review(second, *BOARD)
    assert lab.now == "5\n"
    assert lab.verification().problems == ()


def _pass(seconds: float) -> None:
    """Of real time: a daemon goes by the machine's clock."""
    time.sleep(seconds)


def test_an_overdue_review_holds_no_history_and_names_the_environments_that_wait() -> None:
    emergency = estate.emergency_spec()["emergency"]
    emergency["review"]["within"] = "1s"
    made = Bank({**estate.emergency_spec(), "emergency": emergency})
    made.emergency(LEDGER, "bob")
    made.poll()
    (owed,) = made.log.state.reviews.values()
    assert owed.environments == ("prod",)
    made.bank.change(SANDBOX)
    assert [d.verdict for d in made.poll()] == [ACCEPT], "obligations never hold the history"
    made.log.close()
