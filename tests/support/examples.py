"""How many examples a law is tried with: a few at each change, thousands where `RECONCILER_EXAMPLES` says so."""

from __future__ import annotations

import os

ASKED = int(os.environ.get("RECONCILER_EXAMPLES", "0"))


def at_least(few: int) -> int:
    return max(few, ASKED)
