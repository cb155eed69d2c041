"""What a killed process, daemon or machine leaves, and that the next call finishes it or clears it away."""

import os

import pytest

from csi_driver.host import commands
from csi_driver.host.api import Device
from tests.fixtures.attacher import rows
from tests.node.bench import BLOCK, KINDS, MIB, Bench, Code, capability

ATTACH_POINTS = [
    "fuse.prepare:after",
    "fuse.daemon:after",
    "fuse.open:after",
    "fuse.loop:after",
    "krbd.map:before",
    "krbd.map:after",
    "nbd.map:before",
    "nbd.map:after",
]
STAGE_ROWS = rows(
    ("node.record:before", "ext4"),
    ("node.record:after", "ext4"),
    *((point, "ext4") for point in ATTACH_POINTS),
    ("node.record_device:after", "ext4"),
    ("node.format:before", "ext4"),
    ("node.format:after", "ext4"),
    ("node.mount:before", "ext4"),
    ("node.mount:after", "ext4"),
    ("fuse.open:after", "block"),
    ("krbd.map:after", "block"),
    ("nbd.map:after", "block"),
    ("node.bind:before", "block"),
    ("node.bind:after", "block"),
    ("node.format:after", "xfs"),
    ("node.mount:after", "xfs"),
)
STAGED_HALF_WAY = (
    "node.record:after",
    "fuse.prepare:after",
    "fuse.daemon:after",
    "fuse.loop:after",
    "krbd.map:before",
    "krbd.map:after",
    "nbd.map:before",
    "nbd.map:after",
)
UNSTAGE_POINTS = (
    "node.unmount:before",
    "node.unmount:after",
    "fuse.unloop:after",
    "fuse.stop:after",
    "krbd.unmap:before",
    "krbd.unmap:after",
    "nbd.unmap:before",
    "nbd.unmap:after",
    "node.forget:before",
)


@pytest.mark.parametrize(("failpoint", "kind"), STAGE_ROWS)
def test_a_stage_killed_at_any_step_is_finished_by_the_next(bench: Bench, failpoint: str, kind: str) -> None:
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    bench.killed_call(bench.stage_request(volume_id, wanted), failpoint)
    bench.stage(volume_id, wanted)
    assert bench.is_whole(1)
    target = bench.publish(volume_id, wanted)
    assert target.is_block_device() if kind == "block" else target.is_mount()


@pytest.mark.parametrize("failpoint", rows(*((point,) for point in STAGED_HALF_WAY)))
def test_a_stage_killed_half_way_is_undone_by_unstage(bench: Bench, failpoint: str) -> None:
    volume_id = bench.new_volume()
    bench.killed_call(bench.stage_request(volume_id), failpoint)
    bench.unstage(volume_id)
    assert bench.leftovers() == []


@pytest.mark.parametrize(
    "failpoint",
    rows(("fuse.open:after",), ("fuse.loop:after",), ("krbd.map:after",), ("nbd.map:after",), ("node.mount:before",)),
)
def test_a_stage_killed_half_way_gives_way_to_one_with_other_arguments(bench: Bench, failpoint: str) -> None:
    """Nothing was handed out yet, so nobody can mind."""
    volume_id = bench.new_volume()
    bench.killed_call(bench.stage_request(volume_id), failpoint)
    wanted = BLOCK if failpoint != "fuse.loop:after" else capability("SINGLE_NODE_MULTI_WRITER")
    bench.stage(volume_id, wanted)
    assert bench.is_whole(1)


@pytest.mark.parametrize(
    ("failpoint", "kind", "readonly"),
    [
        ("node.record_publication:after", "ext4", False),
        ("node.publish:before", "ext4", False),
        ("node.publish:after", "ext4", False),
        ("mounts.read_only:before", "ext4", True),
        ("mounts.read_only:after", "xfs", True),
        ("node.publish:before", "block", False),
        ("node.publish:after", "block", False),
    ],
)
def test_a_publish_killed_at_any_step_is_finished_by_the_next(
    bench: Bench, failpoint: str, kind: str, readonly: bool
) -> None:
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    bench.stage(volume_id, wanted)
    bench.killed_call(bench.publish_request(volume_id, wanted, readonly=readonly), failpoint)
    target = bench.publish(volume_id, wanted, readonly=readonly)
    assert bench.is_whole(2)
    if kind != "block":
        assert bool(os.statvfs(target).f_flag & os.ST_RDONLY) is readonly


@pytest.mark.parametrize(
    "failpoint", ["node.record_publication:after", "node.publish:before", "mounts.read_only:before"]
)
def test_a_publish_killed_half_way_is_undone_by_unpublish(bench: Bench, failpoint: str) -> None:
    """And its entry keeps nobody else away."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    bench.killed_call(bench.publish_request(volume_id, readonly=True), failpoint)
    bench.unpublish(volume_id)
    assert not bench.target().exists()
    bench.publish(volume_id, name="pod-2")


@pytest.mark.parametrize("failpoint", ["node.unpublish:before", "node.unpublish:after"])
def test_an_unpublish_killed_at_any_step_is_finished_by_the_next(bench: Bench, failpoint: str) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    bench.publish(volume_id)
    bench.killed_call(bench.unpublish_request(volume_id), failpoint)
    bench.unpublish(volume_id)
    assert bench.is_whole(1)
    bench.publish(volume_id, name="pod-2")


@pytest.mark.parametrize("failpoint", rows(*((point,) for point in UNSTAGE_POINTS)))
@pytest.mark.parametrize("goes_on", ["unstage", "stage"])
def test_an_unstage_killed_at_any_step_is_finished_or_staged_anew(bench: Bench, failpoint: str, goes_on: str) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    (bench.staging(volume_id) / volume_id / "file").write_text("kept")
    bench.killed_call(bench.unstage_request(volume_id), failpoint)
    if goes_on == "stage":
        bench.stage(volume_id)
        assert bench.is_whole(1)
        assert (bench.staging(volume_id) / volume_id / "file").read_text() == "kept"
    else:
        bench.unstage(volume_id)
        assert bench.leftovers() == []


def test_a_format_cut_short_is_begun_anew_by_the_next_stage_of_this_boot(bench: Bench) -> None:
    """mke2fs killed half way leaves data without a signature; the record says that it is ours."""
    volume_id = bench.new_volume()
    bench.killed_call(bench.stage_request(volume_id), "node.format:before")
    bench.setting.attacher().detach(bench.attachment(volume_id), ())
    bench.write(volume_id, MIB, b"half of a file system")
    bench.stage(volume_id)
    assert (bench.staging(volume_id) / volume_id).is_mount()


def test_a_format_cut_short_in_another_boot_proves_nothing(bench: Bench) -> None:
    """Meanwhile the volume may have been used elsewhere."""
    volume_id = bench.new_volume()
    bench.killed_call(bench.stage_request(volume_id), "node.format:before")
    bench.setting.attacher().detach(bench.attachment(volume_id), ())
    bench.write(volume_id, MIB, b"somebody's data")
    bench.restart(boot_id="the next boot")
    assert bench.code(bench.node.NodeStageVolume, bench.stage_request(volume_id)) is Code.FAILED_PRECONDITION
    assert bench.read(volume_id, MIB, 15) == b"somebody's data"


def test_an_xfs_whose_mkfs_was_cut_short_is_made_anew(bench: Bench) -> None:
    """Its superblock says so, on whichever node and in whichever boot; the kernel never mounted it."""
    volume_id = bench.new_volume()

    def cut_short(device: Device) -> None:
        commands.run(["mkfs.xfs", "-q", "-K", str(device.path)], timeout_s=20)
        with device.path.open("r+b", buffering=0) as opened:
            sector = bytearray(opened.read(512))
            sector[126] = 1  # sb_inprogress
            opened.seek(0)
            opened.write(sector)
            os.fsync(opened.fileno())

    bench.on_device(volume_id, cut_short)
    bench.stage(volume_id, capability(fs_type="xfs"))
