"""The calls about a volume in use: NodeGetVolumeStats, NodeExpandVolume, and what the node says of itself."""

import os
import time
from pathlib import Path

import pytest

from csi_driver.errors import DeviceTrouble
from csi_driver.host.bounded import bounded
from csi_driver.host.filesystems import LocalFilesystems
from csi_driver.pb import csi_pb2 as pb
from tests.node.bench import BLOCK, MIB, SIZE_MIB, Bench, Code, capability
from tests.stopping import stopped


def stats_request(volume_id: str, path: Path) -> pb.NodeGetVolumeStatsRequest:
    return pb.NodeGetVolumeStatsRequest(volume_id=volume_id, volume_path=str(path))


def grow_request(volume_id: str, path: Path, *, required: int = 0, limit: int = 0) -> pb.NodeExpandVolumeRequest:
    wanted = pb.CapacityRange(required_bytes=required, limit_bytes=limit) if required or limit else None
    return pb.NodeExpandVolumeRequest(volume_id=volume_id, volume_path=str(path), capacity_range=wanted)


def total(bench: Bench, volume_id: str, path: Path) -> int:
    return int(bench.node.NodeGetVolumeStats(stats_request(volume_id, path)).usage[0].total)


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_stats_of_a_file_system_are_its_bytes_and_inodes(bench: Bench, fs_type: str) -> None:
    """At the target and at the staging path, equal to what statvfs says there."""
    volume_id, wanted = bench.new_volume(), capability(fs_type=fs_type)
    bench.stage(volume_id, wanted)
    target = bench.publish(volume_id, wanted)
    (target / "file").write_bytes(b"x" * (8 * MIB))
    os.sync()
    for path in (target, bench.staging(volume_id), bench.staging(volume_id) / volume_id):
        usages = bench.node.NodeGetVolumeStats(stats_request(volume_id, path)).usage
        bytes_used, inodes = sorted(usages, key=lambda usage: usage.unit)
        seen = os.statvfs(target)
        assert (bytes_used.unit, inodes.unit) == (pb.VolumeUsage.BYTES, pb.VolumeUsage.INODES)
        assert bytes_used.total == seen.f_blocks * seen.f_frsize
        assert bytes_used.available == seen.f_bavail * seen.f_frsize
        assert 8 * MIB <= bytes_used.used < 60 * MIB
        assert inodes.total == seen.f_files
        assert inodes.used == seen.f_files - seen.f_ffree


def test_stats_of_a_block_volume_are_its_size(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, BLOCK)
    target = bench.publish(volume_id, BLOCK)
    (usage,) = bench.node.NodeGetVolumeStats(stats_request(volume_id, target)).usage
    assert (usage.unit, usage.total) == (pb.VolumeUsage.BYTES, SIZE_MIB * MIB)


def test_a_volume_that_is_not_at_the_path_is_not_found(bench: Bench) -> None:
    """Unknown volume, unknown path, another volume's path; relative paths are unknown, not malformed."""
    volume_id, other = bench.new_volume(), bench.new_volume()
    bench.stage(volume_id)
    bench.stage(other)
    target = bench.publish(volume_id)
    for asked, path in [
        (volume_id, Path("some/path")),
        ("fake-vol-id", Path("some/path")),
        ("fake-vol-id", target),
        (other, target),
        (volume_id, Path("/")),
        (volume_id, target / "below"),
    ]:
        assert bench.code(bench.node.NodeGetVolumeStats, stats_request(asked, path)) is Code.NOT_FOUND
        assert bench.code(bench.node.NodeExpandVolume, grow_request(asked, path)) is Code.NOT_FOUND


@pytest.mark.attacher("fuse")
@pytest.mark.parametrize("wanted", [capability(), capability(fs_type="xfs"), BLOCK])
def test_stats_answer_while_the_device_hangs(bench: Bench, wanted: pb.VolumeCapability) -> None:
    """The storage daemon is stopped and data waits to be written; the answer comes within seconds."""
    volume_id = bench.new_volume()
    bench.stage(volume_id, wanted)
    target = bench.publish(volume_id, wanted)
    (daemon,) = bench.daemons()
    if not wanted.HasField("block"):
        (target / "file").write_bytes(b"x" * MIB)  # not now: it would hang
    with stopped(daemon):
        began = time.monotonic()
        assert bench.code(bench.node.NodeGetVolumeStats, stats_request(volume_id, target)) in (
            Code.OK,
            Code.UNAVAILABLE,
        )
        assert time.monotonic() - began < 8


@pytest.mark.attacher("fuse")
def test_a_look_that_hangs_is_given_up_and_is_not_started_twice(bench: Bench) -> None:
    """statvfs on a FUSE file whose daemon is stopped does hang: the first caller and the next get their answer in time."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    (daemon,) = bench.daemons()
    (file,) = Path(bench.setting.run_directory).glob("*/disk")
    looks = 0

    def look() -> os.statvfs_result:
        nonlocal looks
        looks += 1
        return os.statvfs(file)

    with stopped(daemon):
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(DeviceTrouble, match="hangs"):
                bounded("a look that hangs", look, 0.3)
            assert time.monotonic() - began < 2
        assert looks == 1
    deadline = time.monotonic() + 10
    while bounded("a look that hangs", lambda: looks, 5) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert LocalFilesystems().usage(file).total_bytes >= 0


@pytest.mark.attacher("fuse")
def test_other_calls_on_a_hung_device_end_in_time_and_succeed_later(bench: Bench) -> None:
    """A repeated stage asks the daemon whether it lives; stopped, it is neither trusted nor replaced. Meanwhile: ABORTED."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    (daemon,) = bench.daemons()
    with stopped(daemon):
        began = time.monotonic()
        first = bench.node.NodeStageVolume.future(bench.stage_request(volume_id))
        time.sleep(0.5)
        assert bench.code(bench.node.NodeUnstageVolume, bench.unstage_request(volume_id)) is Code.ABORTED
        assert first.code() is Code.UNAVAILABLE
        assert time.monotonic() - began < 15
    bench.stage(volume_id)
    assert bench.daemons() == [daemon]


def test_an_xfs_grows_while_it_is_published(bench: Bench) -> None:
    """No staging path, no capability, no secrets: the target leads to all of it. Repeated, it changes nothing."""
    volume_id, wanted = bench.new_volume(), capability(fs_type="xfs")
    bench.stage(volume_id, wanted)
    target = bench.publish(volume_id, wanted)
    before = total(bench, volume_id, target)
    bench.resize(volume_id, 512)
    for _ in range(2):
        answer = bench.node.NodeExpandVolume(grow_request(volume_id, target, required=512 * MIB))
        assert answer.capacity_bytes == 512 * MIB
    assert total(bench, volume_id, target) >= before + 150 * MIB
    (target / "file").write_bytes(b"x" * (4 * MIB))


def test_a_block_volume_grows_while_it_is_published(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, BLOCK)
    target = bench.publish(volume_id, BLOCK)
    with target.open("r+b", buffering=0) as opened:
        bench.resize(volume_id, 512)
        bench.node.NodeExpandVolume(grow_request(volume_id, bench.staging(volume_id), limit=600 * MIB))
        assert opened.seek(0, os.SEEK_END) == 512 * MIB
    assert total(bench, volume_id, target) == 512 * MIB


def may_grow_mounted_ext4() -> bool:
    """Whether this process has CAP_SYS_RESOURCE, bit 24 of its effective set."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:")]
    return bool(int(line.split()[1], 16) >> 24 & 1)


def test_a_mounted_ext4_grows_or_the_missing_capability_is_named(bench: Bench) -> None:
    """Which of both depends on the machine; the device has grown in either case, and a new stage grows the rest."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    target = bench.publish(volume_id)
    before = total(bench, volume_id, target)
    bench.node.NodeExpandVolume(grow_request(volume_id, target))
    bench.resize(volume_id, 512)
    request = grow_request(volume_id, target, required=512 * MIB)
    if may_grow_mounted_ext4():
        assert bench.node.NodeExpandVolume(request).capacity_bytes == 512 * MIB
    else:
        assert "CAP_SYS_RESOURCE" in bench.message(bench.node.NodeExpandVolume, request)
        assert bench.code(bench.node.NodeExpandVolume, request) is Code.FAILED_PRECONDITION
        bench.unpublish(volume_id)
        bench.unstage(volume_id)
        bench.stage(volume_id)
        bench.publish(volume_id)
        assert bench.node.NodeExpandVolume(request).capacity_bytes == 512 * MIB
    assert total(bench, volume_id, target) > before + 150 * MIB


@pytest.mark.parametrize(
    ("required", "limit", "code"),
    [
        (0, 0, Code.OK),
        (SIZE_MIB * MIB, SIZE_MIB * MIB, Code.OK),
        (1, 0, Code.OK),
        (SIZE_MIB * MIB + 1, 0, Code.OUT_OF_RANGE),
        (0, SIZE_MIB * MIB - 1, Code.OUT_OF_RANGE),
        (-1, 0, Code.INVALID_ARGUMENT),
    ],
)
def test_the_range_is_held_against_the_size_of_the_image(bench: Bench, required: int, limit: int, code: Code) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, BLOCK)
    request = grow_request(volume_id, bench.staging(volume_id), required=required, limit=limit)
    assert bench.code(bench.node.NodeExpandVolume, request) is code


def test_a_capability_of_the_other_kind_does_not_grow(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    request = grow_request(volume_id, bench.staging(volume_id))
    request.volume_capability.CopyFrom(BLOCK)
    assert bench.code(bench.node.NodeExpandVolume, request) is Code.INVALID_ARGUMENT
    request.volume_capability.CopyFrom(capability())
    bench.node.NodeExpandVolume(request)


def test_growth_never_shrinks_an_image(bench: Bench) -> None:
    """The daemon resizes the image it is told about: it must not be told an old size."""
    volume_id = bench.new_volume()
    bench.stage(volume_id, BLOCK)
    bench.resize(volume_id, 512)
    bench.node.NodeExpandVolume(grow_request(volume_id, bench.staging(volume_id)))
    bench.resize(volume_id, 640)
    bench.restart()
    answer = bench.node.NodeExpandVolume(grow_request(volume_id, bench.staging(volume_id)))
    assert answer.capacity_bytes == 640 * MIB
    assert '"size":671088640' in bench.ceph.rbd("info", "--format", "json", bench.image(volume_id))


def test_the_node_says_who_it_is_and_what_it_can(bench: Bench) -> None:
    info = bench.node.NodeGetInfo(pb.NodeGetInfoRequest())
    assert (info.node_id, info.max_volumes_per_node) == ("node-1", 3)
    assert dict(info.accessible_topology.segments) == {"zone": "a"}
    capabilities = bench.node.NodeGetCapabilities(pb.NodeGetCapabilitiesRequest()).capabilities
    kind = pb.NodeServiceCapability.RPC.Type
    assert {kind.Name(one.rpc.type) for one in capabilities} == {
        "STAGE_UNSTAGE_VOLUME",
        "GET_VOLUME_STATS",
        "EXPAND_VOLUME",
        "SINGLE_NODE_MULTI_WRITER",
        "GET_VOLUME_HEALTH",
        "GET_STORAGE_HEALTH",
    }
