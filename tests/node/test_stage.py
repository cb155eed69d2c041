"""NodeStageVolume and NodeUnstageVolume on real images, devices and file systems."""

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from csi_driver.host import commands
from tests.node.bench import BLOCK, KINDS, Bench, Code, capability


@pytest.mark.smoke
@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_keeps_its_data_over_unstage_and_stage(bench: Bench, kind: str) -> None:
    """A life of each kind; every call twice, as the orchestrator may repeat it."""
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    for turn in range(2):
        for _ in range(2):
            bench.stage(volume_id, wanted)
        for _ in range(2):
            target = bench.publish(volume_id, wanted)
        path = target if kind == "block" else target / "data"
        if turn == 0:
            with path.open("r+b" if kind == "block" else "wb") as opened:
                opened.write(b"kept")
                os.fsync(opened.fileno())
        with path.open("rb") as opened:
            assert opened.read(4) == b"kept"
        assert bench.is_whole(2)
        for _ in range(2):
            bench.unpublish(volume_id)
        assert not target.exists()
        for _ in range(2):
            bench.unstage(volume_id)
        assert not list(bench.staging(volume_id).iterdir())


def test_staging_path_and_record_have_the_layout_of_the_go_driver(bench: Bench) -> None:
    """So that no staged volume has to be migrated when one driver follows the other."""
    volume_id = bench.new_volume()
    bench.stage(volume_id, unmapOptions="krbd:force")
    assert (bench.staging(volume_id) / volume_id).is_mount()
    record = json.loads((bench.staging(volume_id) / "image-meta.json").read_text())
    own = record.pop("rbdCsi")
    assert record == {
        "Version": 3,
        "pool": "rbd",
        "radosNamespace": "",
        "image": volume_id,
        "unmapOptions": "krbd:force",
        "accessType": bench.setting.attacher_name == "nbd",
        "encrypted": False,
        "device": str(bench.device_of(volume_id)),
        "logDir": "",
        "logFileStrategy": "",
    }
    assert own["attacher"] == bench.setting.attacher_name
    assert own["volume"] == volume_id


def test_a_block_volume_is_a_file_at_the_staging_path_with_the_device_on_it(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, BLOCK)
    staged = bench.staging(volume_id) / volume_id
    assert staged.is_block_device()
    assert staged.stat().st_rdev == bench.device_of(volume_id).stat().st_rdev


@pytest.mark.parametrize(
    "other",
    [
        capability(fs_type="xfs"),
        capability("SINGLE_NODE_MULTI_WRITER"),
        capability("SINGLE_NODE_READER_ONLY"),
        capability(flags=["noatime"]),
        BLOCK,
    ],
)
def test_a_stage_with_another_capability_is_refused_and_changes_nothing(bench: Bench, other: Any) -> None:
    """CSI, NodeStageVolume: ALREADY_EXISTS."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    assert bench.code(bench.node.NodeStageVolume, bench.stage_request(volume_id, other)) is Code.ALREADY_EXISTS
    bench.stage(volume_id)
    (bench.staging(volume_id) / volume_id / "file").write_text("still mounted")


@pytest.mark.parametrize("fs_type", ["ext4", "xfs"])
def test_mount_flags_are_used(bench: Bench, fs_type: str) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, capability(fs_type=fs_type, flags=["noatime", "nodev"]))
    argv = ["findmnt", "-n", "-o", "OPTIONS", str(bench.staging(volume_id) / volume_id)]
    options = commands.run(argv, timeout_s=10).stdout.strip().split(",")
    assert {"noatime", "nodev"} <= set(options)
    assert ("nouuid" in options) is (fs_type == "xfs")


def test_an_selinux_context_reaches_the_mount_as_the_kubelet_wrote_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its quotes, and the comma between, too. Where SELinux is off mount(8) drops the option, so its argument is read."""
    flag = 'context="system_u:object_r:container_file_t:s0:c1,c2"'
    real, seen = shutil.which("mount"), tmp_path / "seen"
    recording = tmp_path / "mount"
    recording.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {seen}\nexec {real} "$@"\n')
    recording.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    volume_id = bench.new_volume()
    bench.stage(volume_id, capability(flags=["noatime", flag]))
    assert (bench.staging(volume_id) / volume_id).is_mount()
    (options,) = [line for line in seen.read_text().splitlines() if "noatime" in line]
    assert flag in options


@pytest.mark.attacher("fuse")
@pytest.mark.parametrize(
    ("context", "code"),
    [
        ({"mounter": "krbd"}, Code.FAILED_PRECONDITION),
        ({"mounter": "rbd"}, Code.FAILED_PRECONDITION),
        ({"mounter": "rbd-nbd"}, Code.FAILED_PRECONDITION),
        ({"mounter": "rbd-nbd", "tryOtherMounters": "true"}, Code.OK),
        ({"mounter": "fuse", "mapOptions": "krbd:noshare;fuse:rbd_cache=false"}, Code.OK),
        ({"mounter": "scsi"}, Code.INVALID_ARGUMENT),
        ({"mapOptions": "fuse:keyring=/etc/ceph/keyring"}, Code.INVALID_ARGUMENT),
        ({"mkfsOptions": "'unclosed"}, Code.INVALID_ARGUMENT),
        ({"csi.storage.k8s.io/fstype": "btrfs"}, Code.INVALID_ARGUMENT),
    ],
)
def test_parameters_of_the_stage_are_honoured_or_refused(bench: Bench, context: dict[str, str], code: Code) -> None:
    volume_id = bench.new_volume()
    assert bench.code(bench.node.NodeStageVolume, bench.stage_request(volume_id, **context)) is code
    if code is not Code.OK:
        assert bench.leftovers() == []


def test_a_volume_that_does_not_exist_is_not_found(bench: Bench) -> None:
    """By its id, and by an image that is gone from under its id."""
    for volume_id in ("fake-vol-id", "vol-without-image", "a/b", ".."):
        request = bench.stage_request("vol-x")
        request.volume_id = volume_id
        assert bench.code(bench.node.NodeStageVolume, request) is Code.NOT_FOUND
    assert list(bench.staging("vol-x").iterdir()) == []


def test_a_wrong_key_is_unauthenticated_and_the_key_is_not_in_the_answer(bench: Bench) -> None:
    request = bench.stage_request(bench.new_volume())
    wrong = "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA=="
    request.secrets["userKey"] = wrong
    assert wrong not in bench.message(bench.node.NodeStageVolume, request)
    assert bench.code(bench.node.NodeStageVolume, request) is Code.UNAUTHENTICATED
    assert bench.leftovers() == []


def test_unstage_of_what_was_never_staged_is_ok(bench: Bench) -> None:
    for volume_id in ("fake-vol-id", bench.new_volume()):
        bench.staging(volume_id).mkdir(parents=True)
        bench.unstage(volume_id)


def test_unstage_of_a_published_volume_is_refused_and_changes_nothing(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    target = bench.publish(volume_id)
    assert bench.code(bench.node.NodeUnstageVolume, bench.unstage_request(volume_id)) is Code.FAILED_PRECONDITION
    (target / "file").write_text("still writable")


def test_unstage_waits_for_who_uses_the_volume_and_can_be_repeated(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    with (bench.staging(volume_id) / volume_id / "file").open("w") as opened:
        assert bench.code(bench.node.NodeUnstageVolume, bench.unstage_request(volume_id)) is Code.UNAVAILABLE
        opened.write("still writable")
    bench.unstage(volume_id)


def test_a_second_staging_path_is_refused_and_the_first_is_named(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    request = bench.stage_request(volume_id)
    second = bench.directory / "another staging path"
    request.staging_target_path = str(second)
    assert str(bench.staging(volume_id)) in bench.message(bench.node.NodeStageVolume, request)
    assert bench.code(bench.node.NodeStageVolume, request) is Code.FAILED_PRECONDITION
    assert not second.exists()
    (bench.staging(volume_id) / volume_id / "file").write_text("still mounted")


@pytest.mark.parametrize("link", ["staging", "volume"])
def test_a_symbolic_link_in_the_staging_path_is_refused(bench: Bench, link: str) -> None:
    volume_id = bench.new_volume()
    request = bench.stage_request(volume_id)
    elsewhere = bench.directory / "elsewhere"
    elsewhere.mkdir()
    place = bench.staging(volume_id) if link == "staging" else bench.staging(volume_id) / volume_id
    if link == "staging":
        place.rmdir()
    place.symlink_to(elsewhere)
    try:
        assert bench.code(bench.node.NodeStageVolume, request) is Code.FAILED_PRECONDITION
        assert list(elsewhere.iterdir()) == []
    finally:
        place.unlink()
    assert bench.traces.attached() == []


@pytest.mark.parametrize("below", [False, True])
def test_a_staging_path_that_is_a_file_is_refused_and_nothing_is_attached(bench: Bench, below: bool) -> None:
    """Or one that a file stands in the way of."""
    request = bench.stage_request(bench.new_volume())
    file = bench.directory / "file"
    file.write_text("kept")
    request.staging_target_path = str(file / "below" if below else file)
    assert request.staging_target_path in bench.message(bench.node.NodeStageVolume, request)
    assert bench.code(bench.node.NodeStageVolume, request) is Code.INVALID_ARGUMENT
    assert file.read_text() == "kept"
    assert bench.traces.attached() == []


def test_many_volumes_are_staged_at_once(bench: Bench) -> None:
    """Each gets a device of its own, and its own content. Repeated as an orchestrator does: six at once may take long."""
    volumes = [bench.new_volume() for _ in range(6)]

    def stage(volume_id: str) -> None:
        bench.until_ok(bench.node.NodeStageVolume, bench.stage_request(volume_id))

    with ThreadPoolExecutor(len(volumes)) as pool:
        list(pool.map(stage, volumes))
        for volume_id in volumes:
            (bench.staging(volume_id) / volume_id / "name").write_text(volume_id)
        list(pool.map(bench.unstage, volumes))
        list(pool.map(stage, volumes))
    for volume_id in volumes:
        assert (bench.staging(volume_id) / volume_id / "name").read_text() == volume_id


def test_a_mount_that_nobody_recorded_is_not_touched(bench: Bench) -> None:
    volume_id = bench.new_volume()
    request = bench.stage_request(volume_id)
    foreign = bench.staging(volume_id) / volume_id
    foreign.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(foreign)], check=True)
    try:
        assert bench.code(bench.node.NodeStageVolume, request) is Code.FAILED_PRECONDITION
        assert bench.code(bench.node.NodeUnstageVolume, bench.unstage_request(volume_id)) is Code.FAILED_PRECONDITION
        assert foreign.is_mount()
    finally:
        subprocess.run(["umount", str(foreign)], check=True)
        foreign.rmdir()
