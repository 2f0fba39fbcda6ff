"""The client's edges that need no server: what is imported, what an answer means, what an error says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reconciler import errors
from reconciler.targets.openshift.connection import client

SECRET = "hunter2-hunter2"


def test_only_the_transport_of_the_official_client_is_imported_and_the_rest_stays_usable() -> None:
    script = """
import sys
from reconciler.targets.openshift.connection import client
rest, configuration = client._vendor()
assert client._vendor() == (rest, configuration)
assert not [name for name in sys.modules if name.startswith("kubernetes")], "nobody finds a package that is not whole"
assert not [name for name in sys.modules if "oauth" in name]
import kubernetes.client
assert kubernetes.client.CoreV1Api and kubernetes.__version__
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("status", "message", "kind", "code"),
    [
        (401, "Unauthorized", errors.PermanentError, "target.auth_failed"),
        (403, "forbidden", errors.PermanentError, "forbidden"),
        (409, "conflict", errors.PermanentError, "conflict"),
        (410, "too old", errors.TransientError, "expired"),
        (422, "invalid", errors.PermanentError, "invalid"),
        (429, "slow down", errors.TransientError, "throttled"),
        (500, "x: .datum: field not declared in schema", errors.PermanentError, "schema"),
        (500, 'failed calling webhook "w"', errors.PermanentError, "webhook"),
        (500, "etcd is unwell", errors.TransientError, "server_error"),
        (503, "later", errors.TransientError, "unavailable"),
        (307, "", errors.PermanentError, "redirect"),
        (418, "", errors.PermanentError, "invalid"),
    ],
)
def test_a_status_is_the_error_that_says_what_to_do(
    status: int, message: str, kind: type[errors.ReconcilerError], code: str
) -> None:
    found = client.refusal(client.Answer(status, {"message": message}), "PATCH /x")
    assert (type(found), found.code) == (kind, code)


@pytest.mark.parametrize(
    ("status", "message", "under_way", "broke"),
    [
        (500, "boom", False, True),
        (500, "etcdserver: request timed out", True, True),
        (504, "", True, True),
        (503, "", False, False),
        (500, "field not declared in schema", False, False),
        (422, "", False, False),
    ],
)
def test_what_became_of_a_write_is_known_from_its_answer_or_has_to_be_looked_for(
    status: int, message: str, *, under_way: bool, broke: bool
) -> None:
    answer = client.Answer(status, {"message": message})
    assert (client.is_under_way(answer), client.broke(answer)) == (under_way, broke)


def test_what_a_server_says_of_a_secret_is_cut_down_to_the_fields() -> None:
    causes = [{"field": "data[password]", "message": f"Invalid value: {SECRET}"}]
    answer = client.Answer(422, {"reason": "Invalid", "message": f"bad: {SECRET}", "details": {"causes": causes}})
    found = client.refusal(answer, "Secret/n/s", sensitive=True)
    assert "data[password]" in found.message
    assert SECRET not in f"{found.message}{found!r}{found.__dict__}"


def test_what_a_server_says_moves_no_cursor() -> None:
    found = client.refusal(client.Answer(422, {"message": "a\x1b[2Jb\n\x07c"}), "x")
    assert found.message == "x: ab c"
