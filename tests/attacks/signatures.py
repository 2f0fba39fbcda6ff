"""Commits and merges whose signature is missing, another's, too old, too weak, or not over what it seems to be over."""

from __future__ import annotations

from typing import Literal

from support import estate, objects, other_keys, signing
from support.catalogue import HOLD, LEDGER, NOBODY, REJECT, SANDBOX, Offer, Offers, Table

from reconciler.admission import statement

case = Table()
EXTREMES = (1, 1_780_000_000, 1 << 40)


def _forge_with(**fields: str) -> estate.Estate:
    spec = estate.policy_spec()
    spec["robots"]["forge"]["keys"] = [estate.key_document("forge", ["merge"], **fields)]
    return estate.Estate(estate.targets(), spec=spec)


def _dated(bank: estate.Estate, time: int) -> Offer:
    merge = bank.merge(bank.branch(LEDGER), time=time)
    bank.approve(merge, *estate.SRE)
    return Offer(bank, merge)


@case("C7", REJECT, "sig_key_expired", over=EXTREMES, before_merge=False)
def a_merge_dated_into_the_time_of_an_ended_key(bank: estate.Estate, time: int) -> Offers:
    yield _dated(_forge_with(notAfter="2026-11-24T11:00:00Z"), time)
    yield _dated(_forge_with(notBefore="2026-11-25T00:00:00Z"), time)
    yield _dated(bank, time)


@case("C8", REJECT, "sig_key_revoked", over=EXTREMES, before_merge=False)
def no_date_brings_a_revoked_key_back(bank: estate.Estate, time: int) -> Offers:
    yield _dated(_forge_with(revoked="2026-11-24T11:00:00Z"), time)
    yield _dated(bank, time)


@case("C8", REJECT, "commit_grammar", over=(0, (1 << 40) + 1, 10**18), before_merge=False)
def a_date_that_no_clock_shows(bank: estate.Estate, time: int) -> Offers:
    yield _dated(bank, time)
    yield _dated(bank, 1 << 40)


WEAK = ((1024, "rsa-sha2-512"), (2048, "rsa-sha2-512"), (3072, "ssh-rsa"))


@case("C11", REJECT, "weak_alg", over=WEAK)
def a_commit_signed_with_too_little_rsa(
    bank: estate.Estate, how: tuple[int, Literal["ssh-rsa", "rsa-sha2-512"]]
) -> Offers:
    """The SSH keys; those of OpenPGP stand in a module of their own. A length that is too short, or a digest that is broken."""
    unsigned = bank.branch(LEDGER, signer="")
    raw = bank.store.commit(unsigned)
    head = bank.store.add(b"commit", signing.insert_signature(raw, other_keys.rsa_armored(raw, *how)))
    for each in (head, bank.branch(LEDGER)):
        merge = bank.merge(each)
        bank.approve(merge, *estate.SRE)
        yield Offer(bank, merge)


@case("C13", REJECT, "commit_grammar", over=("gpgsigX", "gpgsig twice", "bytes after the armor"), before_merge=False)
def bytes_beside_the_signed_ones(bank: estate.Estate, what: str) -> Offers:
    good = bank.merge(bank.branch(LEDGER))
    bank.approve(good, *estate.SRE)
    raw = bank.store.commit(good)
    header, _, message = raw.partition(b"\n\n")
    added = {
        "gpgsigX": b"\ngpgsigX x",
        "gpgsig twice": b"\ngpgsig " + header.split(b"\ngpgsig ")[1],
        "bytes after the armor": b"\n more",
    }
    yield Offer(bank, bank.store.add(b"commit", header + added[what] + b"\n\n" + message))
    yield Offer(bank, good)


@case("C14", REJECT, "namespace", over=("file", signing.NAMESPACE), before_merge=False)
def a_merge_signed_for_another_purpose(bank: estate.Estate, namespace: str) -> Offers:
    good = bank.merge(bank.branch(LEDGER))
    bank.approve(good, *estate.SRE)
    unsigned = bank.store.make_commit(
        {}, *bank.store.parents(good), author=objects.FORGE, tree=bank.store.tree_id(good)
    )
    raw = signing.sign_commit(bank.store.commit(unsigned), estate.key("forge"), namespace=namespace)
    yield Offer(bank, bank.store.add(b"commit", raw))
    yield Offer(bank, good)


@case("C14", REJECT, "namespace", over=("file", signing.NAMESPACE))
def a_commit_signed_for_another_purpose(bank: estate.Estate, namespace: str) -> Offers:
    raw = bank.store.commit(bank.branch(LEDGER, signer=""))
    head = bank.store.add(b"commit", signing.sign_commit(raw, estate.key("alice"), namespace=namespace))
    for each in (head, bank.branch(LEDGER)):
        merge = bank.merge(each)
        bank.approve(merge, *estate.SRE)
        yield Offer(bank, merge)


@case("C14", HOLD, "namespace", *NOBODY)
def a_signature_of_a_commit_pasted_as_an_approval(bank: estate.Estate) -> Offers:
    merge = bank.change(SANDBOX, approvers=[])
    payload = statement.make_payload(signing.claim("bob", bank.binding(merge)))
    bank.store.add_envelope(bank.store.parents(merge)[1], signing.seal(estate.key("bob"), payload, namespace="git"))
    yield Offer(bank, merge)
    bank.approve(merge, "bob")
    yield Offer(bank, merge)


@case("C15", REJECT, "unsigned_merge", before_merge=False)
def an_unsigned_merge_of_a_signed_branch(bank: estate.Estate) -> Offers:
    for signer in ("", "forge"):
        merge = bank.merge(bank.branch(LEDGER), signer=signer)
        bank.approve(merge, *estate.SRE)
        yield Offer(bank, merge)


@case("C17", REJECT, "unsigned_commit")
def an_unsigned_commit_inside_the_branch(bank: estate.Estate) -> Offers:
    for signer in ("", "alice"):
        first = bank.branch(LEDGER, signer=signer)
        merge = bank.merge(bank.branch({"targets/ledger/more.yaml": b"{}"}, on=first))
        bank.approve(merge, *estate.SRE)
        yield Offer(bank, merge)
