"""What is wanted and what is there -> an observation with its step. Pure; the remediation of targets.md 1.2."""

from __future__ import annotations

import difflib
import unicodedata
from dataclasses import dataclass

from reconciler import model
from reconciler.targets.vm import document

MAX_DIFF_BYTES = 64 << 10  # of either side; beyond it the digests have to do
MASKED = "(changed)"
NO_NEWLINE = "\\ No newline at end of file"  # as diff(1) and git write it, on a line of its own


@dataclass(frozen=True)
class Found:
    """One resource as it was seen. `text` is its content, where that may be shown and is small enough."""

    key: model.Key
    path: str
    identity: str
    order: int
    actual: document.State | None
    marked: bool
    owned: bool
    text: bytes | None = None


def observation(found: Found, want: document.Want | None, state: document.State | None) -> model.Observation:
    """Both sides and the way from one to the other. `state` is `want` with the owners resolved."""
    alike = state == found.actual
    return model.Observation(
        key=found.key,
        wanted=state.document() if state else None,
        actual=found.actual.document() if found.actual else None,
        marked=found.marked or found.actual is None,
        identity=found.identity if found.actual else "",
        order=found.order,
        health=model.Health.HEALTHY if alike else model.Health.UNKNOWN,
        steps=(_mark(found) if state and found.owned and not found.marked else ())
        if alike
        else (_step(found, want, state),),
        source=want.source if want else "",
    )


def digest(state: document.State | None) -> model.Digest | None:
    """What a step's `before` is compared with."""
    return model.sha256(model.canonical_json(state.document())) if state else None


def _mark(found: Found) -> tuple[model.Step, ...]:
    """Recorded as ours, and the ledger has lost it: that is drift too."""
    command = f"mark {found.path} as ours in {document.OURS}/ledger.json"
    return (model.Step(key=found.key, action="update", command=command, before=digest(found.actual), undo=""),)


def _step(found: Found, want: document.Want | None, state: document.State | None) -> model.Step:
    return model.Step(
        key=found.key,
        action="delete" if state is None else "create" if found.actual is None else "update",
        command=_command(found, state),
        before=digest(found.actual),
        undo=_undo(found),
        hazards=want.hazards if want else (),
        diff=_diff(found, want),
    )


def _command(found: Found, state: document.State | None) -> str:
    if state is None:
        return f"{'rmdir' if found.actual and found.actual.type == 'directory' else 'delete'} {found.path}"
    owner = f"mode {state.mode} owner {state.uid}:{state.gid}"
    if state.type == "directory":
        return f"{'mkdir' if found.actual is None else 'set'} {found.path} {owner}"
    return f"write {found.path} {owner} sha256 {state.digest} ({state.size} bytes)"


def _undo(found: Found) -> str:
    match found.actual:
        case None:
            return f"delete {found.path}"
        case document.State(type="directory") as state:
            return f"set {found.path} mode {state.mode} owner {state.uid}:{state.gid}"
        case state:
            return f"write {found.path} mode {state.mode} owner {state.uid}:{state.gid} sha256 {state.digest} as kept"


def _diff(found: Found, want: document.Want | None) -> str:
    """Unified, of text. Masked where a side is sensitive, and where the old side is not known to be ours: it may hold anything."""
    if want is None or want.type == "directory" or want.content is None:
        return ""
    if found.actual is not None and found.actual.digest == want.digest:
        return ""  # Only mode or owner.
    if want.sensitive or (found.actual is not None and found.text is None):
        return MASKED
    old, new = _lines(found.text or b""), _lines(want.content)
    if old is None or new is None:
        return MASKED
    return "\n".join(difflib.unified_diff(old, new, "actual", "wanted", lineterm=""))


def _lines(content: bytes) -> list[str] | None:
    """None for what is too large or no text."""
    if len(content) > MAX_DIFF_BYTES or b"\0" in content:
        return None
    try:
        *whole, rest = content.decode().split(
            "\n"
        )  # Only LF ends a line; what else some viewer takes for one is escaped.
    except UnicodeDecodeError:
        return None
    lines = [_visible(line) for line in whole]
    return [*lines, f"{_visible(rest)}\n{NO_NEWLINE}"] if rest else lines


def _visible(line: str) -> str:
    """Escape what would move a cursor, break a line or hide text: what a host holds is data (targets.md 1.7)."""
    return "".join(c if c == "\t" or not _hides(c) else c.encode("unicode_escape").decode() for c in line)


def _hides(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in {"Zl", "Zp"}
