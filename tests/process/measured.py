"""The command line in a process of its own, which says afterwards what it and the git below it took at most, in KiB."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from reconciler.cli import main

if __name__ == "__main__":
    code = main.run(sys.argv[2:])
    peak = {
        "code": code,
        "ours": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "git": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
    }
    Path(sys.argv[1]).write_text(json.dumps(peak))
