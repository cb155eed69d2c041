"""What the controller published read-only: the node writes nothing to it, whatever the capability would allow."""

import os
from pathlib import Path
from typing import Any

import pytest

from csi_driver.pb import csi_pb2 as pb
from tests.node.bench import KINDS, Bench, Code

READ_ONLY = {"readonly": "true"}


def stage_request(bench: Bench, volume_id: str, wanted: Any, context: dict[str, str]) -> pb.NodeStageVolumeRequest:
    request = bench.stage_request(volume_id, wanted)
    request.publish_context.update(context)
    return request


def publish_request(bench: Bench, volume_id: str, wanted: Any, context: dict[str, str]) -> pb.NodePublishVolumeRequest:
    request = bench.publish_request(volume_id, wanted)
    request.publish_context.update(context)
    return request


def written(bench: Bench, wanted: Any) -> str:
    """A volume with its file system, or its first bytes, at rest."""
    volume_id = bench.new_volume()
    bench.stage(volume_id, wanted)
    target = bench.publish(volume_id, wanted)
    if wanted.HasField("block"):
        with target.open("r+b") as opened:
            opened.write(b"seen")
    else:
        (target / "file").write_text("seen")
    bench.unpublish(volume_id)
    bench.unstage(volume_id)
    return volume_id


def look(target: Path) -> bytes:
    with (target / "file" if target.is_dir() else target).open("rb") as opened:
        return opened.read(4)


def change(target: Path) -> None:
    path = target / "new" if target.is_dir() else target
    with path.open("wb" if target.is_dir() else "r+b", buffering=0) as opened:
        opened.write(b"more")
        os.fsync(opened.fileno())


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_published_read_only_is_read_and_never_written(bench: Bench, kind: str) -> None:
    """The device itself refuses writes, so that no mount of it can do otherwise."""
    wanted = KINDS[kind]
    volume_id = written(bench, wanted)
    bench.node.NodeStageVolume(stage_request(bench, volume_id, wanted, READ_ONLY))
    bench.node.NodePublishVolume(publish_request(bench, volume_id, wanted, READ_ONLY))
    target = bench.target()
    assert look(target) == b"seen"
    with pytest.raises(OSError, match=r"Read-only|Permission|not permitted"):
        change(target)
    device = bench.setting.attacher().find(bench.attachment(volume_id, read_only=True))
    assert device
    assert Path(f"/sys/block/{device.path.name}/ro").read_text().strip() == "1"


def test_a_stage_that_reads_is_not_taken_for_one_that_writes(bench: Bench) -> None:
    """Staged the one way, it is a conflict to stage it the other; the same again is fine, over a restart too."""
    wanted = KINDS["ext4"]
    volume_id = written(bench, wanted)
    reader, writer = (stage_request(bench, volume_id, wanted, one) for one in (READ_ONLY, {}))
    bench.node.NodeStageVolume(reader)
    bench.restart()
    bench.node.NodeStageVolume(reader)
    assert bench.code(bench.node.NodeStageVolume, writer) is Code.ALREADY_EXISTS
    plain = publish_request(bench, volume_id, wanted, {})
    assert bench.code(bench.node.NodePublishVolume, plain) is Code.FAILED_PRECONDITION
    bench.unstage(volume_id)
    bench.node.NodeStageVolume(writer)
    assert bench.code(bench.node.NodeStageVolume, reader) is Code.ALREADY_EXISTS


def test_what_the_go_driver_put_into_the_publish_context_is_left_alone(bench: Bench) -> None:
    volume_id, wanted = bench.new_volume(), KINDS["ext4"]
    bench.node.NodeStageVolume(
        stage_request(bench, volume_id, wanted, {"csi.ceph.com/other": "1", "readonly": "false"})
    )
    bench.node.NodePublishVolume(publish_request(bench, volume_id, wanted, {}))
    (bench.target() / "file").write_text("written")
