"""OpenShift and Kubernetes by server-side apply, compared with what the server answered, watched.

A look reads the cache that watches keep, and calls nobody where nothing moved. Ours is what bears the label `reconciler/target`
and the annotation `reconciler/owner`, and stands in the log with its uid. There is no dead-man here. `reconciler/epoch` on
each object is the fence: who holds an older lease than the newest that wrote here writes nothing.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, JsonValue

from reconciler import errors, model, ports
from reconciler.targets import probes
from reconciler.targets.openshift import document, looking, naming
from reconciler.targets.openshift.applying import rehearsing, sending, writing
from reconciler.targets.openshift.connection import cache, client, cluster, comparing, discovery, kubeconfig
from reconciler.targets.openshift.connection.client import Body
from reconciler.targets.openshift.desired import kinds, manifests, validation
from reconciler.targets.openshift.observing import proposing, seeing, wants

KIND_WITHIN_S = 15.0
KIND_POLL_S = 0.2
ABSENT_FOR_S = 5.0  # How long the look after a write may trust what the look before it found absent.
MAX_FOREIGN = 1000


class Openshift:
    schema: ClassVar[type[BaseModel]] = document.Options

    def __init__(self, facilities: ports.DriverFacilities) -> None:
        self._facilities = facilities
        self._clock = facilities.clock
        self._cluster: cluster.Cluster | None = None
        self._target = ""
        self._reader: wants.Reader | None = None
        self._terms: proposing.Terms | None = None
        self._looking = looking.Looking(facilities.clock)
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
        return self._observe(wanted, owned, deadline_s, None)

    def preview(
        self, wanted: model.Desired, owned: Mapping[model.Key, str], known: AbstractSet[model.Key], deadline_s: float
    ) -> model.Look:
        return self._observe(wanted, owned, deadline_s, known)

    def _observe(
        self,
        wanted: model.Wanted,
        owned: Mapping[model.Key, str],
        deadline_s: float,
        known: AbstractSet[model.Key] | None,
    ) -> model.Look:
        """`known`: the only keys that may be read; None for all."""
        until = self._clock.monotonic_s() + deadline_s
        terms = self._prepare(wanted)
        on = self._connect(wanted)
        on.discovery.ensure()  # A cluster that is dead is tried again and again: nothing is read for it first.
        read = self._read(wanted)
        options = document.options(wanted)
        absent = self._absent if self._clock.monotonic_s() < self._absent_until else frozenset()
        self._absent_until = 0.0
        rules = looking.Rules(terms, options.health)
        unread = frozenset(() if known is None else read.by_key.keys() - known)
        sight = self._looking.look(on, read, owned, rules, seeing.Unasked(absent, unread))
        self._absent = frozenset(place for key, place in sight.places.items() if sight.live.get(key, {}) is None)
        left_s = until - self._clock.monotonic_s()
        if left_s <= 0:
            raise errors.TransientError("deadline", f"{wanted.target}: the look took longer than {deadline_s:g} s")
        state, findings = probes.run_probes(wanted.probes, deadline_s=left_s)
        seen, failed = self._looking.seen, {**sight.errors, **read.impossible}
        observations = [each.observation for each in seen.values()]
        lost = [model.Observation(key=key, wanted={"unread": True}, actual=None) for key in failed if key not in seen]
        return model.Look(
            observations=(*observations, *lost),
            foreign=tuple(self._looking.foreign(on, terms)[:MAX_FOREIGN]),
            fingerprint=looking.fingerprint(observations),
            health=looking.worst([state, *(e.observation.health for e in seen.values() if looking.counts(e))]),
            findings=(*findings, *looking.findings(seen)),
            errors=failed,
        )

    def apply(self, wanted: model.Wanted, stage: model.Stage, permit: model.Permit) -> tuple[model.StepResult, ...]:
        until = self._clock.monotonic_s() + permit.deadline_s
        terms = self._prepare(wanted)
        on = self._connect(wanted)
        read = self._read(wanted)
        self._check_epoch(on, wanted, permit, terms)
        options = document.options(wanted)
        self._await_kinds(on, [read.by_key[step.key] for step in stage.steps if step.key in read.by_key], until)
        rules = looking.Rules(terms, options.health)
        self._looking.look_where_nobody_did(on, [step.key for step in stage.steps], read, rules)
        how = self._stage(on, wanted, until, permit.epoch)
        written = writing.write_stage(how, [self._write(step, read.by_key.get(step.key)) for step in stage.steps])
        for each in written:
            self._looking.take(each, read.by_key.get(each.result.key))
        places = self._looking.places
        self._absent -= {places[step.key] for step in stage.steps if step.key in places}
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

    def rehearse(
        self, wanted: model.Wanted, steps: Sequence[model.Step], deadline_s: float
    ) -> Mapping[model.Key, model.Rehearsed]:
        """By dry runs, over a connection of its own and as the identity that writes."""
        until = self._clock.monotonic_s() + deadline_s
        self._prepare(wanted)
        how = self._stage(self._connect(wanted), wanted, until, 0)
        read, said, writes = self._read(wanted), {}, []
        for step in steps:
            try:
                writes.append(self._write(step, read.by_key.get(step.key)))
            except errors.TransientError as exc:  # A store of secrets is away: that says nothing about the others.
                said[step.key] = model.Rehearsed.unproven(model.Reason.of(exc))
        address = self._address(wanted)
        calls = client.Client(address.endpoint, address.identity, rehearsing.AT_ONCE, address.limits)
        try:
            return said | rehearsing.rehearse(how, calls, writes)
        finally:
            calls.close()

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
        if self._cluster is not None and (self._cluster.address, self._target) != (address, wanted.target):
            self.close()
            self._looking = looking.Looking(self._clock)
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

    def _await_kinds(self, on: cluster.Cluster, declared: Sequence[proposing.Want], until: float) -> None:
        """A definition is established a moment before its kind can be found: what it brings is waited for."""
        for want in declared:
            if want.key in self._looking.places or want.key not in self._looking.seen:
                continue
            named = naming.parse_key(want.key)
            version = str(want.body.get("apiVersion", "")).rpartition("/")[2]
            give_up = min(until, self._clock.monotonic_s() + KIND_WITHIN_S)
            while (resource := on.discovery.find(named.group, named.kind, version)) is None:
                if self._clock.monotonic_s() >= give_up:
                    return
                self._clock.sleep(KIND_POLL_S)
                on.discovery.refresh()
            self._looking.located(want.key, cache.Place(resource, named.namespace, named.name))

    def _heard(self, place: cache.Place | None, body: Body | None) -> None:
        """Called by a watch."""
        if place is None or self._looking.is_news(place, body):
            self._facilities.wake(self._target)

    # --- writing ---

    def _stage(self, on: cluster.Cluster, wanted: model.Wanted, until: float, epoch: int) -> sending.Stage:
        terms = self._prepare(wanted)
        return sending.Stage(
            on=on,
            terms=terms,
            clock=self._clock,
            until=until,
            epoch=epoch,
            takes_conflicts=document.options(wanted).conflicts == "take",
            ignore=wanted.ignore,
            today=self._clock.now().date().isoformat(),
            former_managers=tuple(f"reconciler:{owner.replace('/', ':')}" for owner in sorted(terms.former_owners)),
        )

    def _write(self, step: model.Step, want: proposing.Want | None) -> sending.Write:
        seen, place = self._looking.seen.get(step.key), self._looking.places.get(step.key)
        if seen is None or place is None:
            place = place or cache.Place(_NOWHERE, "", step.key)
            reason = model.Reason(code="moved", message=f"{step.key}: no look has seen it")
            found = seen.found if seen else proposing.Found(step.key, None, None)
            return sending.Write(step, place, found, finding=reason)
        live = self._cluster.cache.get(place) if self._cluster else None
        found = seen.found if live is None else proposing.Found(step.key, live, seen.found.identity, seen.found.memory)
        if want is None or step.action == "delete":
            return sending.Write(step, place, found)
        if live is not None and (refused := kinds.refuse_crd_change(want.body, live)):
            return sending.Write(step, place, found, want, finding=refused)
        if wants.is_sealed(want):
            lost = model.Reason(code="no_way_back", message=f"{step.key}: the secrets that it had are not kept")
            return sending.Write(step, place, found, want, finding=lost)
        try:
            body = wants.to_send(want, self._facilities.secrets)
        except errors.ConfigError as exc:
            return sending.Write(step, place, found, want, finding=model.Reason.of(exc))
        return sending.Write(step, place, found, want, body)

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
