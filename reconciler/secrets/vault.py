"""`vault:mount/path#key` -> the value, from a KV engine of HashiCorp Vault or OpenBao, version 1 or 2.

A secret that was read serves for `FRESH_S`: the references of one look to the same secret, and the kubeconfig that every look of
every target of a cluster needs, are one request. What is compared at every look is kept as keyed digests by whoever compares,
for longer (targets/openshift/observing/wants.py).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import JsonValue

from reconciler import errors, ports, redact
from reconciler.secrets import session, transport

if TYPE_CHECKING:
    from reconciler.secrets import wire  # Imports hvac, see session.py.

FRESH_S = 30.0
MAX_CHARS = 64 << 10

_SEGMENT = r"(?!\.{1,2}(?:[/#]|\Z))[A-Za-z0-9_.-]+"
_REFERENCE = re.compile(rf"vault:(?P<mount>{_SEGMENT})/(?P<path>{_SEGMENT}(?:/{_SEGMENT})*)\#(?P<key>{_SEGMENT})")
_NO_NAMESPACE = "reconciler-asks-whether-namespaces-are-heeded"


class Settings(NamedTuple):
    """`secrets.vault` of the configuration."""

    url: str
    auth: session.Auth
    namespace: str = ""
    ca_file: Path | None = None
    timeout_s: float = 30.0


class _Asked(NamedTuple):
    mount: str
    path: str
    key: str
    reference: str

    @property
    def named(self) -> str:
        return f"{self.mount}/{self.path}"


class Vault:
    """Used by many threads at once. Contacts nobody before the first reference."""

    def __init__(self, settings: Settings, read: Callable[[str], str], clock: ports.Clock) -> None:
        """`read`: resolves the references of `settings.auth`."""
        self._settings, self._clock = settings, clock
        self._over = transport.Transport(transport.Place(settings.url, settings.ca_file, settings.timeout_s))
        self._session = session.Session(self._over, settings.namespace, settings.auth, read, clock)
        self._kept: dict[str, tuple[float, Mapping[str, JsonValue]]] = {}
        self._versions: dict[str, int] = {}
        self._heeds_namespaces = not settings.namespace
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Vault({self._settings.url}, {redact.MASK})"

    def read(self, reference: str) -> str:
        """Blocks on the vault, or on a login that another thread has begun.

        Raises: ConfigError(secret) for a reference of another form, a secret or key that is not there, or no text;
        PermanentError(secret_denied | target.auth_failed | target.tls_untrusted | redirect);
        TransientError(secret_store) where the vault is sealed, busy or away. `where` is the reference.
        """
        asked = _taken_apart(reference)
        try:
            secret = self._fresh(asked.named) or self._fetch(asked)
        except errors.ReconcilerError as exc:
            raise _placed(exc, reference) from exc
        return _text(secret, asked)

    def close(self) -> None:
        """The connections that are kept open."""
        self._over.close()

    # --- what was read a moment ago ---

    def _fresh(self, named: str) -> Mapping[str, JsonValue] | None:
        now = self._clock.monotonic_s()
        with self._lock:
            self._kept = {name: each for name, each in self._kept.items() if now < each[0]}
            found = self._kept.get(named)
        return found[1] if found else None

    def _keep(self, named: str, secret: Mapping[str, JsonValue]) -> None:
        with self._lock:
            self._kept[named] = (self._clock.monotonic_s() + FRESH_S, secret)

    # --- asking ---

    def _fetch(self, asked: _Asked) -> Mapping[str, JsonValue]:
        version = self._version(asked)
        answer = self._ask(lambda on: on.read(version, asked.mount, asked.path))
        if answer.is_ok:
            secret = answer.part("data")
            inner = secret.get("data") if version == 2 else secret  # noqa: PLR2004 - version 2 wraps what was written
            secret = inner if isinstance(inner, dict) else {}
            self._keep(asked.named, secret)
            return secret
        if answer.status == 404:  # noqa: PLR2004 - RFC 9110, 15.5.5
            with self._lock:
                self._versions.pop(asked.mount, None)  # It may have become another version since.
            raise _missing(answer, asked)
        raise _denied(answer, f"read on {_api_path(version, asked)}", f"{asked.named} may not be read")

    def _ask(self, call: Callable[[wire.Wire], transport.Answer]) -> transport.Answer:
        """Once more with a new token where the old one turns out to be dead."""
        token = self._session.token()
        answer = call(session.connected(self._over, token, self._settings.namespace))
        if answer.status == 403 and self._session.is_dead(token):  # noqa: PLR2004 - RFC 9110, 15.5.4
            token = self._session.token()
            answer = call(session.connected(self._over, token, self._settings.namespace))
        return answer

    def _version(self, asked: _Asked) -> int:
        """Of the KV engine at this mount.

        Raises: ConfigError(secret) for an engine of another kind: reading from a `database` would make an account.
        """
        with self._lock:
            known = self._versions.get(asked.mount)
        if known:
            return known
        answer = self._ask(lambda on: on.mount(asked.mount))
        if answer.status == 404:  # noqa: PLR2004 - RFC 9110, 15.5.5
            named = f"namespace {self._settings.namespace} or " if self._settings.namespace else ""
            raise _refusal(f"no {named}mount {asked.mount}", "correct secrets.vault.namespace or the reference")
        if not answer.is_ok:
            right = f"read on a path below {asked.mount}/"
            raise _denied(answer, right, f"nothing below {asked.mount}/ may be read, or nothing is mounted there")
        self._check_namespace(asked.mount)
        version = _kv_version(answer, asked.mount)
        with self._lock:
            self._versions[asked.mount] = version
        return version

    def _check_namespace(self, mount: str) -> None:
        """A server without namespaces ignores the header, and would answer from the only one it has: not the one meant."""
        if self._heeds_namespaces:
            return
        token, nowhere = self._session.token(), f"{self._settings.namespace}/{_NO_NAMESPACE}"
        if session.connected(self._over, token, nowhere).mount(mount).is_ok:
            message = f"this server has no namespaces, and secrets.vault.namespace is {self._settings.namespace}"
            raise _refusal(message, "leave secrets.vault.namespace out, or name the server that has it")
        self._heeds_namespaces = True


def _taken_apart(reference: str) -> _Asked:
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        # The text itself may be the secret that somebody put where a reference belongs.
        fix = "write vault:mount/path#key, segments of letters, digits and _.-, without `.` and `..`"
        raise errors.ConfigError("secret", "no reference to a secret in a vault", where=f"vault:{redact.MASK}", fix=fix)
    return _Asked(found["mount"], found["path"], found["key"], reference)


def _text(secret: Mapping[str, JsonValue], asked: _Asked) -> str:
    value = secret.get(asked.key)
    if value is None:
        message, fix = f"the secret has no key {asked.key}", "correct the reference, or write the key"
    elif not isinstance(value, str):
        message, fix = f"what stands under {asked.key} is no text", "store it as text"
    elif len(value) > MAX_CHARS:
        message, fix = f"longer than {MAX_CHARS} characters", "name the right key"
    else:
        return value
    raise errors.ConfigError("secret", message, where=asked.reference, fix=fix)


def _kv_version(answer: transport.Answer, mount: str) -> int:
    data = answer.part("data")
    options = data.get("options")
    kind, version = data.get("type"), options.get("version") if isinstance(options, dict) else None
    if kind not in {"kv", "generic"} or version not in {None, "", "1", "2"}:
        message = f"the engine at {mount}/ keeps no secrets: it is no KV engine of version 1 or 2"
        raise _refusal(message, "the first segment of a reference is the mount of a KV engine")
    return 2 if version == "2" else 1


def _api_path(version: int, asked: _Asked) -> str:
    return f"{asked.mount}/data/{asked.path}" if version == 2 else asked.named  # noqa: PLR2004 - as above


def _missing(answer: transport.Answer, asked: _Asked) -> errors.ConfigError:
    if answer.part("data").get("metadata"):  # Version 2 still knows what it was.
        return _refusal("the newest version of this secret was deleted", "write it again, or undelete it")
    fix = "correct the reference, or write the secret"
    if asked.path.startswith(("data/", "metadata/")):
        fix = "leave data/ out: a reference names the secret as `vault kv get` does"
    return _refusal("there is no such secret", fix)


def _denied(answer: transport.Answer, right: str, what: str) -> errors.PermanentError:
    if answer.status == 403:  # noqa: PLR2004 - RFC 9110, 15.5.4
        return errors.PermanentError("secret_denied", what, fix=f"grant the daemon's role {right}")
    return errors.PermanentError("secret_store", f"{what}: {answer.status} {answer.said}".strip())


def _refusal(message: str, fix: str) -> errors.ConfigError:
    return errors.ConfigError("secret", message, fix=fix)


def _placed(exc: errors.ReconcilerError, reference: str) -> errors.ReconcilerError:
    """The same, about this reference; what is wrong with the vault itself keeps its own place in its message."""
    message = ": ".join(part for part in (exc.where, exc.message) if part)
    return type(exc)(exc.code, message, where=reference, fix=exc.fix)
