from __future__ import annotations

from pathlib import Path

import pytest

from reconciler import config, errors

GENESIS = "a" * 40
FILE = f"""\
apiVersion: reconciler/v1
kind: Reconciler
installation: prod-emea
state: /var/lib/reconciler
source:
  id: "urn:uuid:6f1c0b1e-8d0a-4a7e-9a52-3f0c7d1b2a44"
  url: "ssh://git@git.bank.example/ops/state.git"
  genesis: {GENESIS}
  genesisReason: "taken over on 2026-11-20, CHG0012345"
  auth: {{sshKey: id_ed25519, knownHosts: /etc/reconciler/known_hosts}}
store: {{signingKey: /etc/reconciler/log_ed25519}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "reconciler.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str, **environment: str) -> errors.ConfigError:
    with pytest.raises(errors.ConfigError) as caught:
        config.load(write(folder, text), environment)
    return caught.value


def test_defaults_fill_what_the_file_leaves_out(tmp_path: Path) -> None:
    read = config.load(write(tmp_path, FILE), {})
    assert (read.production, read.source.ref, read.source.poll, read.gates.suite) == (
        True,
        "refs/heads/main",
        30.0,
        110.0,
    )
    assert read.socket == Path("/var/lib/reconciler/daemon.sock")
    assert read.store_url == "sqlite:////var/lib/reconciler/audit.db"
    assert read.web.listen == "127.0.0.1:8080"
    assert read.warnings == ()


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, FILE), {}).source.auth.ssh_key == tmp_path.resolve() / "id_ed25519"


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, FILE + "gates: {suite: 60s}\n")
    environment = {"RECONCILER_GATES__SUITE": "50s", "RECONCILER_SOURCE__GENESIS_REASON": "moved", "HOME": "/root"}
    assert config.load(path, {}).gates.suite == 60
    assert config.load(path, environment).gates.suite == 50
    assert config.load(path, environment).source.genesis_reason == "moved"
    assert config.load(path, environment, {"gates.suite": "40s"}).gates.suite == 40


def test_a_list_is_written_in_the_environment_as_in_yaml(tmp_path: Path) -> None:
    read = config.load(write(tmp_path, FILE), {"RECONCILER_LOCAL__ROOTS": '["/srv/a", "/srv/b"]'})
    assert read.local.roots == (Path("/srv/a"), Path("/srv/b"))


def test_the_variables_of_a_kubernetes_service_are_not_ours(tmp_path: Path) -> None:
    links = {
        "RECONCILER_PORT": "tcp://10.0.0.1:80",
        "RECONCILER_SERVICE_HOST": "10.0.0.1",
        "RECONCILER_PORT_80_TCP": "x",
    }
    assert config.load(write(tmp_path, FILE), links) == config.load(tmp_path / "reconciler.yaml", {})


def test_an_unknown_key_is_an_error_with_its_line_and_what_was_probably_meant(tmp_path: Path) -> None:
    refused = refusal(tmp_path, FILE + "operators:\n- {uid: 7, verbs: [suspend]}\n- group: sre\n  verb: [resume]\n")
    assert refused.where == f"{tmp_path}/reconciler.yaml:14"  # where `verbs` is missing
    assert "operators.1.verb: no field of this name" in refused.message
    assert refused.fix == "did you mean 'verbs'?"


def test_an_unknown_variable_is_an_error_too(tmp_path: Path) -> None:
    refused = refusal(tmp_path, FILE, RECONCILER_SOURCE__URI="ssh://git@host/x")
    assert refused.where == "$RECONCILER_SOURCE__URI"
    assert refused.fix == "did you mean 'url'?"
    assert "did you mean" not in refused.message


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("anchor: {url: x}", "anchor"),
        ('gates: {opa: {url: "http://127.0.0.1:8181"}}', "gates.opa"),
        ("gates: {sonarqube: {url: x}}", "gates.sonarqube"),
        ("gates: {trivy: {}}", "gates.trivy"),
    ],
)
def test_what_a_later_version_owns_is_refused_by_name(tmp_path: Path, line: str, name: str) -> None:
    refused = refusal(tmp_path, FILE + line + "\n")
    assert f"{name}: not in this version" in refused.message
    assert refused.where.endswith(":12")
    assert "no field of this name" not in refused.message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ssh://git@git.bank.example/ops/state.git", "file:///srv/state.git", "production"),
        ("ssh://git@git.bank.example/ops/state.git", "http://git.bank.example/state.git", "production"),
        ("ssh://git@git.bank.example/ops/state.git", "https://bot:hunter2@git.bank.example/s.git", "password"),
        ("ssh://git@git.bank.example/ops/state.git", "git@git.bank.example:ops/state.git", "ssh://git@host/path"),
        (GENESIS, "main", "genesis"),
        ("kind: Reconciler", "kind: Target", "kind"),
        ("installation: prod-emea", "installation: Prod EMEA", "installation"),
        (", knownHosts: /etc/reconciler/known_hosts", "", "go together"),
        ("sshKey: id_ed25519, knownHosts: /etc/reconciler/known_hosts", 'token: "s3cr3t"', "reference"),
        ("sshKey: id_ed25519, knownHosts: /etc/reconciler/known_hosts", 'token: "vault:kv/a#b"', "env:NAME"),
        ("store: {", 'store: {url: "postgresql+psycopg://db/audit", ', "SQLite"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(tmp_path: Path, old: str, new: str, said: str) -> None:
    refused = refusal(tmp_path, FILE.replace(old, new))
    assert said in refused.message
    assert "hunter2" not in str(refused)
    assert "s3cr3t" not in str(refused)


@pytest.mark.parametrize("url", ["file:///srv/state.git", "/srv/state.git", "http://git.bank.example/state.git"])
def test_a_development_profile_reads_other_transports_and_says_so(tmp_path: Path, url: str) -> None:
    text = FILE.replace("ssh://git@git.bank.example/ops/state.git", url) + "profile: development\n"
    read = config.load(write(tmp_path, text), {})
    assert read.source.url == url
    assert "development" in read.warnings[0]


def test_only_loopback_is_listened_on_unless_it_is_called_unsafe(tmp_path: Path) -> None:
    assert "only loopback" in refusal(tmp_path, FILE + 'web: {listen: "0.0.0.0:80"}\n').message
    read = config.load(write(tmp_path, FILE + 'web: {listen: "0.0.0.0:80", unsafePublic: true}\n'), {})
    assert "unsafePublic" in read.warnings[0]
    assert config.load(write(tmp_path, FILE + "web: {listen: null}\n"), {}).web.listen is None


@pytest.mark.parametrize(
    "subject", ["verbs: [resume]", "user: a, group: b, verbs: [resume]", "uid: 1, verbs: [shout]", "uid: 1, verbs: []"]
)
def test_an_operator_is_one_subject_with_known_verbs(tmp_path: Path, subject: str) -> None:
    assert "operators.0" in refusal(tmp_path, FILE + f"operators: [{{{subject}}}]\n").message


def test_the_digest_is_of_what_is_in_force_and_of_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, FILE)
    plain = config.load(path, {}).digest
    assert config.load(path, {"RECONCILER_SOURCE__POLL": "30s"}).digest == plain
    assert config.load(path, {"RECONCILER_SOURCE__POLL": "31s"}).digest != plain
    write(tmp_path, "# a comment\n" + FILE + "gates: {suite: 110s}\n")
    assert config.load(path, {}).digest == plain


def test_the_place_that_was_named_is_read_or_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here, other = write(tmp_path, FILE), tmp_path / "other.yaml"
    other.write_text(FILE)
    assert config.find(None, {}) == Path(here.name)
    assert config.find(None, {"RECONCILER_CONFIG": str(other)}) == other
    assert config.find(here, {"RECONCILER_CONFIG": str(other)}) == here
    with pytest.raises(errors.ConfigError, match="no such file"):
        config.find(tmp_path / "missing.yaml", {})


def test_without_a_file_everything_may_come_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "RECONCILER_INSTALLATION": "edge",
        "RECONCILER_STATE": "/var/lib/reconciler",
        "RECONCILER_SOURCE": f'{{id: "urn:uuid:6f1c0b1e-8d0a-4a7e-9a52-3f0c7d1b2a44", url: "https://git.bank.example/s.git", genesis: {GENESIS}}}',
        "RECONCILER_SOURCE__GENESIS_REASON": "first",
        "RECONCILER_STORE__SIGNING_KEY": "/etc/reconciler/log",
    }
    assert config.load(None, environment).source.genesis_reason == "first"
    with pytest.raises(errors.ConfigError, match="no configuration"):
        config.load(None, {})
    with pytest.raises(errors.ConfigError, match="store: this field is missing"):
        config.load(None, {k: v for k, v in environment.items() if "STORE" not in k})


VAULT = 'secrets: {vault: {url: "https://vault.bank.example:8200", auth: AUTH}}\n'
APPROLE = '{approle: {roleId: "file:/etc/reconciler/role", secretId: "env:SECRET_ID"}}'


def test_a_vault_is_asked_as_one_of_four(tmp_path: Path) -> None:
    for auth in (
        APPROLE,
        '{token: "file:/run/token"}',
        '{jwt: {role: reconciler, jwt: "file:/run/jwt", mount: jwt/prod}}',
        "{kubernetes: {role: reconciler}}",
    ):
        read = config.load(write(tmp_path, FILE + VAULT.replace("AUTH", auth)), {}).secrets.vault
        assert read is not None
        assert (read.timeout, read.namespace, read.ca_file) == (30.0, None, None)
    assert read
    assert read.auth.kubernetes
    assert read.auth.kubernetes.jwt.startswith("file:/var/run/secrets/kubernetes.io/")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("https://", "http://", "https:// only"),
        ("https://vault", "https://token:hunter2@vault", "password"),
        (":8200", ":8200/?a=b", "https://HOST:PORT"),
        (":8200", ":99999", "https://HOST:PORT"),
        ("auth: AUTH", "auth: {}", "exactly one"),
        ("auth: AUTH", 'auth: {token: "file:/a", kubernetes: {role: r}}', "exactly one"),
        ("auth: AUTH", "auth: {token: hunter2}", "never the secret"),
        ("auth: AUTH", 'auth: {token: "vault:kv/a#b"}', "env:NAME"),
        ("auth: AUTH", 'auth: {approle: {roleId: hunter2, secretId: "env:A"}}', "never the secret"),
        ("auth: AUTH", f"auth: {APPROLE}, timeout: 1h", "timeout"),
        ("auth: AUTH", f"auth: {APPROLE}, namespace: ../x", "namespace"),
    ],
)
def test_a_vault_that_is_not_asked_safely_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    refused = refusal(tmp_path, FILE + VAULT.replace(old, new).replace("AUTH", APPROLE))
    assert said in refused.message
    assert "hunter2" not in f"{refused} {refused.fix} {refused.__cause__!r} {refused.__context__!r}"


def test_an_unknown_word_about_the_vault_is_an_error_with_what_was_meant(tmp_path: Path) -> None:
    refused = refusal(tmp_path, FILE + VAULT.replace("auth: AUTH", f"auth: {APPROLE}, caFil: /x"))
    assert "secrets.vault.caFil: no field of this name" in refused.message
    assert refused.fix == "did you mean 'caFile'?"


def test_a_development_profile_may_ask_over_plain_http_and_still_holds_no_token(tmp_path: Path) -> None:
    plain = VAULT.replace("https", "http") + "profile: development\n"
    assert config.load(write(tmp_path, FILE + plain.replace("AUTH", APPROLE)), {}).secrets.vault
    assert "never the secret" in refusal(tmp_path, FILE + plain.replace("AUTH", "{token: root}")).message
