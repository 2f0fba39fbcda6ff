"""UUID version 7 (RFC 9562 5.7) from a given time and given randomness, so that a simulation repeats its ids."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from datetime import datetime

Random = Callable[[int], bytes]  # size_bytes -> that many random bytes


def uuid7(at: datetime, random: Random = secrets.token_bytes) -> str:
    """48 bits of milliseconds, then 74 random ones: ids sort by time."""
    tail = int.from_bytes(random(10), "big")
    bits = int(at.timestamp() * 1000) << 80 | tail
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=bits))
