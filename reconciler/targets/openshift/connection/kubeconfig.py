"""A kubeconfig's text -> one endpoint with one credential; all that would run, read or reach something else is refused.

A kubeconfig is written by whoever writes the secret, and clients do what it says: run a program (`exec`), read files, skip
the check of certificates, go through a proxy. Nothing of that is honoured here (targets.md 2.1, T06, T10, T12, T14).
No message repeats a value: it may be the credential.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from reconciler import errors, model, ports, redact, strict_yaml
from reconciler.targets import probes
from reconciler.targets.openshift import document

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_FILE_BYTES = 64 << 10

_NOT_A_CREDENTIAL = "use the token of a service account, or client-certificate-data with client-key-data"
_IN_DATA = "put the content itself there, as {}-data"
_REFUSED_OF_USERS: Mapping[str, str] = {
    "exec": _NOT_A_CREDENTIAL,
    "auth-provider": _NOT_A_CREDENTIAL,
    "username": _NOT_A_CREDENTIAL,
    "password": _NOT_A_CREDENTIAL,
    "tokenFile": "put the token itself there, as token",
    "client-certificate": _IN_DATA.format("client-certificate"),
    "client-key": _IN_DATA.format("client-key"),
    **dict.fromkeys(("as", "as-uid", "as-groups", "as-user-extra"), "write connection.impersonate in target.yaml"),
}
_REFUSED_OF_CLUSTERS: Mapping[str, str] = {
    "insecure-skip-tls-verify": "put the authority there, as certificate-authority-data",
    "certificate-authority": _IN_DATA.format("certificate-authority"),
    "proxy-url": "reach the server itself",
}
_PATH = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?")
_HOST = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True)
class Endpoint:
    """Where a cluster is and as whom it is asked. Certificates and keys are PEM; `ca` None is the system's own trust."""

    server: str  # https://host:port, without a slash at the end
    host: str  # a lower-case name or an address, as the policy's `endpoints` name it
    port: int
    ca: str | None = field(default=None, repr=False)
    server_name: str | None = None  # what the certificate is issued for, where that is not the host
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None  # to be read again and again: inside a cluster the kubelet renews it
    client_certificate: str | None = field(default=None, repr=False)
    client_key: str | None = field(default=None, repr=False)


def locate(wanted: model.Wanted, facilities: ports.DriverFacilities, environment: Mapping[str, str]) -> Endpoint:
    """The endpoint of this target, held against its environment's limits before anything is contacted (trust.md 4.1).

    `environment`: of this process, which says where the cluster is that it runs in.
    Raises: ConfigError(connection | kubeconfig | secret | environment_limits); TransientError(secret | resolve).
    """
    connection = document.connection(wanted)
    where = document.where(wanted)
    if connection.kubeconfig is None:
        found = in_cluster(environment)
    else:
        found = read(facilities.secrets.resolve(connection.kubeconfig), where=where)
    if not facilities.reach.allows(wanted, found.host):
        raise errors.ConfigError(
            "environment_limits",
            f"{found.host}, the cluster's server: a host outside of what the target's environment may reach",
            where=where,
            fix="add it to environments.*.endpoints of policies/approval.yaml, or correct the kubeconfig",
        )
    check_addresses(found.host)
    return found


def read(text: str, *, where: str = "") -> Endpoint:
    """Contacts and resolves nothing; `where` is the document that refers to it.

    Raises: ConfigError(kubeconfig).
    """
    whole = _parse(text, where)
    for name, settings in _named(whole, "users", "user"):
        _refuse(settings, _REFUSED_OF_USERS, f"user {name}", where)
    for name, settings in _named(whole, "clusters", "cluster"):
        _refuse(settings, _REFUSED_OF_CLUSTERS, f"cluster {name}", where)
    context = _context(whole, where)
    cluster = _one(whole, "clusters", "cluster", context.get("cluster"), where)
    user = _one(whole, "users", "user", context.get("user"), where)
    server, host, port = _server(_text(cluster, "server"), where)
    ca = _pem(cluster, "certificate-authority-data", where)
    if ca is not None:
        _check_authority(ca, where)
    token, certificate, key = _credential(user, where)
    return Endpoint(
        server=server,
        host=host,
        port=port,
        ca=ca,
        server_name=_server_name(cluster, where),
        token=token,
        client_certificate=certificate,
        client_key=key,
    )


def in_cluster(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Endpoint:
    """The cluster that this process runs in, as its service account.

    Raises: ConfigError(kubeconfig) where it does not run in one.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise _refusal("inCluster: this process does not run in a cluster", "", "name a kubeconfig instead")
    bracketed = f"[{host}]" if ":" in host else host
    server, name, number = _server(f"https://{bracketed}:{port}", "")
    token_file = folder / "token"
    ca = _file(folder / "ca.crt")
    _check_authority(ca, "")
    return Endpoint(server=server, host=name, port=number, ca=ca, token=read_token(token_file), token_file=token_file)


def read_token(path: Path) -> str:
    """The service account's token as it is now, masked everywhere from here on.

    Raises: ConfigError(kubeconfig).
    """
    token = _file(path).strip()
    _check_token(token, "")
    return token


def check_addresses(host: str) -> tuple[str, ...]:
    """Every address that this host has now; blocks on the resolver.

    Raises: ConfigError(kubeconfig) where one of them is link-local, a cloud's metadata service, or nobody's;
    TransientError(resolve) where the name has none.
    """
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as exc:
        raise errors.TransientError("resolve", f"{host}: {exc.strerror or 'no address'}") from exc
    for text in sorted(found):
        _check_address(text.partition("%")[0], host)
    return tuple(sorted(found))


def _check_address(text: str, host: str) -> None:
    address = ipaddress.ip_address(text)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_link_local or address.is_multicast or address.is_unspecified or address in probes.METADATA:
        raise _refusal(f"{host} is at {address}, where no cluster is", "", "name the cluster's own address")


# --- the parts of a kubeconfig ----------------------------------------------------------------------------------------


def _parse(text: str, where: str) -> dict[str, JsonValue]:
    try:
        return strict_yaml.load(text.encode("utf-8", "surrogatepass"), "kubeconfig")
    except errors.ConfigError as exc:
        # The message may quote the value that it is about, and the chain would carry it on.
        place = exc.where.rpartition(":")[2]
    line = f", line {place}" if place.isdecimal() else ""
    raise _refusal(
        f"the kubeconfig is no YAML that every reader reads alike{line}",
        where,
        "write it with kubectl config view --raw",
    )


def _named(whole: Mapping[str, JsonValue], section: str, inner: str) -> Iterator[tuple[str, dict[str, JsonValue]]]:
    entries = whole.get(section)
    for number, entry in enumerate(entries if isinstance(entries, list) else (), start=1):
        settings = entry.get(inner) if isinstance(entry, dict) else None
        if isinstance(settings, dict):
            yield str(number), settings  # By its number: a name is nobody's secret, but it is somebody's text.


def _refuse(settings: Mapping[str, JsonValue], refused: Mapping[str, str], whose: str, where: str) -> None:
    for name, fix in refused.items():
        if settings.get(name) not in (None, False):
            raise _refusal(f"the kubeconfig's {whose} has {name}, which is refused", where, fix)


def _context(whole: Mapping[str, JsonValue], where: str) -> dict[str, JsonValue]:
    contexts = [entry for entry in _entries(whole, "contexts") if isinstance(entry.get("context"), dict)]
    current = whole.get("current-context")
    if current:
        contexts = [entry for entry in contexts if entry.get("name") == current]
    if len(contexts) != 1:
        what = "no context" if not contexts else f"{len(contexts)} contexts"
        fix = "keep one context, or name one with current-context"
        raise _refusal(f"the kubeconfig has {what} to choose from", where, fix)
    found = contexts[0]["context"]
    return found if isinstance(found, dict) else {}


def _one(whole: Mapping[str, JsonValue], section: str, inner: str, name: object, where: str) -> dict[str, JsonValue]:
    found = [entry.get(inner) for entry in _entries(whole, section) if name and entry.get("name") == name]
    if len(found) == 1 and isinstance(found[0], dict):
        return found[0]
    raise _refusal(f"the kubeconfig's context names {len(found)} {section}, not one", where, "correct the context")


def _entries(whole: Mapping[str, JsonValue], section: str) -> list[dict[str, JsonValue]]:
    entries = whole.get(section)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _text(settings: Mapping[str, JsonValue], name: str) -> str:
    value = settings.get(name)
    return value if isinstance(value, str) else ""


def _server(text: str, where: str) -> tuple[str, str, int]:
    fix = "write server: https://HOST:PORT"
    if not text.isascii() or not text.isprintable() or set(text) & set(" \\"):
        raise _refusal("the kubeconfig's server is no web address", where, fix)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _refusal("the kubeconfig's server is no web address", where, fix) from None
    host = parts.hostname or ""
    if parts.scheme != "https":
        raise _refusal("the kubeconfig's server is not reached over https", where, fix)
    if "@" in parts.netloc or parts.query or parts.fragment or port == 0 or not _PATH.fullmatch(parts.path):
        raise _refusal("the kubeconfig's server has more than a host, a port and a path", where, fix)
    if not _HOST.fullmatch(host):
        _check_address(_address(host, where), host)
    elif _is_address(host):
        _check_address(host, host)
    return text.rstrip("/"), host, port or 443


def _address(host: str, where: str) -> str:
    if not _is_address(host):
        raise _refusal("the kubeconfig's server has no host that every reader reads alike", where, "write its name")
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _server_name(cluster: Mapping[str, JsonValue], where: str) -> str | None:
    name = cluster.get("tls-server-name")
    if name is None:
        return None
    if not isinstance(name, str) or not _HOST.fullmatch(name):
        raise _refusal("the kubeconfig's tls-server-name is no host name", where, "correct it, or leave it out")
    return name


def _credential(user: Mapping[str, JsonValue], where: str) -> tuple[str | None, str | None, str | None]:
    token = _text(user, "token")
    certificate, key = _pem(user, "client-certificate-data", where), _pem(user, "client-key-data", where)
    if bool(token) == (certificate is not None) or (certificate is None) != (key is None):
        what = (
            "no credential" if not token and certificate is None and key is None else "more or less than one credential"
        )
        raise _refusal(f"the kubeconfig's user has {what}", where, _NOT_A_CREDENTIAL)
    if key is not None:
        redact.remember(key)
        redact.remember(_text(user, "client-key-data"))
        return None, certificate, key
    _check_token(token, where)
    return token, None, None


def _check_token(token: str, where: str) -> None:
    """It goes into a header as it is."""
    if len(token) < redact.MIN_SECRET_CHARS or not token.isascii() or not token.isprintable() or " " in token:
        raise _refusal("the token is too short to be masked, or no token", where, "issue it again")
    redact.remember(token)


def _pem(settings: Mapping[str, JsonValue], name: str, where: str) -> str | None:
    value = settings.get(name)
    if value is None or value == "":
        return None
    try:
        return base64.b64decode(value if isinstance(value, str) else "-", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise _refusal(
            f"the kubeconfig's {name} is no base64 of PEM", where, "write it with --raw or --flatten"
        ) from None


def _check_authority(ca: str, where: str) -> None:
    try:
        ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        raise _refusal("the certificate authority is no certificate", where, "put its PEM there") from None


def _file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("ascii")
    except (OSError, ValueError):
        raise _refusal(f"inCluster: {path} cannot be read", "", "mount the service account's token") from None


def _refusal(message: str, where: str, fix: str) -> errors.ConfigError:
    return errors.ConfigError("kubeconfig", message, where=where, fix=fix)
