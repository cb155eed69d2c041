"""Encrypted volumes whose keys are in their images' metadata, on a kernel with dm-crypt: copies, and a new passphrase."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import image_data, volume_command
from tests.client import refusal
from tests.controller.calls import UNFINISHED, Calls
from tests.controller.test_copies import image_of
from tests.node.test_fencing import Node
from tests.node.test_sealed_volumes import PHRASE, SIZE, node, refused_stage, stage_request
from tests.wrapped_keys import DEK, unwrapped

__all__ = ["node"]  # a fixture
PATTERN = b"this is not to be read by anybody else. " * 5000


def until_done(method: Any, request: Any) -> None:
    while refused := refusal(method, request):
        assert refused.code in UNFINISHED, refused


def stage(node: Node, volume: pb.Volume, secrets: Mapping[str, str] = PHRASE) -> Path:
    """Where its file system is. Repeated as an orchestrator does: a key derivation takes its time there."""
    request = stage_request(node, volume, dict(secrets))
    until_done(node.driver.rpc.node.NodeStageVolume, request)
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


@pytest.mark.attacher("krbd", "nbd")
def test_a_passphrase_is_changed_under_a_mounted_volume(
    ceph_dev: DevCeph, node: Node, attacher_name: str, tmp_path: Path
) -> None:
    """It is written to and grows as ever; from the next stage on the new passphrase opens it, and the old one does not."""
    calls = Calls(node.driver.rpc, {**ceph_dev.secrets("provisioner"), **PHRASE})
    sealed = {"encrypted": "true", "encryptionKMSID": "sealed", "mounter": attacher_name}
    volume = calls.create_until_done("rotated", SIZE, parameters=sealed)
    mounted = stage(node, volume)
    (mounted / "before").write_bytes(PATTERN)
    flags = ["--kms-config", str(tmp_path / "kms.json")]
    new = {"encryptionPassphrase": "quite another"}
    for name, phrase in (("old", PHRASE), ("new", new)):
        (tmp_path / name).write_text(phrase["encryptionPassphrase"])
        flags += [f"--{name}", str(tmp_path / name)]
    ended = volume_command.run(ceph_dev.config_json, "rewrap", volume.volume_id, *flags)
    assert ended.code == 0, ended.err
    (mounted / "after").write_bytes(PATTERN)
    assert calls.expand(volume.volume_id, 2 * SIZE) == 2 * SIZE
    request = pb.NodeExpandVolumeRequest(volume_id=volume.volume_id, volume_path=str(mounted))
    request.capacity_range.required_bytes = 2 * SIZE
    until_done(node.driver.rpc.node.NodeExpandVolume, request)
    unstage(node, volume)
    assert refused_stage(node, volume, PHRASE)[0] is grpc.StatusCode.UNAUTHENTICATED
    mounted = stage(node, volume, new)
    assert (mounted / "before").read_bytes() == (mounted / "after").read_bytes() == PATTERN
    unstage(node, volume)
    calls.delete_until_done(volume.volume_id)
