"""Hostile repositories through the whole daemon: nothing runs, the verdict says why and where, and drift is still corrected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import estate, installation, objects

from reconciler import model

FOLDER = "targets/web"
BOMB = b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"
SHELL = "touch canary; exit 1"


class Bank:
    """Two vm targets, the first of which a merge has reached, in a repository whose own settings would run a shell."""

    def __init__(self, folder: Path) -> None:
        for name in ("web", "other"):
            (folder / "roots" / name).mkdir(parents=True)
        self.file = folder / "roots" / "web" / "a"
        # One for each case: what is corrected more than five times a minute is taken for a fight.
        self.kept = [self.file.with_name(f"kept{number}") for number in range(20)]
        self.lab = installation.Installation(folder, {**self.web("0\n"), **self.other("0\n")})
        self.canary = folder / "canary"
        shell = f"touch {self.canary}; cat"
        for name in ("core.fsmonitor", "core.sshCommand", "core.hooksPath", "uploadpack.packObjectsHook"):
            self.lab.git("config", name, shell)
        for name in ("filter.x.smudge", "filter.x.clean", "filter.x.process", "diff.x.textconv", "merge.x.driver"):
            self.lab.git("config", name, shell)
        hooks = self.lab.git_dir / "hooks"
        hooks.mkdir(exist_ok=True)
        for name in (
            "pre-receive",
            "reference-transaction",
            "post-checkout",
            "post-index-change",
            "fsmonitor-watchman",
        ):
            (hooks / name).write_text(f"#!/bin/sh\n{shell}\n")
            (hooks / name).chmod(0o755)

    def web(self, content: str) -> dict[str, bytes]:
        kept = dict.fromkeys((path.name for path in self.kept), "kept\n")
        return installation.vm("web", self.file.parent, {"a": content, **kept})

    def other(self, content: str) -> dict[str, bytes]:
        return installation.vm("other", self.file.parents[1] / "other", {"a": content})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    made = Bank(tmp_path_factory.mktemp("bank"))
    made.lab.change(made.web("1\n"))
    made.lab.converge()
    return made


@pytest.fixture
def bank(shared: Bank) -> Iterator[Bank]:
    """The last good merge is the tip again, before and after."""
    good = shared.lab.bank.tip
    yield shared
    assert not shared.canary.exists()
    shared.lab.bank.push(good)
    shared.lab.serve()


@pytest.mark.parametrize(
    ("files", "code", "where"),
    [
        ({f"{FOLDER}/target.yaml": BOMB}, "parse", f"{FOLDER}/target.yaml:1"),
        ({f"{FOLDER}/target.yaml": b"kind: Target\nkind: Target\n"}, "parse", f"{FOLDER}/target.yaml:2"),
        ({f"{FOLDER}/target.yaml": b"a: !!python/object/apply:os.system [id]\n"}, "parse", f"{FOLDER}/target.yaml:1"),
        ({f"{FOLDER}/target.yaml": b"a: " + b"[" * 90 + b"]" * 90}, "parse", f"{FOLDER}/target.yaml:1"),
        ({f"{FOLDER}/files/x": (objects.SYMLINK, b"/etc/passwd")}, "symlink", f"{FOLDER}/files/x"),
        ({f"{FOLDER}/x": (objects.GITLINK, b"1" * 40)}, "gitlink", f"{FOLDER}/x"),
        ({".gitmodules": b'[submodule "x"]\n\turl = ext::sh -c "touch canary"\n'}, "gitlink", ".gitmodules"),
        ({f"{FOLDER}/VM.yaml": b"{}"}, "path_collision", f"{FOLDER}/VM.yaml = {FOLDER}/vm.yaml"),
        ({b"targets/web/\xff": b"{}"}, "path_chars", f"{FOLDER}/\\xff"),
        ({f"{FOLDER}/{'a/' * 40}x": b"{}"}, "limit", ""),
        ({f"{FOLDER}/{'a/' * 150}x": b"{}"}, "limit", ""),
        ({f"{FOLDER}/files/x": bytes(64 << 20)}, "limit", ""),
    ],
    ids=lambda given: given if isinstance(given, str) and len(given) < 40 else None,
)
def test_what_may_not_come_in_is_rejected_where_it_stands(
    bank: Bank, files: objects.Files, code: str, where: str
) -> None:
    lab, store = bank.lab, bank.lab.bank.store
    head = lab.bank.branch(files)
    lab.bank.push(lab.bank.merge(head, tree=store.tree_id(head)))
    lab.serve()
    kept = bank.kept.pop()
    kept.write_text("by hand")
    end = lab.converge()
    decision = end.state.held[lab.bank.tip]
    assert decision.verdict is model.Verdict.REJECT
    found = [reason for reason in decision.reasons if reason.code == code]
    assert found, decision.reasons
    assert any(where in reason.where for reason in found), found
    assert kept.read_text() == "kept\n", "what was accepted stays as it was"
    assert not end.state.halted


def test_a_tree_that_git_itself_refuses_is_not_fetched_and_halts_nothing(bank: Bank) -> None:
    head = bank.lab.bank.branch({f"{FOLDER}/.git/config": b"[core]\n\tfsmonitor = touch canary\n"})
    bank.lab.bank.push(bank.lab.bank.merge(head))
    bank.lab.serve()
    kept = bank.kept.pop()
    kept.write_text("by hand")
    end = bank.lab.converge()
    assert end.unreachable is not None
    assert end.unreachable.code == "source_error"
    assert (end.state.halted, kept.read_text()) == ((), "kept\n")


def test_attributes_in_the_tree_change_no_byte_and_start_nothing(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    attributes = b"* text eol=crlf ident export-subst filter=x diff=x merge=x\n"
    content = "$Id$ $Format:%H$\n"
    bank.lab.change({**bank.web(content), ".gitattributes": attributes, f"{FOLDER}/.gitattributes": attributes})
    bank.lab.converge()
    assert bank.file.read_bytes() == content.encode()
    assert not bank.canary.exists()


def test_a_hostile_payload_stands_uncleared_with_its_line_and_the_next_merge_of_another_target_goes_out(
    tmp_path: Path,
) -> None:
    bank = Bank(tmp_path)
    bank.lab.change(bank.web("1\n"))
    bank.lab.converge()
    bank.lab.change({f"{FOLDER}/vm.yaml": BOMB})
    web = bank.lab.converge().state.targets["web"]
    assert web.standing is not None
    assert web.standing.code == "uncleared"
    assert any(reason.where == f"{FOLDER}/vm.yaml:1" for reason in web.standing.reasons), web.standing.reasons
    bank.file.write_text("by hand")
    bank.lab.change(bank.other("1\n"))
    bank.lab.converge()
    assert (bank.file.parents[1] / "other" / "a").read_text() == "1\n"
    assert bank.file.read_text() == "1\n"
    assert not bank.canary.exists()


def test_after_a_recovery_merge_the_daemon_goes_on(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    lab, store = bank.lab, bank.lab.bank.store
    good = store.tree_id(lab.bank.tip)
    link = lab.bank.push(lab.bank.merge(lab.bank.branch({f"{FOLDER}/x": (objects.SYMLINK, b"/etc")})))
    blocked = lab.change(bank.other("1\n"))
    held = lab.converge().state.held
    assert "blocked" in {reason.code for reason in held[lab.bank.tip].reasons}

    undone = store.make_commit({}, lab.bank.tip, key=estate.key("alice"), tree=good)
    head = lab.bank.branch(bank.other("2\n"), on=undone)
    merge = lab.bank.merge(head)
    binding = lab.bank.binding(merge, base=lab.bank.genesis, skips=(link, blocked))
    lab.bank.approve(merge, "dan", "frank", "bob", binding=binding, **lab.approval_times())
    lab.bank.push(merge)
    lab.serve()
    end = lab.converge()
    assert end.state.tip == merge, end.state.held.get(merge)
    assert (tmp_path / "roots" / "other" / "a").read_text() == "2\n"
