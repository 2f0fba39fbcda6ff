"""From reconciler.yaml to a value of the vault, as the daemon composes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import openbao

from reconciler import config, errors
from reconciler.daemon import clock, composing
from reconciler.secrets import resolving, session

FILE = """\
apiVersion: reconciler/v1
kind: Reconciler
installation: prod-emea
state: {folder}/state
source:
  id: "urn:uuid:6f1c0b1e-8d0a-4a7e-9a52-3f0c7d1b2a44"
  url: "ssh://git@git.bank.example/ops/state.git"
  genesis: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
  genesisReason: "taken over on 2026-11-20, CHG0012345"
store: {{signingKey: log_ed25519}}
secrets:
  vault:
    url: "{url}"
    caFile: {ca}
    timeout: 5s
    auth: {auth}
"""


def load(folder: Path, bao: openbao.OpenBao, auth: str) -> config.Configuration:
    path = folder / "reconciler.yaml"
    path.write_text(FILE.format(folder=folder, url=bao.url, ca=bao.ca_path, auth=auth))
    return config.load(path, {})


def test_a_production_profile_reads_from_its_vault_by_the_files_of_its_role(
    bao: openbao.OpenBao, tmp_path: Path
) -> None:
    role_id, secret_id = bao.make_role("composed", ["kv/data/composed/*"])
    (tmp_path / "role-id").write_text(role_id)
    (tmp_path / "secret-id").write_text(secret_id)
    bao.write("kv/composed/app", {"token": "a-composed-secret"})
    auth = f'{{approle: {{roleId: "file:{tmp_path}/role-id", secretId: "file:{tmp_path}/secret-id"}}}}'
    configuration = load(tmp_path, bao, auth)
    assert configuration.production
    secrets = composing.secrets(configuration, clock.SystemClock())
    assert secrets.resolve("vault:kv/composed/app#token") == "a-composed-secret"
    with pytest.raises(errors.PermanentError, match="may not be read"):
        secrets.resolve("vault:kv/another/app#token")
    secrets.close()


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (
            '{approle: {roleId: "env:A", secretId: "env:B", mount: approle/prod}}',
            session.AppRole("env:A", "env:B", "approle/prod"),
        ),
        ('{jwt: {role: r, jwt: "file:/run/jwt"}}', session.Jwt("r", "file:/run/jwt", "jwt")),
        (
            "{kubernetes: {role: r}}",
            session.Jwt("r", "file:/var/run/secrets/kubernetes.io/serviceaccount/token", "kubernetes"),
        ),
        ('{token: "file:/run/token"}', session.Token("file:/run/token")),
    ],
)
def test_each_way_of_logging_in_is_the_one_that_was_configured(
    bao: openbao.OpenBao, tmp_path: Path, auth: str, expected: session.Auth
) -> None:
    secrets = composing.secrets(load(tmp_path, bao, auth), clock.SystemClock())
    assert secrets._vault
    assert secrets._vault._settings.auth == expected
    assert (secrets._vault._settings.timeout_s, secrets._vault._settings.ca_file) == (5.0, bao.ca_path)


def test_all_drivers_of_a_process_share_one_token(bao: openbao.OpenBao, tmp_path: Path) -> None:
    drivers = composing.drivers(load(tmp_path, bao, '{token: "env:T"}'), clock.SystemClock())
    first, second = drivers["openshift"](), drivers["openshift"]()
    shared = first._facilities.secrets  # type: ignore[attr-defined]
    assert isinstance(shared, resolving.Secrets)
    assert shared is second._facilities.secrets  # type: ignore[attr-defined]


def test_who_has_no_vault_does_not_load_its_client() -> None:
    asked = "import sys, reconciler.daemon.composing; print(sorted({'hvac', 'requests'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
