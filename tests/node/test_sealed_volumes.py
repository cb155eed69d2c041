"""Encrypted volumes whose keys are in their images' metadata, through both halves."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.client import refusal
from tests.controller.calls import Calls
from tests.controller.test_copies import image_of
from tests.driver import DriverProcess
from tests.node.bench import KINDS
from tests.node.test_fencing import Node, driver_name, remove_node
from tests.wrapped_keys import DEK

PHRASE = {"encryptionPassphrase": "correct horse battery staple"}
SIZE = 64 << 20


@contextmanager
def node_with(entries: dict[str, dict[str, str]], ceph: DevCeph, directory: Path) -> Iterator[Node]:
    """Both halves in one process, with these entries in its KMS file. In the end nothing may be left in the pool."""
    kms = directory / "kms.json"
    kms.write_text(json.dumps(entries))
    driver = DriverProcess.start(
        *("--driver-name", driver_name("sealed"), "--kms-config", str(kms)),
        clusters=ceph.config_json,
        node_id="sealed",
    )
    node = Node(driver, "sealed", Path(tempfile.mkdtemp(prefix="sealed-")), ceph.secrets("node"))
    try:
        yield node
        assert leftovers(ceph, Place("rbd")) == frozenset()  # purged while it still runs
    finally:
        remove_node(node)


@pytest.fixture
def node(ceph_dev: DevCeph, tmp_path: Path) -> Iterator[Node]:
    with node_with({"sealed": {"encryptionKMSType": "metadata"}}, ceph_dev, tmp_path) as node:
        yield node


def stage_request(node: Node, volume: pb.Volume, secrets: dict[str, str]) -> pb.NodeStageVolumeRequest:
    staging = node.directory / volume.volume_id[-12:]
    staging.mkdir(exist_ok=True)
    return pb.NodeStageVolumeRequest(
        volume_id=volume.volume_id,
        staging_target_path=str(staging),
        volume_capability=KINDS["ext4"],
        secrets={**node.secrets, **secrets},
        volume_context=volume.volume_context,
    )


def refused_stage(node: Node, volume: pb.Volume, secrets: dict[str, str]) -> tuple[grpc.StatusCode, str]:
    refused = refusal(node.driver.rpc.node.NodeStageVolume, stage_request(node, volume, secrets))
    assert refused
    return refused.code, refused.message


def test_a_key_that_cannot_be_got_is_told_before_anything_is_attached(
    ceph_dev: DevCeph, node: Node, attacher_name: str
) -> None:
    """By the journal's KMS, whatever the volume's context says."""
    calls = Calls(node.driver.rpc, {**ceph_dev.secrets("provisioner"), **PHRASE})
    sealed = {"encrypted": "true", "encryptionKMSID": "sealed", "mounter": attacher_name}
    volume = calls.create_until_done("volume", SIZE, parameters=sealed)
    del volume.volume_context["encryptionKMSID"]
    code, message = refused_stage(node, volume, {})
    assert (code, "encryptionPassphrase" in message) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    code, message = refused_stage(node, volume, {"encryptionPassphrase": "another"})
    assert (code, volume.volume_id in message) == (grpc.StatusCode.UNAUTHENTICATED, True)
    ceph_dev.rbd("image-meta", "remove", image_of(volume), DEK)
    code, message = refused_stage(node, volume, PHRASE)
    assert (code, DEK in message) == (grpc.StatusCode.INTERNAL, True)
    assert not list((node.directory / volume.volume_id[-12:]).iterdir())
    calls.delete_until_done(volume.volume_id)
