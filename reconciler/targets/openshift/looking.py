"""From what is there to observations: what is remembered of each object, how it is judged, and which events are news."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from reconciler import model, ports
from reconciler.targets.openshift import document, naming
from reconciler.targets.openshift.applying import writing
from reconciler.targets.openshift.connection import access, cache, cluster, comparing
from reconciler.targets.openshift.connection.client import Body
from reconciler.targets.openshift.desired import hooks, kinds
from reconciler.targets.openshift.judging import health, judged
from reconciler.targets.openshift.observing import explaining, going_along, proposing, seeing, wants

MAX_FINDINGS = 20


class Seen(NamedTuple):
    """One object of the last look, and what its observation was made from."""

    made_from: tuple[object, ...]
    want: proposing.Want | None
    found: proposing.Found
    observation: model.Observation
    foreign: tuple[model.Observation, ...]


class Rules(NamedTuple):
    """What is alike for every object of one look."""

    terms: proposing.Terms
    health: Sequence[document.HealthRule] = ()


class Looking:
    """What one target's driver knows of its objects between looks. Nothing of it is needed by the next daemon."""

    def __init__(self, clock: ports.Clock) -> None:
        self._clock = clock
        self._explainer = explaining.Explainer()
        self.seen: dict[model.Key, Seen] = {}
        self.places: dict[model.Key, cache.Place] = {}
        self._keys: dict[cache.Place, model.Key] = {}
        self._memories: dict[model.Key, proposing.Memory] = {}
        self._immutable: dict[model.Key, model.Digest] = {}  # what the server said cannot be changed into this
        self._doubtful: set[model.Key] = set()  # written with an unknown outcome: the next look asks
        self._own: frozenset[model.Key] = frozenset()  # what our own access rests on
        self._along: dict[model.Key, str] = {}  # what goes with those that are wanted no more
        self._left: frozenset[model.Key] = frozenset()  # hooks that finished and are declared no more
        self._rules: Rules | None = None

    def look(
        self,
        on: cluster.Cluster,
        read: wants.Wants,
        owned: Mapping[model.Key, str],
        rules: Rules,
        unasked: seeing.Unasked,
    ) -> seeing.Sight:
        """See every object that is wanted or recorded; afterwards `seen` holds them. Raises: as `seeing.see`."""
        self._ask_the_doubtful(on)
        self._left = _left_hooks(read.by_key, owned, rules.terms)
        sight = seeing.see(on, read.by_key, owned.keys() - self._left, unasked)
        self._own = _own_rights(on, read.by_key, sight)
        self.places, self._keys = sight.places, {place: key for key, place in sight.places.items()}
        self._rules = self._rules if self._rules == rules else rules  # The same object compares at once.
        self._explainer.begin()
        leaving = {
            k: body for k, body in sight.live.items() if k not in read.by_key and k in owned and body is not None
        }
        self._along = going_along.going_along(on, leaving)
        self.seen = {
            key: self._look_at(on, key, read.by_key.get(key), owned.get(key), sight) for key in sorted(sight.live)
        }
        self._memories = {key: memory for key, memory in self._memories.items() if key in self.seen}
        return sight

    def look_where_nobody_did(
        self, on: cluster.Cluster, keys: Sequence[model.Key], read: wants.Wants, rules: Rules
    ) -> None:
        """After a driver was made anew between a look and its write: what is marked as ours is taken for recorded."""
        missing = [key for key in keys if key not in self.seen]
        if not missing:
            return
        declared = {key: read.by_key[key] for key in missing if key in read.by_key}
        sight = seeing.see(on, declared, missing, seeing.Unasked())
        for key, place in sight.places.items():
            self.located(key, place)
        self._rules = self._rules if self._rules == rules else rules  # The same object compares at once.
        for key, body in sight.live.items():
            is_ours = body is not None and proposing.is_marked(body, rules.terms)
            identity = proposing.uid_of(body) if is_ours else None
            self.seen[key] = self._look_at(on, key, declared.get(key), identity, sight)

    def located(self, key: model.Key, place: cache.Place) -> None:
        self.places[key], self._keys[place] = place, key

    def take(self, written: writing.Written, want: proposing.Want | None) -> None:
        """What the server answered to a write."""
        key = written.result.key
        if written.memory is not None:
            self._memories[key] = written.memory
        if written.must_replace and want is not None:
            self._immutable[key] = want.digest
        if written.is_doubtful:
            self._doubtful.add(key)

    def foreign(self, on: cluster.Cluster, terms: proposing.Terms) -> list[model.Observation]:
        """What nobody declared inside our objects, and what bears our marks and is neither wanted nor recorded."""
        found = [item for each in self.seen.values() for item in each.foreign]
        for place, body in on.cache.labelled(terms.target):
            key = self._keys.get(place) or naming.key_of(body)
            if key not in self.seen and key not in self._left and proposing.is_marked(body, terms):
                found.append(proposing.foreign(key, body, terms))
        return found

    def is_news(self, place: cache.Place, body: Body | None) -> bool:
        """Whether an event asks for a look: what is ours differs, or the object is well or not well any more."""
        key, rules = self._keys.get(place), self._rules
        before = self.seen.get(key) if key else None
        if before is None or rules is None:
            return False
        memory = before.found.memory
        if body is None or before.found.live is None or memory is None or proposing.uid_of(body) != memory.uid:
            return True
        if comparing.lost_fields(body, memory.fields, rules.terms.manager):
            return True
        if proposing.own_values(body, memory.fields, rules.terms) != memory.values:
            return True
        items = comparing.foreign_items(body, rules.terms.manager, before.want.body) if before.want else ()
        now = health.judge(body, rules.health, now=self._clock.now())
        return len(items) != len(before.foreign) or now.status != before.found.health.status

    def _look_at(
        self,
        on: cluster.Cluster,
        key: model.Key,
        want: proposing.Want | None,
        identity: str | None,
        sight: seeing.Sight,
    ) -> Seen:
        live, rules, before = sight.live[key], self._rules, self.seen.get(key)
        assert rules  # noqa: S101 - a look began with them
        memory = self._memory(key, want, live, rules.terms)
        unproven, immutable = key in sight.unproven, want is not None and self._immutable.get(key) == want.digest
        version, own, along = proposing.version_of(live), key in self._own, self._along.get(key, "")
        made_from = (proposing.uid_of(live), version, want, memory, identity, unproven, immutable, own, along, rules)
        same = before is not None and before.made_from == made_from
        if before is not None and same and before.found.health.status is judged.Status.CURRENT:
            return before
        said = self._judge(on, key, live, rules)
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
            takes_along=along,
        )
        items: tuple[model.Observation, ...] = ()
        if live is not None and want is not None and not want.gives_back and not want.removes_foreign:
            foreign = comparing.foreign_items(live, rules.terms.manager, want.body)
            items = tuple(proposing.foreign_item(key, item) for item in foreign)
        return Seen(made_from, want, found, proposing.observation(found, want, rules.terms), items)

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

    def _judge(self, on: cluster.Cluster, key: model.Key, live: Body | None, rules: Rules) -> judged.Judged:
        said = health.judge(live, rules.health, now=self._clock.now())
        if live is None or said.status is judged.Status.CURRENT:
            self._explainer.is_well(key)
            return said
        return self._explainer.explain(on, key, live, said, self._clock.monotonic_s())

    def _ask_the_doubtful(self, on: cluster.Cluster) -> None:
        for key in tuple(self._doubtful):
            if place := self.places.get(key):
                body = on.calls.get(place.path)
                if body is None:
                    on.cache.drop(place)
                else:
                    on.cache.keep(place, body)
            self._doubtful.discard(key)


def counts(seen: Seen) -> bool:
    """Whether its health is the target's: wanted objects, and leftovers that are still on their way out."""
    on_its_way_out = proposing.is_terminating(seen.found.live) and seen.found.identity is not None
    return seen.observation.wanted is not None or on_its_way_out


def findings(seen: Mapping[model.Key, Seen]) -> list[model.Reason]:
    """Why what is there is not well, in words of the objects themselves."""
    found = []
    for key, each in seen.items():
        if counts(each) and each.found.live is not None and each.observation.health is not model.Health.HEALTHY:
            text = each.found.health.message or each.found.health.status.value
            found.append(model.Reason(code="unhealthy", message=f"{key}: {text}", where=each.observation.source))
    return found[:MAX_FINDINGS]


def fingerprint(observations: Sequence[model.Observation]) -> model.Digest:
    actual: dict[str, JsonValue] = {str(each.key): each.actual for each in observations}
    return model.sha256(model.canonical_json(actual))


def worst(found: Sequence[model.Health]) -> model.Health:
    order = (model.Health.FAILED, model.Health.UNKNOWN, model.Health.PROGRESSING)
    return next((each for each in order if each in found), model.Health.HEALTHY)


def _left_hooks(
    declared: Mapping[model.Key, proposing.Want], owned: Mapping[model.Key, str], terms: proposing.Terms
) -> frozenset[model.Key]:
    """Hooks that finished and are declared no more: left to their TTL, and remembered as long as the target is there."""
    if terms.takes_down:
        return frozenset()
    return frozenset(key for key, identity in owned.items() if key not in declared and hooks.is_kept(identity))


def _own_rights(
    on: cluster.Cluster, declared: Mapping[model.Key, proposing.Want], sight: seeing.Sight
) -> frozenset[model.Key]:
    """By what is there and by what is wanted: a right that is taken and one that is given are both ours to watch."""
    bodies = [*(want.body for want in declared.values()), *(body for body in sight.live.values() if body is not None)]
    return kinds.own_rights(bodies, access.names(on.address.endpoint, on.address.identity))
