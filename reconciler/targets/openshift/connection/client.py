"""One cluster's API over the official client's transport: raw JSON in, raw JSON out.

Nothing is deserialised into the client's model classes. Every call carries the impersonated identity, verifies TLS, follows
no redirect, is bounded in time and size, and is retried by nobody below us: whoever calls knows whether a write may be
sent again.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import ssl
import sys
import tempfile
import threading
import time
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from reconciler import errors, redact
from reconciler.targets.openshift.connection import kubeconfig, sharing, wording

Body = dict[
    str, Any
]  # an object of the API; read as data at every use, and parts of it are parts of others (sharing.py)

APPLY = "application/apply-patch+yaml"
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MAX_BYTES = 64 << 20  # of one answer: a page of 500 large objects
MAX_MESSAGE = 1000
WATCH_SILENCE_S = 75.0  # The server sends a bookmark about every minute; longer silence is a dead connection.
THROTTLED = 429
CONFLICT = 409
EXPIRED = 410
INVALID = 422
NOT_FOUND = 404
SERVER_ERROR = 500
UNAVAILABLE = 503
GATEWAY_TIMEOUT = 504

_ONE_AT_A_TIME = threading.Lock()


class Identity(NamedTuple):
    """Who calls, beyond the credentials: an empty user means that nobody is impersonated."""

    user: str = ""
    groups: tuple[str, ...] = ()


class Limits(NamedTuple):
    connect_s: float = 10.0
    command_s: float = 30.0


class Answer(NamedTuple):
    status: int
    body: Body
    retry_after_s: float = 0.0

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110, 15.3

    @property
    def causes(self) -> tuple[Mapping[str, str], ...]:
        """What a Status names one by one: conflicting fields, invalid values."""
        details = self.body.get("details")
        found = details.get("causes") if isinstance(details, dict) else None
        return tuple(each for each in found or () if isinstance(each, dict))


class Client:
    """Used by many threads at once; `close` cuts what is under way."""

    def __init__(self, endpoint: kubeconfig.Endpoint, identity: Identity, connections: int, limits: Limits) -> None:
        self._server = endpoint.server.rstrip("/")
        self._headers = _headers(endpoint, identity)
        self.limits = limits
        self._shared = sharing.Shared()
        self._calls = _transport(endpoint, connections)
        self._streams = _transport(endpoint, connections)

    def __repr__(self) -> str:
        return f"Client({self._server}, {redact.MASK})"

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] = types.MappingProxyType({}),
        content_type: str = JSON,
        accept: str = JSON,
        within_s: float | None = None,
    ) -> Answer:
        """Ask once. Whatever HTTP status comes back is an answer.

        Raises: TransientError where nothing was sent, or nothing was to be written; OutcomeUnknownError where a write may
        have landed; PermanentError(target.tls_untrusted).
        """
        headers = self._headers.copy()
        headers["Accept"] = accept
        headers["Content-Type"] = content_type
        budget_s = min(within_s, self.limits.command_s) if within_s is not None else self.limits.command_s
        until = time.monotonic() + max(budget_s, 0.01)
        with _faults(f"{method} {path}", writes=method != "GET"):
            response = self._calls.request(
                method,
                self._url(path, query),
                headers=headers,
                body=body,
                _request_timeout=(min(self.limits.connect_s, max(budget_s, 0.01)), max(budget_s, 0.01)),
            ).response
            with contextlib.ExitStack() as half_read:
                half_read.callback(response.close)  # Such a connection serves no other call.
                raw = _read(response, until)
                half_read.pop_all()
        return Answer(response.status, self._shared.answer(_document(raw)), _retry_after_s(response.headers))

    def get(
        self, path: str, *, query: Mapping[str, str] = types.MappingProxyType({}), accept: str = JSON
    ) -> Body | None:
        """None where the server says that it is not there.

        Raises: as `refusal`, for every other answer.
        """
        for last in (False, True):
            try:
                answer = self.request("GET", path, query=query, accept=accept)
                break
            except (
                errors.TransientError
            ):  # A kept-alive connection may have been closed under us: reads ask again, once.
                if last:
                    raise
        if answer.status == NOT_FOUND:
            return None
        if not answer.is_ok:
            raise refusal(answer, f"GET {path}")
        return answer.body

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        """Open a watch.

        Raises: as `refusal`, and as `request`.
        """
        headers = self._headers.copy()
        headers["Accept"] = JSON
        timeout = (self.limits.connect_s, WATCH_SILENCE_S)
        with _faults(f"watch {path}", writes=False):
            response = self._streams.request(
                "GET", self._url(path, query), headers=headers, _request_timeout=timeout
            ).response
            if response.status != 200:  # noqa: PLR2004 - RFC 9110, 15.3.1
                answer = Answer(response.status, _document(_read(response, time.monotonic() + self.limits.command_s)))
                response.close()
                raise refusal(answer, f"watch {path}")
        return Stream(response, path, self._shared)

    def close(self) -> None:
        self._calls.close()
        self._streams.close()

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        return f"{self._server}{path}?{urlencode(query)}" if query else f"{self._server}{path}"


class Stream:
    """The events of one watch as they come. Read and closed by one thread, cut by any."""

    def __init__(self, response: Any, path: str, shared: sharing.Shared) -> None:
        self._response, self._path, self._shared = response, path, shared

    def __iter__(self) -> Iterator[Body]:
        """Ends when the server ends it.

        Raises: TransientError where the connection breaks or falls silent.
        """
        rest = b""
        with _faults(f"watch {self._path}", writes=False):
            for chunk in self._response.stream(1 << 16, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_BYTES:
                    raise errors.TransientError("limit", f"watch {self._path}: an event of more than {MAX_BYTES} bytes")
                for line in lines:
                    if line:
                        yield self._shared.answer(_document(line))

    def cut(self) -> None:
        """From any thread: wakes the one that reads, which closing would not."""
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._response.shutdown()

    def close(self) -> None:
        """By the thread that reads."""
        self._response.close()


def refusal(answer: Answer, what: str, *, sensitive: bool = False) -> errors.ReconcilerError:
    """The error that a Status is. `sensitive`: what was sent held secrets, and the server may quote them."""
    said = _said(answer, sensitive=sensitive)
    text = f"{what}: {said}"
    match answer.status:
        case 401:
            return errors.PermanentError(
                "target.auth_failed", text, fix="renew the credentials of connection.kubeconfig"
            )
        case 403:
            return errors.PermanentError("forbidden", text, fix="grant it to the identity that `connection` names")
        case 404:
            return errors.PermanentError("not_found", text)
        case 409:
            return errors.PermanentError("conflict", text)
        case 410:
            return errors.TransientError("expired", text)
        case 429 | 503:
            return errors.TransientError("throttled" if answer.status == THROTTLED else "unavailable", text)
        case 500 if _is_schema(answer):
            return errors.PermanentError("schema", text, fix="remove the field, or correct its name")
        case 500 if "webhook" in said:
            return errors.PermanentError("webhook", text)
        case status if status >= 500:  # noqa: PLR2004 - RFC 9110, 15.6
            return errors.TransientError("server_error", text)
        case 300 | 301 | 302 | 303 | 307 | 308:
            return errors.PermanentError("redirect", f"{what}: redirects are not followed")
        case _:
            return errors.PermanentError("invalid", text)


def is_under_way(answer: Answer) -> bool:
    """Whether a write that was answered so may still be kept later on: somebody gave up waiting for it."""
    return answer.status == GATEWAY_TIMEOUT or (answer.status >= SERVER_ERROR and "timed out" in _message(answer))


def broke(answer: Answer) -> bool:
    """Whether the server broke over it, which may get better by itself."""
    if answer.status < SERVER_ERROR or answer.status == UNAVAILABLE:
        return False
    return not _is_schema(answer) and "webhook" not in _message(answer)


def _is_schema(answer: Answer) -> bool:
    """An unknown field in server-side apply answers 500, though it never gets better by itself."""
    message = _message(answer)
    return "field not declared in schema" in message or "failed to create typed patch object" in message


def _message(answer: Answer) -> str:
    message = answer.body.get("message")
    return message if isinstance(message, str) else ""


def _said(answer: Answer, *, sensitive: bool) -> str:
    reason = answer.body.get("reason")
    if sensitive:
        fields = ", ".join(sorted({str(cause.get("field", "")) for cause in answer.causes} - {""}))
        return redact.line(f"{answer.status} {reason or ''} {fields}".strip())
    return redact.line(
        wording.shortened(answer.body) or str(reason or f"status {answer.status}"), limit_chars=MAX_MESSAGE
    )


def _headers(endpoint: kubeconfig.Endpoint, identity: Identity) -> Any:
    from urllib3 import HTTPHeaderDict

    headers = HTTPHeaderDict({"User-Agent": "reconciler"})
    if endpoint.token:
        headers["Authorization"] = f"Bearer {endpoint.token}"
    if identity.user:
        headers["Impersonate-User"] = identity.user
        for group in identity.groups:
            headers.add("Impersonate-Group", group)
    return headers


def _transport(endpoint: kubeconfig.Endpoint, connections: int) -> Any:
    """The official client's REST transport, without retries and redirects."""
    rest, configuration = _vendor()
    settings = configuration.Configuration(host=endpoint.server, retries=False, connection_pool_maxsize=connections)
    settings.keep_alive = True
    settings.tls_server_name = endpoint.server_name
    made = rest.RESTClientObject(settings)
    made.pool_manager.connection_pool_kw["ssl_context"] = _tls(endpoint)
    return made


def _tls(endpoint: kubeconfig.Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=endpoint.ca or None)
    if endpoint.client_certificate:
        # OpenSSL reads a chain from a file only; it is gone before anything else happens.
        descriptor, name = tempfile.mkstemp(prefix="reconciler-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(f"{endpoint.client_certificate}\n{endpoint.client_key}".encode())
            context.load_cert_chain(name)
        except (ssl.SSLError, ValueError) as exc:
            raise errors.ConfigError("kubeconfig", "the client certificate and its key do not fit") from exc
        finally:
            Path(name).unlink(missing_ok=True)
    return context


@functools.cache
def _vendor() -> tuple[Any, Any]:
    """The two modules of the official client that are used.

    Its package imports every model class and two OAuth libraries when it is first touched: a second and 16 MB for nothing.
    So its submodules are imported under a bare package, and forgotten again: whoever imports it later gets the whole.
    """
    if "kubernetes" in sys.modules:
        from kubernetes.client import configuration, rest

        return rest, configuration
    spec = importlib.util.find_spec("kubernetes")
    if spec is None or not spec.submodule_search_locations:
        fix = "pip install 'reconciler[openshift]'"
        raise errors.ConfigError("missing", "the official client of Kubernetes is not installed", fix=fix)
    bare = types.ModuleType("kubernetes")
    bare.__path__ = list(spec.submodule_search_locations)
    with _ONE_AT_A_TIME:
        sys.modules["kubernetes"] = bare
        try:
            from kubernetes.client import configuration, rest
        finally:
            for name in [each for each in sys.modules if each.partition(".")[0] == "kubernetes"]:
                del sys.modules[name]
    return rest, configuration


@contextlib.contextmanager
def _faults(what: str, *, writes: bool) -> Iterator[None]:
    """The transport's exceptions as ours. What broke before the request was out was not sent."""
    import urllib3.exceptions as vendor

    rest, _ = _vendor()
    try:
        yield
    except (vendor.NewConnectionError, vendor.ConnectTimeoutError) as exc:
        raise errors.TransientError("unreachable", f"{what}: the API server does not answer") from exc
    except vendor.SSLError as exc:
        raise _untrusted(what) from exc
    except (vendor.HTTPError, OSError) as exc:
        if isinstance(exc.__cause__ or exc.__context__, ssl.SSLCertVerificationError):
            raise _untrusted(what) from exc
        if writes:
            raise errors.OutcomeUnknownError("unknown", f"{what}: the connection broke; it may have been done") from exc
        raise errors.TransientError("broken", f"{what}: {_words(exc)}") from exc
    except rest.ApiException as exc:  # How the official transport reports an SSL error.
        raise _untrusted(what) from exc


def _untrusted(what: str) -> errors.PermanentError:
    fix = "put the cluster's CA into certificate-authority-data of the kubeconfig"
    return errors.PermanentError("target.tls_untrusted", f"{what}: the server's certificate is not trusted", fix=fix)


def _words(exc: Exception) -> str:
    return "it took too long" if "timed out" in str(exc).lower() else "the connection broke"


def _read(response: Any, until: float) -> bytes:
    """The whole body, however slowly it drips, within time and size.

    Raises: TransientError; what the transport raises.
    """
    parts, size = [], 0
    while chunk := response.read1(1 << 16):
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            raise errors.TransientError("limit", f"an answer of more than {MAX_BYTES} bytes")
        if time.monotonic() >= until:
            raise errors.TransientError("deadline", "the answer drips in too slowly")
    response.release_conn()
    return b"".join(parts)


def _document(raw: bytes) -> Body:
    """What an answer holds; a text that is no JSON object is its message."""
    try:
        found = json.loads(raw) if raw else {}
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": raw[:MAX_MESSAGE].decode(errors="replace")}


def _retry_after_s(headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0
