"""Laws of the judge (trust.md 8, property tests): what may vary, and what never lets a merge in.

RECONCILER_EXAMPLES=2000 looks at so many examples of each, and at every single bit of a merge, an envelope and a policy; without it
a few dozen are enough to keep the suite short.
"""

from __future__ import annotations

import base64
import functools
import json
import random
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import estate, examples, objects, signing

from reconciler import errors, model
from reconciler.admission import ballot, judging

FILES = {
    "targets/ledger/resources.yaml": estate.resources(2),
    "targets/edge/firewall.yaml": b"{}",
    "policies/x.rego": b"package x",
}
APPROVERS = ("bob", "grace", "carol", "dan", "frank")
EXAMPLES = examples.at_least(40)
THOUSANDS = 1000
QUICK = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ACCEPT, HOLD = model.Verdict.ACCEPT, model.Verdict.HOLD

pytestmark = pytest.mark.timeout(1800)  # Thousands of examples take minutes.


@functools.cache
def accepted() -> tuple[estate.Estate, model.Oid, tuple[bytes, ...]]:
    """A bank and a merge that needs each of its five approvals, of which none is in place yet."""
    bank = estate.Estate(estate.targets())
    merge = bank.merge(bank.branch(FILES))
    bound = bank.binding(merge)
    return bank, merge, tuple(signing.approve(estate.key(name), name, bound) for name in APPROVERS)


def judge(envelopes: tuple[bytes, ...], merge: model.Oid | None = None) -> model.Verdict:
    bank, good, _ = accepted()
    held = bank.store._held
    head = bank.store.parents(good)[1]
    held[head[:12]] = {f"{n:02}": envelope for n, envelope in enumerate(envelopes)}
    known = bank.known()
    return judging.judge(bank.store, merge or good, known, terms=bank.terms, now=estate.NOW).verdict


def test_the_whole_set_of_approvals_is_accepted() -> None:
    assert judge(accepted()[2]) is ACCEPT


def test_without_any_one_of_a_minimal_set_it_is_held() -> None:
    _, _, envelopes = accepted()
    for n in range(len(envelopes)):
        assert judge(envelopes[:n] + envelopes[n + 1 :]) is HOLD


CHANGES: dict[str, bytes] = {
    "targets/ledger/resources.yaml": estate.resources(3),
    "targets/payments/resources.yaml": estate.resources(3),
    "targets/sandbox/resources.yaml": estate.resources(3),
    "targets/edge/firewall.yaml": b"{}",
    "targets/edge/target.yaml": estate.target("edge", "prod", "network")["targets/edge/target.yaml"],
    "policies/x.rego": b"package x",
    "README": b"x",
}
EVERYBODY = tuple(person for person in estate.PEOPLE if person != "alice")


@QUICK
@given(st.sets(st.sampled_from(sorted(CHANGES)), min_size=1), st.permutations(EVERYBODY))
def test_a_minimal_set_of_approvals_of_any_change_loses_nothing(paths: set[str], order: list[str]) -> None:
    """People leave in a random order, as long as it is still accepted; who is left cannot be spared."""
    bank = changing()
    merge = bank.merge(bank.branch({path: CHANGES[path] for path in sorted(paths)}))
    bound = bank.binding(merge)
    head = bank.store.parents(merge)[1]
    made = {person: signing.approve(estate.key(person), person, bound) for person in EVERYBODY}

    def verdict(people: list[str]) -> model.Verdict:
        bank.store._held[head[:12]] = {person: made[person] for person in people}
        return bank.judge(merge).verdict

    left = list(EVERYBODY)
    assert verdict(left) is ACCEPT
    for person in order:
        fewer = [each for each in left if each != person]
        if verdict(fewer) is ACCEPT:
            left = fewer
    assert left
    for person in left:
        assert verdict([each for each in left if each != person]) is HOLD


@functools.cache
def changing() -> estate.Estate:
    return estate.Estate(estate.targets())


@pytest.mark.parametrize("zone", ["UTC", "Asia/Jakarta", "America/St_Johns", "Pacific/Chatham"])
def test_the_zone_of_the_machine_changes_no_verdict(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = estate.Estate(estate.targets(), spec={**estate.policy_spec(), "expires": "2026-11-24T12:00:01Z"})
    merge = bank.change({"targets/sandbox/resources.yaml": estate.resources(2)}, approvers=["bob"])
    here = bank.judge(merge)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert bank.judge(merge) == here
    finally:
        monkeypatch.undo()
        time.tzset()


@QUICK
@given(st.permutations(range(len(APPROVERS))), st.integers(0, len(APPROVERS)))
def test_the_order_of_the_envelopes_does_not_matter(order: list[int], left_out: int) -> None:
    _, _, envelopes = accepted()
    shuffled = tuple(envelopes[n] for n in order if n != left_out)
    assert judge(shuffled) is (ACCEPT if left_out == len(APPROVERS) else HOLD)


@QUICK
@given(st.integers(0, len(APPROVERS) - 1), st.data())
def test_a_flipped_bit_of_an_envelope_never_lets_a_merge_in(which: int, data: st.DataObject) -> None:
    """Of what is bound: the payload and the signature. The wrapping around them is not."""
    _, _, envelopes = accepted()
    document = json.loads(envelopes[which])
    signature = document["signatures"][0]
    place, field = data.draw(st.sampled_from([(document, "payload"), (signature, "sig")]))
    raw = bytearray(base64.b64decode(place[field]))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    place[field] = base64.b64encode(bytes(raw)).decode()
    flipped = model.canonical_json(document)
    assert judge((*envelopes[:which], flipped, *envelopes[which + 1 :])) is not ACCEPT


@QUICK
@given(st.data())
def test_a_flipped_bit_of_the_merge_never_lets_it_in(data: st.DataObject) -> None:
    bank, merge, envelopes = accepted()
    raw = bytearray(bank.store.commit(merge))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert judge(envelopes, bank.store.add(b"commit", bytes(raw))) is not ACCEPT


@QUICK
@given(st.data())
def test_a_flipped_bit_of_the_head_never_lets_it_in(data: st.DataObject) -> None:
    """The merge is signed anew, by the forge, around a head that nobody signed so."""
    bank, merge, envelopes = accepted()
    raw = bytearray(bank.store.commit(bank.store.parents(merge)[1]))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    head = bank.store.add(b"commit", bytes(raw))
    forged = bank.store.make_commit(
        {}, bank.genesis, head, author=objects.FORGE, key=estate.key("forge"), tree=bank.store.tree_id(merge)
    )
    for envelope in envelopes:
        bank.store.add_envelope(head, envelope)
    assert judge(envelopes, forged) is not ACCEPT


@QUICK
@given(st.integers(0, 1 << 16))
def test_a_flipped_bit_of_the_policy_never_lets_it_in_as_it_was_approved(seed: int) -> None:
    """A policy is what approvals bind like any other content: one bit makes another effect."""
    bank = estate.Estate(estate.targets())
    spec = estate.policy_spec()
    spec["rules"][1]["need"] = [estate.need("sre", 3)]
    blob = estate.policy_blob(spec)
    good = bank.merge(bank.branch({estate.POLICY_PATH: blob}))
    flipped = bytearray(blob)
    bit = random.Random(seed).randrange(len(flipped) * 8)
    flipped[bit // 8] ^= 1 << bit % 8
    head = bank.branch({estate.POLICY_PATH: bytes(flipped)})
    bad = bank.merge(head)
    bank.approve(good, "bob", *estate.ADMINS)
    bank.approve(bad, "bob", *estate.ADMINS, binding=bank.binding(good, head=head))
    assert bank.judge(good).verdict is ACCEPT
    assert bank.judge(bad).verdict is not ACCEPT


def bits(raw: bytes, seed: int) -> Iterator[bytes]:
    """With one bit flipped: each of them once where examples are asked for by the thousand, else some."""
    every = range(len(raw) * 8)
    for bit in every if EXAMPLES >= THOUSANDS else random.Random(seed).sample(every, EXAMPLES):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def test_no_bit_of_the_merge_can_be_flipped() -> None:
    bank, merge, envelopes = accepted()
    for raw in bits(bank.store.commit(merge), 1):
        assert judge(envelopes, bank.store.add(b"commit", raw)) is not ACCEPT, raw


@pytest.mark.parametrize("field", ["payload", "sig"])
def test_no_bit_of_an_envelope_can_be_flipped(field: str) -> None:
    _, _, (first, *others) = accepted()
    document = json.loads(first)
    place = document if field == "payload" else document["signatures"][0]
    for raw in bits(base64.b64decode(place[field]), 2):
        place[field] = base64.b64encode(raw).decode()
        assert judge((model.canonical_json(document), *others)) is not ACCEPT, raw


def test_no_bit_of_the_policy_in_force_can_be_flipped() -> None:
    """It lies under the name of what it was: that is an alarm, and no verdict."""
    bank = estate.Estate(estate.targets())
    merge = bank.merge(bank.branch(FILES))
    bank.approve(merge, *APPROVERS)
    blob = estate.policy_blob(bank.spec)
    oid = bank.store.tree(bank.genesis)[estate.POLICY_PATH.encode()].oid
    assert bank.judge(merge).verdict is ACCEPT
    for raw in bits(blob, 3):
        bank.store.damage(oid, raw)
        with pytest.raises(errors.AuditError):
            bank.judge(merge)
    bank.store.damage(oid, blob)
    assert bank.judge(merge).verdict is ACCEPT


@QUICK
@given(st.binary(max_size=200), st.text(max_size=60))
def test_text_trailers_and_unsigned_objects_never_let_a_held_merge_in(junk: bytes, text: str) -> None:
    bank, good, envelopes = accepted()
    message = "".join(c for c in text if c != "\0" and not "\ud800" <= c <= "\udfff")
    head = bank.store.make_commit(FILES, bank.genesis, key=estate.key("alice"), message=f"x\n\n{message}\n")
    merge = bank.store.make_merge(bank.genesis, head, estate.key("forge"))
    bound = bank.binding(merge)
    for person in APPROVERS[:-1]:
        bank.store.add_envelope(head, signing.approve(estate.key(person), person, bound))
    bank.store.add_envelope(head, junk)
    for envelope in envelopes:
        bank.store.add_envelope(head, envelope)
    assert judging.judge(bank.store, merge, bank.known(), terms=bank.terms, now=estate.NOW).verdict is HOLD
    assert bank.store.tree_id(merge) == bank.store.tree_id(good)


def test_more_than_eight_approvals_by_one_key_are_not_read() -> None:
    bank = estate.Estate(estate.targets())
    merge = bank.change({"targets/sandbox/x": b"1"}, approvers=[])
    wrong = [bank.binding(merge).model_copy(update={"effect": f"{n:064x}"}) for n in range(20)]
    for bound in wrong:
        bank.approve(merge, "bob", binding=bound)
    assert len(bank.judge(merge).approvals) == ballot.MAX_PER_KEY


NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name and b"/" not in name)
PLACES = st.sampled_from([b"targets/ledger/", b"targets/", b"policies/", b"", b"targets/ledger/deep/"])


@QUICK
@given(
    st.dictionaries(st.builds(bytes.__add__, PLACES, NAMES), st.binary(max_size=80), max_size=5), st.binary(max_size=80)
)
def test_whatever_a_branch_brings_it_is_judged_and_can_be_recorded(files: dict[bytes, bytes], text: bytes) -> None:
    bank = estate.Estate(estate.targets())
    files = {b"targets/edge/target.yaml": text, b"targets/new/target.yaml": text, **files}
    try:
        head = bank.branch(files)
    except ValueError:  # A name that is a file and a folder at once: no tree.
        return
    merge = bank.merge(head, tree=bank.store.tree_id(head))
    judged = judging.examine(bank.store, merge, bank.known(), terms=bank.terms, now=estate.NOW)
    assert judged.decision.verdict is not ACCEPT
    assert len(judged.decision.canonical()) < 1 << 16


@QUICK
@given(raw=st.binary(max_size=300), is_head=st.booleans())
def test_whatever_lies_where_a_commit_should_be_it_is_judged(*, raw: bytes, is_head: bool) -> None:
    bank = estate.Estate(estate.targets())
    made = bank.store.add(b"commit", raw)
    if is_head:
        lines = [f"tree {bank.store.tree_id(bank.genesis)}", f"parent {bank.genesis}", f"parent {made}"]
        ident = "Forge <forge@bank.example> 1795000000 +0000"
        unsigned = "\n".join((*lines, f"author {ident}", f"committer {ident}", "", "x\n")).encode()
        made = bank.store.add(b"commit", signing.sign_commit(unsigned, estate.key("forge")))
    decision = judging.judge(bank.store, made, bank.known(), terms=bank.terms, now=estate.NOW)
    assert decision.verdict is not ACCEPT
