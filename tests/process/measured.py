"""The command line in a process of its own, which says afterwards what it and the git below it took.

Memory at most, in KiB; processor time in seconds, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from reconciler.cli import main

if __name__ == "__main__":
    code = main.run(sys.argv[2:])
    ours, git = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    spent_s = sum(each.ru_utime + each.ru_stime for each in (ours, git))
    peak = {"code": code, "ours": ours.ru_maxrss, "git": git.ru_maxrss, "spent_s": spent_s}
    Path(sys.argv[1]).write_text(json.dumps(peak))
