"""Approvals in a repository: refs under `refs/approvals/v1/<12 digits of head>/`, each a commit that wraps one envelope.

The names are an index that anybody may write to; what counts stands signed inside the envelopes. Refs are read here as git
keeps them (gitrepository-layout(5), git-pack-refs(1)), at every call: one that another process wrote is seen at once.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from reconciler import errors, model
from reconciler.git import history, objects, process, trees

ENVELOPE = b"envelope.json"
ROOT = "refs/approvals/v1"

_OID_LINE = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\n?")
_PACKED = re.compile(rb"^([0-9a-f]{40}|[0-9a-f]{64}) (%s/[^/\n]+/)([^\n]*)\n" % ROOT.encode(), re.MULTILINE)


_Packed = dict[bytes, list[tuple[bytes, model.Oid]]]  # `refs/approvals/v1/<12 digits>/` -> full names and ids


def prefix_of(head: model.Oid) -> str:
    """`refs/approvals/v1/<12 digits>/`."""
    return f"{ROOT}/{head[:12]}/"


class Approvals:
    """Reads the envelopes that lie in one repository. `refs` is git on that repository, `common_dir` where its refs lie."""

    def __init__(
        self, reader: objects.ObjectReader, refs: process.GitProcess, common_dir: Path, limits: trees.Limits
    ) -> None:
        self._reader, self._refs, self._common_dir, self._limits = reader, refs, common_dir, limits
        self._packed_file, self._reftable = common_dir / "packed-refs", common_dir / "reftable"
        self._blobs: dict[model.Oid, model.Oid | None] = {}  # commit -> the envelope that it wraps
        self._packed: tuple[tuple[int, ...], _Packed] = ((), {})

    def envelopes(self, head: model.Oid) -> tuple[bytes, ...]:
        """In the order of their names. What hangs there and is no envelope at all is passed over: anybody may push it.

        Raises: PermanentError(limit) beyond the limit on names, TransientError(source_error).
        """
        names = self._names(head)
        if len(names) > self._limits.envelopes:
            message = f"more than {self._limits.envelopes} approvals lie under {prefix_of(head)}"
            fix = "remove those of strangers, on the server and in the daemon's mirror (docs/how-to/sre.md)"
            raise errors.PermanentError("limit", message, where=head, fix=fix)
        commits = [names[name] for name in sorted(names)]
        self._read_small(oid for oid in commits if oid not in self._blobs)
        found = (self._envelope(oid) for oid in commits)
        return tuple(envelope for envelope in found if envelope is not None)

    def is_crowded(self, head: model.Oid) -> bool:
        """Whether more lie under this head than are ever read."""
        return len(self._names(head)) > self._limits.envelopes

    def read_ahead(self, heads: Iterable[model.Oid]) -> None:
        """Read what `envelopes` will ask for of these heads, in bulk. Never raises for an object."""
        named = (oid for head in heads for oid in self._names(head).values())
        self._read_small(islice(named, trees.AHEAD))

    def _read_small(self, commits: Iterable[model.Oid]) -> None:
        """Find the blobs of those that can be read and are small, in three exchanges for all of them."""
        limits, ahead = self._limits, self._reader.read_ahead
        roots: dict[model.Oid, model.Oid] = {}
        for oid, raw in ahead(commits, "commit", limits.commit_bytes).items():
            with contextlib.suppress(errors.PermanentError):
                roots[oid] = history.parse_links(raw, oid).tree
        directories = ahead(dict.fromkeys(roots.values()), "tree", limits.envelope_bytes)
        if len(self._blobs) > limits.envelopes:
            self._blobs = {}
        for oid, root in roots.items():
            with contextlib.suppress(errors.PermanentError):
                if root in directories:
                    self._blobs[oid] = _wrapped(directories[root], root)
        ahead((blob for oid in roots if (blob := self._blobs.get(oid))), "blob", limits.envelope_bytes)

    def _envelope(self, oid: model.Oid) -> bytes | None:
        """The blob `envelope.json` of an approval's commit; None for another object, without such a file, or a larger one."""
        try:
            known = self._blobs
            blob = known[oid] if oid in known else self._blob(oid)
            return self._reader.read(blob, "blob", self._limits.envelope_bytes) if blob else None
        except errors.PermanentError:
            return None

    def _blob(self, oid: model.Oid) -> model.Oid | None:
        root = history.parse_links(self._reader.read(oid, "commit", self._limits.commit_bytes), oid).tree
        return _wrapped(self._reader.read(root, "tree", self._limits.envelope_bytes), root)

    def _names(self, head: model.Oid) -> dict[bytes, model.Oid]:
        """Full name -> id of every ref under this head."""
        if self._reftable.exists():
            return self._listed(head)
        # Loose ones first, as git does: a ref that is being packed lies in both places before it leaves this one.
        loose = dict(self._loose(prefix_of(head)))
        return {**dict(self._in_packed(prefix_of(head).encode())), **loose}

    def _loose(self, prefix: str) -> Iterator[tuple[bytes, model.Oid]]:
        folders = [prefix]
        while folders:
            folder = folders.pop()
            for place in _inside(self._common_dir, folder):
                name = f"{folder}{place.name}"
                if place.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                elif place.is_file() and not name.endswith(".lock"):
                    found = _OID_LINE.fullmatch(_begin_of(Path(place.path)))
                    if found:  # Nothing else is an approval: no symbolic ref, nothing half written.
                        yield os.fsencode(name), model.Oid(found[1].decode())

    def _in_packed(self, prefix: bytes) -> Iterable[tuple[bytes, model.Oid]]:
        return self._packed_refs().get(prefix, ())

    def _packed_refs(self) -> _Packed:
        """git replaces this file whole, by a rename; like git we read it again when it is another file than before."""
        try:
            if _stamp(self._packed_file.stat()) != self._packed[0]:
                with self._packed_file.open("rb") as file:
                    self._packed = (_stamp(os.fstat(file.fileno())), _by_head(file.read()))
            return self._packed[1]
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise _unreadable("packed-refs", exc) from exc

    def _listed(self, head: model.Oid) -> dict[bytes, model.Oid]:
        """git's own list, for a repository that keeps its refs otherwise."""
        count = f"--count={self._limits.envelopes + 1}"
        printed = self._refs.text("for-each-ref", count, "--format=%(objectname) %(refname)", prefix_of(head))
        lines = [line.split(" ", 1) for line in printed.splitlines()]
        return {name.encode(errors="surrogateescape"): process.check_oid(oid) for oid, name in lines}


def _wrapped(directory: bytes, oid: model.Oid) -> model.Oid | None:
    names = trees.parse_tree(directory, oid_bytes=len(oid) // 2)
    return next((line.oid for line in names if line.name == ENVELOPE and line.mode == "100644"), None)


def _stamp(seen: os.stat_result) -> tuple[int, ...]:
    return (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _by_head(content: bytes) -> _Packed:
    """What the file lists below the refs of approvals, by the folder of the head."""
    found: _Packed = {}
    for oid, prefix, name in _PACKED.findall(content):
        found.setdefault(prefix, []).append((prefix + name, model.Oid(oid.decode())))
    return found


def _inside(common_dir: Path, folder: str) -> list[os.DirEntry[str]]:
    """Raises: TransientError(source_error): a folder that may not be read could hold a rejection."""
    try:
        with os.scandir(f"{common_dir}/{folder}") as listed:
            return list(listed)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise _unreadable(folder, exc) from exc


def _begin_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(128)
    except FileNotFoundError:
        return b""  # Packed meanwhile, or gone.
    except OSError as exc:
        raise _unreadable(path.name, exc) from exc


def _unreadable(name: str, exc: OSError) -> errors.TransientError:
    return errors.TransientError("source_error", f"the refs of approvals cannot be read: {name}: {exc.strerror}")
