"""Signed statements: an in-toto Statement v1 in a DSSE envelope, one SSH signature (trust.md 3.1; DSSE v1 protocol).

Not here: whose key it is, whether the binding is the one computed, and whether it still counts (`ballot.py`).
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Annotated, Literal

import pydantic
from pydantic import JsonValue
from pydantic.alias_generators import to_camel

from reconciler import model
from reconciler.admission import signature
from reconciler.audit import record

MAX_BYTES = 1 << 16
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://reconciler.example/change/v1"
COMMIT_NAMESPACE = "git"  # never one of statements: a commit's signature must not serve as an approval

Decision = Literal["approve", "reject", "revoke", "emergency", "review", "waive"]


class Binding(model.Value):
    """What a statement is about. It counts for a merge when this equals what the daemon computed: no nonce, no base, no policy."""

    repo: str
    object_format: str
    ref: str
    head: model.Oid
    effect: model.Digest
    environments: tuple[str, ...]
    skips: tuple[model.Oid, ...] = ()  # of a recovery merge: what it passes over, exactly


class Claim(model.Value):
    """What a person says, before it is signed. Which fields a decision knows stands at the predicates below."""

    binding: Binding
    decision: Decision
    person: str  # as claimed; the key decides who it was
    change: record.Ticket = record.Ticket()
    ack_manual_merge: bool = False
    issued_at: model.Time  # in whole seconds
    expires_at: model.Time | None = None
    revokes: model.Digest | None = None  # revoke: the `digest` of the statement that it takes back
    incident: str = ""  # emergency
    gate: str = ""  # waive: the finding of this gate
    rule: str = ""  # waive: under this rule of it
    reason: str = ""  # waive


class Statement(Claim):
    """A claim under a good signature. Equal digests are one statement, however often it was wrapped."""

    digest: model.Digest  # of the payload
    key: signature.Verified


def pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def make_payload(claim: Claim) -> bytes:
    """The canonical JSON to be signed, through `pae`.

    Raises: ValueError for a field that the decision does not know or lacks: what `open_envelope` would refuse.
    """
    document: dict[str, JsonValue] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "effect", "digest": {"sha256": claim.binding.effect}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": _predicate(claim),
    }
    payload = model.canonical_json(document)
    _Document.model_validate_json(payload)
    return payload


def make_envelope(payload: bytes, blob: bytes, key_id: str = "") -> bytes:
    """`blob` is the binary SSHSIG over `pae(payload)`. The key's name is a hint to people and decides nothing."""
    signed: dict[str, JsonValue] = {"sig": base64.b64encode(blob).decode()}
    if key_id:
        signed["keyid"] = key_id
    envelope: dict[str, JsonValue] = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [signed],
    }
    return model.canonical_json(envelope)


def open_envelope(envelope: bytes, *, namespace: str) -> Statement | model.Reason:
    """Check the signature, then read the payload, strictly. Never raises on hostile bytes.

    Reasons: limit, envelope_invalid (also for a signature that is not good), namespace, weak_alg, subject.
    """
    if len(envelope) > MAX_BYTES:
        return model.Reason(code="limit", message=f"the envelope has more than {MAX_BYTES} bytes")
    if namespace == COMMIT_NAMESPACE:
        return model.Reason(code="namespace", message="statements are never signed for the namespace of commits")
    try:
        payload, blob = _unwrap(envelope)
        key = signature.verify_blob(pae(payload), blob, namespace=namespace)
        if isinstance(key, model.Reason):
            return key.model_copy(update={"code": _HOLDS.get(key.code, key.code), "where": "signatures.0"})
        return _read(payload, key)
    except _RefusedError as exc:
        return exc.reason


# An approval that is not good holds the merge; the codes of commits would reject it (trust.md 2.4).
_HOLDS = {"sig_invalid": "envelope_invalid", "weak_alg": "envelope_invalid", "multi_sig": "envelope_invalid"}


class _RefusedError(Exception):
    """Never leaves this module."""

    def __init__(self, message: str, where: str, code: str = "envelope_invalid") -> None:
        super().__init__(message)
        self.reason = model.Reason(code=code, message=message, where=where)


# --- the envelope ---------------------------------------------------------------------------------------------------


class _Strict(model.Value):
    """No coercion, no unknown field; camelCase as in the payload."""

    model_config = pydantic.ConfigDict(strict=True, alias_generator=to_camel, populate_by_name=False)


class _Signature(_Strict):
    sig: str
    keyid: str = ""


class _Envelope(_Strict):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"]
    signatures: Annotated[tuple[_Signature, ...], pydantic.Field(min_length=1, max_length=1)]


def _unwrap(envelope: bytes) -> tuple[bytes, bytes]:
    """Payload and signature blob. The envelope need not be canonical: what is inside is bound, its wrapping is not."""
    _load(envelope, "envelope")
    try:
        read = _Envelope.model_validate_json(envelope)
    except pydantic.ValidationError as exc:
        raise _RefusedError(_findings(exc), "envelope") from exc
    return _decode(read.payload, "payload"), _decode(read.signatures[0].sig, "signatures.0.sig")


def _decode(text: str, where: str) -> bytes:
    try:
        content = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError as exc:
        raise _RefusedError("not base64", where) from exc
    if base64.b64encode(content).decode() != text:
        raise _RefusedError("not the canonical base64 of its bytes", where)
    return content


def _load(content: bytes, where: str) -> JsonValue:
    """JSON without duplicate keys, NaN and infinities; too deep a nesting is refused like any other nonsense."""
    try:
        return _DECODER.decode(content.decode())  # type: ignore[no-any-return]
    except (ValueError, RecursionError) as exc:
        raise _RefusedError(f"not strict JSON: {exc}"[:200], where) from exc


def _distinct(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(text: str) -> JsonValue:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_constant)


def _findings(exc: pydantic.ValidationError) -> str:
    """Where and what, without the values."""
    found = exc.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in found[:10])


# --- the payload: one class for what each decision knows ------------------------------------------------------------

_Instant = Annotated[str, pydantic.Field(pattern=r"^[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z$")]
_Text = Annotated[str, pydantic.Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]  # one line
_Sha256 = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]
_Oid = Annotated[str, pydantic.Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]


class _Repo(_Strict):
    id: _Text
    object_format: Literal["sha1", "sha256"]


class _Change(_Strict):
    uri: str = ""
    ticket: str = ""
    risk: str = ""
    reason: str = ""
    security_impact: str = ""


class _Predicate(_Strict):
    """What every decision knows. No expiry is the code `ttl`, which is the judge's to say: it depends on the policy."""

    repo: _Repo
    ref: _Text
    head: _Oid
    environments: tuple[_Text, ...]
    skips: Annotated[tuple[_Oid, ...], pydantic.Field(min_length=1)] = ()
    person: _Text
    change: _Change = _Change()
    issued_at: _Instant
    expires_at: _Instant = ""

    @pydantic.model_validator(mode="after")
    def _ids_fit_the_format(self) -> _Predicate:
        digits = {"sha1": 40, "sha256": 64}[self.repo.object_format]
        if any(len(oid) != digits for oid in (self.head, *self.skips)):
            raise ValueError(f"object ids of {self.repo.object_format} have {digits} digits")
        return self


class _Approve(_Predicate):
    decision: Literal["approve"]
    change: _Change
    ack_manual_merge: bool


class _Reject(_Predicate):
    decision: Literal["reject", "review"]


class _Revoke(_Predicate):
    decision: Literal["revoke"]
    revokes: _Sha256


class _Emergency(_Predicate):
    decision: Literal["emergency"]
    change: _Change
    ack_manual_merge: bool
    incident: str = ""  # its lack is the code `emergency_scope`, where the policy asks for one


class _Waive(_Predicate):
    decision: Literal["waive"]
    gate: _Text
    rule: _Text
    reason: _Text


class _SubjectDigest(_Strict):
    effect: _Sha256 = pydantic.Field(alias="sha256")


class _Subject(_Strict):
    name: Literal["effect"]
    digest: _SubjectDigest


class _Document(_Strict):
    kind: Literal["https://in-toto.io/Statement/v1"] = pydantic.Field(alias="_type")
    subject: Annotated[tuple[_Subject, ...], pydantic.Field(min_length=1, max_length=1)]
    predicate_type: Literal["https://reconciler.example/change/v1"]
    predicate: Annotated[_Approve | _Reject | _Revoke | _Emergency | _Waive, pydantic.Field(discriminator="decision")]


_OWN: dict[Decision, tuple[str, ...]] = {
    "approve": ("ack_manual_merge",),
    "reject": (),
    "revoke": ("revokes",),
    "emergency": ("ack_manual_merge", "incident"),
    "review": (),
    "waive": ("gate", "rule", "reason"),
}


def _read(payload: bytes, key: signature.Verified) -> Statement:
    document = _load(payload, "payload")
    try:
        canonical = model.canonical_json(document)
    except (ValueError, RecursionError) as exc:
        raise _RefusedError("the payload has no canonical form", "payload") from exc
    if canonical != payload:
        raise _RefusedError("the payload is not canonical JSON (RFC 8785)", "payload")
    try:
        read = _Document.model_validate_json(payload)
        return _statement(read, model.sha256(payload), key)
    except pydantic.ValidationError as exc:
        of_subject = any(each["loc"][:1] == ("subject",) for each in exc.errors())
        raise _RefusedError(_findings(exc), "payload", "subject" if of_subject else "envelope_invalid") from exc
    except ValueError as exc:  # The 31st of February.
        raise _RefusedError("a time that no calendar has", "predicate") from exc


def _statement(document: _Document, digest: model.Digest, key: signature.Verified) -> Statement:
    said = document.predicate
    binding = Binding(
        repo=said.repo.id,
        object_format=said.repo.object_format,
        ref=said.ref,
        head=model.Oid(said.head),
        effect=model.Digest(document.subject[0].digest.effect),
        environments=said.environments,
        skips=tuple(model.Oid(oid) for oid in said.skips),
    )
    own = {name: getattr(said, name) for name in _OWN[said.decision]}
    return Statement(
        binding=binding,
        decision=said.decision,
        person=said.person,
        change=record.Ticket(**vars(said.change)),
        issued_at=_instant(said.issued_at),
        expires_at=_instant(said.expires_at) if said.expires_at else None,
        digest=digest,
        key=key,
        **own,
    )


def _instant(text: str) -> datetime:
    """Of a text that has the form of `_Instant`, of all that ISO 8601 knows. Raises: ValueError."""
    return datetime.fromisoformat(text)


def _print_instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _predicate(claim: Claim) -> dict[str, JsonValue]:
    binding = claim.binding
    said: dict[str, JsonValue] = {
        "decision": claim.decision,
        "repo": {"id": binding.repo, "objectFormat": binding.object_format},
        "ref": binding.ref,
        "head": binding.head,
        "environments": list(binding.environments),
        "person": claim.person,
        "change": {to_camel(name): text for name, text in claim.change.model_dump().items()},
        "issuedAt": _print_instant(claim.issued_at),
    }
    if claim.decision in {"approve", "emergency"} or claim.ack_manual_merge:
        said["ackManualMerge"] = claim.ack_manual_merge
    if binding.skips:
        said["skips"] = list(binding.skips)
    if claim.expires_at is not None:
        said["expiresAt"] = _print_instant(claim.expires_at)
    own = {"revokes": claim.revokes, "incident": claim.incident, "gate": claim.gate, "rule": claim.rule}
    said |= {name: text for name, text in (*own.items(), ("reason", claim.reason)) if text}
    return said
