"""NodeGetVolumeHealth and NodeGetStorageHealth: what is so on this node, told in bounded time."""

import time

import pytest

from csi_driver.errors import DeviceTrouble, InUse, InvalidRequest
from csi_driver.host import commands
from csi_driver.model import HealthStatus
from csi_driver.operations.node_health import LastFailures
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc.health import storage_health
from tests.node.bench import BLOCK, KINDS, Bench, Code, capability
from tests.stopping import stopped


def health(bench: Bench, volume_id: str) -> dict[str, int]:
    """Statuses by reason."""
    request = pb.NodeGetVolumeHealthRequest(volume_id=volume_id, staging_target_path=str(bench.staging(volume_id)))
    answer = bench.node.NodeGetVolumeHealth(request, timeout=60).volume_health
    assert answer.volume_id == volume_id
    assert all(one.message for one in answer.health_statuses)
    return {one.reason: one.status for one in answer.health_statuses}


@pytest.mark.parametrize("kind", KINDS)
def test_a_staged_volume_is_healthy(bench: Bench, kind: str) -> None:
    """Published or not, also for a node half that has just started."""
    volume_id = bench.new_volume()
    bench.stage(volume_id, KINDS[kind])
    assert health(bench, volume_id) == {}
    bench.restart()
    bench.publish(volume_id, KINDS[kind])
    assert health(bench, volume_id) == {}


def test_a_volume_that_is_not_here_is_not_found(bench: Bench) -> None:
    """Neither an unknown one nor one that was unstaged."""
    volume_id = bench.new_volume()
    bench.stage(volume_id)
    bench.unstage(volume_id)
    for one in (volume_id, "fake-vol-id", ".."):
        request = pb.NodeGetVolumeHealthRequest(volume_id=one)
        assert bench.code(bench.node.NodeGetVolumeHealth, request) is Code.NOT_FOUND


def test_a_device_whose_client_was_cut_off_fails_until_it_is_staged_anew(bench: Bench) -> None:
    """Another volume of this node stays healthy, unless it shares its client: the kernel's volumes of one user all do.

    What holds no data is read without asking Ceph, by rbd-nbd's object map.
    """
    shares_client = bench.setting.attacher_name == "krbd"
    volume_id, other = bench.new_volume(), bench.new_volume()
    for one in (volume_id, other):
        bench.write(one, 0, b"data")
    bench.stage(other, BLOCK)
    bench.stage(volume_id, BLOCK)
    bench.cut_off(volume_id)
    assert health(bench, volume_id) == {"DeviceFails": pb.INACCESSIBLE}
    assert health(bench, other) == ({"DeviceFails": pb.INACCESSIBLE} if shares_client else {})
    bench.unstage(volume_id)
    bench.stage(volume_id, BLOCK)
    assert health(bench, volume_id) == {}


@pytest.mark.attacher("fuse")
def test_a_device_that_is_gone_is_told_until_it_is_staged_anew(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, BLOCK)
    bench.kill_device(volume_id)
    assert health(bench, volume_id) == {"DeviceGone": pb.INACCESSIBLE}
    bench.unstage(volume_id)
    bench.stage(volume_id, BLOCK)
    assert health(bench, volume_id) == {}


@pytest.mark.attacher("fuse")
def test_a_device_that_hangs_is_told_in_time(bench: Bench) -> None:
    volume_id = bench.new_volume()
    bench.stage(volume_id, BLOCK)
    (daemon,) = bench.daemons()
    with stopped(daemon):
        began = time.monotonic()
        seen = health(bench, volume_id)
        assert time.monotonic() - began < 30
        assert list(seen.values()) == [pb.INACCESSIBLE]
    assert health(bench, volume_id) == {}


def test_a_file_system_that_has_become_read_only_is_told_unless_it_was_meant_so(bench: Bench) -> None:
    """ext4 goes read-only after errors, as remounting it does."""
    volume_id, meant = bench.new_volume(), bench.new_volume()
    bench.stage(volume_id)
    mounted = str(bench.staging(volume_id) / volume_id)
    commands.run(["mount", "-o", "remount,ro", mounted], timeout_s=20)
    assert health(bench, volume_id) == {"FilesystemReadOnly": pb.DEGRADED}
    commands.run(["mount", "-o", "remount,rw", mounted], timeout_s=20)
    assert health(bench, volume_id) == {}
    bench.stage(meant, capability(flags=["ro"]))
    assert health(bench, meant) == {}


def test_a_stage_that_failed_is_told_until_one_succeeds(bench: Bench) -> None:
    """The volume is not staged, so that only the process knows."""
    volume_id = bench.new_volume()
    bench.write(volume_id, 0, b"somebody's data" * 64)
    assert bench.code(bench.node.NodeStageVolume, bench.stage_request(volume_id)) is Code.FAILED_PRECONDITION
    assert health(bench, volume_id) == {"StageFailed": pb.INACCESSIBLE}
    bench.write(volume_id, 0, bytes(4096))
    bench.stage(volume_id)
    assert health(bench, volume_id) == {}


def test_what_the_caller_did_wrong_is_no_trouble_of_the_volume() -> None:
    """A malformed stage, and a publish before its stage."""
    failures = LastFailures()
    with pytest.raises(InvalidRequest), failures.of_stage("vol"):
        raise InvalidRequest("mkfsOptions")
    with pytest.raises(InUse), failures.of_publish("vol"):
        raise InUse("not staged")
    assert failures.find("vol") is None
    with pytest.raises(DeviceTrouble), failures.of_publish("vol"):
        raise DeviceTrouble("bind failed")
    trouble = failures.find("vol")
    assert trouble
    assert (trouble.status, trouble.reason) == (HealthStatus.INACCESSIBLE, "PublishFailed")


def test_storage_is_healthy_while_its_clusters_answer_and_devices_can_be_made(bench: Bench) -> None:
    assert list(bench.node.NodeGetStorageHealth(pb.NodeGetStorageHealthRequest()).backend_health) == []


def test_unreachable_clusters_and_a_node_without_attacher_are_told_once_each() -> None:
    answer = storage_health(
        {"a": "cluster 'a': no connection", "b": "cluster 'b': no connection"}, "fuse: no /dev/fuse"
    )
    assert [(one.status, one.reason) for one in answer.backend_health] == [
        (pb.STORAGE_UNREACHABLE, "ClusterUnreachable"),
        (pb.STORAGE_UNREACHABLE, "NoAttacher"),
    ]
