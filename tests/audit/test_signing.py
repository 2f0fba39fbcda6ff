from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler import errors
from reconciler.audit import checkpoint, signing


def keygen(path: Path, *options: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-f", path, *options], check=True)
    return path


def refuse(path: Path) -> errors.ConfigError:
    with pytest.raises(errors.ConfigError) as refused:
        signing.FileSigner.read(path)
    assert (refused.value.code, refused.value.where) == ("log_key", str(path))
    return refused.value


def test_a_key_of_ssh_keygen_signs_and_its_public_file_verifies(tmp_path: Path) -> None:
    path = keygen(tmp_path / "key", "-t", "ed25519", "-N", "")
    signer = signing.FileSigner.read(path)
    public = signing.read_public(tmp_path / "key.pub")
    assert signer.public == public
    assert checkpoint.verify_signature(b"note", signer.sign(b"note"), public)
    assert not checkpoint.verify_signature(b"other", signer.sign(b"note"), public)


def test_ssh_keygen_reads_a_key_that_was_made_here(tmp_path: Path) -> None:
    made = signing.FileSigner.make(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "key"], check=True, capture_output=True).stdout
    (tmp_path / "shown.pub").write_bytes(shown)
    assert made.public == signing.read_public(tmp_path / "key.pub") == signing.read_public(tmp_path / "shown.pub")
    assert signing.FileSigner.read(tmp_path / "key").public == made.public


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    first = signing.FileSigner.make(tmp_path / "key")
    with pytest.raises(errors.ConfigError):
        signing.FileSigner.make(tmp_path / "key")
    assert signing.FileSigner.read(tmp_path / "key").public == first.public


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = keygen(tmp_path / "key", "-t", "ed25519", "-N", "")
    path.chmod(0o640)
    assert "chmod 600" in refuse(path).fix


def test_what_is_no_plain_ed25519_key_is_refused(tmp_path: Path) -> None:
    refuse(keygen(tmp_path / "rsa", "-t", "rsa", "-b", "2048", "-N", ""))
    refuse(keygen(tmp_path / "locked", "-t", "ed25519", "-N", "passphrase"))
    refuse(tmp_path / "missing")
    (tmp_path / "text").write_text("no key")
    (tmp_path / "text").chmod(0o600)
    refuse(tmp_path / "text")
    for public in ("rsa.pub", "text", "missing"):
        with pytest.raises(errors.ConfigError):
            signing.read_public(tmp_path / public)
