"""One pass of the first loop on a real log: what is recorded, when it halts, and where trust starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta

import pytest
from support import estate, logs, objects, signing

from reconciler import documents, errors, model
from reconciler.admission import admit, admitted, form, withdrawing
from reconciler.audit import log, record

LEDGER = {"targets/ledger/resources.yaml": estate.resources(2)}
SANDBOX = {"targets/sandbox/resources.yaml": estate.resources(2)}
ACCEPT, HOLD, REJECT = model.Verdict.ACCEPT, model.Verdict.HOLD, model.Verdict.REJECT


class Daemon:
    """A bank that is watched: its log, taken over from genesis."""

    def __init__(self) -> None:
        self.bank = estate.Estate(estate.targets())
        self.clock = logs.Clock()
        self.log: log.Log = logs.make_log(clock=self.clock)
        self.log.lease("watch")
        admit.take_over(self.bank.store, self.log, self.bank.pin, clock=self.clock)

    def poll(self, patience: admit.Patience | None = None) -> tuple[record.Decision, ...]:
        return admit.admit(
            self.bank.store, self.bank.store, self.log, terms=self.bank.terms, clock=self.clock, patience=patience
        )

    def events(self) -> list[record.Event]:
        return [entry.event for entry in self.log.records()]

    def types(self) -> list[str]:
        return [event.type for event in self.events()]


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    made = Daemon()
    yield made
    made.log.close()


def halts(daemon: Daemon) -> list[tuple[str, ...]]:
    return [event.codes for event in daemon.events() if isinstance(event, record.Halt)]


def test_genesis_takes_every_target_over(daemon: Daemon) -> None:
    (event,) = daemon.events()
    assert isinstance(event, record.Genesis)
    assert event.targets == documents.target_digests(daemon.bank.store.tree(daemon.bank.genesis))
    assert daemon.log.state.tip == daemon.bank.genesis
    assert all(target.taken_over for target in daemon.log.state.targets.values())


def test_a_genesis_of_a_thousand_targets_takes_several_records_and_one_state() -> None:
    files = {k: v for n in range(800) for k, v in estate.target(f"a-target-with-a-long-name-number-{n:04}").items()}
    bank, clock = estate.Estate(files), logs.Clock()
    kept = logs.make_log(clock=clock)
    kept.lease("watch")
    admit.take_over(bank.store, kept, bank.pin, clock=clock)
    assert [e.event.type for e in kept.records()] == ["genesis", "taken_over", "taken_over"]
    wanted = {n: t.cleared.digest for n, t in kept.state.targets.items() if t.cleared and t.taken_over}
    assert wanted == documents.target_digests(bank.store.tree(bank.genesis))
    kept.close()


def test_a_second_start_takes_nothing_over_again(daemon: Daemon) -> None:
    daemon.bank.change(LEDGER)
    daemon.poll()
    admit.take_over(daemon.bank.store, daemon.log, daemon.bank.pin, clock=daemon.clock)
    assert daemon.types().count("genesis") == 1
    assert daemon.log.state.tip == daemon.bank.tip


def test_what_genesis_took_over_may_be_written_when_the_operator_says_so_later(daemon: Daemon) -> None:
    bank, pin = daemon.bank, dataclasses.replace(daemon.bank.pin, converge=True)
    bank.change(LEDGER)
    daemon.poll()
    admit.let_converge(daemon.log, bank.pin)
    assert "taken_over" not in daemon.types()
    admit.let_converge(daemon.log, pin)
    targets = daemon.log.state.targets
    assert [name for name, each in targets.items() if each.taken_over] == ["ledger"]  # a merge waits for its gates
    assert targets["ledger"].waiting == bank.tip
    admit.let_converge(daemon.log, pin)
    assert daemon.types().count("taken_over") == 1


def test_after_a_reset_nothing_is_written_until_a_merge_touches_it_whatever_is_said(daemon: Daemon) -> None:
    bank = daemon.bank
    moved = dataclasses.replace(bank.pin, genesis=bank.change(LEDGER), reason="CHG2: history mended", converge=True)
    admit.take_over(bank.store, daemon.log, moved, clock=daemon.clock)
    admit.let_converge(daemon.log, moved)
    assert all(target.taken_over for target in daemon.log.state.targets.values())


def test_a_merge_is_seen_and_then_accepted_with_its_envelopes_as_evidence(daemon: Daemon) -> None:
    merge = daemon.bank.merge(daemon.bank.branch(LEDGER))
    envelopes = daemon.bank.approve(merge, *estate.SRE)
    daemon.bank.push(merge)
    (decision,) = daemon.poll()
    assert decision.verdict is ACCEPT, decision.reasons
    assert daemon.types() == ["genesis", "seen", "seen", "seen", "decision"]
    subjects = {event.subject for event in daemon.events() if isinstance(event, record.Seen)}
    assert subjects == {merge, *(f"sha256:{model.sha256(e)}" for e in envelopes)}
    assert [daemon.log.evidence(model.sha256(e)) for e in envelopes] == list(envelopes)
    assert daemon.log.state.tip == merge
    assert daemon.log.state.target("ledger").waiting == merge


def test_a_poll_that_finds_nothing_new_records_nothing(daemon: Daemon) -> None:
    daemon.bank.change(LEDGER, approvers=["bob"])
    daemon.poll()
    before = daemon.types()
    assert [d.verdict for d in daemon.poll()] == [HOLD]
    assert daemon.types() == before


def test_a_held_merge_goes_in_when_its_last_approval_comes(daemon: Daemon) -> None:
    merge = daemon.bank.change(LEDGER, approvers=["bob"])
    assert [d.verdict for d in daemon.poll()] == [HOLD]
    head = daemon.bank.store.parents(merge)[1]
    late = signing.approve(estate.key("grace"), "grace", daemon.bank.binding(merge))
    daemon.bank.store.add_envelope(head, late, held=False)
    assert [d.verdict for d in daemon.poll()] == [ACCEPT]


def test_the_next_merge_is_judged_after_the_one_before_it(daemon: Daemon) -> None:
    daemon.bank.change(LEDGER)
    daemon.bank.change(SANDBOX, approvers=["bob"])
    daemon.bank.change({"README": b"x"}, approvers=[])
    assert [d.verdict for d in daemon.poll()] == [ACCEPT, ACCEPT, HOLD]


def test_keys_are_judged_at_the_time_that_was_logged(daemon: Daemon) -> None:
    """The key of the approver ends between the first observation and the decision."""
    spec = estate.changed(
        estate.policy_spec(), bob=estate.person("bob", estate.key_document("bob", notAfter="2026-11-24T01:00:00Z"))
    )
    daemon.bank.change_policy(spec)
    assert [d.verdict for d in daemon.poll()] == [ACCEPT]
    merge = daemon.bank.change(LEDGER, approvers=["bob"])
    assert [d.verdict for d in daemon.poll()] == [HOLD]
    daemon.clock.sleep(2 * 3600)
    daemon.bank.approve(merge, "grace")
    assert [d.verdict for d in daemon.poll()] == [ACCEPT]


def test_envelopes_by_strangers_leave_no_trace_in_the_log(daemon: Daemon) -> None:
    merge = daemon.bank.change(LEDGER)
    for n in range(5):
        daemon.bank.approve(merge, "bob", with_key=f"stranger-{n}")
    daemon.poll()
    assert daemon.types().count("seen") == 3


@pytest.mark.parametrize("to", ["genesis", "sibling", "nowhere"])
def test_a_rewritten_history_halts_and_a_mended_one_goes_on(daemon: Daemon, to: str) -> None:
    bank = daemon.bank
    accepted = bank.change(LEDGER)
    daemon.poll()
    sibling = bank.merge(bank.branch(SANDBOX, on=bank.genesis), base=bank.genesis)
    tip, code = {
        "genesis": (bank.genesis, "rewind"),
        "sibling": (sibling, "non_descendant"),
        "nowhere": (None, "ref_missing"),
    }[to]
    bank.store.push(tip)
    for _ in range(2):
        assert daemon.poll() == ()
    assert daemon.log.state.halted == (code,)
    assert daemon.log.state.tip == accepted
    bank.push(accepted)
    daemon.poll()
    assert halts(daemon) == [(code,), ()]


def test_a_running_daemon_gives_a_lagging_replica_two_polls(daemon: Daemon) -> None:
    bank, patience = daemon.bank, admit.Patience()
    bank.change(LEDGER)
    daemon.poll(patience)
    bank.store.lagging = 1
    for _ in range(2):
        with pytest.raises(errors.TransientError) as waits:
            daemon.poll(patience)
        assert waits.value.code == "source_error"
    assert halts(daemon) == []
    daemon.poll(patience)
    assert halts(daemon) == [("rewind",)]
    bank.store.lagging = 0
    daemon.poll(patience)
    assert (halts(daemon), patience.polls) == ([("rewind",), ()], 0)


def test_a_source_that_is_away_concludes_nothing(daemon: Daemon) -> None:
    daemon.bank.store.down = True
    with pytest.raises(errors.TransientError):
        daemon.poll()
    assert daemon.types() == ["genesis"]


def test_a_moved_pin_without_a_reason_halts_until_it_is_put_back(daemon: Daemon) -> None:
    bank, pin = daemon.bank, daemon.bank.pin
    merge = bank.change(LEDGER)
    moved = admit.Pin(merge, pin.reason, pin.source_id, pin.source_ref, production=False)
    assert admit.take_over(bank.store, daemon.log, moved, clock=daemon.clock).halted == ("pin",)
    assert daemon.poll() == ()
    assert daemon.types() == ["genesis", "halt"]
    assert admit.take_over(bank.store, daemon.log, pin, clock=daemon.clock).halted == ()
    assert [d.verdict for d in daemon.poll()] == [ACCEPT]


def test_a_moved_pin_with_a_reason_of_its_own_is_a_reset(daemon: Daemon) -> None:
    bank, pin = daemon.bank, daemon.bank.pin
    merge = bank.change(LEDGER, approvers=[])
    daemon.poll()
    moved = admit.Pin(merge, "CHG2: history mended", pin.source_id, pin.source_ref, production=False)
    after = admit.take_over(bank.store, daemon.log, moved, clock=daemon.clock)
    assert (after.tip, after.genesis, after.held) == (merge, merge, {})
    reset = daemon.events()[-1]
    assert isinstance(reset, record.Reset)
    assert (reset.before, reset.reason) == (bank.genesis, "CHG2: history mended")


def test_a_rewritten_history_ends_by_a_descendant_or_by_a_reset_and_both_events_are_recorded(daemon: Daemon) -> None:
    bank, pin = daemon.bank, daemon.bank.pin
    accepted = bank.change(LEDGER)
    daemon.poll()
    for tip, code in ((bank.genesis, "rewind"), (bank.store.make_commit({"x": b"1"}), "non_descendant")):
        bank.push(tip)
        assert daemon.poll() == ()
        assert daemon.log.state.halted == (code,)
        bank.push(accepted)
        daemon.poll()
        opened, closed = (e for e in daemon.events()[-2:] if isinstance(e, record.Halt))
        assert (opened.codes, opened.reasons[0].code) == ((code,), code)
        assert (closed.codes, closed.ended) == ((), (code,))
        assert "descendant" in closed.why
    bank.push(bank.genesis)
    daemon.poll()
    moved = admit.Pin(bank.genesis, "CHG3: the merge is undone", pin.source_id, pin.source_ref, production=False)
    daemon.log.append(record.Reset(before=None, revision=accepted, reason="CHG2", targets={}))
    after = admit.take_over(bank.store, daemon.log, moved, clock=daemon.clock)
    assert after.halted == ()
    assert [event.type for event in daemon.events()[-2:]] == ["reset", "halt"]


def test_a_reset_does_not_silence_an_alarm_of_the_store(daemon: Daemon) -> None:
    bank, pin = daemon.bank, daemon.bank.pin
    merge = bank.change(LEDGER, approvers=[])
    daemon.log.append(record.Halt(codes=("object_hash", "rewind")))
    moved = admit.Pin(merge, "CHG2: history mended", pin.source_id, pin.source_ref, production=False)
    assert admit.take_over(bank.store, daemon.log, moved, clock=daemon.clock).halted == ("object_hash",)


@pytest.mark.parametrize("broken", ["no policy", "another repository", "one admin", "a symlink"])
def test_trust_does_not_start_from_what_breaks_the_rules(broken: str) -> None:
    bank = estate.Estate(estate.targets())
    spec = estate.policy_spec()
    spec["teams"]["policy-admins"] = ["dan"]
    broken_by: dict[str, objects.Files] = {
        "no policy": {estate.POLICY_PATH: None},
        "another repository": {},
        "one admin": {estate.POLICY_PATH: estate.policy_blob(spec)},
        "a symlink": {"targets/ledger/x": ("120000", b"resources.yaml")},
    }
    source_id = (
        "urn:uuid:00000000-0000-0000-0000-000000000000" if broken == "another repository" else bank.pin.source_id
    )
    pin = admit.Pin(
        bank.store.make_commit(broken_by[broken], bank.genesis), "CHG1", source_id, bank.pin.source_ref, production=True
    )
    audit = logs.make_log()
    audit.lease("watch")
    with pytest.raises(errors.ConfigError):
        admit.take_over(bank.store, audit, pin, clock=logs.Clock())
    assert audit.state.genesis is None
    audit.close()


# --- what was admitted, read back ---


def accept(daemon: Daemon, files: dict[str, bytes], *people: str) -> model.Version:
    daemon.bank.change(files, approvers=people or ("bob", "grace", "carol"))
    (decision,) = daemon.poll()
    assert decision.verdict is ACCEPT, decision.reasons
    digest = decision.targets["ledger"]
    assert digest
    return model.Version(revision=decision.revision, digest=digest)


def confirm(daemon: Daemon, version: model.Version) -> None:
    daemon.log.lease("target:ledger")
    daemon.log.append(record.Confirmed(target="ledger", version=version, fingerprint=model.Digest("0" * 64)))


def test_what_the_log_did_not_accept_is_not_even_parsed(daemon: Daemon) -> None:
    accept(daemon, {"targets/ledger/target.yaml": b"kind: Nothing\n"}, "bob", "grace", "carol")
    tampered = model.Version(revision=daemon.bank.tip, digest=model.Digest("0" * 64))
    with pytest.raises(errors.AuditError) as refused:
        admitted.read_admitted(daemon.bank.store, daemon.log, "ledger", tampered)
    assert refused.value.code == "content"


def test_the_delete_budget_is_the_smaller_of_what_stood_there_and_stands_there_now(daemon: Daemon) -> None:
    confirm(daemon, accept(daemon, estate.target("ledger", deletes={"max": 3, "maxPercent": 50})))
    wider = accept(daemon, estate.target("ledger", deletes={"max": 9, "maxPercent": 5}))
    read = admitted.read_admitted(daemon.bank.store, daemon.log, "ledger", wider).state
    assert (read.max_deletes, read.max_delete_percent) == (3, 5)


def test_acknowledgements_count_when_added_since_the_last_confirmed_state(daemon: Daemon) -> None:
    entry = {"hazard": "deletes_data", "key": "item/n/one", "reason": "CHG1"}
    confirm(daemon, accept(daemon, estate.target("ledger", acknowledge=[entry])))
    accept(daemon, estate.target("ledger", acknowledge=[entry, {**entry, "key": "item/n/two"}]))
    last = accept(daemon, LEDGER)
    read = admitted.read_admitted(daemon.bank.store, daemon.log, "ledger", last)
    assert read.acknowledged == {("deletes_data", "item/n/two")}


def test_a_snapshot_is_read_back_from_the_evidence(daemon: Daemon) -> None:
    snapshot = model.Snapshot(target="ledger", kind="memory", connection={}, resources={model.Key("item/n/one"): 1})
    daemon.log.append(record.Seen(subject="0" * 40), evidence=(snapshot.canonical(),))
    version = model.Version(revision=None, digest=snapshot.digest)
    assert admitted.read_admitted(daemon.bank.store, daemon.log, "ledger", version).state == snapshot


def test_the_clock_of_the_log_is_what_a_poll_decides_by(daemon: Daemon) -> None:
    """Approvals end while a merge waits."""
    daemon.bank.change(LEDGER, approvers=["bob"])
    daemon.poll()
    daemon.clock.sleep(timedelta(days=8).total_seconds())
    (decision,) = daemon.poll()
    assert "ttl" in estate.codes(decision)


# --- between the acceptance and the write ---


def test_a_rejection_or_a_denial_withdraws_and_time_does_not(daemon: Daemon) -> None:
    bank = daemon.bank
    merge = bank.change(LEDGER)
    (decision,) = daemon.poll()
    daemon.clock.sleep(timedelta(days=40).total_seconds())
    denied = admit.Terms(form.Denied(people=frozenset({"grace"})), production=False)
    assert withdrawing.withdrawn(bank.store, decision, daemon.log.state, terms=bank.terms) == ()
    assert withdrawing.withdrawn(bank.store, decision, daemon.log.state, terms=denied)
    bank.approve(merge, "heidi", decision="reject")
    found = withdrawing.withdrawn(bank.store, decision, daemon.log.state, terms=bank.terms)
    assert [reason.code for reason in found] == ["rejected"]
