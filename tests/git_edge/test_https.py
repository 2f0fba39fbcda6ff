"""A token goes to its own host over TLS, in no argument and no message, and follows no redirect."""

from __future__ import annotations

import base64
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler import errors, model
from reconciler.git import mirror, process

TOKEN = "hunter2-token"


class Forge(http.server.ThreadingHTTPServer):
    """Answers every request with one status and keeps what it was sent."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.status, self.location, self.body = 404, "", b""
        self.seen: list[tuple[str, str | None]] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the test."""


class Answer(http.server.BaseHTTPRequestHandler):
    server: Forge

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location + self.path)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name is the base class's
        """Quiet."""


def write_certificate(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(pem))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    write_certificate(path)
    return path


@pytest.fixture
def forge(certificate: Path) -> Iterator[Forge]:
    yield from serve(certificate)


@pytest.fixture
def other(certificate: Path) -> Iterator[Forge]:
    yield from serve(certificate)


def serve(certificate: Path) -> Iterator[Forge]:
    server = Forge(certificate)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def refusal(folder: Path, forge: Forge, ca_file: Path | None) -> errors.TransientError:
    auth = process.Auth(token=TOKEN, username="ops", ca_file=ca_file)
    source = mirror.Mirror(
        folder / "m", mirror.Watched(process.Remote(f"https://{forge.host}/ops/state.git", auth), "refs/heads/main")
    )
    with pytest.raises(errors.TransientError) as caught:
        source.fetch(model.Oid("1" * 40), frozenset())
    source.close()
    assert caught.value.code == "source_error"
    assert TOKEN not in str(caught.value)
    return caught.value


def test_the_token_is_sent_to_its_host(tmp_path: Path, forge: Forge, certificate: Path) -> None:
    refusal(tmp_path, forge, certificate)
    path, authorization = forge.seen[0]
    assert path == "/ops/state.git/info/refs?service=git-upload-pack"
    assert authorization == "Basic " + base64.b64encode(f"ops:{TOKEN}".encode()).decode()


def test_a_redirect_is_not_followed(tmp_path: Path, forge: Forge, other: Forge, certificate: Path) -> None:
    forge.status, forge.location = 302, f"https://{other.host}"
    refusal(tmp_path, forge, certificate)
    assert forge.seen
    assert not other.seen


def test_a_certificate_of_an_unknown_authority_is_refused_before_the_token_goes(tmp_path: Path, forge: Forge) -> None:
    refused = refusal(tmp_path, forge, None)
    assert "certificate" in str(refused)
    assert not forge.seen


def test_what_the_server_prints_is_no_part_of_the_message(tmp_path: Path, forge: Forge, certificate: Path) -> None:
    forge.status, forge.body = 403, f"fatal: \x1b[31mfake {TOKEN}\n".encode()
    assert "fake" not in str(refusal(tmp_path, forge, certificate))
