"""Copies of encrypted volumes, whose keys are in their images' metadata, staged on a kernel with dm-crypt."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.client import refusal
from tests.controller.calls import UNFINISHED, Calls
from tests.controller.test_copies import image_of
from tests.node.test_fencing import Node
from tests.node.test_sealed_volumes import PHRASE, SIZE, node, refused_stage, stage_request
from tests.wrapped_keys import DEK, unwrapped

__all__ = ["node"]  # a fixture
PATTERN = b"this is not to be read by anybody else. " * 5000


def stage(node: Node, volume: pb.Volume) -> Path:
    """Where its file system is. Repeated as an orchestrator does: a key derivation takes its time there."""
    request = stage_request(node, volume, PHRASE)
    while refused := refusal(node.driver.rpc.node.NodeStageVolume, request):
        assert refused.code in UNFINISHED, refused
    return Path(request.staging_target_path) / volume.volume_id


def unstage(node: Node, volume: pb.Volume) -> None:
    staging = str(node.directory / volume.volume_id[-12:])
    node.driver.rpc.node.NodeUnstageVolume(
        pb.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=staging)
    )


@pytest.mark.attacher("krbd", "nbd")
def test_copies_of_an_encrypted_volume_are_staged_with_keys_of_their_own(
    ceph_dev: DevCeph, node: Node, attacher_name: str
) -> None:
    """A restored snapshot and a clone have the source's data, which no image shows; a wrong passphrase changes nothing."""
    calls = Calls(node.driver.rpc, {**ceph_dev.secrets("provisioner"), **PHRASE})
    sealed = {"encrypted": "true", "encryptionKMSID": "sealed", "mounter": attacher_name}
    source = calls.create_until_done("source", SIZE, parameters=sealed)
    (stage(node, source) / "secret").write_bytes(PATTERN)
    unstage(node, source)
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    made: dict[str, Any] = {"size_bytes": 2 * SIZE, "parameters": sealed}
    copies = [
        calls.create_until_done(name, source=one, **made) for name, one in (("restored", snapshot), ("clone", source))
    ]
    keys = set()
    for copy in copies:
        assert refused_stage(node, copy, {"encryptionPassphrase": "another"})[0] is grpc.StatusCode.UNAUTHENTICATED
        assert (stage(node, copy) / "secret").read_bytes() == PATTERN
        unstage(node, copy)
        kept = ceph_dev.rbd("image-meta", "get", image_of(copy), DEK).strip()
        keys.add(unwrapped(kept, PHRASE["encryptionPassphrase"], copy.volume_id))
        with image_data.opened(ceph_dev, image_of(copy), read_only=True) as image:
            assert PATTERN[:40] not in image.read(0, image.size())
    assert len(keys) == 1
    for volume in (*copies, source):
        calls.delete_until_done(volume.volume_id)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
