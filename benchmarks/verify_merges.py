"""How fast a thousand signed merges with two approvals each are judged, beside a loop of `git verify-commit` over the same.

    PYTHONPATH=tests python benchmarks/verify_merges.py [--merges 1000] [--folder DIR]

A real bare repository; ours checks everything of trust.md 2.3 (grammar, signatures of the merge and of what it brings in, tree,
approvals, slots), git checks the signature of the merge and of its second parent only. Cold: a new object reader. Warm: again,
with what it holds. Prints a table and writes it to benchmarks/results/verify_merges.md.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import report
from support import estate, objects

from reconciler import model
from reconciler.admission import judging, policy
from reconciler.audit import state
from reconciler.daemon import clock
from reconciler.git import approvals, repository


def make_bank(merges: int) -> tuple[estate.Estate, list[model.Oid]]:
    """A hundred targets, and merges that change one of them each."""
    bank = estate.Estate(files={k: v for n in range(100) for k, v in estate.target(f"t{n:03}").items()})
    made = []
    for n in range(merges):
        files = {f"targets/t{n % 100:03}/resources.yaml": estate.resources(n + 2)}
        made.append(bank.change(files, estate.SRE[0] if n % 10 == 0 else "alice", ("grace", "heidi")))
    return bank, made


def serve(bank: estate.Estate, merges: list[model.Oid], git_dir: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", git_dir], check=True)
    bank.store.export(git_dir)
    lines = []
    for merge in merges:
        head = bank.store.parents(merge)[1]
        lines += [_approval(bank.store, head, envelope) for envelope in bank.store.envelopes(head)]
    bank.store.export(git_dir)
    lines.append(f"create {estate.REF} {bank.tip}\n")
    subprocess.run(["git", "--git-dir", git_dir, "update-ref", "--stdin"], input="".join(lines), text=True, check=True)
    subprocess.run(["git", "--git-dir", git_dir, "repack", "-qad"], check=True)
    subprocess.run(["git", "--git-dir", git_dir, "pack-refs", "--all"], check=True)


def _approval(store: objects.ObjectStore, head: model.Oid, envelope: bytes) -> str:
    """What `writing.write_approval` writes, without a process for each."""
    oid = store.make_commit({"envelope.json": envelope}, tree=store.add(b"tree", b""))
    return f"create {approvals.prefix_of(head)}{model.sha256(envelope)} {oid}\n"


def judge_all(source: repository.GitRepository, bank: estate.Estate) -> tuple[float, int]:
    known = bank.known()
    accepted = 0

    def keep(judged: judging.Judged) -> state.State:
        nonlocal known, accepted
        accepted += judged.decision.verdict is model.Verdict.ACCEPT
        known = known.model_copy(update={"tip": judged.decision.revision})
        return known

    begun = time.monotonic()
    judging.walk(source, bank.tip, known, keep, terms=bank.terms, clock=clock.SystemClock())
    return time.monotonic() - begun, accepted


def verify_commits(git_dir: Path, bank: estate.Estate, merges: list[model.Oid]) -> float:
    signers = git_dir / "allowed_signers"
    names = (*estate.PEOPLE, *estate.ROBOTS)
    signers.write_text("".join(f"{objects.who(n).email} {estate.key(n).public_line}\n" for n in names))
    options = ["-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={signers}"]
    begun = time.monotonic()
    for merge in merges:
        for oid in (merge, bank.store.parents(merge)[1]):
            subprocess.run(
                ["git", "--git-dir", git_dir, *options, "verify-commit", oid], check=True, capture_output=True
            )
    return time.monotonic() - begun


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--merges", type=int, default=1000)
    options.add_argument("--folder", type=Path)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        bank, merges = make_bank(chosen.merges)
        git_dir = Path(folder) / "state.git"
        serve(bank, merges, git_dir)
        policy._parse.cache_clear() if hasattr(policy._parse, "cache_clear") else None  # noqa: SLF001 - cold
        with repository.GitRepository(git_dir) as source:
            cold, accepted = judge_all(source, bank)
            warm, _ = judge_all(source, bank)
        sample = merges[: min(200, len(merges))]
        peer = verify_commits(git_dir, bank, sample) * len(merges) / len(sample)
    assert accepted == len(merges), f"{accepted} of {len(merges)} were accepted"
    rows = [
        ("merges, two approvals each", f"{len(merges)}"),
        ("judged, cold", f"{cold:.2f} s ({cold * 1000 / len(merges):.2f} ms each)"),
        ("judged, warm", f"{warm:.2f} s ({warm * 1000 / len(merges):.2f} ms each)"),
        (f"`git verify-commit` of merge and head (from {len(sample)})", f"{peer:.1f} s"),
        ("cold, times faster than git", f"{peer / cold:.1f}"),
    ]
    report.write("verify_merges", "Judging signed and approved merges", rows)


if __name__ == "__main__":
    main()
