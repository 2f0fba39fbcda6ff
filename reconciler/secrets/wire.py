"""hvac's requests over our own transport. The only module that imports hvac; imported when the first `vault:` is resolved.

hvac knows the paths and bodies of the API. Its own client is not used: it takes tokens, certificates and addresses from the
environment and from `~/.vault-token`, and its exceptions carry whole answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import hvac.adapters
from hvac.api import auth_methods, secrets_engines
from pydantic import JsonValue

from reconciler import errors
from reconciler.secrets import transport

PRECONDITION = 412  # A standby that has not yet seen what it is asked about.
THROTTLED = 429
REDIRECTS = range(300, 400)


class Wire(hvac.adapters.Adapter):  # type: ignore[misc]  # hvac has no types.
    """One token in one namespace. What is answered is `transport.Answer`: a success, or a refusal of the 4xx kind."""

    def __init__(self, over: transport.Transport, token: str, namespace: str) -> None:
        # Not the base's own: that makes a session of requests, which would never be used.
        self._over, self._token, self._namespace = over, token, namespace

    def __repr__(self) -> str:
        return f"Wire({self._over.url})"

    def get_login_token(self, response: transport.Answer) -> str:
        return str(response.part("auth").get("client_token", ""))

    def request(
        self,
        method: str,
        url: str,
        *,
        json: Mapping[str, JsonValue] | None = None,
        params: Mapping[str, JsonValue] | None = None,  # noqa: ARG002 - hvac passes it, empty
        wrap_ttl: str | None = None,  # noqa: ARG002 - the same
    ) -> transport.Answer:
        """Raises: TransientError(secret_store) where it may be otherwise later; PermanentError(redirect)."""
        headers = {"X-Vault-Request": "true", "Content-Type": "application/json"}
        if self._token:
            headers["X-Vault-Token"] = self._token
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        answer = self._over.exchange(method.upper(), url, headers, _encoded(json))
        if answer.status in {PRECONDITION, THROTTLED} or answer.status >= 500:  # noqa: PLR2004 - RFC 9110, 15.6
            said = f"{self._over.url}: {answer.status} {answer.said}".strip()
            raise errors.TransientError("secret_store", said)
        if answer.status in REDIRECTS:
            fix = "name the vault itself in secrets.vault.url"
            raise errors.PermanentError("redirect", f"{self._over.url}: redirects are not followed", fix=fix)
        return answer

    # --- what is asked ---

    def mount(self, name: str) -> transport.Answer:
        """What is mounted there: as the vault's own command line asks, without a right beyond that on some path below."""
        return self.request("GET", f"/v1/sys/internal/ui/mounts/{name}")

    def read(self, version: int, mount: str, path: str) -> transport.Answer:
        if version == 1:
            return _answer(secrets_engines.KvV1(self).read_secret(path, mount_point=mount))
        found = secrets_engines.KvV2(self).read_secret_version(path, mount_point=mount, raise_on_deleted_version=False)
        return _answer(found)

    def lookup_self(self) -> transport.Answer:
        return _answer(auth_methods.Token(self).lookup_self())

    def renew_self(self) -> transport.Answer:
        return _answer(auth_methods.Token(self).renew_self())

    def log_in_as_approle(self, mount: str, role_id: str, secret_id: str) -> transport.Answer:
        made = auth_methods.AppRole(self)
        return _answer(made.login(role_id, secret_id, use_token=False, mount_point=mount))

    def log_in_with_jwt(self, mount: str, role: str, jwt: str) -> transport.Answer:
        """The methods `jwt` and `kubernetes` take the same."""
        return _answer(auth_methods.JWT(self).jwt_login(role, jwt, use_token=False, path=mount))


def _encoded(body: Mapping[str, JsonValue] | None) -> bytes | None:
    return None if body is None else json.dumps(body).encode()


def _answer(found: object) -> transport.Answer:
    if not isinstance(found, transport.Answer):
        raise TypeError("hvac answers with what its adapter returned")
    return found
