"""A token goes to its own host over TLS, in no argument and no message, and follows no redirect."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.forge import Forge, serving, write_certificate

from reconciler import errors, model
from reconciler.git import mirror, process

TOKEN = "hunter2-token"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return write_certificate(tmp_path / "server.pem")


@pytest.fixture
def forge(certificate: Path) -> Iterator[Forge]:
    with serving(certificate) as server:
        yield server


@pytest.fixture
def other(certificate: Path) -> Iterator[Forge]:
    with serving(certificate) as server:
        yield server


def refusal(folder: Path, forge: Forge, ca_file: Path | None) -> errors.TransientError:
    auth = process.Auth(token=TOKEN, username="ops", ca_file=ca_file)
    source = mirror.Mirror(
        folder / "m", mirror.Watched(process.Remote(f"https://{forge.host}/ops/state.git", auth), "refs/heads/main")
    )
    with pytest.raises(errors.TransientError) as caught:
        source.fetch(model.Oid("1" * 40), frozenset())
    source.close()
    assert caught.value.code == "source_error"
    assert TOKEN not in str(caught.value)
    return caught.value


def test_the_token_is_sent_to_its_host(tmp_path: Path, forge: Forge, certificate: Path) -> None:
    refusal(tmp_path, forge, certificate)
    path, authorization = forge.seen[0]
    assert path == "/ops/state.git/info/refs?service=git-upload-pack"
    assert authorization == "Basic " + base64.b64encode(f"ops:{TOKEN}".encode()).decode()


def test_a_redirect_is_not_followed(tmp_path: Path, forge: Forge, other: Forge, certificate: Path) -> None:
    forge.status, forge.location = 302, f"https://{other.host}"
    refusal(tmp_path, forge, certificate)
    assert forge.seen
    assert not other.seen


def test_a_certificate_of_an_unknown_authority_is_refused_before_the_token_goes(tmp_path: Path, forge: Forge) -> None:
    refused = refusal(tmp_path, forge, None)
    assert "certificate" in str(refused)
    assert not forge.seen


def test_what_the_server_prints_is_no_part_of_the_message(tmp_path: Path, forge: Forge, certificate: Path) -> None:
    forge.status, forge.body = 403, f"fatal: \x1b[31mfake {TOKEN}\n".encode()
    assert "fake" not in str(refusal(tmp_path, forge, certificate))
