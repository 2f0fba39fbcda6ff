"""Is a target well, as its users see it? `port`, `http` and `file` probes of `health`. They run no command and write nothing.

    health: [{port: {host: 10.20.0.10, port: 443}}, {http: {url: "https://app.bank.example/healthz", status: 200}}, {file: {path: /run/ready}}]

What an answer means. A definite wrong answer is FAILED at once, so that a bad change is rolled back in seconds: another
status than the one asked for, other content, an untrusted certificate, an address that probes may not reach. No answer yet
is PROGRESSING, and the core's `health` deadline decides: nobody listens, no answer in time, the name does not resolve,
the file is not there, and the answers by which HTTP itself says "not yet" (429, 502, 503, 504; RFC 9110 15.6, RFC 6585 4).
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import os
import socket
import ssl
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

import pydantic

from reconciler import deadline, documents, errors, model

MAX_BYTES = 1 << 20  # read of an answer or a file
NOT_YET = frozenset({429, 502, 503, 504})

# Addresses under which clouds hand out credentials and which are not link-local (the others are).
METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")))


def _plain(text: str) -> str:
    if not text.isprintable() or " " in text:
        raise ValueError("spaces and control characters are refused")
    return text


def _web_address(url: str) -> str:
    try:
        parts = urlsplit(_plain(url))
        port = parts.port
    except ValueError as exc:
        raise ValueError("no web address") from exc
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("write http://HOST[:PORT]/PATH or https://")
    if "@" in parts.netloc:
        raise ValueError("no user or password in an address")
    if not url.isascii():
        raise ValueError("write the address in ASCII")
    return url


Plain = Annotated[str, pydantic.Field(min_length=1, max_length=4096), pydantic.AfterValidator(_plain)]


class Port(documents.Camel):
    """Somebody accepts a TCP connection."""

    port: Annotated[int, pydantic.Field(ge=1, le=65535)]
    host: Plain = "127.0.0.1"


class Http(documents.Camel):
    """GET answers with this status; redirects are answers, not followed."""

    url: Annotated[Plain, pydantic.AfterValidator(_web_address)]
    status: Annotated[int, pydantic.Field(ge=100, le=599)] = 200
    contains: Annotated[str, pydantic.Field(min_length=1)] | None = None


class File(documents.Camel):
    """A regular file is there; on a target with a root, the path is read inside it."""

    path: Plain
    contains: Annotated[str, pydantic.Field(min_length=1)] | None = None


MODELS: dict[str, type[Port | Http | File]] = {"port": Port, "http": Http, "file": File}


class _NoAnswerError(Exception):
    """Not yet: PROGRESSING."""


class _WrongAnswerError(Exception):
    """No: FAILED."""

    def __init__(self, message: str, code: str = "probe_failed") -> None:
        super().__init__(message)
        self.code = code


def validate_probe(probe: model.Probe, where: str = "") -> model.ValidationResult:
    """What is wrong with one line of `health`, without contacting anybody."""
    try:
        _read(probe)
    except errors.ConfigError as exc:
        return (model.Reason(code=exc.code, message=exc.message, where=where, fix=exc.fix),)
    return ()


def run_probes(
    probes: Sequence[model.Probe], *, deadline_s: float, file_root: Path | None = None
) -> tuple[model.Health, tuple[model.Reason, ...]]:
    """Ask all of them, one after the other, within one deadline; the worst answer and why.

    `file_root`: where `file` probes are read; None is this host's own root. HEALTHY without probes.
    Raises: ConfigError(schema) for a probe that `validate_probe` refuses.
    """
    until = time.monotonic() + deadline_s
    health, findings = model.Health.HEALTHY, []
    for probe in probes:
        asked = _read(probe)
        try:
            _ask(asked, until, file_root)
        except _NoAnswerError as exc:
            health = model.Health.FAILED if health is model.Health.FAILED else model.Health.PROGRESSING
            findings.append(model.Reason(code="probe_no_answer", message=f"{_name(asked)}: {exc}"))
        except _WrongAnswerError as exc:
            health = model.Health.FAILED
            findings.append(model.Reason(code=exc.code, message=f"{_name(asked)}: {exc}"))
    return health, tuple(findings)


def _read(probe: model.Probe) -> Port | Http | File:
    kind = MODELS.get(probe.kind)
    if kind is None:
        raise errors.ConfigError("schema", f"health: no probe {probe.kind!r}", fix="use port, http or file")
    try:
        return kind.model_validate(dict(probe.fields))
    except pydantic.ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in found)
        raise errors.ConfigError("schema", f"health.{probe.kind}: {text}") from exc


def _name(asked: Port | Http | File) -> str:
    match asked:
        case Port():
            return f"port {asked.host}:{asked.port}"
        case Http():
            return f"http {urlsplit(asked.url)._replace(query='', fragment='').geturl()}"  # A query may hold a token.
        case File():
            return f"file {asked.path}"


def _ask(asked: Port | Http | File, until: float, file_root: Path | None) -> None:
    match asked:
        case Port():
            _connect(asked.host, asked.port, until).close()
        case Http():
            _ask_http(asked, until)
        case File():
            _ask_file(asked, file_root)


# --- port and http ----------------------------------------------------------------------------------------------------


def _connect(host: str, port: int, until: float) -> socket.socket:
    """To one of the addresses that were resolved and judged here: a name is never resolved a second time."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise _NoAnswerError("its name does not resolve") from exc
    addresses = [(family, address) for family, _, _, _, address in found]
    for _, address in addresses:
        _judge(str(address[0]))
    last: OSError | None = None
    for family, address in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(deadline.left_s(until))
            sock.connect(address)
        except OSError as exc:
            sock.close()
            last = exc
        else:
            return sock
    raise _NoAnswerError(deadline.words(last)) from last


def _judge(address: str) -> None:
    """Refuse what no service of a bank answers on but a credential may lie behind (targets.md T12)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in METADATA:
        raise _WrongAnswerError("link-local, metadata and multicast addresses are refused", "probe_refused")


def _ask_http(asked: Http, until: float) -> None:
    parts = urlsplit(asked.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    with _connect(host, parts.port or (443 if secure else 80), until) as plain:
        try:
            with _secured(plain, host) if secure else plain as sock:
                sock.settimeout(deadline.left_s(until))
                sock.sendall(_request(parts))
                _judge_answer(asked, sock, until)
        except ssl.SSLCertVerificationError as exc:
            raise _WrongAnswerError("its certificate is not trusted", "target.tls_untrusted") from exc
        except http.client.HTTPException as exc:
            raise _WrongAnswerError("what answers does not speak HTTP") from exc
        except OSError as exc:
            raise _NoAnswerError(deadline.words(exc)) from exc


def _secured(sock: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(sock, server_hostname=host)


def _request(parts: SplitResult) -> bytes:
    target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    target = target if target.startswith("/") else f"/{target}"
    return (
        f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: reconciler\r\nConnection: close\r\n\r\n".encode()
    )


def _judge_answer(asked: Http, sock: socket.socket, until: float) -> None:
    answer = http.client.HTTPResponse(_Deadlined(sock, until), method="GET")  # type: ignore[arg-type]  # It only calls makefile.
    with answer:
        answer.begin()
        if answer.status != asked.status:
            message = f"answers {answer.status}, not {asked.status}"
            raise _NoAnswerError(message) if answer.status in NOT_YET else _WrongAnswerError(message)
        if asked.contains is not None and asked.contains.encode() not in answer.read(MAX_BYTES):
            raise _WrongAnswerError("its answer does not contain what is asked for")


class _Deadlined:
    """A socket's reading half with one deadline for all reads: a server that drips a byte at a time gains nothing."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self._until = sock, until

    def makefile(self, _mode: str) -> io.BufferedReader:
        return deadline.reader(self._sock, self._until)


# --- file ---------------------------------------------------------------------------------------------------------------


def _ask_file(asked: File, file_root: Path | None) -> None:
    parts = [p for p in asked.path.split("/") if p]
    if ".." in parts or "\0" in asked.path or (file_root is None and not asked.path.startswith("/")):
        raise _WrongAnswerError("the path of a file probe is absolute and has no ..", "probe_refused")
    try:
        content = _read_file(file_root or Path("/"), parts, follow=file_root is None)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise _NoAnswerError("it is not there") from exc
    except OSError as exc:
        raise _WrongAnswerError(deadline.words(exc)) from exc
    if asked.contains is not None and asked.contains.encode() not in content:
        raise _WrongAnswerError("it does not contain what is asked for")


def _read_file(root: Path, parts: Sequence[str], *, follow: bool) -> bytes:
    """Inside a target's root no symlink is followed: it could lead out. O_NONBLOCK: a FIFO must not hold us."""
    nofollow = 0 if follow else os.O_NOFOLLOW
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | nofollow, dir_fd=at)
            os.close(at)
            at = below
        last = os.open(parts[-1] if parts else ".", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | nofollow, dir_fd=at)
    finally:
        os.close(at)
    with os.fdopen(last, "rb") as file:
        if not stat.S_ISREG(os.fstat(last).st_mode):
            raise IsADirectoryError(21, "it is no regular file")
        return file.read(MAX_BYTES)
