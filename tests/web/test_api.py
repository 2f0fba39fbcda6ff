"""The table of operations without a transport, as a command line without a daemon uses it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import JsonValue
from support import recorded

from reconciler import config, errors, model, redact
from reconciler.audit import record
from reconciler.views import targets
from reconciler.web import api, openapi, problems
from reconciler.web.application import NOBODY, Actor

EVERYTHING = Actor("root (uid 0)", config.VERBS)
WHY: dict[str, JsonValue] = {"reason": "CHG0012345"}


@pytest.fixture
def of() -> recorded.Application:
    made = recorded.Application()
    made.happen(*recorded.DEPLOYED)
    return made


def get(of: recorded.Application, path: str, **params: str) -> dict[str, JsonValue]:
    answer = api.handle(of, "GET", problems.PREFIX + path, params, None, actor=NOBODY)
    assert answer.status == 200, answer.document
    return document(answer)


def post(
    of: recorded.Application, path: str, body: Mapping[str, JsonValue] = WHY, actor: Actor = EVERYTHING
) -> problems.Answer:
    return api.handle(of, "POST", problems.PREFIX + path, {}, dict(body), actor=actor)


def refused(of: recorded.Application, path: str, method: str = "GET", **params: str) -> tuple[int, JsonValue]:
    answer = api.handle(of, method, path, params, None, actor=NOBODY)
    return answer.status, document(answer)["code"]


def document(answer: problems.Answer) -> dict[str, JsonValue]:
    assert isinstance(answer.document, dict)
    return answer.document


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/status", "Status"),
        ("/targets", "TargetList"),
        ("/targets/api", "TargetList"),
        ("/targets/api/history", "History"),
        ("/revisions", "RevisionList"),
        ("/deployments", "DeploymentList"),
        ("/gates", "GateList"),
        ("/drift", "DriftList"),
        ("/freezes", "FreezeList"),
        ("/obligations", "ObligationList"),
        ("/audit", "RecordList"),
        ("/audit/0", "Record"),
        ("/audit/verify", "Verification"),
        ("/plan", "PlanList"),
        ("/verify", "RevisionList"),
    ],
)
def test_each_read_answers_with_its_kind(of: recorded.Application, path: str, kind: str) -> None:
    assert (get(of, path)["apiVersion"], get(of, path)["kind"]) == ("reconciler/v1", kind)


def test_reads_take_their_parameters(of: recorded.Application) -> None:
    assert get(of, "/targets/api/trace", key=recorded.KEY)["kind"] == "Trace"
    assert get(of, "/targets/api/trace", key=recorded.KEY, field="colour")["value"] == recorded.NEW
    assert len(records := _items(get(of, "/audit", type="intent,outcome", target="api"))) == 2, records
    assert len(_items(get(of, "/audit", person="bob"))) == 1
    assert len(_items(get(of, "/deployments", target="db"))) == 0
    assert get(of, "/audit", limit="1")["next"] == 0
    assert [len(_items(get(of, path, since="2126-01-01T00:00:00Z"))) for path in ("/deployments", "/gates")] == [0, 0]
    assert get(of, "/gates/run", head=recorded.HEAD)["kind"] == "GateList"


def test_an_abbreviated_revision_is_made_whole(of: recorded.Application) -> None:
    whole = _items(get(of, "/audit", revision=recorded.MERGE))
    assert [entry["seq"] for entry in whole if isinstance(entry, dict)] == [3, 4, 5, 6, 7]
    for short in (recorded.MERGE[:4], recorded.MERGE[:12].upper()):
        assert _items(get(of, "/audit", revision=short)) == whole
    assert len(_items(get(of, "/gates", revision=recorded.MERGE[:7]))) == 1


def test_a_beginning_of_more_than_one_revision_is_refused_with_all_of_them(of: recorded.Application) -> None:
    other = model.Oid("b" * 8 + "0" * 32)
    of.happen(record.Seen(subject=other), record.Seen(subject=model.Oid(other + "00" * 12)))
    answer = api.handle(of, "GET", "/api/v1/audit", {"revision": "bbbb"}, None, actor=NOBODY)
    said = document(answer)
    assert (answer.status, said["code"]) == (400, "ambiguous")
    assert other in str(said["message"])
    assert recorded.MERGE in str(said["message"])
    assert len(_items(get(of, "/audit", revision=other))) == 1, "a whole id, though another begins with it"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({"person": "bobb"}, "did you mean 'bob'?"),
        ({"person": "carl"}, "'carol'"),
        ({"target": "apo"}, "did you mean 'api'?"),
        ({"gate": "op"}, "did you mean 'opa'?"),
    ],
    ids=str,
)
def test_a_name_that_nobody_has_is_refused_with_those_that_are_like_it(
    of: recorded.Application, asked: dict[str, str], meant: str
) -> None:
    answer = api.handle(of, "GET", "/api/v1/audit", asked, None, actor=NOBODY)
    assert meant in str(document(answer)["fix"])


def test_a_name_that_is_in_force_and_in_no_record_finds_nothing_and_is_no_error(of: recorded.Application) -> None:
    nobody = next(name for name in of.rules().people if not of.values("person", name, 1))
    assert _items(get(of, "/audit", person=nobody)) == []


def test_an_operator_is_found_with_and_without_the_uid(of: recorded.Application) -> None:
    of.happen(record.Operator(actor="dan (uid 7)", verb="suspend", target="api", reason="night"))
    assert len(_items(get(of, "/audit", person="dan"))) == len(_items(get(of, "/audit", person="dan (uid 7)"))) == 1


def test_records_keep_the_names_that_they_have_in_the_log(of: recorded.Application) -> None:
    shown = get(of, "/audit/3")["record"]
    assert isinstance(shown, dict)
    assert isinstance(shown["event"], dict)
    assert "merge_signature" in shown["event"]


@pytest.mark.parametrize(
    ("path", "params", "answer"),
    [
        ("/api/v1/nothing", {}, (404, "no_operation")),
        ("/nothing", {}, (404, "no_operation")),
        ("/api/v1/targets/nope", {}, (404, "no_target")),
        ("/api/v1/audit/99", {}, (404, "no_record")),
        ("/api/v1/audit/one", {}, (404, "no_record")),
        ("/api/v1/targets", {"name": "x"}, (400, "params")),
        ("/api/v1/targets/api/trace", {}, (400, "params")),
        ("/api/v1/plan", {"head": "main"}, (400, "params")),
        ("/api/v1/audit", {"since": "2026-11-24T00:00:00"}, (400, "params")),
        ("/api/v1/audit", {"type": "gossip"}, (400, "params")),
        ("/api/v1/audit", {"revision": "main"}, (404, "no_revision")),
        ("/api/v1/audit", {"revision": "bbb"}, (404, "no_revision")),
        ("/api/v1/audit", {"revision": "feedfeed"}, (404, "no_revision")),
        ("/api/v1/audit", {"revision": "f" * 40}, (404, "no_revision")),
        ("/api/v1/gates", {"revision": "HEAD"}, (404, "no_revision")),
        ("/api/v1/audit", {"target": "apu"}, (404, "no_target")),
        ("/api/v1/deployments", {"target": "apu"}, (404, "no_target")),
        ("/api/v1/audit", {"person": "bobb"}, (404, "no_person")),
        ("/api/v1/audit", {"deployment": "d2"}, (404, "no_deployment")),
        ("/api/v1/audit", {"gate": "opaque"}, (404, "no_gate")),
        ("/api/v1/audit", {"rule": "bass"}, (404, "no_rule")),
        ("/api/v1/audit", {"limit": "0"}, (400, "params")),
        ("/api/v1/targets/api/suspend", {}, (405, "method")),
    ],
)
def test_what_is_asked_wrongly_is_a_problem_document(
    of: recorded.Application, path: str, params: dict[str, str], answer: tuple[int, str]
) -> None:
    assert refused(of, path, **params) == answer


@pytest.mark.parametrize("verb", ["suspend", "resume", "reconcile", "drop"])
def test_an_operator_asks_with_the_name_of_the_socket_and_a_reason(of: recorded.Application, verb: str) -> None:
    assert post(of, f"/targets/api/{verb}").status == 200
    assert of.asked == [(verb, "api", "root (uid 0)", "CHG0012345")]


@pytest.mark.parametrize("verb", sorted(config.VERBS))
def test_a_verb_that_was_not_given_is_refused_and_reaches_nobody(of: recorded.Application, verb: str) -> None:
    path = "/deployments/d1/rollback" if verb == "rollback" else f"/targets/api/{verb}"
    answer = post(of, path, {**WHY, "pin": True} if verb == "rollback" else WHY, Actor("eve", config.VERBS - {verb}))
    assert (answer.status, document(answer)["code"]) == (403, "forbidden")
    assert of.asked == []


def test_a_rollback_pins_and_says_which_state(of: recorded.Application) -> None:
    answer = post(of, "/deployments/d1/rollback", {**WHY, "pin": True, "acknowledge": ["deletes_data:m1:table/old"]})
    assert document(answer)["revision"] == recorded.GENESIS
    assert of.asked == [("rollback", "d1", "root (uid 0)", "CHG0012345", "deletes_data|m1:table/old")]
    assert post(of, "/deployments/d9/rollback", {**WHY, "pin": True}).status == 404


@pytest.mark.parametrize("body", [{}, {"reason": "  "}, {"reason": "x", "actor": "alice"}, {"reason": 7}])
def test_a_wish_without_a_reason_or_with_more_than_one_is_refused(
    of: recorded.Application, body: dict[str, JsonValue]
) -> None:
    assert post(of, "/targets/api/suspend", body).status == 400
    assert post(of, "/deployments/d1/rollback", body).status == 400
    assert of.asked == []


def test_anybody_may_bring_a_signed_statement(of: recorded.Application) -> None:
    answer = post(of, "/approvals", {"payload": "e30=", "payloadType": "t"}, NOBODY)
    assert document(answer)["digest"] == model.sha256(b'{"payload":"e30=","payloadType":"t"}')


@pytest.mark.parametrize("kind", list(problems.STATUS))
def test_an_error_comes_back_as_the_class_that_it_was(
    of: recorded.Application, kind: type[errors.ReconcilerError]
) -> None:
    of.fails = kind("code", "message", where="a.yaml:3", fix="mend it")
    answer = api.handle(of, "GET", "/api/v1/plan", {}, None, actor=NOBODY)
    back = problems.error_of(answer.status, document(answer))
    assert (type(back), back.code, back.message, back.where, back.fix) == (
        kind,
        "code",
        "message",
        "a.yaml:3",
        "mend it",
    )


def test_no_answer_carries_a_secret_or_an_escape_sequence(of: recorded.Application) -> None:
    redact.remember("a-secret-of-this-estate")
    said = model.Reason(code="connect", message="\x1b[2Jlogin a-secret-of-this-estate failed")
    look = model.Look(
        observations=(), fingerprint=recorded.PLAN, health=model.Health.UNKNOWN, errors={model.Key(""): said}
    )
    of.seen["api"] = targets.Live(look=look)
    of.happen(record.Standing(target="api", code="blocked", reasons=(said,)))
    for path in ("/targets", "/targets/api/history", "/audit"):
        assert "a-secret" not in str(get(of, path))
        assert "login *** failed" in str(get(of, path))
    of.fails = errors.TransientError("source_error", "\x1b]0;x\x07a-secret-of-this-estate")
    answer = api.handle(of, "GET", "/api/v1/plan", {}, None, actor=NOBODY)
    assert document(answer)["message"] == "***"


def test_every_operation_is_described() -> None:
    described = openapi.description()
    paths = described["paths"]
    assert isinstance(paths, dict)
    named = {
        op["operationId"]
        for path in paths.values()
        if isinstance(path, dict)
        for op in path.values()
        if isinstance(op, dict)
    }
    assert named == {route.name for route in api.ROUTES}
    assert "#/components/schemas/TargetList" in str(described)


def test_only_reads_and_statements_are_answered_beyond_the_socket() -> None:
    assert {route.name for route in api.ROUTES if route.tcp and route.method != "GET"} == {"approve"}
    assert {route.name for route in api.ROUTES if not route.tcp} == config.VERBS | {"run_gates"}
    assert {route.name for route in api.ROUTES if route.verb} == config.VERBS


def _items(document: dict[str, JsonValue]) -> list[JsonValue]:
    assert isinstance(document["items"], list)
    return document["items"]
