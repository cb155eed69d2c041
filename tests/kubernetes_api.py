"""A Kubernetes API server with canned objects: CSINodes and Nodes, for the real client; with TLS, for a driver in a pod. It
vouches for tokens of service accounts that it has made.

with ApiServer() as api:
    api.add("worker-1", [registered("worker-1", 3)])
    driver = start(prefix=as_pod(api), environment=api.environment)
"""

import base64
import json
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

DRIVER = "rbd.csi.internal"
_EVERY_CSI_NODE = "/apis/storage.k8s.io/v1/csinodes"
_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_AS_POD = """
mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io &&
cp -r "$0" /run/secrets/kubernetes.io/serviceaccount && exec "$@"
"""


def registered(node_id: str, count: int | None = None, name: str = DRIVER) -> dict[str, Any]:
    """A driver's part of a CSINode."""
    found: dict[str, Any] = {"name": name, "nodeID": node_id}
    return found if count is None else {**found, "allocatable": {"count": count}}


class ApiServer:
    """Answers while the context lasts. status: what it answers to everything, where it is not 200."""

    def __init__(self, *, with_tls: bool = False) -> None:
        self.status = 200
        self._objects: dict[str, Any] = {}
        self._accounts: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port
        self.account = Path(tempfile.mkdtemp(prefix="kubernetes-api-"))
        """What a pod finds of its service account."""
        if with_tls:
            self._serve_tls()

    @property
    def environment(self) -> Mapping[str, str]:
        """What a pod finds in its environment."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}

    @property
    def as_pod(self) -> Sequence[str]:
        """Before a command: runs it with the service account where a pod has it, in a mount namespace of its own."""
        return ("unshare", "-m", "--propagation", "private", "sh", "-c", _AS_POD, str(self.account))

    def add(
        self,
        name: str,
        drivers: Sequence[Mapping[str, Any]],
        taints: Sequence[str] = (),
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """A node, in the place of one of that name."""
        csi_node = {"metadata": {"name": name}, "spec": {"drivers": list(drivers)}}
        spec = {"taints": [{"key": key, "effect": "NoExecute"} for key in taints]}
        self._objects[f"{_EVERY_CSI_NODE}/{name}"] = csi_node
        self._objects[f"/api/v1/nodes/{name}"] = {"metadata": {"name": name, "labels": dict(labels)}, "spec": spec}

    def put(self, path: str, value: Mapping[str, Any]) -> None:
        """What a path answers."""
        self._objects[path] = value

    def put_secret(self, namespace: str, name: str, **data: str) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        about = {"metadata": {"name": name, "namespace": namespace}}
        self.put(f"/api/v1/namespaces/{namespace}/secrets/{name}", {"kind": "Secret", **about, "data": encoded})

    def add_account(self, namespace: str, name: str) -> str:
        """A token of a service account, which a review of tokens knows again."""
        about = {"namespace": namespace, "serviceaccount": {"name": name, "uid": f"uid-{name}"}}
        begins = int(time.time()) - 3600
        times = {"iat": begins, "nbf": begins, "exp": begins + 86400}
        claims = {"sub": f"system:serviceaccount:{namespace}:{name}", **times}
        parts = ({"alg": "RS256", "typ": "JWT"}, {**claims, "kubernetes.io": about}, "signature")
        token = ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts)
        self._accounts[token] = {"username": claims["sub"], "uid": f"uid-{name}", "groups": []}
        return token

    def _review(self, review: dict[str, Any]) -> dict[str, Any]:
        user = self._accounts.get(review["spec"]["token"])
        return {**review, "status": {"authenticated": bool(user), **({"user": user} if user else {})}}

    def add_volume(self, name: str, claim: str) -> None:
        """A persistent volume with its claim in the namespace `shop`."""
        spec = {"claimRef": {"name": claim, "namespace": "shop", "uid": "1-2-3"}}
        self._objects[f"/api/v1/persistentvolumes/{name}"] = {"metadata": {"name": name}, "spec": spec}

    def _answer(self, path: str) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, {}
        if path == _EVERY_CSI_NODE:
            return 200, {"items": [one for key, one in self._objects.items() if key.startswith(_EVERY_CSI_NODE)]}
        return (200, self._objects[path]) if path in self._objects else (404, {})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(*api._answer(self.path))

            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == _REVIEWS:
                    return self._send(201, api._review(event))
                assert self.path == f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
                api.events.append(event)
                return self._send(201, event)

            def _send(self, code: int, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
                pass

        return Handler

    def _serve_tls(self) -> None:
        certificate, key = self.account / "ca.crt", self.account / "server.key"
        subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
        made = ("-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate))
        subprocess.run(["openssl", "req", "-x509", *made, *subject], check=True, capture_output=True)
        (self.account / "token").write_text("a token")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self.account)
