"""What people's commands write is signed, found by daemons, and never forces anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import parts
from support.clones import MAIN, Clone

from reconciler import errors, model
from reconciler.git import repository, store, writing


@pytest.fixture
def signer(tmp_path: Path) -> writing.Signer:
    parts.need("git", "ssh-keygen")
    key = tmp_path / "id_ed25519"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f", str(key)), check=True)
    return writing.Signer(key, "Alice T", "alice@bank.example")


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's configuration, as far as it could get in the way."""
    settings = tmp_path / "gitconfig"
    settings.write_text(
        "[i18n]\n\tcommitEncoding = ISO-8859-1\n[user]\n\tname = Somebody\n\temail = some@body.example\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


def raw(clone: Clone, oid: model.Oid) -> bytes:
    with repository.GitRepository(clone.git_dir) as opened:
        return opened.commit(oid)


def verified(content: bytes, signer: writing.Signer, folder: Path) -> bool:
    """Whether stock ssh-keygen takes the commit's signature for one by this key."""
    lines = content.split(b"\n")
    first = next(number for number, line in enumerate(lines) if line.startswith(b"gpgsig "))
    last = next(number for number in range(first + 1, len(lines)) if not lines[number].startswith(b" "))
    armor = b"\n".join(line.removeprefix(b"gpgsig ").removeprefix(b" ") for line in lines[first:last])
    signature, allowed = folder / "signature", folder / "allowed"
    signature.write_bytes(armor + b"\n")
    allowed.write_text("alice " + signer.key.with_suffix(".pub").read_text())
    checked = subprocess.run(
        ("ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "alice", "-n", "git", "-s", signature),
        input=b"\n".join(lines[:first] + lines[last:]),
        capture_output=True,
        check=False,
    )
    return checked.returncode == 0


def test_a_new_repository_gets_a_signed_first_commit(tmp_path: Path, signer: writing.Signer) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    writing.make_repository(folder)
    (folder / "policies").mkdir()
    (folder / "policies/approval.yaml").write_text("x: ü\n", encoding="utf-8")
    made = writing.commit(folder, signer, "Genesis für alle")
    with repository.GitRepository(store.find_git_dir(folder)) as opened:
        content = opened.commit(made)
        assert opened.resolve(MAIN) == made
        assert list(opened.tree(made)) == [b"policies/approval.yaml"]
    assert verified(content, signer, tmp_path)
    assert b"\nauthor Alice T <alice@bank.example> " in content
    assert b"\ncommitter Alice T <alice@bank.example> " in content
    assert b"\nencoding " not in content
    assert "für".encode() in content


def test_a_merge_is_signed_has_two_parents_and_moves_nothing(
    clone: Clone, signer: writing.Signer, tmp_path: Path
) -> None:
    start = clone.commit({"a": b"1"})
    base = clone.commit({"b": b"1"}, start)
    head = clone.commit({"c": b"1"}, start, ref="refs/heads/feature")
    made = writing.merge(clone.path, head, onto=base, signer=signer, message="Merge feature")
    content = raw(clone, made)
    assert repository.parse_links(content, made).parents == (base, head)
    assert verified(content, signer, tmp_path)
    assert clone.tip() == base
    with repository.GitRepository(clone.git_dir) as opened:
        assert repository.parse_links(content, made).tree == opened.automatic_merge(base, head)


def test_a_merge_that_conflicts_is_for_a_person(clone: Clone, signer: writing.Signer) -> None:
    start = clone.commit({"a": b"1"})
    base, head = clone.commit({"a": b"2"}, start), clone.commit({"a": b"3"}, start, ref="refs/heads/feature")
    with pytest.raises(errors.PermanentError) as caught:
        writing.merge(clone.path, head, onto=base, signer=signer, message="x")
    assert caught.value.code == "conflict"


def test_a_branch_moves_forward_with_its_work_tree_and_only_from_where_it_was(
    clone: Clone, signer: writing.Signer
) -> None:
    start = clone.commit({"a": b"1"})
    clone.git("reset", "--hard", "--quiet")
    head = clone.commit({"c": b"1"}, start, ref="refs/heads/feature")
    made = writing.merge(clone.path, head, onto=start, signer=signer, message="x")
    writing.advance(clone.path, MAIN, made, start)
    assert clone.tip() == made
    assert (clone.path / "c").read_bytes() == b"1"
    writing.advance(clone.path, "refs/heads/feature", made, head)
    assert clone.tip("refs/heads/feature") == made
    with pytest.raises(errors.PermanentError):
        writing.advance(clone.path, "refs/heads/feature", start, head)


def test_a_revert_branch_gives_a_folder_exactly_the_content_it_had(clone: Clone, signer: writing.Signer) -> None:
    good = clone.commit({"targets/web/a": b"1", "targets/web/deep/b": b"1", "targets/db/a": b"1"})
    bad = clone.commit({"targets/web/a": b"2", "targets/web/deep/b": None, "targets/web/ü new": b"2"}, good)
    tip = clone.commit({"targets/db/a": b"2", "targets/webx/a": b"1"}, bad)
    made = writing.revert_branch(
        clone.path,
        {"targets/web": good, "targets/webx": None},
        onto=tip,
        branch="refs/heads/revert-web",
        signer=signer,
        message="Roll back web",
    )
    with repository.GitRepository(clone.git_dir) as opened:
        before, after = opened.tree(good), opened.tree(made)
        assert set(after) == {b"targets/web/a", b"targets/web/deep/b", b"targets/db/a"}
        assert all(after[path] == before[path] for path in after if path.startswith(b"targets/web/"))
        assert after[b"targets/db/a"].sha256 == model.sha256(b"2")
        assert opened.resolve("refs/heads/revert-web") == made
        assert list(opened.first_parents(made, tip)) == [made]
    with pytest.raises(errors.PermanentError):
        writing.revert_branch(
            clone.path, {}, onto=tip, branch="refs/heads/revert-web", signer=signer, message="a second time"
        )


def test_an_approval_is_found_by_its_head_and_twice_is_once(clone: Clone) -> None:
    head = clone.commit({"a": b"1"})
    envelope = b"\x00envelope\n"
    ref = writing.write_approval(clone.path, head, envelope)
    assert ref == f"refs/approvals/v1/{head[:12]}/{model.sha256(envelope)}"
    wrapper = clone.tip(ref)
    assert writing.write_approval(clone.path, head, envelope) == ref
    assert clone.tip(ref) == wrapper
    with repository.GitRepository(clone.git_dir) as opened:
        assert opened.envelopes(head) == (envelope,)


def test_a_push_never_forces_and_tells_no_from_not_reached(clone: Clone, tmp_path: Path) -> None:
    remote = Clone(tmp_path / "remote", "--bare")
    clone.git("remote", "add", "origin", remote.url)
    head = clone.commit({"a": b"1"})
    ref = writing.write_approval(clone.path, head, b"envelope")
    writing.push_ref(clone.path, "origin", ref)
    writing.push(clone.path, "origin", head, MAIN)
    assert remote.tip(ref) == clone.tip(ref)
    assert remote.tip() == head
    other = clone.commit({"z": b"1"})
    with pytest.raises(errors.PermanentError) as refused:
        writing.push(clone.path, "origin", other, MAIN)
    assert refused.value.code == "push_refused"
    assert remote.tip() == head
    clone.git("remote", "set-url", "origin", f"file://{tmp_path}/gone")
    with pytest.raises(errors.TransientError) as away:
        writing.push_ref(clone.path, "origin", ref)
    assert away.value.code == "source_error"
    assert "does not appear to be a git repository" in away.value.message
    assert "git remote -v" in away.value.fix
    with pytest.raises(errors.ConfigError):
        writing.push(clone.path, "origin", f"+{other}", "refs/heads/x:refs/heads/main")


def test_a_push_onto_a_checked_out_branch_is_told_what_to_do_there(tmp_path: Path) -> None:
    for name in ("there", "here"):
        subprocess.run(["git", "init", "-q", "-b", "main", tmp_path / name], check=True)
    who = ("-c", "user.name=a", "-c", "user.email=a@bank.example")
    subprocess.run(["git", "-C", tmp_path / "there", *who, "commit", "-q", "--allow-empty", "-m", "1"], check=True)
    subprocess.run(["git", "-C", tmp_path / "here", "pull", "-q", tmp_path / "there", "main"], check=True)
    subprocess.run(["git", "-C", tmp_path / "here", *who, "commit", "-q", "--allow-empty", "-m", "2"], check=True)
    with pytest.raises(errors.PermanentError) as refused:
        writing.push(tmp_path / "here", str(tmp_path / "there"), "refs/heads/main", "refs/heads/main")
    assert (refused.value.code, "receive.denyCurrentBranch" in refused.value.fix) == ("push_refused", True)


def test_a_hooks_variables_do_not_lead_to_another_repository(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = clone.commit({"a": b"1"})
    other = Clone(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other.git_dir))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other.git_dir / "objects"))
    ref = writing.write_approval(clone.path, head, b"envelope")
    assert clone.tip(ref)
    assert other.git("for-each-ref") == ""


def test_a_key_that_is_not_there_is_said_without_naming_options(clone: Clone, tmp_path: Path) -> None:
    start = clone.commit({"a": b"1"})
    signer = writing.Signer(tmp_path / "none", "Alice", "alice@bank.example")
    with pytest.raises(errors.PermanentError) as caught:
        writing.revert_branch(clone.path, {}, onto=start, branch="refs/heads/x", signer=signer, message="x")
    assert str(caught.value).startswith("git commit-tree: ")
