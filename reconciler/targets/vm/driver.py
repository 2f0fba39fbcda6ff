"""Files and folders of a host, over the local transport: the folder `connection.root` of the machine that the daemon runs on.

    type: vm
    connection: {transport: local, root: /srv/app}

The root must lie under `local.roots` of the daemon's configuration. `file` probes are read inside it. There is no
dead-man here: nothing that these files do can cut the daemon off from itself. The ssh transport is not in this version.
"""

from __future__ import annotations

import contextlib
import grp
import itertools
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, JsonValue

from reconciler import documents, errors, model, ports
from reconciler.targets import probes
from reconciler.targets.vm import document, ledger, proposing, rootfs, store, writing

MAX_FOREIGN = 1000  # reported of what nobody declared


class Options(documents.Camel):
    """What stands under `vm:` in target.yaml: nothing yet."""


class Local(documents.Camel):
    transport: Literal["local"]
    root: str


class Vm:
    schema: ClassVar[type[BaseModel]] = Options

    def __init__(self, facilities: ports.DriverFacilities) -> None:
        self._facilities = facilities

    def validate(self, desired: model.Desired) -> model.ValidationResult:
        where = f"targets/{desired.target}/target.yaml"
        found = [r for probe in desired.probes for r in probes.validate_probe(probe, where)]
        if desired.ignore:
            found.append(model.Reason(code="ignore", message="a vm target leaves no field to others", where=where))
        if desired.spec:
            found.append(model.Reason(code="schema", message="there is nothing to write under `vm:`", where=where))
        try:
            rootfs.check_root(_connection(desired).root, self._facilities.local_roots)
        except errors.ConfigError as exc:
            found.append(model.Reason(code=exc.code, message=exc.message, where=where, fix=exc.fix))
        return (*found, *document.problems(desired))

    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        clock = self._facilities.clock
        until = clock.monotonic_s() + deadline_s
        wants = document.read(wanted)
        with self._root(wanted) as root:
            book = ledger.read(root, self._facilities.installation, wanted)
            looking = _Looking(root, book, owned)
            for key in sorted(wants.keys() | owned.keys()):
                if clock.monotonic_s() >= until:
                    raise errors.TransientError("deadline", f"{root.path}: the look took longer than {deadline_s:g} s")
                looking.look(key, wants.get(key))
            foreign = tuple(itertools.islice(_foreign(looking), MAX_FOREIGN))
            busy = ledger.is_locked(root)
            health, findings = probes.run_probes(
                wanted.probes, deadline_s=max(0.0, until - clock.monotonic_s()), file_root=Path(root.path)
            )
        return model.Look(
            observations=tuple(looking.seen),
            foreign=foreign,
            fingerprint=_fingerprint(looking.seen),
            health=health,
            findings=findings,
            errors=looking.errors,
            busy=busy,
        )

    def apply(self, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> tuple[model.StepResult, ...]:
        clock = self._facilities.clock
        until = clock.monotonic_s() + permit.deadline_s
        wants = document.read(wanted)
        writes = [_write(step, wants.get(step.key)) for step in stage.steps]
        with self._root(wanted) as root, ledger.locked(root, clock, min(permit.deadline_s, wanted.deadlines.command_s)):
            book = ledger.read(root, self._facilities.installation, wanted)
            if permit.epoch < book.epoch:
                raise errors.PermanentError("fenced", f"{root.path}: a newer daemon writes here: epoch {book.epoch}")
            writing.sweep(root, [write.path for write in writes])
            host = writing.Host(root, self._store(wanted), lambda: clock.monotonic_s() >= until)
            results = writing.write_stage(host, book.model_copy(update={"epoch": permit.epoch}), writes)
        return tuple(results[step.key] for step in stage.steps)

    def confirm(self, wanted: model.Wanted, deployment: str) -> bool:  # noqa: ARG002 - the port passes it.
        """Nothing could have taken it back. Sweeps what a killed apply had staged."""
        paths = [document.parse_key(key)[1] for key in document.read(wanted)]
        with self._root(wanted) as root, ledger.locked(root, self._facilities.clock, wanted.deadlines.command_s):
            writing.sweep(root, paths)
        return True

    def close(self) -> None:
        pass

    def declared(self, desired: model.Desired) -> Mapping[model.Key, JsonValue]:
        return {key: want.declared() for key, want in document.read(desired).items()}

    def _root(self, wanted: model.Wanted) -> rootfs.Root:
        return rootfs.open_root(_connection(wanted).root, self._facilities.local_roots)

    def _store(self, wanted: model.Wanted) -> store.Store:
        return store.Store(self._facilities.state / wanted.target / "previous")


def watched_paths(desired: model.Desired, facilities: ports.DriverFacilities) -> tuple[Path, ...]:
    """The folders whose changes should wake this target's turn; nothing where its connection is refused. Reads only."""
    try:
        with rootfs.open_root(_connection(desired).root, facilities.local_roots) as root:
            return (Path(root.path),)
    except (errors.ConfigError, errors.PermanentError):
        return ()


def is_our_own(path: Path) -> bool:
    """Whether a change of this path is our own bookkeeping and wakes nobody."""
    return any(part.startswith(document.OURS) for part in path.parts)


def _connection(wanted: model.Wanted) -> Local:
    """Raises: ConfigError(transport | connection)."""
    transport = wanted.connection.get("transport")
    if transport == "ssh":
        fix = "write {transport: local, root: ...}"
        raise errors.ConfigError("transport", "the transport ssh is not in this version", fix=fix)
    try:
        return Local.model_validate(dict(wanted.connection))
    except ValueError as exc:
        fix = "write connection: {transport: local, root: /srv/app}"
        raise errors.ConfigError("connection", "not the connection of a vm target", fix=fix) from exc


class _Looking:
    """One look, resource by resource. What cannot be read stands in `errors` and is neither equal nor absent."""

    def __init__(self, root: rootfs.Root, book: ledger.Ledger, owned: Mapping[model.Key, str]) -> None:
        self.root, self._book, self._owned = root, book, owned
        self.seen: list[model.Observation] = []
        self.errors: dict[model.Key, model.Reason] = {}

    def look(self, key: model.Key, want: document.Want | None) -> None:
        source = want.source if want else ""
        try:
            kind, path = document.parse_key(key)
            state = _resolved(want) if want else None
            actual = self.root.look(path)
            _check_kind(path, kind, actual)
            found = self._found(key, path, actual, want)
        except (errors.ConfigError, errors.PermanentError) as exc:
            self.errors[key] = model.Reason(code=exc.code, message=exc.message, where=source, fix=exc.fix)
            wanted: JsonValue = {"type": want.type, "mode": want.mode, "digest": want.digest} if want else None
            order = want.order if want else 0
            self.seen.append(model.Observation(key=key, wanted=wanted, actual=None, order=order, source=source))
        else:
            self.seen.append(proposing.observation(found, want, state))

    def _found(
        self, key: model.Key, path: str, actual: document.State | None, want: document.Want | None
    ) -> proposing.Found:
        return proposing.Found(
            key=key,
            path=path,
            identity=f"{self.root.path}/{path}",
            order=want.order if want else document.order_of(key),
            actual=actual,
            marked=key in self._book.keys,
            owned=key in self._owned,
            text=self._text(key, path, actual, want),
        )

    def _text(
        self, key: model.Key, path: str, actual: document.State | None, want: document.Want | None
    ) -> bytes | None:
        """The old side of a diff: only of a file that we wrote and that was not sensitive."""
        entry = self._book.keys.get(key)
        if entry is None or entry.sensitive or actual is None or want is None:
            return None
        if actual.type != "file" or actual.digest == want.digest or actual.size > proposing.MAX_DIFF_BYTES:
            return None
        try:
            return self.root.content(path, proposing.MAX_DIFF_BYTES)
        except OSError as exc:
            raise rootfs.refused(exc, path) from exc


def _check_kind(path: str, kind: document.Kind, actual: document.State | None) -> None:
    if actual is not None and actual.type != kind:
        raise errors.PermanentError("in_the_way", f"{path} is a {actual.type}, not a {kind}")


def _foreign(looking: _Looking) -> Iterator[model.Observation]:
    """What lies in the folders that we keep and nobody declared. A folder that is itself in a bad way is not searched."""
    known = {document.parse_key(seen.key)[1] for seen in looking.seen}
    kept = (document.parse_key(seen.key) for seen in looking.seen if seen.actual is not None)
    for above in (path for kind, path in kept if kind == "directory"):
        with contextlib.suppress(errors.PermanentError):
            for path in (f"{above}/{name}" for name in looking.root.names(above)):
                if path not in known:
                    key = document.key_of("file", path)
                    yield model.Observation(key=key, wanted=None, actual={"type": "foreign"}, marked=False)


def _resolved(want: document.Want) -> document.State:
    """Owners by number.

    Raises: PermanentError(owner) for a name that this host does not know.
    """
    return document.State(
        type=want.type,
        mode=want.mode,
        uid=_number(want.owner, lambda name: pwd.getpwnam(name).pw_uid, os.geteuid),
        gid=_number(want.group, lambda name: grp.getgrnam(name).gr_gid, os.getegid),
        digest=want.digest,
        size=want.size,
    )


def _number(name: str | None, known: Callable[[str], int], ours: Callable[[], int]) -> int:
    if name is None:
        return ours()
    if name.isdecimal():
        return int(name)
    try:
        return known(name)
    except KeyError as exc:
        raise errors.PermanentError("owner", f"this host knows no user or group {name}") from exc


def _write(step: model.Step, want: document.Want | None) -> writing.Write:
    _, path = document.parse_key(step.key)
    return writing.Write(
        step=step,
        path=path,
        state=_resolved(want) if want else None,
        content=want.content if want else None,
        sensitive=want.sensitive if want else False,
    )


def _fingerprint(seen: list[model.Observation]) -> model.Digest:
    return model.sha256(model.canonical_json({str(each.key): each.actual for each in seen}))
