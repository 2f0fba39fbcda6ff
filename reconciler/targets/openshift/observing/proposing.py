"""What is wanted, what is there and what the server once answered -> an observation with its step. Pure.

The canonical form of an object that is ours is the digest of the server's own values under the fields that are ours:
`{"sha256": ...}`. What somebody else made is kept whole, so that taking it over can be undone; its secrets as keyed digests,
which cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import JsonValue

from reconciler import model, redact
from reconciler.targets.openshift import masking
from reconciler.targets.openshift.connection import comparing
from reconciler.targets.openshift.connection.client import Body
from reconciler.targets.openshift.desired import hooks, kinds
from reconciler.targets.openshift.judging import judged
from reconciler.targets.openshift.observing import showing

UNKNOWN = judged.Judged(judged.Status.UNKNOWN)
MAX_LISTED = 5
MAX_WHO_CHARS = 500


@dataclass(frozen=True)
class Want:
    """One object as it should be: secrets as references, without the fields that are left to others, without our marks."""

    key: model.Key
    body: Body
    digest: model.Digest  # of the body, and of its secrets under a key that stays here
    order: int = 0
    source: str = ""
    gives_back: bool = False  # what we had taken over, as it was: without our marks, and whole
    is_replaceable: bool = False  # the document lets it be deleted and made anew
    removes_foreign: bool = False  # items that nobody declared are taken out of its lists


class Memory(NamedTuple):
    """What the server answered when we last applied an object, or let us know by a dry run."""

    wanted: model.Digest  # of the `Want` that was sent
    uid: str
    fields: comparing.Fields
    values: dict[str, JsonValue]  # under those fields, secrets sealed
    version: str = ""  # resourceVersion of that answer


@dataclass(frozen=True)
class Terms:
    """What is alike for all objects of one look."""

    manager: str
    target: str
    owner: str  # installation/target
    former_owners: frozenset[str]
    sealing_key: bytes
    takes_down: bool = False  # the target goes: nothing of ours stays


@dataclass(frozen=True)
class Found:
    """One object as it was seen. `identity` is what the log has of it; None: not ours."""

    key: model.Key
    live: Body | None = field(repr=False)  # It may be a Secret.
    identity: str | None
    memory: Memory | None = None
    health: judged.Judged = UNKNOWN
    is_unproven: bool = False  # its namespace or its kind is not there yet
    must_replace: bool = False  # the server said that what differs cannot be changed
    is_own_access: bool = False  # our own rights rest on it
    takes_along: str = ""  # what goes with it when it is deleted, for people


@dataclass(frozen=True)
class Compared:
    """Both sides in canonical form, and what a person must know of the way between them."""

    wanted: JsonValue
    actual: JsonValue
    lost: tuple[comparing.Lost, ...] = ()
    is_drift: bool = False  # what was sent last is what is wanted: all that differs was ours
    shown: tuple[JsonValue, JsonValue] = (None, None)  # wanted and actual, masked: for a diff
    foreign: tuple[comparing.ForeignItem, ...] = ()  # to be removed


def uid_of(body: Mapping[str, JsonValue] | None) -> str:
    metadata = body.get("metadata") if body else None
    return str(metadata.get("uid", "")) if isinstance(metadata, dict) else ""


def version_of(body: Mapping[str, Any] | None) -> str:
    return str(body["metadata"].get("resourceVersion", "")) if body else ""


def is_marked(live: Body, terms: Terms) -> bool:
    """Whether the object itself says that it is this target's: the label and the annotation."""
    metadata = live["metadata"]
    label = (metadata.get("labels") or {}).get(comparing.LABEL)
    owner = (metadata.get("annotations") or {}).get(comparing.OWNER)
    names = {each.rpartition("/")[2] for each in terms.former_owners} | {terms.target}
    return label in names and (owner == terms.owner or owner in terms.former_owners)


def is_terminating(live: Body | None) -> bool:
    return live is not None and bool(live["metadata"].get("deletionTimestamp"))


def own_values(live: Mapping[str, JsonValue], fields: comparing.Fields, terms: Terms) -> dict[str, JsonValue]:
    """What of an object is compared; secrets sealed."""
    values = comparing.values_under(live, fields)
    return masking.seal(showing.typed(values, live), terms.sealing_key) if masking.holds_secrets(live) else values


def remember(want: Want, answer: Body, terms: Terms) -> Memory:
    fields = comparing.our_fields(answer, terms.manager)
    return Memory(want.digest, uid_of(answer), fields, own_values(answer, fields, terms), version_of(answer))


def recollect(want: Want, live: Body, terms: Terms) -> Memory | None:
    """What the object itself tells a daemon that has just started; None where this manifest is not what was sent last.

    A field that is still ours has the value that we gave it: whoever changes it, owns it from then on.
    """
    if want.gives_back or not was_sent(want, live) or not is_marked(live, terms):
        return None
    fields = comparing.our_fields(live, terms.manager)
    if not fields or any(comparing.uncovered(_as_kept(want.body), fields)):
        return None
    return Memory(want.digest, uid_of(live), fields, own_values(live, fields, terms), version_of(live))


def was_sent(want: Want, live: Body) -> bool:
    """Whether this manifest is what the object was last made from."""
    return bool((live["metadata"].get("annotations") or {}).get(comparing.APPLIED) == want.digest)


def to_remove(live: Body, want: Want | None, terms: Terms) -> tuple[comparing.ForeignItem, ...]:
    if want is None or want.gives_back or not want.removes_foreign:
        return ()
    return comparing.foreign_items(live, terms.manager, want.body)


def canonical(found: Found, want: Want | None, terms: Terms) -> JsonValue:
    """What is there, in the form that steps name as their `before`."""
    live = found.live
    if live is None:
        return {"finished": hooks.content(want.body)} if want and _has_finished(found, want) else None
    if found.identity is None or (want is not None and want.gives_back):
        return _whole(live, terms)
    foreign: list[JsonValue] = [f"{each.path}/{each.name}" for each in to_remove(live, want, terms)]
    there = _compact(found, live, terms)
    return {**there, "foreign": foreign} if foreign else there


def compare(found: Found, want: Want | None, terms: Terms) -> Compared:
    live, memory = found.live, found.memory
    actual = canonical(found, want, terms)
    if want is None:
        return Compared(None, actual, shown=(None, masking.mask(comparing.clean(live)) if live else None))
    if live is None:
        wanted: JsonValue = actual if actual is not None else {"sha256": want.digest}
        return Compared(wanted, actual, shown=(masking.mask(want.body), None))
    if want.gives_back:
        return Compared(want.body, actual, shown=masking.mask_pair(want.body, comparing.clean(live)))
    if memory is None or memory.uid != uid_of(live):
        lost = _uncovered(found, want, live, terms)
        shown = showing.sides(want.body, live, comparing.our_fields(live, terms.manager))
        return Compared({"sha256": want.digest}, actual, lost, is_drift=was_sent(want, live), shown=shown)
    is_untouched = memory.version == version_of(live)
    lost = () if is_untouched else comparing.lost_fields(live, memory.fields, terms.manager)
    sent = memory.wanted == want.digest
    expected: JsonValue = {"sha256": comparing.digest([memory.values, True])}
    there = actual if found.identity is not None else _compact(found, live, terms)
    if sent and not lost and expected == there:
        return Compared(expected, expected, is_drift=True)
    wanted = expected if sent and expected != actual else {"sha256": want.digest}
    shown = showing.sides(want.body, live, memory.fields)
    return Compared(wanted, actual, lost, is_drift=sent, shown=shown, foreign=to_remove(live, want, terms))


def observation(found: Found, want: Want | None, terms: Terms) -> model.Observation:
    """Both sides and the way from one to the other."""
    compared = compare(found, want, terms)
    live, steps = found.live, _steps(found, want, compared, terms)
    place = want.order if want else kinds.order(live) if live else 0
    return model.Observation(
        key=found.key,
        wanted=compared.wanted,
        actual=compared.actual,
        marked=live is None or is_marked(live, terms),
        identity=_identity(found),
        order=kinds.last(steps, place),
        health=_health(found, want, compared),
        steps=steps,
        source=want.source if want else "",
        changed_by=_changed_by(compared),
    )


def before(actual: JsonValue) -> model.Digest | None:
    """What a step's `before` is compared with."""
    return None if actual is None else model.sha256(model.canonical_json(actual))


def foreign(key: model.Key, live: Body, terms: Terms) -> model.Observation:
    """Labelled as ours, and not recorded: a copy, or a restored object. Reported, never pruned."""
    return model.Observation(key=key, wanted=None, actual=_whole(live, terms), marked=False, identity=uid_of(live))


def foreign_item(key: model.Key, item: comparing.ForeignItem) -> model.Observation:
    """An item that nobody declared inside an object of ours."""
    shown: JsonValue = {"path": item.path, "name": item.name, "manager": item.manager}
    return model.Observation(key=model.Key(f"{key}/{item.path}/{item.name}"), wanted=None, actual=shown, marked=False)


# --- steps --------------------------------------------------------------------------------------------------------------


def _steps(found: Found, want: Want | None, compared: Compared, terms: Terms) -> tuple[model.Step, ...]:
    action = _action(found, want, compared, terms)
    if not action:
        return ()
    body = want.body if want else found.live or {}
    old = version_of(found.live)
    return (
        model.Step(
            key=found.key,
            action=action,
            command=_command(found, action, compared, terms),
            before=before(compared.actual),
            undo=_undo(found, action, old),
            hazards=kinds.hazards(body, action, own=found.is_own_access),
            diff=showing.diff(*compared.shown),
            impact=found.takes_along if action == "delete" else "",
        ),
    )


def _action(found: Found, want: Want | None, compared: Compared, terms: Terms) -> str:
    """What has to be done; empty where nothing has, or nothing can be while it terminates."""
    if is_terminating(found.live):
        return ""
    if want is None:
        if found.live is not None and hooks.is_left(found.live) and not terms.takes_down:
            return ""
        if found.live is None:
            return "delete" if found.identity is not None and not hooks.is_kept(found.identity) else ""
        return "delete"
    if compared.wanted == compared.actual:
        return "update" if _newly_finished(found, want) else ""
    if found.live is None:
        return "create"
    return "replace" if found.must_replace and want.is_replaceable else "update"


def _has_finished(found: Found, want: Want | None) -> bool:
    return want is not None and found.identity is not None and hooks.remembers(found.identity, want.body)


def _newly_finished(found: Found, want: Want) -> bool:
    """A Job that is seen to have finished is told to the log, once: afterwards it may go."""
    live, identity = found.live, found.identity
    return live is not None and identity is not None and hooks.finished(live) and not _has_finished(found, want)


def _command(found: Found, action: str, compared: Compared, terms: Terms) -> str:
    if compared.wanted is not None and compared.wanted == compared.actual:
        return f"note that {found.key} has finished"
    if action == "delete" and found.live is None:
        return f"note that {found.key} is gone"
    if action in {"delete", "replace"}:
        then = ", then apply it anew" if action == "replace" else ""
        return f"delete {found.key} uid {uid_of(found.live)}{then}"
    text = f"apply {found.key} as {terms.manager}"
    if found.is_unproven:
        text += ", unproven until its namespace and kind are there"
    removed = "".join(f"; removes {each.path} {each.name} of {each.manager or 'nobody'}" for each in compared.foreign)
    return text + _taken(compared.lost) + removed


def _taken(lost: Sequence[comparing.Lost]) -> str:
    if not lost:
        return ""
    named = [f"{each.path} from {each.taker or 'whoever removed it'}" for each in lost[:MAX_LISTED]]
    more = f" and {len(lost) - MAX_LISTED} more" if len(lost) > MAX_LISTED else ""
    return f"; takes back {', '.join(named)}{more}"


def _changed_by(compared: Compared) -> str:
    """Which managers took what was ours, and which fields: `kubectl-edit (spec.replicas)`. Who removed a field, no server says."""
    taken: dict[str, list[str]] = {}
    for each in compared.lost:
        taken.setdefault(each.taker, []).append(each.path)
    for item in compared.foreign:
        taken.setdefault(item.manager, []).append(f"{item.path}[{item.name}]")
    named = (f"{who} ({_listed(paths)})" for who, paths in sorted(taken.items()) if who)
    return redact.line(", ".join(named), limit_chars=MAX_WHO_CHARS)


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(paths[:MAX_LISTED]) + (f" and {len(paths) - MAX_LISTED} more" if len(paths) > MAX_LISTED else "")


def _undo(found: Found, action: str, version: str) -> str | None:
    if found.live is None:
        return f"delete {found.key}"
    if action in {"delete", "replace"} and kinds.is_guarded(found.live):
        return None
    return f"apply {found.key} as it was at resourceVersion {version}"


# --- canonical forms ------------------------------------------------------------------------------------------------------


def _compact(found: Found, live: Body, terms: Terms) -> dict[str, JsonValue]:
    memory = found.memory
    if memory is None or memory.uid != uid_of(live):
        values = own_values(live, comparing.our_fields(live, terms.manager), terms)
    elif memory.version == version_of(live):
        values = memory.values
    else:
        values = own_values(live, memory.fields, terms)
    return {"sha256": comparing.digest([values, is_marked(live, terms)])}


def _uncovered(found: Found, want: Want, live: Body, terms: Terms) -> tuple[comparing.Lost, ...]:
    """Fields that this very manifest was sent with, and that are ours no longer."""
    fields = comparing.our_fields(live, terms.manager)
    if found.identity is None or not fields or not was_sent(want, live):
        return ()
    gone = comparing.uncovered(_as_kept(want.body), fields)
    return tuple(comparing.Lost(path, comparing.taker(live, path, terms.manager)) for path in gone)


def _as_kept(body: Body) -> Body:
    """What a Secret says under `stringData` is owned under `data`: the server never reads the other back."""
    written = body.get("stringData") if body.get("kind") == "Secret" else None
    if not isinstance(written, dict):
        return body
    return {**{name: value for name, value in body.items() if name != "stringData"}, "data": written}


def _whole(live: Body, terms: Terms) -> JsonValue:
    cleaned = comparing.clean(live)
    return masking.seal(cleaned, terms.sealing_key) if masking.holds_secrets(live) else cleaned


def _identity(found: Found) -> str:
    if found.live is not None:
        return uid_of(found.live)
    return found.identity or ""


def _health(found: Found, want: Want | None, compared: Compared) -> model.Health:
    if found.live is None and want is not None and compared.wanted == compared.actual:
        return model.Health.HEALTHY  # A Job that finished and went.
    if found.live is not None and want is not None and want.gives_back:
        return model.Health.HEALTHY  # As it was: how well that is was never ours to say.
    return found.health.health
