from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from reconciler import redact

TEXTS = st.text(max_size=60)
SECRETS = st.text(min_size=redact.MIN_SECRET_CHARS, max_size=12)
DOCUMENTS: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_known", redact._Known())


def fresh() -> None:
    redact._known = redact._Known()


def texts(value: JsonValue) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from texts(each)
        case dict():
            for key, each in value.items():
                yield key
                yield from texts(each)


@given(SECRETS, TEXTS, TEXTS, st.integers(min_value=4, max_value=80))
def test_no_known_secret_survives_in_any_text(secret: str, before: str, after: str, limit: int) -> None:
    fresh()
    redact.remember(secret)
    assert secret not in redact.text(before + secret + after)
    assert secret not in redact.text(before + secret + after, limit_chars=limit)
    assert secret not in redact.line(before + secret + after)


@given(st.lists(SECRETS, min_size=1, max_size=4), DOCUMENTS)
def test_no_known_secret_survives_in_any_document(secrets: list[str], document: JsonValue) -> None:
    fresh()
    for secret in secrets:
        redact.remember(secret)
    cleaned = list(texts(redact.document([document, {secret: secret for secret in secrets}, "".join(secrets)])))
    assert not [s for s in secrets for each in cleaned if s in each]


@given(DOCUMENTS)
def test_no_control_and_no_format_character_survives(document: JsonValue) -> None:
    fresh()
    seen = {c for each in texts(redact.document(document)) for c in each}
    assert not {c for c in seen - {"\n", "\t"} if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}


def test_every_invisible_character_of_this_unicode_is_known() -> None:
    invisible = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert [hex(ord(c)) for c in invisible if redact.text(f"a{c}é") != "aé" and c not in "\n\t"] == []


@given(DOCUMENTS)
def test_redacting_twice_is_redacting_once(document: JsonValue) -> None:
    fresh()
    once = redact.document(document)
    assert redact.document(once) == once


def test_an_escape_sequence_goes_as_a_whole() -> None:
    assert redact.text("\x1b[2J\x1b]0;owned\x07ok\x1b[31m red\x1b[0m\x9b1m!") == "ok red!"
    assert redact.text("pay \u202eecila\u202c") == "pay ecila"


def test_a_kubeconfig_masks_what_is_secret_in_it_and_no_words_of_manifests() -> None:
    fresh()
    lines = ("apiVersion: v1", "kind: Config", "users:", "- name: deployer", "  user:", "    token: abcdef0123456789")
    redact.remember("\n".join(lines))
    plan = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nimpersonate: {user: deployer}\nusers:\n"
    assert redact.text(plan) == plan
    assert redact.text("its token: abcdef0123456789.") == "its ***."
    redact.remember("name: hunter2\nusers:\n")
    assert "hunter2" not in redact.text("name: hunter2"), "only of a kubeconfig"


def test_a_secret_is_found_line_by_line_quoted_and_in_base64() -> None:
    secret = "-----BEGIN KEY-----\nMIIB+w/a b==\n-----END KEY-----"
    redact.remember(secret)
    for form in (
        "MIIB+w/a b==",
        base64.b64encode(secret.encode()).decode(),
        json.dumps(secret),
        "-----BEGIN%20KEY-----%0AMIIB%2Bw%2Fa%20b%3D%3D%0A-----END%20KEY-----",
    ):
        assert "MIIB" not in redact.text(f"x {form} y")
        assert redact.text(f"x {form} y") != f"x {form} y"


def test_a_secret_that_control_characters_hide_is_found() -> None:
    redact.remember("hunter2")
    assert redact.text("hun\x1b[0mter2 hunt\u200ber2") == "*** ***"


def test_a_secret_that_is_cut_by_the_limit_leaves_no_half() -> None:
    redact.remember("correct horse")
    assert redact.text("a" * 10 + "correct horse battery", limit_chars=14).startswith("a" * 10 + "***")


def test_what_stands_under_the_name_of_a_secret_is_masked_and_references_are_not() -> None:
    document: JsonValue = {
        "password": "hunter2",
        "apiKey": 12345,
        "token": "vault:kv/prod/app#token",
        "db": {"credentials": {"user": "app", "url": "env:DB_URL"}},
        "tokenUrl": "https://login.example",
        "empty": {"secret": ""},
        "enabled": {"secret": True},
    }
    assert redact.document(document) == {
        "password": "***",
        "apiKey": "***",
        "token": "vault:kv/prod/app#token",
        "db": {"credentials": {"user": "***", "url": "env:DB_URL"}},
        "tokenUrl": "https://login.example",
        "empty": {"secret": ""},
        "enabled": {"secret": True},
    }


def test_of_two_keys_that_look_alike_none_hides_the_other() -> None:
    assert redact.document({"a": 1, "a\u200b": 2}) == {"a": 1, "a~": 2}


def test_what_is_known_shows_in_no_repr() -> None:
    redact.remember("hunter2")
    assert "hunter2" not in repr(redact._known)
