"""Takes away what a renderer does not need, then becomes it: `python -I -S confining.py BINARY ARGUMENT...`. Never imported.

Its own network, which has no way out, where the kernel lets us make one (a user namespace; containers may forbid it: then
what stands before holds, the check of every input and an environment whose proxies lead nowhere). No core, no growth of
processor time, memory and files beyond a limit.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_CPU, 30),
    (resource.RLIMIT_DATA, 1 << 30),
    (resource.RLIMIT_FSIZE, 16 << 20),
    (resource.RLIMIT_NOFILE, 512),
)


def main() -> None:
    os.umask(0o077)
    ctypes.CDLL(None).unshare(CLONE_NEWUSER | CLONE_NEWNET)
    for kind, most in LIMITS:
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    os.execve(sys.argv[1], sys.argv[1:], os.environ)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
