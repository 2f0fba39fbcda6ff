"""How fast ten thousand signed merges with two approvals each are judged, beside a loop of `git verify-commit` over the same.

    PYTHONPATH=tests python benchmarks/verify_merges.py [--merges 10000] [--sample 200] [--anew]

A real bare repository, packed, of a hundred targets; it is made once and kept in the user's cache folder.
Ours: the verdict on each merge, with everything of trust.md 2.3: every object re-hashed, the grammar, four signatures (the
merge, the commit that it brings in, two approvals), the history, the tree, the effect, rules and slots.
git's: the signatures of the merge and of the commit that it brings in, two of the four; nothing else.
Cold: a new process, its start included, with its bytecode compiled as an installed program has it. The files are in the system's cache for both. git's loop is a shell's, over a sample;
it runs in turns with ours, a few merges after every 250, because machines are shared: what slows one down slows both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import report
from support import estate, objects

from reconciler import model
from reconciler.admission import admit, judging
from reconciler.audit import state
from reconciler.cli import main as main_of_ours
from reconciler.daemon import clock
from reconciler.git import approvals, repository

TARGETS = 100
SLICE = 250  # merges of ours between looks at git
WARM = 200
FORMAT = 1  # of the repository: another number makes it anew
PACK_KINDS = {b"commit": 1, b"tree": 2, b"blob": 3}
LOOP = 'while read -r oid; do git "$@" verify-commit "$oid" 2>/dev/null || exit 1; done'


class Took(NamedTuple):
    """`cpu_s`: of child processes and what they waited for, on whichever core; it tells more where a machine is shared."""

    wall_s: float
    cpu_s: float

    @classmethod
    def so_far(cls) -> Took:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(time.monotonic(), used.ru_utime + used.ru_stime)

    def __sub__(self, other: Took) -> Took:
        return Took(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)

    def __add__(self, other: object) -> Took:
        if not isinstance(other, Took):
            return NotImplemented
        return Took(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)

    def each(self, count: int) -> str:
        return f"{self.wall_s * 1000 / count:.2f} ms a merge, CPU {self.cpu_s * 1000 / count:.2f} ms"


# --- the repository -------------------------------------------------------------------------------------------------


def find_or_make(merges: int, *, anew: bool) -> Path:
    """The folder of a repository of so many merges: `state.git` and `bank.json`."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "reconciler-benchmarks" / f"verify-merges-{merges}-v{FORMAT}"
    if anew or not (folder / "bank.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begun = time.monotonic()
        make(folder, merges)
        print(f"made {folder} in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return folder


def make(folder: Path, merges: int) -> None:
    """Merges that change one target each; every tenth is written by one who would else approve."""
    bank = estate.Estate(files={k: v for n in range(TARGETS) for k, v in estate.target(f"t{n:03}").items()})
    heads = []
    for n in range(merges):
        files = {f"targets/t{n % TARGETS:03}/resources.yaml": estate.resources(n + 2)}
        merge = bank.change(files, estate.SRE[0] if n % 10 == 0 else "alice", ("grace", "heidi"))
        heads.append(bank.store.parents(merge)[1])
        if n % 500 == 0:
            bank.store._forget()  # noqa: SLF001 - whole trees of ten thousand merges would fill the memory
    git_dir = folder / "state.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", git_dir], check=True)
    refs = {f"{ref}": oid for head in heads for ref, oid in approval_refs(bank.store, head)} | {estate.REF: bank.tip}
    (git_dir / "packed-refs").write_text(
        "# pack-refs with: peeled fully-peeled sorted \n" + "".join(f"{refs[name]} {name}\n" for name in sorted(refs))
    )
    run_git(git_dir, "index-pack", "--stdin", stdin=pack_of(bank.store))
    run_git(git_dir, "repack", "-adq")
    (folder / "bank.json").write_text(json.dumps({"genesis": bank.genesis, "tip": bank.tip}))


def approval_refs(store: objects.ObjectStore, head: model.Oid) -> Iterator[tuple[str, model.Oid]]:
    """What `reconciler approve` writes, without a process for each."""
    for envelope in store.envelopes(head):
        oid = store.make_commit({"envelope.json": envelope}, tree=store.add(b"tree", b""))
        yield f"{approvals.prefix_of(head)}{model.sha256(envelope)}", oid


def pack_of(store: objects.ObjectStore) -> bytes:
    """Every object in one pack (gitformat-pack(5), version 2), without deltas: `git repack` finds those."""
    held = store._objects.values()  # noqa: SLF001 - one file instead of a hundred thousand
    parts = [b"PACK" + (2).to_bytes(4, "big") + len(held).to_bytes(4, "big")]
    for kind, content in held:
        parts.append(entry_header(PACK_KINDS[kind], len(content)))
        parts.append(zlib.compress(content, 1))
    body = b"".join(parts)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def entry_header(kind: int, size_bytes: int) -> bytes:
    """The kind and four bits of the size, then seven bits a byte."""
    found, rest = [kind << 4 | size_bytes & 15], size_bytes >> 4
    while rest:
        found[-1] |= 128
        found.append(rest & 127)
        rest >>= 7
    return bytes(found)


def run_git(git_dir: Path, *command: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", "--git-dir", git_dir, *command], check=True, input=stdin, stdout=subprocess.PIPE
    ).stdout


# --- ours -----------------------------------------------------------------------------------------------------------


def judge(folder: Path, sample: int) -> None:
    """In a process of its own: prints what the walk took, beside it git over the sample, and the last merges once more."""
    main_of_ours.collect_seldom()  # As every process of ours begins.
    bank = json.loads((folder / "bank.json").read_text())
    beside = Beside(folder, sample)
    with repository.GitRepository(folder / "state.git") as source:
        cold = Walk(source, bank["genesis"], beside)
        cold.to(bank["tip"])
        warm = Walk(source, cold.chain[-WARM - 1], None)
        warm.to(bank["tip"])
    if not (cold.accepted == len(cold.chain) and warm.accepted == WARM):
        raise SystemExit(f"{cold.accepted} of {len(cold.chain)} were accepted")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps([beside.loop, beside.at_once, beside.merges, warm.took, peak_mib]))


class Walk:
    """One walk over merges, the time that others took beside it left out."""

    def __init__(self, source: repository.GitRepository, base: model.Oid, beside: Beside | None) -> None:
        self._source, self._known, self._beside = source, judging.clone_state(base), beside
        self.chain: list[model.Oid] = []
        self.accepted, self.took = 0, Took(0, 0)

    def to(self, tip: model.Oid) -> None:
        begun = Took(time.monotonic(), time.process_time())
        terms = admit.Terms(production=False)
        judging.walk(self._source, tip, self._known, self._keep, terms=terms, clock=clock.SystemClock())
        self.took = Took(time.monotonic(), time.process_time()) - begun

    def _keep(self, judged: judging.Judged) -> state.State:
        self.accepted += judged.decision.verdict is model.Verdict.ACCEPT
        self.chain.append(judged.decision.revision)
        self._known = self._known.model_copy(update={"tip": judged.decision.revision})
        if self._beside and len(self.chain) % SLICE == 0:
            self._beside.next()
        return self._known


def judge_in_a_new_process(folder: Path, sample: int) -> tuple[Took, Took, Took, int, float, int]:
    """Ours cold; git's loop and git at once, over how many merges; the seconds of ours, warm; and the memory of ours."""
    installed = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    installed["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    command = [sys.executable, __file__]
    subprocess.run([*command, "--help"], check=True, env=installed, stdout=subprocess.DEVNULL)  # Compiles it.
    begun = Took.so_far()
    command += ["--judge", str(folder), "--sample", str(sample)]
    done = subprocess.run(command, check=True, env=installed, stdout=subprocess.PIPE)
    whole = Took.so_far() - begun
    loop, at_once, merges, again, peak_mib = json.loads(done.stdout)
    git, one, warm = Took(*loop), Took(*at_once), Took(*again)
    return whole - git - one - warm, git, one, merges, warm.wall_s, peak_mib


# --- git's ----------------------------------------------------------------------------------------------------------


class Beside:
    """git over a few merges of the sample after each slice of ours: so both have the same machine, however busy it is."""

    def __init__(self, folder: Path, size: int) -> None:
        listed = run_git(folder / "state.git", "rev-list", "--first-parent", "--min-parents=2", "--parents", "main")
        pairs = [line.split()[0:3:2] for line in listed.decode().splitlines()]
        slices = len(pairs) // SLICE
        each = max(1, size // slices)
        self._slices = iter([pairs[n * SLICE : n * SLICE + each] for n in range(slices)])
        self._folder = folder
        self.loop = self.at_once = Took(0, 0)
        self.merges = 0

    def next(self) -> None:
        pairs = next(self._slices)
        oids = [oid for pair in pairs for oid in pair]
        self.loop += loop_of_git(self._folder, oids)
        self.at_once += one_git(self._folder, oids)
        self.merges += len(pairs)


def git_options(folder: Path) -> list[str]:
    signers = folder / "allowed_signers"
    names = (*estate.PEOPLE, *estate.ROBOTS)
    signers.write_text("".join(f"{objects.who(n).email} {estate.key(n).public_line}\n" for n in names))
    return [f"--git-dir={folder / 'state.git'}", "-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={signers}"]


def loop_of_git(folder: Path, oids: list[str]) -> Took:
    """One `git verify-commit` after the other."""
    begun = Took.so_far()
    subprocess.run(["sh", "-c", LOOP, "sh", *git_options(folder)], input="\n".join(oids) + "\n", text=True, check=True)
    return Took.so_far() - begun


def one_git(folder: Path, oids: list[str]) -> Took:
    """One `git verify-commit` of them all."""
    begun = Took.so_far()
    subprocess.run(["git", *git_options(folder), "verify-commit", *oids], check=True, stderr=subprocess.DEVNULL)
    return Took.so_far() - begun


def times_faster(ours: Took, theirs: Took, scale: float) -> str:
    return f"{theirs.wall_s * scale / ours.wall_s:.1f}; by CPU {theirs.cpu_s * scale / ours.cpu_s:.1f}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--merges", type=int, default=10_000)
    options.add_argument("--sample", type=int, default=200)
    options.add_argument("--anew", action="store_true", help="make the repository again")
    options.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.judge:
        judge(chosen.judge, chosen.sample)
        return
    folder = find_or_make(chosen.merges, anew=chosen.anew)
    cold, loop, one, size, warm_s, peak_mib = judge_in_a_new_process(folder, chosen.sample)
    rows = [
        ("merges, each with a commit and two approvals", f"{chosen.merges:,}"),
        ("ours, cold", f"{cold.wall_s:.1f} s: {cold.each(chosen.merges)}"),
        (f"ours, the last {WARM} once more", f"{warm_s * 1000 / WARM:.2f} ms a merge"),
        ("memory of ours, at its most", f"{peak_mib} MiB"),
        (f"a loop of `git verify-commit`, merge and commit (of {size} merges)", loop.each(size)),
        ("one `git verify-commit` of as many at once", one.each(size)),
        ("cold, times faster than the loop", times_faster(cold, loop, chosen.merges / size)),
        ("cold, times faster than the one", times_faster(cold, one, chosen.merges / size)),
        ("load of the machine, at the start and at the end", f"{load:.1f}, {os.getloadavg()[0]:.1f}"),
    ]
    report.write("verify_merges", "Judging signed and approved merges", rows)


if __name__ == "__main__":
    load = os.getloadavg()[0]
    main()
