"""The token of this process in a vault: had by logging in, renewed while it lives, had anew when it is dead."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from reconciler import errors, ports, redact
from reconciler.secrets import transport

if TYPE_CHECKING:
    from reconciler.secrets import wire  # Imports hvac: half a second that only who has a vault pays.

RENEWED_AFTER = 2 / 3  # of its life
AGAIN_S = 10.0  # after a renewal that found nobody, while the token still lives
REFUSED_FOR_S = 300.0  # A vault locks a role out after five refusals in a quarter of an hour (Vault's `user_lockout`).


class Token(NamedTuple):
    """A reference to a token that somebody else makes, and may replace at any time."""

    token: str


class AppRole(NamedTuple):
    """References, read at every login."""

    role_id: str
    secret_id: str
    mount: str = "approle"


class Jwt(NamedTuple):
    """`jwt` is a reference, read at every login: inside a cluster the kubelet renews it. Serves the method `kubernetes` too."""

    role: str
    jwt: str
    mount: str = "jwt"


Auth: TypeAlias = Token | AppRole | Jwt


@dataclass(frozen=True)
class _Lease:
    token: str = field(repr=False)
    life_s: float  # when it was issued
    renewable: bool
    renew_at: float = math.inf
    until: float = math.inf


class Session:
    """Used by many threads at once; one of them logs in and the others wait for it."""

    def __init__(
        self, over: transport.Transport, namespace: str, auth: Auth, read: Callable[[str], str], clock: ports.Clock
    ) -> None:
        """`read`: resolves the references of `auth`."""
        self._over, self._namespace, self._auth = over, namespace, auth
        self._read, self._clock = read, clock
        self._lease: _Lease | None = None
        self._refused: tuple[bytes, float] | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Session({self._over.url}, {redact.MASK})"

    def token(self) -> str:
        """One that lives, as far as is known.

        Raises: PermanentError(target.auth_failed); ConfigError(secret) where a credential is not there, or the vault has no
        such method or namespace; as `Wire.request`.
        """
        with self._alone():
            now, lease = self._clock.monotonic_s(), self._lease
            if lease is None or now >= lease.until:
                self._lease = self._begin()
            elif now >= lease.renew_at:
                self._lease = self._prolong(lease, now)
            return self._lease.token if self._lease else ""

    def is_dead(self, token: str) -> bool:
        """After a 403, which a vault says of a dead token and of a path that is not allowed. A dead one is forgotten.

        Raises: as `Wire.request`.
        """
        if self._wire(token).lookup_self().is_ok:
            return False
        with self._alone():
            if self._lease is not None and self._lease.token == token:
                self._lease = None
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=self._over.timeout_s):
            raise errors.TransientError("secret_store", f"{self._over.url}: somebody else's login takes too long")
        try:
            yield
        finally:
            self._lock.release()

    # --- its life ---

    def _prolong(self, lease: _Lease, now: float) -> _Lease:
        try:
            return self._renewed(lease) or self._begin()
        except errors.TransientError:
            return replace(lease, renew_at=now + AGAIN_S)

    def _renewed(self, lease: _Lease) -> _Lease | None:
        """None where it cannot be, or where it is not worth it: close to the end that no renewal moves."""
        if not lease.renewable:
            return None
        answer = self._wire(lease.token).renew_self()
        left_s = _seconds(answer.part("auth").get("lease_duration"))
        if not answer.is_ok or (left_s < lease.life_s / 2 and not isinstance(self._auth, Token)):
            return None
        fresh = self._leased(lease.token, left_s, renewable=True)
        return replace(fresh, life_s=lease.life_s)

    def _begin(self) -> _Lease:
        self._lease = None  # What fails from here on must not leave one that has ended.
        match self._auth:
            case Token(reference):
                return self._given(self._credential(reference))
            case AppRole(role_id, secret_id, mount):
                role, secret = self._credential(role_id), self._credential(secret_id)
                return self._logged_in(
                    (role, secret), mount, lambda: self._wire("").log_in_as_approle(mount, role, secret)
                )
            case Jwt(role, reference, mount):
                jwt = self._credential(reference)
                return self._logged_in((role, jwt), mount, lambda: self._wire("").log_in_with_jwt(mount, role, jwt))

    def _given(self, token: str) -> _Lease:
        shown = _digest((token,))
        self._check_refused(shown)
        answer = self._wire(token).lookup_self()
        self._check_found(answer, "auth/token")
        if not answer.is_ok:
            raise self._refuse(shown)
        data = answer.part("data")
        return self._leased(token, _seconds(data.get("ttl")), renewable=data.get("renewable") is True)

    def _logged_in(self, credentials: tuple[str, ...], mount: str, log_in: Callable[[], transport.Answer]) -> _Lease:
        shown = _digest(credentials)
        self._check_refused(shown)
        answer = log_in()
        self._check_found(answer, f"auth/{mount}")
        if not answer.is_ok:
            raise self._refuse(shown)
        auth = answer.part("auth")
        token = _sendable(str(auth.get("client_token") or ""), "the vault's answer to a login")
        redact.remember(token)
        return self._leased(token, _seconds(auth.get("lease_duration")), renewable=auth.get("renewable") is True)

    def _check_found(self, answer: transport.Answer, place: str) -> None:
        """Raises: ConfigError(secret) where the vault has no such namespace or place."""
        if answer.status != 404:  # noqa: PLR2004 - RFC 9110, 15.5.5
            return
        what = f"no namespace {self._namespace}, or no {place} in it" if self._namespace else f"no {place}"
        fix = "correct secrets.vault.namespace or secrets.vault.auth"
        raise errors.ConfigError("secret", f"{self._over.url}: there is {what}", where="secrets.vault", fix=fix)

    def _leased(self, token: str, life_s: float, *, renewable: bool) -> _Lease:
        """0 seconds of life is a token without an end."""
        if life_s <= 0:
            return _Lease(token, math.inf, renewable)
        now = self._clock.monotonic_s()
        return _Lease(token, life_s, renewable, now + life_s * RENEWED_AFTER, now + life_s)

    # --- credentials ---

    def _credential(self, reference: str) -> str:
        return _sendable(self._read(reference).strip(), reference)

    def _check_refused(self, shown: bytes) -> None:
        """No retry with what was refused (targets.md 1.4), until it changes or some time went by."""
        if self._refused is not None and self._refused[0] == shown and self._clock.monotonic_s() < self._refused[1]:
            raise self._refusal()

    def _refuse(self, shown: bytes) -> errors.PermanentError:
        self._refused = (shown, self._clock.monotonic_s() + REFUSED_FOR_S)
        return self._refusal()

    def _refusal(self) -> errors.PermanentError:
        """Without what the server said: it may quote what it was shown."""
        at = "" if isinstance(self._auth, Token) else f" at auth/{self._auth.mount}"
        message = f"{self._over.url}: the vault refuses the credentials of secrets.vault.auth{at}"
        fix = "issue them again where they are kept: what changed is tried at once, what did not after five minutes"
        return errors.PermanentError("target.auth_failed", message, where="secrets.vault.auth", fix=fix)

    def _wire(self, token: str) -> wire.Wire:
        return connected(self._over, token, self._namespace)


def connected(over: transport.Transport, token: str, namespace: str) -> wire.Wire:
    """Contacts nobody.

    Raises: ConfigError(secret) where hvac is not installed.
    """
    try:
        from reconciler.secrets import wire
    except ImportError as exc:
        message, fix = "the client of vaults is not installed", "pip install 'reconciler[vault]'"
        raise errors.ConfigError("secret", message, where="secrets.vault", fix=fix) from exc
    return wire.Wire(over, token, namespace)


def _sendable(text: str, where: str) -> str:
    """It goes into a header or a body as it is.

    Raises: ConfigError(secret).
    """
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise errors.ConfigError("secret", "no credential of a vault", where=where, fix="issue it again")
    return text


def _digest(credentials: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\0".join(credentials).encode()).digest()


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
