"""What gpgv's status lines mean, on recorded outputs; and what the packets say before it is asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import errors, model, ports
from reconciler.admission import openpgp, packets, signature

SIGNER = "08F3B0129E54B5378F5DEB12C259928A05F2468F"
OTHER = "3AAB02C7444D0F920F9D612BCF6E7B189271143A"
KEYS = {SIGNER: packets.Key(SIGNER, b"", frozenset({SIGNER}))}
SEEN = datetime(2026, 11, 24, tzinfo=UTC)
CONSIDERED = f"KEY_CONSIDERED {SIGNER} 0"
SIG_ID = "SIG_ID 2p7St0znRrIBzbPbCs6gpZL7hdM 2026-11-24 1795522328"
GOODSIG = "GOODSIG C259928A05F2468F ed <e@x>"
VALIDSIG = f"VALIDSIG {SIGNER} 2026-11-24 1795522328 0 4 0 22 8 00 {SIGNER}"
GOOD = ("NEWSIG", CONSIDERED, SIG_ID, CONSIDERED, GOODSIG, VALIDSIG)  # gpgv 2.2.40, as recorded


def read(*lines: str, code: int = 0, at: datetime = SEEN) -> signature.Verified | model.Reason:
    status = "".join(f"[GNUPG:] {line}\n" for line in lines).encode()
    return openpgp.read_status(ports.Answer(code, status), KEYS, at)


def refused(*lines: str, code: int = 0, at: datetime = SEEN) -> str:
    found = read(*lines, code=code, at=at)
    assert isinstance(found, model.Reason)
    return found.code


def replaced(old: str, new: str) -> tuple[str, ...]:
    assert any(old in line for line in GOOD)
    return tuple(line.replace(old, new) for line in GOOD)


@pytest.mark.parametrize("trust", [(), ("TRUST_UNDEFINED 0 pgp",), ("PROGRESS x 1 2 3",)])
def test_a_good_signature(trust: tuple[str, ...]) -> None:
    found = read(*GOOD, *trust)
    assert found == signature.Verified(key_id=SIGNER, algorithm="openpgp-eddsa-sha256")


EXPIRED = (
    "NEWSIG",
    CONSIDERED,
    "KEYEXPIRED 1609372800",
    SIG_ID,
    CONSIDERED,
    "EXPKEYSIG C259928A05F2468F exp <x@x>",
    VALIDSIG,
)
REVOKED = ("NEWSIG", CONSIDERED, SIG_ID, CONSIDERED, "REVKEYSIG C259928A05F2468F rev <r@x>", VALIDSIG)
WEAK = ("NEWSIG", CONSIDERED, f"ERRSIG C259928A05F2468F 22 2 00 1795522328 5 {SIGNER}")
UNKNOWN = ("NEWSIG", f"ERRSIG C259928A05F2468F 22 8 00 1795522328 9 {SIGNER}", "NO_PUBKEY C259928A05F2468F")
BAD = ("NEWSIG", CONSIDERED, "BADSIG C259928A05F2468F ed <e@x>")


@pytest.mark.parametrize(
    ("lines", "code", "said"),
    [
        (EXPIRED, 0, "sig_key_expired"),
        (REVOKED, 0, "sig_key_revoked"),
        (WEAK, 2, "weak_alg"),
        (UNKNOWN, 2, "sig_key_unknown"),
        (BAD, 1, "sig_invalid"),
        ((*GOOD, *GOOD), 0, "multi_sig"),
        ((*GOOD, *BAD), 1, "multi_sig"),
        (GOOD, 2, "sig_invalid"),
        (GOOD[:-1], 0, "sig_invalid"),
        ((*GOOD[:4], VALIDSIG), 0, "sig_invalid"),
        ((*GOOD, GOODSIG), 0, "sig_invalid"),
        ((*GOOD, VALIDSIG), 0, "sig_invalid"),
        ((*GOOD, "KEYEXPIRED 1609372800"), 0, "sig_invalid"),
        ((*GOOD, "KEYREVOKED"), 0, "sig_invalid"),
        ((*GOOD, "NODATA 4"), 0, "sig_invalid"),
        (("NODATA 4",), 1, "sig_invalid"),
        (replaced("22 8 00", "22 2 00"), 0, "weak_alg"),
        (replaced("22 8 00", "17 8 00"), 0, "weak_alg"),
        (replaced("22 8 00", "22 8 01"), 0, "sig_invalid"),
        (replaced(f"VALIDSIG {SIGNER}", f"VALIDSIG {OTHER}"), 0, "weak_alg"),
        (replaced(f"00 {SIGNER}", f"00 {OTHER}"), 0, "sig_key_unknown"),
        (replaced(f" 00 {SIGNER}", ""), 0, "sig_invalid"),
    ],
)
def test_anything_else_is_refused_by_name(lines: tuple[str, ...], code: int, said: str) -> None:
    assert refused(*lines, code=code) == said


def test_a_key_that_expired_after_the_observation_was_good_then() -> None:
    ended = datetime.fromtimestamp(1609372800, UTC)
    assert isinstance(read(*EXPIRED, at=ended - timedelta(milliseconds=1)), signature.Verified)
    assert refused(*EXPIRED, at=ended) == "sig_key_expired"
    assert refused(*EXPIRED[:2], *EXPIRED[3:], at=ended - timedelta(days=1)) == "sig_key_expired"
    assert refused("KEYEXPIRED 9999999999999", *EXPIRED, at=ended) == "sig_key_expired"


@pytest.mark.parametrize("status", [b"", b"\n", b"gpgv: ok\n", b"[GNUPG:]\n", b"[GNUPG:] ALLGOOD\n", b"\xff\n"])
@pytest.mark.parametrize("code", [0, 2])
def test_what_is_no_answer_holds(status: bytes, code: int) -> None:
    with pytest.raises(errors.TransientError) as held:
        openpgp.read_status(ports.Answer(code, status), KEYS, SEEN)
    assert held.value.code == "verifier_error"


@given(st.lists(st.sampled_from((*GOOD, *EXPIRED, *REVOKED, *WEAK, *UNKNOWN, "TRUST_FULLY 0")), max_size=9))
def test_no_order_or_mixture_of_lines_makes_a_good_one(lines: list[str]) -> None:
    """But the good one's own lines, in whatever order: what each says does not depend on it."""
    try:
        found = read(*lines)
    except errors.TransientError:
        return
    plain = sorted(line.split(" ")[0] for line in lines if line not in {CONSIDERED, SIG_ID, "TRUST_FULLY 0"})
    assert isinstance(found, model.Reason) or plain == ["GOODSIG", "NEWSIG", "VALIDSIG"]


def packet(tag: int, body: bytes) -> bytes:
    return bytes((0xC0 | tag, len(body))) + body


def old(tag: int, body: bytes) -> bytes:
    return bytes((0x80 | tag << 2, len(body))) + body


ISSUER = b"\x09\x10" + bytes.fromhex(SIGNER[-16:])
NUMBERS = b"\0\x01\x01\0\x02\x03"


def body(unhashed: bytes = ISSUER, numbers: bytes = NUMBERS, start: bytes = b"\4\0\x16\x08") -> bytes:
    return start + b"\0\x02\x01\x02" + len(unhashed).to_bytes(2, "big") + unhashed + b"xx" + numbers


FINE = body()


@pytest.mark.parametrize("framed", [packet, old])
def test_a_signature_of_an_allowed_kind_is_asked_about(framed: Callable[[int, bytes], bytes]) -> None:
    by_fingerprint = b"\x16\x21\x04" + bytes.fromhex(SIGNER)
    for unhashed, issuers in ((ISSUER, {SIGNER[-16:]}), (b"", set()), (by_fingerprint, {SIGNER})):
        found = packets.look_at(framed(2, body(unhashed)))
        assert isinstance(found, packets.Signature)
        assert set(found.issuers) == issuers


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (packet(2, FINE) * 2, "multi_sig"),
        (packet(2, FINE) + packet(13, b"x"), "multi_sig"),
        (packet(6, FINE), "sig_invalid"),
        (packet(2, b"\3" + FINE[1:]), "sig_invalid"),
        (packet(2, b"\6" + FINE[1:]), "sig_invalid"),
        (packet(2, body(start=b"\4\1\x16\x08")), "sig_invalid"),
        (packet(2, body(start=b"\4\0\x16\x02")), "weak_alg"),
        (packet(2, body(start=b"\4\0\x11\x08")), "weak_alg"),
        (packet(2, b"\4"), "weak_alg"),
        (packet(2, b"\4\0\x16\x08"), "sig_invalid"),
        (packet(2, body(b"\x05\x14abcd")), "sig_invalid"),
        (packet(2, body(ISSUER + b"\0")), "sig_invalid"),
        (packet(2, body(numbers=NUMBERS[:3])), "sig_invalid"),
        (packet(2, body(numbers=NUMBERS * 2)), "sig_invalid"),
        (packet(2, body(numbers=b"\0\x02\x01\0\x02\x03")), "sig_invalid"),
        (packet(2, body(numbers=b"\0\0\0\x02\x03")), "sig_invalid"),
        (b"\xc2\xff\0\0\0" + bytes((len(FINE),)) + FINE, "sig_invalid"),
        (b"\x89\0" + bytes((len(FINE),)) + FINE, "sig_invalid"),
        (packet(2, FINE)[:-1], "sig_invalid"),
        (b"", "sig_invalid"),
        (b"\x00", "sig_invalid"),
        (b"\xc2\xe1" + FINE, "sig_invalid"),
        (b"\x8b" + FINE, "sig_invalid"),
    ],
)
def test_what_the_packets_say_against_a_signature(blob: bytes, said: str) -> None:
    reason = packets.look_at(blob)
    assert isinstance(reason, model.Reason)
    assert reason.code == said


@given(st.binary(max_size=200))
def test_no_bytes_break_the_packets(blob: bytes) -> None:
    packets.look_at(blob)
    with pytest.raises(errors.ConfigError):
        packets.read_key(blob.hex())
