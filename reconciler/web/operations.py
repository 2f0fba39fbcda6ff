"""What stands behind each row of the table in `api.py`: ask the application, fold its answer into a document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import pydantic
from pydantic import JsonValue

from reconciler import documents, errors, model
from reconciler.audit import record, state
from reconciler.views import (
    audit,
    deployments,
    document,
    drift,
    freezes,
    gates,
    history,
    lineage,
    obligations,
    plans,
    revisions,
    status,
    targets,
    trace,
)
from reconciler.web import named
from reconciler.web.application import Actor, Application, Verb

PAGE = 500
QUERY = ("type", *(name for name in audit.Query.model_fields if name != "types"))


B = TypeVar("B", bound=pydantic.BaseModel)


@dataclass(frozen=True)
class Call:
    """One request, its path taken apart."""

    application: Application
    named: Mapping[str, str]  # what the path names
    params: Mapping[str, str]
    body: JsonValue
    actor: Actor


class Done(document.Document):
    """An operator's wish is recorded; the target's next turn acts on it."""

    kind: Literal["Done"] = "Done"
    verb: str
    target: str = ""
    deployment: str = ""
    revision: model.Oid | None = None  # rollback: the state that is pinned
    digest: model.Digest | None = None  # rollback: the same; approve: of the statement


Why = Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


class Reasoned(documents.Camel):
    reason: Why


class Rollback(Reasoned):
    pin: Literal[True]  # Without it a rollback is a revert in Git, which this surface does not write.
    acknowledge: tuple[Annotated[str, pydantic.Field(pattern=r"^[a-z_]+:.+$")], ...] = ()


# --- reads ---------------------------------------------------------------------------------------------------------


def get_status(call: Call) -> status.Status:
    return status.status(call.application.facts(), call.application.state())


def get_targets(call: Call) -> targets.TargetList:
    application = call.application
    return targets.targets(application.state(), application.live(), watching=application.facts().watching)


def get_target(call: Call) -> targets.TargetList:
    """A list of one: whoever reads a list reads this."""
    wanted = _target(call).name
    return targets.TargetList(items=tuple(row for row in get_targets(call).items if row.name == wanted))


def get_diff(call: Call) -> plans.PlanList:
    return plans.plans([call.application.diff(_target(call).name)])


def get_history(call: Call) -> history.History:
    """One that was dropped or renamed has a history all the same."""
    application, name = call.application, call.named["target"]
    known = name in application.state().targets
    away = None if known else lineage.given_away(name, _clearances(call))
    lives = tuple(lineage.lives(name, _clearances(call), away))
    if away is not None:  # The merge that renamed it, and all that is told under this name after it.
        lives = (lives[0]._replace(before=None), *lives[1:])
    told = lineage.told(lives, lambda life: application.records(audit.Query(target=life.name, after=life.after)))
    if not told:
        _target(call)
    renamed_to = lineage.goes_on_as(away, _clearances(call)) if away else ""
    return history.history(name, told, formerly=lineage.former(lives[1:]), renamed_to=renamed_to)


def get_trace(call: Call) -> trace.Trace:
    application, target = call.application, _target(call)
    key, field = model.Key(_param(call, "key")), call.params.get("field", "")
    lives, told = _told(call, target.name, trace.TYPES)
    sources = trace.Sources(
        read=application.read,
        find=application.records,
        declared=lambda name, version: application.declared(name, version, key),
    )
    return trace.trace(trace.Asked(target, key, field), told, sources, lineage.former(lives[1:]))


def get_revisions(call: Call) -> revisions.RevisionList:
    query = _query(call, frozenset({"decision", "clearance"}))
    return revisions.revisions(call.application.state(), call.application.records(query))


def get_deployments(call: Call) -> deployments.DeploymentList:
    """Of one target: those too that it had under an earlier name."""
    query = _query(call, deployments.TYPES)
    if query.target not in call.application.state().targets:
        return deployments.deployments(call.application.records(query))
    _, told = _told(call, query.target, deployments.TYPES, since=query.since)
    return deployments.deployments(entry for _, entry in told)


def get_gates(call: Call) -> gates.GateList:
    return gates.gates(call.application.records(_query(call, frozenset({"clearance"}))))


def get_drift(call: Call) -> drift.DriftList:
    return drift.drift(call.application.state(), call.application.live())


def get_freezes(call: Call) -> freezes.FreezeList:
    application = call.application
    return freezes.freezes(application.rules(), application.state(), application.live(), application.now())


def get_obligations(call: Call) -> obligations.ObligationList:
    """`all=true`: what was owed and is no longer, too."""
    application, asked = call.application, call.params.get("all", "false")
    if asked not in {"true", "false"}:
        raise errors.ConfigError("params", "true or false is expected", where="all")
    query = audit.Query(types=frozenset({"obligation"}))
    past = application.records(query) if asked == "true" else ()
    return obligations.obligations(application.state(), application.now(), past, application.reviews())


def run_gates(call: Call) -> gates.GateList:
    return gates.just_run(call.application.run_gates(_oid(_param(call, "head"))))


def get_plan(call: Call) -> plans.PlanList:
    return plans.plans(call.application.plan(_head(call)))


def get_verdicts(call: Call) -> revisions.RevisionList:
    return revisions.judged(call.application.verify(_head(call)))


def verify_log(call: Call) -> audit.Verification:
    return audit.Verification(size=call.application.verify_log(), verified=True)


def query_log(call: Call) -> audit.RecordList:
    query = _query(call, None)
    return audit.records(call.application.records(query), query.limit)


def get_record(call: Call) -> audit.RecordDocument:
    seq = call.named["seq"]
    if not re.fullmatch(r"[0-9]{1,15}", seq):
        raise errors.ConfigError("no_record", "a record is named by its number", where=seq)
    entry = call.application.read(int(seq))
    return audit.RecordDocument(record=entry.model_dump(mode="json", by_alias=True))


# --- what an operator may ask for ----------------------------------------------------------------------------------


def suspend(call: Call) -> Done:
    return _operate(call, "suspend")


def resume(call: Call) -> Done:
    return _operate(call, "resume")


def reconcile(call: Call) -> Done:
    return _operate(call, "reconcile")


def drop(call: Call) -> Done:
    return _operate(call, "drop")


def rollback(call: Call) -> Done:
    asked = _body(call, Rollback)
    hazards = tuple(each.partition(":") for each in asked.acknowledge)
    deployment = call.named["deployment"]
    pinned = call.application.rollback(
        deployment,
        actor=call.actor.name,
        reason=asked.reason,
        acknowledged=tuple((hazard, model.Key(key)) for hazard, _, key in hazards),
    )
    return Done(verb="rollback", deployment=deployment, revision=pinned.revision, digest=pinned.digest)


def submit(call: Call) -> Done:
    if not isinstance(call.body, dict):
        raise errors.ConfigError(
            "body", "a DSSE envelope is expected", fix="send the envelope as the request's JSON body"
        )
    return Done(verb="approve", digest=call.application.submit(model.canonical_json(call.body)))


def _operate(call: Call, verb: Verb) -> Done:
    target, asked = _target(call).name, _body(call, Reasoned)
    call.application.operate(verb, target, actor=call.actor.name, reason=asked.reason)
    return Done(verb=verb, target=target)


# --- what a request says -------------------------------------------------------------------------------------------


def _target(call: Call) -> state.Target:
    return named.target(call.application, call.named["target"])


def _clearances(call: Call) -> lineage.Clearances:
    return lambda name: named.clearances(call.application, name)


def _told(
    call: Call, name: str, types: frozenset[audit.EventType], *, since: datetime | None = None
) -> tuple[tuple[lineage.Life, ...], list[lineage.Told]]:
    """The names of a target, the newest first, and what is recorded under all of them."""
    lives = tuple(lineage.lives(name, _clearances(call)))

    def read(life: lineage.Life) -> Sequence[record.Record]:
        return call.application.records(audit.Query(target=life.name, types=types, after=life.after, since=since))

    return lives, lineage.told(lives, read)


def _param(call: Call, name: str) -> str:
    value = call.params.get(name, "")
    if not value:
        raise errors.ConfigError("params", f"the parameter {name} is missing")
    return value


def _query(call: Call, types: frozenset[audit.EventType] | None) -> audit.Query:
    """What the parameters ask for; None: the types too, and then a page, since that may be the whole log."""
    fields: dict[str, object] = {n: v for n, v in named.terms(call.application, call.params).items() if v}
    if types is None:
        fields.setdefault("limit", PAGE)
        listed = str(fields.pop("type", ""))
        fields["types"] = frozenset(listed.split(",")) if listed else frozenset()
    else:
        fields["types"] = types
    try:
        return audit.Query.model_validate(fields)
    except pydantic.ValidationError as exc:
        raise _wrong("params", exc) from exc


def _oid(text: str) -> model.Oid:
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text):
        raise errors.ConfigError(
            "params", "a full object id is expected: a name could move", where=text, fix=f"git rev-parse {text}"
        )
    return model.Oid(text)


def _head(call: Call) -> model.Oid | None:
    return _oid(call.params["head"]) if call.params.get("head") else None


def _body(call: Call, shape: type[B]) -> B:
    try:
        return shape.model_validate(call.body if call.body is not None else {})
    except pydantic.ValidationError as exc:
        raise _wrong("body", exc) from exc


def _wrong(code: str, exc: pydantic.ValidationError) -> errors.ConfigError:
    found = exc.errors(include_url=False, include_input=False, include_context=False)
    said = (f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in found)
    fix = (
        "write times as 2026-11-24T00:00:00Z" if {each["loc"][:1] for each in found} & {("since",), ("until",)} else ""
    )
    return errors.ConfigError(code, "; ".join(said), fix=fix)
