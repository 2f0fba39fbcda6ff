"""Envelopes that say something else, say it twice, say too much, or are taken back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from support import estate, signing
from support.catalogue import HOLD, LEDGER, NOBODY, SANDBOX, Offer, Offers, Table

from reconciler import model
from reconciler.admission import statement

case = Table()


def _put(bank: estate.Estate, merge: model.Oid, envelope: bytes) -> None:
    bank.store.add_envelope(bank.store.parents(merge)[1], envelope)


def _offers(bank: estate.Estate, envelope: bytes) -> Offers:
    """This envelope alone, and then an honest one beside it."""
    merge = bank.merge(bank.branch(SANDBOX))
    _put(bank, merge, envelope)
    yield Offer(bank, merge)
    bank.approve(merge, "bob")
    yield Offer(bank, merge)


@case("C21", HOLD, "threshold", over=("same", "in another wrapping", "with another keyid"))
def one_statement_twice(bank: estate.Estate, how: str) -> Offers:
    merge = bank.change(LEDGER, approvers=["bob"])
    payload = statement.make_payload(signing.claim("bob", bank.binding(merge)))
    bob = estate.key("bob")
    key_id = estate.key("grace").key_id if how == "with another keyid" else bob.key_id
    again = statement.make_envelope(payload, bob.sign(statement.pae(payload), signing.NAMESPACE), key_id)
    _put(bank, merge, again + (b"\n" if how == "in another wrapping" else b""))
    yield Offer(bank, merge)
    bank.approve(merge, "grace")
    yield Offer(bank, merge)


FORKS = ({"repo": "urn:uuid:00000000-0000-0000-0000-000000000000"}, {"object_format": "sha256", "head": "0" * 64})


def _about(bank: estate.Estate, other: dict[str, object]) -> Offers:
    merge = bank.change(LEDGER, approvers=[])
    bank.approve(merge, *estate.SRE, binding=bank.binding(merge).model_copy(update=other))
    yield Offer(bank, merge)
    bank.approve(merge, *estate.SRE)
    yield Offer(bank, merge)


@case("C35", HOLD, "repo_id", *NOBODY, over=FORKS)
def an_approval_from_a_fork_with_the_same_commits(bank: estate.Estate, other: dict[str, object]) -> Offers:
    yield from _about(bank, other)


@case("C36", HOLD, "ref", *NOBODY)
def an_approval_for_another_branch_with_the_same_tree(bank: estate.Estate) -> Offers:
    yield from _about(bank, {"ref": "refs/heads/staging"})


@case("C45", HOLD, "approval_revoked", *NOBODY)
def an_approval_that_was_taken_back_before_the_acceptance(bank: estate.Estate) -> Offers:
    merge = bank.change(SANDBOX, approvers=["bob"])
    payload = statement.make_payload(signing.claim("bob", bank.binding(merge)))
    bank.approve(merge, "bob", decision="revoke", revokes=model.sha256(payload))
    yield Offer(bank, merge)
    bank.approve(merge, "grace")
    yield Offer(bank, merge)


BROKEN = (
    b"",
    b"{}",
    b"null",
    b'{"payload": "", "payload": ""}',
    b"[" * 60_000,
    b'{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[]}',
    b'{"payload":"e30=","payloadType":"text/plain","signatures":[{"sig":""}]}',
)


@case("C64", HOLD, "envelope_invalid", *NOBODY, over=BROKEN)
def an_envelope_that_is_none(bank: estate.Estate, envelope: bytes) -> Offers:
    yield from _offers(bank, envelope)


TWICE = ("payload", "payloadType", "signatures", "sig")


@case("C64", HOLD, "envelope_invalid", *NOBODY, over=TWICE)
def a_good_envelope_that_says_one_thing_twice(bank: estate.Estate, name: str) -> Offers:
    """Of two parsers one takes the first and one the last: what was shown to a person is not what counts."""
    merge = bank.merge(bank.branch(SANDBOX))
    good = signing.approve(estate.key("bob"), "bob", bank.binding(merge)).decode()
    at = good.index(f'"{name}":')
    other = {"payload": '"e30="', "payloadType": '"text/plain"', "signatures": "[]", "sig": '""'}[name]
    yield from _offers(bank, f'{good[:at]}"{name}":{other},{good[at:]}'.encode())


@case("C64", HOLD, "limit", *NOBODY, in_git=False)
def an_envelope_that_is_too_long(bank: estate.Estate) -> Offers:
    """A mirror passes it over: there it is as if nobody had approved."""
    yield from _offers(bank, b"a" * ((1 << 16) + 1))


@case("C64", HOLD, "envelope_invalid", *NOBODY, over=("unknown field", "a float", "not canonical", "a wrong type"))
def a_payload_that_says_more_or_otherwise(bank: estate.Estate, change: str) -> Offers:
    merge = bank.merge(bank.branch(SANDBOX))
    payload = signing.document("bob", bank.binding(merge))
    match change:
        case "unknown field":
            payload["predicate"]["level"] = "A2"
        case "a float":
            payload["predicate"]["ackManualMerge"] = 1.5
        case "a wrong type":
            payload["predicate"]["environments"] = "dev"
        case _:
            pass
    raw = json.dumps(payload).encode() if change == "not canonical" else model.canonical_json(payload)
    yield from _offers(bank, signing.seal(estate.key("bob"), raw))


@case("C64", HOLD, "key_unknown", *NOBODY)
def a_keyid_that_names_somebody_else(bank: estate.Estate) -> Offers:
    """The hint decides nothing, in either direction: whose key made the signature does."""
    merge = bank.merge(bank.branch(SANDBOX))
    payload = statement.make_payload(signing.claim("bob", bank.binding(merge)))
    stranger = estate.key("stranger").sign(statement.pae(payload), signing.NAMESPACE)
    _put(bank, merge, statement.make_envelope(payload, stranger, estate.key("bob").key_id))
    yield Offer(bank, merge)
    honest = estate.key("bob").sign(statement.pae(payload), signing.NAMESPACE)
    _put(bank, merge, statement.make_envelope(payload, honest, estate.key("stranger").key_id))
    yield Offer(bank, merge)


@case("C65", HOLD, "subject", *NOBODY)
def two_subjects(bank: estate.Estate) -> Offers:
    merge = bank.merge(bank.branch(SANDBOX))
    payload = signing.document("bob", bank.binding(merge))
    payload["subject"] *= 2
    yield from _offers(bank, signing.seal_document(estate.key("bob"), payload))


WEEK = timedelta(days=7)
SPANS = (
    (signing.ISSUED_AT, datetime(2099, 1, 1, tzinfo=UTC)),
    (signing.ISSUED_AT, None),
    (signing.ISSUED_AT, signing.ISSUED_AT - timedelta(seconds=1)),
    (signing.ISSUED_AT, signing.ISSUED_AT + timedelta(hours=1)),
    (signing.ISSUED_AT, signing.ISSUED_AT + WEEK + timedelta(seconds=1)),
    (datetime(2098, 12, 31, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)),
)


@case("C66", HOLD, "ttl", *NOBODY, over=SPANS)
def an_expiry_that_is_missing_past_or_too_far(bank: estate.Estate, span: tuple[datetime, datetime | None]) -> Offers:
    merge = bank.change(SANDBOX, approvers=[])
    bank.approve(merge, "bob", issued_at=span[0], expires_at=span[1])
    yield Offer(bank, merge)
    bank.approve(merge, "bob", issued_at=signing.ISSUED_AT, expires_at=signing.ISSUED_AT + WEEK)
    yield Offer(bank, merge)
