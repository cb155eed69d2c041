"""A controller in a pod: nodes and limits by the Kubernetes API, and a node that is out of service is fenced."""

import time
from collections.abc import Iterator

import grpc
import pytest

from csi_driver.dev.layout import DevCeph
from csi_driver.orchestrator.kubernetes_nodes import OUT_OF_SERVICE
from tests.controller.calls import Calls
from tests.controller.test_publication import Publishing, refused
from tests.driver import DriverProcess
from tests.image_client import ImageClient
from tests.kubernetes_api import ApiServer, registered

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    with ApiServer(with_tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def pod(api: ApiServer, ceph_dev: DevCeph) -> Iterator[DriverProcess]:
    with DriverProcess.start(
        "--controller",
        "--fence-gone-nodes",
        clusters=ceph_dev.config_json,
        node_id="controller-0",
        environment=api.environment,
        prefix=api.as_pod,
    ) as driver:
        yield driver


@pytest.fixture
def publishing(pod: DriverProcess, ceph_dev: DevCeph) -> Publishing:
    return Publishing(Calls(pod.rpc, ceph_dev.secrets("provisioner")))


def blocklist(ceph: DevCeph) -> str:
    return ceph.ceph("osd", "blocklist", "ls")


def test_nodes_and_limits_are_those_of_the_api(api: ApiServer, publishing: Publishing) -> None:
    calls = publishing.calls
    api.add("worker-1", [registered("worker-1", 1)])
    one, two = (calls.create(f"of-kubernetes-{n}").volume_id for n in "ab")
    assert refused(publishing.publish(one, "worker-2"), Code.NOT_FOUND, "worker-2")
    assert publishing.publish(one, "worker-1") == {}
    assert refused(publishing.publish(two, "worker-1"), Code.RESOURCE_EXHAUSTED, "worker-1")
    api.status = 403
    assert refused(publishing.publish(two, "worker-1"), Code.PERMISSION_DENIED, "csinodes.storage.k8s.io")
    api.status = 500
    assert refused(publishing.publish(two, "worker-1"), Code.UNAVAILABLE, "Kubernetes")
    assert refused(publishing.unpublish(one, "worker-1"), Code.UNAVAILABLE, "Kubernetes")
    assert publishing.nodes_of(two) == []
    api.status = 200
    assert publishing.unpublish(one, "worker-1") is None
    for volume_id in (one, two):
        calls.delete_until_done(volume_id)


def test_only_a_node_that_is_out_of_service_is_cut_off(
    api: ApiServer, publishing: Publishing, ceph_dev: DevCeph
) -> None:
    """Of one that is not ready the client stays; the volume is another node's only after the cut."""
    volume = publishing.calls.create("of-a-gone-node")
    volume_id = volume.volume_id
    node = registered("worker-1")
    with ImageClient(ceph_dev, volume.volume_context["imageName"]) as client:
        api.add("worker-1", [node], ["node.kubernetes.io/not-ready"])
        assert publishing.publish(volume_id, "worker-1") == {}
        assert publishing.unpublish(volume_id, "worker-1") is None
        assert client.address not in blocklist(ceph_dev)

        assert publishing.publish(volume_id, "worker-1") == {}
        api.add_volume("of-a-gone-node", "basket")
        api.add("worker-1", [], [OUT_OF_SERVICE])
        assert publishing.unpublish(volume_id, "worker-1") is None
        assert client.address in blocklist(ceph_dev)
        assert publishing.nodes_of(volume_id) == []
    deadline = time.monotonic() + 60  # it is told behind the answer
    while not api.events and time.monotonic() < deadline:
        time.sleep(0.1)
    (event,) = api.events
    assert (event["reason"], event["type"], event["involvedObject"]["name"]) == ("VolumeFenced", "Warning", "basket")
    assert "worker-1" in event["message"]
    publishing.calls.delete_until_done(volume_id)
