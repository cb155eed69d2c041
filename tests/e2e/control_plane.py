"""etcd, API server, controller manager and scheduler, as plain processes on addresses that no other machine reaches.

The address of the API server is also the first of the service range, so that `kubernetes.default` is the API server
itself, and pods reach it without kube-proxy (machine.py gives it to the machine).
"""

import json
import subprocess
from pathlib import Path

from tests.e2e.certificates import Certificates
from tests.e2e.processes import Processes

API, SERVICES = "10.96.0.1", "10.96.0.0/16"
NODE = "localhost"
_ETCD, _ETCD_PEER, _SCHEDULER, _MANAGER = 12379, 12380, 12381, 12382
_READY_S = 120.0


class ControlPlane:
    """Of one directory."""

    def __init__(self, directory: Path, programs: Path, processes: Processes) -> None:
        self._directory = directory
        self._programs = programs
        self._processes = processes
        self.certificates = Certificates(directory / "pki")

    def start(self) -> None:
        self._make_certificates()
        self._start_etcd()
        self.start_api_server()
        for name, port, extra in (
            ("controller-manager", _MANAGER, ("--use-service-account-credentials", *self._signing())),
            ("scheduler", _SCHEDULER, ()),
        ):
            config = self.kubeconfig(name)
            self._processes.start(
                f"kube-{name}",
                f"--kubeconfig={config}",
                f"--authentication-kubeconfig={config}",
                f"--authorization-kubeconfig={config}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                "--leader-elect=false",
                *extra,
            )

    def kubeconfig(self, user: str) -> Path:
        """Of a user that has a certificate."""
        path = self._directory / f"{user}.kubeconfig"
        if not path.exists():
            pki = self.certificates
            cluster = {"server": f"https://{API}:443", "certificate-authority": pki.path("ca.crt")}
            keys = {"client-certificate": pki.path(f"{user}.crt"), "client-key": pki.path(f"{user}.key")}
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "bed", "cluster": cluster}],
                "users": [{"name": user, "user": keys}],
                "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": user}}],
                "current-context": "bed",
            }
            path.write_text(json.dumps(config))
        return path

    def _make_certificates(self) -> None:
        pki = self.certificates
        pki.make_authority()
        names = f"IP:{API},IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
        pki.make("apiserver", "/CN=kube-apiserver", names=names)
        pki.make("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", names=f"IP:127.0.0.1,DNS:{NODE}")
        pki.make("node", f"/O=system:nodes/CN=system:node:{NODE}")
        for user in ("admin", "apiserver-kubelet"):
            pki.make(user, f"/O=system:masters/CN={user}")
        for user in ("controller-manager", "scheduler"):
            pki.make(user, f"/CN=system:kube-{user}")

    def _start_etcd(self) -> None:
        here, peer = f"http://127.0.0.1:{_ETCD}", f"http://127.0.0.1:{_ETCD_PEER}"
        self._processes.start(
            "etcd",
            "--name=bed",
            f"--data-dir={self._directory / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={here}",
            f"--advertise-client-urls={here}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=bed={peer}",
        )

    def end_api_server(self) -> None:
        self._processes.end("kube-apiserver")

    def start_api_server(self) -> None:
        """Returns when it is ready."""
        self._start_api_server()
        self._processes.await_ready("kube-apiserver", self._is_ready, _READY_S)

    def _start_api_server(self) -> None:
        pki = self.certificates
        self._processes.start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{_ETCD}",
            f"--bind-address={API}",
            "--secure-port=443",
            "--endpoint-reconciler-type=none",
            f"--service-cluster-ip-range={SERVICES}",
            f"--tls-cert-file={pki.path('apiserver.crt')}",
            f"--tls-private-key-file={pki.path('apiserver.key')}",
            f"--client-ca-file={pki.path('ca.crt')}",
            f"--kubelet-client-certificate={pki.path('apiserver-kubelet.crt')}",
            f"--kubelet-client-key={pki.path('apiserver-kubelet.key')}",
            f"--kubelet-certificate-authority={pki.path('ca.crt')}",
            "--kubelet-preferred-address-types=Hostname",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki.path('sa.pub')}",
            f"--service-account-signing-key-file={pki.path('sa.key')}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
        )

    def _signing(self) -> tuple[str, ...]:
        pki = self.certificates
        return (f"--service-account-private-key-file={pki.path('sa.key')}", f"--root-ca-file={pki.path('ca.crt')}")

    def _is_ready(self) -> bool:
        command = [
            str(self._programs / "kubectl"),
            f"--kubeconfig={self.kubeconfig('admin')}",
            "get",
            "--raw",
            "/readyz",
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
