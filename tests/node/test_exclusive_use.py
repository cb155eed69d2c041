"""A volume for a single node is attached to it alone: a client that has its image open is waited for, then named."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_driver.dev.layout import DevCeph
from csi_driver.host.mounts import LocalMounts
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal, refusal
from tests.controller.calls import Calls
from tests.controller.planting import image_named
from tests.fixtures.driver import StartDriver
from tests.image_client import ImageClient
from tests.node.bench import capability
from tests.node.node_process import Node

_SIZE_BYTES = 64 << 20
_SHARED = capability("MULTI_NODE_MULTI_WRITER", block=True)
_EXCLUSIVE = capability("SINGLE_NODE_SINGLE_WRITER", block=True)
_CLOSED_AFTER_S = 2.0


@pytest.fixture
def node(ceph_dev: DevCeph, start_driver: StartDriver, tmp_path: Path) -> Iterator[Node]:
    driver = start_driver("--node", "--driver-name", "exclusive.csi.test", clusters=ceph_dev.config_json)
    yield Node(driver, tmp_path, dict(ceph_dev.secrets("node")))
    assert not [mount.target for mount in LocalMounts().table() if mount.target.is_relative_to(tmp_path)]


@pytest.fixture
def calls(ceph_dev: DevCeph, start_driver: StartDriver) -> Calls:
    return Calls(start_driver("--controller", clusters=ceph_dev.config_json).rpc, ceph_dev.secrets("provisioner"))


@pytest.fixture
def volume(calls: Calls) -> Iterator[pb.Volume]:
    made = calls.create("exclusive", _SIZE_BYTES, capability=_SHARED)
    yield made
    calls.delete_until_done(made.volume_id)


def test_who_has_the_image_open_for_long_is_named_and_nothing_is_attached(
    ceph_dev: DevCeph, node: Node, volume: pb.Volume, tmp_path: Path
) -> None:
    staging = _staging(tmp_path)
    with ImageClient(ceph_dev, image_named(volume)) as client:
        answer = _stage(node, volume, _EXCLUSIVE, staging)
        assert isinstance(answer, Refusal)
        assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
        assert client.address in answer.message
        assert list(staging.iterdir()) == []
    node.use(volume, _EXCLUSIVE, name="later")
    node.leave()


def test_a_client_that_closes_the_image_in_time_is_waited_for(ceph_dev: DevCeph, node: Node, volume: pb.Volume) -> None:
    with ImageClient(ceph_dev, image_named(volume)) as client:
        closing = threading.Timer(_CLOSED_AFTER_S, client.close)
        closing.start()
        node.use(volume, _EXCLUSIVE, name="waiting")
        closing.join()
    node.leave()


def test_a_killed_client_is_waited_for_until_its_watch_ends(ceph_dev: DevCeph, node: Node, volume: pb.Volume) -> None:
    client = ImageClient(ceph_dev, image_named(volume))
    client.kill()
    staging = _staging(node.directory)
    while answer := _stage(node, volume, _EXCLUSIVE, staging):
        assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
        assert client.address in answer.message
    node.used.append((volume.volume_id, "here"))
    node.leave()


def test_a_volume_for_several_nodes_is_attached_beside_others(ceph_dev: DevCeph, node: Node, volume: pb.Volume) -> None:
    with ImageClient(ceph_dev, image_named(volume)):
        node.use(volume, _SHARED, name="shared")
        node.leave()


def test_a_stage_that_is_repeated_does_not_wait_for_itself(node: Node, volume: pb.Volume) -> None:
    for _ in range(2):
        node.use(volume, _EXCLUSIVE, name="again")
    node.used.pop()
    node.driver.kill()
    node.driver.restart()
    node.use(volume, _EXCLUSIVE, name="again")
    node.used.pop()
    node.leave()


def _staging(directory: Path) -> Path:
    staging = directory / "staging-here"
    staging.mkdir()
    return staging


def _stage(node: Node, volume: pb.Volume, wanted: Any, staging: Path) -> Refusal | None:
    return refusal(node.driver.rpc.node.NodeStageVolume, node.stage_request(volume, wanted, staging))
