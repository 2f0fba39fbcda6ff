"""Break-glass used for what it is not for: each time the usual approvals, or an honest emergency, are the twin."""

from __future__ import annotations

from datetime import timedelta

from support import estate, signing
from support.catalogue import HOLD, LEDGER, NOBODY, PAYMENTS, REJECT, Offer, Offers, Table

from reconciler import model
from reconciler.admission import statement
from reconciler.audit import record

case = Table()
HOUR = timedelta(hours=1)


def _bank(**fields: object) -> estate.Estate:
    return estate.Estate(estate.targets(), spec=estate.emergency_spec(**fields))


def _broken(bank: estate.Estate, merge: model.Oid, *people: str, **fields: object) -> None:
    bank.approve(merge, *people, **estate.breaking(**fields))  # type: ignore[arg-type]


BEYOND: dict[str, signing.ClaimFields] = {
    "it has expired": {"issued_at": estate.NOW - 3 * HOUR, "expires_at": estate.NOW - HOUR},
    "it ends when it is judged": {"expires_at": estate.NOW},
    "it is good for longer than four hours": {"expires_at": estate.NOW + 3 * HOUR + timedelta(seconds=1)},
    "it is dated ahead": {"issued_at": estate.NOW + 24 * HOUR, "expires_at": estate.NOW + 26 * HOUR},
    "it has no end": {"expires_at": None},
    "no incident": {"incident": ""},
    "a blank for an incident": {"incident": " "},
    "no reason": {"change": record.Ticket()},
}


@case("C68", HOLD, "emergency_scope", *NOBODY, over=tuple(BEYOND))
def an_emergency_that_says_too_little_or_lasts_too_long(_: estate.Estate, how: str) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER))
    _broken(bank, merge, "bob", **BEYOND[how])
    yield Offer(bank, merge)
    _broken(bank, merge, "carol")
    yield Offer(bank, merge)


@case("C68", HOLD, "emergency_scope", *NOBODY, over=("head", "effect", "environments", "ref"))
def an_emergency_for_another_commit(_: estate.Estate, field: str) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER))
    other = bank.binding(bank.merge(bank.branch(PAYMENTS)))
    said = {"head": other.head, "effect": other.effect, "environments": ("dev",), "ref": "refs/heads/staging"}
    binding = bank.binding(merge).model_copy(update={field: said[field]})
    bank.approve(merge, "bob", binding=binding, **estate.breaking())
    yield Offer(bank, merge)
    _broken(bank, merge, "carol")
    yield Offer(bank, merge)


@case("C68", HOLD, "emergency_scope", *NOBODY, over=({}, LEDGER))
def an_emergency_over_the_policies(_: estate.Estate, beside: dict[str, bytes]) -> Offers:
    """Alone or beside a target: who may decide about production does not decide who may."""
    bank = _bank()
    merge = bank.merge(bank.branch({"policies/x.rego": b"package x", **beside}))
    _broken(bank, merge, "bob", "carol")
    yield Offer(bank, merge)
    bank.approve(merge, *estate.SRE, *estate.ADMINS)
    yield Offer(bank, merge)


@case("C68", HOLD, "emergency_scope", *NOBODY)
def an_emergency_where_the_policy_allows_none(bank: estate.Estate) -> Offers:
    merge = bank.merge(bank.branch(LEDGER))
    _broken(bank, merge, "bob", "carol")
    yield Offer(bank, merge)
    bank.approve(merge, *estate.SRE)
    yield Offer(bank, merge)


@case("C68", HOLD, "emergency_scope", "threshold")
def an_emergency_statement_as_one_of_two_approvals(bank: estate.Estate) -> Offers:
    merge = bank.merge(bank.branch(LEDGER))
    bank.approve(merge, "grace")
    _broken(bank, merge, "bob")
    yield Offer(bank, merge)
    bank.approve(merge, "bob")
    yield Offer(bank, merge)


@case("C68", HOLD, "self_approval", *NOBODY)
def whoever_wrote_it_breaks_the_glass(_: estate.Estate) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER, "bob"))
    _broken(bank, merge, "bob")
    yield Offer(bank, merge)
    _broken(bank, merge, "carol")
    yield Offer(bank, merge)


@case("C68", HOLD, "author_in_range", *NOBODY)
def whoever_added_a_commit_breaks_the_glass(_: estate.Estate) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(PAYMENTS, "carol", on=bank.branch(LEDGER)))
    _broken(bank, merge, "carol")
    yield Offer(bank, merge)
    _broken(bank, merge, "bob")
    yield Offer(bank, merge)


@case("C68", HOLD, "emergency_scope", *NOBODY)
def somebody_who_may_approve_and_not_break_the_glass(_: estate.Estate) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER))
    _broken(bank, merge, "grace")
    yield Offer(bank, merge)
    _broken(bank, merge, "bob")
    yield Offer(bank, merge)


@case("C68", HOLD, "emergency_scope", *NOBODY, before_merge=False)
def whoever_merges_breaks_the_glass(_: estate.Estate) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER), signer="bob")
    _broken(bank, merge, "bob")
    yield Offer(bank, merge)
    _broken(bank, merge, "carol")
    yield Offer(bank, merge)


@case("C68", HOLD, "emergency_scope", *NOBODY)
def one_person_twice_where_two_are_needed(_: estate.Estate) -> Offers:
    bank = _bank(need=[estate.need("emergency", 2)])
    merge = bank.merge(bank.branch(LEDGER))
    for incident in ("INC1", "INC2"):
        _broken(bank, merge, "bob", incident=incident)
    yield Offer(bank, merge)
    _broken(bank, merge, "carol")
    yield Offer(bank, merge)


@case("C68", HOLD, "robot_not_approver", *NOBODY)
def a_robot_breaks_the_glass(_: estate.Estate) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER))
    _broken(bank, merge, "forge")
    yield Offer(bank, merge)
    _broken(bank, merge, "bob")
    yield Offer(bank, merge)


@case("C68", HOLD, "emergency_scope", *NOBODY)
def one_more_than_a_week_has(_: estate.Estate) -> Offers:
    """Those of the seven days before count, whatever became of them; the oldest of them has to be over."""
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER))
    _broken(bank, merge, "bob")
    ages = (timedelta(days=7) - timedelta(seconds=1), HOUR, timedelta(0))
    spent = tuple((model.Oid(f"{n:040}"), estate.NOW - age) for n, age in enumerate(ages))
    yield Offer(bank, merge, known={"emergencies": spent})
    older = ((spent[0][0], estate.NOW - timedelta(days=7)), *spent[1:])
    yield Offer(bank, merge, known={"emergencies": older})


@case("C68", HOLD, "approval_revoked", *NOBODY)
def an_emergency_that_was_taken_back(_: estate.Estate) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER))
    _broken(bank, merge, "bob")
    payload = statement.make_payload(signing.claim("bob", bank.binding(merge), **estate.breaking()))
    bank.approve(merge, "bob", decision="revoke", revokes=model.sha256(payload))
    yield Offer(bank, merge)
    _broken(bank, merge, "carol")
    yield Offer(bank, merge)


@case("C68", HOLD, "rejected")
def an_emergency_against_the_word_of_another(_: estate.Estate) -> Offers:
    """It fills slots in other people's stead; it does not silence them."""
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER))
    _broken(bank, merge, "bob")
    bank.approve(merge, "carol", decision="reject", issued_at=estate.NOW - 2 * HOUR)
    yield Offer(bank, merge)
    payload = signing.claim("carol", bank.binding(merge), decision="reject", issued_at=estate.NOW - 2 * HOUR)
    taken_back = model.sha256(statement.make_payload(payload))
    bank.approve(merge, "carol", decision="revoke", revokes=taken_back)
    yield Offer(bank, merge)


@case("C68", REJECT, "unsigned_merge", before_merge=False)
def an_emergency_for_an_unsigned_merge(_: estate.Estate) -> Offers:
    bank = _bank()
    head = bank.branch(LEDGER)
    for signer in ("", "forge"):
        merge = bank.merge(head, signer=signer)
        _broken(bank, merge, "bob")
        yield Offer(bank, merge)


@case("C68", HOLD, "ack_manual_merge", *NOBODY, before_merge=False)
def an_emergency_that_did_not_read_a_manual_merge(_: estate.Estate) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(LEDGER), files=PAYMENTS)
    _broken(bank, merge, "bob")
    yield Offer(bank, merge)
    _broken(bank, merge, "carol", ack_manual_merge=True)
    yield Offer(bank, merge)


DELETES = estate.target("ledger", acknowledge=[{"hazard": "deletes_data", "key": "item/n/one", "reason": "INC1"}])


@case("C68", HOLD, *NOBODY)
def an_emergency_for_a_hazard_that_others_answer_for(_: estate.Estate) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(DELETES))
    _broken(bank, merge, "bob")
    yield Offer(bank, merge)
    bank.approve(merge, "erin")
    yield Offer(bank, merge)


@case("C68", HOLD, "emergency_scope", "threshold")
def one_person_for_the_glass_and_for_its_hazard(_: estate.Estate) -> Offers:
    bank = _bank()
    merge = bank.merge(bank.branch(DELETES))
    _broken(bank, merge, "carol")
    bank.approve(merge, "carol")
    yield Offer(bank, merge)
    bank.approve(merge, "erin")
    yield Offer(bank, merge)
