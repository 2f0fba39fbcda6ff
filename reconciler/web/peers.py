"""Who is at the other end of the socket, and what the configuration lets that user do (design.md 5)."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from reconciler import config
from reconciler.web.application import Actor

_UCRED = struct.Struct("3i")  # unix(7): struct ucred {pid_t pid; uid_t uid; gid_t gid;}


class Peer(NamedTuple):
    """What the kernel noted when the connection was made."""

    pid: int
    uid: int
    gid: int


def peer(connection: socket.socket) -> Peer:
    """SO_PEERCRED, unix(7): the credentials cannot be chosen by the one who connects."""
    return Peer(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def actor(of: Peer, operators: Iterable[config.Operator]) -> Actor:
    """The user's name with its uid, and the union of the verbs of every entry that fits. The daemon's own uid has all.

    Groups are looked up at each request: somebody who left the group has left. A lookup may block.
    """
    name, groups = _account(of)
    if of.uid == os.getuid():
        return Actor(name, config.VERBS)
    return Actor(name, frozenset(verb for entry in operators if _fits(entry, of.uid, groups) for verb in entry.verbs))


def strangers(operators: Iterable[config.Operator]) -> tuple[str, ...]:
    """A sentence for each user and group that this machine does not know: its verbs are nobody's. A lookup may block."""
    said = []
    for number, entry in enumerate(operators):
        try:
            if entry.user is not None:
                pwd.getpwnam(entry.user)
            if entry.group is not None:
                grp.getgrnam(entry.group)
        except KeyError:
            named = f"user {entry.user}" if entry.user is not None else f"group {entry.group}"
            said.append(
                f"operators.{number}: this machine knows no {named}; {', '.join(entry.verbs)} is given to nobody"
            )
    return tuple(said)


def _account(of: Peer) -> tuple[str, frozenset[int]]:
    try:
        account = pwd.getpwuid(of.uid)
    except KeyError:
        return f"uid {of.uid}", frozenset({of.gid})
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    return f"{account.pw_name} (uid {of.uid})", frozenset({of.gid, *groups})


def _fits(entry: config.Operator, uid: int, groups: frozenset[int]) -> bool:
    """A user or a group that this machine does not know fits nobody."""
    try:
        if entry.uid is not None:
            return entry.uid == uid
        if entry.user is not None:
            return pwd.getpwnam(entry.user).pw_uid == uid
        return entry.group is not None and grp.getgrnam(entry.group).gr_gid in groups
    except KeyError:
        return False
