"""SSH keys that exist in this process only: who they are follows from their name, and no process is started to sign."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, Unpack

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from reconciler import model
from reconciler.admission import signature, statement
from reconciler.audit import record

NAMESPACE = "change-approval@bank.example"  # of the policy's example: trust.md 4.1
ISSUED_AT = datetime(2026, 11, 23, 9, tzinfo=UTC)
LIFETIME = timedelta(days=7)


class Key:
    """An Ed25519 key. Equal names are equal keys, in every process and on every machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._private = ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())

    @cached_property
    def blob(self) -> bytes:
        raw = self._private.public_key().public_bytes_raw()
        return signature.ssh_string(b"ssh-ed25519") + signature.ssh_string(raw)

    @cached_property
    def public_line(self) -> str:
        public = self._private.public_key()
        line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return f"{line.decode()} {self.name}"

    @cached_property
    def key_id(self) -> str:
        return signature.fingerprint(self.blob)

    def sign(self, message: bytes, namespace: str) -> bytes:
        """The binary SSHSIG blob, byte for byte what `ssh-keygen -Y sign` makes: Ed25519 draws no random numbers."""
        raw = self._private.sign(signature.signed_bytes(message, namespace))
        own = signature.ssh_string(b"ssh-ed25519") + signature.ssh_string(raw)
        parts = (self.blob, namespace.encode(), b"", b"sha512", own)
        return b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(signature.ssh_string, parts))

    def armored(self, message: bytes, namespace: str) -> bytes:
        return signature.armor(self.sign(message, namespace))

    def write(self, path: Path) -> Path:
        """An OpenSSH private key file for ssh-keygen and git, its `.pub` beside it."""
        private = self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        path.touch(mode=0o600)
        path.write_bytes(private)
        path.with_name(path.name + ".pub").write_text(self.public_line + "\n")
        return path


def sign_commit(unsigned: bytes, key: Key, *, namespace: str = statement.COMMIT_NAMESPACE) -> bytes:
    """The raw commit with a gpgsig header, as `git commit -S` writes it with gpg.format=ssh."""
    return insert_signature(unsigned, key.armored(unsigned, namespace))


def insert_signature(unsigned: bytes, armored: bytes, header: bytes = b"gpgsig") -> bytes:
    """Any armor, good or not: each line after the first is indented by a space."""
    fields, _, message = unsigned.partition(b"\n\n")
    indented = armored.removesuffix(b"\n").replace(b"\n", b"\n ")
    return fields + b"\n" + header + b" " + indented + b"\n\n" + message


class ClaimFields(TypedDict, total=False):
    """What a test may say about a statement; the rest is an approval, issued at ISSUED_AT and good for a week."""

    decision: statement.Decision
    change: record.Ticket
    ack_manual_merge: bool
    issued_at: datetime
    expires_at: datetime | None
    revokes: model.Digest | None
    incident: str
    gate: str
    rule: str
    reason: str


def claim(person: str, binding: statement.Binding, **fields: Unpack[ClaimFields]) -> statement.Claim:
    issued_at = fields.get("issued_at", ISSUED_AT)
    defaults = ClaimFields(decision="approve", issued_at=issued_at, expires_at=issued_at + LIFETIME)
    return statement.Claim(person=person, binding=binding, **{**defaults, **fields})


def approve(
    key: Key,
    person: str,
    binding: statement.Binding,
    *,
    namespace: str = NAMESPACE,
    **fields: Unpack[ClaimFields],
) -> bytes:
    """The envelope with this person's statement, an approval unless `decision` says otherwise."""
    return seal(key, statement.make_payload(claim(person, binding, **fields)), namespace=namespace)


def document(person: str, binding: statement.Binding) -> dict[str, Any]:
    """The payload of an approval, to be changed at will."""
    made: dict[str, Any] = json.loads(statement.make_payload(claim(person, binding)))
    return made


def seal_document(key: Key, payload: dict[str, Any]) -> bytes:
    """Canonical and well signed, whatever stands in it."""
    return seal(key, model.canonical_json(payload))


def seal(key: Key, payload: bytes, *, namespace: str = NAMESPACE) -> bytes:
    """An envelope around any payload, well formed or not."""
    return statement.make_envelope(payload, key.sign(statement.pae(payload), namespace), key.key_id)
