"""A claim, signed: made by stock `ssh-keygen`, opened again by our own verifier, and put where the daemon finds it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from reconciler import errors, model
from reconciler.admission import policy, statement
from reconciler.cli import candidates, clone, keys, printing
from reconciler.git import writing

SKEW = timedelta(seconds=1)  # whole seconds in a statement: never from the future


def seal(rules: policy.Policy, key: Path, claim: statement.Claim) -> bytes:
    """The signed envelope, opened again by our own verifier before anybody gets it.

    Raises: ConfigError(key | envelope_invalid).
    """
    try:
        payload = statement.make_payload(claim)
    except ValueError as exc:
        raise errors.ConfigError("envelope_invalid", f"the statement cannot be made: {exc}") from exc
    envelope = statement.make_envelope(
        payload, keys.sign(key, statement.pae(payload), rules.namespace), keys.key_id(key)
    )
    opened = statement.open_envelope(envelope, namespace=rules.namespace)
    if isinstance(opened, model.Reason) or opened.binding != claim.binding:
        why = opened.message if isinstance(opened, model.Reason) else "it binds something else"
        raise errors.ConfigError("envelope_invalid", f"our own verifier refuses the signature: {why}", where=str(key))
    return envelope


def digest(envelope: bytes, rules: policy.Policy) -> model.Digest | str:
    """What `--revoke` takes."""
    opened = statement.open_envelope(envelope, namespace=rules.namespace)
    return opened.digest if isinstance(opened, statement.Statement) else "-"


def keep(here: clone.Clone, head: model.Oid, envelope: bytes, file: Path | None, *, push: bool) -> None:
    """Into this file, else under its ref, which `push` brings to the remote."""
    if file is not None:
        file.write_bytes(envelope)
        printing.out(f"written      {file}")
        return
    ref = writing.write_approval(here.path, head, envelope)
    printing.out(f"written      {ref}")
    if push and here.remote:
        writing.push_ref(here.path, here.remote, ref)
        printing.out(f"pushed       {here.remote}")
    elif push:
        printing.say("kept here: this repository is the watched one")
    elif here.remote:
        printing.say(f"not pushed: git push {here.remote} {ref}")


def sign(
    here: clone.Clone, rules: policy.Policy, claim: statement.Claim, key: Path, file: Path | None, *, push: bool
) -> None:
    envelope = seal(rules, key, claim)
    printing.out(f"statement    {digest(envelope, rules)}")
    keep(here, claim.binding.head, envelope, file, push=push)


def bound(found: candidates.Candidate) -> statement.Binding:
    """Raises: PermanentError(not_readable)."""
    if found.judged.binding is not None:
        return found.judged.binding
    why = next(iter(found.judged.decision.reasons), model.Reason(code="unknown", message="not judged"))
    message = f"there is nothing to sign: {why.message}"
    raise errors.PermanentError("not_readable", message, where=why.where, fix=why.fix)
