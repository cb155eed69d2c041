"""Nodes as a Kubernetes API tells of them, asked through the real client of a server with canned objects."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client

from csi_driver.errors import AccessDenied, ClusterUnavailable
from csi_driver.journal.nodes import NodeRecord
from csi_driver.orchestrator.kubernetes_nodes import OUT_OF_SERVICE, KubernetesNodes, in_cluster

DRIVER = "rbd.csi.internal"


@dataclass
class Api:
    """What the server answers by path; `status` for all of it."""

    objects: dict[str, Any] = field(default_factory=dict)
    status: int = 200

    def add(self, name: str, drivers: list[dict[str, Any]], taints: list[str] | None = None) -> None:
        csi_node = {"metadata": {"name": name}, "spec": {"drivers": drivers}}
        spec = {"taints": [{"key": key, "effect": "NoExecute"} for key in taints or []]}
        self.objects[f"/apis/storage.k8s.io/v1/csinodes/{name}"] = csi_node
        self.objects[f"/api/v1/nodes/{name}"] = {"metadata": {"name": name}, "spec": spec}

    def answer(self, path: str) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, {}
        everything = "/apis/storage.k8s.io/v1/csinodes"
        if path == everything:
            return 200, {"items": [one for key, one in self.objects.items() if key.startswith(everything)]}
        return (200, self.objects[path]) if path in self.objects else (404, {})


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def nodes(api: Api) -> Iterator[KubernetesNodes]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, value = api.answer(self.path)
            body = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configuration = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
        configuration.retries = 0
        with client.ApiClient(configuration) as opened:
            yield KubernetesNodes(DRIVER, lambda: opened)
        server.shutdown()


def registered(node_id: str, count: int | None = None, name: str = DRIVER) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "nodeID": node_id}
    return found if count is None else {**found, "allocatable": {"count": count}}


@pytest.mark.parametrize(("count", "limit"), [(None, 0), (25, 25)])
def test_a_node_is_known_by_its_csi_node_with_its_limit(
    api: Api, nodes: KubernetesNodes, count: int | None, limit: int
) -> None:
    api.add("worker-1", [registered("x", 7, "other.driver"), registered("worker-1", count)])
    assert nodes.find("worker-1") == NodeRecord("worker-1", limit)


def test_a_node_id_that_is_no_nodes_name_is_found_too(api: Api, nodes: KubernetesNodes) -> None:
    api.add("worker-1", [registered("10.0.0.1", 3)])
    api.add("worker-2", [registered("10.0.0.2", 4)], [OUT_OF_SERVICE])
    assert nodes.find("10.0.0.2") == NodeRecord("10.0.0.2", 4)
    assert nodes.is_gone("10.0.0.2")
    assert not nodes.is_gone("10.0.0.1")


def test_a_node_without_this_driver_is_not_known(api: Api, nodes: KubernetesNodes) -> None:
    api.add("worker-1", [registered("worker-1", name="other.driver")])
    api.add("worker-2", [])
    assert nodes.find("worker-1") is None
    assert nodes.find("worker-2") is None
    assert nodes.find("worker-3") is None


@pytest.mark.parametrize("taint", ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready", None])
def test_only_who_was_said_to_be_out_of_service_is_gone(api: Api, nodes: KubernetesNodes, taint: str | None) -> None:
    """A node that cannot be reached may run on, and write; so may one whose object was deleted."""
    api.add("worker-1", [registered("worker-1")], [taint] if taint else [])
    assert not nodes.is_gone("worker-1")
    assert not nodes.is_gone("deleted")
    api.add("worker-1", [], [OUT_OF_SERVICE])
    assert nodes.is_gone("worker-1"), "its plugin went with it, so that no CSINode names the driver any more"


def test_an_api_that_refuses_or_fails_is_told_apart(api: Api, nodes: KubernetesNodes) -> None:
    for status, kind in ((403, AccessDenied), (401, AccessDenied), (500, ClusterUnavailable)):
        api.status = status
        with pytest.raises(kind, match=str(status)):
            nodes.find("worker-1")
        with pytest.raises(kind, match="worker-1"):
            nodes.is_gone("worker-1")


def test_an_api_that_is_not_there_is_unavailable() -> None:
    configuration = client.Configuration(host="http://127.0.0.1:1")
    configuration.retries = 0
    with client.ApiClient(configuration) as opened, pytest.raises(ClusterUnavailable, match="which nodes"):
        KubernetesNodes(DRIVER, lambda: opened).find("worker-1")


def test_outside_of_a_pod_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterUnavailable, match="which nodes"):
        KubernetesNodes(DRIVER, in_cluster).find("worker-1")
