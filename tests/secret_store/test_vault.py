"""References into a real OpenBao: what is read, what is refused, and how often it is asked."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import credentials, openbao

from reconciler import errors, redact
from reconciler.gates import limits
from reconciler.secrets import resolving, session, vault

CANARY = "canary-4711-in-the-vault"


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Reading:
    """Secrets as the daemon resolves them, with their clock and the files that hold their credentials."""

    secrets: resolving.Secrets
    clock: Clock = field(default_factory=Clock)

    def __call__(self, reference: str) -> str:
        return self.secrets.resolve(reference)

    def refused(self, reference: str) -> errors.ReconcilerError:
        with pytest.raises(errors.ReconcilerError) as caught:
            self.secrets.resolve(reference)
        said = f"{caught.value} {caught.value.fix} {caught.value!r} {caught.value.__cause__!r}"
        assert CANARY not in said
        return caught.value


Make = Callable[..., Reading]


@pytest.fixture
def make(bao: openbao.OpenBao, tmp_path: Path) -> Iterator[Make]:
    opened: list[Reading] = []

    def made(
        auth: session.Auth, *, url: str = "", environment: Mapping[str, str] | None = None, **more: object
    ) -> Reading:
        clock = Clock()
        place = {"ca_file": bao.ca_path, **more}
        settings = vault.Settings(url or bao.url, auth, **place)  # type: ignore[arg-type]  # a test's options
        opened.append(Reading(resolving.Secrets(environment or {}, clock, settings), clock))
        return opened[-1]

    yield made
    for each in opened:
        each.secrets.close()


def approle(folder: Path, role_id: str, secret_id: str, **more: str) -> session.AppRole:
    (folder / "role-id").write_text(f"{role_id}\n")
    (folder / "secret-id").write_text(f"{secret_id}\n")
    return session.AppRole(f"file:{folder}/role-id", f"file:{folder}/secret-id", **more)


@pytest.fixture
def reading(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> Reading:
    """An AppRole that may read kv/t/** and old/t/**."""
    role = bao.make_role("reader", ["kv/data/t/*", "old/t/*"])
    return make(approle(tmp_path, *role))


# --- what is read ---------------------------------------------------------------------------------------------------------


def test_both_versions_of_the_engine_are_read_and_masked_from_then_on(bao: openbao.OpenBao, reading: Reading) -> None:
    bao.write("kv/t/deep/app", {"token": CANARY, "tls.key": "line one\nline two\n"})
    bao.write("old/t/app", {"token": "an-old-secret"})
    assert reading("vault:kv/t/deep/app#token") == CANARY
    assert reading("vault:kv/t/deep/app#tls.key") == "line one\nline two\n"
    assert reading("vault:old/t/app#token") == "an-old-secret"
    assert redact.text(f"a {CANARY} b an-old-secret") == "a *** b ***"


def test_the_newest_version_is_read_and_a_deleted_one_is_not(bao: openbao.OpenBao, reading: Reading) -> None:
    bao.write("kv/t/new", {"token": "version-one"})
    bao.write("kv/t/new", {"token": "version-two"})
    assert reading("vault:kv/t/new#token") == "version-two"
    bao.call("DELETE", "kv/data/t/new")
    reading.clock.at += vault.FRESH_S
    refused = reading.refused("vault:kv/t/new#token")
    assert isinstance(refused, errors.ConfigError)
    assert "was deleted" in refused.message


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("vault:kv/t/nowhere#token", "no such secret"),
        ("vault:old/t/nowhere#token", "no such secret"),
        ("vault:kv/t/here#Token", "has no key Token"),
        ("vault:kv/t/here#port", "no text"),
        ("vault:kv/t/here#big", "longer than"),
        ("vault:kv/t/here#pin", "shorter than"),
    ],
)
def test_what_is_not_there_is_refused_by_its_reference(
    bao: openbao.OpenBao, reading: Reading, reference: str, said: str
) -> None:
    bao.write("kv/t/here", {"token": CANARY, "port": 5432, "big": "x" * (vault.MAX_CHARS + 1), "pin": "123"})
    refused = reading.refused(reference)
    assert isinstance(refused, errors.ConfigError)
    assert (refused.code, refused.where) == ("secret", reference)
    assert said in refused.message


def test_a_path_of_the_api_is_told_from_the_path_of_a_secret(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> None:
    bao.write("kv/t/app", {"token": CANARY})
    reads = make(approle(tmp_path, *bao.make_role("all", ["kv/data/*"])))
    assert "leave data/ out" in reads.refused("vault:kv/data/t/app#token").fix


@pytest.mark.parametrize(
    "reference",
    [
        "vault:kv/t/../x#token",
        "vault:kv/./x#token",
        "vault:kv//x#token",
        "vault:kv/%2e%2e/x#token",
        "vault:kv#token",
        "vault:kv/t/x",
        "vault:kv/t/x#a#b",
        "vault:/kv/t#x",
        "vault:kv/t/x?version=1#y",
        f"vault:{CANARY} with a blank",
    ],
)
def test_a_reference_of_another_form_asks_nobody(bao: openbao.OpenBao, make: Make, reference: str) -> None:
    with openbao.between(bao) as way:
        refused = make(session.Token("env:T"), url=way.url).refused(reference)
        assert (refused.code, refused.where) == ("secret", "vault:***")
        assert way.seen == []


@given(st.text(alphabet="a9_.-/#%~ \n", min_size=1, max_size=14).map("vault:k/{}".format))
def test_the_gate_and_the_resolver_take_the_same_references(text: str) -> None:
    assert bool(limits._REFERENCE.fullmatch(text)) == bool(vault._REFERENCE.fullmatch(text))


def test_an_engine_that_would_make_an_account_is_not_read(bao: openbao.OpenBao, make: Make) -> None:
    reads = make(session.Token("env:T"), environment={"T": bao.ROOT})
    for reference in ("vault:sys/health#version", "vault:cubbyhole/x#y", "vault:identity/x#y"):
        assert "no KV engine" in reads.refused(reference).message


# --- who asks -------------------------------------------------------------------------------------------------------------


def test_what_the_policy_does_not_allow_is_denied_for_good_with_the_right_that_is_missing(
    bao: openbao.OpenBao, make: Make, tmp_path: Path
) -> None:
    bao.write("kv/other/app", {"token": CANARY})
    role = bao.make_role("narrow", ["kv/data/t/*"])
    with openbao.between(bao) as way:
        reads = make(approle(tmp_path, *role), url=way.url)
        refused = reads.refused("vault:kv/other/app#token")
        assert isinstance(refused, errors.PermanentError)
        assert (refused.code, refused.where) == ("secret_denied", "vault:kv/other/app#token")
        assert "read on kv/data/other/app" in refused.fix
        reads.refused("vault:kv/other/app#token")
        assert [path for _, path in way.seen].count("/v1/auth/approle/login") == 1


def test_nothing_below_a_mount_is_denied_too(reading: Reading) -> None:
    refused = reading.refused("vault:elsewhere/a#b")
    assert refused.code == "secret_denied"
    assert "nothing is mounted there" in refused.message


def test_a_token_that_was_revoked_is_had_anew_once(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> None:
    bao.write("kv/t/again", {"token": CANARY})
    role = bao.make_role("again", ["kv/data/t/*"])
    with openbao.between(bao) as way:
        reads = make(approle(tmp_path, *role), url=way.url)
        assert reads("vault:kv/t/again#token") == CANARY
        bao.call("POST", "auth/token/revoke", {"token": way.headers[-1]["x-vault-token"]})
        reads.clock.at += vault.FRESH_S
        assert reads("vault:kv/t/again#token") == CANARY
        assert [path for _, path in way.seen].count("/v1/auth/approle/login") == 2


def test_a_token_that_ended_is_had_anew(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> None:
    bao.write("kv/t/short", {"token": CANARY})
    role = bao.make_role("short", ["kv/data/t/*"], life={"token_ttl": "1s", "token_max_ttl": "1s"})
    reads = make(approle(tmp_path, *role))
    assert reads("vault:kv/t/short#token") == CANARY
    time.sleep(1.2)  # In the vault; for our own clock, which stands, the token still lives.
    reads.clock.at += 0.5
    reads.secrets._vault._kept.clear()  # type: ignore[union-attr]
    assert reads("vault:kv/t/short#token") == CANARY


def test_a_token_is_renewed_in_time_and_replaced_before_its_last_end(
    bao: openbao.OpenBao, make: Make, tmp_path: Path
) -> None:
    bao.write("kv/t/renew", {"token": CANARY})
    role = bao.make_role("renew", ["kv/data/t/*"], life={"token_ttl": "100s", "token_max_ttl": "120s"})
    with openbao.between(bao) as way:
        reads = make(approle(tmp_path, *role), url=way.url)

        def asked_for(name: str) -> int:
            return [path for _, path in way.seen].count(f"/v1/auth/{name}")

        reads("vault:kv/t/renew#token")
        reads.clock.at += 50
        reads("vault:kv/t/renew#token")
        assert (asked_for("token/renew-self"), asked_for("approle/login")) == (0, 1)
        reads.clock.at += 31  # Two thirds are over.
        reads("vault:kv/t/renew#token")
        assert (asked_for("token/renew-self"), asked_for("approle/login")) == (1, 1)
        bao.call("POST", "auth/token/revoke", {"token": way.headers[-1]["x-vault-token"]})
        reads.clock.at += 70
        reads("vault:kv/t/renew#token")  # It cannot be renewed: another one, without a failure in between.
        assert (asked_for("token/renew-self"), asked_for("approle/login")) == (2, 2)


def test_a_vault_that_is_away_when_a_token_is_to_be_renewed_is_asked_again_later(
    bao: openbao.OpenBao, make: Make, tmp_path: Path
) -> None:
    bao.write("kv/t/later", {"token": CANARY})
    role = bao.make_role("later", ["kv/data/t/*"])
    with openbao.between(bao) as way:
        reads = make(approle(tmp_path, *role), url=way.url)
        reads("vault:kv/t/later#token")
        way.spoil = lambda _, path: openbao.Spoiled(503) if "renew" in path else None
        reads.clock.at += 3000
        assert reads("vault:kv/t/later#token") == CANARY


def test_refused_credentials_are_shown_once_until_they_change(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> None:
    bao.write("kv/t/refused", {"token": CANARY})
    role_id, secret_id = bao.make_role("refused", ["kv/data/t/*"])
    with openbao.between(bao) as way:
        reads = make(approle(tmp_path, role_id, f"not-{secret_id}"), url=way.url)
        for _ in range(3):
            refused = reads.refused("vault:kv/t/refused#token")
            assert isinstance(refused, errors.PermanentError)
            assert (refused.code, refused.where) == ("target.auth_failed", "vault:kv/t/refused#token")
            assert secret_id not in f"{refused} {refused.fix}"
        assert len(way.seen) == 1
        reads.clock.at += session.REFUSED_FOR_S
        reads.refused("vault:kv/t/refused#token")
        reads.refused("vault:kv/t/refused#token")
        assert len(way.seen) == 2
        (tmp_path / "secret-id").write_text(secret_id)
        assert reads("vault:kv/t/refused#token") == CANARY


def test_a_token_from_a_file_is_read_anew_when_it_is_dead(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> None:
    bao.write("kv/t/given", {"token": CANARY})
    bao.allow("given", ["kv/data/t/*"])
    first, second = bao.make_token("given", ttl="1h"), bao.make_token("given", ttl="1h")
    (tmp_path / "token").write_text(f"{first}\n")
    reads = make(session.Token(f"file:{tmp_path}/token"))
    assert reads("vault:kv/t/given#token") == CANARY
    bao.call("POST", "auth/token/revoke", {"token": first})
    reads.clock.at += vault.FRESH_S
    assert reads.refused("vault:kv/t/given#token").code == "target.auth_failed"
    (tmp_path / "token").write_text(f"{second}\n")
    assert reads("vault:kv/t/given#token") == CANARY


def test_a_signed_token_logs_in(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> None:
    bao.write("kv/t/jwt", {"token": CANARY})
    bao.allow("jwt", ["kv/data/t/*"])
    public, signed = credentials.make("daemon")
    bao.call("POST", "sys/auth/jwt-of-tests", {"type": "jwt"})
    bao.call("POST", "auth/jwt-of-tests/config", {"jwt_validation_pubkeys": [public]})
    role = {"role_type": "jwt", "user_claim": "sub", "bound_subject": "daemon", "token_policies": ["jwt"]}
    bao.call("POST", "auth/jwt-of-tests/role/reconciler", {**role, "bound_audiences": ["vault"]})
    (tmp_path / "jwt").write_text(signed)
    reads = make(session.Jwt("reconciler", f"file:{tmp_path}/jwt", "jwt-of-tests"))
    assert reads("vault:kv/t/jwt#token") == CANARY
    (tmp_path / "jwt").write_text(signed[:-6] + "AAAAAA")
    wrong = make(session.Jwt("reconciler", f"file:{tmp_path}/jwt", "jwt-of-tests"))
    assert wrong.refused("vault:kv/t/jwt#token").code == "target.auth_failed"


def test_a_method_that_is_not_mounted_is_refused_with_its_place(make: Make, tmp_path: Path) -> None:
    refused = make(approle(tmp_path, "some-role", "some-secret", mount="elsewhere")).refused("vault:kv/t/x#token")
    assert refused.code == "target.auth_failed"
    assert "auth/elsewhere" in refused.message


def test_a_credential_that_is_not_there_is_named(make: Make) -> None:
    refused = make(session.AppRole("env:ROLE_ID", "env:SECRET_ID")).refused("vault:kv/t/x#token")
    assert isinstance(refused, errors.ConfigError)
    assert "env:ROLE_ID" in refused.message


# --- namespaces -----------------------------------------------------------------------------------------------------------


def test_a_namespace_has_its_own_secrets_and_one_that_is_not_there_is_named(
    bao: openbao.OpenBao, make: Make, tmp_path: Path
) -> None:
    bao.call("POST", "sys/namespaces/bank")
    bao.call("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}}, namespace="bank")
    bao.call("POST", "sys/auth/approle", {"type": "approle"}, namespace="bank")
    bao.write("kv/t/app", {"token": "of-the-bank"}, namespace="bank")
    bao.write("kv/t/app", {"token": "of-the-root"})
    auth = approle(tmp_path, *bao.make_role("bank", ["kv/data/t/*"], namespace="bank"))
    assert make(auth, namespace="bank")("vault:kv/t/app#token") == "of-the-bank"
    refused = make(auth, namespace="another").refused("vault:kv/t/app#token")
    assert isinstance(refused, errors.ConfigError)
    assert "no namespace another" in refused.message
    refused = make(session.Token("env:T"), environment={"T": bao.ROOT}, namespace="another").refused("vault:kv/t/x#y")
    assert "no namespace another" in refused.message


def test_a_server_that_ignores_namespaces_is_refused_where_one_is_meant(
    bao: openbao.OpenBao, make: Make, tmp_path: Path
) -> None:
    bao.write("kv/t/ns", {"token": CANARY})
    role = bao.make_role("ns", ["kv/data/t/*"])
    with openbao.between(bao) as way:
        way.drops = frozenset({"x-vault-namespace"})
        refused = make(approle(tmp_path, *role), url=way.url, namespace="bank").refused("vault:kv/t/ns#token")
        assert isinstance(refused, errors.ConfigError)
        assert "has no namespaces" in refused.message
        assert not [path for _, path in way.seen if "/data/" in path]


# --- how often it is asked ------------------------------------------------------------------------------------------------


def test_many_references_to_one_secret_are_one_request_and_a_change_is_seen_in_time(
    bao: openbao.OpenBao, make: Make, tmp_path: Path
) -> None:
    bao.write("kv/t/many", {f"key-{n}": f"value-{n}" for n in range(50)})
    role = bao.make_role("many", ["kv/data/t/*"])
    with openbao.between(bao) as way:
        reads = make(approle(tmp_path, *role), url=way.url)
        assert [reads(f"vault:kv/t/many#key-{n}") for n in range(50)] == [f"value-{n}" for n in range(50)]
        assert [path for _, path in way.seen] == [
            "/v1/auth/approle/login",
            "/v1/sys/internal/ui/mounts/kv",
            "/v1/kv/data/t/many",
        ]
        bao.write("kv/t/many", {"key-0": "another-value-9f31"})
        reads.clock.at += vault.FRESH_S - 1
        assert reads("vault:kv/t/many#key-0") == "value-0"
        reads.clock.at += 1
        assert reads("vault:kv/t/many#key-0") == "another-value-9f31"


def test_many_threads_log_in_once(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> None:
    for number in range(8):
        bao.write(f"kv/t/thread-{number}", {"token": f"value-{number}"})
    role = bao.make_role("threads", ["kv/data/t/*"])
    got: dict[int, str] = {}
    with openbao.between(bao) as way:
        reads = make(approle(tmp_path, *role), url=way.url)

        def read(number: int) -> None:
            got[number] = reads(f"vault:kv/t/thread-{number}#token")

        threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(timeout=20)
        assert [path for _, path in way.seen].count("/v1/auth/approle/login") == 1
    assert got == {number: f"value-{number}" for number in range(8)}


# --- what goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [412, 429, 500, 502, 503])
def test_a_busy_vault_is_asked_again_later(bao: openbao.OpenBao, make: Make, status: int) -> None:
    with openbao.between(bao) as way:
        way.spoil = lambda _, path: openbao.Spoiled(status, body=b'{"errors": ["Vault is sealed"]}')
        refused = make(session.Token("env:T"), environment={"T": bao.ROOT}, url=way.url).refused("vault:kv/t/x#token")
    assert isinstance(refused, errors.TransientError)
    assert (refused.code, refused.where) == ("secret_store", "vault:kv/t/x#token")
    assert f"{status} Vault is sealed" in refused.message


def test_a_redirect_is_not_followed_and_no_token_goes_there(bao: openbao.OpenBao, make: Make) -> None:
    with openbao.between(bao) as other, openbao.between(bao) as way:
        to = {"Location": f"{other.url}/v1/kv/data/t/x"}
        way.spoil = lambda _, path: openbao.Spoiled(307, headers=to) if "/kv/" in path else None
        refused = make(session.Token("env:T"), environment={"T": bao.ROOT}, url=way.url).refused("vault:kv/t/x#token")
        assert isinstance(refused, errors.PermanentError)
        assert refused.code == "redirect"
        assert other.seen == []


@pytest.mark.parametrize("body", [b"<html>log in here</html>", f'["{CANARY}"]'.encode(), f'{{"x": "{CANARY}'.encode()])
def test_what_is_no_answer_of_a_vault_is_not_believed_and_not_shown(
    bao: openbao.OpenBao, make: Make, body: bytes
) -> None:
    with openbao.between(bao) as way:
        way.spoil = lambda _, path: openbao.Spoiled(200, body=body) if "/kv/data/" in path else None
        refused = make(session.Token("env:T"), environment={"T": bao.ROOT}, url=way.url).refused("vault:kv/t/x#token")
    assert isinstance(refused, errors.TransientError)
    assert refused.code == "secret_store"


def test_an_answer_that_drips_in_ends_at_the_deadline(bao: openbao.OpenBao, make: Make) -> None:
    with openbao.between(bao) as way:
        way.spoil = lambda _, __: openbao.Spoiled(drips=True)
        reads = make(session.Token("env:T"), environment={"T": bao.ROOT}, url=way.url, timeout_s=0.5)
        before = time.monotonic()
        assert "no answer in time" in reads.refused("vault:kv/t/x#token").message
        assert time.monotonic() - before < 3


def test_a_connection_that_was_closed_meanwhile_is_made_anew(bao: openbao.OpenBao, make: Make) -> None:
    bao.write("kv/t/kept", {"token": CANARY})
    with openbao.between(bao) as way:
        way.closes = True
        reads = make(session.Token("env:T"), environment={"T": bao.ROOT}, url=way.url)
        for _ in range(3):
            assert reads("vault:kv/t/kept#token") == CANARY
            reads.clock.at += vault.FRESH_S
        cut = iter([True])
        way.closes, way.spoil = False, lambda _, __: openbao.Spoiled(cut=True) if next(cut, False) else None
        assert reads.refused("vault:kv/t/kept#token").code == "secret_store"
        assert reads("vault:kv/t/kept#token") == CANARY
        reads.clock.at += vault.FRESH_S
        cut = iter([True])  # This time a connection that was kept is cut: nothing was answered, so it is asked anew.
        assert reads("vault:kv/t/kept#token") == CANARY


def test_nobody_there_and_no_such_name_are_asked_again_later(make: Make) -> None:
    for url, said in (("https://127.0.0.1:1", "nobody listens"), ("https://vault.invalid:8200", "does not resolve")):
        refused = make(session.Token("env:T"), environment={"T": "some-token"}, url=url).refused("vault:kv/t/x#token")
        assert isinstance(refused, errors.TransientError)
        assert said in refused.message


def test_a_sealed_vault_is_asked_again_later(tmp_path: Path, make: Make) -> None:
    own = openbao.OpenBao(tmp_path / "own")
    try:
        own.start()
        own.write("kv/t/sealed", {"token": CANARY})
        reads = make(session.Token("env:T"), environment={"T": own.ROOT}, url=own.url, ca_file=own.ca_path)
        assert reads("vault:kv/t/sealed#token") == CANARY
        own.call("PUT", "sys/seal")
        reads.clock.at += vault.FRESH_S
        refused = reads.refused("vault:kv/t/sealed#token")
        assert isinstance(refused, errors.TransientError)
        assert refused.code == "secret_store"
        assert "sealed" in refused.message
    finally:
        own.stop()


def test_a_certificate_of_somebody_else_is_a_security_failure(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> None:
    reads = make(session.Token("env:T"), environment={"T": bao.ROOT}, ca_file=None)
    refused = reads.refused("vault:kv/t/x#token")
    assert isinstance(refused, errors.PermanentError)
    assert refused.code == "target.tls_untrusted"
    other = make(session.Token("env:T"), environment={"T": bao.ROOT}, ca_file=tmp_path / "missing.pem")
    assert "missing.pem" in other.refused("vault:kv/t/x#token").message


def test_an_authority_that_was_put_right_is_read_anew(bao: openbao.OpenBao, make: Make, tmp_path: Path) -> None:
    bao.write("kv/t/ca", {"token": CANARY})
    ca = tmp_path / "ca.pem"
    ca.write_text(credentials.another_authority())
    reads = make(session.Token("env:T"), environment={"T": bao.ROOT}, ca_file=ca)
    assert reads.refused("vault:kv/t/ca#token").code == "target.tls_untrusted"
    ca.write_bytes(bao.ca_path.read_bytes())
    assert reads("vault:kv/t/ca#token") == CANARY


def test_what_others_set_in_the_environment_leads_nowhere_else(
    bao: openbao.OpenBao, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bao.write("kv/t/env", {"token": CANARY})
    with openbao.between(bao) as elsewhere:
        for name in ("VAULT_ADDR", "BAO_ADDR", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere.url)
        monkeypatch.setenv("VAULT_TOKEN", "another-token")
        monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
        assert make(session.Token("env:T"), environment={"T": bao.ROOT})("vault:kv/t/env#token") == CANARY
        assert elsewhere.seen == []


def test_a_secret_stands_in_no_log_and_no_repr(
    bao: openbao.OpenBao, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bao.write("kv/t/canary", {"token": CANARY})
    role_id, secret_id = bao.make_role("canary", ["kv/data/t/*"])
    reads = make(approle(tmp_path, role_id, secret_id))
    assert reads("vault:kv/t/canary#token") == CANARY
    store = reads.secrets._vault
    assert store is not None
    token = store._session.token()
    said = " ".join(map(repr, (reads.secrets, store, store._session, store._over, store._session._lease))) + caplog.text
    for secret in (CANARY, secret_id, token):
        assert secret not in said
        assert redact.text(secret) == "***"
