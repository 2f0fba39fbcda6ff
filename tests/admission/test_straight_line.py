"""One good merge goes in; one without its signature does not."""

from __future__ import annotations

from support import estate

from reconciler import model

LEDGER = {"targets/ledger/resources.yaml": estate.resources(2)}


def test_a_signed_and_approved_merge_is_accepted() -> None:
    bank = estate.Estate(estate.targets())
    decision = bank.judge(bank.change(LEDGER))
    assert decision.verdict is model.Verdict.ACCEPT, decision.reasons
    assert decision.reasons == ()


def test_an_unsigned_merge_is_rejected() -> None:
    bank = estate.Estate(estate.targets())
    decision = bank.judge(bank.change(LEDGER, signer=""))
    assert (decision.verdict, estate.codes(decision)) == (model.Verdict.REJECT, {"unsigned_merge"})
