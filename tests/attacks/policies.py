"""Changes of the rules, what the rules do not name, and what they ask for beside the usual."""

from __future__ import annotations

from support import estate
from support.catalogue import HOLD, LEDGER, REJECT, Offer, Offers, Table

case = Table()
WHO = ("bob", *estate.ADMINS)


def _prod(count: int) -> estate.Spec:
    spec = estate.policy_spec()
    spec["rules"][1]["need"] = [estate.need("sre", count)]
    return spec


@case("C38", HOLD, "threshold")
def approved_before_another_merge_raised_the_threshold(bank: estate.Estate) -> Offers:
    head = bank.branch(LEDGER)
    bank.approve(bank.merge(head), *estate.SRE)
    bank.change_policy(_prod(3))
    merge = bank.merge(head)
    yield Offer(bank, merge)
    bank.approve(merge, "heidi")
    yield Offer(bank, merge)


@case("C40", HOLD, "threshold")
def a_lower_threshold_and_its_use_in_one_merge(bank: estate.Estate) -> Offers:
    """Both old rules hold, that of production and that of the policies."""
    files = {estate.POLICY_PATH: estate.policy_blob(_prod(1)), **LEDGER}
    for people in (WHO, ("bob", "grace"), ("bob", "dan", "grace"), ("bob", "grace", *estate.ADMINS)):
        merge = bank.merge(bank.branch(files))
        bank.approve(merge, *people)
        yield Offer(bank, merge)


@case("C42", HOLD, "policy_expired")
def a_change_under_a_policy_that_has_expired(_: estate.Estate) -> Offers:
    bank = estate.Estate(estate.targets(), spec={**estate.policy_spec(), "expires": "2026-11-24T11:00:00Z"})
    merge = bank.merge(bank.branch(LEDGER))
    bank.approve(merge, *estate.SRE)
    yield Offer(bank, merge)
    yield Offer(bank, bank.change_policy({**estate.policy_spec(), "expires": "2027-03-01T00:00:00Z"}))


@case("C72", HOLD, "threshold")
def a_changed_rego_file(bank: estate.Estate) -> Offers:
    merge = bank.change({"policies/x.rego": b"package x"}, approvers=["bob", "grace"])
    yield Offer(bank, merge)
    bank.approve(merge, *estate.ADMINS)
    yield Offer(bank, merge)


@case("C75", REJECT, "policy_lint", over=("bob*", "bob\nalice", "*", " bob"))
def a_name_that_could_mean_somebody_else(bank: estate.Estate, name: str) -> Offers:
    for called in (name, "robert"):
        spec = estate.policy_spec()
        spec["people"][called] = spec["people"].pop("bob")
        spec["teams"]["sre"] = ["alice", called, "grace", "heidi"]
        merge = bank.merge(bank.branch({estate.POLICY_PATH: estate.policy_blob(spec)}))
        bank.approve(merge, *WHO)
        yield Offer(bank, merge)


@case("C78", REJECT, "environment")
def an_environment_that_the_policy_does_not_name(bank: estate.Estate) -> Offers:
    for environment in ("prd", "prod"):
        files = estate.target("ledger", environment) | LEDGER
        merge = bank.merge(bank.branch(files))
        bank.approve(merge, *estate.SRE)
        yield Offer(bank, merge)


@case("C81", HOLD, "threshold")
def an_acknowledgement_without_the_slot_of_its_hazard(bank: estate.Estate) -> Offers:
    entry = {"hazard": "deletes_data", "key": "item/n/one", "reason": "CHG1"}
    merge = bank.change(estate.target("ledger", acknowledge=[entry]))
    yield Offer(bank, merge)
    bank.approve(merge, "carol")
    yield Offer(bank, merge)
