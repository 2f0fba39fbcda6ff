"""Real listeners: a Unix socket whose peer the kernel names, and loopback TCP."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import JsonValue
from support import recorded

from reconciler import config, errors, model
from reconciler.web import client, peers, server, surface
from reconciler.web.application import Actor

IS_ROOT = os.getuid() == 0
NOBODY_UID = 65534


def configuration(state: Path, **more: JsonValue) -> config.Configuration:
    path = state / "reconciler.yaml"
    path.write_text(f"""\
apiVersion: reconciler/v1
kind: Reconciler
installation: test
profile: development
state: {state}
source:
  id: "urn:uuid:6f1c0b1e-8d0a-4a7e-9a52-3f0c7d1b2a44"
  url: {state}/repo
  genesis: {"a" * 40}
  genesisReason: a test
store: {{signingKey: log_ed25519}}
web: {{listen: "127.0.0.1:0"}}
""")
    return config.load(path, {}, {name.replace("__", "."): value for name, value in more.items()})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    tmp_path.chmod(0o711)
    return tmp_path


@pytest.fixture
def of() -> recorded.Application:
    made = recorded.Application()
    made.happen(*recorded.DEPLOYED)
    return made


@pytest.fixture
def running(of: recorded.Application, state: Path) -> Iterator[server.Server]:
    made = server.Server(of, configuration(state))
    made.start()
    yield made
    made.stop()


def url(running: server.Server) -> str:
    assert running.address
    return "http://{}:{}".format(*running.address)


def test_it_starts_and_stops_at_once_and_takes_its_socket_with_it(of: recorded.Application, state: Path) -> None:
    made = server.Server(of, configuration(state))
    began = time.monotonic()
    made.start()
    started_s = time.monotonic() - began
    assert stat.S_IMODE((state / "daemon.sock").stat().st_mode) == 0o660
    made.stop()
    made.stop()
    assert not (state / "daemon.sock").exists()
    assert started_s < 2  # 20 ms alone; the machine of a test may be busy.


def test_the_client_reads_documents_and_operates_as_the_user_it_runs_as(
    running: server.Server, of: recorded.Application, state: Path
) -> None:
    with client.Client(state / "daemon.sock") as asking:
        assert asking.ask("GET", "/status")["kind"] == "Status"
        assert asking.ask("GET", "/audit", {"target": "api", "type": "intent"})["kind"] == "RecordList"
        assert asking.ask("POST", "/targets/api/suspend", body={"reason": "night"})["kind"] == "Done"
    ((verb, target, actor, reason),) = of.asked
    assert (verb, target, reason) == ("suspend", "api", "night")
    assert f"uid {os.getuid()}" in actor


def test_the_client_raises_what_the_daemon_raised(
    running: server.Server, of: recorded.Application, state: Path
) -> None:
    of.fails = errors.TransientError("source_error", "the forge is away", where="ssh://git", fix="wait")
    with client.Client(state / "daemon.sock") as asking:
        with pytest.raises(errors.TransientError, match="the forge is away") as caught:
            asking.ask("GET", "/plan", {"head": recorded.HEAD})
        assert (caught.value.code, caught.value.fix) == ("source_error", "wait")
        with pytest.raises(errors.ConfigError) as missing:
            asking.ask("GET", "/targets/nope")
        assert missing.value.code == "no_target"


def test_no_daemon_is_told_apart_from_every_other_error(state: Path) -> None:
    for left in (False, True):
        if left:
            _leave_stale(state / "daemon.sock")
        with client.Client(state / "daemon.sock") as asking, pytest.raises(errors.TransientError) as caught:
            asking.ask("GET", "/status")
        assert caught.value.code == "no_daemon"


def test_a_socket_that_a_killed_daemon_left_is_replaced(of: recorded.Application, state: Path) -> None:
    _leave_stale(state / "daemon.sock")
    made = server.Server(of, configuration(state))
    made.start()
    with client.Client(state / "daemon.sock") as asking:
        assert asking.ask("GET", "/status")["kind"] == "Status"
    made.stop()


def test_a_socket_on_which_somebody_answers_is_left_alone(
    running: server.Server, of: recorded.Application, state: Path
) -> None:
    second = server.Server(of, configuration(state))
    with pytest.raises(errors.ConfigError) as caught:
        second.start()
    assert caught.value.code == "daemon_running"
    second.stop()
    with client.Client(state / "daemon.sock") as asking:
        assert asking.ask("GET", "/status")["kind"] == "Status"


def test_a_file_in_the_place_of_the_socket_is_not_deleted(of: recorded.Application, state: Path) -> None:
    (state / "daemon.sock").write_text("mine")
    with pytest.raises(errors.ConfigError, match="something else"):
        server.Server(of, configuration(state)).start()
    assert (state / "daemon.sock").read_text() == "mine"


def test_an_address_that_is_taken_is_an_error_and_leaves_no_socket(of: recorded.Application, state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(errors.ConfigError, match="Address already in use"):
            server.Server(of, configuration(state, web__listen=listen)).start()
    assert not (state / "daemon.sock").exists()


def test_tcp_is_for_reading(running: server.Server, of: recorded.Application) -> None:
    with httpx.Client(base_url=url(running), trust_env=False) as tcp:
        assert tcp.get("/livez").text == "ok\n"
        assert tcp.get("/readyz").status_code == 200
        assert tcp.get("/api/v1/targets").json()["kind"] == "TargetList"
        assert tcp.get("/openapi.json").json()["openapi"] == "3.1.0"
        refused = tcp.post("/api/v1/targets/api/suspend", json={"reason": "x"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert tcp.post("/api/v1/approvals", json={"payload": "e30="}).status_code == 200
    assert [verb for verb, *_ in of.asked] == ["submit"]


def test_not_being_ready_says_why(running: server.Server, of: recorded.Application) -> None:
    of.not_ready = (model.Reason(code="source_error", message="nothing\x1b[2J fetched\nyet"),)
    answer = httpx.get(url(running) + "/readyz", trust_env=False)
    assert (answer.status_code, answer.text) == (503, "source_error: nothing fetched yet\n")


def test_metrics_parse(running: server.Server) -> None:
    answer = httpx.get(url(running) + "/metrics", trust_env=False)
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"reconciler_targets", "reconciler_deployments", "reconciler_log_records"} <= names


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_a_page_that_rebinds_its_name_to_loopback_reads_nothing(running: server.Server, host: str) -> None:
    answer = httpx.get(url(running) + "/api/v1/targets", headers={"host": host}, trust_env=False)
    assert answer.status_code in {400, 403}


def test_what_is_public_on_purpose_answers_under_any_name_and_still_only_reads(
    of: recorded.Application, state: Path
) -> None:
    made = server.Server(of, configuration(state, web__unsafePublic=True))
    made.start()
    with httpx.Client(base_url=url(made), headers={"host": "gitops.bank.example"}, trust_env=False) as tcp:
        answers = [tcp.get("/api/v1/targets"), tcp.post("/api/v1/targets/api/drop", json={"reason": "x"})]
    made.stop()
    assert [answer.status_code for answer in answers] == [200, 403]


def test_a_form_a_repeated_key_and_a_flood_are_refused(running: server.Server, of: recorded.Application) -> None:
    with httpx.Client(base_url=url(running), trust_env=False) as tcp:
        json_type = {"content-type": "application/json"}
        sent = [
            tcp.post("/api/v1/approvals", data={"payload": "e30="}),
            tcp.post("/api/v1/approvals", content=b'{"a": 1, "a": 2}', headers=json_type),
            tcp.post("/api/v1/approvals", content=b'{"a": NaN}', headers=json_type),
            tcp.post("/api/v1/approvals", content=b"[" * 100_000, headers=json_type),
            tcp.post("/api/v1/approvals", content=b" " * (surface.MAX_BODY_BYTES + 1), headers=json_type),
            tcp.get("/api/v1/audit?target=a&target=b"),
        ]
    assert [(answer.status_code, answer.json()["kind"]) for answer in sent] == [
        *[(400, "Error")] * 4,
        (413, "Error"),
        (400, "Error"),
    ]
    assert of.asked == []


def test_what_hangs_holds_back_neither_a_probe_nor_the_exit(of: recorded.Application, state: Path) -> None:
    of.hangs = threading.Event()
    made = server.Server(of, configuration(state))
    made.start()
    base = url(made)
    waiting = threading.Thread(target=_ask_in_vain, args=(base + "/api/v1/plan",))
    waiting.start()
    while not of.asked:
        time.sleep(0.01)
    assert httpx.get(base + "/livez", trust_env=False).status_code == 200
    began = time.monotonic()
    made.stop()
    assert time.monotonic() - began < server.STOP_S
    of.hangs.set()
    waiting.join()


def test_when_too_much_hangs_the_next_one_is_told_at_once(
    of: recorded.Application, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surface, "MAX_CALLS", 0)
    made = server.Server(of, configuration(state))
    made.start()
    with client.Client(state / "daemon.sock") as asking, pytest.raises(errors.TransientError) as caught:
        asking.ask("GET", "/plan")
    assert caught.value.code == "busy"
    made.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_ours_is_told_without_its_text(
    running: server.Server, of: recorded.Application, state: Path
) -> None:
    of.fails = ValueError("hunter2")
    with client.Client(state / "daemon.sock") as asking, pytest.raises(errors.PermanentError) as caught:
        asking.ask("GET", "/plan")
    assert (caught.value.code, "hunter2" in str(caught.value)) == ("internal", False)


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes somebody else")
def test_the_kernel_says_who_asks_and_the_configuration_what_they_may(of: recorded.Application, state: Path) -> None:
    made = server.Server(of, configuration(state, operators=[{"uid": NOBODY_UID, "verbs": ["suspend"]}]))
    made.start()
    (state / "daemon.sock").chmod(0o666)
    answers = [_as_somebody_else(state, f"/api/v1/targets/api/{verb}") for verb in ("suspend", "drop")]
    made.stop()
    assert answers == ["200", "403"]
    ((verb, _, actor, _),) = of.asked
    assert (verb, f"uid {NOBODY_UID}" in actor) == ("suspend", True)


def test_verbs_are_the_union_of_every_entry_that_fits() -> None:
    mine = peers.Peer(1, os.getuid(), os.getgid())
    other = peers.Peer(1, NOBODY_UID, 4_000_001)
    unknown = peers.Peer(1, 4_000_000, 4_000_001)
    operators = (
        config.Operator(uid=4_000_000, verbs=("suspend",)),
        config.Operator(user="no-such-user", verbs=("drop",)),
        config.Operator(group="no-such-group", verbs=("drop",)),
        config.Operator(user="nobody", verbs=("resume",)),
        config.Operator(group="nogroup", verbs=("rollback",)),
    )
    assert peers.actor(mine, ()).verbs == config.VERBS
    assert peers.actor(unknown, operators) == Actor("uid 4000000", frozenset({"suspend"}))
    assert peers.actor(other, operators).verbs == {"resume", "rollback"}
    assert peers.actor(other, ()).verbs == frozenset()


def _ask_in_vain(address: str) -> None:
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(address, trust_env=False, timeout=20)


def _leave_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


def _as_somebody_else(state: Path, path: str) -> str:
    """The status of a POST that another user of this machine sends."""
    body = json.dumps({"reason": "x"})
    request = (
        f"POST {path} HTTP/1.1\r\nHost: daemon\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    )
    # Relative to the folder, since the other user may not walk there.
    script = (
        "import os, socket, sys; os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]));"
        "s = socket.socket(socket.AF_UNIX); s.connect('daemon.sock'); s.sendall(sys.argv[2].encode());"
        "print(s.recv(65536).split()[1].decode())"
    )
    command = [sys.executable, "-c", script, str(NOBODY_UID), request]
    finished = subprocess.run(command, cwd=state, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_an_operator_whom_this_machine_does_not_know_is_named() -> None:
    operators = (
        config.Operator(user="no-such-user", verbs=("suspend", "resume")),
        config.Operator(group="no-such-group", verbs=("rollback",)),
        config.Operator(uid=4_000_000, verbs=("suspend",)),
        config.Operator(group=grp.getgrgid(0).gr_name, verbs=("suspend",)),
    )
    assert peers.strangers(operators) == (
        "operators.0: this machine knows no user no-such-user; suspend, resume is given to nobody",
        "operators.1: this machine knows no group no-such-group; rollback is given to nobody",
    )
