"""One stage on the cluster: server-side apply, deletes with the uid as precondition, several at once.

Every write names what it may replace. What is to be created is sent with a resourceVersion that no object has: the server
answers 409 where something is there. What is to be changed is sent with the resourceVersion that was compared; where that is
stale the object is read again, and written only if it still is what the plan saw.

Conflicts (409 with a cause for each field and owner) are settled one by one: left out where `ignore` says so, taken back
where the field was ours, taken where `conflicts: take` says so; else the step fails and names them all. Nothing is forced
that was not settled before, and force never comes without the resourceVersion.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reconciler import errors, model, ports
from reconciler.targets.openshift import adopting, cache, client, cluster, comparing, hooks, masking, proposing
from reconciler.targets.openshift.client import Body

NO_VERSION = "1"  # etcd's first revision: no object has it, so only what is absent can be written with it.
TRIES = 5  # of one write against objects that move, or a server that throttles
GONE_WITHIN_S = 2.0  # what a delete waits for an object to be really gone; finalizers may take longer, and are reported
POLL_S = 0.05
_OWNER = re.compile(r'conflict with "(?P<owner>(?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Write:
    """One step with all that it needs. `body`: what to send, secrets resolved; None for a delete."""

    step: model.Step
    place: cache.Place
    found: proposing.Found
    want: proposing.Want | None = None
    body: Body | None = field(default=None, repr=False)
    finding: model.Reason | None = None  # why it cannot even be tried


class Written(NamedTuple):
    result: model.StepResult
    memory: proposing.Memory | None = None
    must_replace: bool = False  # the server said that a field cannot be changed
    is_doubtful: bool = False  # nobody knows what is there now


@dataclass(frozen=True)
class Stage:
    """What holds for all writes of one stage."""

    on: cluster.Cluster
    terms: proposing.Terms
    clock: ports.Clock
    until: float  # monotonic
    epoch: int
    takes_conflicts: bool
    ignore: tuple[model.Ignore, ...] = ()
    today: str = ""
    former_managers: tuple[str, ...] = ()

    @property
    def left_s(self) -> float:
        return self.until - self.clock.monotonic_s()


class _MovedError(Exception):
    """It is not what the plan saw."""


class _RefusedError(Exception):
    def __init__(self, reason: model.Reason, *, must_replace: bool = False) -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.must_replace = must_replace


class _LaterError(Exception):
    """Not sent, or not yet done: nothing is known to be wrong."""

    def __init__(self, reason: model.Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


class _BrokeError(Exception):
    """The server answered that it broke: whether the write was kept is seen by looking, for it is not under way any more."""

    def __init__(self, reason: model.Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


def write_stage(stage: Stage, writes: Sequence[Write]) -> list[Written]:
    """Write exactly these, each only where its `before` holds. One result for each, in their order; raises for none alone."""
    places = {write.place for write in writes}
    stage.on.cache.writing(places)
    try:
        return stage.on.side_by_side([functools.partial(_write, stage, write) for write in writes])
    finally:
        stage.on.cache.written(places)


def _write(stage: Stage, write: Write) -> Written:
    step = write.step
    if write.finding:
        return Written(model.StepResult(key=step.key, effect=model.Effect.FAILED, finding=write.finding))
    if stage.left_s <= 0:
        late = model.Reason(code="deadline", message=f"{step.key}: the stage ran out of time")
        return Written(model.StepResult(key=step.key, effect=model.Effect.SKIPPED, finding=late))
    try:
        return _until_it_holds(stage, write)
    except _MovedError:
        return Written(model.StepResult(key=step.key, effect=model.Effect.MOVED))
    except _RefusedError as exc:
        result = model.StepResult(key=step.key, effect=model.Effect.FAILED, finding=exc.reason)
        return Written(result, must_replace=exc.must_replace)
    except _LaterError as exc:
        return Written(model.StepResult(key=step.key, effect=model.Effect.SKIPPED, finding=exc.reason))
    except errors.OutcomeUnknownError as exc:
        result = model.StepResult(key=step.key, effect=model.Effect.UNKNOWN, finding=model.Reason.of(exc))
        return Written(result, is_doubtful=True)
    except errors.TransientError as exc:
        return Written(model.StepResult(key=step.key, effect=model.Effect.SKIPPED, finding=model.Reason.of(exc)))
    except errors.PermanentError as exc:
        return Written(model.StepResult(key=step.key, effect=model.Effect.FAILED, finding=model.Reason.of(exc)))


def _until_it_holds(stage: Stage, write: Write) -> Written:
    """Do it; where the server breaks over it, look what became of it, and try again a few times.

    Raises: as the actions; _RefusedError with what the server said last.
    """
    for number in range(TRIES):
        try:
            return _ACTIONS[write.step.action](stage, write)
        except _BrokeError as exc:
            if (landed := _landed(stage, write)) is not None:
                return landed
            if number == TRIES - 1 or stage.left_s <= 0:
                raise _RefusedError(exc.reason) from exc
            stage.clock.sleep(_pause_s(number, stage))
    raise _MovedError


def _landed(stage: Stage, write: Write) -> Written | None:
    """What a write that broke did all the same."""
    found = _read(stage, write)
    if write.step.action == "delete":
        gone = found is None or proposing.uid_of(found) != proposing.uid_of(write.found.live)
        return Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED)) if gone else None
    want = write.want
    if want is None or found is None or want.gives_back or not proposing.was_sent(want, found):
        return None
    memory = proposing.recollect(want, found, stage.terms)
    uid = proposing.uid_of(found)
    return (
        Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED, identity=uid), memory)
        if memory
        else None
    )


def _pause_s(number: int, stage: Stage, at_least_s: float = 0.0) -> float:
    pause_s = max(at_least_s, 0.1 * 2**number) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
    return float(min(pause_s, max(stage.left_s, 0.0)))


# --- the actions --------------------------------------------------------------------------------------------------------


def _create(stage: Stage, write: Write) -> Written:
    want, body = _to_send(write)
    if want.gives_back:
        answer = _ask(stage, write, "POST", write.place.resource.collection(write.place.namespace), body)
        if answer.status == client.CONFLICT:
            raise _MovedError
    else:
        sent = _marked(stage, want, body, {"resourceVersion": NO_VERSION})
        answer = _ask(stage, write, "PATCH", write.place.path, sent, query=_apply_query(stage), kind=client.APPLY)
        if answer.status == client.CONFLICT:  # Something is there: it is looked at before anything is written over it.
            raise _MovedError
    return _kept(stage, write, answer)


def _update(stage: Stage, write: Write) -> Written:
    want, body = _to_send(write)
    if write.found.live is not None and _is_note(write):
        identity = hooks.memory(proposing.uid_of(write.found.live), want.body)
        return Written(
            model.StepResult(key=write.step.key, effect=model.Effect.CHANGED, identity=identity), write.found.memory
        )

    def send(live: Body) -> client.Answer:
        items = proposing.to_remove(live, want, stage.terms)
        if items:
            answer = _remove_items(stage, write, live, items)
            if not answer.is_ok:
                return answer
            live = answer.body
            compared = proposing.compare(_seen(write, live), want, stage.terms)
            if compared.wanted == compared.actual:
                return answer
        return _send(stage, write, body, live)

    return _kept(stage, write, _on_what_was_seen(stage, write, send))


def _adopt(stage: Stage, write: Write) -> Written:
    """First the fields that kubectl owns become ours, so that what the manifest does not say goes away."""
    _, body = _to_send(write)

    def send(live: Body) -> client.Answer:
        moved = adopting.moved_managers(live, stage.terms.manager, stage.former_managers)
        if moved is not None:
            answer = _patch(stage, write, live, [{"op": "replace", "path": "/metadata/managedFields", "value": moved}])
            if not answer.is_ok:
                return answer
            live = answer.body
        return _send(stage, write, body, live)

    return _kept(stage, write, _on_what_was_seen(stage, write, send))


def _delete(stage: Stage, write: Write) -> Written:
    """Done when it is really gone. What waits for finalizers stays ours, and says whose they are."""
    live = write.found.live
    if live is None:  # Only the log still has it.
        if _read(stage, write) is not None:
            raise _MovedError
        return Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED))
    answer = _on_what_was_seen(stage, write, lambda seen: _send_delete(stage, write, seen))
    if answer.status != client.NOT_FOUND:
        _await_gone(stage, write, _ok(write, answer))
    stage.on.cache.forget(write.place, proposing.uid_of(live))
    return Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED))


def _replace(stage: Stage, write: Write) -> Written:
    _delete(stage, write)
    return _create(stage, write)


_ACTIONS: Mapping[str, Callable[[Stage, Write], Written]] = {
    "create": _create,
    "update": _update,
    "adopt": _adopt,
    "delete": _delete,
    "replace": _replace,
}


# --- sending ------------------------------------------------------------------------------------------------------------


def _send(stage: Stage, write: Write, body: Body, live: Body) -> client.Answer:
    want, _ = _to_send(write)
    if want.gives_back:
        version = {"resourceVersion": live["metadata"]["resourceVersion"]}
        whole = {**body, "metadata": {**body["metadata"], **version}}
        return _ask(stage, write, "PUT", write.place.path, whole, query={"fieldManager": stage.terms.manager})
    seen = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
    compared = proposing.compare(_seen(write, live), want, stage.terms)
    force = compared.is_drift and bool(compared.lost)  # All that differs was ours: nobody else's field is in it.
    sent = _marked(stage, want, body, seen)
    answer = _ask(
        stage, write, "PATCH", write.place.path, sent, query=_apply_query(stage, force=force), kind=client.APPLY
    )
    if answer.status != client.CONFLICT or not (causes := _conflicts(answer)):
        return answer
    return _send_settled(stage, write, sent, causes, compared)


def _send_settled(
    stage: Stage, write: Write, sent: Body, causes: Sequence[tuple[str, str]], compared: proposing.Compared
) -> client.Answer:
    ours = {each.path for each in compared.lost}
    open_ = []
    for path, owner in causes:
        if comparing.is_ignored(write.step.key, path, stage.ignore, stage.today):
            rule = model.Ignore(key=write.step.key, path=path, reason="")
            sent = comparing.without_ignored(sent, write.step.key, (rule,), stage.today)
        elif path not in ours and not stage.takes_conflicts:
            open_.append(f"{path} belongs to {owner}")
    if open_:
        fix = "leave the fields to their owner with `ignore`, or take them with `conflicts: take`"
        where = write.want.source if write.want else ""
        message = f"{write.step.key}: {'; '.join(open_)}"
        raise _RefusedError(model.Reason(code="conflict", message=message, where=where, fix=fix))
    return _ask(stage, write, "PATCH", write.place.path, sent, query=_apply_query(stage, force=True), kind=client.APPLY)


def _remove_items(stage: Stage, write: Write, live: Body, items: Sequence[comparing.ForeignItem]) -> client.Answer:
    """The last of a list first: what is removed moves what stands behind it."""
    places = sorted(
        (each.pointer for each in items), key=lambda pointer: [str(p).zfill(6) for p in pointer], reverse=True
    )
    paths = ["/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in pointer) for pointer in places]
    return _patch(stage, write, live, [{"op": "remove", "path": path} for path in paths])


def _patch(stage: Stage, write: Write, live: Body, operations: Sequence[Mapping[str, Any]]) -> client.Answer:
    """JSON patch of exactly this version of the object; a version that moved on answers 409."""
    version = live["metadata"]["resourceVersion"]
    guarded = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, *operations]
    query = {"fieldManager": stage.terms.manager}
    answer = _ask(stage, write, "PATCH", write.place.path, guarded, query=query, kind=client.JSON_PATCH)
    moved = answer.status == client.INVALID and "test" in str(answer.body.get("message"))
    return answer._replace(status=client.CONFLICT) if moved else answer


def _send_delete(stage: Stage, write: Write, live: Body) -> client.Answer:
    preconditions = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": preconditions,
        "propagationPolicy": "Background",
    }
    return _ask(stage, write, "DELETE", write.place.path, options)


def _on_what_was_seen(stage: Stage, write: Write, send: Callable[[Body], client.Answer]) -> client.Answer:
    """Send against the object as it was seen; where it moved on, against what it is now, if that is still what the plan saw."""
    live = write.found.live
    for _ in range(TRIES):
        if live is None or proposing.is_terminating(live):
            raise _MovedError
        if proposing.before(proposing.canonical(_seen(write, live), write.want, stage.terms)) != write.step.before:
            raise _MovedError
        answer = send(live)
        if answer.status == client.NOT_FOUND and write.step.action not in {"delete", "replace"}:
            raise _MovedError
        if answer.status != client.CONFLICT:
            return answer
        live = _read(stage, write)
    raise _MovedError


def _await_gone(stage: Stage, write: Write, answer: Body) -> None:
    """Raises: _LaterError naming what it waits for."""
    if answer.get("kind") == "Status":
        return
    until = stage.clock.monotonic_s() + min(GONE_WITHIN_S, stage.left_s)
    uid, there = proposing.uid_of(write.found.live), answer
    for _ in range(int(GONE_WITHIN_S / POLL_S)):
        found = _read(stage, write)
        if found is None or proposing.uid_of(found) != uid:
            return
        there = found
        if stage.clock.monotonic_s() >= until:
            break
        stage.clock.sleep(POLL_S)
    stage.on.cache.keep(write.place, there)
    held = there["metadata"].get("finalizers") or ["its grace period"]
    message = f"{write.step.key} is terminating and waits for {', '.join(str(each) for each in held)}"
    raise _LaterError(model.Reason(code="terminating", message=message))


def _ask(
    stage: Stage,
    write: Write,
    method: str,
    path: str,
    body: object,
    *,
    query: Mapping[str, str] | None = None,
    kind: str = client.JSON,
) -> client.Answer:
    """Ask, and back off for as long as the server throttles.

    Raises: OutcomeUnknownError; TransientError where nothing was sent until the deadline.
    """
    for number in range(TRIES):
        answer = stage.on.calls.request(
            method, path, body, query=query or {}, content_type=kind, within_s=max(stage.left_s, POLL_S)
        )
        if answer.status not in {client.THROTTLED, client.UNAVAILABLE} or stage.left_s <= 0:
            break
        stage.clock.sleep(_pause_s(number, stage, answer.retry_after_s))
    if client.is_under_way(answer):
        raise errors.OutcomeUnknownError("unknown", f"{write.step.key}: the server gave up waiting ({answer.status})")
    if client.broke(answer):
        raise _BrokeError(model.Reason.of(_refusal(write, answer)))
    return answer


def _read(stage: Stage, write: Write) -> Body | None:
    found = stage.on.calls.get(write.place.path)
    if found is not None and found["metadata"].get("labels", {}).get(comparing.LABEL):
        stage.on.cache.keep(write.place, found)
    return found


def _kept(stage: Stage, write: Write, answer: client.Answer) -> Written:
    """Remember what the server answered: the next look compares with that."""
    body, want = _ok(write, answer), write.want
    uid = proposing.uid_of(body)
    if want is None or want.gives_back:
        stage.on.cache.drop(write.place)
        return Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED, identity=uid))
    stage.on.cache.keep(write.place, body)
    memory = proposing.remember(want, body, stage.terms)
    return Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED, identity=uid), memory)


def _ok(write: Write, answer: client.Answer) -> Body:
    """Raises: _RefusedError for what will not get better by itself, _LaterError for the rest."""
    if answer.is_ok:
        return answer.body
    said = _refusal(write, answer)
    where = write.want.source if write.want else ""
    reason = model.Reason(code=said.code, message=said.message, where=where, fix=said.fix)
    if isinstance(said, errors.TransientError) or _is_terminating_namespace(answer):
        raise _LaterError(reason)
    immutable = answer.status == client.INVALID and "immutable" in said.message
    if immutable:
        fix = f'replace: ["{write.step.key}"] deletes it and makes it anew'
        raise _RefusedError(reason.model_copy(update={"code": "immutable", "fix": fix}), must_replace=True)
    raise _RefusedError(reason)


def _refusal(write: Write, answer: client.Answer) -> errors.ReconcilerError:
    """What the server said; where it may quote a secret, only about which fields."""
    held = write.want.body if write.want else write.found.live
    return client.refusal(answer, write.step.key, sensitive=held is not None and masking.holds_secrets(held))


def _is_terminating_namespace(answer: client.Answer) -> bool:
    return any(cause.get("reason") == "NamespaceTerminating" for cause in answer.causes)


def _conflicts(answer: client.Answer) -> list[tuple[str, str]]:
    """(field, owner) of each cause; none where the conflict is about the object's version."""
    found = []
    for cause in answer.causes:
        if cause.get("reason") == "FieldManagerConflict":
            match = _OWNER.search(str(cause.get("message", "")))
            owner = match["owner"] if match else "another manager"
            found.append((comparing.conflict_field(str(cause.get("field", ""))), owner))
    return found


# --- bodies ---------------------------------------------------------------------------------------------------------------


def _to_send(write: Write) -> tuple[proposing.Want, Body]:
    if write.want is None or write.body is None:
        raise errors.PermanentError("step", f"{write.step.key}: nothing is declared for it")
    return write.want, write.body


def _marked(stage: Stage, want: proposing.Want, body: Body, more: Mapping[str, Any]) -> Body:
    """With our marks, and what may be replaced."""
    metadata = body["metadata"]
    labels = {**(metadata.get("labels") or {}), comparing.LABEL: stage.terms.target}
    annotations = {
        **(metadata.get("annotations") or {}),
        comparing.OWNER: stage.terms.owner,
        comparing.EPOCH: str(stage.epoch),
        comparing.APPLIED: want.digest,
    }
    return {**body, "metadata": {**metadata, "labels": labels, "annotations": annotations, **more}}


def _apply_query(stage: Stage, *, force: bool = False) -> dict[str, str]:
    query = {"fieldManager": stage.terms.manager, "fieldValidation": "Strict"}
    return {**query, "force": "true"} if force else query


def _seen(write: Write, live: Body) -> proposing.Found:
    found = write.found
    return proposing.Found(found.key, live, found.identity, found.memory)


def _is_note(write: Write) -> bool:
    """The object is as it should be: only the log is told that a Job has finished."""
    want, live = write.want, write.found.live
    return want is not None and live is not None and hooks.is_job(live) and write.step.command.startswith("note that ")
