"""The reference driver: values in a dict with a dead-man. The conformance suite, the simulation and the demo run on it.

resources.yaml:
    resources:
      - {kind: item, namespace: demo, name: a, value: {colour: blue}}
      - {kind: item, namespace: demo, name: b, value: 2, member: m1, order: 1, hazards: [deletes_data]}

A value that is "bad", or a mapping with `health: bad`, is sick; "slow" is on its way for ever. `memory: {window: 60s}` in
target.yaml arms a dead-man that fires by the wall clock; without it the dead-man waits for `World.expire`.
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Self

import pydantic
from pydantic import BaseModel, JsonValue

from reconciler import documents, errors, model, ports, strict_yaml
from reconciler.targets import probes

FILE = "resources.yaml"


class Armed(model.Value):
    """What the dead-man goes back to when nobody confirms."""

    deployment: str
    values: Mapping[model.Key, JsonValue]
    identities: Mapping[model.Key, str]
    until: model.Time | None = None


@dataclass
class World:
    """What survives the daemon. `writes` is all that reached it, in order; `fault` may raise before or after each write."""

    values: dict[model.Key, JsonValue] = field(default_factory=dict)
    identities: dict[model.Key, str] = field(default_factory=dict)
    orders: dict[model.Key, int] = field(default_factory=dict)
    writes: list[tuple[model.Key, JsonValue]] = field(default_factory=list)
    written: int = 0  # how many there ever were
    unmarked: set[model.Key] = field(default_factory=set)  # somebody took our mark away
    unreachable: set[str] = field(default_factory=set)  # members; "" is the whole target
    busy: bool = False
    epoch: int = 0  # the newest that was seen: an older permit is refused
    armed: Armed | None = None
    reverted: str | None = None
    name: str = ""  # of its target: no two targets hold the same thing
    fault: Callable[[str], None] = lambda _point: None

    def expire(self) -> None:
        """The dead-man fires: nobody confirmed in time."""
        if self.armed:
            self.reverted = self.armed.deployment
            self.values, self.identities = dict(self.armed.values), dict(self.armed.identities)
            self.armed = None
            self.changed()

    def arm(self, deployment: str, until: datetime | None = None) -> None:
        """Before a deployment's first write; what an earlier stage armed stays: it holds the older state."""
        if self.armed is None or self.armed.deployment != deployment:
            self.armed = Armed(
                deployment=deployment, values=dict(self.values), identities=dict(self.identities), until=until
            )
            self.reverted = None
            self.changed()

    def disarm(self) -> None:
        if self.armed:
            self.armed = None
            self.changed()

    def put(self, key: model.Key, value: JsonValue, *, order: int = 0) -> None:
        self.writes.append((key, value))
        self.written += 1
        self.unmarked.discard(key)
        if value is None:
            self.values.pop(key)
            self.identities.pop(key, None)
            self.orders.pop(key, None)
        else:
            self.values[key], self.orders[key] = value, order
            self.identities.setdefault(key, f"{self.name}/{self.written}")
        self.changed()

    def changed(self) -> None:
        """Called after each single change; a world on disk saves itself here."""


class Stored(model.Value):
    """A world as its file holds it."""

    values: Mapping[model.Key, JsonValue] = {}
    identities: Mapping[model.Key, str] = {}
    orders: Mapping[model.Key, int] = {}
    written: int = 0
    epoch: int = 0
    armed: Armed | None = None
    reverted: str | None = None


class StoredWorld(World):
    """A world in a JSON file that people may edit to see drift. Each change is one atomic replacement of the file."""

    def __init__(self, path: Path, formerly: Path | None = None) -> None:
        """`formerly`: where it lay before its target was renamed; it moves with the first change."""
        super().__init__()
        self._path, self._formerly = path, formerly
        for place in (path, formerly):
            if place and place.exists():
                self._load(place)
                break

    def changed(self) -> None:
        stored = Stored(
            values=self.values,
            identities=self.identities,
            orders=self.orders,
            written=self.written,
            epoch=self.epoch,
            armed=self.armed,
            reverted=self.reverted,
        )
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.stem}-")
        with os.fdopen(descriptor, "w") as file:
            file.write(stored.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self._path)
        if self._formerly:
            self._formerly.unlink(missing_ok=True)

    def _load(self, path: Path) -> None:
        try:
            stored = Stored.model_validate_json(path.read_bytes())
        except ValueError as exc:
            raise errors.PermanentError("world", "not the world of a memory target", where=str(path)) from exc
        self.values, self.identities, self.orders = dict(stored.values), dict(stored.identities), dict(stored.orders)
        self.epoch, self.armed, self.reverted = stored.epoch, stored.armed, stored.reverted
        self.written = stored.written


Worlds = Callable[[str, str], World]  # by target name, and the one it had before: there is nothing to connect to


class Options(documents.Camel):
    """What stands under `memory:` in target.yaml."""

    window: documents.Duration | None = None


def _present(value: JsonValue) -> JsonValue:
    if value is None:
        raise ValueError("null is how an absent resource looks; leave the resource out")
    return value


Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*$")]


class Resource(documents.Camel):
    kind: Name
    namespace: Annotated[str, pydantic.Field(pattern=r"^[-A-Za-z0-9._]*$")] = ""
    name: Name
    value: Annotated[JsonValue, pydantic.AfterValidator(_present)]
    member: Annotated[str, pydantic.Field(pattern=r"^[-A-Za-z0-9._]*$")] = ""
    order: Annotated[int, pydantic.Field(ge=0, le=500)] = 0
    hazards: tuple[str, ...] = ()

    @property
    def key(self) -> model.Key:
        member = f"{self.member}:" if self.member else ""
        return model.Key(f"{member}{self.kind}/{self.namespace}/{self.name}")


class Document(documents.Camel):
    resources: tuple[Resource, ...]


@dataclass(frozen=True)
class _Want:
    value: JsonValue
    order: int = 0
    hazards: tuple[str, ...] = ()
    source: str = ""


class Memory:
    schema: ClassVar[type[BaseModel]] = Options

    def __init__(self, facilities: ports.DriverFacilities) -> None:
        self._now: Callable[[], datetime] | None = facilities.clock.now
        self._worlds: Worlds = lambda name, formerly: StoredWorld(
            world_file(facilities, name), world_file(facilities, formerly) if formerly else None
        )

    @classmethod
    def on(cls, worlds: Callable[[str], World], clock: ports.Clock | None = None) -> Self:
        """A driver on worlds that the caller keeps: for simulations and tests."""
        driver = cls.__new__(cls)
        driver._worlds = lambda name, _: worlds(name)  # noqa: SLF001 - the other constructor.
        driver._now = clock.now if clock else None  # noqa: SLF001
        return driver

    def validate(self, desired: model.Desired) -> model.ValidationResult:
        where = f"targets/{desired.target}/target.yaml"
        found = [r for probe in desired.probes for r in probes.validate_probe(probe, where)]
        if desired.ignore:
            found.append(model.Reason(code="ignore", message="a memory target leaves no field to others", where=where))
        try:
            _options(desired)
            _read(desired)
        except errors.ConfigError as exc:
            found.append(model.Reason.of(exc))
        return tuple(found)

    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        world, want = self._world(wanted), _read(wanted)
        seen = tuple(_observe(world, key, want.get(key)) for key in sorted(want.keys() | owned.keys()))
        foreign = tuple(_foreign(world, key) for key in sorted(world.values.keys() - want.keys() - owned.keys()))
        health, findings = probes.run_probes(wanted.probes, deadline_s=deadline_s)
        return model.Look(
            observations=seen,
            foreign=foreign,
            fingerprint=model.sha256(model.canonical_json({str(k): v for k, v in world.values.items()})),
            busy=world.busy,
            reverted=world.reverted,
            health=_worst({health, *(o.health for o in seen if o.wanted is not None)}),
            findings=findings,
            errors={
                model.Key(f"{m}:"): model.Reason(code="unreachable", message=f"{m} does not answer")
                for m in sorted(world.unreachable)
            },
        )

    def apply(self, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> tuple[model.StepResult, ...]:
        world, want = self._world(wanted), _read(wanted)
        if permit.epoch < world.epoch:
            raise errors.PermanentError("fenced", f"a newer daemon writes here: epoch {world.epoch}")
        world.epoch = permit.epoch
        world.arm(permit.deployment, self._until(wanted))
        return tuple(_write(world, step, want.get(step.key)) for step in stage.steps)

    def confirm(self, wanted: model.Wanted, deployment: str) -> bool:
        world = self._world(wanted)
        world.fault("confirm")
        if world.reverted == deployment:
            return False
        world.disarm()
        return True

    def close(self) -> None:
        pass

    def declared(self, desired: model.Desired) -> Mapping[model.Key, JsonValue]:
        return {key: want.value for key, want in _declared(desired).items()}

    def _world(self, wanted: model.Wanted) -> World:
        formerly = (wanted.folder or wanted.formerly) if isinstance(wanted, model.Desired) else ""
        world = self._worlds(wanted.target, formerly)
        world.name = world.name or wanted.target
        if "" in world.unreachable:
            raise errors.TransientError("unreachable", "nobody answers")
        if self._now and world.armed and world.armed.until and world.armed.until <= self._now():
            world.expire()  # Whoever looks after the window sees what a timer there would have done.
        return world

    def _until(self, wanted: model.Wanted) -> datetime | None:
        window_s = _options(wanted).window if isinstance(wanted, model.Desired) else None
        return self._now() + timedelta(seconds=window_s) if self._now and window_s else None


def world_file(facilities: ports.DriverFacilities, target: str) -> Path:
    """Where the world of this target lies; may be edited by hand in a demonstration of drift."""
    return facilities.state / target / "world.json"


def watched_paths(desired: model.Desired, facilities: ports.DriverFacilities) -> tuple[Path, ...]:
    """The folder whose changes should wake this target's turn: the file in it is replaced, and who watches a file loses it."""
    return (world_file(facilities, desired.target).parent,)


def _observe(world: World, key: model.Key, want: _Want | None) -> model.Observation:
    wanted = want.value if want else None
    order = want.order if want else world.orders.get(key, 0)
    source = want.source if want else ""
    member, _, rest = key.partition(":")
    if rest and member in world.unreachable:  # Seen by nobody: `errors` says so, and nothing is proposed.
        return model.Observation(key=key, wanted=wanted, actual=None, order=order, source=source)
    actual = world.values.get(key)
    return model.Observation(
        key=key,
        wanted=wanted,
        actual=actual,
        marked=key not in world.unmarked,
        identity=world.identities.get(key, ""),
        order=order,
        health=_health(actual),
        steps=_steps(key, wanted, actual, want.hazards if want else ()),
        source=source,
    )


def _steps(key: model.Key, wanted: JsonValue, actual: JsonValue, hazards: tuple[str, ...]) -> tuple[model.Step, ...]:
    if wanted == actual:
        return ()
    action = "delete" if wanted is None else "create" if actual is None else "update"
    return (
        model.Step(
            key=key,
            action=action,
            command=f"{action} {key}",
            before=digest(actual),
            undo=f"delete {key}" if actual is None else f"put {key} {json.dumps(actual, sort_keys=True)}",
            hazards=hazards,
            diff=_diff(actual, wanted),
        ),
    )


def _foreign(world: World, key: model.Key) -> model.Observation:
    return model.Observation(key=key, wanted=None, actual=world.values[key], marked=False)


def _write(world: World, step: model.Step, want: _Want | None) -> model.StepResult:
    member, _, rest = step.key.partition(":")
    if rest and member in world.unreachable:
        reason = model.Reason(code="unreachable", message=f"{member} does not answer")
        return model.StepResult(key=step.key, effect=model.Effect.SKIPPED, finding=reason)
    world.fault(f"before write {step.key}")
    if digest(world.values.get(step.key)) != step.before:
        return model.StepResult(key=step.key, effect=model.Effect.MOVED)
    world.put(step.key, want.value if want else None, order=want.order if want else 0)
    world.fault(f"after write {step.key}")
    return model.StepResult(key=step.key, effect=model.Effect.CHANGED, identity=world.identities.get(step.key, ""))


def _health(actual: JsonValue) -> model.Health:
    said = actual.get("health") if isinstance(actual, dict) else actual
    return {"bad": model.Health.FAILED, "slow": model.Health.PROGRESSING}.get(str(said), model.Health.HEALTHY)


def _worst(found: Iterable[model.Health]) -> model.Health:
    order = (model.Health.FAILED, model.Health.UNKNOWN, model.Health.PROGRESSING)
    kept = frozenset(found)
    return next((health for health in order if health in kept), model.Health.HEALTHY)


def digest(value: JsonValue) -> model.Digest | None:
    """What a step's `before` is compared with; None for an absent resource."""
    return None if value is None else model.sha256(model.canonical_json(value))


def _diff(actual: JsonValue, wanted: JsonValue) -> str:
    def lines(value: JsonValue) -> list[str]:
        return [] if value is None else json.dumps(value, indent=1, sort_keys=True).splitlines()

    return "\n".join(difflib.unified_diff(lines(actual), lines(wanted), "actual", "wanted", lineterm=""))


def _options(desired: model.Desired) -> Options:
    try:
        return Options.model_validate(dict(desired.spec))
    except ValueError as exc:
        where = f"targets/{desired.target}/target.yaml"
        raise strict_yaml.config_error(
            exc, strict_yaml.Located({}, {}), where, ("spec", "memory"), schema=Options
        ) from exc


def _read(wanted: model.Wanted) -> Mapping[model.Key, _Want]:
    """Raises: ConfigError(parse | schema) with file and line."""
    if isinstance(wanted, model.Snapshot):
        return _restored(wanted.resources)
    return {**_restored(wanted.given_back), **_declared(wanted)}


def _restored(there: Mapping[model.Key, JsonValue]) -> dict[model.Key, _Want]:
    return {key: _Want(value) for key, value in there.items() if value is not None}


def _declared(wanted: model.Desired) -> Mapping[model.Key, _Want]:
    if wanted.mode is model.Mode.ABSENT:
        return {}
    where = f"targets/{wanted.target}/{FILE}"
    if FILE not in wanted.payload:
        raise errors.ConfigError("schema", "this file is missing", where=where, fix="add it; `resources: []` is legal")
    located = strict_yaml.parse(wanted.payload[FILE], where)
    try:
        document = Document.model_validate(strict_yaml.mapping(located, where))
    except ValueError as exc:
        raise strict_yaml.config_error(exc, located, where, schema=Document) from exc
    found: dict[model.Key, _Want] = {}
    for index, each in enumerate(document.resources):
        source = f"{where}:{located.line(('resources', index))}"
        if each.key in found:
            raise errors.ConfigError("schema", f"{each.key} stands twice", where=source, fix="remove one of them")
        found[each.key] = _Want(each.value, each.order, each.hazards, source)
    return found
