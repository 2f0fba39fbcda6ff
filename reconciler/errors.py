"""Five errors, by what the caller must do next. Vendor exceptions are mapped to these at the edge that raised them."""

from __future__ import annotations


class ReconcilerError(Exception):
    """What went wrong, where (file:line of the desired state) and how to fix it; never a value that might be secret.

    `code` is stable and may be matched on; the texts may change.
    """

    def __init__(self, code: str, message: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(": ".join(part for part in (where, message) if part))
        self.code = code
        self.message = message
        self.where = where
        self.fix = fix


class ConfigError(ReconcilerError):
    """Fix it: a document, an option or an installation is wrong."""


class TransientError(ReconcilerError):
    """Retry: nothing was sent."""


class PermanentError(ReconcilerError):
    """Give up for this revision: the other side said no."""


class OutcomeUnknownError(ReconcilerError):
    """Look again: a write may have landed."""


class AuditError(ReconcilerError):
    """Stop the process: the log could not be appended to, or what is stored does not verify."""
