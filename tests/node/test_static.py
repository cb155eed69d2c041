"""Static volumes: an image that somebody else made is staged as it is, and never given a file system."""

import subprocess

import pytest

from tests.node.bench import KINDS, Bench, Code, capability

STATIC = {"staticVolume": "true", "clusterID": "dev", "pool": "rbd"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_image_of_somebody_else_is_given_no_file_system(bench: Bench, kind: str) -> None:
    """As a block volume it is used; what is written to it by that is not read here."""
    volume_id = bench.new_volume()
    request = bench.stage_request(volume_id, KINDS[kind], **STATIC)
    if kind == "block":
        bench.node.NodeStageVolume(request)
    else:
        assert bench.code(bench.node.NodeStageVolume, request) is Code.FAILED_PRECONDITION
        assert "did not make" in bench.message(bench.node.NodeStageVolume, request)
    bench.unstage(volume_id)
    assert bench.read(volume_id, 0, 1 << 16) == bytes(1 << 16)


def test_the_file_system_of_somebody_else_is_mounted_as_it_is(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.on_device(volume_id, lambda device: subprocess.run(["mkfs.ext4", "-q", str(device.path)], check=True))
    wanted = capability(fs_type="ext4")
    bench.node.NodeStageVolume(bench.stage_request(volume_id, wanted, **STATIC))
    target = bench.publish(volume_id, wanted)
    (target / "data").write_bytes(b"kept")
    bench.unpublish(volume_id)
    bench.unstage(volume_id)
    bench.stage(volume_id, wanted)
    assert (bench.publish(volume_id, wanted) / "data").read_bytes() == b"kept"
