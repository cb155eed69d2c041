"""Encrypted volumes on a kernel with dm-crypt: no plain text in the image, growth, wrong passphrases, crashes of a stage."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from csi_driver.pb import csi_pb2 as pb
from tests.fixtures.attacher import rows
from tests.node.bench import KINDS, MIB, SIZE_MIB, Bench, Code

pytestmark = pytest.mark.attacher("krbd", "nbd")
PATTERN = b"this is not to be read by anybody else. "


def stage_request(bench: Bench, volume_id: str, wanted: Any = None, phrase: str = "correct horse") -> Any:
    request = bench.stage_request(volume_id, wanted, encrypted="true")
    request.secrets["encryptionPassphrase"] = phrase
    return request


def stage(bench: Bench, volume_id: str, wanted: Any = None) -> None:
    """Repeated while it goes on: without KVM and beside other work, cryptsetup's key derivation takes its time."""
    bench.until_ok(bench.node.NodeStageVolume, stage_request(bench, volume_id, wanted))


@pytest.mark.smoke
def test_an_encrypted_volume_keeps_its_data_and_shows_none_of_it(bench: Bench) -> None:
    """Staged, written, grown while mounted, unstaged, staged again; with a wrong passphrase it is left as it is."""
    volume_id = bench.new_volume()
    stage(bench, volume_id)
    record = json.loads((bench.staging(volume_id) / "image-meta.json").read_text())
    raw = "/dev/nbd" if bench.setting.attacher_name == "nbd" else "/dev/rbd"
    assert (record["encrypted"], record["device"][:8]) == (True, raw)
    target = bench.publish(volume_id)
    (target / "secret").write_bytes(PATTERN * 20000)
    bench.resize(volume_id, 2 * SIZE_MIB)
    grow = pb.NodeExpandVolumeRequest(volume_id=volume_id, volume_path=str(target))
    grow.capacity_range.required_bytes = 2 * SIZE_MIB * MIB
    assert bench.node.NodeExpandVolume(grow).capacity_bytes == 2 * SIZE_MIB * MIB
    stats = pb.NodeGetVolumeStatsRequest(volume_id=volume_id, volume_path=str(target))
    assert bench.node.NodeGetVolumeStats(stats).usage[0].total > 1.7 * SIZE_MIB * MIB
    bench.unpublish(volume_id)
    bench.unstage(volume_id)
    assert bench.leftovers() == []
    exported = bench.directory / "exported"
    bench.ceph.rbd("export", "--no-progress", bench.image(volume_id), str(exported))
    assert PATTERN not in exported.read_bytes()
    wrong = stage_request(bench, volume_id, phrase="battery staple")
    assert bench.settled_code(bench.node.NodeStageVolume, wrong) is Code.UNAUTHENTICATED
    assert bench.leftovers() == []
    stage(bench, volume_id)
    assert (bench.staging(volume_id) / volume_id / "secret").read_bytes() == PATTERN * 20000


def test_an_encrypted_volume_is_asked_for_its_passphrase_and_is_not_staged_as_plain(bench: Bench) -> None:
    volume_id = bench.new_volume()
    without = bench.stage_request(volume_id, encrypted="true")
    assert bench.code(bench.node.NodeStageVolume, without) is Code.INVALID_ARGUMENT
    stage(bench, volume_id)
    bench.unstage(volume_id)
    assert bench.code(bench.node.NodeStageVolume, bench.stage_request(volume_id)) is Code.FAILED_PRECONDITION
    assert bench.leftovers() == []


def test_cipher_and_sector_size_are_those_of_the_class(bench: Bench) -> None:
    volume_id = bench.new_volume()
    request = stage_request(bench, volume_id)
    request.volume_context.update(encryptionCipher="aes-cbc-essiv:sha256", encryptionSectorSize="4096")
    bench.until_ok(bench.node.NodeStageVolume, request)
    device = bench.device_of(volume_id)
    dump = subprocess.run(["cryptsetup", "luksDump", str(device)], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"cipher: (\S+)", dump) == ["aes-cbc-essiv:sha256"]
    assert re.findall(r"sector: (\d+)", dump) == ["4096"]
    assert [int(kib) for kib in re.findall(r"Memory: +(\d+)", dump)] == [32768]


def test_a_volume_that_holds_data_is_not_encrypted_over(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    (bench.staging(volume_id) / volume_id / "file").write_text("kept")
    bench.unstage(volume_id)
    assert bench.code(bench.node.NodeStageVolume, stage_request(bench, volume_id)) is Code.FAILED_PRECONDITION
    bench.stage(volume_id)
    assert (bench.staging(volume_id) / volume_id / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("failpoint", "kind"),
    rows(
        ("node.record:after", "ext4"),
        ("krbd.map:before", "ext4"),
        ("krbd.map:after", "ext4"),
        ("nbd.map:before", "ext4"),
        ("nbd.map:after", "ext4"),
        ("luks.format:before", "ext4"),
        ("luks.format:after", "ext4"),
        ("luks.open:before", "ext4"),
        ("luks.open:after", "ext4"),
        ("node.record_device:after", "ext4"),
        ("node.format:before", "ext4"),
        ("node.format:after", "ext4"),
        ("node.mount:before", "ext4"),
        ("node.mount:after", "ext4"),
        ("node.note_use:before", "ext4"),
        ("node.note_use:after", "ext4"),
        ("luks.open:after", "block"),
        ("node.bind:after", "block"),
    ),
)
def test_a_stage_killed_at_any_step_of_its_encryption_is_finished_by_the_next(
    bench: Bench, failpoint: str, kind: str
) -> None:
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    bench.killed_call(stage_request(bench, volume_id, wanted), failpoint)
    stage(bench, volume_id, wanted)
    assert len(bench.traces.attached()) == bench.traces.per_image() + 1  # and the mapper on it
    assert len(bench.mounts()) == 1
    assert Path(f"{bench.setting.run_directory}-uses", volume_id).exists()  # from here on nothing is formatted over


@pytest.mark.parametrize(
    "failpoint", rows(("krbd.map:after",), ("nbd.map:after",), ("luks.format:after",), ("luks.open:after",))
)
def test_a_stage_killed_half_way_in_its_encryption_is_undone_by_unstage(bench: Bench, failpoint: str) -> None:
    volume_id = bench.new_volume()
    bench.killed_call(stage_request(bench, volume_id), failpoint)
    bench.unstage(volume_id)
    assert bench.leftovers() == []


UNSTAGE_POINTS = rows(
    ("node.unmount:before",),
    ("node.unmount:after",),
    ("luks.close:before",),
    ("luks.close:after",),
    ("krbd.unmap:before",),
    ("krbd.unmap:after",),
    ("nbd.unmap:before",),
    ("nbd.unmap:after",),
    ("node.forget:before",),
)


@pytest.mark.parametrize("failpoint", UNSTAGE_POINTS)
def test_an_unstage_killed_at_any_step_of_its_encryption_is_finished_by_the_next(bench: Bench, failpoint: str) -> None:
    volume_id = bench.new_volume()
    stage(bench, volume_id)
    bench.killed_call(bench.unstage_request(volume_id), failpoint)
    bench.unstage(volume_id)
    assert bench.leftovers() == []


@pytest.mark.parametrize("failpoint", rows(("luks.close:after",), ("krbd.unmap:after",), ("nbd.unmap:after",)))
def test_an_unstage_killed_in_its_encryption_gives_way_to_a_stage(bench: Bench, failpoint: str) -> None:
    """With what was written before."""
    volume_id = bench.new_volume()
    stage(bench, volume_id)
    (bench.staging(volume_id) / volume_id / "file").write_text("kept")
    bench.killed_call(bench.unstage_request(volume_id), failpoint)
    stage(bench, volume_id)
    assert len(bench.traces.attached()) == bench.traces.per_image() + 1
    assert (bench.staging(volume_id) / volume_id / "file").read_text() == "kept"
