"""File systems of staged volumes: formatted only where nothing is, checked, repaired or refused, grown with the image."""

import os
from pathlib import Path
from typing import Any

import pytest

from csi_driver.host import commands
from csi_driver.host.api import Device
from tests.node.bench import MIB, Bench, Code, capability


def tags_of(bench: Bench, volume_id: str) -> dict[str, str]:
    """What blkid says of a staged volume's device."""
    argv = ["blkid", "-p", "-o", "export", str(bench.device_of(volume_id))]
    lines = commands.run(argv, timeout_s=20).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_a_file_system_is_ext4_when_nobody_says_otherwise(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, capability(fs_type=""))
    assert tags_of(bench, volume_id)["TYPE"] == "ext4"


def test_mkfs_options_replace_the_defaults(bench: Bench) -> None:
    volume_id, plain = bench.new_volume(), bench.new_volume()
    bench.stage(volume_id, mkfsOptions="-L 'my label' -b 4096")
    bench.stage(plain, capability(fs_type="xfs"), mkfsOptions="-K -L other")
    tags = tags_of(bench, volume_id)
    assert (tags["LABEL"].replace("\\", ""), tags["BLOCK_SIZE"]) == ("my label", "4096")
    assert tags_of(bench, plain)["LABEL"] == "other"


def test_mkfs_options_that_mkfs_refuses_are_the_callers_fault_and_leave_nothing(bench: Bench) -> None:
    volume_id = bench.new_volume()
    request = bench.stage_request(volume_id, mkfsOptions="--no-such-option")
    assert bench.code(bench.node.NodeStageVolume, request) is Code.INVALID_ARGUMENT
    assert bench.leftovers() == []
    bench.stage(volume_id)


def test_the_class_names_the_file_system_where_the_capability_leaves_it_open(bench: Bench) -> None:
    volume_id = bench.new_volume()
    context = {"csi.storage.k8s.io/fstype": "xfs", "csi.storage.k8s.io/pod.name": "a", "keyOfAnOldDriver": "b"}
    bench.stage(volume_id, capability(fs_type=""), **context)
    assert tags_of(bench, volume_id)["TYPE"] == "xfs"


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_a_reader_gets_a_device_that_cannot_be_written(bench: Bench, fs_type: str) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, capability(fs_type=fs_type))
    (bench.staging(volume_id) / volume_id / "data").write_text("there")
    bench.unstage(volume_id)
    reader = capability("MULTI_NODE_READER_ONLY", fs_type=fs_type)
    bench.stage(volume_id, reader)
    path = bench.staging(volume_id) / volume_id / "data"
    assert path.read_text() == "there"
    with pytest.raises(OSError, match="Read-only file system"):
        path.write_text("changed")
    device = bench.setting.attacher().find(bench.attachment(volume_id, read_only=True))
    assert device
    assert Path(f"/sys/block/{device.path.name}/ro").read_text().strip() == "1"


def test_a_reader_of_a_volume_without_file_system_is_refused(bench: Bench) -> None:
    volume_id = bench.new_volume()
    request = bench.stage_request(volume_id, capability("SINGLE_NODE_READER_ONLY"))
    assert bench.code(bench.node.NodeStageVolume, request) is Code.FAILED_PRECONDITION
    assert bench.leftovers() == []


def make_partition_table(device: Device) -> None:
    """A protective MBR as blkid knows it: one entry, and the mark at the end of the sector."""
    sector = bytearray(512)
    sector[446:462] = bytes([0, 0, 2, 0, 0x83, 0xFF, 0xFF, 0xFF, 0, 8, 0, 0, 0, 0, 1, 0])
    sector[510:512] = b"\x55\xaa"
    with device.path.open("r+b", buffering=0) as opened:
        opened.write(sector)
        os.fsync(opened.fileno())


def make_swap(device: Device) -> None:
    commands.run(["mkswap", str(device.path)], timeout_s=20)


def make_xfs(device: Device) -> None:
    commands.run(["mkfs.xfs", "-q", "-K", str(device.path)], timeout_s=20)


def make_late_data(device: Device) -> None:
    with device.path.open("r+b", buffering=0) as opened:
        opened.seek(3 * MIB)
        opened.write(b"data that no tool knows")
        os.fsync(opened.fileno())


@pytest.mark.parametrize("make", [make_partition_table, make_swap, make_xfs, make_late_data])
def test_a_device_that_holds_anything_is_never_formatted(bench: Bench, make: Any) -> None:
    volume_id = bench.new_volume()
    bench.on_device(volume_id, make)
    before = bench.read(volume_id, 0, 4 * MIB)
    assert any(before)
    assert bench.code(bench.node.NodeStageVolume, bench.stage_request(volume_id)) is Code.FAILED_PRECONDITION
    assert bench.leftovers() == []
    assert bench.read(volume_id, 0, 4 * MIB) == before


@pytest.mark.parametrize("state", ["1", "2"])
def test_an_ext4_that_cannot_be_repaired_safely_is_refused_and_left_alone(bench: Bench, state: str) -> None:
    """e2fsck -p gives up on a root directory that is gone, or does not look (state 1: clean) and the mount fails."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    bench.unstage(volume_id)

    def destroy_root(device: Device) -> None:
        commands.run(["debugfs", "-w", "-R", "clri <2>", str(device.path)], timeout_s=20)
        commands.run(["debugfs", "-w", "-R", f"ssv state {state}", str(device.path)], timeout_s=20)

    bench.on_device(volume_id, destroy_root)
    refused = bench.message(bench.node.NodeStageVolume, bench.stage_request(volume_id))
    assert "e2fsck" in refused
    assert bench.code(bench.node.NodeStageVolume, bench.stage_request(volume_id)) is Code.FAILED_PRECONDITION
    assert bench.leftovers() == []


def test_an_ext4_with_a_small_fault_is_repaired_before_it_is_mounted(bench: Bench) -> None:
    """A wrong count of free blocks is what e2fsck -p mends."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    bench.unstage(volume_id)

    def miscount(device: Device) -> None:
        commands.run(["debugfs", "-w", "-R", "ssv free_blocks_count 17", str(device.path)], timeout_s=20)
        commands.run(["debugfs", "-w", "-R", "ssv state 2", str(device.path)], timeout_s=20)

    bench.on_device(volume_id, miscount)
    bench.stage(volume_id)
    free = os.statvfs(bench.staging(volume_id) / volume_id).f_bfree
    assert free > 1000


def test_a_damaged_xfs_is_refused_with_what_xfs_repair_finds(bench: Bench) -> None:
    volume_id = bench.new_volume()
    wanted = capability(fs_type="xfs")
    bench.stage(volume_id, wanted)
    bench.unstage(volume_id)
    bench.write(volume_id, 512, b"\xff" * 1536)  # the headers of the first allocation group
    request = bench.stage_request(volume_id, wanted)
    assert "xfs_repair" in bench.message(bench.node.NodeStageVolume, request)
    assert bench.code(bench.node.NodeStageVolume, request) is Code.FAILED_PRECONDITION
    assert bench.leftovers() == []


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_a_file_system_grows_when_it_is_staged_on_a_larger_image(bench: Bench, fs_type: str) -> None:
    volume_id, wanted = bench.new_volume(), capability(fs_type=fs_type)
    bench.stage(volume_id, wanted)
    staged = bench.staging(volume_id) / volume_id
    (staged / "data").write_text("kept")
    before = os.statvfs(staged)
    bench.unstage(volume_id)
    bench.resize(volume_id, 512)
    bench.stage(volume_id, wanted)
    after = os.statvfs(staged)
    assert after.f_blocks * after.f_frsize > before.f_blocks * before.f_frsize + 150 * MIB
    assert (staged / "data").read_text() == "kept"
