"""A Vault of the tests' own: the real server on two loopback ports, one with TLS, and what an operator sets up in it.

    with Vault(directory) as vault:
        vault.set_up(api)            # engines, policies, roles of the Kubernetes authentication
        vault.secret("secret", handle)
        vault.stop(); vault.start()  # its data are files

What it holds is asked for over plain HTTP with the root token, past the driver's client.
"""

import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import requests

from tests.kms.binary import vault_server
from tests.kubernetes_api import ApiServer

NAMESPACE, ACCOUNT = "rbd-csi", "rbd-csi-controller"
_START_S = 60.0

_RIGHTS = """
path "{mount}/data/*" {{ capabilities = ["create", "update", "read", "delete"] }}
path "{mount}/metadata/*" {{ capabilities = ["read", "delete"] }}
path "{mount}/+" {{ capabilities = ["create", "update", "read", "delete"] }}
"""


class Vault:
    """One server, and the root token."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = _free_port(), _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._root = self._unseal_key = ""
        self.authority = directory / "ca.crt"
        self._certify()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def tls_address(self) -> str:
        return f"https://127.0.0.1:{self._ports[1]}"

    def _certify(self) -> None:
        """For a name alone: by its address the server is not known."""
        made = ("-newkey", "rsa:2048", "-nodes", "-keyout", str(self._directory / "key"), "-out", str(self.authority))
        subject = ("-subj", "/CN=vault.internal", "-addext", "subjectAltName=DNS:vault.internal", "-days", "2")
        subprocess.run(["openssl", "req", "-x509", *made, *subject], check=True, capture_output=True)

    def start(self) -> None:
        data, tls = self._directory / "data", ("-certificate", self.authority, "-key", self._directory / "key")
        ports = [f"127.0.0.1:{port}" for port in self._ports]
        command = [vault_server(), "-directory", data, "-address", ports[0], "-tls-address", ports[1], *tls]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        ends = time.monotonic() + _START_S
        while True:
            try:
                requests.get(f"{self.address}/v1/sys/seal-status", timeout=5)
                break
            except requests.ConnectionError:
                assert self._process.poll() is None, (self._directory / "log").read_text()
                assert time.monotonic() < ends
                time.sleep(0.05)
        if not self._root:
            keys = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            self._root, self._unseal_key = keys["root_token"], keys["keys"][0]
        self.unseal()

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def seal(self) -> None:
        self.ask("PUT", "sys/seal")

    def unseal(self) -> None:
        self.ask("PUT", "sys/unseal", {"key": self._unseal_key})
        ends = time.monotonic() + _START_S
        while requests.get(f"{self.address}/v1/sys/health", timeout=5).status_code != 200:
            assert time.monotonic() < ends
            time.sleep(0.05)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, missing: Any = None) -> Any:
        """As root. missing: the answer where there is nothing."""
        headers = {"X-Vault-Token": self._root}
        answer = requests.request(method, f"{self.address}/v1/{path}", json=body, headers=headers, timeout=20)
        if answer.status_code == 404 and method in ("GET", "LIST"):
            return missing
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def set_up(self, api: ApiServer) -> None:
        """KV 2 at `secret`, KV 1 at `old`; the role `csi-kubernetes` for the account of the driver's pod."""
        self.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        self.ask("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
        policy = "".join(_RIGHTS.format(mount=mount) for mount in ("secret", "old"))
        self.ask("PUT", "sys/policies/acl/keys", {"policy": policy})
        self.ask("PUT", "sys/policies/acl/reader", {"policy": 'path "secret/data/*" { capabilities = ["read"] }'})
        self.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
        config = {
            "kubernetes_host": f"https://127.0.0.1:{api.port}",
            "kubernetes_ca_cert": (api.account / "ca.crt").read_text(),
            "disable_local_ca_jwt": True,
        }
        self.ask("POST", "auth/kubernetes/config", config)
        self.add_role("csi-kubernetes", policies="keys")

    def add_role(self, name: str, *, policies: str, **options: Any) -> None:
        bound = {"bound_service_account_names": ACCOUNT, "bound_service_account_namespaces": NAMESPACE}
        self.ask("POST", f"auth/kubernetes/role/{name}", {**bound, "token_policies": policies, **options})

    def token(self, *policies: str) -> str:
        made = self.ask("POST", "auth/token/create", {"policies": list(policies), "ttl": "1h"})
        text: str = made["auth"]["client_token"]
        return text

    def secret(self, path: str) -> Any:
        """What the engine answers at a path; None for nothing."""
        found = self.ask("GET", path)
        return found["data"] if found else None

    def names(self, mount: str = "secret", below: str = "") -> set[str]:
        """Of all keys that are kept, of which not a trace is gone."""
        part = "metadata/" if mount == "secret" else ""
        found = self.ask("LIST", f"{mount}/{part}{below}")
        return set(found["data"]["keys"]) if found else set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port
