"""One write on its way: what is asked, against which version of the object, and what the answer means.

Conflicts (409 with a cause for each field and owner) are settled one by one: left out where `ignore` says so, taken back
where the field was ours, taken where `conflicts: take` says so; else the step fails and names them all. Nothing is forced
that was not settled before, and force never comes without the resourceVersion.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler import errors, model, ports
from reconciler.targets.openshift import masking
from reconciler.targets.openshift.connection import cache, client, cluster, comparing, wording
from reconciler.targets.openshift.connection.client import Body
from reconciler.targets.openshift.observing import proposing

TRIES = 5  # of one write against objects that move, or a server that throttles
POLL_S = 0.05
FORBIDDEN = 403
# OpenShift makes Projects of ProjectRequests for whoever may not make Namespaces, with rights and objects of a template that
# no document names: that is an administrator's act, and what it makes may be adopted.
PROJECT_FIX = "declare the Namespace instead, which OpenShift shows as a Project; or have it requested and `adopt` it"
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


class MovedError(Exception):
    """It is not what the plan saw."""


class RefusedError(Exception):
    def __init__(self, reason: model.Reason, *, must_replace: bool = False) -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.must_replace = must_replace


class LaterError(Exception):
    """Not sent, or not yet done: nothing is known to be wrong."""

    def __init__(self, reason: model.Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


class BrokeError(Exception):
    """The server answered that it broke: whether the write was kept is seen by looking, for it is not under way any more."""

    def __init__(self, reason: model.Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


def pause_s(number: int, stage: Stage, at_least_s: float = 0.0) -> float:
    pause_s = max(at_least_s, 0.1 * 2**number) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
    return float(min(pause_s, max(stage.left_s, 0.0)))


def send(stage: Stage, write: Write, body: Body, live: Body) -> client.Answer:
    want, _ = to_send(write)
    if want.gives_back:
        version = {"resourceVersion": live["metadata"]["resourceVersion"]}
        whole = {**body, "metadata": {**body["metadata"], **version}}
        return ask(stage, write, "PUT", write.place.path, whole, query={"fieldManager": stage.terms.manager})
    seen = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
    compared = proposing.compare(as_seen(write, live), want, stage.terms)
    force = compared.is_drift and bool(compared.lost)  # All that differs was ours: nobody else's field is in it.
    sent = marked(stage, want, body, seen)
    answer = ask(
        stage, write, "PATCH", write.place.path, sent, query=apply_query(stage, force=force), kind=client.APPLY
    )
    if answer.status != client.CONFLICT or not (causes := conflicts(answer)):
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
        raise RefusedError(model.Reason(code="conflict", message=message, where=where, fix=fix))
    return ask(stage, write, "PATCH", write.place.path, sent, query=apply_query(stage, force=True), kind=client.APPLY)


def remove_items(stage: Stage, write: Write, live: Body, items: Sequence[comparing.ForeignItem]) -> client.Answer:
    """The last of a list first: what is removed moves what stands behind it."""
    places = sorted(
        (each.pointer for each in items), key=lambda pointer: [str(p).zfill(6) for p in pointer], reverse=True
    )
    paths = ["/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in pointer) for pointer in places]
    return patch(stage, write, live, [{"op": "remove", "path": path} for path in paths])


def patch(stage: Stage, write: Write, live: Body, operations: Sequence[Mapping[str, Any]]) -> client.Answer:
    """JSON patch of exactly this version of the object; a version that moved on answers 409."""
    version = live["metadata"]["resourceVersion"]
    guarded = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}, *operations]
    query = {"fieldManager": stage.terms.manager}
    answer = ask(stage, write, "PATCH", write.place.path, guarded, query=query, kind=client.JSON_PATCH)
    if answer.status != client.INVALID:
        return answer
    # A failed test and a patch that makes no sense are answered alike.
    found = read(stage, write)
    moved = found is None or found["metadata"]["resourceVersion"] != version
    return answer._replace(status=client.CONFLICT) if moved else answer


def send_delete(stage: Stage, write: Write, live: Body) -> client.Answer:
    preconditions = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": preconditions,
        "propagationPolicy": "Background",
    }
    return ask(stage, write, "DELETE", write.place.path, options)


def on_what_was_seen(stage: Stage, write: Write, send: Callable[[Body], client.Answer]) -> client.Answer:
    """Send against the object as it was seen; where it moved on, against what it is now, if that is still what the plan saw."""
    live = write.found.live
    for _ in range(TRIES):
        if live is None or proposing.is_terminating(live):
            raise MovedError
        if proposing.before(proposing.canonical(as_seen(write, live), write.want, stage.terms)) != write.step.before:
            raise MovedError
        answer = send(live)
        if answer.status == client.NOT_FOUND and write.step.action not in {"delete", "replace"}:
            raise MovedError
        if answer.status != client.CONFLICT:
            return answer
        live = read(stage, write)
    raise MovedError


def ask(
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
        stage.clock.sleep(pause_s(number, stage, answer.retry_after_s))
    if client.is_under_way(answer):
        raise errors.OutcomeUnknownError("unknown", f"{write.step.key}: the server gave up waiting ({answer.status})")
    if client.broke(answer):
        raise BrokeError(model.Reason.of(refusal(write, answer)))
    return answer


def read(stage: Stage, write: Write) -> Body | None:
    found = stage.on.calls.get(write.place.path)
    if found is not None and found["metadata"].get("labels", {}).get(comparing.LABEL):
        stage.on.cache.keep(write.place, found)
    return found


def ok(write: Write, answer: client.Answer) -> Body:
    """Raises: RefusedError for what will not get better by itself, LaterError for the rest."""
    if answer.is_ok:
        return answer.body
    said = refusal(write, answer)
    where = write.want.source if write.want else ""
    reason = model.Reason(code=said.code, message=said.message, where=where, fix=said.fix)
    if isinstance(said, errors.TransientError) or _is_terminating_namespace(answer):
        raise LaterError(reason)
    if answer.status == client.INVALID and wording.is_immutable(answer.body):
        fix = f'replace: ["{write.step.key}"] deletes it and makes it anew'
        raise RefusedError(reason.model_copy(update={"code": "immutable", "fix": fix}), must_replace=True)
    if answer.status in {FORBIDDEN, client.NOT_FOUND} and write.found.live is None and _is_project(write):
        reason = reason.model_copy(update={"fix": PROJECT_FIX})
    raise RefusedError(reason)


def refusal(write: Write, answer: client.Answer) -> errors.ReconcilerError:
    """What the server said; where it may quote a secret, only about which fields."""
    held = write.want.body if write.want else write.found.live
    return client.refusal(answer, write.step.key, sensitive=held is not None and masking.holds_secrets(held))


def _is_project(write: Write) -> bool:
    resource = write.place.resource
    return (resource.group, resource.kind) == ("project.openshift.io", "Project")


def _is_terminating_namespace(answer: client.Answer) -> bool:
    return any(cause.get("reason") == "NamespaceTerminating" for cause in answer.causes)


def conflicts(answer: client.Answer) -> list[tuple[str, str]]:
    """(field, owner) of each cause; none where the conflict is about the object's version."""
    found = []
    for cause in answer.causes:
        if cause.get("reason") == "FieldManagerConflict":
            match = _OWNER.search(str(cause.get("message", "")))
            owner = match["owner"] if match else "another manager"
            found.append((comparing.conflict_field(str(cause.get("field", ""))), owner))
    return found


def to_send(write: Write) -> tuple[proposing.Want, Body]:
    if write.want is None or write.body is None:
        raise errors.PermanentError("step", f"{write.step.key}: nothing is declared for it")
    return write.want, write.body


def marked(stage: Stage, want: proposing.Want, body: Body, more: Mapping[str, Any]) -> Body:
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


def apply_query(stage: Stage, *, force: bool = False) -> dict[str, str]:
    query = {"fieldManager": stage.terms.manager, "fieldValidation": "Strict"}
    return {**query, "force": "true"} if force else query


def as_seen(write: Write, live: Body) -> proposing.Found:
    found = write.found
    return proposing.Found(found.key, live, found.identity, found.memory)
