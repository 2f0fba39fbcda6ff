"""One stage on the cluster: server-side apply, deletes with the uid as precondition, several at once.

Every write names what it may replace. What is to be created is sent with a resourceVersion that no object has: the server
answers 409 where something is there. What is to be changed is sent with the resourceVersion that was compared; where that is
stale the object is read again, and written only if it still is what the plan saw.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from reconciler import errors, model
from reconciler.targets.openshift.applying import adopting, sending
from reconciler.targets.openshift.connection import client
from reconciler.targets.openshift.connection.client import Body
from reconciler.targets.openshift.desired import hooks, kinds
from reconciler.targets.openshift.observing import proposing

NO_VERSION = "1"  # etcd's first revision: no object has it, so only what is absent can be written with it.
GONE_WITHIN_S = 2.0  # what a delete waits for an object to be really gone; finalizers may take longer, and are reported


class Written(NamedTuple):
    result: model.StepResult
    memory: proposing.Memory | None = None
    must_replace: bool = False  # the server said that a field cannot be changed
    is_doubtful: bool = False  # nobody knows what is there now


def write_stage(stage: sending.Stage, writes: Sequence[sending.Write]) -> list[Written]:
    """Write exactly these, each only where its `before` holds. One result for each, in their order; raises for none alone."""
    places = {write.place for write in writes}
    stage.on.cache.writing(places)
    turns = in_turn(writes)
    try:
        done = stage.on.side_by_side([functools.partial(_write, stage, writes[turn]) for turn in turns])
    finally:
        stage.on.cache.written(places)
    return [written for _, written in sorted(zip(turns, done, strict=True), key=operator.itemgetter(0))]


def in_turn(writes: Sequence[sending.Write]) -> list[int]:
    """Which is begun first: pods last. A pod is told of the Services that are there when it begins, and what controllers do
    about pods holds up the API server for all that comes after.
    """
    return sorted(
        range(len(writes)), key=lambda at: (want := writes[at].want) is not None and kinds.runs_pods(want.body)
    )


def _write(stage: sending.Stage, write: sending.Write) -> Written:
    step = write.step
    if write.finding:
        return Written(model.StepResult(key=step.key, effect=model.Effect.FAILED, finding=write.finding))
    if stage.left_s <= 0:
        late = model.Reason(code="deadline", message=f"{step.key}: the stage ran out of time")
        return Written(model.StepResult(key=step.key, effect=model.Effect.SKIPPED, finding=late))
    try:
        return _until_it_holds(stage, write)
    except sending.MovedError:
        return Written(model.StepResult(key=step.key, effect=model.Effect.MOVED))
    except sending.RefusedError as exc:
        result = model.StepResult(key=step.key, effect=model.Effect.FAILED, finding=exc.reason)
        return Written(result, must_replace=exc.must_replace)
    except sending.LaterError as exc:
        return Written(model.StepResult(key=step.key, effect=model.Effect.SKIPPED, finding=exc.reason))
    except errors.OutcomeUnknownError as exc:
        result = model.StepResult(key=step.key, effect=model.Effect.UNKNOWN, finding=model.Reason.of(exc))
        return Written(result, is_doubtful=True)
    except errors.TransientError as exc:
        return Written(model.StepResult(key=step.key, effect=model.Effect.SKIPPED, finding=model.Reason.of(exc)))
    except errors.PermanentError as exc:
        return Written(model.StepResult(key=step.key, effect=model.Effect.FAILED, finding=model.Reason.of(exc)))


def _until_it_holds(stage: sending.Stage, write: sending.Write) -> Written:
    """Do it; where the server breaks over it, look what became of it, and try again a few times.

    Raises: as the actions; sending.RefusedError with what the server said last.
    """
    for number in range(sending.TRIES):
        try:
            return _ACTIONS[write.step.action](stage, write)
        except sending.BrokeError as exc:
            if (landed := _landed(stage, write)) is not None:
                return landed
            if number == sending.TRIES - 1 or stage.left_s <= 0:
                raise sending.RefusedError(exc.reason) from exc
            stage.clock.sleep(sending.pause_s(number, stage))
    raise sending.MovedError


def _landed(stage: sending.Stage, write: sending.Write) -> Written | None:
    """What a write that broke did all the same."""
    found = sending.read(stage, write)
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


# --- the actions --------------------------------------------------------------------------------------------------------


def _create(stage: sending.Stage, write: sending.Write) -> Written:
    want, body = sending.to_send(write)
    if want.gives_back:
        answer = sending.ask(stage, write, "POST", write.place.resource.collection(write.place.namespace), body)
        if answer.status == client.CONFLICT:
            raise sending.MovedError
    else:
        sent = sending.marked(stage, want, body, {"resourceVersion": NO_VERSION})
        answer = sending.ask(
            stage, write, "PATCH", write.place.path, sent, query=sending.apply_query(stage), kind=client.APPLY
        )
        if answer.status == client.CONFLICT:  # Something is there: it is looked at before anything is written over it.
            raise sending.MovedError
    return _kept(stage, write, answer)


def _update(stage: sending.Stage, write: sending.Write) -> Written:
    want, body = sending.to_send(write)
    if write.found.live is not None and _is_note(write):
        identity = hooks.memory(proposing.uid_of(write.found.live), want.body)
        return Written(
            model.StepResult(key=write.step.key, effect=model.Effect.CHANGED, identity=identity), write.found.memory
        )

    def send(live: Body) -> client.Answer:
        if stage.former_managers and (moved := _move(stage, write, live, kubectl=False)):
            if not moved.is_ok:
                return moved
            live = moved.body
        items = proposing.to_remove(live, want, stage.terms)
        if items:
            answer = sending.remove_items(stage, write, live, items)
            if not answer.is_ok:
                return answer
            live = answer.body
            compared = proposing.compare(sending.as_seen(write, live), want, stage.terms)
            if compared.wanted == compared.actual:
                return answer
        return sending.send(stage, write, body, live)

    return _kept(stage, write, sending.on_what_was_seen(stage, write, send))


def _adopt(stage: sending.Stage, write: sending.Write) -> Written:
    """First the fields that kubectl owns become ours, so that what the manifest does not say goes away."""
    _, body = sending.to_send(write)

    def send(live: Body) -> client.Answer:
        if moved := _move(stage, write, live, kubectl=True):
            if not moved.is_ok:
                return moved
            live = moved.body
        return sending.send(stage, write, body, live)

    return _kept(stage, write, sending.on_what_was_seen(stage, write, send))


def _move(stage: sending.Stage, write: sending.Write, live: Body, *, kubectl: bool) -> client.Answer | None:
    """Make fields ours that a former name of ours, or kubectl, owns; None where there are none."""
    moved = adopting.moved_managers(live, stage.terms.manager, stage.former_managers, kubectl=kubectl)
    if moved is None:
        return None
    return sending.patch(stage, write, live, [{"op": "replace", "path": "/metadata/managedFields", "value": moved}])


def _delete(stage: sending.Stage, write: sending.Write) -> Written:
    """Done when it is really gone. What waits for finalizers stays ours, and says whose they are."""
    live = write.found.live
    if live is None:  # Only the log still has it.
        if sending.read(stage, write) is not None:
            raise sending.MovedError
        return Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED))
    answer = sending.on_what_was_seen(stage, write, lambda seen: sending.send_delete(stage, write, seen))
    if answer.status != client.NOT_FOUND:
        _await_gone(stage, write, sending.ok(write, answer))
    stage.on.cache.forget(write.place, proposing.uid_of(live))
    return Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED))


def _replace(stage: sending.Stage, write: sending.Write) -> Written:
    _delete(stage, write)
    return _create(stage, write)


_ACTIONS: Mapping[str, Callable[[sending.Stage, sending.Write], Written]] = {
    "create": _create,
    "update": _update,
    "adopt": _adopt,
    "delete": _delete,
    "replace": _replace,
}


def _await_gone(stage: sending.Stage, write: sending.Write, answer: Body) -> None:
    """Raises: sending.LaterError naming what it waits for."""
    if answer.get("kind") == "Status":
        return
    until = stage.clock.monotonic_s() + min(GONE_WITHIN_S, stage.left_s)
    uid, there = proposing.uid_of(write.found.live), answer
    for _ in range(int(GONE_WITHIN_S / sending.POLL_S)):
        found = sending.read(stage, write)
        if found is None or proposing.uid_of(found) != uid:
            return
        there = found
        if stage.clock.monotonic_s() >= until:
            break
        stage.clock.sleep(sending.POLL_S)
    stage.on.cache.keep(write.place, there)
    held = there["metadata"].get("finalizers") or ["its grace period"]
    message = f"{write.step.key} is terminating and waits for {', '.join(str(each) for each in held)}"
    raise sending.LaterError(model.Reason(code="terminating", message=message))


def _kept(stage: sending.Stage, write: sending.Write, answer: client.Answer) -> Written:
    """Remember what the server answered: the next look compares with that."""
    body, want = sending.ok(write, answer), write.want
    uid = proposing.uid_of(body)
    if want is None or want.gives_back:
        stage.on.cache.drop(write.place)
        return Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED, identity=uid))
    stage.on.cache.keep(write.place, body)
    memory = proposing.remember(want, body, stage.terms)
    return Written(model.StepResult(key=write.step.key, effect=model.Effect.CHANGED, identity=uid), memory)


def _is_note(write: sending.Write) -> bool:
    """The object is as it should be: only the log is told that a Job has finished."""
    want, live = write.want, write.found.live
    return want is not None and live is not None and hooks.is_job(live) and write.step.command.startswith("note that ")
