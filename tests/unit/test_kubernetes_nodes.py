"""Nodes as a Kubernetes API tells of them, asked through the real client of a server with canned objects."""

from collections.abc import Iterator

import pytest
from kubernetes import client

from csi_driver.errors import AccessDenied, ClusterUnavailable, NotReady
from csi_driver.journal.nodes import NodeRecord
from csi_driver.orchestrator.kubernetes_nodes import OUT_OF_SERVICE, KubernetesNodes, in_cluster
from tests.kubernetes_api import DRIVER, ApiServer, registered


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def nodes(api: ApiServer) -> Iterator[KubernetesNodes]:
    with client.ApiClient(at(api.port)) as opened:
        yield KubernetesNodes(DRIVER, lambda: opened)


def at(port: int) -> client.Configuration:
    configuration = client.Configuration(host=f"http://127.0.0.1:{port}")
    configuration.retries = 0
    return configuration


@pytest.mark.parametrize(("count", "limit"), [(None, 0), (25, 25)])
def test_a_node_is_known_by_its_csi_node_with_its_limit(
    api: ApiServer, nodes: KubernetesNodes, count: int | None, limit: int
) -> None:
    api.add("worker-1", [registered("x", 7, "other.driver"), registered("worker-1", count)])
    assert nodes.find("worker-1") == NodeRecord("worker-1", limit)


def test_a_node_id_that_is_no_nodes_name_is_found_too(api: ApiServer, nodes: KubernetesNodes) -> None:
    api.add("worker-1", [registered("10.0.0.1", 3)])
    api.add("worker-2", [registered("10.0.0.2", 4)], [OUT_OF_SERVICE])
    assert nodes.find("10.0.0.2") == NodeRecord("10.0.0.2", 4)
    assert nodes.is_gone("10.0.0.2")
    assert not nodes.is_gone("10.0.0.1")


def test_a_node_without_this_driver_is_not_known(api: ApiServer, nodes: KubernetesNodes) -> None:
    api.add("worker-1", [registered("worker-1", name="other.driver")])
    api.add("worker-2", [])
    assert nodes.find("worker-1") is None
    assert nodes.find("worker-2") is None
    assert nodes.find("worker-3") is None


@pytest.mark.parametrize("taint", ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready", None])
def test_only_who_was_said_to_be_out_of_service_is_gone(
    api: ApiServer, nodes: KubernetesNodes, taint: str | None
) -> None:
    """A node that cannot be reached may run on, and write; so may one whose object was deleted."""
    api.add("worker-1", [registered("worker-1")], [taint] if taint else ())
    assert not nodes.is_gone("worker-1")
    assert not nodes.is_gone("deleted")
    api.add("worker-1", [], [OUT_OF_SERVICE])
    assert nodes.is_gone("worker-1"), "its plugin went with it, so that no CSINode names the driver any more"


def test_an_api_that_refuses_or_fails_is_told_apart(api: ApiServer, nodes: KubernetesNodes) -> None:
    for status, kind in ((403, AccessDenied), (401, AccessDenied), (500, ClusterUnavailable)):
        api.status = status
        with pytest.raises(kind, match=str(status)):
            nodes.find("worker-1")
        with pytest.raises(kind, match="worker-1"):
            nodes.is_gone("worker-1")


def test_an_api_that_is_not_there_is_unavailable() -> None:
    with client.ApiClient(at(1)) as opened, pytest.raises(ClusterUnavailable, match="which nodes"):
        KubernetesNodes(DRIVER, lambda: opened).find("worker-1")


def test_outside_of_a_pod_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterUnavailable, match="which nodes"):
        KubernetesNodes(DRIVER, in_cluster).find("worker-1")


def test_the_topology_of_a_node_is_read_from_its_labels(api: ApiServer, nodes: KubernetesNodes) -> None:
    api.add("worker-1", [], labels={"topology.kubernetes.io/zone": "a", "other": "b"})
    wanted = {"topology.rbd.csi.internal/zone": "topology.kubernetes.io/zone"}
    assert nodes.topology("worker-1", wanted) == {"topology.rbd.csi.internal/zone": "a"}


def test_a_node_without_such_a_label_is_not_ready(api: ApiServer, nodes: KubernetesNodes) -> None:
    """It would get volumes that it cannot reach; the kubelet asks again."""
    api.add("worker-1", [], labels={"other": "b"})
    for node in ("worker-1", "unknown"):
        with pytest.raises(NotReady, match="zone"):
            nodes.topology(node, {"zone": "zone"})
