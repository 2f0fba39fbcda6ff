"""The steps of a plan tried on the API server without being kept: `dryRun=All`, several at once. For previews only.

The server runs defaults, validation, quota and admission webhooks as for a real write, and answers with what it would have
kept. Never with force: what a deployment would take from another manager cannot be tried, and is said to be unproven.
Everything goes over a connection of its own, so that a turn on the same cluster waits for none of it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler import errors, model, redact
from reconciler.targets.openshift import masking
from reconciler.targets.openshift.applying import adopting, sending, writing
from reconciler.targets.openshift.connection import client, comparing
from reconciler.targets.openshift.connection.client import Body
from reconciler.targets.openshift.observing import proposing, showing

AT_ONCE = 8
DRY_RUN = {"dryRun": "All"}
UNAUTHORIZED = 401
_NO_DRY_RUN = re.compile(r'admission webhook "([a-z0-9.-]{1,253})" does not support dry run')

Said = model.Rehearsed


def rehearse(stage: sending.Stage, calls: client.Client, writes: Sequence[sending.Write]) -> dict[model.Key, Said]:
    """What the server says to each of these; a step that would send nothing is left out. Raises for none alone."""
    asked = [write for write in writes if not write.step.command.startswith("note that ")]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE, thread_name_prefix="rehearsal") as workers:
        said = workers.map(functools.partial(_try, stage, calls), asked)
        return {write.step.key: each for write, each in zip(asked, said, strict=True)}


def _try(stage: sending.Stage, calls: client.Client, write: sending.Write) -> Said:
    key = write.step.key
    if write.found.is_unproven:
        return _unproven("comes_first", f"{key}: its namespace or its kind only comes with an earlier stage")
    if write.finding:  # A secret that cannot be resolved here says nothing about the object.
        outcome = model.DryRun.UNPROVEN if write.finding.code == "secret" else model.DryRun.REFUSED
        return Said(outcome=outcome, reasons=(write.finding,))
    if stage.left_s <= 0:
        return _unproven("deadline", f"{key}: there was no time left to ask")
    try:
        tried = _create if write.step.action == "create" else _on_what_was_seen
        return tried(stage, calls, write)
    except sending.RefusedError as exc:
        if exc.must_replace and write.want and write.want.is_replaceable:
            return _unproven("replaced", f"{key}: it is deleted and made anew, which a dry run cannot follow")
        return _refused(exc.reason)
    except sending.LaterError as exc:
        return Said.unproven(exc.reason)
    except errors.ReconcilerError as exc:  # Nobody answered; as nothing is kept, nothing can have landed either.
        return Said.unproven(model.Reason.of(exc))


# --- the actions --------------------------------------------------------------------------------------------------------


def _create(stage: sending.Stage, calls: client.Client, write: sending.Write) -> Said:
    want, body = sending.to_send(write)
    if want.gives_back:
        path = write.place.resource.collection(write.place.namespace)
        answer = _ask(stage, calls, write, "POST", body, path=path)
    else:
        sent = sending.marked(stage, want, body, {"resourceVersion": writing.NO_VERSION})
        answer = _apply(stage, calls, write, sent)
    if answer.status == client.CONFLICT:
        return _moved(write)
    return _accepted(write, _ok(write, answer))


def _update(stage: sending.Stage, calls: client.Client, write: sending.Write) -> Said:
    """Raises: sending.MovedError where it moved on since it was seen."""
    want, body = sending.to_send(write)
    seen = _preconditions(write)
    if want.gives_back:
        whole = {**body, "metadata": {**body["metadata"], "resourceVersion": seen["resourceVersion"]}}
        answer = _ask(stage, calls, write, "PUT", whole, query={"fieldManager": stage.terms.manager})
        return _accepted(write, _still_there(write, answer))
    sent = sending.marked(stage, want, body, seen)
    answer = _apply(stage, calls, write, sent)
    causes = sorted(sending.conflicts(answer)) if answer.status == client.CONFLICT else []
    if stopped := _open(stage, write, causes):
        return Said(outcome=model.DryRun.REFUSED, reasons=stopped)
    if causes:  # What stays in it that nobody contests is still judged.
        answer = _apply(stage, calls, write, _without(sent, write, causes))
    left = _still_there(write, answer)
    untried = [f"{path} of {owner}" for path, owner in causes if not _is_left(stage, write, path)]
    if untried or _moving(stage, write):
        named = f": {'; '.join(untried)}" if untried else " of what it takes over"
        why = f"{write.step.key}: fields that are taken from their owners are not tried without force{named}"
        return Said.unproven(model.Reason(code="takes_fields", message=redact.line(why)))
    return _accepted(write, _without_items(stage, want, left))


def _delete(stage: sending.Stage, calls: client.Client, write: sending.Write) -> Said:
    """Raises: as `_update`."""
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": _preconditions(write),
        "propagationPolicy": "Background",
        "dryRun": ["All"],  # Where a delete has a body, the server reads no query.
    }
    _still_there(write, _ask(stage, calls, write, "DELETE", options))
    return Said(outcome=model.DryRun.ACCEPTED, diff=_diff(write.found.live, None))


def _replace(stage: sending.Stage, calls: client.Client, write: sending.Write) -> Said:
    deleted = _delete(stage, calls, write)
    if deleted.outcome is not model.DryRun.ACCEPTED:
        return deleted
    return _unproven(
        "replaced", f"{write.step.key}: it may be deleted; a dry run cannot make it anew while it is there"
    )


_ACTIONS: Mapping[str, Callable[[sending.Stage, client.Client, sending.Write], Said]] = {
    "update": _update,
    "adopt": _update,
    "delete": _delete,
    "replace": _replace,
}


def _on_what_was_seen(stage: sending.Stage, calls: client.Client, write: sending.Write) -> Said:
    """Against the object as it was seen; where only its version moved on, as a status does, against what it is now."""
    live = write.found.live
    for _ in range(sending.TRIES):
        if live is None or proposing.is_terminating(live):
            break
        now = dataclasses.replace(write, found=sending.as_seen(write, live))
        if proposing.before(proposing.canonical(now.found, write.want, stage.terms)) != write.step.before:
            break
        with contextlib.suppress(sending.MovedError):
            return _ACTIONS[write.step.action](stage, calls, now)
        live = calls.get(write.place.path)
    return _moved(write)


# --- asking -------------------------------------------------------------------------------------------------------------


def _apply(stage: sending.Stage, calls: client.Client, write: sending.Write, sent: Body) -> client.Answer:
    query = sending.apply_query(stage)
    return _ask(stage, calls, write, "PATCH", sent, query=query, kind=client.APPLY)


def _ask(
    stage: sending.Stage,
    calls: client.Client,
    write: sending.Write,
    method: str,
    body: Body,
    *,
    path: str = "",
    query: Mapping[str, str] = types.MappingProxyType({}),
    kind: str = client.JSON,
) -> client.Answer:
    """The one place of this module that sends anything.

    Raises: sending.LaterError where a webhook cannot be asked without consequences; as `Client.request`.
    """
    asked = {**query, **DRY_RUN}
    for number in range(sending.TRIES):
        answer = calls.request(
            method,
            path or write.place.path,
            body,
            query=asked,
            content_type=kind,
            within_s=max(stage.left_s, sending.POLL_S),
        )
        if answer.status not in {client.THROTTLED, client.UNAVAILABLE} or stage.left_s <= 0:
            break
        stage.clock.sleep(sending.pause_s(number, stage, answer.retry_after_s))
    if found := _NO_DRY_RUN.search(str(answer.body.get("message", ""))):
        message = f"{write.step.key}: the admission webhook {found[1]} does not support a dry run"
        raise sending.LaterError(model.Reason(code="webhook", message=message, fix="declare its `sideEffects: None`"))
    return answer


def _ok(write: sending.Write, answer: client.Answer) -> Body:
    """Raises: as `sending.ok`; whom the server does not know has heard nothing of this object."""
    if answer.status == UNAUTHORIZED:
        raise sending.LaterError(model.Reason.of(sending.refusal(write, answer)))
    return sending.ok(write, answer)


def _still_there(write: sending.Write, answer: client.Answer) -> Body:
    """Raises: sending.MovedError where it went, or has another version by now; as `_ok`."""
    if answer.status in {client.CONFLICT, client.NOT_FOUND}:
        raise sending.MovedError
    return _ok(write, answer)


def _preconditions(write: sending.Write) -> dict[str, str]:
    live = write.found.live
    if live is None:
        raise sending.MovedError
    return {name: str(live["metadata"][name]) for name in ("uid", "resourceVersion")}


# --- conflicts ----------------------------------------------------------------------------------------------------------


def _open(stage: sending.Stage, write: sending.Write, causes: Sequence[tuple[str, str]]) -> tuple[model.Reason, ...]:
    """One for each field and manager that stops a deployment."""
    want, live = write.want, write.found.live
    if stage.takes_conflicts or want is None or live is None:
        return ()
    lost = proposing.compare(sending.as_seen(write, live), want, stage.terms).lost
    ours, moving = {each.path for each in lost}, _moving(stage, write)
    fix = "leave the field to its owner with `ignore`, or take it with `conflicts: take`"
    return tuple(
        model.Reason(
            code="conflict",
            message=redact.line(f"{write.step.key}: {path} belongs to {who}"),
            where=want.source,
            fix=fix,
        )
        for path, who in causes
        if path not in ours and who not in moving and not _is_left(stage, write, path)
    )


def _is_left(stage: sending.Stage, write: sending.Write, path: str) -> bool:
    return comparing.is_ignored(write.step.key, path, stage.ignore, stage.today)


def _without(sent: Body, write: sending.Write, causes: Sequence[tuple[str, str]]) -> Body:
    rules = [model.Ignore(key=write.step.key, path=path, reason="") for path, _ in causes]
    return comparing.without_ignored(sent, write.step.key, rules, "")


def _moving(stage: sending.Stage, write: sending.Write) -> frozenset[str]:
    """Whose fields a deployment makes ours before it applies."""
    live = write.found.live
    if live is None:
        return frozenset()
    kubectl = write.step.action == "adopt"
    kept = adopting.moved_managers(live, stage.terms.manager, stage.former_managers, kubectl=kubectl)
    if kept is None:
        return frozenset()
    return frozenset(_managers(live["metadata"].get("managedFields") or ())) - frozenset(_managers(kept))


def _managers(entries: Sequence[object]) -> list[str]:
    return [str(each.get("manager", "")) for each in entries if isinstance(each, dict)]


# --- what is shown ------------------------------------------------------------------------------------------------------


def _accepted(write: sending.Write, answer: Body) -> Said:
    return Said(outcome=model.DryRun.ACCEPTED, diff=_diff(write.found.live, answer))


def _diff(before: Body | None, after: Body | None) -> str:
    """Masked as every diff; values that were resolved here are masked wherever a webhook put them."""
    wanted, actual = masking.mask_pair(_plain(after) if after else None, _plain(before) if before else None)
    return redact.text(showing.diff(wanted, actual))


def _plain(body: Body) -> Body:
    """As somebody would have written it: without what the server, controllers and we ourselves note on it."""
    cleaned = comparing.clean(body)
    metadata = dict(cleaned["metadata"])
    marks = {"labels": (comparing.LABEL,), "annotations": (comparing.OWNER, *comparing.BOOKKEEPING)}
    for name, ours in marks.items():
        kept = {key: value for key, value in (metadata.pop(name, None) or {}).items() if key not in ours}
        metadata |= {name: kept} if kept else {}
    return {**cleaned, "metadata": metadata}


def _without_items(stage: sending.Stage, want: proposing.Want, answer: Body) -> Body:
    """A deployment takes them out before it applies; a dry run of that could not be built upon."""
    copied: Body = masking.copied(answer)
    items = proposing.to_remove(answer, want, stage.terms)
    for pointer in sorted((each.pointer for each in items), key=lambda p: [str(n).zfill(6) for n in p], reverse=True):
        holder: Any = copied
        for part in pointer[:-1]:
            holder = holder[part]
        del holder[pointer[-1]]
    return copied


def _refused(reason: model.Reason) -> Said:
    return Said(outcome=model.DryRun.REFUSED, reasons=(reason,))


def _unproven(code: str, message: str) -> Said:
    return Said.unproven(model.Reason(code=code, message=message))


def _moved(write: sending.Write) -> Said:
    return _unproven("moved", f"{write.step.key}: it is not any more what was seen a moment ago")
