"""A target that was renamed keeps what is recorded of it, under the name that it had then; a name may serve twice."""

from __future__ import annotations

from pydantic import JsonValue
from support import recorded

from reconciler import model
from reconciler.audit import record
from reconciler.views import audit, lineage
from reconciler.web import api
from reconciler.web.application import Actor

RENAMING = model.Oid("d" * 40)
BACK = model.Oid("e" * 40)


def renamed(old: str, new: str, revision: model.Oid) -> tuple[record.Event, ...]:
    """A merge that moves the folder, and its gates, which both names concern."""
    decision = recorded.DECISION.model_copy(
        update={"base": recorded.MERGE, "revision": revision, "targets": {new: recorded.OTHER, old: None}}
    )
    results = tuple(each.model_copy(update={"targets": (new, old)}) for each in recorded.PASSED.results)
    cleared = recorded.PASSED.model_copy(update={"revision": revision, "results": results, "renamed": {new: old}})
    return decision, cleared


def happened(*events: record.Event) -> recorded.Application:
    of = recorded.Application()
    of.happen(*recorded.DEPLOYED, *renamed("api", "shop", RENAMING), *events)
    return of


def ask(of: recorded.Application, path: str, **params: str) -> dict[str, JsonValue]:
    answer = api.handle(of, "GET", f"/api/v1{path}", params, None, actor=Actor("dan"))
    assert isinstance(answer.document, dict)
    return answer.document


def listed(value: JsonValue) -> list[dict[str, JsonValue]]:
    assert isinstance(value, list)
    return [each for each in value if isinstance(each, dict)]


def told(of: recorded.Application, path: str) -> list[tuple[JsonValue, JsonValue]]:
    """(seq, name then) of each row."""
    return [(row["seq"], row["target"]) for row in listed(ask(of, path)["items"])]


def test_a_resource_of_a_renamed_target_is_traced_to_the_deployment_under_its_old_name() -> None:
    shown = ask(happened(), "/targets/shop/trace", key=recorded.KEY)
    assert isinstance(shown["deployment"], dict)
    assert (shown["deployment"]["id"], shown["deployment"]["target"], shown["owned"]) == ("d1", "api", True)
    assert [merge["revision"] for merge in listed(shown["merges"])] == [recorded.MERGE]
    assert [gate["outcome"] for gate in listed(shown["gates"])] == ["PASS"]
    assert shown["formerly"] == [{"name": "api", "revision": RENAMING, "record": 9}]
    assert shown["records"] == [3, 4, 5, 6, 7, 9], "the renaming is a link of the chain"


def test_a_field_is_traced_across_a_rename_through_the_folder_that_it_was_read_from() -> None:
    of = happened()
    shown = ask(of, "/targets/shop/trace", key=recorded.KEY, field="colour")
    assert shown["value"] == recorded.NEW, "the application declares it for the target `api` alone"


def test_what_was_written_after_the_rename_needs_no_old_name() -> None:
    later = recorded.intent("d2", decision=8).model_copy(update={"target": "shop"})
    ended = recorded.outcome("d2").model_copy(update={"target": "shop"})
    shown = ask(happened(later, ended), "/targets/shop/trace", key=recorded.KEY)
    assert isinstance(shown["deployment"], dict)
    assert (shown["deployment"]["id"], shown["formerly"]) == ("d2", [])


def test_the_history_of_a_renamed_target_begins_under_its_old_name() -> None:
    of = happened(record.Standing(target="shop", code="detect"))
    shown = ask(of, "/targets/shop/history")
    assert told(of, "/targets/shop/history") == [
        (0, "api"), (1, "api"), (3, "api"), (4, "api"), (5, "api"), (6, "api"), (7, "api"),
        (8, "shop"), (9, "shop"), (10, "shop"),
    ]  # fmt: skip
    assert listed(shown["items"])[-2]["text"] == "gates passed; it was api until here"
    assert shown["formerly"] == [{"name": "api", "revision": RENAMING, "record": 9}]


def test_the_old_name_says_the_new_one() -> None:
    of = happened()
    shown = ask(of, "/targets/api/history")
    assert shown["renamedTo"] == "shop"
    assert listed(shown["items"])[-1]["text"] == "gates passed; it is shop from here on"
    for path in ("/targets/api/trace", "/targets/api/diff"):
        refused = ask(of, path, **({"key": recorded.KEY} if path.endswith("trace") else {}))
        assert (refused["code"], refused["fix"]) == ("no_target", "name shop instead")
        assert "was renamed by merge dddddddddddd (record 9): it is shop now" in str(refused["message"])


def test_a_target_that_was_renamed_twice_is_followed_both_ways() -> None:
    of = happened(*renamed("shop", "store", BACK))
    shown = ask(of, "/targets/store/trace", key=recorded.KEY)
    assert [each["name"] for each in listed(shown["formerly"])] == ["shop", "api"]
    assert isinstance(shown["deployment"], dict)
    assert shown["deployment"]["target"] == "api"
    assert ask(of, "/targets/api/history")["renamedTo"] == "store"
    assert [d["id"] for d in listed(ask(of, "/deployments", target="store")["items"])] == ["d1"]


def test_a_new_target_under_an_old_name_has_its_own_history() -> None:
    second = recorded.DECISION.model_copy(update={"base": RENAMING, "revision": BACK})
    of = happened(second, recorded.PASSED.model_copy(update={"revision": BACK}))
    assert told(of, "/targets/api/history") == [(10, "api"), (11, "api")]
    assert (7, "api") in told(of, "/targets/shop/history")
    assert (10, "api") not in told(of, "/targets/shop/history")
    shown = ask(of, "/targets/api/trace", key=recorded.KEY)
    assert (shown["owned"], shown["deployment"]) == (False, None), "it is the other target's"


def test_a_name_that_goes_round_ends() -> None:
    of = happened(*renamed("shop", "api", BACK))
    names = [life.name for life in lineage.lives("api", lambda name: of.records(audit.Query(target=name)))]
    assert names == ["api", "shop", "api"]
    assert told(of, "/targets/api/history")[0] == (0, "api")


def test_what_was_still_being_written_when_a_name_ended_is_told_to_its_end() -> None:
    late = recorded.intent("d9")
    events = (*recorded.DEPLOYED, late, *renamed("api", "shop", RENAMING), recorded.outcome("d9", model.Closed.FAILED))
    of = recorded.Application()
    of.happen(*events)
    assert told(of, "/targets/shop/history")[-1] == (11, "api")
    assert [d["outcome"] for d in listed(ask(of, "/deployments", target="shop")["items"])] == ["SUCCEEDED", "FAILED"]
