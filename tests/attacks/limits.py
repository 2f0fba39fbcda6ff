"""Too much of anything: it is refused, in bounded memory and time, and hides nothing honest."""

from __future__ import annotations

from support import estate, objects
from support.catalogue import HOLD, LEDGER, NOBODY, REJECT, SANDBOX, Offer, Offers, Table

case = Table()
FOLDER = "targets/ledger"
LARGE: tuple[objects.Files, ...] = (
    {f"{FOLDER}/x": b"a" * ((1 << 20) + 1)},
    {f"{FOLDER}/{'a/' * 32}x": b"{}"},
    {f"{FOLDER}/{'a' * 250}/{'b' * 250}/{'c' * 250}/{'d' * 255}/e": b"{}"},
)


@case("C62", REJECT, "limit", over=LARGE)
def a_tree_that_is_too_large(bank: estate.Estate, files: objects.Files) -> Offers:
    head = bank.branch(files)
    merge = bank.merge(head, tree=bank.store.tree_id(head))
    yield Offer(bank, merge)
    bank.push(bank.genesis)
    yield Offer(bank, bank.change(LEDGER))


@case("C62", REJECT, "limit")
def more_files_than_the_policy_allows(_: estate.Estate) -> Offers:
    bank = estate.Estate(estate.targets(), spec={**estate.policy_spec(), "defaults": {"maxFiles": 12}})
    for count in (9, 1):
        merge = bank.merge(bank.branch({f"{FOLDER}/{n}": b"" for n in range(count)}))
        bank.approve(merge, *estate.SRE)
        yield Offer(bank, merge)


@case("C62", REJECT, "limit")
def a_file_that_is_larger_than_the_policy_allows(_: estate.Estate) -> Offers:
    bank = estate.Estate(estate.targets(), spec={**estate.policy_spec(), "defaults": {"maxBlob": "4KiB"}})
    for size in ((4 << 10) + 1, 4 << 10):
        merge = bank.merge(bank.branch({f"{FOLDER}/x": b"a" * size}))
        bank.approve(merge, *estate.SRE)
        yield Offer(bank, merge)


@case("C62", REJECT, "limit")
def more_targets_than_a_record_holds(bank: estate.Estate) -> Offers:
    for count in (700, 7):
        one = estate.target("t0", "dev").items()
        names = [f"t{n}" for n in range(count)]
        files = {path.replace("t0", name): blob.replace(b"t0", name.encode()) for name in names for path, blob in one}
        merge = bank.merge(bank.branch(files))
        bank.approve(merge, "bob")
        yield Offer(bank, merge)


@case("C87", HOLD, "limit", *NOBODY)
def more_approval_refs_than_are_read(bank: estate.Estate) -> Offers:
    """They hold this head alone."""
    merge = bank.merge(bank.branch(LEDGER))
    bank.approve(merge, *estate.SRE)
    for n in range(objects.MAX_ENVELOPES):
        bank.store.add_envelope(bank.store.parents(merge)[1], b"%d" % n)
    yield Offer(bank, merge)
    yield Offer(bank, bank.change(SANDBOX, approvers=["bob"]))


@case("C87", HOLD, "key_unknown", *NOBODY)
def envelopes_by_unknown_keys(bank: estate.Estate) -> Offers:
    merge = bank.change(SANDBOX, approvers=[])
    bound = bank.binding(merge)
    for n in range(300):
        bank.approve(merge, "bob", binding=bound, with_key=f"stranger-{n}")
    yield Offer(bank, merge)
    bank.approve(merge, "bob")
    yield Offer(bank, merge)
