"""The attack catalogue as values (trust.md 8): what somebody offers to the judge, what it must say, and the honest twin.

A case is a generator in one of the tables of tests/attacks. It is given a bank and yields one offer after the other: all are
attacks but the last, which is the honest twin and is accepted. Between two offers it may go on: approve, push, lose an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from reconciler import model, ports
from reconciler.admission import admit, form, judging
from reconciler.audit import record, state
from support import estate, objects

HALT, REJECT, HOLD, ACCEPT = model.Verdict.HALT, model.Verdict.REJECT, model.Verdict.HOLD, model.Verdict.ACCEPT
NOBODY = ("no_approval", "threshold")  # what is said beside the reason where no approval counts
LEDGER = {"targets/ledger/resources.yaml": estate.resources(2)}  # of production: two of sre
PAYMENTS = {"targets/payments/resources.yaml": estate.resources(2)}
SANDBOX = {"targets/sandbox/resources.yaml": estate.resources(2)}  # of development: one of sre

_TRUST = Path(__file__).parents[2] / "docs/design/trust.md"
_NUMBER = re.compile(r"\bC([0-9]+) (?!\(A1\))")


class Clock:
    """Stands still: what time does is said by the log."""

    def now(self) -> datetime:
        return estate.NOW

    def monotonic_s(self) -> float:
        return 0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("judging does not wait")


@dataclass(frozen=True)
class Offer:
    """The tip of the watched branch, and what is known when it is judged. `after`: the last accepted commit."""

    bank: estate.Estate
    tip: model.Oid
    after: model.Oid | None = None  # its first parent
    known: estate.Known = field(default_factory=estate.Known)
    denied: form.Denied = field(default_factory=form.Denied)

    @property
    def base(self) -> model.Oid:
        return self.after or self.bank.store.parents(self.tip)[0]

    @property
    def terms(self) -> admit.Terms:
        return replace(self.bank.terms, denied=self.denied)

    def judge(self, repository: ports.Repository | None = None) -> record.Decision:
        """What a walk from the last accepted commit says of the tip."""
        known = self.bank.known(self.base, **self.known)

        def keep(judged: judging.Judged) -> state.State:
            nonlocal known
            if judged.decision.verdict is ACCEPT:
                known = known.model_copy(update={"tip": judged.decision.revision})
            return known

        reader = repository or self.bank.store
        return judging.walk(reader, self.tip, known, keep, terms=self.terms, clock=Clock())[-1]

    def judge_head(self) -> record.Decision:
        """What is said of its second parent before it is merged."""
        head, known = self.bank.store.parents(self.tip)[1], self.bank.known(self.base, **self.known)
        return judging.examine_head(self.bank.store, head, known, terms=self.terms, now=estate.NOW).decision


Offers = Iterator[Offer]
Judge = Callable[[Offer], record.Decision]


@dataclass(frozen=True)
class Case:
    """`before_merge`: what is wrong lies in the head or in its statements, so a required check sees it."""

    number: str
    sentence: str
    verdict: model.Verdict
    codes: frozenset[str]
    offers: Callable[[], Offers]
    before_merge: bool
    in_git: bool  # the same can be shown to a real repository; of cases that differ in one value, the first

    def check(self, judge: Judge) -> None:
        """Every attack gets this verdict with exactly these codes; the honest twin is accepted."""
        made = self.offers()
        decision = judge(next(made))
        attacks = 0
        for offer in made:
            assert (decision.verdict, frozenset(estate.codes(decision))) == (self.verdict, self.codes), decision.reasons
            decision, attacks = judge(offer), attacks + 1
        assert attacks, "a case has an attack before its twin"
        assert decision.verdict is ACCEPT, decision.reasons


class Table:
    """Collects the cases of one module: `@table("C1", HOLD, "self_approval", *NOBODY)`."""

    def __init__(self) -> None:
        self.cases: list[pytest.ParameterSet] = []

    def __call__(
        self,
        number: str,
        verdict: model.Verdict,
        *codes: str,
        over: tuple[object, ...] = (),
        before_merge: bool = True,
        in_git: bool = True,
    ) -> Callable[[Callable[..., Offers]], Callable[..., Offers]]:
        """`over`: the case once for each of these, handed to it after the bank."""

        def collect(offers: Callable[..., Offers]) -> Callable[..., Offers]:
            for n, value in enumerate(over or (None,)):
                made = partial(_with_bank, offers, (value,) if over else ())
                case = Case(
                    number, offers.__name__, verdict, frozenset(codes), made, before_merge, in_git=in_git and not n
                )
                name = f"{number}-{offers.__name__}" + (f"-{n}" if over else "")
                self.cases.append(pytest.param(case, id=name))
            return offers

        return collect


def _with_bank(offers: Callable[..., Offers], values: tuple[object, ...]) -> Offers:
    return offers(estate.Estate(estate.targets()), *values)


def publish(store: objects.ObjectStore, git_dir: Path) -> None:
    """Everything that the store holds, its approvals under their refs, into a real repository."""
    empty = store.add(b"tree", b"")
    lines = ["# pack-refs with: peeled fully-peeled sorted "]
    for head, named in sorted(store._held.items()):
        for name, envelope in sorted(named.items()):
            made = store.make_commit({"envelope.json": envelope}, tree=empty)
            lines.append(f"{made} refs/approvals/v1/{head}/{name}")
    store.export(git_dir)
    (git_dir / "packed-refs").write_text("\n".join(lines) + "\n")


def with_people(**people: estate.Spec) -> estate.Estate:
    return estate.Estate(estate.targets(), spec=estate.changed(estate.policy_spec(), **people))


def numbers() -> frozenset[str]:
    """Every case that the design lists, but those that wait whole for the connectors of forges."""
    catalogue = _TRUST.read_text().split("## 8. ", 1)[1].split("\n## ", 1)[0]
    return frozenset(f"C{found}" for found in _NUMBER.findall(catalogue))
