"""The cases that other parts own: the calendar, the second look before a write, clocks and leases, gates, previews."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import catalogue, estate, gating, installation, lab, logs, signing
from support.catalogue import ACCEPT, HOLD, LEDGER, PAYMENTS, SANDBOX

from reconciler import documents, errors, model, ports
from reconciler.admission import admit, judging, policy, withdrawing
from reconciler.audit import log, record
from reconciler.daemon import clock, preview, process
from reconciler.gates import schema
from reconciler.git import writing
from reconciler.targets import memory


class Watched:
    """A bank in memory with a log, taken over from genesis."""

    def __init__(self) -> None:
        self.bank = estate.Estate(estate.targets())
        self.clock = logs.Clock()
        self.log: log.Log = logs.make_log(clock=self.clock)
        self.log.lease("watch")
        admit.take_over(self.bank.store, self.log, self.bank.pin, clock=self.clock)

    def poll(self, clock: ports.Clock | None = None) -> tuple[record.Decision, ...]:
        store = self.bank.store
        return admit.admit(store, store, self.log, terms=self.bank.terms, clock=clock or self.clock)

    def taken_back(self, decision: record.Decision) -> set[str]:
        found = withdrawing.withdrawn(self.bank.store, decision, self.log.state, terms=self.bank.terms)
        return {reason.code for reason in found}


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.log.close()


# --- between the acceptance and the write ---


def test_c45_a_revoke_after_the_acceptance_withdraws_until_the_slot_is_filled_again(watched: Watched) -> None:
    bank = watched.bank
    merge = bank.change(LEDGER)
    (decision,) = watched.poll()
    assert watched.taken_back(decision) == set()
    revoked = next(each.statement for each in decision.approvals if each.person == "bob")
    head, bound = bank.store.parents(merge)[1], bank.binding(merge)
    revoke = signing.approve(estate.key("bob"), "bob", bound, decision="revoke", revokes=revoked)
    bank.store.add_envelope(head, revoke, held=False)
    watched.poll()
    assert watched.taken_back(decision) == {"approval_revoked", "threshold"}
    bank.store.add_envelope(head, signing.approve(estate.key("heidi"), "heidi", bound), held=False)
    watched.poll()
    assert watched.taken_back(decision) == set()


def test_c45_an_innocent_merge_on_top_does_not_carry_a_withdrawn_one_to_its_target(tmp_path: Path) -> None:
    root = tmp_path / "roots/web"
    root.mkdir(parents=True)
    bank = installation.Installation(tmp_path, installation.vm("web", root, {"a": "1\n"}))
    bank.converge()
    _operate(bank, "suspend")
    withdrawn = bank.change(installation.vm("web", root, {"a": "2\n"}))
    bank.converge()
    bank.change(installation.vm("web", root, {"a": "2\n", "b": "innocent\n"}))
    bank.converge()
    assert [decision.verdict for decision in bank.events(record.Decision)] == [ACCEPT, ACCEPT]
    for person in estate.SRE:
        bank.bank.approve(withdrawn, person, decision="reject")
    head = bank.bank.store.parents(withdrawn)[1]
    for envelope in bank.bank.store.envelopes(head):
        writing.write_approval(bank.git_dir, head, envelope)
    _operate(bank, "resume")
    bank.converge()
    assert bank.events(record.Standing)[-1].code == "withdrawn"
    assert not (root / "b").exists()


def _operate(bank: installation.Installation, verb: str) -> None:
    app = bank.application()
    app.operate(verb, "web", actor="uid:0", reason="CHG1")  # type: ignore[arg-type]
    app.close()


def test_c71_a_ref_that_moves_meanwhile_is_judged_at_the_next_poll(watched: Watched) -> None:
    """What was fetched is pinned: whatever the ref says while it is judged, and when it is applied, the id stays."""
    bank = watched.bank
    pinned = bank.change(LEDGER)
    moved: list[model.Oid] = []

    class Moving:
        def fetch(self, after: model.Oid, heads: frozenset[model.Oid]) -> model.Oid:
            tip = bank.store.fetch(after, heads)
            if not moved:
                moved.append(bank.change(PAYMENTS))
            return tip

    for revision, name in ((pinned, "ledger"), (None, "payments")):
        (decision,) = admit.admit(Moving(), bank.store, watched.log, terms=bank.terms, clock=watched.clock)
        assert (decision.verdict, decision.revision) == (ACCEPT, revision or moved[0])
        target = watched.log.state.target(name)
        assert target.waiting == decision.revision
    assert watched.log.state.tip == moved[0]


# --- the calendar ---

BERLIN = {"environments": ["prod"], "days": ["sat", "sun"], "from": "01:30", "to": "02:30", "zone": "Europe/Berlin"}
TICK = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("opens", "closes"),
    [
        (datetime(2026, 10, 24, 23, 30, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # 02:30 comes twice.
        (datetime(2027, 3, 28, 0, 30, tzinfo=UTC), datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),  # 02:30 does not come.
        (datetime(2028, 2, 26, 0, 30, tzinfo=UTC), datetime(2028, 2, 26, 1, 30, tzinfo=UTC)),
    ],
)
def test_c67_a_window_is_exact_at_both_edges_and_holds_no_history(opens: datetime, closes: datetime) -> None:
    bank = estate.Estate(estate.targets(), spec={**estate.policy_spec(), "windows": [BERLIN]})
    merge = bank.change(LEDGER)
    assert bank.judge(merge).verdict is ACCEPT
    rules = policy.read_policy(bank.store, merge)
    assert rules.deferred("prod", opens - TICK)
    assert not rules.deferred("prod", opens)
    assert not rules.deferred("prod", closes - TICK)
    assert rules.deferred("prod", closes)
    assert not rules.deferred("dev", closes)


def test_c67_a_freeze_over_a_leap_day_is_exact_at_both_edges_and_holds_no_history() -> None:
    freeze = {
        "id": "leap",
        "from": "2028-02-29T00:00:00+07:00",
        "to": "2028-03-01T00:00:00+07:00",
        "environments": ["prod"],
    }
    bank = estate.Estate(estate.targets(), spec={**estate.policy_spec(), "freeze": [freeze]})
    merge = bank.change(LEDGER)
    assert bank.judge(merge).verdict is ACCEPT
    starts, ends = datetime(2028, 2, 28, 17, tzinfo=UTC), datetime(2028, 2, 29, 17, tzinfo=UTC)
    rules = policy.read_policy(bank.store, merge)
    held = [bool(rules.deferred("prod", at)) for at in (starts - TICK, starts, ends - TICK, ends)]
    assert held == [False, True, True, False]


def test_c67_a_frozen_target_stands_deferred(tmp_path: Path) -> None:
    root = tmp_path / "roots/web"
    root.mkdir(parents=True)
    now = datetime.now(UTC).replace(microsecond=0)
    freeze = {
        "id": "now",
        "from": f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        "to": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        "environments": ["dev"],
    }
    bank = installation.Installation(tmp_path, installation.vm("web", root, {"a": "1\n"}), freeze=[freeze])
    bank.change(installation.vm("web", root, {"a": "2\n"}))
    bank.converge()
    assert bank.events(record.Decision)[-1].verdict is ACCEPT
    assert bank.events(record.Standing)[-1].code == "deferred"
    assert not (root / "a").exists()


# --- clocks, leases, restarts ---


class Behind:
    """A clock that went back by an hour, as after a restart on a machine whose time was set."""

    def __init__(self, clock: logs.Clock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now() - timedelta(hours=1)

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


def test_c73_a_clock_that_went_back_holds_what_was_seen_later_than_now(watched: Watched) -> None:
    watched.bank.change(LEDGER, approvers=["bob"])
    watched.poll()
    watched.bank.approve(watched.bank.tip, "grace")
    (decision,) = watched.poll(Behind(watched.clock))
    assert (decision.verdict, estate.codes(decision)) == (HOLD, {"clock"})
    (decision,) = watched.poll()
    assert decision.verdict is ACCEPT


def test_c73_within_one_process_time_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = clock.SystemClock()
    first = ours.now()

    class Back(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return first - timedelta(hours=1)

    monkeypatch.setattr(clock, "datetime", Back)
    assert ours.now() >= first


def test_c73_a_second_daemon_gets_neither_the_folder_nor_the_lease(tmp_path: Path) -> None:
    with process.owning(tmp_path), pytest.raises(errors.ReconcilerError), process.owning(tmp_path):
        raise AssertionError("two daemons own one folder")


def test_c73_a_restart_inside_verify_decides_by_the_times_that_were_logged(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of bob ends between the observation, which was logged before the kill, and the second life."""
    spec = estate.changed(
        estate.policy_spec(), bob=estate.person("bob", estate.key_document("bob", notAfter="2026-11-24T01:00:00Z"))
    )
    watched.bank.change_policy(spec)
    watched.poll()
    watched.bank.change(SANDBOX, approvers=["bob"])

    def killed(*_: object, **__: object) -> object:
        raise lab.Killed

    with monkeypatch.context() as patched:
        patched.setattr(judging, "examine", killed)
        with pytest.raises(lab.Killed):
            watched.poll()
    watched.clock.sleep(2 * 3600)
    (decision,) = watched.poll()
    assert decision.verdict is ACCEPT, decision.reasons


# --- gates and previews ---


def gate(bank: estate.Estate, merge: model.Oid, name: str) -> model.GateResult:
    """What `schema` says of one target of a merge; a driver that is asked for anything but its schema has no world."""

    def nowhere(_name: str) -> memory.World:
        raise AssertionError("a gate contacted a target")

    drivers: ports.Drivers = {"memory": lambda: memory.Memory.on(nowhere)}
    facilities = ports.GateFacilities(bank.store, drivers, gating.Clock(), production=True)
    found = documents.read_target(bank.store, merge, name)
    assert found is not None
    change = model.Change(
        revision=merge, head=None, policies=merge, targets=frozenset({name}), before={}, after={name: found.desired}
    )
    return schema.SchemaGate(model.Check(gate="schema"), facilities).check(change, 90)


REACHES: tuple[dict[str, object], ...] = (
    {"host": "db.prod.bank.example"},
    {"host": "10.20.3.4"},
    {"host": "db.dev.bank.example", "password": "vault:kv/prod/db#password"},
    {"jump": "bastion.prod.bank.example", "host": "db.dev.bank.example"},
)


@pytest.mark.parametrize("connection", REACHES)
def test_c77_what_calls_itself_dev_and_reaches_production_is_accepted_and_never_contacted(
    connection: dict[str, object],
) -> None:
    bank = estate.Estate(estate.targets())
    merge = bank.change(estate.target("sandbox", "dev", connection=connection), approvers=["bob"])
    assert bank.judge(merge).verdict is ACCEPT
    result = gate(bank, merge, "sandbox")
    assert result.outcome is model.Outcome.FAIL
    assert {reason.code for reason in result.findings} == {"environment_limits"}
    honest = bank.change(estate.target("sandbox", "dev", connection={"host": "db.dev.bank.example"}), approvers=["bob"])
    assert gate(bank, honest, "sandbox").outcome is model.Outcome.PASS


REFERENCES = (
    "kv/dev/../prod/x#k",
    "kv/dev/./x#k",
    "kv/dev//x#k",
    "kv/dev/%2e%2e/prod#k",
    "kv/dev/x y#k",
    "/kv/dev/x#k",
)


@pytest.mark.parametrize("path", REFERENCES)
def test_c84_a_reference_that_a_client_would_fold_is_none(path: str) -> None:
    bank = estate.Estate(estate.targets())
    for reference, outcome in ((f"vault:{path}", model.Outcome.FAIL), ("vault:kv/dev/x#k", model.Outcome.PASS)):
        merge = bank.change(estate.target("sandbox", "dev", connection={"password": reference}), approvers=["bob"])
        assert bank.judge(merge).verdict is ACCEPT
        assert gate(bank, merge, "sandbox").outcome is outcome


def test_c72_checks_that_a_merge_loosens_run_as_they_were() -> None:
    """Options come from what stood there before, and a check that the merge drops still runs: see clearing."""
    process = lab.Process(lab.Lab())
    strict = {"deploy": {"checks": [{"opa": "compliance_policy"}, {"trivy": "scan", "with": {"severity": "LOW"}}]}}
    process.genesis(t=lab.folder("t", {"a": 1}, **strict))
    process.accept("loose", lab.folder("t", {"a": "leaky"}))
    process.clear(only="loose")
    (clearance,) = process.events(record.Clearance)
    said = {result.check: result.outcome for result in clearance.results}
    assert said["trivy: scan"] is model.Outcome.FAIL
    assert not clearance.passed
    process.log.close()


def test_c80_a_head_with_an_unsigned_commit_is_not_parsed() -> None:
    bank = estate.Estate(estate.targets())
    head = bank.branch({"targets/ledger/target.yaml": b"&a [*a]"}, signer="")
    judged = judging.examine_head(bank.store, head, bank.known(bank.tip), terms=bank.terms, now=estate.NOW)
    assert estate.codes(judged.decision) == {"unsigned_commit"}
    assert judged.effect is None
    merge = bank.merge(bank.branch(SANDBOX))
    bank.approve(merge, "bob")
    assert catalogue.Offer(bank, merge).judge_head().verdict is ACCEPT


@pytest.mark.parametrize("changed", [{"connection": {"host": "elsewhere"}}, {"health": [{"port": {"port": 22}}]}])
def test_c80_a_head_that_changes_where_it_leads_is_not_contacted(changed: dict[str, object]) -> None:
    """The same head without that is looked at, over the accepted connection."""
    files = {path: blob for path, blob in lab.folder("t", {"a": 1}).items() if blob}
    outside = lab.Lab(bank=estate.Estate(files))
    process = lab.Process(outside)
    bank = outside.bank
    admit.take_over(bank.store, process.log, bank.pin, clock=outside.clock)
    previews = preview.Previews(process.core, lambda _: {})
    head = bank.branch(lab.folder("t", {"a": 2}, **changed))
    (shown,) = previews.plan(head)
    assert (shown.plan, [reason.code for reason in shown.reasons]) == (None, ["preview"])
    assert "t" not in outside.worlds
    (shown,) = previews.plan(bank.branch(lab.folder("t", {"a": 2})))
    assert shown.plan is not None
    process.log.close()
