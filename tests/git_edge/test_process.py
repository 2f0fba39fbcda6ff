"""What a verdict's git is given, and what it can never be talked into."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.clones import Clone

from reconciler import errors
from reconciler.git import process


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "url",
    [
        "https://git.bank.example/ops/state.git",
        "https://git.bank.example:8443/ops/state",
        "ssh://git@git.bank.example/ops/state.git",
        "ssh://git.bank.example:2222/~ops/state.git",
        "ssh://git@[fd00::1]:22/ops/state.git",
    ],
)
def test_a_plain_https_or_ssh_url_is_taken(url: str) -> None:
    assert process.Remote(url).protocol == url.split(":", maxsplit=1)[0]


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch x",
        "ssh://-oProxyCommand=touch%20x/repo",
        "ssh://git@-oProxyCommand=x/repo",
        "ssh://-l@host/repo",
        "ext::sh -c touch% x",
        "file:///srv/state.git",
        "/srv/state.git",
        "git@host:ops/state.git",
        "git://host/state.git",
        "http://host/state.git",
        "https://user:secret@host/state.git",
        "https://token@host/state.git",
        "https://host/state.git?x=1",
        "https://host/a b",
        "https://host/a\n",
        "https://host",
        "HTTPS://host/x",
        "",
    ],
)
def test_any_other_url_is_refused_when_configuration_loads(url: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        process.Remote(url)
    assert caught.value.code == "url"
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_the_file_transport_is_for_development_only(tmp_path: Path) -> None:
    url = f"file://{tmp_path}"
    assert process.Remote(url, allow_file=True).protocol == "file"
    with pytest.raises(errors.ConfigError):
        process.Remote(url)
    with pytest.raises(errors.ConfigError):
        process.Remote("ext::sh", allow_file=True)


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/heads/release/2026-11", "refs/heads/a_b+c.d"])
def test_a_full_ref_is_taken(ref: str) -> None:
    process.check_ref(ref)
    process.check_ref("refs/audit/checkpoints", under="refs/audit/")
    with pytest.raises(errors.ConfigError):
        process.check_ref(ref, under="refs/audit/")


@pytest.mark.parametrize(
    "ref",
    [
        "main",
        "HEAD",
        "-x",
        "refs/heads/-x",
        "../x",
        "refs/heads/../x",
        "refs/heads/a..b",
        "refs/heads/" + "a" * 40,
        "refs/heads/" + "0" * 64,
        "a" * 40,
        "refs/heads/mаin",  # its first vowel is Cyrillic
        "refs/heads/main.lock",
        "refs/heads/x.lock/y",
        "refs/heads/",
        "refs/heads//x",
        "refs/heads/.x",
        "refs/heads/x.",
        "refs/heads/x y",
        "refs/heads/x\n",
        "refs/heads/*",
        "refs/heads/x:refs/heads/y",
        "+refs/heads/main",
        "refs/replace/x",
        "refs/tags/v1",
    ],
)
def test_a_ref_that_could_mean_something_else_is_refused(ref: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        process.check_ref(ref)
    assert caught.value.code == "ref"


def test_nothing_of_the_callers_environment_reaches_git(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Clone(tmp_path / "clone")
    touched = tmp_path / "touched"
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {touched}")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", f"touch {touched}")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Mallory")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    git = process.GitProcess(clone.git_dir, home=home)
    assert git.run("config", "--get", "user.name").code == 1
    assert git.text("rev-parse", "--absolute-git-dir").strip() == str(clone.git_dir)
    exported = git.text("-c", "alias.variables=!env", "variables")
    names = {line.partition("=")[0] for line in exported.splitlines()}
    ours = {
        "HOME",
        "LC_ALL",
        "TZ",
        "PATH",
        "PWD",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_ALLOW_PROTOCOL",
        "GIT_NO_REPLACE_OBJECTS",
    }
    assert ours <= names
    assert not names & {"GIT_CONFIG_COUNT", "GIT_EXTERNAL_DIFF", "SSH_AUTH_SOCK", "USER"}
    assert not touched.exists()


def test_no_transport_works_without_a_remote_and_no_other_than_its_own_with_one(tmp_path: Path, home: Path) -> None:
    clone = Clone(tmp_path / "clone")
    clone.commit({"a": b"1"})
    git = process.GitProcess(clone.git_dir, home=home)
    touched = tmp_path / "touched"
    assert "not allowed" in git.run("ls-remote", clone.url).stderr
    file_only = process.Remote(clone.url, allow_file=True)
    assert git.run("ls-remote", clone.url, remote=file_only).code == 0
    assert "not allowed" in git.run("ls-remote", f"ext::touch {touched}", remote=file_only).stderr
    assert "not allowed" in git.run("ls-remote", "ssh://host/x", remote=file_only).stderr
    assert not touched.exists()


def test_a_process_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path, home: Path) -> None:
    clone = Clone(tmp_path / "clone")
    git = process.GitProcess(clone.git_dir, home=home, limits=process.ProcessLimits(timeout_s=0.4))
    left = tmp_path / "left"
    with pytest.raises(errors.TransientError) as caught:
        git.run("-c", f"alias.slow=!sleep 2; touch {left}", "slow")
    assert caught.value.code == "source_error"
    assert not left.exists()


def test_the_limits_hold_in_what_git_starts(tmp_path: Path, home: Path) -> None:
    clone = Clone(tmp_path / "clone")
    limits = process.ProcessLimits(cpu_s=7, memory_bytes=3 << 30, file_bytes=1 << 20)
    git = process.GitProcess(clone.git_dir, home=home, limits=limits)
    printed = git.text("-c", "alias.limits=!ulimit -t; ulimit -v; ulimit -f", "limits").split()
    assert printed == ["7", str(3 << 20), "2048"]
    assert git.run("-c", "alias.big=!head -c 2000000 /dev/zero > big", "big").code != 0


def test_a_flood_of_output_is_refused(tmp_path: Path, home: Path) -> None:
    clone = Clone(tmp_path / "clone")
    git = process.GitProcess(clone.git_dir, home=home, limits=process.ProcessLimits(output_bytes=1000))
    with pytest.raises(errors.PermanentError) as caught:
        git.run("-c", "alias.flood=!head -c 2000 /dev/zero", "flood")
    assert caught.value.code == "limit"


def test_a_token_is_in_no_printed_value() -> None:
    auth = process.Auth(token="hunter2")
    assert "hunter2" not in repr(process.Remote("https://host/x", auth))


def test_a_key_path_that_ssh_would_split_is_refused(tmp_path: Path, home: Path) -> None:
    clone = Clone(tmp_path / "clone")
    git = process.GitProcess(clone.git_dir, home=home)
    remote = process.Remote("ssh://host/x", process.Auth(ssh_key=Path("/keys/a -o ProxyCommand=x")))
    with pytest.raises(errors.ConfigError):
        git.run("version", remote=remote)


def test_relative_entries_of_the_search_path_are_dropped(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f".:bin::{os.environ['PATH']}")
    clone = Clone(tmp_path / "clone")
    printed = process.GitProcess(clone.git_dir, home=home).text("-c", "alias.path=!echo $PATH", "path")
    assert ":.:" not in f":{printed.strip()}:"
    assert ":bin:" not in f":{printed.strip()}:"


def test_the_installed_git_is_new_enough() -> None:
    assert process.git_version() >= process.OLDEST_GIT
