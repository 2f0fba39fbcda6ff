"""What the target itself says about us: `.reconciler/ledger.json` under the root, and the lock beside it.

The ledger names the one installation and target that write here, the keys that they wrote and the newest epoch that wrote.
So it is the ownership mark of every resource, and the fence: who wakes with an older epoch writes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping

from reconciler import errors, model, ports
from reconciler.targets.vm import document, rootfs

NAME = "ledger.json"
LOCK = "lock"
POLL_S = 0.05


class Entry(model.Value):
    sensitive: bool = False  # its content is shown to nobody, neither when it goes


class Ledger(model.Value):
    version: int = 1
    installation: str
    target: str
    epoch: int = 0
    keys: Mapping[model.Key, Entry] = {}


def read(root: rootfs.Root, installation: str, wanted: model.Wanted) -> Ledger:
    """The ledger of this target; an empty one where nobody wrote yet.

    Raises: PermanentError(claimed) where another target keeps this root; (ledger) where it cannot be read.
    """
    empty = Ledger(installation=installation, target=wanted.target)
    try:
        text = root.content(f"{document.OURS}/{NAME}", rootfs.MAX_FILE_BYTES)
    except FileNotFoundError:
        return empty
    except OSError as exc:
        raise rootfs.refused(exc, f"{document.OURS}/{NAME}") from exc
    try:
        found = Ledger.model_validate_json(text)
    except ValueError as exc:
        fix = "restore it, or remove it: what we wrote is then marked again and nothing unmarked is deleted"
        where = f"{root.path}/{document.OURS}/{NAME}"
        raise errors.PermanentError("ledger", "the ledger cannot be read", where=where, fix=fix) from exc
    names = {wanted.target}
    if isinstance(wanted, model.Desired):
        names |= {wanted.formerly, wanted.folder}
    if found.installation != installation or found.target not in names:
        raise errors.PermanentError("claimed", f"{root.path} is kept by {found.installation}/{found.target}")
    return found.model_copy(update={"target": wanted.target})


def write(root: rootfs.Root, ledger: Ledger) -> None:
    """Replace it atomically and durably. Only under the lock."""
    folder = root.directory(document.OURS)
    name = f".{NAME}-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
            file.write(ledger.canonical())
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, NAME, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except OSError:
        remove_quietly(name, folder)
        raise


@contextlib.contextmanager
def locked(root: rootfs.Root, clock: ports.Clock, within_s: float) -> Iterator[None]:
    """Hold the target's lock; makes our folder on first use. Beside us, people may take it with flock(1).

    Raises: TransientError(locked) when somebody else keeps it for longer than that.
    """
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(LOCK, flags, 0o600, dir_fd=_our_folder(root))
    except OSError as exc:
        raise rootfs.refused(exc, f"{root.path}/{document.OURS}") from exc
    try:
        until = clock.monotonic_s() + within_s
        while not _try(descriptor, fcntl.LOCK_EX):
            if clock.monotonic_s() >= until:
                raise errors.TransientError("locked", f"{root.path}/{document.OURS}/{LOCK} is held by another writer")
            clock.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def is_locked(root: rootfs.Root) -> bool:
    """Whether an apply is running there right now; writes nothing."""
    try:
        descriptor = os.open(LOCK, rootfs.REGULAR, dir_fd=root.directory(document.OURS))
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _our_folder(root: rootfs.Root) -> int:
    try:
        folder = root.directory(document.OURS)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # Another writer was faster; the lock decides.
            os.mkdir(document.OURS, 0o700, dir_fd=root.directory(""))
        folder = root.directory(document.OURS)
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        shown = f"{root.path}/{document.OURS}"
        raise errors.PermanentError("writable", f"{shown} may be written by others than us", fix=f"chmod 0700 {shown}")
    return folder


def remove_quietly(name: str, folder: int) -> None:
    """Take a temporary file or folder away, if it is there."""
    with contextlib.suppress(OSError):  # What is left is found by the next apply.
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
