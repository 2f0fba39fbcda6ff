"""OpenShift and Kubernetes by server-side apply, compared with what the server answered, watched.

A look reads the cache that watches keep, and calls nobody where nothing moved. Ours is what bears the label `reconciler/target`
and the annotation `reconciler/owner`, and stands in the log with its uid. There is no dead-man here. `reconciler/epoch` on
each object is the fence: who holds an older lease than the newest that wrote here writes nothing.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, JsonValue

from reconciler import errors, model, ports
from reconciler.targets import probes
from reconciler.targets.openshift import (
    access,
    cache,
    client,
    cluster,
    comparing,
    discovery,
    document,
    explaining,
    health,
    hooks,
    judged,
    kinds,
    kubeconfig,
    manifests,
    naming,
    proposing,
    seeing,
    validation,
    wants,
    writing,
)
from reconciler.targets.openshift.client import Body

KIND_WITHIN_S = 15.0
KIND_POLL_S = 0.2
ABSENT_FOR_S = 5.0  # How long the look after a write may trust what the look before it found absent.
MAX_FINDINGS = 20
MAX_FOREIGN = 1000


class _Seen(NamedTuple):
    """One object of the last look, and what its observation was made from."""

    made_from: tuple[object, ...]
    want: proposing.Want | None
    found: proposing.Found
    observation: model.Observation
    foreign: tuple[model.Observation, ...]


class Openshift:
    schema: ClassVar[type[BaseModel]] = document.Options

    def __init__(self, facilities: ports.DriverFacilities) -> None:
        self._facilities = facilities
        self._clock = facilities.clock
        self._cluster: cluster.Cluster | None = None
        self._target = ""
        self._reader: wants.Reader | None = None
        self._terms: proposing.Terms | None = None
        self._memories: dict[model.Key, proposing.Memory] = {}
        self._seen: dict[model.Key, _Seen] = {}
        self._places: dict[model.Key, cache.Place] = {}
        self._keys: dict[cache.Place, model.Key] = {}
        self._immutable: dict[model.Key, model.Digest] = {}  # what the server said cannot be changed into this
        self._doubtful: set[model.Key] = set()  # written with an unknown outcome: the next look asks
        self._explainer = explaining.Explainer()
        self._own: frozenset[model.Key] = frozenset()  # what our own access rests on
        self._left: frozenset[model.Key] = frozenset()  # hooks that finished and are declared no more
        self._absent: frozenset[cache.Place] = frozenset()
        self._absent_until = 0.0

    # --- the port ---

    def validate(self, desired: model.Desired) -> model.ValidationResult:
        return validation.check(desired)

    def declared(self, desired: model.Desired) -> Mapping[model.Key, JsonValue]:
        return {manifest.key: dict(manifest.body) for manifest in manifests.read(desired)}

    def references(self, desired: model.Desired) -> Sequence[tuple[str, str]]:
        return manifests.references(desired)

    def rendered(self, desired: model.Desired) -> ports.Rendered | None:
        return manifests.rendered(desired)

    def observe(self, wanted: model.Wanted, owned: Mapping[model.Key, str], deadline_s: float) -> model.Look:
        until = self._clock.monotonic_s() + deadline_s
        terms = self._prepare(wanted)
        on = self._connect(wanted)
        read = self._read(wanted)
        absent = self._absent if self._clock.monotonic_s() < self._absent_until else frozenset()
        self._absent_until = 0.0
        self._ask_the_doubtful(on)
        self._left = _left_hooks(wanted, read.by_key, owned)
        sight = seeing.see(on, read.by_key, owned.keys() - self._left, absent)
        self._own = _own_rights(on, read.by_key, sight)
        self._places, self._keys = sight.places, {place: key for key, place in sight.places.items()}
        self._absent = frozenset(place for key, place in sight.places.items() if sight.live.get(key, {}) is None)
        if self._clock.monotonic_s() >= until:
            raise errors.TransientError("deadline", f"{wanted.target}: the look took longer than {deadline_s:g} s")
        rules = document.options(wanted).health
        self._explainer.begin()
        seen = {key: self._look_at(key, read.by_key.get(key), owned, sight, rules) for key in sorted(sight.live)}
        self._seen = seen
        self._memories = {key: memory for key, memory in self._memories.items() if key in seen}
        return self._look(wanted, seen, {**sight.errors, **read.impossible}, until, terms)

    def apply(self, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> tuple[model.StepResult, ...]:
        until = self._clock.monotonic_s() + permit.deadline_s
        terms = self._prepare(wanted)
        on = self._connect(wanted)
        read = self._read(wanted)
        self._check_epoch(on, wanted, permit, terms)
        declared = [read.by_key[step.key] for step in stage.steps if step.key in read.by_key]
        self._await_kinds(
            on, [want for want in declared if want.key not in self._places and want.key in self._seen], until
        )
        self._look_where_nobody_did(on, [step.key for step in stage.steps], read, document.options(wanted).health)
        options = document.options(wanted)
        how = writing.Stage(
            on=on,
            terms=terms,
            clock=self._clock,
            until=until,
            epoch=permit.epoch,
            takes_conflicts=options.conflicts == "take",
            ignore=wanted.ignore,
            today=self._clock.now().date().isoformat(),
            former_managers=tuple(f"reconciler:{owner.replace('/', ':')}" for owner in sorted(terms.former_owners)),
        )
        written = writing.write_stage(how, [self._write(step, read.by_key.get(step.key)) for step in stage.steps])
        for each in written:
            self._take(each, read.by_key.get(each.result.key))
        self._absent -= {self._places[step.key] for step in stage.steps if step.key in self._places}
        self._absent_until = self._clock.monotonic_s() + ABSENT_FOR_S
        return tuple(each.result for each in written)

    def confirm(self, wanted: model.Wanted, deployment: str) -> bool:  # noqa: ARG002 - the port passes it
        """Nothing could have taken it back. Asks over a connection of its own: an old one may live on when new ones are refused."""
        address = self._address(wanted)
        fresh = client.Client(address.endpoint, address.identity, 1, address.limits)
        try:
            fresh.get("/version")
        finally:
            fresh.close()
        return True

    def close(self) -> None:
        shared, self._cluster = self._cluster, None
        if shared:
            shared.cache.unsubscribe(self._target, self._heard)
            cluster.give_back(shared)

    # --- who and where ---

    def _prepare(self, wanted: model.Wanted) -> proposing.Terms:
        installation = self._facilities.installation
        former = {wanted.folder, wanted.formerly} if isinstance(wanted, model.Desired) else set()
        if self._reader is None:
            self._reader = wants.Reader(self._facilities.secrets, self._clock, self._sealing_key())
        key = self._terms.sealing_key if self._terms else self._sealing_key()
        self._terms = proposing.Terms(
            manager=f"reconciler:{installation}:{wanted.target}",
            target=wanted.target,
            owner=f"{installation}/{wanted.target}",
            former_owners=frozenset(f"{installation}/{name}" for name in former if name and name != wanted.target),
            sealing_key=key,
            takes_down=wanted.mode is model.Mode.ABSENT,
        )
        return self._terms

    def _read(self, wanted: model.Wanted) -> wants.Wants:
        if self._reader is None:
            raise errors.PermanentError("driver", "nothing was prepared")
        return self._reader.read(wanted)

    def _address(self, wanted: model.Wanted) -> cluster.Address:
        named = document.connection(wanted).impersonate
        identity = client.Identity(named.user, named.groups) if named else client.Identity()
        limits = client.Limits(wanted.deadlines.connect_s, wanted.deadlines.command_s)
        return cluster.Address(kubeconfig.locate(wanted, self._facilities, os.environ), identity, limits)

    def _connect(self, wanted: model.Wanted) -> cluster.Cluster:
        address = self._address(wanted)
        if self._cluster is not None and self._cluster.address != address:
            self.close()
            self._memories, self._seen = {}, {}
        if self._cluster is None:
            self._cluster = cluster.borrow(address)
            self._target = wanted.target
            self._cluster.cache.subscribe(self._target, self._heard)
        return self._cluster

    def _sealing_key(self) -> bytes:
        """Made once and kept beside the daemon's state: with another one every secret would look changed."""
        path = self._facilities.state / "sealing.key"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return _kept_key(path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key := secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        return key

    # --- looking ---

    def _look_at(
        self,
        key: model.Key,
        want: proposing.Want | None,
        owned: Mapping[model.Key, str],
        sight: seeing.Sight,
        rules: Sequence[document.HealthRule],
    ) -> _Seen:
        live, identity, terms = sight.live[key], owned.get(key), self._terms
        assert terms  # noqa: S101 - `observe` prepared it
        before = self._seen.get(key)
        memory = self._memory(key, want, live, terms)
        version = live["metadata"].get("resourceVersion") if live else None
        unproven, immutable = key in sight.unproven, want is not None and self._immutable.get(key) == want.digest
        own = key in self._own
        made_from = (proposing.uid_of(live), version, want, memory, identity, unproven, immutable, own, terms, rules)
        same = before is not None and before.made_from == made_from
        if before is not None and same and before.found.health.status is judged.Status.CURRENT:
            return before
        said = self._judge(key, live, rules)
        if before is not None and same and before.found.health == said:
            return before
        found = proposing.Found(
            key=key,
            live=live,
            identity=identity,
            memory=memory,
            health=said,
            is_unproven=unproven,
            must_replace=immutable,
            is_own_access=own,
        )
        items: tuple[model.Observation, ...] = ()
        if live is not None and want is not None and not want.gives_back and not want.removes_foreign:
            foreign = comparing.foreign_items(live, terms.manager, want.body)
            items = tuple(proposing.foreign_item(key, item) for item in foreign)
        return _Seen(made_from, want, found, proposing.observation(found, want, terms), items)

    def _judge(self, key: model.Key, live: Body | None, rules: Sequence[document.HealthRule]) -> judged.Judged:
        said = health.judge(live, rules, now=self._clock.now())
        if live is None or said.status is judged.Status.CURRENT or self._cluster is None:
            self._explainer.is_well(key)
            return said
        return self._explainer.explain(self._cluster, key, live, said, self._clock.monotonic_s())

    def _await_kinds(self, on: cluster.Cluster, declared: Sequence[proposing.Want], until: float) -> None:
        """A definition is established a moment before its kind can be found: what it brings is waited for."""
        for want in declared:
            named = naming.parse_key(want.key)
            version = str(want.body.get("apiVersion", "")).rpartition("/")[2]
            give_up = min(until, self._clock.monotonic_s() + KIND_WITHIN_S)
            while (resource := on.discovery.find(named.group, named.kind, version)) is None:
                if self._clock.monotonic_s() >= give_up:
                    return
                self._clock.sleep(KIND_POLL_S)
                on.discovery.refresh()
            place = cache.Place(resource, named.namespace, named.name)
            self._places[want.key], self._keys[place] = place, want.key

    def _look_where_nobody_did(
        self, on: cluster.Cluster, keys: Sequence[model.Key], read: wants.Wants, rules: Sequence[document.HealthRule]
    ) -> None:
        """After a driver was made anew between a look and its write: what is marked as ours is taken for recorded."""
        missing = [key for key in keys if key not in self._seen]
        if not missing or self._terms is None:
            return
        declared = {key: read.by_key[key] for key in missing if key in read.by_key}
        sight = seeing.see(on, declared, missing, frozenset())
        self._places |= sight.places
        self._keys |= {place: key for key, place in sight.places.items()}
        marked = {k: b for k, b in sight.live.items() if b is not None and proposing.is_marked(b, self._terms)}
        owned = {key: proposing.uid_of(body) for key, body in marked.items()}
        self._seen |= {key: self._look_at(key, declared.get(key), owned, sight, rules) for key in sight.live}

    def _memory(
        self, key: model.Key, want: proposing.Want | None, live: Body | None, terms: proposing.Terms
    ) -> proposing.Memory | None:
        memory = self._memories.get(key)
        if live is None or (memory is not None and memory.uid != proposing.uid_of(live)):
            self._memories.pop(key, None)
            return None
        if memory is None and want is not None and (memory := proposing.recollect(want, live, terms)):
            self._memories[key] = memory
        return memory

    def _look(
        self,
        wanted: model.Wanted,
        seen: Mapping[model.Key, _Seen],
        unread: Mapping[model.Key, model.Reason],
        until: float,
        terms: proposing.Terms,
    ) -> model.Look:
        left_s = max(0.0, until - self._clock.monotonic_s())
        state, findings = probes.run_probes(wanted.probes, deadline_s=left_s)
        observations = [each.observation for each in seen.values()]
        lost = [model.Observation(key=key, wanted={"unread": True}, actual=None) for key in unread if key not in seen]
        return model.Look(
            observations=(*observations, *lost),
            foreign=(
                *(item for each in seen.values() for item in each.foreign),
                *self._foreign(seen, terms),
            )[:MAX_FOREIGN],
            fingerprint=_fingerprint(observations),
            health=_worst([state, *(each.observation.health for each in seen.values() if _counts(each))]),
            findings=(*findings, *_findings(seen)),
            errors=unread,
        )

    def _foreign(self, seen: Mapping[model.Key, _Seen], terms: proposing.Terms) -> list[model.Observation]:
        """What bears our marks and is neither wanted nor recorded."""
        if self._cluster is None:
            return []
        found = []
        for place, body in self._cluster.cache.labelled(terms.target):
            key = self._keys.get(place) or naming.key_of(body)
            if key not in seen and key not in self._left and proposing.is_marked(body, terms):
                found.append(proposing.foreign(key, body, terms))
        return found

    def _ask_the_doubtful(self, on: cluster.Cluster) -> None:
        for key in tuple(self._doubtful):
            place = self._places.get(key)
            if place is not None:
                body = on.calls.get(place.path)
                if body is None:
                    on.cache.drop(place)
                else:
                    on.cache.keep(place, body)
            self._doubtful.discard(key)

    def _heard(self, place: cache.Place, body: Body | None) -> None:
        """Called by a watch. Wakes the turn where what is ours differs, or is well or not well any more."""
        key, terms = self._keys.get(place), self._terms
        before = self._seen.get(key) if key else None
        if key is None or before is None or terms is None:
            return
        if body is not None and before.found.live is not None and before.found.memory is not None:
            memory = before.found.memory
            same = proposing.uid_of(body) == memory.uid and not comparing.lost_fields(
                body, memory.fields, terms.manager
            )
            if same and proposing.own_values(body, memory.fields, terms) == memory.values:
                now = health.judge(body, before.made_from[-1], now=self._clock.now())  # type: ignore[arg-type]
                want = before.want
                items = comparing.foreign_items(body, terms.manager, want.body) if want else ()
                if now.status == before.found.health.status and len(items) == len(before.foreign):
                    return
        self._facilities.wake(self._target)

    # --- writing ---

    def _write(self, step: model.Step, want: proposing.Want | None) -> writing.Write:
        seen, place = self._seen.get(step.key), self._places.get(step.key)
        if seen is None or place is None:
            place = place or cache.Place(_NOWHERE, "", step.key)
            reason = model.Reason(code="moved", message=f"{step.key}: no look has seen it")
            return writing.Write(step, place, proposing.Found(step.key, None, None), finding=reason)
        live = self._cluster.cache.get(place) if self._cluster else None
        found = seen.found if live is None else proposing.Found(step.key, live, seen.found.identity, seen.found.memory)
        if want is None or step.action == "delete":
            return writing.Write(step, place, found)
        if live is not None and (refused := kinds.refuse_crd_change(want.body, live)):
            return writing.Write(step, place, found, want, finding=refused)
        if wants.is_sealed(want):
            lost = model.Reason(code="no_way_back", message=f"{step.key}: the secrets that it had are not kept")
            return writing.Write(step, place, found, want, finding=lost)
        try:
            body = wants.to_send(want, self._facilities.secrets)
        except errors.ConfigError as exc:
            return writing.Write(step, place, found, want, finding=model.Reason.of(exc))
        return writing.Write(step, place, found, want, body)

    def _take(self, written: writing.Written, want: proposing.Want | None) -> None:
        key = written.result.key
        if written.memory is not None:
            self._memories[key] = written.memory
        if written.must_replace and want is not None:
            self._immutable[key] = want.digest
        if written.is_doubtful:
            self._doubtful.add(key)

    def _check_epoch(
        self, on: cluster.Cluster, wanted: model.Wanted, permit: model.Permit, terms: proposing.Terms
    ) -> None:
        """Raises: PermanentError(fenced)."""
        ours = (body for _, body in on.cache.labelled(terms.target) if proposing.is_marked(body, terms))
        newest = max(map(_epoch, ours), default=0)
        if permit.epoch < newest:
            message = f"{wanted.target}: a newer daemon writes here: epoch {newest}"
            raise errors.PermanentError("fenced", message)


_NOWHERE = discovery.Resource("", "", "", "", is_namespaced=False)


def _left_hooks(
    wanted: model.Wanted, declared: Mapping[model.Key, proposing.Want], owned: Mapping[model.Key, str]
) -> frozenset[model.Key]:
    """Hooks that finished and are declared no more: left to their TTL, and remembered as long as the target is there."""
    if wanted.mode is model.Mode.ABSENT:
        return frozenset()
    return frozenset(key for key, identity in owned.items() if key not in declared and hooks.is_kept(identity))


def _own_rights(
    on: cluster.Cluster, declared: Mapping[model.Key, proposing.Want], sight: seeing.Sight
) -> frozenset[model.Key]:
    """By what is there and by what is wanted: a right that is taken and one that is given are both ours to watch."""
    bodies = [*(want.body for want in declared.values()), *(body for body in sight.live.values() if body is not None)]
    return kinds.own_rights(bodies, access.names(on.address.endpoint, on.address.identity))


def _kept_key(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != 32:  # noqa: PLR2004 - as `_sealing_key` made it
        raise errors.ConfigError(
            "sealing_key", "it is damaged", where=str(path), fix="remove it; secrets are sent again"
        )
    return key


def _epoch(body: Body) -> int:
    text = (body["metadata"].get("annotations") or {}).get(comparing.EPOCH, "")
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 19 else 0  # noqa: PLR2004 - 64 bits


def _counts(seen: _Seen) -> bool:
    """Wanted objects, and leftovers that are still on their way out."""
    return seen.observation.wanted is not None or (
        proposing.is_terminating(seen.found.live) and seen.found.identity is not None
    )


def _findings(seen: Mapping[model.Key, _Seen]) -> list[model.Reason]:
    found = []
    for key, each in seen.items():
        if _counts(each) and each.found.live is not None and each.observation.health is not model.Health.HEALTHY:
            text = each.found.health.message or each.found.health.status.value
            found.append(model.Reason(code="unhealthy", message=f"{key}: {text}", where=each.observation.source))
    return found[:MAX_FINDINGS]


def _fingerprint(observations: Sequence[model.Observation]) -> model.Digest:
    actual: dict[str, JsonValue] = {str(each.key): each.actual for each in observations}
    return model.sha256(model.canonical_json(actual))


def _worst(found: Sequence[model.Health]) -> model.Health:
    order = (model.Health.FAILED, model.Health.UNKNOWN, model.Health.PROGRESSING)
    return next((each for each in order if each in found), model.Health.HEALTHY)
