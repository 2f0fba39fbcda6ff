"""`ports.Source`: one bare mirror of the watched repository in the state folder, and the only network call of admission.

The mirror is made by us and looked over before every use; it is read through `repository.GitRepository`.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from reconciler import errors, model
from reconciler.admission import earlier
from reconciler.git import approvals, complaints, objects, process, repository, store, trees

TIP = "refs/incoming/tip"
LOCK_WAIT_S = 30
MANY_PACKS = 50  # each fetch that brings something leaves a pack, because fsck wants one
# Each of these would change what the objects mean, or where they come from, behind our back.
_FOREIGN = (
    "shallow",
    "commondir",
    "config.worktree",
    "info/grafts",
    "info/attributes",
    "objects/info/alternates",
    "objects/info/http-alternates",
)
_SHADOWED = re.compile(rf"error: cannot lock ref '{approvals.ROOT}/[^']*': '[^']*' exists; cannot create '[^']*'")
_NOT_THERE = "not our ref"  # upload-pack, of an id that it does not have
_HINT = "error: some local refs could not be updated"
_QUIET = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")


@dataclass(frozen=True)
class Watched:
    """What is mirrored. Raises ConfigError(ref) for a ref that may not be watched."""

    remote: process.Remote
    ref: str
    object_format: str = "sha1"

    def __post_init__(self) -> None:
        process.check_ref(self.ref)


class Mirror:
    """Fetches; one writer at a time, in this process and beside it. `repository` reads what was fetched."""

    def __init__(
        self,
        git_dir: Path,
        watched: Watched,
        *,
        limits: trees.Limits = trees.DEFAULT_LIMITS,
        process_limits: process.ProcessLimits = process.DEFAULT_LIMITS,
    ) -> None:
        """Make the mirror where there is none yet.

        Raises: AuditError(repo_config) where what is there is not as we made it.
        """
        self._git_dir = git_dir.absolute()
        self._watched = watched
        self._limits = limits
        self._thread_lock = threading.Lock()
        home = self._git_dir.with_name(self._git_dir.name + ".home")
        home.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not self._git_dir.exists():
                store.make_bare(self._git_dir, watched.object_format)
            self._check()
            self._clear_leftovers()
        self._git = process.GitProcess(
            self._git_dir, home=home, object_format=watched.object_format, limits=process_limits
        )
        scratch = self._git_dir.with_name(self._git_dir.name + ".scratch")
        self.repository = _Mirrored(self._git_dir, limits=limits, process_limits=process_limits, scratch=scratch)

    def fetch(self, after: model.Oid, heads: frozenset[model.Oid]) -> model.Oid:
        """As the port says. The refs of approvals come in a second round trip, only where there are heads that need them.

        Raises: as the port, and AuditError(repo_config).
        """
        with self._locked():
            self._check()
            self._fetch(f"+{self._watched.ref}:{TIP}")
            tip = self._tip()
            self._fetch_approvals(sorted(self._with_earlier(heads | self._brought(tip, after))))
            self._compact()
        return tip

    def fetch_head(self, head: model.Oid) -> None:
        """Bring one commit that is not merged yet, by its id, with its approvals.

        Raises: TransientError(source_error), also where the remote does not have it or does not serve ids.
        """
        process.check_oid(head)
        with self._locked():
            self._check()
            try:
                self._fetch(head)  # Under no ref: nothing here drops an object, and previews would leave a ref each.
            except errors.TransientError as exc:
                if _NOT_THERE not in exc.message:
                    raise
                raise errors.TransientError(
                    "source_error",
                    f"the source has no commit {head}",
                    where=self._watched.remote.url,
                    fix="push the head first",
                ) from exc
            self._fetch_approvals(sorted(self._with_earlier({head})))

    def keep_approval(self, head: model.Oid, envelope: bytes) -> str:
        """Put an envelope that came by upload where fetched ones lie, and return its ref. Twice is once.

        Raises: PermanentError(limit) over 64 KiB, TransientError(source_error) where it cannot be written.
        """
        if len(envelope) > self._limits.envelope_bytes:
            raise objects.over_limit("of an approval", "envelope", len(envelope), self._limits.envelope_bytes)
        ref = f"{approvals.prefix_of(process.check_oid(head))}{model.sha256(envelope)}"
        with self._locked():
            self._check()
            blob = self._store("blob", envelope)
            tree = self._store("tree", b"100644 " + approvals.ENVELOPE + b"\0" + bytes.fromhex(blob))
            who = "reconciler <approval@reconciler.invalid> 0 +0000"
            wrapper = self._store("commit", f"tree {tree}\nauthor {who}\ncommitter {who}\n\napproval\n".encode())
            self._git.text("update-ref", "--end-of-options", ref, wrapper)
        return ref

    def close(self) -> None:
        self.repository.close()

    def _fetch(self, *refspecs: str) -> None:
        remote = self._watched.remote
        try:
            finished = self._git.run("fetch", *_QUIET, "--end-of-options", remote.url, *refspecs, remote=remote)
        except errors.TransientError:
            self._clear_leftovers()
            raise
        if finished.code == 0 or _only_shadowed(finished):
            return
        self._clear_leftovers()
        if f"fatal: couldn't find remote ref {self._watched.ref}" in finished.stderr.splitlines():
            raise errors.PermanentError(
                "ref_missing",
                f"the remote has no {self._watched.ref} any more",
                fix="push the branch again, at a descendant of the last accepted commit",
            )
        told = complaints.telling(_without(finished.stderr, remote.auth.token), finished.code)
        raise errors.TransientError(
            "source_error",
            f"the source cannot be fetched: {told}",
            where=remote.url,  # `Remote` takes none with a password or a token in it.
            fix=complaints.advice(told),
        )

    def _fetch_approvals(self, heads: Sequence[model.Oid]) -> None:
        """All in one round trip. Anybody may push there: what cannot be fetched holds its own head and no other, nor is
        asked for again what is too much to be read.

        Raises: TransientError(source_error) where none can be fetched: then it is the source.
        """
        heads = [head for head in heads if not self.repository.is_crowded(head)]
        if not heads:
            return
        failed: dict[model.Oid, errors.TransientError] = {}
        try:
            self._fetch(*map(_approvals, heads))
        except errors.TransientError as all_failed:
            for head in heads:
                try:
                    self._fetch(_approvals(head))
                except errors.TransientError as exc:
                    failed[head] = exc
            if len(failed) == len(heads) > 1 or not self._reachable():
                raise all_failed from None
        self.repository.set_unfetched(heads, failed)
        if any(self.repository.is_crowded(head) for head in heads):
            self._git.run("pack-refs", "--all")  # As files of their own they would cost seconds at each poll.

    def _reachable(self) -> bool:
        try:
            self._fetch(f"+{self._watched.ref}:{TIP}")
        except errors.TransientError:
            return False
        return True

    def _compact(self) -> None:
        """Roll small packs into one when there are many. Never drops an object: accepted ones outlive every ref after a rewind."""
        if sum(1 for _ in (self._git_dir / "objects/pack").glob("*.pack")) > MANY_PACKS:
            # One that fails leaves the packs as they were, and the next fetch tries again.
            self._git.run("repack", "--geometric=2", "-d", "-q")
            self._git.run("pack-refs", "--all")

    def _tip(self) -> model.Oid:
        return process.check_oid(self._git.text("rev-parse", "--verify", "--end-of-options", TIP).strip())

    def _store(self, kind: str, content: bytes) -> model.Oid:
        return process.check_oid(self._git.text("hash-object", "-w", "-t", kind, "--stdin", stdin=content).strip())

    def _brought(self, tip: model.Oid, after: model.Oid) -> frozenset[model.Oid]:
        """The heads of the merges after `after`. A history that is no continuation has none: admission will say what it is."""
        try:
            revisions = tuple(self.repository.first_parents(tip, after))
            return frozenset(parent for oid in revisions for parent in self.repository.links(oid).parents[1:])
        except errors.PermanentError:
            return frozenset()
        except errors.TransientError as exc:
            if self.repository.exists(after):
                raise
            raise errors.TransientError(
                "source_error",
                f"the commit {after} is not in the source",
                where=self._watched.remote.url,
                fix="push it to the watched branch there; if it is the pinned one, see source.genesis too",
            ) from exc

    def _with_earlier(self, heads: AbstractSet[model.Oid]) -> frozenset[model.Oid]:
        """Before a branch took in the watched one it had other heads, and people signed for these."""
        return frozenset(each for head in heads for each in (head, *earlier.possible(self.repository, head)))

    def _check(self) -> None:
        """Look the mirror over, before every use and under the lock.

        Raises: AuditError(repo_config).
        """
        expected = {"config": store.config_text(self._watched.object_format), "HEAD": store.UNBORN}
        for name, text in expected.items():
            path = self._git_dir / name
            if path.is_symlink() or not path.is_file() or path.read_bytes() != text.encode():
                raise self._foreign(name)
        for name in _FOREIGN:
            if (self._git_dir / name).exists() or (self._git_dir / name).is_symlink():
                raise self._foreign(name)

    def _clear_leftovers(self) -> None:
        """Remove what a git that was killed left. Nobody else writes while we hold the lock, so its locks are stale."""
        for left in (*self._git_dir.glob("*.lock"), *(self._git_dir / "refs").rglob("*.lock")):
            left.unlink(missing_ok=True)
        packs = self._git_dir / "objects/pack"
        for left in (*packs.glob("tmp_*"), *packs.glob(".tmp-*")):
            left.unlink(missing_ok=True)
        for ref in (self._git_dir / "refs").rglob("*"):
            if ref.is_file() and not ref.stat().st_size:  # After a power cut: its name was written and its id was not.
                ref.unlink()

    def _foreign(self, name: str) -> errors.AuditError:
        return errors.AuditError(
            "repo_config",
            f"the mirror's {name} is not as we made it",
            where=str(self._git_dir / name),
            fix="find out who wrote it; stop the daemon, then reconciler recover --mirror --reason WHY",
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Raises: TransientError(source_error) when another process holds the mirror for too long."""
        until_s = time.monotonic() + LOCK_WAIT_S
        path = self._git_dir.with_name(self._git_dir.name + ".lock")
        with self._thread_lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                while not _try_lock(file.fileno()):
                    if time.monotonic() > until_s:
                        raise errors.TransientError(
                            "source_error", "another process is using the mirror", where=str(path)
                        )
                    time.sleep(0.05)
                yield


class _Mirrored(repository.GitRepository):
    """The mirror's repository, which knows whose approvals could not be fetched."""

    _unfetched: Mapping[model.Oid, errors.TransientError] = {}

    def envelopes(self, head: model.Oid) -> tuple[bytes, ...]:
        """As the port says; TransientError(source_error) too where the last fetch of this head's approvals failed."""
        if failed := self._unfetched.get(head):
            raise errors.TransientError(failed.code, f"its approvals: {failed.message}", where=head, fix=failed.fix)
        return super().envelopes(head)

    def is_crowded(self, head: model.Oid) -> bool:
        return self._approvals.is_crowded(head)

    def set_unfetched(self, tried: Sequence[model.Oid], failed: Mapping[model.Oid, errors.TransientError]) -> None:
        """What one fetch says of the heads it tried. Replaced whole, because readers hold no lock."""
        kept = {head: exc for head, exc in self._unfetched.items() if head not in tried}
        self._unfetched = kept | dict(failed)


def _approvals(head: model.Oid) -> str:
    prefix = approvals.prefix_of(head)
    return f"+{prefix}*:{prefix}*"


def _only_shadowed(finished: process.Finished) -> bool:
    """Whether all came but refs below, or above, one that we keep: `x/y` where `x` was an approval. Such a name is none."""
    lines = [line for line in finished.stderr.splitlines() if line.startswith(("fatal:", "error:"))]
    shadowed = [line for line in lines if _SHADOWED.fullmatch(line)]
    return finished.code == 1 and bool(shadowed) and len(shadowed) + 1 >= len(lines) and _HINT in finished.stderr


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _without(text: str, secret: str) -> str:
    return text.replace(secret, "***") if secret else text
