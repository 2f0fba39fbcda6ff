"""OpenPGP signatures of commits and merges, by real keys, judged through the real gpgv (trust.md 7.3)."""

from __future__ import annotations

import base64
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import estate, examples, gnupg, parts
from support.catalogue import ACCEPT, HOLD, LEDGER, REJECT

from reconciler import model
from reconciler.admission import admit, openpgp, packets, policy, signature
from reconciler.audit import record
from reconciler.git import gpgv

parts.need("gpg", "gpgv")

EXHAUSTIVE = examples.ASKED > 0
Sign = Callable[[bytes], bytes]


@pytest.fixture(scope="session")
def gpg() -> Iterator[gnupg.Gnupg]:
    with gnupg.opened() as made:
        yield made


@pytest.fixture(scope="session")
def good(gpg: gnupg.Gnupg) -> gnupg.Key:
    return gpg.key("good")


def bank_of(*keys: gnupg.Key, verifier: gpgv.Gpgv | None = None, **fields: object) -> estate.Estate:
    """Carol has these keys beside her SSH key, and may merge with them."""
    listed = [gnupg.key_document(key, "commit", "merge", **fields) for key in keys]
    spec = estate.changed(
        estate.policy_spec(), carol=estate.person("carol", estate.key_document("carol", ["approve"]), *listed)
    )
    terms = admit.Terms(production=False, openpgp=verifier or gpgv.Gpgv())
    return estate.Estate(estate.targets(), spec=spec, terms=terms)


def judge_merge(bank: estate.Estate, sign: Sign) -> record.Decision:
    """A merge of an approved branch that is signed so."""
    unsigned = bank.merge(bank.branch(LEDGER), signer="")
    merge = gnupg.sign_commit(bank, unsigned, sign(bank.store.commit(unsigned)))
    bank.approve(merge, *estate.SRE)
    return bank.judge(merge)


def judge_commit(bank: estate.Estate, sign: Sign) -> record.Decision:
    """A merge of a branch whose one commit is signed so."""
    unsigned = bank.branch(LEDGER, "carol", signer="")
    merge = bank.merge(gnupg.sign_commit(bank, unsigned, sign(bank.store.commit(unsigned))))
    bank.approve(merge, *estate.SRE)
    return bank.judge(merge)


JUDGES = pytest.mark.parametrize("judge", [judge_merge, judge_commit])
Judge = Callable[[estate.Estate, Sign], record.Decision]


def assert_refused(decision: record.Decision, code: str) -> None:
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {code}), decision.reasons


@JUDGES
@pytest.mark.parametrize("algorithm", ["ed25519", "rsa3072", "nistp256", "nistp384"])
def test_a_good_key_of_an_allowed_algorithm_is_the_honest_twin(gpg: gnupg.Gnupg, judge: Judge, algorithm: str) -> None:
    key = gpg.key(f"good-{algorithm}", algorithm)
    decision = judge(bank_of(key), lambda message: gpg.sign(message, key))
    assert decision.verdict is ACCEPT, decision.reasons
    signers = {each.key_id for each in decision.commits}
    if decision.merge_signature is not None:
        signers.add(decision.merge_signature.key_id)
    assert key.fingerprint in signers


def test_a_subkey_signs_for_its_primary_key(gpg: gnupg.Gnupg) -> None:
    key = gpg.with_subkey("lasting", expires="never", at="20260101T000000")
    assert judge_merge(bank_of(key), lambda message: gpg.sign(message, key)).verdict is ACCEPT


@JUDGES
def test_c9_an_expired_key(gpg: gnupg.Gnupg, judge: Judge) -> None:
    key = gpg.key("expired", expires="1y", at=gnupg.LONG_AGO)
    decision = judge(bank_of(key), lambda message: gpg.sign(message, key, at="20200201T000000"))
    assert_refused(decision, "sig_key_expired")


def test_c9_an_expired_subkey_of_a_key_that_goes_on(gpg: gnupg.Gnupg) -> None:
    key = gpg.with_subkey("ended", expires="1y", at=gnupg.LONG_AGO)
    decision = judge_merge(bank_of(key), lambda message: gpg.sign(message, key, at="20200201T000000"))
    assert_refused(decision, "sig_key_expired")


def test_c9_a_key_whose_time_in_the_policy_has_ended_has_no_grace(gpg: gnupg.Gnupg, good: gnupg.Key) -> None:
    bank = bank_of(good, notAfter="2026-11-20T00:00:00Z")
    assert_refused(judge_commit(bank, lambda message: gpg.sign(message, good)), "sig_key_expired")


@JUDGES
def test_c10_a_revoked_key(gpg: gnupg.Gnupg, judge: Judge) -> None:
    key = gpg.key("revoked")
    assert judge(bank_of(key), lambda message: gpg.sign(message, key)).verdict is ACCEPT
    assert_refused(judge(bank_of(gpg.revoked(key)), lambda message: gpg.sign(message, key)), "sig_key_revoked")


@JUDGES
def test_c11_a_digest_that_is_too_weak(gpg: gnupg.Gnupg, good: gnupg.Key, judge: Judge) -> None:
    decision = judge(bank_of(good), lambda message: gpg.sign(message, good, digest="SHA1"))
    assert_refused(decision, "weak_alg")


@pytest.mark.parametrize("algorithm", ["rsa1024", "rsa2048", "dsa2048"])
def test_c11_a_key_that_is_too_weak(gpg: gnupg.Gnupg, good: gnupg.Key, algorithm: str) -> None:
    """The linter keeps it out of a policy; and a policy that holds it all the same lets nobody in with it."""
    weak = gpg.key(f"weak-{algorithm}", algorithm)
    assert_refused(judge_merge(bank_of(good, weak), lambda message: gpg.sign(message, weak)), "weak_alg")
    bank = bank_of(good)
    assert_refused(bank.judge(bank.change_policy(bank_of(good, weak).spec)), "policy_lint")


@JUDGES
def test_c12_two_signatures_in_one_block(gpg: gnupg.Gnupg, good: gnupg.Key, judge: Judge) -> None:
    other = gpg.key("second")
    decision = judge(bank_of(good, other), lambda message: gpg.sign(message, good, other))
    assert_refused(decision, "multi_sig")


def test_a_key_that_the_policy_does_not_list_is_nobodys(gpg: gnupg.Gnupg, good: gnupg.Key) -> None:
    stranger = gpg.key("stranger")
    for bank in (bank_of(good), bank_of()):
        assert_refused(judge_merge(bank, lambda message: gpg.sign(message, stranger)), "sig_key_unknown")


def test_a_signature_over_other_bytes_is_none(gpg: gnupg.Gnupg, good: gnupg.Key) -> None:
    assert_refused(judge_merge(bank_of(good), lambda message: gpg.sign(message + b"x", good)), "sig_invalid")


def test_a_key_without_the_use_does_not_merge(gpg: gnupg.Gnupg, good: gnupg.Key) -> None:
    bank = bank_of(good, use=["commit"])
    assert_refused(judge_merge(bank, lambda message: gpg.sign(message, good)), "role")


def test_an_openpgp_key_never_approves(good: gnupg.Key) -> None:
    bank = estate.Estate(estate.targets())
    merge = bank.change_policy(bank_of(good, use=["approve"]).spec)
    assert_refused(bank.judge(merge), "policy_lint")
    assert bank.judge(bank.change_policy(bank_of(good).spec)).verdict is ACCEPT


def test_no_flipped_bit_of_a_signature_lets_the_merge_in(gpg: gnupg.Gnupg, good: gnupg.Key) -> None:
    """Also where the bytes are not under the signature: that would be another commit by nobody."""
    bank = bank_of(good)
    unsigned = bank.merge(bank.branch(LEDGER), signer="")
    payload = bank.store.commit(unsigned)
    blob = packets.dearmor(gpg.sign(payload, good))
    assert blob is not None
    asked = openpgp.Judge(policy.read_policy(bank.store, bank.genesis).openpgp_keys, gpgv.Gpgv(), estate.NOW)
    assert isinstance(openpgp.verify(payload, armor(blob), asked), signature.Verified)
    places = range(len(blob) * 8) if EXHAUSTIVE else random.Random(1).sample(range(len(blob) * 8), 60)
    for bit in places:
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        assert isinstance(openpgp.verify(payload, armor(bytes(flipped)), asked), model.Reason), bit


def armor(blob: bytes) -> bytes:
    text = base64.b64encode(blob)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((packets.BEGIN, b"", *lines, b"-----END PGP SIGNATURE-----", b""))


PROGRAMS = {
    "crashes": "kill -9 $$",
    "says nothing": "exit 0",
    "fails": "exit 3",
    "hangs": "sleep 60",
    "speaks another language": "echo '[GNUPG:] NEWSIG'; echo '[GNUPG:] ALLGOOD'",
    "repeats itself": "while :; do echo '[GNUPG:] GOODSIG 1 x'; done",
}


@pytest.mark.parametrize("how", ["is missing", *PROGRAMS])
def test_c74_a_verifier_that_fails_holds(gpg: gnupg.Gnupg, good: gnupg.Key, tmp_path: Path, how: str) -> None:
    program = tmp_path / "gpgv"
    if how in PROGRAMS:
        program.write_text(f"#!/bin/sh\n{PROGRAMS[how]}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    bank = bank_of(good, verifier=gpgv.Gpgv(str(program), timeout_s=1))
    decision = judge_merge(bank, lambda message: gpg.sign(message, good))
    assert (decision.verdict, estate.codes(decision)) == (HOLD, {"verifier_error"}), decision.reasons


def test_c74_a_verifier_that_lies_about_the_key_accepts_nothing(
    gpg: gnupg.Gnupg, good: gnupg.Key, tmp_path: Path
) -> None:
    """Who says that all is good, but by a key that the policy does not list."""
    program = tmp_path / "gpgv"
    other = "0" * 40
    program.write_text(
        f"#!/bin/sh\necho '[GNUPG:] NEWSIG'\necho '[GNUPG:] GOODSIG {other[:16]} x'\n"
        f"echo '[GNUPG:] VALIDSIG {other} 2026-11-24 1 0 4 0 22 8 00 {other}'\n"
    )
    program.chmod(0o755)
    bank = bank_of(good, verifier=gpgv.Gpgv(str(program)))
    assert_refused(judge_merge(bank, lambda message: gpg.sign(message, good)), "sig_key_unknown")


def test_a_good_answer_is_asked_for_once(gpg: gnupg.Gnupg, good: gnupg.Key, tmp_path: Path) -> None:
    verifier = gpgv.Gpgv()
    bank = bank_of(good, verifier=verifier)
    unsigned = bank.merge(bank.branch(LEDGER), signer="")
    merge = gnupg.sign_commit(bank, unsigned, gpg.sign(bank.store.commit(unsigned), good))
    bank.approve(merge, *estate.SRE)
    first = bank.judge(merge)
    verifier._program = str(tmp_path / "gone")
    assert bank.judge(merge) == first
    assert first.verdict is model.Verdict.ACCEPT
