"""What git and ssh print when they fail -> the lines that tell why, and what to do. Pure; no line marked as the remote's.

git ends with a sentence that is the same for every cause; ssh(1) says the cause before it, fsck names the object before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LINES = 2
_CHARS = 260
_OURS = re.compile(
    r"(?:fatal|error|ssh): .*"
    r"|Host key verification failed\.?"
    r"|No [A-Z0-9-]+ host key is known for .*"
    r"|Host key for \S+ has changed and you have requested strict checking\."
    r"|[^ :]+: Permission denied \([a-z,-]+\)\."
    r"|Load key .*"
    r"|kex_exchange_identification: .*"
)
# Said whatever the cause was: kept only where nothing else was said.
_GENERAL = re.compile(
    r"fatal: Could not read from remote repository\."
    r"|fatal: (?:fsck error in packed object|fetch-pack: invalid index-pack output|the remote end hung up.*)"
    r"|fatal: unpack-objects failed|error: some local refs could not be updated.*"
    r"|Host key verification failed\.?"
)
_ADVICE = (
    (r"Permission denied", "let this key read the repository there (source.auth.sshKey)"),
    (r"Load key", "see that source.auth.sshKey is a private key that this user may read"),
    (
        r"Host key for \S+ has changed",
        "somebody may answer in its place: ask those who run the host before source.auth.knownHosts is changed",
    ),
    (r"[Hh]ost key", "put the host's key into the file that source.auth.knownHosts names, after checking it"),
    (r"[Rr]esolve host", "see that the host in source.url is right, and that its name resolves here"),
    (
        r"could not read Username|Authentication failed|error: 40[13]",
        "see that source.auth.token is right and may read it",
    ),
    (
        r"Out of memory",
        "an object there unpacks to more than is ever held: take the commit that brings it off the branch",
    ),
    (r"error: object [0-9a-f]+: ", "the object is refused wherever it stands: make the commit that holds it again"),
    (
        r"not appear to be a git repository|repository .* not found|error: 404",
        "see that the path in source.url is right",
    ),
    (r"certificate|SSL", "see that the host's certificate is one that this machine trusts"),
)


def telling(stderr: str, code: int) -> str:
    """At most two lines, as printable ASCII: the causes where there are any, else the last thing that was said."""
    lines = [line for line in stderr.splitlines() if _OURS.fullmatch(line)]
    causes = list(dict.fromkeys(line for line in lines if not _GENERAL.fullmatch(line)))
    kept = causes[:_LINES] or lines[-1:] or [f"exit code {code}"]
    return re.sub(r"[^ -~]", "?", "; ".join(_short(kept)))


def advice(told: str) -> str:
    """How to mend what `telling` told."""
    return next((fix for pattern, fix in _ADVICE if re.search(pattern, told)), "see that it is reachable from here")


def _short(lines: Iterable[str]) -> Iterable[str]:
    return (line[: _CHARS // _LINES] for line in lines)
