"""One stage on the host (targets.md 4.3): check, keep what was there, stage everything, mark, rename.

Until the first rename nothing that anybody reads has changed: a full disk or a refused owner ends the stage with every
temporary file gone. A kill between two renames leaves whole files, and what was staged is swept by the next apply.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler import errors, model
from reconciler.targets.vm import document, ledger, proposing, rootfs, store

STAGED = f"{document.OURS}-"  # how the names of our temporary files begin


@dataclass(frozen=True)
class Write:
    """One step with what it makes. `state` None: the resource goes."""

    step: model.Step
    path: str
    state: document.State | None
    content: bytes | None  # None: as it is there, or as the store keeps it
    sensitive: bool


@dataclass(frozen=True)
class Host:
    """Where one stage writes, under the lock."""

    root: rootfs.Root
    store: store.Store
    is_late: Callable[[], bool]

    def identity(self, path: str) -> str:
        return f"{self.root.path}/{path}"


@dataclass(frozen=True)
class _Staged:
    write: Write
    actual: document.State | None
    temporary: str | None  # its name in the final folder; None where nothing is staged


def write_stage(host: Host, book: ledger.Ledger, writes: Sequence[Write]) -> dict[model.Key, model.StepResult]:
    """Write exactly these, each only where its `before` holds. `book` is the ledger to leave behind, its epoch already ours.

    Results for all of them; never raises for one of them alone.
    """
    results: dict[model.Key, model.StepResult] = {}
    staged: list[_Staged] = []
    try:
        for write in writes:
            if (result := _prepare(host, write, staged)) is not None:
                results[write.step.key] = result
                if result.effect is model.Effect.FAILED:  # Nothing was renamed yet: the whole stage stays undone.
                    return results | _skipped(writes, results)
        marked = _mark(host, book, staged)
        for each in staged:
            results[each.write.step.key] = _commit(host, each)
            if results[each.write.step.key].effect is model.Effect.FAILED:
                break
        results |= _skipped(writes, results)
        _settle(host, marked, staged, results, before=book)
    except OSError as exc:
        _fail_first(writes, results, exc)
    finally:
        for each in staged:
            _discard(host, each)
    return results | _skipped(writes, results)


def sweep(root: rootfs.Root, paths: Sequence[str]) -> None:
    """Remove what a killed apply had staged beside these paths. Only under the lock."""
    for above in sorted({path.rpartition("/")[0] for path in paths}):
        try:
            folder = root.directory(above)
        except (FileNotFoundError, errors.PermanentError):
            continue
        for name in os.listdir(folder):  # noqa: PTH208 - relative to a descriptor.
            if name.startswith(STAGED):
                ledger.remove_quietly(name, folder)


# --- before the first rename --------------------------------------------------------------------------------------------


def _prepare(host: Host, write: Write, staged: list[_Staged]) -> model.StepResult | None:
    """Check, keep and stage one write; a result where it goes no further."""
    try:
        if host.is_late():
            return _failed(write, "deadline", "the stage ran out of time before its first write")
        actual = host.root.look(write.path)
        if proposing.digest(actual) != write.step.before:
            return _moved(write)
        if actual is not None and write.state is not None and actual.type != write.state.type:
            return _failed(write, "in_the_way", f"{write.path} is a {actual.type}")
        content = _content(host, write, actual)
        if content is None and write.state is not None and write.state.type == "file":
            return _failed(write, "no_way_back", f"{write.path}: the content that it had is not kept any more")
        staged.append(_Staged(write, actual, _stage(host, write, actual, content)))
    except OSError as exc:
        return _refused(write, rootfs.refused(exc, write.path))
    except errors.PermanentError as exc:
        return _refused(write, exc)
    return None


def _content(host: Host, write: Write, actual: document.State | None) -> bytes | None:
    """What the file will hold. Keeps what it held, before that can go."""
    if actual is not None and actual.type == "file" and actual != write.state:
        old = host.root.content(write.path, rootfs.MAX_FILE_BYTES)
        if model.sha256(old) != actual.digest:
            raise errors.PermanentError("moved", f"{write.path} is being written by somebody else")
        host.store.keep(old)
    if write.state is None or write.content is not None:
        return write.content
    return host.store.get(write.state.digest) if write.state.digest else None


def _stage(host: Host, write: Write, actual: document.State | None, content: bytes | None) -> str | None:
    """Make the temporary file or folder in its final folder, with its owner and mode, durable."""
    if write.state is None or write.state == actual or (actual is not None and actual.type == "directory"):
        return None
    folder, _ = host.root.parent(write.path)
    name = f"{STAGED}{secrets.token_hex(8)}"
    try:
        if write.state.type == "directory":
            os.mkdir(name, 0o700, dir_fd=folder)
            descriptor = os.open(name, rootfs.DIRECTORY, dir_fd=folder)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            _fill(descriptor, content or b"")
            _own(descriptor, write.state)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        ledger.remove_quietly(name, folder)
        raise
    return name


def _fill(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _own(descriptor: int, state: document.State) -> None:
    """Owner first: changing it clears setuid and setgid."""
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (state.uid, state.gid):
        os.fchown(descriptor, state.uid, state.gid)
    if stat.S_IMODE(found.st_mode) != int(state.mode, 8) or int(state.mode, 8) & (stat.S_ISUID | stat.S_ISGID):
        os.fchmod(descriptor, int(state.mode, 8))


def _reown(above: int, name: str, state: document.State) -> None:
    descriptor = os.open(name, rootfs.DIRECTORY, dir_fd=above)
    try:
        _own(descriptor, state)
    finally:
        os.close(descriptor)


def _mark(host: Host, book: ledger.Ledger, staged: Sequence[_Staged]) -> ledger.Ledger:
    """Mark before writing: a mark without a file is harmless, a file of ours without a mark is drift."""
    added = {e.write.step.key: ledger.Entry(sensitive=e.write.sensitive) for e in staged if e.write.state is not None}
    marked = book.model_copy(update={"keys": {**book.keys, **added}})
    ledger.write(host.root, marked)
    return marked


# --- the renames ----------------------------------------------------------------------------------------------------------


def _commit(host: Host, staged: _Staged) -> model.StepResult:
    write = staged.write
    if host.is_late():
        return _result(write, model.Effect.SKIPPED)
    try:
        if host.root.look(write.path) != staged.actual:
            return _moved(write)
        _rename(host, staged)
    except FileExistsError:
        return _moved(write)
    except OSError as exc:
        return _refused(write, rootfs.refused(exc, write.path))
    except errors.PermanentError as exc:
        return _refused(write, exc)
    identity = host.identity(write.path) if write.state else ""
    return model.StepResult(key=write.step.key, effect=model.Effect.CHANGED, identity=identity)


def _rename(host: Host, staged: _Staged) -> None:
    """The one moment at which a resource changes.

    Raises: FileExistsError where something came to be there since it was looked at.
    """
    write = staged.write
    folder, name = host.root.parent(write.path)
    match staged.actual, write.state:
        case document.State(type="directory"), None:
            os.rmdir(name, dir_fd=folder)
        case _, None:
            os.unlink(name, dir_fd=folder)
        case document.State(type="directory"), wanted:
            _reown(folder, name, wanted)
        case None, document.State(type="file") if staged.temporary:
            # A link refuses to replace; a rename would not. The temporary name goes with the others.
            os.link(staged.temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        case _ if staged.temporary:
            os.rename(staged.temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _settle(
    host: Host,
    marked: ledger.Ledger,
    staged: Sequence[_Staged],
    results: Mapping[model.Key, model.StepResult],
    *,
    before: ledger.Ledger,
) -> None:
    """Make the renames durable, then take back the marks of what is gone, and of what was not written after all."""
    changed = [e for e in staged if results[e.write.step.key].effect is model.Effect.CHANGED]
    for above in sorted({e.write.path.rpartition("/")[0] for e in changed}):
        os.fsync(host.root.directory(above))
    written = {e.write.step.key for e in changed}
    gone = {e.write.step.key for e in changed if e.write.state is None}
    kept = {k: v for k, v in marked.keys.items() if k not in gone and (k in written or k in before.keys)}
    if kept != dict(marked.keys):
        ledger.write(host.root, marked.model_copy(update={"keys": kept}))


def _discard(host: Host, staged: _Staged) -> None:
    """Take the temporary name away. After a rename it is gone already; after a link it is a second name."""
    if staged.temporary:
        ledger.remove_quietly(staged.temporary, host.root.parent(staged.write.path)[0])


# --- results ----------------------------------------------------------------------------------------------------------------


def _result(write: Write, effect: model.Effect, finding: model.Reason | None = None) -> model.StepResult:
    return model.StepResult(key=write.step.key, effect=effect, finding=finding)


def _moved(write: Write) -> model.StepResult:
    return _result(write, model.Effect.MOVED)


def _failed(write: Write, code: str, message: str) -> model.StepResult:
    return _result(write, model.Effect.FAILED, model.Reason(code=code, message=message))


def _refused(write: Write, exc: errors.PermanentError) -> model.StepResult:
    if exc.code == "moved":
        return _moved(write)
    return _result(write, model.Effect.FAILED, model.Reason.of(exc))


def _skipped(
    writes: Sequence[Write], results: Mapping[model.Key, model.StepResult]
) -> dict[model.Key, model.StepResult]:
    return {w.step.key: _result(w, model.Effect.SKIPPED) for w in writes if w.step.key not in results}


def _fail_first(writes: Sequence[Write], results: dict[model.Key, model.StepResult], exc: OSError) -> None:
    """The ledger or a folder could not be written: the first step that has no result yet carries the reason."""
    for write in writes:
        if write.step.key not in results:
            results[write.step.key] = _refused(write, rootfs.refused(exc, f"{document.OURS}/{ledger.NAME}"))
            return
