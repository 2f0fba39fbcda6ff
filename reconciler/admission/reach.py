"""What a target of one environment may reach: secret references and endpoints (trust.md 4.1). Pure; nothing is resolved."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

import pydantic

from reconciler import documents
from reconciler.admission import patterns

_HOST = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.-]+"
_REFERENCE = re.compile(rf"(?:vault|env|file):/?{_SEGMENT}(?:/{_SEGMENT})*")
_SECRET_PATTERN = re.compile(r"(?:vault|env|file):/?[A-Za-z0-9_.*-]+(?:/[A-Za-z0-9_.*-]+)*")


def _secret(text: str) -> str:
    if not _SECRET_PATTERN.fullmatch(text) or patterns.problem("/" + text.partition(":")[2].removeprefix("/")):
        raise ValueError(f"{text!r} is no pattern of references, such as 'vault:kv/prod/**'")
    return text


def _endpoint(text: str) -> str:
    if "/" in text:
        ipaddress.ip_network(text)  # Raises ValueError, also for host bits that are set.
    elif not _HOST.fullmatch(text):
        raise ValueError(
            f"{text!r} is neither a lower-case name, '*.' and a name, nor a network such as '10.20.0.0/16'"
        )
    return text


class Environment(documents.Camel):
    """What a target of this environment may reach; empty allows nothing."""

    secrets: tuple[Annotated[str, pydantic.AfterValidator(_secret)], ...] = ()
    endpoints: tuple[Annotated[str, pydantic.AfterValidator(_endpoint)], ...] = ()

    def allows_secret(self, reference: str) -> bool:
        """`vault:kv/prod/cluster#kubeconfig`, matched without its key; a form that a client could fold matches nothing."""
        bare = reference.partition("#")[0]
        if not _REFERENCE.fullmatch(bare):
            return False
        kind, _, path = bare.partition(":")
        mine = (pattern.partition(":") for pattern in self.secrets)
        return any(k == kind and _same_form(p, path) and patterns.matches(_rooted(p), _bare(path)) for k, _, p in mine)

    def allows_endpoint(self, host: str) -> bool:
        """A lower-case name or an address, without port."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            named = (pattern for pattern in self.endpoints if "/" not in pattern)
            return (
                _HOST.fullmatch(host) is not None and not host.startswith("*") and any(_covers(p, host) for p in named)
            )
        networks = (ipaddress.ip_network(pattern) for pattern in self.endpoints if "/" in pattern)
        return str(address) in self.endpoints or any(address in network for network in networks)


def _same_form(pattern: str, path: str) -> bool:
    return pattern.startswith("/") == path.startswith("/")


def _rooted(pattern: str) -> str:
    return "/" + pattern.removeprefix("/")


def _bare(path: str) -> bytes:
    return path.removeprefix("/").encode()


def _covers(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
