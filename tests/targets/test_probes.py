"""Probes against real local servers: a wrong answer is FAILED at once, no answer yet is PROGRESSING."""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import JsonValue

from reconciler import errors, model
from reconciler.targets import probes


class Answers(http.server.BaseHTTPRequestHandler):
    """`/503` answers 503, `/moved` redirects to `/200`, everything else says `ready v2`; what was asked for is remembered."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        code = int(self.path[1:4]) if self.path[1:4].isdecimal() else 302 if self.path == "/moved" else 200
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/200")
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b"ready v2")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []
    served = type("Served", (Answers,), {"asked": asked})
    with http.server.HTTPServer(("127.0.0.1", 0), served) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def listening(answer: bytes = b"", *, drip_s: float = 0.0) -> Iterator[int]:
    """Somebody who accepts, says this a byte at a time, and nothing more."""
    stop = threading.Event()

    def talk() -> None:
        with contextlib.suppress(OSError):
            connection, _ = sock.accept()
            with connection:
                for byte in answer:
                    connection.sendall(bytes([byte]))
                    if stop.wait(drip_s):
                        return
                stop.wait(5)

    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            stop.set()
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert isinstance(port, int)
    return port


def judge(
    kind: str, fields: dict[str, JsonValue], *, deadline_s: float = 5, root: Path | None = None
) -> tuple[str, str]:
    health, findings = probes.run_probes([model.Probe(kind=kind, fields=fields)], deadline_s=deadline_s, file_root=root)
    return str(health), "; ".join(f"{r.code}: {r.message}" for r in findings)


def ask(kind: str, deadline_s: float = 5, root: Path | None = None, **fields: JsonValue) -> tuple[str, str]:
    return judge(kind, fields, deadline_s=deadline_s, root=root)


def test_no_probes_are_healthy() -> None:
    assert probes.run_probes((), deadline_s=1) == (model.Health.HEALTHY, ())


def test_a_port_that_accepts_is_healthy_and_one_that_does_not_is_awaited(free_port: int) -> None:
    with listening() as port:
        assert ask("port", port=port) == ("HEALTHY", "")
    assert ask("port", port=free_port) == (
        "PROGRESSING",
        f"probe_no_answer: port 127.0.0.1:{free_port}: nobody listens",
    )


@pytest.mark.parametrize(
    ("path", "more", "health"),
    [
        ("/", {}, "HEALTHY"),
        ("/", {"contains": "v2"}, "HEALTHY"),
        ("/", {"contains": "v3"}, "FAILED"),
        ("/404", {}, "FAILED"),
        ("/404", {"status": 404}, "HEALTHY"),
        ("/500", {}, "FAILED"),
        ("/503", {}, "PROGRESSING"),
        ("/429", {}, "PROGRESSING"),
    ],
)
def test_an_answer_is_judged_by_its_status_and_content(path: str, more: dict[str, JsonValue], health: str) -> None:
    with serving() as (port, _):
        assert judge("http", {"url": f"http://127.0.0.1:{port}{path}", **more})[0] == health


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with serving() as (port, asked):
        assert ask("http", url=f"http://127.0.0.1:{port}/moved")[0] == "FAILED"
        assert asked == ["/moved"]


def test_what_does_not_speak_http_has_failed() -> None:
    with listening(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        assert ask("http", url=f"http://127.0.0.1:{port}/")[0] == "FAILED"


def test_a_server_that_drips_is_late_at_the_deadline() -> None:
    started = time.monotonic()
    with listening(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 100, drip_s=0.05) as port:
        health, said = ask("http", deadline_s=0.4, url=f"http://127.0.0.1:{port}/")
    assert (health, "no answer in time" in said) == ("PROGRESSING", True)
    assert time.monotonic() - started < 20, "the whole answer would take a minute"


def test_a_certificate_that_nobody_trusts_fails_under_its_own_code(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    with serving(context) as (port, asked):
        health, said = ask("http", url=f"https://127.0.0.1:{port}/")
        assert (health, said.partition(":")[0], asked) == ("FAILED", "target.tls_untrusted", [])


def test_a_certificate_of_a_known_authority_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "both.pem"))
    with serving(context) as (port, _):
        assert ask("http", url=f"https://127.0.0.1:{port}/") == ("HEALTHY", "")


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "100.100.100.200", "0.0.0.0", "224.0.0.1"]
)
def test_addresses_that_may_hand_out_credentials_are_refused_before_a_connection(host: str) -> None:
    health, said = ask("http", deadline_s=0.5, url=f"http://{host}/latest/meta-data")
    assert (health, said.partition(":")[0]) == ("FAILED", "probe_refused")


def test_a_query_is_not_repeated_in_a_finding() -> None:
    with serving() as (port, asked):
        _, said = ask("http", url=f"http://127.0.0.1:{port}/404?token=canary")
    assert asked == ["/404?token=canary"]
    assert "canary" not in said


def test_a_file_that_is_there_is_healthy_and_one_that_is_not_is_awaited(tmp_path: Path) -> None:
    (tmp_path / "ready").write_text("version 2")
    assert ask("file", path=f"{tmp_path}/ready") == ("HEALTHY", "")
    assert ask("file", path=f"{tmp_path}/ready", contains="version 2") == ("HEALTHY", "")
    assert ask("file", path=f"{tmp_path}/ready", contains="version 3")[0] == "FAILED"
    assert ask("file", path=f"{tmp_path}/absent")[0] == "PROGRESSING"
    assert ask("file", path=f"{tmp_path}/ready/below")[0] == "PROGRESSING"


def test_a_file_below_a_root_is_not_reached_through_a_symlink_or_dots(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "run").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (root / "run" / "ready").write_text("x")
    (root / "run" / "link").symlink_to(tmp_path / "secret")
    (root / "out").symlink_to(tmp_path)
    assert ask("file", root=root, path="/run/ready")[0] == "HEALTHY"
    assert ask("file", root=root, path="run/ready")[0] == "HEALTHY"
    for path in ("/run/link", "/out/secret", "/../secret"):
        assert ask("file", root=root, path=path)[0] != "HEALTHY"


def test_a_fifo_holds_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert ask("file", path=f"{tmp_path}/fifo")[0] == "FAILED"


def test_the_worst_answer_is_the_targets(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "ready").write_text("no")
    asked = [
        model.Probe(kind="port", fields={"port": free_port}),
        model.Probe(kind="file", fields={"path": f"{tmp_path}/ready", "contains": "yes"}),
        model.Probe(kind="file", fields={"path": f"{tmp_path}/ready"}),
    ]
    health, findings = probes.run_probes(asked, deadline_s=5)
    assert (health, [r.code for r in findings]) == (model.Health.FAILED, ["probe_no_answer", "probe_failed"])


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("command", {"run": "id"}, "no probe"),
        ("port", {"port": 0}, "port"),
        ("port", {"port": 443, "host": "a b"}, "host"),
        ("http", {"url": "file:///etc/passwd"}, "write http"),
        ("http", {"url": "http://user:word@app/"}, "no user or password"),
        ("http", {"url": "http://app/\r\nX: y"}, "control characters"),
        ("http", {"url": "http://app/", "follow": True}, "follow"),
        ("http", {"url": "http://app:99999/"}, "no web address"),
        ("file", {}, "path"),
    ],
)
def test_a_probe_that_is_wrong_is_refused_without_asking_anybody(
    kind: str, fields: dict[str, JsonValue], said: str
) -> None:
    (reason,) = probes.validate_probe(model.Probe(kind=kind, fields=fields), "targets/t/target.yaml")
    assert said in reason.message
    with pytest.raises(errors.ConfigError):
        probes.run_probes([model.Probe(kind=kind, fields=fields)], deadline_s=1)


def self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "both.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
