"""Path patterns of the approval policy (trust.md 4.1): `*` within a segment, `**` over segments, nothing else is special.

/targets/*/manifests/**     every file somewhere below the manifests of any target
/**/secret.yaml             that name at any depth, the root too: a whole segment `**` stands for none or many segments
"""

from __future__ import annotations

import functools
import re

_MAX_SPANS = 2  # of `**`, and of `*` in one segment: what bounds the backtracking over a path of 1024 bytes
_TOKEN = re.compile(rb"/\*\*/|/\*\*\Z|\*\*|\*|[^*/]+|/")
_MEANING = {b"/**/": rb"/(?:.*/)?", b"/**": rb"/.+", b"**": rb".*", b"*": rb"[^/]*"}


def problem(pattern: str) -> str:
    """Why this pattern may not stand in a policy; empty where it may."""
    if not pattern.startswith("/"):
        return "a pattern starts at the root, with `/`"
    if any(ord(c) < ord(" ") for c in pattern) or "***" in pattern or "//" in pattern:
        return "control characters, `***` and `//` match nothing that may stand in a tree"
    within = max(segment.replace("**", "").count("*") for segment in pattern.split("/"))
    if pattern.count("**") > _MAX_SPANS or within > _MAX_SPANS:
        return f"at most {_MAX_SPANS} of `**`, and {_MAX_SPANS} of `*` in one segment"
    return ""


def matches(pattern: str, path: bytes) -> bool:
    """Whether a raw path from the repository's root, without a leading slash, is one that this pattern means. Case counts."""
    return _compiled(pattern).fullmatch(b"/" + path) is not None


def matches_any(patterns: tuple[str, ...], path: bytes) -> bool:
    return any(matches(pattern, path) for pattern in patterns)


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[bytes]:
    """DOTALL, because a path may hold a newline until the tree is judged, and a rule must still see it."""
    tokens = _TOKEN.findall(pattern.encode())
    return re.compile(b"".join(_MEANING.get(token) or re.escape(token) for token in tokens), re.DOTALL)
