"""What a document may reach: every host and every secret reference in it, held against its environment (trust.md 4.1, C77, C84)."""

from __future__ import annotations

import ipaddress
import re
import weakref
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from pydantic import JsonValue

from reconciler import model, strict_yaml
from reconciler.admission import policy
from reconciler.gates import sources

SCHEMES = ("vault:", "env:", "file:")
NO_HOST = "(no host)"

_SEGMENT = r"(?!\.{1,2}(?:[/#]|\Z))[A-Za-z0-9_.-]+"
_REFERENCE = re.compile(
    rf"vault:{_SEGMENT}(?:/{_SEGMENT})+\#{_SEGMENT} | env:[A-Za-z_][A-Za-z0-9_]* | file:(?:/{_SEGMENT})+", re.VERBOSE
)
# Fields whose value is a host, an address or a URL, whatever the kind of target calls them.
_HOST_FIELD = re.compile(
    r".*(?:hosts?|hostname|addr|address|addresses|servers?|endpoints?|ur[li]|dsn|jump|bastion|proxy|gateway|via|peers?|nodes?)",
    re.IGNORECASE,
)
_PINS = frozenset({"knownhosts", "hostkey", "hostkeys"})  # Keys of hosts: nothing is contacted because of them.
# In a payload `env:` and `file:` are also what people write into labels: only fields that take a secret count there.
_SECRET_FIELD = re.compile(r".*(?:secret|password|passphrase|token|credential|key|ref|reference|from)s?", re.IGNORECASE)


class Use(NamedTuple):
    """One host or reference, and where it stands."""

    text: str
    where: str


def check(
    desired: model.Desired, document: sources.File, payload: Iterable[sources.File], rules: policy.Policy
) -> model.ValidationResult:
    """What this target names outside of what the policy allows for its environment. Pure; nothing is resolved."""
    allowed = rules.environments.get(desired.environment)
    if allowed is None:
        where = document.place(("spec", "environment"))
        return (
            _reason(
                "environment",
                f"the policy names no environment `{desired.environment}`",
                where,
                f"one of {', '.join(sorted(rules.environments))}",
            ),
        )
    uses = (*references(document), *(use for file in payload for use in _payload_references(file)))
    found = (
        *(_judge_reference(use, allowed, desired.environment) for use in uses),
        *(_judge_host(use, allowed, desired.environment) for use in hosts(desired, document)),
    )
    return tuple(reason for reason in found if reason)


def check_references(
    desired: model.Desired, uses: Iterable[tuple[str, str]], rules: policy.Policy
) -> model.ValidationResult:
    """The same of what a payload says once it is rendered: (reference, file:line)."""
    allowed = rules.environments.get(desired.environment)
    if allowed is None:
        return ()  # `check` says so.
    found = (_judge_reference(Use(*use), allowed, desired.environment) for use in uses)
    return tuple(reason for reason in found if reason)


def _judge_reference(use: Use, allowed: policy.Environment, environment: str) -> model.Reason | None:
    if not _REFERENCE.fullmatch(use.text):
        fix = "write vault:mount/path#key, env:NAME or file:/path, without `.` and `..`"
        return _reason("secret_reference", f"{_shown(use.text)} is no secret reference", use.where, fix)
    if allowed.allows_secret(use.text):
        return None
    message = f"{use.text}: a secret outside of what `{environment}` may use"
    return _reason("environment_limits", message, use.where, _limits_fix("secrets", allowed.secrets))


def _judge_host(use: Use, allowed: policy.Environment, environment: str) -> model.Reason | None:
    if _allowed(allowed, use.text):
        return None
    message = f"{use.text}: a host outside of what `{environment}` may reach"
    return _reason("environment_limits", message, use.where, _limits_fix("endpoints", allowed.endpoints))


def _allowed(allowed: policy.Environment, host: str) -> bool:
    try:
        if ipaddress.ip_address(host).is_link_local:  # Where clouds keep credentials (targets.md T12).
            return False
    except ValueError:
        pass
    return allowed.allows_endpoint(host)


def _limits_fix(field: str, allowed: tuple[str, ...]) -> str:
    return f"allowed are {', '.join(allowed) or 'none'} (environments.*.{field} of policies/approval.yaml)"


def _shown(text: str) -> str:
    """The scheme alone: what stands behind it may be the secret itself."""
    return f"`{text.partition(':')[0]}:...`"


# --- secret references ----------------------------------------------------------------------------------------------


def references(document: sources.File) -> Iterator[Use]:
    """Every string of target.yaml's spec that begins like a reference; probes and labels too, wherever a driver may look."""
    spec = document.value.get("spec") if isinstance(document.value, dict) else None
    for path, text in sources.leaves(spec, ("spec",)):
        if isinstance(text, str) and text.startswith(SCHEMES) and path[1:2] != ("acknowledge",):
            yield Use(text, document.place(path))


def _payload_references(file: sources.File) -> Iterator[Use]:
    for part in file.parts if not file.path.startswith(sources.OPAQUE) else ():
        named = _NAMED.get(part.source)
        if named is None:
            named = _NAMED[part.source] = tuple(_named(part.value))
        yield from (Use(text, f"{file.where}:{part.line(path)}") for path, text in named)


# Of the documents that somebody still holds: of a payload of many a change moves a few.
_NAMED: weakref.WeakKeyDictionary[strict_yaml.Located, tuple[tuple[strict_yaml.Path, str], ...]] = (
    weakref.WeakKeyDictionary()
)


def _named(document: JsonValue) -> Iterator[tuple[strict_yaml.Path, str]]:
    for path, text in sources.leaves(document):
        if not isinstance(text, str) or not text.startswith(SCHEMES):
            continue
        if text.startswith("vault:") or _takes_secret([part for part in path if isinstance(part, str)]):
            yield path, text


def _takes_secret(names: list[str]) -> bool:
    """Whether a field with this path of names takes one; in a Secret of Kubernetes each does, whatever it is called."""
    return bool(names) and (_SECRET_FIELD.fullmatch(names[-1]) is not None or "stringData" in names[:-1])


# --- hosts ----------------------------------------------------------------------------------------------------------


def hosts(desired: model.Desired, document: sources.File) -> Iterator[Use]:
    """Every host that connection and probes name. A `port` probe without one asks the connection's hosts, else localhost."""
    connected = list(_connection_hosts(document))
    yield from connected
    for i, probe in enumerate(desired.probes):
        path = ("spec", "health", i, probe.kind)
        match probe.kind:
            case "port" if "host" in probe.fields:
                yield Use(host_of(str(probe.fields["host"])), document.place((*path, "host")))
            case "port" if not connected:
                yield Use("localhost", document.place(path))
            case "http":
                yield Use(host_of(str(probe.fields.get("url", ""))), document.place((*path, "url")))
            case _:
                pass


def _connection_hosts(document: sources.File) -> Iterator[Use]:
    spec = document.value.get("spec") if isinstance(document.value, dict) else None
    connection = spec.get("connection") if isinstance(spec, dict) else None
    for path, value in sources.leaves(connection, ("spec", "connection")):
        if (isinstance(value, str) and value.startswith(SCHEMES)) or _PINS & {str(part).lower() for part in path}:
            continue
        named = [part for part in path[2:] if isinstance(part, str)]
        found = _hosts_in(value, is_host=any(_HOST_FIELD.fullmatch(part) for part in named[-1:]))
        keyed = (part for part in named if "." in part or _is_address(part))  # hosts: {web1.prod.bank.example: {...}}
        yield from (Use(host, document.place(path)) for host in (*found, *keyed))


def _hosts_in(value: JsonValue, *, is_host: bool) -> Iterator[str]:
    if not isinstance(value, str):
        if is_host and value is not None:
            yield NO_HOST  # A number may be an address too, to those who read it so.
    elif "://" in value or is_host or _is_address(value):
        yield host_of(value)
        query = parse_qsl(value.partition("?")[2])  # libpq lets `?host=` win over the host before it.
        yield from (host_of(text) for name, text in query if _HOST_FIELD.fullmatch(name))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host_of(text: str) -> str:
    """`https://user@App.bank.example:8443/x`, `deployer@web1:22`, `[::1]:443` -> the host alone.

    What two readers could take apart differently is NO_HOST, which no policy allows; it is not repeated, since it may
    hold a password.
    """
    if _is_address(text):
        return text
    if not text.isprintable() or set(text) & set(" \\"):
        return NO_HOST
    try:
        return urlsplit(text if "://" in text else f"//{text}").hostname or NO_HOST
    except ValueError:
        return NO_HOST


def _reason(code: str, message: str, where: str, fix: str) -> model.Reason:
    return model.Reason(code=code, message=message, where=where, fix=fix)
