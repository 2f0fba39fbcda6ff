from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue
from support import examples, objects, signing, ssh_keygen
from support.signing import NAMESPACE

from reconciler import model
from reconciler.admission import commit, statement
from reconciler.audit import record

BOB = signing.Key("bob")
BINDING = statement.Binding(
    repo="urn:uuid:6f1c0b1e-8d0a-4a7e-9a52-3f0c7d1b2a44",
    object_format="sha1",
    ref="refs/heads/main",
    head=model.Oid("a" * 40),
    effect=model.Digest("e" * 64),
    environments=("dev", "prod"),
)
TICKET = record.Ticket(uri="https://git.bank.example/ops/state/pulls/77", ticket="CHG0012345", security_impact="none")
APPROVAL = signing.approve(BOB, "bob", BINDING, change=TICKET)
PAYLOAD = statement.make_payload(signing.claim("bob", BINDING, change=TICKET))


def opened(envelope: bytes, namespace: str = NAMESPACE) -> statement.Statement:
    found = statement.open_envelope(envelope, namespace=namespace)
    assert isinstance(found, statement.Statement), found
    return found


def code(envelope: bytes, namespace: str = NAMESPACE) -> str:
    found = statement.open_envelope(envelope, namespace=namespace)
    return found.code if isinstance(found, model.Reason) else "good"


def sealed(document: JsonValue) -> str:
    """What is said of this document when it is well signed."""
    return code(signing.seal(BOB, model.canonical_json(document)))


def document(**predicate: JsonValue) -> dict[str, JsonValue]:
    """The approval with fields of its predicate changed; None takes one out."""
    whole: dict[str, JsonValue] = json.loads(PAYLOAD)
    said = whole["predicate"]
    assert isinstance(said, dict)
    whole["predicate"] = {name: value for name, value in (said | predicate).items() if value is not None}
    return whole


def test_an_approval_says_what_was_signed_and_by_which_key() -> None:
    found = opened(APPROVAL)
    assert found.binding == BINDING
    assert (found.decision, found.person, found.change) == ("approve", "bob", TICKET)
    assert found.issued_at == signing.ISSUED_AT
    assert found.expires_at == signing.ISSUED_AT + signing.LIFETIME
    assert found.key.key_id == BOB.key_id
    assert found.digest == model.sha256(PAYLOAD)


REVOKED = model.Digest("d" * 64)
DECISIONS: dict[str, signing.ClaimFields] = {
    "approve": {"decision": "approve", "ack_manual_merge": True},
    "reject": {"decision": "reject"},
    "revoke": {"decision": "revoke", "revokes": REVOKED},
    "emergency": {"decision": "emergency", "incident": "INC1", "ack_manual_merge": True},
    "review": {"decision": "review", "change": TICKET},
    "waive": {"decision": "waive", "gate": "trivy", "rule": "CVE-2026-1", "reason": "not reachable"},
}


@pytest.mark.parametrize("decision", DECISIONS)
def test_every_decision_comes_back_as_it_was_said(decision: str) -> None:
    said = signing.claim("bob", BINDING, **DECISIONS[decision])
    found = opened(signing.seal(BOB, statement.make_payload(said)))
    assert statement.Claim(**{name: getattr(found, name) for name in statement.Claim.model_fields}) == said


def test_an_approval_of_a_recovery_merge_carries_what_it_skips() -> None:
    binding = BINDING.model_copy(update={"skips": (model.Oid("b" * 40), model.Oid("a" * 40))})
    assert opened(signing.approve(BOB, "bob", binding)).binding == binding


def test_a_statement_without_expiry_is_read_for_the_judge_to_refuse() -> None:
    assert opened(signing.approve(BOB, "bob", BINDING, expires_at=None)).expires_at is None


def test_a_sha256_repository_has_longer_ids() -> None:
    binding = BINDING.model_copy(update={"object_format": "sha256", "head": "a" * 64})
    assert opened(signing.approve(BOB, "bob", binding)).binding == binding
    assert sealed(document(repo={"id": "x", "objectFormat": "sha256"})) == "envelope_invalid"


def test_stock_ssh_keygen_accepts_a_statement_of_ours_and_we_one_of_its(tmp_path: Path) -> None:
    blob = base64.b64decode(json.loads(APPROVAL)["signatures"][0]["sig"])
    signed = statement.pae(PAYLOAD)
    assert ssh_keygen.is_by(tmp_path, signed, blob, NAMESPACE, principal="bob", public_line=BOB.public_line)
    assert not ssh_keygen.is_by(tmp_path, signed + b"x", blob, NAMESPACE, principal="bob", public_line=BOB.public_line)
    armored = ssh_keygen.sign(BOB.write(tmp_path / "bob"), signed, NAMESPACE)
    stock = base64.b64decode(b"".join(armored.split(b"\n")[1:-2]))
    assert opened(statement.make_envelope(PAYLOAD, stock)) == opened(APPROVAL)


def test_the_encoding_before_signing_is_that_of_dsse() -> None:
    assert statement.pae(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"


def test_a_statement_wrapped_anew_is_the_same_statement() -> None:
    whole = json.loads(APPROVAL)
    again = json.dumps(dict(reversed(whole.items())), indent=2).encode()
    whole["signatures"][0]["keyid"] = "SHA256:somebody else"
    assert opened(again) == opened(json.dumps(whole).encode()) == opened(APPROVAL)


def test_namespaces_of_others_and_of_commits_do_not_serve() -> None:
    assert code(APPROVAL, "other@bank.example") == "namespace"
    assert code(signing.seal(BOB, PAYLOAD, namespace="git")) == "namespace"
    assert code(signing.seal(BOB, PAYLOAD, namespace="git"), "git") == "namespace"
    store = objects.ObjectStore()
    root = store.make_commit({"x": b"x"})
    oid = store.make_commit({"x": b"y"}, root, key=BOB)
    found = commit.parse_commit(oid, store.commit(oid))
    assert isinstance(found, commit.Commit)
    pasted = BOB.sign(found.payload, "git")
    assert code(statement.make_envelope(found.payload, pasted)) == "namespace"


def test_one_subject_and_it_is_the_effect() -> None:
    effect: dict[str, JsonValue] = {"name": "effect", "digest": {"sha256": "e" * 64}}
    assert sealed({**document(), "subject": [effect]}) == "good"
    others: list[JsonValue] = [
        [],
        [effect, effect],
        [{**effect, "name": "tree"}],
        [{"name": "effect"}],
        [{**effect, "digest": {"sha256": "e" * 64, "sha1": "e" * 40}}],
        [{**effect, "digest": {"sha256": "E" * 64}}],
        "effect",
    ]
    assert [sealed({**document(), "subject": subject}) for subject in others] == ["subject"] * len(others)


def test_two_forms_of_one_statement_are_refused() -> None:
    spaced = json.dumps(json.loads(PAYLOAD)).encode()
    twice = PAYLOAD.replace(b'"person":"bob"', b'"person":"eve","person":"bob"')
    escaped = PAYLOAD.replace(b'"bob"', b'"\\u0062ob"')
    for payload in (spaced, twice, escaped, PAYLOAD + b"\n", b"\xef\xbb\xbf" + PAYLOAD):
        assert payload != PAYLOAD
        assert code(signing.seal(BOB, payload)) == "envelope_invalid"


UNKNOWN: dict[str, dict[str, JsonValue]] = {
    "unknown field": {"note": "x"},
    "unknown decision": {"decision": "allow"},
    "field of another decision": {"incident": "INC1"},
    "float": {"ackManualMerge": 1.5},
    "number for a flag": {"ackManualMerge": 1},
    "text for a flag": {"ackManualMerge": "true"},
    "no flag": {"ackManualMerge": None},
    "no person": {"person": None},
    "empty person": {"person": ""},
    "newline in person": {"person": "bob\n"},
    "person as list": {"person": ["bob"]},
    "no change": {"change": None},
    "unknown field in change": {"change": {"cost": "1"}},
    "ref as number": {"ref": 1},
    "short head": {"head": "a" * 39},
    "head in capitals": {"head": "A" * 40},
    "environments as text": {"environments": "prod"},
    "empty skips": {"skips": []},
    "no issue date": {"issuedAt": None},
    "zone": {"issuedAt": "2026-11-23T09:00:00+00:00"},
    "milliseconds": {"issuedAt": "2026-11-23T09:00:00.000Z"},
    "leap second": {"issuedAt": "2026-11-23T23:59:60Z"},
    "no such day": {"expiresAt": "2026-02-30T09:00:00Z"},
    "empty expiry": {"expiresAt": ""},
    "object format": {"repo": {"id": "x", "objectFormat": "md5"}},
    "repository as text": {"repo": "x"},
    "revoke without digest": {"decision": "revoke", "ackManualMerge": None},
    "waiver without reason": {"decision": "waive", "ackManualMerge": None, "gate": "opa", "rule": "r"},
    "reject with a flag": {"decision": "reject"},
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_the_format_does_not_know_is_refused(case: str) -> None:
    assert sealed(document(**UNKNOWN[case])) == "envelope_invalid"


def test_other_versions_and_types_are_refused() -> None:
    whole = document()
    for name, value in (("_type", "https://in-toto.io/Statement/v0.1"), ("predicateType", "x"), ("extra", 1)):
        assert sealed({**whole, name: value}) == "envelope_invalid"
    others: list[JsonValue] = [None, [], "x", 1, [whole]]
    assert [sealed(other) for other in others] == ["envelope_invalid"] * len(others)


def test_a_payload_that_would_be_refused_is_not_made() -> None:
    for fields in (signing.ClaimFields(incident="INC1"), signing.ClaimFields(decision="revoke"),
                   signing.ClaimFields(decision="reject", ack_manual_merge=True)):  # fmt: skip
        with pytest.raises(ValueError, match="predicate"):
            signing.approve(BOB, "bob", BINDING, **fields)


def test_times_are_cut_to_seconds() -> None:
    at = datetime(2026, 11, 23, 9, 0, 0, 999_999, tzinfo=UTC)
    assert opened(signing.approve(BOB, "bob", BINDING, issued_at=at)).issued_at == signing.ISSUED_AT


def envelope(**changes: JsonValue) -> bytes:
    whole = json.loads(APPROVAL) | changes
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def test_an_envelope_has_one_good_signature_and_nothing_unknown() -> None:
    (signed,) = json.loads(APPROVAL)["signatures"]
    payload = json.loads(APPROVAL)["payload"]
    assert code(envelope()) == "good"
    for bad in (
        envelope(signatures=[]), envelope(signatures=[signed, signed]), envelope(signatures=None), envelope(signatures={}),
        envelope(signatures=[{**signed, "cert": "x"}]), envelope(signatures=[{**signed, "keyid": 1}]), envelope(x=1),
        envelope(signatures=[{"keyid": "x"}]), envelope(payloadType="text/plain"), envelope(payload=None),
        envelope(payload=payload + "=" * 4), envelope(payload=payload[:-4] + "\n" + payload[-4:]), envelope(payload="é"),
        envelope(payload=base64.b64encode(PAYLOAD + b" ").decode()), envelope(signatures=[{"sig": ""}]),
        APPROVAL.replace(b'"payloadType"', b'"payload":"","payloadType"'), b"", b"[]", b"null", b"NaN", b"\xff",
    ):  # fmt: skip
        assert code(bad) == "envelope_invalid", bad
    assert code(APPROVAL + b" " * statement.MAX_BYTES) == "limit"


def test_weak_keys_hold_an_approval_and_do_not_reject_the_merge(tmp_path: Path) -> None:
    armored = ssh_keygen.sign(ssh_keygen.make_key(tmp_path, "ecdsa", 521), statement.pae(PAYLOAD), NAMESPACE)
    blob = base64.b64decode(b"".join(armored.split(b"\n")[1:-2]))
    found = statement.open_envelope(statement.make_envelope(PAYLOAD, blob), namespace=NAMESPACE)
    assert isinstance(found, model.Reason)
    assert (found.code, "nistp521" in found.message) == ("envelope_invalid", True)


@pytest.mark.parametrize(
    "hostile",
    [
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"9" * 60_000,
        b'{"payload":' + b"9" * 5_000 + b"}",
        b'"\\ud800"',
        b'{"\\ud800":"\\udfff"}',
        b"-Infinity",
        b"1e999",
    ],
)
def test_hostile_json_gets_a_reason_outside_and_inside(hostile: bytes) -> None:
    assert code(hostile) == "envelope_invalid"
    assert code(signing.seal(BOB, hostile[:40_000])) == "envelope_invalid"


def test_flipping_any_bit_never_gives_another_statement() -> None:
    good = opened(APPROVAL)
    for bit in range(8 * len(APPROVAL)):
        flipped = bytearray(APPROVAL)
        flipped[bit // 8] ^= 1 << bit % 8
        found = statement.open_envelope(bytes(flipped), namespace=NAMESPACE)
        # Only the hint in `keyid` is free: it decides nothing.
        assert isinstance(found, model.Reason) or found == good, bit


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.sampled_from([*json.loads(PAYLOAD)["predicate"], "skips", "revokes", "incident", "extra"])


@settings(max_examples=examples.at_least(150), deadline=None)
@given(_FIELDS, _JSON)
def test_any_value_in_any_field_is_read_or_refused(field: str, value: JsonValue) -> None:
    whole = document()
    predicate = whole["predicate"]
    assert isinstance(predicate, dict)
    predicate[field] = value
    payload = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert code(signing.seal(BOB, payload.encode(errors="surrogatepass"))) in {"good", "envelope_invalid"}


@settings(max_examples=examples.at_least(100), deadline=None)
@given(st.binary(max_size=200))
def test_hostile_bytes_are_no_envelope_and_never_raise(noise: bytes) -> None:
    assert code(noise) == "envelope_invalid"
    assert code(signing.seal(BOB, noise)) == "envelope_invalid"
