"""What a forge may serve and what may lie in the mirror: the cases over real git, from the fetch to the verdict."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import catalogue, estate, forge, logs, objects
from support.catalogue import LEDGER

from reconciler import config, errors, model
from reconciler.admission import admit
from reconciler.audit import record
from reconciler.daemon import composing
from reconciler.git import mirror, process, repository

MAIN = estate.REF
ATTRIBUTES = b"* filter=evil merge=evil diff=evil text eol=crlf ident export-subst export-ignore\n"


class Watched:
    """A bank whose forge is a bare repository, and what watches it: a mirror, and a log taken over from genesis."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.served, self.mirror_dir = folder, folder / "served.git", folder / "state/mirror.git"
        self.bank = estate.Estate(estate.targets())
        self.clock = logs.Clock()
        self.clock.sleep(12 * 3600)
        self.log = logs.make_log(clock=self.clock)
        self.log.lease("watch")
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.served], check=True)
        remote = process.Remote(f"file://{self.served}", allow_file=True)
        self.mirror = mirror.Mirror(self.mirror_dir, mirror.Watched(remote, MAIN))
        self.serve(self.bank.genesis)
        self.mirror.fetch(self.bank.genesis, frozenset())
        admit.take_over(self.mirror.repository, self.log, self.bank.pin, clock=self.clock)

    def git(self, *command: str) -> str:
        argv = ["git", "--git-dir", str(self.served), *command]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def serve(self, tip: model.Oid) -> None:
        catalogue.publish(self.bank.store, self.served)
        self.git("update-ref", MAIN, tip)

    def change(self, files: objects.Files = LEDGER) -> model.Oid:
        merge = self.bank.change(files)
        self.serve(merge)
        return merge

    def poll(self) -> tuple[record.Decision, ...]:
        return admit.admit(self.mirror, self.mirror.repository, self.log, terms=self.bank.terms, clock=self.clock)

    def verdicts(self) -> list[model.Verdict]:
        return [decision.verdict for decision in self.poll()]

    def close(self) -> None:
        self.mirror.close()
        self.log.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.close()


def test_the_honest_twin_goes_in(watched: Watched) -> None:
    watched.change()
    assert watched.verdicts() == [catalogue.ACCEPT]


@pytest.mark.parametrize(
    ("how", "code"), [("deleted", "ref_missing"), ("renamed", "ref_missing"), ("recreated", "non_descendant")]
)
def test_c34_a_branch_that_is_gone_halts_and_the_accepted_state_is_kept(watched: Watched, how: str, code: str) -> None:
    accepted = watched.change()
    watched.poll()
    watched.git("update-ref", "-d", MAIN)
    if how == "renamed":
        watched.git("update-ref", "refs/heads/trunk", accepted)
    if how == "recreated":
        watched.serve(watched.bank.store.make_commit({"x": b"1"}, key=estate.key("alice")))
    assert watched.poll() == ()
    assert (watched.log.state.halted, watched.log.state.tip) == ((code,), accepted)
    watched.serve(accepted)
    watched.poll()
    assert watched.log.state.halted == ()


@pytest.mark.parametrize("name", ["info/grafts", "shallow", "objects/info/alternates", "config"])
def test_c46_what_would_show_another_history_halts(watched: Watched, name: str) -> None:
    merge = watched.change()
    path = watched.mirror_dir / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{merge}\n")
    assert watched.poll() == ()
    assert watched.log.state.halted == ("repo_config",)


def test_c46_replacement_refs_and_a_false_commit_graph_change_no_verdict(watched: Watched) -> None:
    merge = watched.change()
    evil = watched.bank.branch({"targets/ledger/resources.yaml": b"evil"}, signer="")
    watched.serve(merge)
    watched.git("update-ref", f"refs/replace/{merge}", evil)
    watched.git("commit-graph", "write", "--reachable")
    graph = watched.served / "objects/info/commit-graph"
    graph.chmod(0o644)
    head = watched.bank.store.parents(merge)[1]
    graph.write_bytes(graph.read_bytes().replace(bytes.fromhex(head), bytes.fromhex(evil)))
    with repository.GitRepository(watched.served) as opened:
        offer = catalogue.Offer(watched.bank, merge)
        assert offer.judge(opened) == offer.judge()
        assert offer.judge(opened).verdict is catalogue.ACCEPT


@pytest.mark.parametrize("packed", [False, True])
def test_c47_a_damaged_object_halts(watched: Watched, *, packed: bool) -> None:
    """Loose, it has another content under its name; packed, one byte of the pack is another."""
    merge = watched.change()
    blob = watched.bank.store.tree(merge)[b"targets/ledger/resources.yaml"].oid
    if packed:
        watched.git("repack", "-adq")
        (pack,) = (watched.served / "objects/pack").glob("*.pack")
        listed = watched.git("verify-pack", "-v", str(pack)).splitlines()
        at = int(next(line for line in listed if line.startswith(blob)).split()[4])
        content = bytearray(pack.read_bytes())
        content[at + 3] ^= 0xFF
        pack.chmod(0o644)
        pack.write_bytes(content)
    else:
        other = watched.bank.store.add(b"blob", b"evil")
        watched.bank.store.export(watched.served)
        folder = watched.served / "objects"
        (folder / blob[:2] / blob[2:]).write_bytes((folder / other[:2] / other[2:]).read_bytes())
    with repository.GitRepository(watched.served) as opened, pytest.raises(errors.AuditError) as caught:
        catalogue.Offer(watched.bank, merge).judge(opened)
    assert caught.value.code == "object_hash"


def test_c47_a_damaged_object_in_the_store_halts_the_daemon(watched: Watched) -> None:
    merge = watched.bank.change(LEDGER)
    entry = watched.bank.store.tree(merge)[b"targets/ledger/resources.yaml"]
    watched.bank.store.damage(entry.oid, b"evil")
    store = watched.bank.store
    assert admit.admit(store, store, watched.log, terms=watched.bank.terms, clock=watched.clock) == ()
    assert watched.log.state.halted == ("object_hash",)


def configured(folder: Path, **source: object) -> mirror.Watched:
    """What a start of the daemon makes of its configuration."""
    key, hosts = folder / "id", folder / "hosts"
    document = {
        "apiVersion": "reconciler/v1",
        "kind": "Reconciler",
        "installation": "bank",
        "state": str(folder / "state"),
        "source": {
            "id": estate.REPOSITORY_ID,
            "url": "ssh://git@git.bank.example/ops/state.git",
            "ref": MAIN,
            "genesis": "1" * 40,
            "genesisReason": "CHG1",
            "auth": {"sshKey": str(key), "knownHosts": str(hosts)},
            **source,
        },
        "store": {"signingKey": str(key)},
    }
    path = folder / "reconciler.yaml"
    path.write_text(json.dumps(document))
    return composing.watched(config.load(path, {}))


REFS = (
    "HEAD",
    "-x",
    "main",
    "refs/heads/-x",
    "refs/heads/../x",
    "refs/heads/x/../main",
    f"refs/heads/{'1' * 40}",
    "refs/heads/m\u0430in",
    "refs/heads/main.lock",
    "refs/tags/main",
    "refs/replace/main",
    "refs/heads/*",
)


@pytest.mark.parametrize("ref", REFS)
def test_c49_a_ref_that_could_mean_something_else_is_refused_when_configuration_loads(tmp_path: Path, ref: str) -> None:
    assert configured(tmp_path).ref == MAIN
    with pytest.raises(errors.ConfigError):
        configured(tmp_path, ref=ref)


def test_c49_refs_of_such_names_are_never_fetched(watched: Watched) -> None:
    merge = watched.change()
    evil = watched.bank.branch({"x": b"1"})
    watched.serve(merge)
    for name in ("refs/heads/-x", f"refs/heads/{merge}", "refs/heads/m\u0430in", "refs/tags/main", "refs/heads/HEAD"):
        path = watched.served / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{evil}\n")
    assert watched.verdicts() == [catalogue.ACCEPT]
    assert not watched.mirror.repository.exists(evil)


URLS = (
    "--upload-pack=touch${IFS}x",
    "ssh://-oProxyCommand=touch${IFS}x/ops",
    "ssh://git@-oProxyCommand=x/ops",
    "ssh://git@host/-oProxyCommand=x y",
    "ext::sh -c id",
    "file:///srv/state.git",
    "http://git.bank.example/ops",
    "git://git.bank.example/ops",
    "git@git.bank.example:ops/state.git",
    "https://git.bank.example/ops?x=--upload-pack",
    "https://user:secret@git.bank.example/ops",
)


@pytest.mark.parametrize("url", URLS)
def test_c59_a_url_that_is_more_than_a_place_is_refused_when_configuration_loads(tmp_path: Path, url: str) -> None:
    assert configured(tmp_path).remote.protocol == "ssh"
    with pytest.raises(errors.ConfigError):
        configured(tmp_path, url=url)


def test_c56_submodules_run_nothing(watched: Watched, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    modules = f'[submodule "x"]\n\tpath = x\n\turl = ext::touch {touched}\n\tupdate = !touch {touched}\n'.encode()
    files: dict[str, objects.Content] = {".gitmodules": modules, "x": (objects.GITLINK, b"1" * 40), "README": b"x"}
    watched.change(files)
    with contextlib.suppress(errors.TransientError):  # Where fsck of this git knows the URL for what it is.
        (decision,) = watched.poll()
        assert (decision.verdict, estate.codes(decision)) == (catalogue.REJECT, {"gitlink"})
    assert watched.log.state.tip == watched.bank.genesis
    assert not touched.exists()


def test_c57_attributes_change_no_byte_and_start_nothing(watched: Watched, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    raw = b"$Id$ $Format:%H$\nline\n"
    for name in ("filter.evil.smudge", "filter.evil.process", "diff.evil.textconv", "merge.evil.driver"):
        watched.git("config", name, f"touch {touched}; cat")
    files = {"targets/ledger/.gitattributes": ATTRIBUTES, ".gitattributes": ATTRIBUTES, "targets/ledger/raw.txt": raw}
    merge = watched.change(files)
    assert watched.verdicts() == [catalogue.ACCEPT]
    tree = watched.mirror.repository.tree(merge)
    assert watched.mirror.repository.read(tree[b"targets/ledger/raw.txt"].oid) == raw
    assert watched.mirror.repository.automatic_merge(watched.bank.genesis, watched.bank.store.parents(merge)[1])
    assert not touched.exists()


def test_c58_served_configuration_hooks_and_a_repository_inside_the_tree_run_nothing(
    watched: Watched, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    for name in ("core.fsmonitor", "core.sshCommand", "uploadpack.packObjectsHook", "core.gitProxy", "core.pager"):
        watched.git("config", name, f"touch {touched}")
    inner = f"[core]\n\tfsmonitor = touch {touched}\n\tbare = true\n".encode()
    files = {"HEAD": b"ref: refs/heads/main\n", "config": inner, "objects/x": b"", "refs/x": b""}
    watched.change({f"targets/ledger/inner/{path}": blob for path, blob in files.items()})
    for hook in ("reference-transaction", "post-update", "pre-auto-gc"):
        (watched.served / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {touched}\n")
        (watched.served / "hooks" / hook).chmod(0o755)
    assert watched.verdicts() == [catalogue.ACCEPT]
    assert not touched.exists()


@pytest.mark.parametrize("what", ["redirect", "unknown authority", "downgrade"])
def test_c60_nothing_follows_the_forge_to_another_host_and_no_secret_is_told(tmp_path: Path, what: str) -> None:
    certificate = forge.write_certificate(tmp_path / "server.pem")
    with forge.serving(certificate) as first, forge.serving(certificate) as other:
        first.status = 302
        first.location = f"http://{other.host}" if what == "downgrade" else f"https://{other.host}"
        auth = process.Auth(token="hunter2-token", ca_file=None if what == "unknown authority" else certificate)
        remote = process.Remote(f"https://{first.host}/ops/state.git", auth)
        source = mirror.Mirror(tmp_path / "m", mirror.Watched(remote, MAIN))
        with pytest.raises(errors.TransientError) as caught:
            source.fetch(model.Oid("1" * 40), frozenset())
        source.close()
    assert caught.value.code == "source_error"
    assert "hunter2" not in str(caught.value)
    assert not other.seen
    assert bool(first.seen) == (what != "unknown authority")


def nested(bank: estate.Estate, depth: int, width: int) -> model.Oid:
    """The id of a tree: folders in folders, each `width` times the same."""
    oid = bank.store.add(b"tree", b"100644 f\0" + bytes.fromhex(bank.store.add(b"blob", b"x")))
    for _ in range(depth):
        oid = bank.store.add(b"tree", b"".join(b"40000 %02d\0" % n + bytes.fromhex(oid) for n in range(width)))
    return oid


@pytest.mark.parametrize(("depth", "width"), [(5000, 1), (10, 10)])
def test_c62_a_tree_that_is_too_deep_or_unfolds_without_end_is_refused(tmp_path: Path, depth: int, width: int) -> None:
    """Ten folders of ten names are ten objects, and ten billion files."""
    bank = estate.Estate(estate.targets())
    tree = nested(bank, depth, width)
    head = bank.store.make_commit({}, bank.tip, key=estate.key("alice"), tree=tree)
    merge = bank.store.make_commit({}, bank.tip, head, author=objects.FORGE, key=estate.key("forge"), tree=tree)
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bank.git"], check=True)
    catalogue.publish(bank.store, tmp_path / "bank.git")
    with repository.GitRepository(tmp_path / "bank.git") as opened:
        decision = catalogue.Offer(bank, merge).judge(opened)
    assert (decision.verdict, estate.codes(decision)) == (catalogue.REJECT, {"limit"})


def test_c62_a_hundred_thousand_approval_refs_hold_one_head(watched: Watched) -> None:
    held = watched.bank.merge(watched.bank.branch(LEDGER))
    watched.bank.approve(held, *estate.SRE)
    watched.serve(held)
    head = watched.bank.store.parents(held)[1]
    names = (f"{held} refs/approvals/v1/{head[:12]}/{n:064x}\n" for n in range(100_000))
    (watched.served / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + "".join(names))
    with repository.GitRepository(watched.served) as opened:
        decision = catalogue.Offer(watched.bank, held).judge(opened)
    assert (decision.verdict, "limit" in estate.codes(decision)) == (catalogue.HOLD, True)
    assert decision.canonical(), "it can be recorded, and the accepted state goes on"
