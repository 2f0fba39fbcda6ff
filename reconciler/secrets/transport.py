"""One HTTP server that is asked for secrets: one deadline for all of an answer, no redirects, nothing taken from the environment.

Written over the standard library, because what clients do by themselves is what must not happen here: requests reads
proxies, `.netrc` and authorities from the environment, adds its own authorities to ours, and has no deadline for an answer that
drips in. No exception holds an answer: it may hold a secret.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from reconciler import deadline, errors, redact

CONNECT_S = 10.0
MAX_BYTES = 8 << 20  # of one answer (targets.md 1.7)
MAX_SAID = 200
IDLE_S = 10.0  # Servers and what stands before them close idle connections after a minute and more.
MAX_IDLE = 4


@dataclass(frozen=True, repr=False)
class Answer:
    """A status and a JSON object, empty where there was none."""

    status: int
    body: Mapping[str, JsonValue]

    def __repr__(self) -> str:
        return f"Answer({self.status}, {redact.MASK})"

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110, 15.3

    def part(self, name: str) -> Mapping[str, JsonValue]:
        """One object of the body, empty where it is none."""
        found = self.body.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def said(self) -> str:
        """What the server gives as its reason, fit to be shown; never where a credential was sent, which it may quote."""
        found = self.body.get("errors")
        texts = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
        return redact.line("; ".join(texts), limit_chars=MAX_SAID)


@dataclass(frozen=True)
class Place:
    """`https://vault.bank.example:8200`, and the authority that vouches for it; None is the system's own trust."""

    url: str
    ca_file: Path | None = None
    timeout_s: float = 30.0


@dataclass
class _Open:
    """A connection; `since` is when it was last used."""

    speaking: http.client.HTTPConnection
    sock: _Deadlined
    since: float = field(default=0.0)


class Transport:
    """Used by many threads at once."""

    def __init__(self, place: Place) -> None:
        parts = urlsplit(place.url)
        self._secure, self._prefix = parts.scheme == "https", parts.path.rstrip("/")
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self._place = place
        self._idle: list[_Open] = []
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"Transport({self._place.url})"

    @property
    def url(self) -> str:
        return self._place.url

    @property
    def timeout_s(self) -> float:
        return self._place.timeout_s

    def exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Ask once; whatever the status, it is an answer. Blocks for at most the place's timeout.

        Raises: TransientError(secret_store) where there is no answer; PermanentError(target.tls_untrusted);
        ConfigError(secret) where the authority cannot be read.
        """
        until = time.monotonic() + self._place.timeout_s
        with self._faults():
            kept = self._take()
            if kept is not None:
                try:
                    return self._ask(kept, until, (method, path, headers, body))
                except (ConnectionError, http.client.BadStatusLine):
                    pass  # It was closed under us while nobody used it: nothing was answered.
            return self._ask(self._connect(until), until, (method, path, headers, body))

    def _ask(self, on: _Open, until: float, asked: tuple[str, str, Mapping[str, str], bytes | None]) -> Answer:
        method, path, headers, body = asked
        is_whole = False
        try:
            on.sock.until = until
            on.speaking.request(method, self._prefix + path, body=body, headers=dict(headers))
            with on.speaking.getresponse() as response:
                raw = response.read(MAX_BYTES + 1)
                is_whole = response.isclosed() and not response.will_close
                status = response.status
        finally:
            self._keep(on, is_whole=is_whole)
        if len(raw) > MAX_BYTES:
            raise errors.TransientError("secret_store", f"{self.url}: an answer of more than {MAX_BYTES} bytes")
        return Answer(status, self._document(status, raw))

    def _document(self, status: int, raw: bytes) -> Mapping[str, JsonValue]:
        try:
            found = json.loads(raw) if raw else {}
        except (ValueError, RecursionError):
            found = None  # Not chained: the exception holds what was read.
        if isinstance(found, dict):
            return found
        if 200 <= status < 300:  # noqa: PLR2004 - RFC 9110, 15.3
            raise errors.TransientError("secret_store", f"{self.url}: what answers is no vault")
        return {}

    def close(self) -> None:
        """What is kept open. Whoever asks after that opens it again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.sock.end()

    # --- connections ---

    def _take(self) -> _Open | None:
        oldest = time.monotonic() - IDLE_S
        with self._lock:
            found = self._idle.pop() if self._idle else None
            stale, self._idle = self._idle, [each for each in self._idle if each.since >= oldest]
        for each in stale:
            if each.since < oldest:
                each.sock.end()
        if found is not None and found.since < oldest:
            found.sock.end()
            return None
        return found

    def _keep(self, on: _Open, *, is_whole: bool) -> None:
        on.since = time.monotonic()
        with self._lock:
            if is_whole and len(self._idle) < MAX_IDLE:
                self._idle.append(on)
                return
        on.sock.end()

    def _connect(self, until: float) -> _Open:
        context = self._trust() if self._secure else None
        failed: OSError | None = None
        for family, _, _, _, address in socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(min(CONNECT_S, deadline.left_s(until)))
                sock.connect(address)
                return self._speaking(sock, context)
            except OSError as exc:
                sock.close()
                if isinstance(exc, ssl.SSLError):
                    raise  # Another address of the same name is no second opinion.
                failed = exc
        raise failed or OSError("no address")

    def _speaking(self, sock: socket.socket, context: ssl.SSLContext | None) -> _Open:
        if context is None:
            plain = _Deadlined(sock)
            return _Open(_over(http.client.HTTPConnection(self._host, self._port), plain), plain)
        secured = _Deadlined(context.wrap_socket(sock, server_hostname=self._host))
        return _Open(_over(http.client.HTTPSConnection(self._host, self._port, context=context), secured), secured)

    def _trust(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._place.ca_file)
            except (OSError, ValueError) as exc:
                message = f"{self._place.ca_file} cannot be read as certificates"
                fix = "put the authority's PEM there, readable by the daemon"
                raise errors.ConfigError("secret", message, where="secrets.vault.caFile", fix=fix) from exc
        return self._context

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as exc:
            raise errors.TransientError("secret_store", f"{self.url}: the connection broke") from exc
        except ssl.SSLError as exc:
            self._context = None  # The next try reads the authority anew: it may have been put right.
            message = f"{self.url}: its certificate is not trusted"
            fix = "find out why; then put the authority that issued it into secrets.vault.caFile"
            raise errors.PermanentError("target.tls_untrusted", message, fix=fix) from exc
        except http.client.HTTPException:
            # Not chained: some of these hold what was read.
            raise errors.TransientError("secret_store", f"{self.url}: what answers does not speak HTTP") from None
        except OSError as exc:
            raise errors.TransientError("secret_store", f"{self.url}: {deadline.words(exc)}") from exc


def _over(connection: http.client.HTTPConnection, sock: _Deadlined) -> http.client.HTTPConnection:
    connection.auto_open = 0  # It would connect by itself, without our deadline.
    connection.sock = sock
    return connection


class _Deadlined:
    """What `http.client` uses of a socket, with one deadline for all that is read and written: a drip gains nothing."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.until = 0.0

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(deadline.left_s(self.until))
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return deadline.reader(self._sock, self.until)

    def close(self) -> None:
        """Nothing: it is called when the headers are read and the body is still to come."""

    def end(self) -> None:
        self._sock.close()
