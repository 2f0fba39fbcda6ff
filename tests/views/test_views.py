from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import JsonValue
from support import estate, recorded

from reconciler import errors, model
from reconciler.admission import policy
from reconciler.audit import record, state
from reconciler.views import (
    audit,
    deployments,
    drift,
    fields,
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

Declared = Callable[[str, model.Version], JsonValue]
EMPTY = model.Plan(target="api", wanted=recorded.NEW, fingerprint=recorded.PLAN, stages=())
STEP = model.Step(key=recorded.KEY, action="update", command="write", before=None, hazards=("restart",), diff="-a\n+b")
MOVING = EMPTY.model_copy(update={"stages": (model.Stage(batch=0, order=0, steps=(STEP,)),)})
GOOD = model.Look(observations=(), fingerprint=recorded.PLAN, health=model.Health.HEALTHY)
AWAY = GOOD.model_copy(
    update={"health": model.Health.UNKNOWN, "errors": {model.Key(""): model.Reason(code="connect", message="away")}}
)


def row(of: recorded.Application, name: str = "api") -> targets.Target:
    listed = targets.targets(of.state(), of.live(), watching=of.watching)
    return next(each for each in listed.items if each.name == name)


def happened(*events: record.Event, watching: bool = True) -> recorded.Application:
    made = recorded.Application(watching=watching)
    made.happen(*events)
    return made


def told(of: recorded.Application, name: str = "api") -> list[lineage.Told]:
    return [lineage.Told(name, entry) for entry in of.records(audit.Query())]


def traced(of: recorded.Application, field: str = "", declared: Declared | None = None) -> trace.Trace:
    sources = trace.Sources(of.read, of.records, declared or (lambda _name, _version: None))
    return trace.trace(trace.Asked(of.state().targets["api"], recorded.KEY, field), told(of), sources)


def everything(of: recorded.Application) -> list[record.Record]:
    return list(of.records(audit.Query()))


# --- targets ---


def test_a_target_that_nobody_looked_at_is_unknown_however_good_its_record() -> None:
    of = happened(*recorded.DEPLOYED)
    assert (row(of).sync, row(of).health) == ("Unknown", "Unknown")


def test_a_target_that_was_seen_as_it_should_be_is_synced() -> None:
    of = happened(*recorded.DEPLOYED)
    of.seen["api"] = targets.Live(type="vm", environment="prod", look=GOOD, plan=EMPTY)
    seen = row(of)
    assert (seen.sync, seen.health, seen.type, seen.environment) == ("Synced", "Healthy", "vm", "prod")
    assert (seen.git_revision, seen.wanted_revision, seen.confirmed_revision) == (recorded.MERGE,) * 3


def test_a_look_that_failed_is_never_green() -> None:
    of = happened(*recorded.DEPLOYED)
    of.seen["api"] = targets.Live(look=AWAY, plan=EMPTY)
    assert (row(of).sync, row(of).health) == ("Unknown", "Unknown")
    assert row(of).reasons[0].message == "away"


def test_a_plan_that_is_not_empty_is_out_of_sync() -> None:
    of = happened(*recorded.DEPLOYED)
    of.seen["api"] = targets.Live(look=GOOD, plan=MOVING)
    assert row(of).sync == "OutOfSync"


def test_a_merge_that_waits_for_its_gates_leaves_its_target_out_of_sync() -> None:
    of = happened(recorded.GENESIS_EVENT, *recorded.CONFIRMED, recorded.DECISION)
    of.seen["api"] = targets.Live(look=GOOD, plan=EMPTY)
    of.seen["db"] = targets.Live(look=GOOD, plan=EMPTY)
    assert (row(of).sync, row(of).git_revision, row(of).wanted_revision) == (
        "OutOfSync",
        recorded.MERGE,
        recorded.GENESIS,
    )
    assert row(of, "db").sync == "Synced"


def test_without_a_daemon_the_answer_is_as_recorded() -> None:
    of = happened(*recorded.DEPLOYED, watching=False)
    assert (row(of).sync, row(of).health) == ("Synced", "Healthy")
    of.happen(record.Drift(target="api", keys=(recorded.KEY,), count=1))
    assert (row(of).sync, row(of).drifted) == ("OutOfSync", 1)
    assert row(happened(recorded.GENESIS_EVENT, watching=False)).sync == "Unknown"


def test_why_a_target_stands_still_is_shown_with_its_code() -> None:
    of = happened(*recorded.DEPLOYED)
    why = model.Reason(code="freeze", message="year end")
    of.happen(record.Standing(target="api", code="deferred", reasons=(why,), until=of.clock.now()))
    assert (row(of).standing, row(of).reasons) == ("deferred", (why,))
    assert row(of).until is not None


def test_a_target_whose_drift_is_only_reported_says_so() -> None:
    of = happened(*recorded.DEPLOYED)
    of.happen(record.Standing(target="api", code="detect"))
    assert [reason.message for reason in row(of).reasons] == ["drift is only reported: mode detect"]


def test_a_released_target_is_unknown_and_says_so() -> None:
    gone = recorded.DECISION.model_copy(update={"targets": {"api": None}})
    of = happened(recorded.GENESIS_EVENT, *recorded.CONFIRMED, gone, recorded.PASSED)
    of.seen["api"] = targets.Live(look=GOOD, plan=EMPTY)
    assert (row(of).sync, row(of).standing, row(of).git_revision) == ("Unknown", "released", None)


# --- revisions and gates ---


def test_a_revision_shows_who_may_and_what_its_gates_said() -> None:
    of = happened(*recorded.DEPLOYED)
    (shown,) = revisions.revisions(of.state(), everything(of)).items
    assert (shown.verdict, shown.gates, shown.merged_by, shown.authors) == ("ACCEPT", "passed", "carol", ("alice",))
    assert [(a.person, a.counts) for a in shown.approvals] == [("bob", True)]


def test_of_a_commit_that_was_judged_twice_the_newer_verdict_is_shown() -> None:
    why = model.Reason(code="no_approval", message="1 of sre (A2) is missing")
    held = recorded.DECISION.model_copy(update={"verdict": model.Verdict.HOLD, "reasons": (why, why)})
    of = happened(recorded.GENESIS_EVENT, held)
    assert [(r.verdict, r.codes, r.gates) for r in revisions.revisions(of.state(), everything(of)).items] == [
        ("HOLD", ("no_approval",), "none")
    ]
    of.happen(recorded.DECISION)
    assert [(r.verdict, r.gates) for r in revisions.revisions(of.state(), everything(of)).items] == [
        ("ACCEPT", "waiting")
    ]
    of.happen(recorded.PASSED.model_copy(update={"passed": False}))
    assert [r.gates for r in revisions.revisions(of.state(), everything(of)).items] == ["blocked"]


def test_an_approval_with_a_reason_does_not_count() -> None:
    stale = model.Approval(
        person="bob", level="A2", statement=recorded.PLAN, reason=model.Reason(code="ttl", message="old")
    )
    judged = revisions.judged([recorded.DECISION.model_copy(update={"approvals": (stale,)})])
    assert [(a.counts, a.reason and a.reason.code) for a in judged.items[0].approvals] == [(False, "ttl")]


def test_only_the_last_try_of_a_merge_is_among_the_gates() -> None:
    of = happened(
        recorded.GENESIS_EVENT, recorded.DECISION, recorded.PASSED.model_copy(update={"passed": False}), recorded.PASSED
    )
    (shown,) = gates.gates(everything(of)).items
    assert (shown.check, shown.duration_ms, shown.at is not None) == ("opa: compliance_policy", 120, True)
    assert gates.just_run(recorded.PASSED).items[0].at is None


# --- deployments, history, trace ---


def test_a_deployment_is_folded_from_its_first_intent_to_its_outcome() -> None:
    of = happened(*recorded.DEPLOYED)
    (shown,) = deployments.deployments(everything(of)).items
    assert (shown.id, shown.cause, shown.outcome, shown.stages, shown.actions) == ("d1", "change", "SUCCEEDED", 1, 1)
    assert (shown.revision, shown.before, shown.rolled_back, shown.first) == (
        recorded.MERGE,
        recorded.GENESIS,
        False,
        5,
    )


def test_rolled_back_is_a_failure_that_a_rollback_followed() -> None:
    of = happened(*recorded.DEPLOYED[:-1], recorded.outcome(closed=model.Closed.FAILED))
    of.happen(recorded.intent("d2", model.Cause.ROLLBACK), recorded.applied("d2"), recorded.outcome("d2"))
    assert [(d.id, d.rolled_back) for d in deployments.deployments(everything(of)).items] == [
        ("d1", True),
        ("d2", False),
    ]


def test_an_open_deployment_counts_its_stages() -> None:
    of = happened(*recorded.DEPLOYED[:-1], recorded.intent())
    (shown,) = deployments.deployments(everything(of)).items
    assert (shown.outcome, shown.stages, shown.actions) == (None, 2, 2)


def test_the_history_of_a_target_holds_what_concerns_it_and_nothing_else() -> None:
    of = happened(*recorded.DEPLOYED)
    of.happen(record.Operator(actor="dan (uid 7)", verb="suspend", target="api", reason="night"))
    shown = history.history("api", told(of))
    assert [h.what for h in shown.items] == [
        "genesis", "confirmed", "decision", "clearance", "intent", "applied", "outcome", "operator",
    ]  # fmt: skip
    assert (shown.items[-1].who, shown.items[-1].text) == ("dan (uid 7)", "suspend: night")
    assert [h.what for h in history.history("db", told(of, "db")).items] == ["genesis", "confirmed"]


def test_every_record_of_a_target_has_its_line_in_the_history() -> None:
    of = happened(*recorded.DEPLOYED)
    of.happen(
        record.Drift(target="api", keys=(recorded.KEY,), count=1, who="root"),
        record.Drift(target="api", keys=(), count=0),
        record.Standing(target="api", code="detect"),
        record.Standing(target="api", code=None),
        record.Reset(before=recorded.MERGE, revision=recorded.HEAD, reason="moved", targets={"api": recorded.NEW}),
        record.Halt(codes=("rewind",)),
    )
    texts = [h.text for h in history.history("api", told(of)).items[-5:]]
    assert texts == [
        f"1 resource drifted: {recorded.KEY}",
        "drift is gone",
        "stands: detect",
        "moves again",
        "taken over: moved",
    ]


def test_a_live_resource_is_traced_to_the_people_who_let_it_in() -> None:
    of = happened(*recorded.DEPLOYED)
    shown = traced(of)
    assert shown.deployment
    assert (shown.deployment.id, shown.action, shown.identity, shown.owned) == ("d1", "update", "17", True)
    assert [(m.revision, m.merged_by, m.gates, m.approvals[0].person) for m in shown.merges] == [
        (recorded.MERGE, "carol", "passed", "bob")
    ]
    assert [(g.check, g.outcome) for g in shown.gates] == [("opa: compliance_policy", "PASS")]
    assert shown.records == (3, 4, 5, 6, 7)


def test_a_field_is_traced_to_the_deployment_that_last_wanted_another_value() -> None:
    of = happened(*recorded.DEPLOYED)
    first = recorded.intent()
    newest = recorded.version(recorded.MERGE, recorded.OTHER)
    later = recorded.intent("d2").model_copy(update={"before": first.wanted, "wanted": newest})
    of.happen(later, recorded.applied("d2"), recorded.outcome("d2"))
    colours = {first.wanted.digest: "blue", newest.digest: "blue"}
    sizes = {first.wanted.digest: 1, newest.digest: 2}

    def declared(_name: str, version: model.Version) -> JsonValue:
        return {"colour": colours.get(version.digest), "parts": [{"name": "a.b", "size": sizes.get(version.digest)}]}

    def came_with(path: str) -> tuple[str | None, JsonValue]:
        shown = traced(of, path, declared)
        return shown.deployment.id if shown.deployment else None, shown.value

    assert came_with("colour") == ("d1", "blue")
    assert came_with("parts[name=a.b].size") == ("d2", 2)
    assert came_with("parts[0].size") == ("d2", 2)
    assert came_with("parts[7].size") == ("d1", None), (
        "nobody declares it: the deployment that wrote the resource first"
    )
    assert traced(of, "height", declared).fields == ("colour", "parts")


def test_a_path_that_names_no_field_is_refused_with_how_to_write_one() -> None:
    for path in ("", ".spec", "spec..a", "a[", "a[name=", 'a["b]', "a]"):
        with pytest.raises(errors.ConfigError) as refused:
            fields.parse(path)
        assert (refused.value.code, "containers[name=api].image" in refused.value.fix) == ("field", True)
    assert fields.value_at({"a": {"b.c/d": 3}}, fields.parse('a["b.c/d"]')) == 3


def test_a_resource_that_nobody_here_wrote_is_traced_to_what_let_its_state_in() -> None:
    of = happened(recorded.GENESIS_EVENT, *recorded.CONFIRMED)
    shown = traced(of, "size", lambda _name, version: {"size": 3} if version.digest == recorded.OLD else None)
    assert (shown.deployment, shown.action, shown.owned, shown.declared) == (None, "", False, True)
    assert (shown.value, shown.merges, shown.records) == (3, (), (0,))
    of.happen(recorded.DECISION, recorded.PASSED)
    assert traced(of, "", lambda _name, _version: {}).records == (0,), "a newer state is cleared, and not confirmed"
    wanted = record.Confirmed(
        target="api", version=recorded.version(recorded.MERGE, recorded.NEW), fingerprint=recorded.PLAN
    )
    of.happen(wanted)
    shown = traced(of, "", lambda _name, _version: {})
    assert ([m.revision for m in shown.merges], shown.records) == ([recorded.MERGE], (3, 4))


def test_of_a_resource_that_is_not_ours_no_record_is_shown_as_evidence() -> None:
    of = happened(*recorded.DEPLOYED)
    sources = trace.Sources(of.read, of.records, lambda _name, _version: None)
    foreign = model.Key("file/etc/ap.conf")
    shown = trace.trace(trace.Asked(of.state().targets["api"], foreign), told(of), sources)
    assert (shown.owned, shown.declared, shown.deployment) == (False, False, None)
    assert (shown.merges, shown.gates, shown.records) == ((), (), ())
    assert shown.similar == (recorded.KEY,)


def test_a_kind_that_cannot_say_what_it_declares_shows_no_evidence_and_says_so_of_a_field() -> None:
    of = happened(recorded.GENESIS_EVENT, *recorded.CONFIRMED)

    def cannot(_name: str, _version: model.Version) -> JsonValue:
        raise errors.ConfigError("field", "it cannot say")

    assert traced(of, "", cannot).records == ()
    with pytest.raises(errors.ConfigError):
        traced(of, "size", cannot)


# --- drift, plans, status, queries ---


def test_drift_names_each_resource_with_what_would_correct_it() -> None:
    of = happened(*recorded.DEPLOYED, record.Drift(target="api", keys=(recorded.KEY,), count=1, who="root"))
    assert [(d.key, d.action, d.who) for d in drift.drift(of.state(), {}).items] == [(recorded.KEY, "", "root")]
    live = {"api": targets.Live(look=GOOD, plan=MOVING)}
    assert [(d.action, d.diff) for d in drift.drift(of.state(), live).items] == [("update", "-a\n+b")]


def test_drift_names_who_changed_each_resource_where_the_target_can_tell() -> None:
    other = model.Key("item/n/other")
    of = happened(*recorded.DEPLOYED, record.Drift(target="api", keys=(recorded.KEY, other), count=2, who="root"))
    moved = model.Observation(key=other, wanted=1, actual=2, changed_by="kubectl-edit (spec.replicas)")
    look = GOOD.model_copy(update={"observations": (*GOOD.observations, moved)})
    shown = drift.drift(of.state(), {"api": targets.Live(look=look)}).items
    assert [(d.key, d.who) for d in shown] == [(recorded.KEY, ""), (other, "kubectl-edit (spec.replicas)")]


def test_a_target_that_was_not_contacted_has_no_empty_plan() -> None:
    shown = plans.plans([plans.Preview(target="api", content="+x"), plans.Preview(target="db", plan=EMPTY)]).items
    assert [(p.contacted, p.empty) for p in shown] == [(False, False), (True, True)]
    (step,) = plans.plans([plans.Preview(target="api", plan=MOVING)]).items[0].steps
    assert (step.stage, step.action, step.hazards, step.reversible) == (0, "update", ("restart",), False)


def test_the_status_says_whether_a_daemon_watches() -> None:
    of = happened(*recorded.DEPLOYED, record.Halt(codes=("rewind",)))
    shown = status.status(of.facts(), of.state())
    assert (shown.mode, shown.tip, shown.halted, shown.log_size, shown.targets) == (
        "daemon",
        recorded.MERGE,
        ("rewind",),
        9,
        2,
    )


def test_documents_are_camel_case_with_their_kind() -> None:
    of = happened(*recorded.DEPLOYED)
    document = targets.targets(of.state(), {}, watching=True).model_dump(mode="json")
    assert (document["apiVersion"], document["kind"]) == ("reconciler/v1", "TargetList")
    assert "confirmedRevision" in document["items"][0]


def test_a_query_over_several_types_is_in_the_order_of_the_log() -> None:
    of = happened(*recorded.DEPLOYED)
    found = of.records(audit.Query(types=frozenset({"outcome", "intent", "confirmed"}), target="api", limit=2))
    assert [entry.event.type for entry in found] == ["confirmed", "intent"]
    page = audit.records(found, 2)
    assert page.next == found[-1].seq
    assert [e.event.type for e in of.records(audit.Query(after=page.next or 0, types=frozenset({"outcome"})))] == [
        "outcome"
    ]


# --- metrics ---


def samples(of: recorded.Application) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(of.metrics().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def value(of: recorded.Application, name: str, **labels: str) -> float:
    return samples(of)["reconciler_" + name, frozenset(labels.items())]


def test_metrics_count_what_the_log_heard_and_show_what_is_true_now() -> None:
    of = happened(*recorded.DEPLOYED, record.Halt(codes=("rewind",)))
    of.seen["api"] = targets.Live(type="vm", environment="prod", look=GOOD, plan=EMPTY)
    of.turned("target", 0.2)
    assert value(of, "log_records") == 9
    assert value(of, "deployments_total", cause="change", outcome="SUCCEEDED") == 1
    assert value(of, "decisions_total", verdict="ACCEPT") == 1
    assert value(of, "halted", code="rewind") == 1
    assert value(of, "targets", sync="Synced", health="Healthy", standing="") == 1
    assert value(of, "gate_duration_seconds_sum", check="opa: compliance_policy", outcome="PASS") == pytest.approx(0.12)
    assert value(of, "turn_duration_seconds_count", turn="target") == 1


def test_an_age_that_is_not_known_is_infinite() -> None:
    of = happened(recorded.GENESIS_EVENT)
    assert value(of, "source_fetch_age_seconds") == float("inf")
    assert value(of, "target_observed_age_seconds", target="api") == float("inf")


def test_an_expiry_of_the_policy_and_of_each_key_is_an_instant_to_alert_on() -> None:
    spec = estate.policy_spec() | {"expires": "2027-03-31T00:00:00Z"}
    spec["people"]["bob"]["keys"][0]["revoked"] = "2026-11-01T00:00:00Z"
    of = happened(recorded.GENESIS_EVENT)
    of.policy_blob = estate.policy_blob(spec)
    ends = datetime(2027, 6, 1, tzinfo=UTC).timestamp()
    assert value(of, "policy_expiry_timestamp_seconds") == datetime(2027, 3, 31, tzinfo=UTC).timestamp()
    keys = {labels: at for (name, labels), at in samples(of).items() if "key_expiry" in name}
    assert {dict(labels)["person"] for labels in keys} == {*estate.PEOPLE, *estate.ROBOTS} - {"bob"}
    assert set(keys.values()) == {ends}


def test_a_policy_that_cannot_be_read_gives_no_expiry_and_hides_nothing_else() -> None:
    of = happened(recorded.GENESIS_EVENT)
    of.policy_blob = b"spec: no"
    assert not [name for name, _ in samples(of) if "expiry" in name]
    assert value(of, "log_records") == 1


# --- freezes ---


def frozen(**spec: object) -> tuple[policy.Policy, state.State, dict[str, targets.Live]]:
    """`api` in prod and `db` in dev both stand deferred."""
    wait = (model.Reason(code="deferred", message="until then"),)
    known = recorded.Application()
    known.happen(recorded.GENESIS_EVENT)
    known.happen(*(record.Standing(target=name, code="deferred", reasons=wait) for name in ("api", "db")))
    live = {"api": targets.Live(environment="prod"), "db": targets.Live(environment="dev")}
    rules = policy.parse_policy(estate.policy_blob({**estate.policy_spec(), **spec}))
    return rules, known.state(), live


YEAR_END = {
    "id": "yearend",
    "from": "2026-12-20T00:00:00Z",
    "to": "2027-01-03T00:00:00Z",
    "environments": ["prod"],
    "allow": ["emergency"],
}


def test_a_freeze_says_since_when_whom_and_until_when() -> None:
    asked = frozen(freeze=[YEAR_END])
    starts, ends = datetime(2026, 12, 20, tzinfo=UTC), datetime(2027, 1, 3, tzinfo=UTC)
    (before,) = freezes.freezes(*asked, starts - timedelta(seconds=1)).items
    assert (before.deferring, before.until, before.waiting) == ((), starts, ())
    (during,) = freezes.freezes(*asked, starts).items
    assert (during.deferring, during.until, during.waiting) == (("prod",), ends, ("api",))
    assert during.allow == ("emergency",)
    (after,) = freezes.freezes(*asked, ends).items
    assert (after.deferring, after.until) == ((), None)


def test_a_window_defers_only_while_no_other_of_its_environment_is_open() -> None:
    times = {"from": "20:00", "to": "22:00", "zone": "UTC"}
    monday = {"environments": ["prod", "dev"], "days": ["mon"], **times}
    tuesday = {"environments": ["prod"], "days": ["tue"], **times}
    now = datetime(2026, 11, 24, 21, tzinfo=UTC)  # a Tuesday
    first, second = freezes.freezes(*frozen(windows=[monday, tuesday]), now).items
    assert (first.id, first.deferring, first.waiting) == ("mon 20:00-22:00 UTC", ("dev",), ("db",))
    assert first.until == datetime(2026, 11, 30, 20, tzinfo=UTC)
    assert (second.deferring, second.until) == ((), datetime(2026, 11, 24, 22, tzinfo=UTC))


def test_a_target_that_waits_for_a_silent_source_waits_for_no_freeze() -> None:
    rules, _, live = frozen(freeze=[YEAR_END])
    of = happened(recorded.GENESIS_EVENT)
    of.happen(
        record.Standing(target="api", code="deferred", reasons=(model.Reason(code="source_error", message="silent"),))
    )
    (row,) = freezes.freezes(rules, of.state(), live, datetime(2026, 12, 24, tzinfo=UTC)).items
    assert (row.deferring, row.waiting) == (("prod",), ())


# --- obligations ---


def owed(**fields: object) -> record.Obligation:
    """The review of an emergency of MERGE, due a day after it was accepted."""
    at = datetime(2026, 11, 24, tzinfo=UTC)
    review = {"change": "opened", "kind": "review", "revision": recorded.MERGE, "people": ("bob",), "opened": at}
    return record.Obligation.model_validate({**review, "due": at + timedelta(days=1), "incident": "INC1", **fields})


def test_what_is_owed_is_open_then_overdue_then_closed() -> None:
    of = happened(recorded.GENESIS_EVENT, owed())
    late = model.Reason(code="obligation", message="not reviewed", where=recorded.MERGE)
    of.happen(record.Standing(target="api", code="deferred", reasons=(late,)))
    due = datetime(2026, 11, 25, tzinfo=UTC)
    (row,) = obligations.obligations(of.state(), due - timedelta(milliseconds=1)).items
    assert (row.state, row.incident, row.people, row.waiting) == ("open", "INC1", ("bob",), ("api",))
    (row,) = obligations.obligations(of.state(), due).items
    assert row.state == "overdue"
    of.happen(owed(change="closed", people=("dan", "erin")))
    assert obligations.obligations(of.state(), due).items == ()
    past = [entry for entry in of.log.records() if entry.event.type == "obligation"]
    (row,) = obligations.obligations(of.state(), due, past).items
    assert (row.state, row.people, row.reviewers) == ("closed", ("bob",), ("dan", "erin"))


def test_what_a_target_owes_is_never_overdue() -> None:
    of = happened(recorded.GENESIS_EVENT, owed(kind="agree", target="api", deployment="d1", due=None, people=()))
    (row,) = obligations.obligations(of.state(), datetime(2030, 1, 1, tzinfo=UTC)).items
    assert (row.kind, row.state, row.target, row.deployment) == ("agree", "open", "api", "d1")
    assert value(of, "obligations_open", kind="agree") == 1
    assert value(of, "obligations_open", kind="review") == 0


def test_metrics_count_overdue_reviews_and_broken_glass() -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    broken = record.Emergency(people=("bob",), incident="INC1", reason="down", until=long_ago)
    accepted = recorded.DECISION.model_copy(update={"emergency": broken})
    of = happened(recorded.GENESIS_EVENT, accepted, owed(due=long_ago))
    assert value(of, "obligations_overdue") == 1
    assert value(of, "emergencies_total") == 1


def test_a_revision_says_for_whom_the_glass_was_broken() -> None:
    said = recorded.DECISION.approvals[0].model_copy(update={"decision": "emergency"})
    broken = record.Emergency(people=("bob",), incident="INC1", reason="down", until=datetime(2026, 11, 24, tzinfo=UTC))
    for emergency, counts in ((broken, True), (None, False)):
        decision = recorded.DECISION.model_copy(update={"approvals": (said,), "emergency": emergency})
        (row,) = revisions.judged([decision]).items
        assert [a.counts for a in row.approvals] == [counts]
        assert (row.emergency.incident if row.emergency else "") == ("INC1" if emergency else "")


def test_asking_for_a_record_that_is_not_there_is_an_error() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        recorded.Application().read(7)
    assert caught.value.code == "no_record"
