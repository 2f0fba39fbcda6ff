"""What may leave the process: every surface passes its documents and its texts through here (design.md 5, targets.md 1.7).

Text that a target or a commit wrote is data: it must not move a terminal's cursor, reorder what a person reads, or carry a
secret out. Pure, but for the values that were resolved in this process: those are remembered, because they must be found again
wherever they turn up.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.parse
from collections.abc import Iterable

from pydantic import JsonValue

MASK = "***"
MIN_SECRET_CHARS = 4  # longer than the mask: so masking ends, and a shorter value would mask half of every text
MAX_CHARS = 1 << 20  # of one text
MAX_DEPTH = 64

_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # ECMA-48 5.4: control sequences
    r"|\x1b[\]PX^_][^\x07\x1b]*(\x07|\x1b\\)?"  # 5.6: control strings, with xterm's BEL
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
# Cc but LF and TAB, Cf (bidi controls, zero-width and tag characters), Zl, Zp, Cs.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f]"
)
_SECRET_KEY = re.compile(
    r"(?i)(pass(word|wd|phrase)?|secret|token|credentials?|api[-_]?key|(private|signing|access)[-_]?key|authorization|cookie)$"
)
_REFERENCE = re.compile(
    r"(vault:[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*(#[A-Za-z0-9_.-]+)?|env:[A-Za-z_][A-Za-z0-9_]*|file:/\S*)"
)


# What a kubeconfig (a secret as a whole) has in common with every manifest: masked, `kind: ConfigMap` and `user: deployer`
# would be unreadable in every plan. Its token and key are remembered by themselves too.
_KUBECONFIG = "kind: Config"
_NAMES = re.compile(
    r"(- )?(clusters|cluster|users|user|contexts|context|preferences|extensions):( \{\}| \[\])?"
    r"|(- )?(apiVersion|kind|name|namespace|cluster|user|current-context): \S.{0,62}"
)


class _Known:
    """The values that were resolved in this process, in every form in which they may turn up."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._changed = threading.Lock()

    def __repr__(self) -> str:
        return f"_Known({len(self._forms)} forms, {MASK})"

    def add(self, forms: Iterable[str]) -> None:
        with self._changed:
            fresh = self._forms | {form for form in forms if len(form) >= MIN_SECRET_CHARS}
            if fresh == self._forms:
                return
            self._forms = fresh
            # The longest first: of two that overlap, the rest of the longer one must not stay.
            self._pattern = re.compile("|".join(re.escape(f) for f in sorted(fresh, key=len, reverse=True)))

    def mask(self, value: str) -> str:
        """Until nothing is found: a mask may bring together what stood apart. Each round makes the text shorter."""
        pattern, found = self._pattern, 1
        while pattern is not None and found:
            value, found = pattern.subn(MASK, value)
        return value


_known = _Known()


def remember(secret: str) -> None:
    """From now on this value is masked wherever it turns up: as it is, line by line, quoted, and in base64.

    A value of fewer than `MIN_SECRET_CHARS` characters cannot be masked; whoever resolves it refuses it.
    """
    whole = [secret, _visible(secret), secret.strip()]
    lines = [line.strip() for line in _visible(secret).splitlines()] if "\n" in secret else []
    if _KUBECONFIG in lines:
        lines = [line for line in lines if not _NAMES.fullmatch(line)]
    blob = secret.encode("utf-8", "surrogatepass")
    coded = [base64.b64encode(blob).decode(), base64.urlsafe_b64encode(blob).decode(), json.dumps(secret)[1:-1]]
    quoted = [urllib.parse.quote(blob, safe=""), urllib.parse.quote_plus(blob)]
    _known.add([*whole, *lines, *coded, *(c.rstrip("=") for c in coded), *quoted])


def text(value: str, *, limit_chars: int = MAX_CHARS) -> str:
    """Without escape sequences, control and bidi characters and known secrets; LF and TAB stay. At most about `limit_chars`."""
    clean = _known.mask(_visible(value))
    if len(clean) <= limit_chars:
        return clean
    # Cut after masking, or half a secret could stay at the edge; masked again, because the note stands beside it.
    return _known.mask(f"{clean[:limit_chars]}… ({len(clean) - limit_chars} characters more)")


def line(value: str, *, limit_chars: int = 4096) -> str:
    """The same on one line: for tables, logs and errors."""
    return text(" ".join(_visible(value).split()), limit_chars=limit_chars)


def document(value: JsonValue, *, limit_chars: int = MAX_CHARS) -> JsonValue:
    """Every text in it, keys included; what stands under a key that looks like a secret's is masked, references are not."""
    return _document(value, limit_chars, 0, secret=False)


def looks_secret(key: str) -> bool:
    """Whether what stands under this key is a secret by its name: `password`, `apiKey`, `db_token`; not `tokenUrl`."""
    return _SECRET_KEY.search(key) is not None


def is_reference(value: str) -> bool:
    """Whether this text names a secret and is none: `vault:mount/path#key`, `env:NAME`, `file:/path`."""
    return _REFERENCE.fullmatch(value) is not None


def _document(value: JsonValue, limit_chars: int, depth: int, *, secret: bool) -> JsonValue:
    if depth > MAX_DEPTH:
        return MASK
    match value:
        case str() if secret and not _REFERENCE.fullmatch(value):
            return MASK if value else ""
        case str():
            return text(value, limit_chars=limit_chars)
        case dict():
            clean: dict[str, JsonValue] = {}
            for key, inner in value.items():
                name = text(key)
                while name in clean:  # Two keys that differ in what nobody sees: one must not hide the other.
                    name += "~"
                clean[name] = _document(inner, limit_chars, depth + 1, secret=secret or looks_secret(key))
            return clean
        case list():
            return [_document(each, limit_chars, depth + 1, secret=secret) for each in value]
        case bool() | None:
            return value
        case _:
            return MASK if secret else value


def _visible(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    return _INVISIBLE.sub("", _SEQUENCES.sub("", value))
