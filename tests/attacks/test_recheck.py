"""Between the decision to write and the write (trust.md 2.3): what is said, pushed or closed meanwhile is asked for again.

Each case runs twice: in the moment before the turn asks again, and in the moment after it, before the permit is recorded.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest
from support import estate, lab, objects

from reconciler import errors, model
from reconciler.admission import admit, judging
from reconciler.audit import record
from reconciler.convergence import deciding
from reconciler.daemon import core

NAME = "ledger"
FILES = estate.target(NAME)
CHANGED: objects.Files = {f"targets/{NAME}/resources.yaml": estate.resources(2)}
MOMENTS = ("before the turn asks again", "before the permit")


class Bank:
    """One target whose merge is accepted and cleared, and not yet written."""

    def __init__(self, spec: estate.Spec | None = None) -> None:
        self.lab = lab.Lab(bank=estate.Estate(FILES, spec=spec or estate.policy_spec()))
        self.meanwhile: Callable[[], object] = lambda: None
        self.moment = ""
        self.lab.fault = self._fault
        self.life = lab.Process(self.lab)
        lease = self.life.log.lease

        def leasing(scope: str, *, for_s: float = 120) -> None:
            lease(scope, for_s=for_s)
            if for_s > 120:  # The one before a write; a turn begins with a short one.
                self._at(MOMENTS[0])

        self.life.log.lease = leasing  # type: ignore[method-assign]
        self.core.judge()
        self.merge = self.bank.change(CHANGED)
        self.core.judge()
        self.core.turn(f"clear:{self.merge}")
        assert self.life.log.state.target(NAME).cleared is not None
        assert not self.life.log.state.pending

    @property
    def bank(self) -> estate.Estate:
        return self.lab.bank

    @property
    def core(self) -> core.Core:
        return self.life.core

    def turn(self) -> object:
        return self.core.turn(f"target:{NAME}")[0]

    def rest(self) -> object:
        """Turns until one is none that writes or waits for a moment."""
        for _ in range(10):
            move = self.turn()
            if isinstance(move, deciding.Rest | deciding.Stand):
                return move
        raise AssertionError(move)

    def _fault(self, point: str) -> None:
        if point == "before intent":
            self._at(MOMENTS[1])

    def _at(self, moment: str) -> None:
        if moment == self.moment:
            self.moment = ""
            self.meanwhile()

    def intents(self) -> int:
        return len(self.life.events(record.Intent))


def say(decision: str) -> Callable[[Bank], None]:
    def said(bank: Bank) -> None:
        revoked = {"revokes": model.sha256(b"")} if decision == "revoke" else {}
        if decision == "revoke":
            (first, *_) = bank.life.events(record.Decision)[-1].approvals
            revoked = {"revokes": first.statement}
        bank.bank.approve(bank.merge, "bob", decision=decision, **revoked)  # type: ignore[arg-type]

    return said


def by_a_poll(act: Callable[[Bank], object]) -> Callable[[Bank], None]:
    def done(bank: Bank) -> None:
        act(bank)
        with contextlib.suppress(errors.TransientError):
            bank.core.judge()

    return done


def by_upload(act: Callable[[Bank], object]) -> Callable[[Bank], None]:
    def done(bank: Bank) -> None:
        act(bank)
        bank.core.contact.note_upload()

    return done


def push(tip: Callable[[Bank], model.Oid]) -> Callable[[Bank], object]:
    return lambda bank: bank.bank.push(tip(bank))


def rewind(bank: Bank) -> model.Oid:
    return bank.bank.genesis


def sideways(bank: Bank) -> model.Oid:
    return bank.bank.store.make_commit({"x": b"1"})


def suspend(bank: Bank) -> None:
    event = record.Operator(actor="uid:0", verb="suspend", target=NAME, reason="INC1")
    bank.life.log.append(event, actor="uid:0")


def alarm(bank: Bank) -> None:
    admit.halt(bank.life.log, model.Reason(code="object_hash", message="a bad disk"))


CASES = {
    "a revoke that a poll brings": (by_a_poll(say("revoke")), "withdrawn", "approval_revoked"),
    "a revoke that is uploaded": (by_upload(say("revoke")), "withdrawn", "approval_revoked"),
    "a reject that a poll brings": (by_a_poll(say("reject")), "withdrawn", "rejected"),
    "a reject that is uploaded": (by_upload(say("reject")), "withdrawn", "rejected"),
    "a forced rewind": (by_a_poll(push(rewind)), "deferred", "rewind"),
    "a sideways push": (by_a_poll(push(sideways)), "deferred", "non_descendant"),
    "an operator": (suspend, "suspended", "suspended"),
    "an alarm of the store": (alarm, "halted", "object_hash"),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("case", CASES)
def test_what_comes_between_the_decision_and_the_write_stops_it(case: str, moment: str) -> None:
    act, code, why = CASES[case]
    bank = Bank()
    bank.meanwhile, bank.moment = (lambda: act(bank)), moment
    assert bank.turn() == deciding.Wait(0), "looked at and decided anew"
    assert bank.moment == "", "the case came to pass"
    move = bank.rest()
    assert isinstance(move, deciding.Stand)
    assert (move.code, why in {reason.code for reason in move.reasons}) == (code, True), move
    assert (bank.intents(), bank.lab.world(NAME).writes) == (0, [])


def test_nothing_between_them_lets_it_go() -> None:
    bank = Bank()
    assert isinstance(bank.rest(), deciding.Rest)
    assert bank.intents() == 1


def test_a_poll_between_them_that_brings_nothing_only_costs_a_look() -> None:
    bank = Bank()
    bank.meanwhile, bank.moment = bank.core.judge, MOMENTS[1]
    assert bank.turn() == deciding.Wait(0)
    assert isinstance(bank.rest(), deciding.Rest)
    assert bank.intents() == 1


def test_a_history_that_is_whole_again_lets_it_go() -> None:
    bank = Bank()
    bank.bank.push(bank.bank.genesis)
    bank.core.judge()
    assert isinstance(bank.rest(), deciding.Stand)
    bank.bank.push(bank.merge)
    bank.core.judge()
    assert isinstance(bank.rest(), deciding.Rest)


def test_a_replica_that_lags_lets_nothing_begin_and_is_no_alarm_yet() -> None:
    bank = Bank()
    bank.core.contact.patience = admit.Patience()
    bank.meanwhile, bank.moment = (lambda: by_a_poll(push(rewind))(bank)), MOMENTS[1]
    assert bank.turn() == deciding.Wait(0)
    move = bank.rest()
    assert isinstance(move, deciding.Stand)
    assert (move.code, move.reasons[0].code) == ("deferred", "source_error")
    assert bank.life.log.state.halted == ()
    bank.bank.push(bank.merge)
    bank.core.judge()
    assert isinstance(bank.rest(), deciding.Rest)


@pytest.mark.parametrize("code", ["rewind", "non_descendant"])
def test_drift_is_corrected_under_a_rewritten_history(code: str) -> None:
    bank = Bank()
    assert isinstance(bank.rest(), deciding.Rest)
    by_a_poll(push(rewind if code == "rewind" else sideways))(bank)
    assert bank.life.log.state.halted == (code,)
    world = bank.lab.world(NAME)
    (key,) = world.values
    world.values[key] = 7
    assert isinstance(bank.rest(), deciding.Rest)
    assert world.values[key] == 2
    assert bank.life.events(record.Intent)[-1].cause is model.Cause.DRIFT


def test_a_freeze_that_begins_between_them_defers_it_at_its_edge() -> None:
    spec = copy.deepcopy(estate.policy_spec())
    spec["freeze"] = [
        {"id": "f", "from": "2026-11-24T01:00:00Z", "to": "2026-11-24T09:00:00Z", "environments": ["prod"]}
    ]
    bank = Bank(spec)

    def later() -> None:
        bank.lab.clock.passed_s = timedelta(hours=1).total_seconds()
        bank.core.judge()

    bank.meanwhile, bank.moment = later, MOMENTS[0]
    assert bank.turn() == deciding.Wait(0)
    move = bank.rest()
    assert isinstance(move, deciding.Stand)
    assert (move.code, move.until and move.until.hour, bank.intents()) == ("deferred", 9, 0)


def test_a_source_that_has_been_silent_since_the_decision_defers_it() -> None:
    bank = Bank()
    bank.meanwhile, bank.moment = (lambda: bank.lab.clock.sleep(600)), MOMENTS[0]
    assert bank.turn() == deciding.Wait(0)
    move = bank.rest()
    assert isinstance(move, deciding.Stand)
    assert (move.code, move.reasons[0].code) == ("deferred", "source_error")


def test_a_clock_that_was_set_back_defers_it() -> None:
    bank = Bank()

    def back() -> None:
        bank.lab.clock.passed_s -= 3600

    bank.meanwhile, bank.moment = back, MOMENTS[0]
    assert bank.turn() == deciding.Wait(0)
    move = bank.rest()
    assert isinstance(move, deciding.Stand)
    assert (move.code, move.reasons[0].code) == ("deferred", "clock")


@pytest.mark.parametrize("what", ["commit", "key", "person"])
def test_what_the_next_life_denies_is_withdrawn(what: str) -> None:
    """The list is part of the configuration: it holds from the restart on."""
    bank = Bank()
    denied = {
        "commit": judging.Denied(commits=frozenset({bank.merge})),
        "key": judging.Denied(keys=frozenset({estate.key("bob").key_id})),
        "person": judging.Denied(people=frozenset({"grace"})),
    }[what]
    terms = dataclasses.replace(bank.bank.terms, denied=denied)
    bank.core.braking.terms = terms
    move = bank.rest()
    assert isinstance(move, deciding.Stand)
    assert move.code == "withdrawn"
    assert bank.intents() == 0
