"""What should be there, ready to be compared: manifests without the fields left to others, with their order and digest."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import JsonValue

from reconciler import model, ports
from reconciler.targets.openshift import document, masking
from reconciler.targets.openshift.connection import comparing
from reconciler.targets.openshift.desired import checking, kinds, manifests
from reconciler.targets.openshift.observing import proposing

# How long a comparison may rest on what was resolved before. Only keyed digests are kept, and what is sent is resolved anew.
SECRETS_FOR_S = 30.0
VAULT_FOR_S = (
    300.0  # A vault serves many: fifty secrets would be a hundred requests a minute. Vault's own agent reads so often.
)
SEALED = "hmac-sha256:"


@dataclass(frozen=True)
class Wants:
    """Everything that one state declares or gives back. `impossible`: what cannot be given back, and why."""

    by_key: Mapping[model.Key, proposing.Want]
    impossible: Mapping[model.Key, model.Reason]


class _Made(NamedTuple):
    """A want, and all that it was made from but its secrets."""

    body: Mapping[str, JsonValue]
    under: tuple[object, ...]
    want: proposing.Want


class Reader:
    """Keeps the last reading of one target: a look every second must not read it every time."""

    def __init__(self, secrets: ports.Secrets, clock: ports.Clock, sealing_key: bytes) -> None:
        self._secrets, self._clock, self._key = secrets, clock, sealing_key
        self._last: tuple[object, Wants] | None = None
        self._until = 0.0
        self._made: dict[model.Key, _Made] = {}  # so that what did not change compares at once

    def read(self, wanted: model.Wanted) -> Wants:
        """Raises: as `manifests.read` and `manifests.resolve`."""
        today = self._clock.now().date().isoformat()
        more = (wanted.given_back, wanted.spec) if isinstance(wanted, model.Desired) else ()
        state = (wanted.digest, wanted.mode, wanted.target, wanted.ignore, today, more)
        now = self._clock.monotonic_s()
        if self._last is None or self._last[0] != state or now >= self._until:
            found = manifests.read(wanted)
            self._last = (state, self._read(wanted, found, today))
            self._until = now + (VAULT_FOR_S if _asks_a_vault(found) else SECRETS_FOR_S)
        return self._last[1]

    def _read(self, wanted: model.Wanted, found: Sequence[manifests.Manifest], today: str) -> Wants:
        options = document.options(wanted)
        declared = {each.key: each for each in found if each.source}
        orders = kinds.orders({k: m.body for k, m in declared.items()}, {k: m.source for k, m in declared.items()})
        before, self._made = self._made, {}
        wants: dict[model.Key, proposing.Want] = {}
        impossible: dict[model.Key, model.Reason] = {}
        for each in found:
            if not each.source and "kind" not in each.body:
                message = f"{each.key}: of what it was only the digest is known"
                impossible[each.key] = model.Reason(code="no_way_back", message=message)
                continue
            rules = wanted.ignore if each.source else ()
            order = orders[each.key] if each.source else kinds.order(each.body)
            under = (each.source, rules, today if rules else "", order, options.foreign_items, options.replace)
            made = before.get(each.key)
            if made is None or made.body is not each.body or made.under != under or masking.holds_secrets(each.body):
                made = _Made(each.body, under, self._want(each, rules, today, order, options))
            self._made[each.key], wants[each.key] = made, made.want
        return Wants(wants, impossible)

    def _want(
        self,
        each: manifests.Manifest,
        rules: Sequence[model.Ignore],
        today: str,
        order: int,
        options: document.Options,
    ) -> proposing.Want:
        body = comparing.without_ignored(each.body, each.key, rules, today)
        return proposing.Want(
            key=each.key,
            body=body,
            digest=self._digest(each, body),
            order=order,
            source=each.source,
            gives_back=not each.source,
            removes_foreign=options.foreign_items == "remove",
            is_replaceable=each.key in options.replace and kinds.replaceable(each.body),
        )

    def _digest(self, manifest: manifests.Manifest, body: dict[str, Any]) -> model.Digest:
        if not manifest.source or not masking.holds_secrets(manifest.body):
            return comparing.digest(body)
        resolved = manifests.resolve(manifest._replace(body=body), self._secrets)
        return comparing.digest(masking.seal(resolved, self._key))


def _asks_a_vault(found: Iterable[manifests.Manifest]) -> bool:
    declared = (each.body for each in found if each.source)
    return any(text.startswith("vault:") for body in declared for _, text in checking.references(body))


def to_send(want: proposing.Want, secrets: ports.Secrets) -> dict[str, Any]:
    """The body of this object with its secrets. Drop it after the call that sends it.

    Raises: as `manifests.resolve`.
    """
    if want.gives_back:
        return dict(want.body)
    body = manifests.resolve(manifests.Manifest(want.key, want.body, want.source), secrets)
    written = body.pop("stringData", None) if body.get("kind") == "Secret" else None
    if isinstance(written, dict):
        # Server-side apply owns what it was sent: `stringData` is never read back, `data` is.
        body["data"] = {name: base64.b64encode(str(value).encode()).decode() for name, value in written.items()}
    return body


def is_sealed(want: proposing.Want) -> bool:
    """Whether this is to be given back and its secrets are known by their digests alone."""
    return want.gives_back and any(str(value).startswith(SEALED) for _, value in masking.secrets_of(want.body))
