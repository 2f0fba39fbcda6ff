from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler import errors, redact
from reconciler.secrets import resolving


def refusal(reference: str, **environment: str) -> errors.ConfigError:
    with pytest.raises(errors.ConfigError) as caught:
        resolving.Secrets(environment).resolve(reference)
    assert caught.value.code == "secret"
    return caught.value


def test_a_variable_and_a_file_are_resolved_and_masked_from_then_on(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("correct horse battery\n")
    known = resolving.Secrets({"APP_PASSWORD": "a-password-of-this-test"})
    assert known.resolve("env:APP_PASSWORD") == "a-password-of-this-test"
    assert known.resolve(f"file:{tmp_path}/token") == "correct horse battery"
    assert redact.text("a-password-of-this-test and correct horse battery") == "*** and ***"


def test_a_vault_that_nobody_configured_is_named_as_what_is_missing() -> None:
    refused = refusal("vault:kv/prod/app#token")
    assert (refused.message, refused.where) == ("no vault is configured", "vault:kv/prod/app#token")
    assert "secrets.vault" in refused.fix


@pytest.mark.parametrize(
    "reference",
    ["env:", "env:A-B", "env:MISSING", "env:EMPTY", "file:relative", "file:/a/../b", "file:/nowhere/at/all"],
)
def test_what_is_not_there_is_refused_with_its_reference(reference: str) -> None:
    assert refusal(reference, EMPTY="").where == reference


def test_a_value_that_stands_where_a_reference_belongs_is_not_repeated() -> None:
    assert "hunter2" not in repr(refusal("hunter2")) + refusal("hunter2").where


def test_a_secret_too_short_to_be_masked_is_refused() -> None:
    assert "shorter" in refusal("env:PIN", PIN="123").message


def test_a_pipe_and_a_folder_are_no_secret(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refusal(f"file:{tmp_path}/pipe").message
    assert "regular file" in refusal(f"file:{tmp_path}").message


def test_content_that_is_no_text_shows_in_no_message(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xffhunter2")
    refused = refusal(f"file:{tmp_path}/key")
    assert "hunter2" not in str(refused)
    assert refused.__cause__ is None
    (tmp_path / "big").write_bytes(b"x" * (resolving.MAX_BYTES + 1))
    assert "longer" in refusal(f"file:{tmp_path}/big").message


def test_its_repr_shows_no_value() -> None:
    assert repr(resolving.Secrets({"APP": "hunter2"})) == "Secrets(***)"
