"""The same verdicts over a real repository, and the merges of lines that only git makes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import estate, signing

from reconciler import model
from reconciler.admission import judging
from reconciler.git import repository

ACCEPT, HOLD = model.Verdict.ACCEPT, model.Verdict.HOLD
PATH = "targets/sandbox/lines.txt"


def lines(**changed: str) -> bytes:
    return "".join(changed.get(f"l{n}", f"line {n}") + "\n" for n in range(20)).encode()


@pytest.fixture
def bank() -> estate.Estate:
    return estate.Estate({**estate.targets(), PATH: lines()})


@pytest.fixture
def git_dir(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bank.git"], check=True)
    return tmp_path / "bank.git"


@pytest.fixture
def opened(bank: estate.Estate, git_dir: Path) -> Iterator[repository.GitRepository]:
    with repository.GitRepository(git_dir) as made:
        yield made


def publish(bank: estate.Estate, git_dir: Path, head: model.Oid, *envelopes: bytes) -> None:
    """All objects, and the refs of these envelopes, each pointing to a commit that holds `envelope.json`."""
    store = bank.store
    made = {model.sha256(e): store.make_commit({"envelope.json": e}, tree=store.add(b"tree", b"")) for e in envelopes}
    store.export(git_dir)
    for digest, oid in made.items():
        subprocess.run(
            ["git", "--git-dir", git_dir, "update-ref", f"refs/approvals/v1/{head[:12]}/{digest}", oid], check=True
        )


def judge(bank: estate.Estate, opened: repository.GitRepository, merge: model.Oid) -> judging.Judged:
    known = bank.known(bank.store.parents(merge)[0])
    return judging.examine(opened, merge, known, terms=bank.terms, now=estate.NOW)


def test_a_real_repository_gives_the_same_decision(
    bank: estate.Estate, git_dir: Path, opened: repository.GitRepository
) -> None:
    merge = bank.merge(bank.branch({PATH: lines(l3="three")}))
    envelopes = bank.approve(merge, "bob")
    publish(bank, git_dir, bank.store.parents(merge)[1], *envelopes)
    decision = judge(bank, opened, merge).decision
    assert decision.verdict is ACCEPT, decision.reasons
    assert decision == bank.judge(merge)


def test_lines_that_git_merged_are_no_manual_merge(
    bank: estate.Estate, git_dir: Path, opened: repository.GitRepository
) -> None:
    """Both sides changed one file; its effect is known before the merge, and nobody has to acknowledge anything."""
    head = bank.branch({PATH: lines(l1="one")})
    base = bank.change({PATH: lines(l18="eighteen")}, approvers=["bob"])
    publish(bank, git_dir, head)
    before = judging.examine_head(opened, head, bank.known(base), terms=bank.terms, now=estate.NOW)
    assert before.binding is not None
    envelope = signing.approve(estate.key("grace"), "grace", before.binding)
    written = ["git", "--git-dir", str(git_dir), "merge-tree", "--write-tree", "--no-messages", base, head]
    tree = subprocess.run(written, check=True, capture_output=True, text=True).stdout.strip()
    ident = "Forge <forge@bank.example> 1795000000 +0000"
    fields = (f"tree {tree}", f"parent {base}", f"parent {head}", f"author {ident}", f"committer {ident}")
    raw = signing.sign_commit(("\n".join(fields) + "\n\nMerge\n").encode(), estate.key("forge"))
    merge = bank.store.add(b"commit", raw)
    publish(bank, git_dir, head, envelope)
    judged = judge(bank, opened, merge)
    assert judged.decision.verdict is ACCEPT, judged.decision.reasons
    assert (judged.decision.auto_merge, judged.binding) == (True, before.binding)


def test_a_head_that_conflicts_is_held(bank: estate.Estate, git_dir: Path, opened: repository.GitRepository) -> None:
    head = bank.branch({PATH: lines(l1="one")})
    base = bank.change({PATH: lines(l1="uno")}, approvers=["bob"])
    publish(bank, git_dir, head)
    judged = judging.examine_head(opened, head, bank.known(base), terms=bank.terms, now=estate.NOW)
    assert (judged.decision.verdict, estate.codes(judged.decision)) == (HOLD, {"stale_effect"})
