"""A kubeconfig is somebody's text: what it may say, and what of it is honoured (T06, T10, T12, T14)."""

from __future__ import annotations

import base64
import datetime as dt
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support import targets

from reconciler import errors, model, ports, redact
from reconciler.targets.openshift.connection import kubeconfig

TOKEN = "eyJhbGciOiJSUzI1NiJ9.canary-of-a-token"


def authority() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


CA = authority()


def config(
    *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, current: str = "", **top: Any
) -> str:
    settings = {
        "server": "https://api.prod.bank.example:6443",
        "certificate-authority-data": base64.b64encode(CA.encode()).decode(),
        **(cluster or {}),
    }
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "prod", "cluster": settings}],
        "users": [{"name": "us", "user": {"token": TOKEN} if user is None else user}],
        "contexts": [{"name": "c", "context": {"cluster": "prod", "user": "us"}}],
        "current-context": current,
        **top,
    }
    return yaml.safe_dump(whole)


def refusal(text: str) -> str:
    with pytest.raises(errors.ConfigError) as caught:
        kubeconfig.read(text, where="targets/t/target.yaml")
    assert TOKEN not in repr(caught.value) + caught.value.message + caught.value.fix
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or TOKEN not in repr(caught.value.__context__)
    assert caught.value.fix
    return caught.value.message


def test_a_server_an_authority_and_a_token_are_an_endpoint() -> None:
    found = kubeconfig.read(config())
    assert (found.server, found.host, found.port) == (
        "https://api.prod.bank.example:6443",
        "api.prod.bank.example",
        6443,
    )
    assert (found.ca, found.token, found.client_key) == (CA, TOKEN, None)


def test_a_certificate_with_its_key_is_a_credential_too() -> None:
    data = {
        f"client-{name}-data": base64.b64encode(f"PEM of {name}".encode()).decode() for name in ("certificate", "key")
    }
    found = kubeconfig.read(config(user=data))
    assert (found.client_certificate, found.client_key, found.token) == ("PEM of certificate", "PEM of key", None)


def test_no_repr_and_no_surface_shows_the_credential() -> None:
    found = kubeconfig.read(config())
    assert TOKEN not in repr(found)
    assert redact.text(f"a server echoed {TOKEN}") == "a server echoed ***"


@pytest.mark.parametrize(
    "user",
    [
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", "id"]}},
        {"auth-provider": {"name": "gcp"}},
        {"token": TOKEN, "exec": {"command": "id"}},
        {"tokenFile": "/etc/shadow"},
        {"client-certificate": "/a", "client-key": "/b"},
        {"username": "admin", "password": TOKEN},
        {"token": TOKEN, "as": "system:masters"},
        {"token": TOKEN, "as-groups": ["system:masters"]},
    ],
)
def test_t06_nothing_that_a_kubeconfig_says_is_run_or_read(user: dict[str, Any]) -> None:
    assert "is refused" in refusal(config(user=user))


def test_t06_a_user_that_no_context_names_may_not_run_anything_either() -> None:
    users = [{"name": "us", "user": {"token": TOKEN}}, {"name": "other", "user": {"exec": {"command": "id"}}}]
    assert "exec" in refusal(config(users=users))


@pytest.mark.parametrize(
    "cluster",
    [{"insecure-skip-tls-verify": True}, {"certificate-authority": "/etc/ca"}, {"proxy-url": "http://127.0.0.1:1"}],
)
def test_t13_no_kubeconfig_switches_the_check_of_certificates_off(cluster: dict[str, Any]) -> None:
    assert "is refused" in refusal(config(cluster=cluster))


@pytest.mark.parametrize(
    "server",
    [
        "http://api.prod.bank.example",
        "file:///etc/passwd",
        "unix:///run/x",
        "https://169.254.169.254",
        "https://[fe80::1]:6443",
        "https://[::ffff:169.254.169.254]",
        "https://100.100.100.200",
        "https://0.0.0.0",
        "https://api.prod.bank.example@evil.example",
        f"https://u:{TOKEN}@api.prod.bank.example",
        f"https://api.prod.bank.example/?token={TOKEN}",
        "https://api.prod.bank.example/../x",
        "https://api.prod.bank.example\\@evil.example",
        "https://api.prod.bank.example:0",
        "https://",
        "",
        "https://ａpi.example",
    ],
)
def test_t12_only_a_cluster_over_https_is_contacted(server: str) -> None:
    assert refusal(config(cluster={"server": server}))


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1%lo", "168.63.129.16", "::ffff:169.254.169.254", "224.0.0.1"]
)
def test_t12_a_name_that_resolves_to_a_metadata_service_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)), (socket.AF_INET, 1, 6, "", ("10.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: answer)
    with pytest.raises(errors.ConfigError, match="where no cluster is"):
        kubeconfig.check_addresses("rebinding.example")


def test_an_address_in_another_spelling_is_judged_as_what_it_resolves_to() -> None:
    with pytest.raises(errors.ConfigError, match="where no cluster is"):
        kubeconfig.check_addresses("2852039166")  # 169.254.169.254


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"token": ""},
        {"token": "abc"},
        {"token": "a b c d"},
        {"token": TOKEN + "\n"},
        {"client-certificate-data": "QQ=="},
    ],
)
def test_t14_a_user_without_one_whole_credential_is_denied(user: dict[str, Any]) -> None:
    assert refusal(config(user=user))


def test_two_credentials_are_none() -> None:
    both = {"token": TOKEN, "client-certificate-data": "QQ==", "client-key-data": "QUJDRA=="}
    assert "more or less than one" in refusal(config(user=both))


def test_several_contexts_need_one_that_is_current() -> None:
    two = [{"name": n, "context": {"cluster": "prod", "user": "us"}} for n in ("c", "d")]
    assert "2 contexts" in refusal(config(contexts=two))
    assert kubeconfig.read(config(contexts=two, current="d")).token == TOKEN
    assert "no context" in refusal(config(contexts=two, current="e"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        f"users: [\ntoken: {TOKEN}",
        f"a: &x {TOKEN}\nb: *x",
        f"{TOKEN}: 1\n{TOKEN}: 2",
        "token: 0777",
        "\0",
        "kind: Config",
    ],
)
def test_t09_what_cannot_be_read_is_not_repeated(text: str) -> None:
    refusal(text)


def test_an_authority_must_be_one() -> None:
    assert "no certificate" in refusal(config(cluster={"certificate-authority-data": "QUJD"}))
    assert "base64" in refusal(config(cluster={"certificate-authority-data": "***"}))


def service_account(folder: Path) -> Path:
    (folder / "token").write_text(TOKEN)
    (folder / "ca.crt").write_text(CA)
    return folder


def test_inside_a_cluster_the_service_account_is_who_asks(tmp_path: Path) -> None:
    around = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    found = kubeconfig.in_cluster(around, service_account(tmp_path))
    assert (found.server, found.token, found.token_file) == ("https://10.96.0.1:443", TOKEN, tmp_path / "token")
    six = kubeconfig.in_cluster({**around, "KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path)
    assert (six.server, six.host) == ("https://[fd00::1]:443", "fd00::1")
    with pytest.raises(errors.ConfigError, match="does not run in a cluster"):
        kubeconfig.in_cluster({}, tmp_path)
    with pytest.raises(errors.ConfigError, match="cannot be read"):
        kubeconfig.in_cluster(around, tmp_path / "absent")


class Held:
    def __init__(self, text: str) -> None:
        self.text = text

    def resolve(self, reference: str) -> str:
        assert reference == "env:KUBECONFIG_PROD"
        return self.text


class Only:
    def __init__(self, *hosts: str) -> None:
        self.hosts, self.asked = hosts, list[tuple[str, str]]()

    def allows(self, wanted: model.Wanted, host: str) -> bool:
        self.asked.append((wanted.target, host))
        return host in self.hosts


def locate(reach: ports.Reach, text: str, tmp_path: Path) -> kubeconfig.Endpoint:
    wanted = targets.desired("openshift", {}, {"kubeconfig": "env:KUBECONFIG_PROD"})
    around = ports.DriverFacilities("test", tmp_path, (), Held(text), targets.Clock(), reach)
    return kubeconfig.locate(wanted, around, {})


def test_t17_a_kubeconfig_of_another_environment_is_not_contacted(tmp_path: Path) -> None:
    local = config(cluster={"server": "https://127.0.0.1:6443"})
    assert locate(Only("127.0.0.1"), local, tmp_path).host == "127.0.0.1"
    reach = Only("api.dev.bank.example")
    with pytest.raises(errors.ConfigError) as caught:
        locate(reach, config(), tmp_path)
    assert (caught.value.code, reach.asked) == ("environment_limits", [("t", "api.prod.bank.example")])


def test_facilities_that_nobody_gave_a_policy_reach_nothing(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="outside of what"):
        locate(ports.NOWHERE, config(), tmp_path)
