"""Too much of anything through the whole daemon, over real git: refused in bounded memory and time, and what was accepted is kept.

What is measured is the largest process of each: the daemon's own, and git below it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import bombs, estate, installation, objects

from reconciler import model
from reconciler.audit import record

MEASURED = Path(__file__).with_name("measured.py")
OURS_AT_MOST_KIB = 600 << 10
GIT_AT_MOST_KIB = 1 << 20
WITHIN_S = 60  # of processor time; most of it is git's, hashing two GiB


@dataclass(frozen=True)
class Peak:
    code: int
    ours_kib: int
    git_kib: int
    spent_s: float
    said: str


class Bank:
    """One target that a merge has reached, and a forge that serves whatever is put into it."""

    def __init__(self, folder: Path) -> None:
        (folder / "roots/web").mkdir(parents=True)
        self.file = folder / "roots/web/a"
        self.lab = installation.Installation(folder, self.web("0\n"))
        self.lab.change(self.web("1\n"))
        self.lab.converge()
        assert self.file.read_text() == "1\n"
        self.good = self.lab.bank.tip

    def web(self, text: str) -> dict[str, bytes]:
        return installation.vm("web", self.file.parent, {"a": text})

    def tree_with(self, mode: bytes, *oids: model.Oid) -> model.Oid:
        """The accepted tree, and behind everything else these."""
        store = self.lab.bank.store
        accepted = store._object(b"tree", store.tree_id(self.good))
        more = b"".join(b"%s zz%d\0%s" % (mode, n, bytes.fromhex(oid)) for n, oid in enumerate(oids))
        return store.add(b"tree", accepted + more)

    def serve(self, tree: model.Oid) -> model.Oid:
        """A merge of this tree, well signed and approved by nobody: it is not looked at for long."""
        bank = self.lab.bank
        head = bank.store.make_commit({}, self.good, key=estate.key("alice"), tree=tree)
        merge = bank.store.make_commit({}, self.good, head, author=objects.FORGE, key=estate.key("forge"), tree=tree)
        bank.store.export(self.lab.git_dir)
        self.lab.git("update-ref", estate.REF, merge)
        return merge

    def once(self) -> Peak:
        """One pass in a process of its own, after somebody has changed the target by hand: that is put right."""
        self.file.write_text("by hand\n")
        told = self.lab.folder / "peak.json"
        command = (sys.executable, MEASURED, told, "once", "--config", self.lab.config_path)
        done = subprocess.run(command, env=installation.OUR_ENVIRONMENT, capture_output=True, check=False, timeout=300)
        assert told.exists(), done.stderr.decode()
        peak = json.loads(told.read_text())
        return Peak(peak["code"], peak["ours"], peak["git"], peak["spent_s"], done.stderr.decode())

    def check(self, merge: model.Oid, *codes: str) -> None:
        peak = self.once()
        assert self.file.read_text() == "1\n", f"what was accepted is kept: {peak.said}"
        assert peak.ours_kib < OURS_AT_MOST_KIB, peak
        assert peak.git_kib < GIT_AT_MOST_KIB, peak
        assert peak.spent_s < WITHIN_S, peak
        judged = [d for d in self.lab.events(record.Decision) if d.revision == merge]
        assert {reason.code for d in judged for reason in d.reasons} >= set(codes), judged
        assert all(d.verdict is not model.Verdict.ACCEPT for d in judged)
        assert not self.lab.events(record.Halt)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path)


def folders(store: objects.ObjectStore, leaf: bytes, depth: int, width: int) -> model.Oid:
    """Folders in folders, each `width` times the same."""
    oid = store.add(b"tree", leaf)
    for _ in range(depth):
        oid = store.add(b"tree", b"".join(b"40000 %02d\0" % n + bytes.fromhex(oid) for n in range(width)))
    return oid


def a_million_files(bank: Bank) -> model.Oid:
    store = bank.lab.bank.store
    blob = bytes.fromhex(store.add(b"blob", b"x"))
    leaf = b"".join(b"100644 %03d\0" % n + blob for n in range(1000))
    return bank.tree_with(b"40000", thousand(store, leaf))


def thousand(store: objects.ObjectStore, leaf: bytes) -> model.Oid:
    oid = store.add(b"tree", leaf)
    return store.add(b"tree", b"".join(b"40000 %03d\0" % n + bytes.fromhex(oid) for n in range(1000)))


def a_million_names_in_one_folder(bank: Bank) -> model.Oid:
    store = bank.lab.bank.store
    blob = bytes.fromhex(store.add(b"blob", b"x"))
    names = b"".join(b"100644 %07d\0" % n + blob for n in range(1_000_000))
    return bank.tree_with(b"40000", store.add(b"tree", names))


def five_thousand_folders_deep(bank: Bank) -> model.Oid:
    store = bank.lab.bank.store
    return bank.tree_with(b"40000", folders(store, b"100644 f\0" + bytes.fromhex(store.add(b"blob", b"x")), 5000, 1))


def a_blob_of_two_gib(bank: Bank) -> model.Oid:
    pack = bombs.Pack()
    pack.add_zeros(bombs.TWO_GIB_OF_ZEROS, 2 * bombs.GIB)
    pack.write(bank.lab.git_dir)
    return bank.tree_with(b"100644", bombs.TWO_GIB_OF_ZEROS)


@pytest.mark.parametrize(
    "make",
    [a_million_files, a_million_names_in_one_folder, five_thousand_folders_deep, a_blob_of_two_gib],
    ids=lambda make: make.__name__,
)
def test_a_merge_of_too_much_is_rejected_and_the_accepted_state_is_kept(
    bank: Bank, make: Callable[[Bank], model.Oid]
) -> None:
    bank.check(bank.serve(make(bank)), "limit")


def test_a_delta_bomb_does_not_come_in_and_costs_no_memory(bank: Bank) -> None:
    """A hundred bytes that say four GiB, on a base that was made the same way; sent on as deltas, by a forge that does not care."""
    bank.lab.git("config", "core.bigFileThreshold", "64g")
    pack = bombs.Pack()
    base = pack.add_blob(bytes(1 << 16))
    middle, end = model.Oid("1" * 40), model.Oid("2" * 40)
    size = pack.add_copies(middle, base, 1 << 16, 1 << 12)
    pack.add_copies(end, middle, size, 16)
    pack.write(bank.lab.git_dir)
    merge = bank.serve(bank.tree_with(b"100644", base, middle, end))
    bank.check(merge)
    bank.lab.git("update-ref", estate.REF, bank.good)
    assert bank.once().code == 0, "a branch without it is read again"


def test_a_hundred_thousand_approval_refs_hold_one_head(bank: Bank) -> None:
    lab = bank.lab
    merge = lab.merge(bank.web("2\n"))
    lab.serve()
    head = lab.bank.store.parents(merge)[1]
    with (lab.git_dir / "packed-refs").open("w") as file:
        file.write("# pack-refs with: peeled fully-peeled sorted \n")
        file.writelines(f"{head} refs/approvals/v1/{head[:12]}/{n:064x}\n" for n in range(100_000))
    bank.check(merge, "limit")
