"""What the daemon's code logs goes to stderr: for people on a terminal, JSON elsewhere. stdout is for answers."""

from __future__ import annotations

import logging
import sys


def configure() -> None:
    """One line an event, redacted like every other way out."""
    import structlog

    from reconciler import redact

    def clean(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {name: redact.text(value) if isinstance(value, str) else value for name, value in event.items()}

    terminal = sys.stderr.isatty()
    shown = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            clean,
            shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
