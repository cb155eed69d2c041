"""What outlives a process, a pod, a daemon or a boot, and what is cleared away after them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from csi_driver.host import loop
from csi_driver.pb import csi_pb2 as pb
from tests.node.bench import KINDS, MIB, Bench, Code


def test_a_new_process_knows_all_that_the_old_one_did(bench: Bench) -> None:
    """Mounts stay, the daemon is the same, and every call goes on from there."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    target = bench.publish(volume_id)
    attached = bench.traces.attached()
    with (target / "file").open("w") as opened:
        bench.restart()
        opened.write("written over the restart")
    assert (target / "file").read_text() == "written over the restart"
    bench.stage(volume_id)
    bench.publish(volume_id)
    assert bench.traces.attached() == attached
    second = bench.publish_request(volume_id, name="pod-2")
    assert bench.code(bench.node.NodePublishVolume, second) is Code.FAILED_PRECONDITION
    assert bench.node.NodeGetVolumeStats(
        pb.NodeGetVolumeStatsRequest(volume_id=volume_id, volume_path=str(target))
    ).usage
    bench.node.NodeExpandVolume(pb.NodeExpandVolumeRequest(volume_id=volume_id, volume_path=str(target)))


def cgroup_roots() -> list[Path]:
    """The hierarchies that this machine mounts."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [Path(line.split(" ")[4]) for line in lines if line.partition(" - ")[2].startswith(("cgroup ", "cgroup2 "))]


@pytest.fixture
def pod(bench: Bench) -> Iterator[list[Path]]:
    """The cgroups of a pod, one in each hierarchy; and the orchestrator's directory is shared with its mount namespace."""
    pods = [root / f"rbd-csi-test-{os.getpid()}" for root in cgroup_roots() if root.name != "cpuset"]  # needs CPUs set
    subprocess.run(["mount", "--bind", str(bench.directory), str(bench.directory)], check=True)
    # Apart from what it is bound from: where the root is shared, each mount would be seen on both.
    subprocess.run(["mount", "--make-rprivate", str(bench.directory)], check=True)
    subprocess.run(["mount", "--make-rshared", str(bench.directory)], check=True)
    for pod in pods:
        pod.mkdir()
    yield pods
    for pod in pods:
        remove_cgroup(pod)
    bench.clean()
    subprocess.run(["umount", str(bench.directory)], check=True)


@pytest.mark.attacher("fuse")
@pytest.mark.parametrize("kind", ["ext4", "block"])
def test_the_end_of_a_pod_ends_neither_daemon_nor_mount(bench: Bench, pod: list[Path], kind: str) -> None:
    """A stage in cgroups and a mount namespace of its own, as deployed; then all processes of these cgroups are killed."""
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    daemons = run_in_pod(bench, bench.stage_request(volume_id, wanted), pod)
    bench.stage(volume_id, wanted)
    assert bench.daemons() == daemons
    assert bench.is_whole(2)  # the volume, and the directory on itself
    target = bench.publish(volume_id, wanted)
    with (target if kind == "block" else target / "file").open("wb") as opened:
        opened.write(b"alive")


@pytest.mark.attacher("fuse")
@pytest.mark.parametrize("kind", ["ext4", "block"])
def test_the_end_of_pod_and_daemon_is_cleared_away(bench: Bench, pod: list[Path], kind: str) -> None:
    """With both the mount namespace goes, and the kernel forgets the name of the loop device's file."""
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    run_in_pod(bench, bench.stage_request(volume_id, wanted), pod)
    (loop,) = bench.loops()
    bench.kill_device(volume_id)
    deadline = time.monotonic() + 10
    backing = Path(f"/sys/block/{Path(loop).name}/loop/backing_file")
    while backing.read_text() != "/\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    bench.stage(volume_id, wanted)
    assert bench.is_whole(2)


def run_in_pod(bench: Bench, request: pb.NodeStageVolumeRequest, pods: list[Path]) -> list[int]:
    """The daemons of the stage, before every process of the pod was killed."""
    arguments = [":".join(map(str, pods)), bench.setting.text(), "NodeStageVolume", request.SerializeToString().hex()]
    command = ["unshare", "--mount", "--propagation", "unchanged", sys.executable, "-m", "tests.node.pod", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        said = []
        for line in process.stdout:
            said.append(line)
            if line == "done\n":
                break
        assert said[-1:] == ["done\n"], "".join(said)
        daemons = bench.daemons()
        for pod in pods:
            for pid in map(int, (pod / "cgroup.procs").read_text().split()):
                os.kill(pid, signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    return daemons


def remove_cgroup(path: Path) -> None:
    """The kernel lets go of the dead a moment after."""
    deadline = time.monotonic() + 10
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.mark.attacher("fuse")
def test_a_record_whose_device_belongs_to_another_image_is_not_believed(bench: Bench) -> None:
    """As after a reboot: the record names a loop device that is another volume's now."""
    volume_id, other = bench.new_volume(), bench.new_volume()
    bench.stage(volume_id)
    (bench.staging(volume_id) / volume_id / "name").write_text(volume_id)
    record = json.loads((bench.staging(volume_id) / "image-meta.json").read_text())
    bench.unstage(volume_id)
    bench.stage(other)  # takes the loop device, unless others on this machine have freed a lower one
    (bench.staging(other) / other / "name").write_text(other)
    (device,) = bench.loops()
    (bench.staging(volume_id) / "image-meta.json").write_text(json.dumps(record | {"device": device}))
    bench.stage(volume_id)
    assert (bench.staging(volume_id) / volume_id / "name").read_text() == volume_id
    assert (bench.staging(other) / other / "name").read_text() == other
    bench.unstage(volume_id)
    assert bench.loops() == [device]
    (bench.staging(other) / other / "name").write_text("still there")


def test_a_mount_of_another_volume_at_the_staging_path_is_not_believed(bench: Bench) -> None:
    """Record and device are this volume's, the mount is not."""
    volume_id, other = bench.new_volume(), bench.new_volume()
    for one in (volume_id, other):
        bench.stage(one)
        (bench.staging(one) / one / "name").write_text(one)
    place = bench.staging(volume_id) / volume_id
    subprocess.run(["umount", str(place)], check=True)
    subprocess.run(["mount", "--bind", str(bench.staging(other) / other), str(place)], check=True)
    bench.stage(volume_id)
    assert (place / "name").read_text() == volume_id
    assert (bench.staging(other) / other / "name").read_text() == other


@pytest.mark.attacher("fuse")
def test_a_loop_device_is_known_by_the_file_it_holds_and_not_by_its_path(tmp_path: Path) -> None:
    file, device = tmp_path / "disk", None
    file.write_bytes(bytes(MIB))
    try:
        device = loop.attach(file, read_only=False)
        assert loop.holds(device, file)
        file.rename(tmp_path / "old")
        file.write_bytes(bytes(MIB))
        (tmp_path / "old").unlink()
        assert not loop.holds(device, file)
    finally:
        loop.detach(file)
        if device:
            subprocess.run(["losetup", "-d", str(device.path)], check=False, capture_output=True)


@pytest.mark.attacher("fuse")
def test_run_files_of_another_boot_are_cleared_away(bench: Bench) -> None:
    """The process id in them is another program's now, which is left alone."""
    volume_id = bench.new_volume()
    bench.killed_call(bench.stage_request(volume_id), "fuse.open:after")
    bench.kill_device(volume_id)
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (pid_file,) = Path(bench.setting.run_directory).glob("*/daemon.pid")
        pid_file.write_text(f"{bystander.pid}\n")
        bench.stage(volume_id)
        assert bystander.poll() is None
        bystander.kill()
    assert bench.is_whole(1)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "block"])
def test_a_volume_whose_daemon_died_is_staged_anew(bench: Bench, kind: str) -> None:
    """A repeated stage is not content with the dead mount."""
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    bench.stage(volume_id, wanted)
    bench.kill_device(volume_id)
    bench.stage(volume_id, wanted)
    assert bench.is_whole(1)
    staged = bench.staging(volume_id) / volume_id
    if kind == "block":
        with staged.open("rb", buffering=0) as opened:
            assert opened.read(16) == bytes(16)
    else:
        (staged / "file").write_text("alive")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "block"])
def test_a_published_volume_whose_daemon_died_can_be_given_up(bench: Bench, kind: str) -> None:
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    bench.stage(volume_id, wanted)
    target = bench.publish(volume_id, wanted)
    bench.kill_device(volume_id)
    grow: Any = pb.NodeExpandVolumeRequest(volume_id=volume_id, volume_path=str(target))
    assert bench.code(bench.node.NodeExpandVolume, grow) is Code.FAILED_PRECONDITION
    bench.unpublish(volume_id)
    bench.unstage(volume_id)
    assert bench.leftovers() == []
