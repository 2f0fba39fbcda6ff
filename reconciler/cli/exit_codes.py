"""What a command's exit code says (design.md 9, docs/reference/exit-codes.md). Pure; imports nothing that is slow to load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler import errors

FINE = 0
DIFFERS = 1  # or has drifted
USAGE = 2  # or configuration
GATE = 3  # one said no
UNAPPROVED = 4  # not signed or not approved
DEFERRED = 5
UNREACHABLE = 6  # the source or a target
BROKEN = 7  # the audit log or the history
FAILED = 8  # a deployment, or it was rolled back
INTERNAL = 70
DEADLINE = 124  # one of ours

WORST_FIRST = (INTERNAL, BROKEN, FAILED, UNAPPROVED, GATE, UNREACHABLE, DEFERRED, DIFFERS, FINE)

_UNREACHABLE_CODES = frozenset({"source_error", "forge_error"})
_STANDINGS: Mapping[str, int] = {"uncleared": GATE, "degraded": FAILED, "stuck": FAILED, "detect": DIFFERS}
_UNAPPROVED = frozenset({"conflict", "excluded", "not_approved", "not_readable"})
_HISTORY = frozenset({"rewind", "non_descendant", "ref_missing", "first_parent_broken", "pin"})


def worst(codes: Iterable[int]) -> int:
    """The first of these in the order of severity. Nothing at all is fine; a code without a place in it is ours to explain."""
    return min(codes, key=lambda code: WORST_FIRST.index(code) if code in WORST_FIRST else 0, default=FINE)


def of_verdict(verdict: str, codes: Iterable[str]) -> int:
    """A HOLD is a matter of reaching somebody only where nothing else holds it."""
    match verdict:
        case "ACCEPT":
            return FINE
        case "HALT":
            return BROKEN
        case "HOLD" if (said := frozenset(codes)) and said <= _UNREACHABLE_CODES:
            return UNREACHABLE
        case _:  # Also a verdict that nobody knows: refused.
            return UNAPPROVED


def of_standing(code: str | None) -> int:
    return FINE if code is None else _STANDINGS.get(code, DEFERRED)


def of_error(exc: errors.ReconcilerError) -> int:
    """By what the caller must do next, as the classes of errors are."""
    match exc:
        case errors.ConfigError():
            return USAGE
        case errors.AuditError():
            return BROKEN
        case errors.PermanentError() if exc.code in _HISTORY:
            return BROKEN
        case errors.PermanentError() if exc.code in _UNAPPROVED:
            return UNAPPROVED
        case errors.ReconcilerError():
            return UNREACHABLE
