"""What `init` makes holds together; what would not hold is refused before anything is written."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import pytest
import yaml
from support import signing, workspace

from reconciler import config
from reconciler.admission import lint, policy
from reconciler.git import writing


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for name in ("alice", "bob", "carol"):
        signing.Key(name).write(tmp_path / name)
    return tmp_path


def people(folder: Path, *names: str) -> list[str]:
    return [part for name in names for part in ("--person", f"{name}={folder / name}.pub")]


def test_two_people_get_a_repository_that_one_pass_runs_on(keys: Path) -> None:
    made = workspace.run("init", *people(keys, "alice", "bob"), "--key", keys / "alice", "bank", cwd=keys)
    assert made.code == 0
    told = config.load(keys / "bank/reconciler.yaml", {})
    assert told.source.genesis in made.out
    rules = policy.parse_policy((keys / "bank/repository" / policy.PATH).read_bytes())
    assert rules.repository.id == told.source.id
    assert set(rules.people) == {"alice", "bob"}
    passed = workspace.run("once", cwd=keys / "bank")
    assert passed.code == 3
    assert "hello: stands uncleared" in passed.err
    assert not (keys / "bank/machines/hello/etc").exists()


def test_with_converge_the_first_commit_is_written(keys: Path) -> None:
    workspace.run("init", *people(keys, "alice", "bob"), "bank", cwd=keys)
    assert workspace.run("once", "--converge", cwd=keys / "bank").code == 0
    assert (keys / "bank/machines/hello/etc/motd").is_file()


def test_one_person_is_told_why_that_cannot_work(keys: Path) -> None:
    refused = workspace.run("init", *people(keys, "alice"), "bank", cwd=keys)
    assert refused.code == 2
    assert "with one person nobody could approve" in refused.err
    assert not (keys / "bank").exists()


def test_two_people_and_one_admin_could_never_change_a_policy(keys: Path) -> None:
    refused = workspace.run("init", *people(keys, "alice", "bob"), "--admin", "alice", "bank", cwd=keys)
    assert refused.code == 2
    assert "no change of a policy could be approved" in refused.err


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_change_of_the_policy_can_be_approved_by_whoever_is_left(tmp_path: Path, count: int) -> None:
    names = ("alice", "bob", "carol", "dan")[:count]
    bank = workspace.Workspace(tmp_path, names)
    text = (bank.daemon / "repository" / policy.PATH).read_text()
    bank.branch("policy", {policy.PATH: text.replace("within: 14d", "within: 7d")})
    for name in names[1:3]:
        assert bank.approve("policy", name).code == 0
    assert bank.here("verify", "--head", "policy").code == 0


def test_a_production_profile_wants_two_admins_and_an_address(keys: Path) -> None:
    everybody = people(keys, "alice", "bob", "carol")
    told = ("--profile", "production", "bank")
    no_url = workspace.run("init", *everybody, *told, cwd=keys)
    assert "reads no folder of this machine" in no_url.err
    url = ("--url", "ssh://git@git.bank.example/ops/state.git")
    one_admin = workspace.run("init", *everybody, "--admin", "alice", *url, *told, cwd=keys)
    assert one_admin.code == 2
    assert "policy-admins" in one_admin.err
    assert not (keys / "bank").exists()
    made = workspace.run("init", *everybody, *url, *told, cwd=keys)
    assert made.code == 0
    blob = (keys / "bank/repository" / policy.PATH).read_bytes()
    source = yaml.safe_load((keys / "bank/reconciler.yaml").read_text())["source"]
    found = lint.lint(
        blob,
        source_id=source["id"],
        source_ref=source["ref"],
        now=datetime.now(UTC),
        production=True,
    )
    assert found.errors == ()


def test_the_first_commit_is_signed_by_the_person_whose_key_is_given(keys: Path) -> None:
    everybody = people(keys, "alice", "bob")
    stranger = workspace.run("init", *everybody, "--key", keys / "carol", "bank", cwd=keys)
    assert "belongs to nobody" in stranger.err
    workspace.run("init", *everybody, "--key", keys / "alice", "bank", cwd=keys)
    assert "gpgsig -----BEGIN SSH SIGNATURE" in workspace.git(keys / "bank/repository", "cat-file", "-p", "HEAD")


def test_two_keys_with_one_comment_give_nobody_that_address(keys: Path) -> None:
    for name in ("alice", "bob"):
        public = keys / f"{name}.pub"
        public.write_text(" ".join([*public.read_text().split()[:2], "root@machine"]) + "\n")
    made = workspace.run("init", *people(keys, "alice", "bob"), "bank", cwd=keys)
    assert made.code == 0
    assert "commits as <alice@localhost>" in made.out


def test_nothing_that_is_there_is_written_over(keys: Path) -> None:
    (keys / "bank").mkdir()
    (keys / "bank/reconciler.yaml").write_text("mine")
    refused = workspace.run("init", *people(keys, "alice", "bob"), "bank", cwd=keys)
    assert refused.code == 2
    assert (keys / "bank/reconciler.yaml").read_text() == "mine"
    assert not (keys / "bank/repository").exists()


def next_steps(made: workspace.Answer) -> list[list[str]]:
    """The commands that `init` prints, without what explains them."""
    lines = made.err.partition("next:\n")[2].splitlines()
    return [line.partition("    #")[0].replace("&&", " ").split() for line in lines]


@pytest.mark.parametrize("existing", [False, True])
def test_what_init_prints_as_next_steps_leads_to_an_accepted_merge(keys: Path, *, existing: bool) -> None:
    where: tuple[str, ...] = ("bank",)
    if existing:
        where = ("--existing", "bank")
        workspace.git(keys, "init", "-q", "-b", "main", "bank")
        anybody = ("-c", "user.name=a", "-c", "user.email=a@b")
        workspace.git(keys / "bank", *anybody, "commit", "-q", "--allow-empty", "-m", "before")
    made = workspace.run("init", *people(keys, "alice", "bob"), *where, cwd=keys)
    *taking, starting, cloning, approving, merging = next_steps(made)
    assert [step[:2] for step in taking] == ([["git", "-C"]] if existing else [])
    for step in taking:
        workspace.git(keys, *step[1:])
    assert (starting[0], starting[2:4]) == ("cd", ["reconciler", "run"])
    daemon = Path(starting[1])
    assert workspace.run("once", cwd=daemon).code in {0, 3}

    clone = keys / "clone"
    workspace.git(keys, *(str(clone) if word == "CLONE" else word for word in cloning[1:]))
    workspace.git(clone, "switch", "-q", "-c", "mine")
    (clone / "NOTES.md").write_text("ours\n")
    with mock.patch.dict(os.environ, workspace.ENVIRONMENT):
        writing.commit(clone, writing.Signer(keys / "alice", "Alice", "alice@localhost"), "mine")
    filled = [
        [str(keys / who) if w == "KEY" else w for w in step[1:]]
        for who, step in zip(("bob", "alice"), (approving, merging), strict=True)
    ]
    approved = workspace.run(*filled[0], "--yes", cwd=clone)
    assert approved.code == 0, approved.err
    merged = workspace.run(*filled[1], cwd=clone)
    assert merged.code == 0, merged.err
    served = Path(cloning[2].removeprefix("file://"))
    assert workspace.git(served, "rev-parse", "main") == merged.out.strip()
    assert (served / "NOTES.md").read_text() == "ours\n"  # The work tree went with it.
    assert workspace.run("once", cwd=daemon).code in {0, 3}
    tip = workspace.run("get", "status", "-o", "json", cwd=daemon).document["tip"]
    assert tip == merged.out.strip()


def test_an_existing_repository_gets_the_policy_on_its_tip(keys: Path) -> None:
    state = keys / "state"
    workspace.git(keys, "init", "-q", "-b", "trunk", state)
    (state / "README.md").write_text("ours\n")
    workspace.git(state, "add", "--all")
    workspace.git(state, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "before")
    (state / "left.txt").write_text("not committed")
    asked = ("init", *people(keys, "alice", "bob"), "--existing", "state")
    assert "the work tree has changes" in workspace.run(*asked, cwd=keys).err
    (state / "left.txt").unlink()

    assert workspace.run(*asked, cwd=keys).code == 0
    assert workspace.git(state, "ls-files").split() == ["README.md", "policies/approval.yaml"]
    told = config.load(keys / "state-daemon/reconciler.yaml", {})
    assert (told.source.ref, told.source.genesis) == ("refs/heads/trunk", workspace.git(state, "rev-parse", "HEAD"))
    assert workspace.run("once", cwd=keys / "state-daemon").code == 0
    again = workspace.run(*asked, cwd=keys)
    assert "there is an approval policy already" in again.err


def test_an_existing_repository_whose_attributes_refuse_the_policy_is_left_as_it_was(keys: Path) -> None:
    path = keys / "existing"
    workspace.git(keys, "init", "-q", "-b", "main", path)
    (path / ".gitattributes").write_text("*.yaml working-tree-encoding=UTF-16\n")
    workspace.git(path, "add", ".")
    workspace.git(path, "-c", "user.name=a", "-c", "user.email=a@x", "commit", "-q", "-m", "theirs")
    named = [part for name in ("alice", "bob") for part in ("--person", f"{name}={keys / name}.pub")]
    made = workspace.run("init", *named, "--key", keys / "alice", "--existing", path, cwd=keys)
    assert (made.code, "BOM is required in 'policies/approval.yaml'" in made.err) == (2, True), made.err
    assert workspace.git(path, "status", "--porcelain") == ""
