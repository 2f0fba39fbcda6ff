"""`30s`, `10m`, `7d` on the command line, as everywhere else."""

from __future__ import annotations

import pydantic

from reconciler import documents, errors


def seconds(text: str, option: str) -> float:
    """Raises: ConfigError(usage)."""
    try:
        return pydantic.TypeAdapter(documents.Duration).validate_python(text)
    except pydantic.ValidationError as exc:
        raise errors.ConfigError("usage", f"{text!r} is no duration", where=option, fix="write 30s, 5m or 2h") from exc


def told(seconds: float) -> str:
    """`14d`, `4h`, `90m`: in the largest unit that leaves no rest."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:g}s"
