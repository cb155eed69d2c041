"""A controller in a pod: nodes and limits by the Kubernetes API, and a node that is out of service is fenced."""

import time
from collections.abc import Iterator
from typing import Any

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


def told_of(api: ApiServer, claim: str, count: int) -> list[dict[str, Any]]:
    """A claim's events, once there are so many; they are told behind the answers."""
    deadline = time.monotonic() + 90
    while True:
        found = [one for one in api.events if one["involvedObject"]["name"] == claim]
        if len(found) >= count or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


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
    (event,) = told_of(api, "basket", 1)
    assert (event["reason"], event["type"]) == ("VolumeFenced", "Warning")
    assert "worker-1" in event["message"]
    publishing.calls.delete_until_done(volume_id)


def test_a_claim_is_told_of_the_flatten_of_its_volume(
    api: ApiServer, publishing: Publishing, ceph_dev: DevCeph
) -> None:
    """Also when the volume's object is made only after it began; and why it waits, once."""
    calls = publishing.calls
    source = calls.create("flatten-source")
    idle, used = (
        calls.create_until_done(f"flatten-{n}", source=source, parameters={"flatten": n}) for n in ("always", "never")
    )
    for name in ("always", "never"):
        api.add_volume(f"flatten-{name}", name)
    told = told_of(api, "always", 2)  # each is sent by itself, and both may wait for the volume's object
    assert {(one["reason"], one["type"]) for one in told} == {("Flattening", "Normal"), ("Flattened", "Normal")}
    with ImageClient(ceph_dev, used.volume_context["imageName"]):
        assert calls.modify(used.volume_id, flatten="always") is None
        (waits,) = told_of(api, "never", 1)
    assert (waits["reason"], waits["type"]) == ("FlattenPutOff", "Warning")
    assert "a client has it open" in waits["message"]
    for volume in (source, idle, used):
        calls.delete_until_done(volume.volume_id)
