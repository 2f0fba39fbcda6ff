"""An admission webhook that an API server of tests really calls: HTTPS on loopback, with a certificate of that plane's authority."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support import kube as planes
from support import kube_certificates

HANGS_FOR_S = 3.0  # longer than the timeout below


class Webhook:
    """Says yes to everything until `verdict` is "reject" or "hang"; `asked` holds (dry run, name) of each review.

    `only` is the name of the one object that the verdict is for; empty: all.
    """

    def __init__(self, plane: planes.ControlPlane, folder: Path) -> None:
        self.verdict, self.only = "admit", ""
        self.asked: list[tuple[bool, str]] = []
        self._released = threading.Event()
        self._ca = plane.ca_path.read_bytes()
        folder.mkdir(parents=True, exist_ok=True)
        kube_certificates.Authority(plane.folder).serve(folder / "hook.crt", folder / "hook.key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "hook.crt", folder / "hook.key")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def configuration(self, name: str, namespace: str, group: str, resource: str, **more: Any) -> dict[str, Any]:
        """A ValidatingWebhookConfiguration that asks this server about one resource of one namespace."""
        url = f"https://127.0.0.1:{self._server.server_address[1]}/review"
        rule = {
            "apiGroups": [group],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": [resource],
        }
        hook = {
            "name": f"{name}.example.test",
            "clientConfig": {"url": url, "caBundle": base64.b64encode(self._ca).decode()},
            "rules": [{**rule, "scope": "Namespaced"}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 1,
            **more,
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
        return {**kind, "metadata": {"name": name}, "webhooks": [hook]}

    def _review(self, review: dict[str, Any]) -> dict[str, Any]:
        asked = review["request"]
        self.asked.append((bool(asked.get("dryRun")), str(asked["name"])))
        verdict = self.verdict if self.only in {"", asked["name"]} else "admit"
        if verdict == "hang":
            self._released.wait(HANGS_FOR_S)
        answer: dict[str, Any] = {"uid": asked["uid"], "allowed": verdict != "reject"}
        if verdict == "reject":
            answer["status"] = {"code": 403, "message": "policy 7 forbids it"}
        return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": answer}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        review = self._review

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                answer = json.dumps(review(json.loads(self.rfile.read(length)))).encode()
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    self.close_connection = True  # The API server did not wait.

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
                pass

        return Handler
