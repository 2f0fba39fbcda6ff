"""What an API server's refusal of a value says: whether it can ever be changed, and the words a person needs. Pure.

A Status of 422 names its causes one by one, each a field and a text such as `Invalid value: {...}: field is immutable`
(k8s.io/apimachinery, field.Error). The value may be a whole pod template, and what is wrong with it stands behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_QUOTING = 400  # Characters of a refusal that are shown as they are.
MAX_VALUE = 80  # Of a value that one quotes.

_QUOTES = re.compile(r"(?P<what>[A-Z][a-z]+ value): (?P<value>.*): (?P<wrong>.*)", re.DOTALL)
# StatefulSets, pods and the roles of bindings say it in words of their own (k8s.io/kubernetes, pkg/apis/*/validation).
_IMMUTABLE = re.compile(
    "immutable|updates to statefulset spec for fields other than|may not change fields other than|cannot change roleRef"
)


def is_immutable(status: Mapping[str, Any]) -> bool:
    """Whether what differs can never be changed in place: the API has no reason of its own for it."""
    texts = (status.get("message"), *(text for _, text in _causes(status)))
    return any(_IMMUTABLE.search(text) for text in texts if isinstance(text, str))


def shortened(status: Mapping[str, Any]) -> str:
    """The message, or where that is long its causes without the values that they quote; empty where there is none."""
    message = status.get("message")
    whole = message if isinstance(message, str) else ""
    if len(whole) <= MAX_QUOTING:
        return whole
    return "; ".join(f"{field}: {_unquoted(text)}" for field, text in _causes(status)) or whole


def _causes(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    details = status.get("details")
    found = details.get("causes") if isinstance(details, dict) else None
    for each in found if isinstance(found, list) else ():
        if isinstance(each, dict):
            yield str(each.get("field", "")), str(each.get("message", ""))


def _unquoted(text: str) -> str:
    found = _QUOTES.fullmatch(text)
    return f"{found['what']}: {found['wrong']}" if found and len(found["value"]) > MAX_VALUE else text
