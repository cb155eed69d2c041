"""A device that hangs while its volume is in use: what Ceph is asked for is not answered, for as long as the test wants.

Every call ends in bounds meanwhile, with a code that asks for its repetition, and well when Ceph answers again.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests.node.bench import BLOCK, KINDS, Bench, Code
from tests.node.images import tell_monitors

pytestmark = [pytest.mark.attacher("krbd", "nbd"), pytest.mark.timeout(900)]  # it waits for other calls' ends

UNDER_WAY = (Code.UNAVAILABLE, Code.ABORTED)
STATS_S, HEALTH_S, CALL_S = 30, 60, 90
_BACK_S = 120.0
_HEARD_S = 60.0


@contextmanager
def paused(ceph: DevCeph) -> Iterator[None]:
    """The cluster serves monitors' calls alone."""
    tell_monitors(ceph, "osd pause")
    try:
        yield
    finally:
        tell_monitors(ceph, "osd unpause")


@contextmanager
def without_osd(ceph: DevCeph) -> Iterator[None]:
    """Its one OSD is down, and nobody serves the data."""
    tell_monitors(ceph, "osd set", key="noup")
    tell_monitors(ceph, "osd down", ids=["0"])
    try:
        yield
    finally:
        tell_monitors(ceph, "osd unset", key="noup")
        deadline = time.monotonic() + _BACK_S
        while json.loads(tell_monitors(ceph, "osd stat", format="json"))["num_up_osds"] != 1:
            assert time.monotonic() < deadline, "the OSD does not come back"
            time.sleep(0.5)


@contextmanager
def unreachable(_ceph: DevCeph) -> Iterator[None]:
    """No packet reaches the cluster, whose addresses the guest has a route for (tests/vm/guest)."""
    route = ["127.0.0.0/8", "via", "10.0.2.2", "src", "10.0.2.15"]
    subprocess.run(["ip", "route", "replace", "blackhole", "127.0.0.0/8"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "route", "del", "blackhole", "127.0.0.0/8"], check=True)
        subprocess.run(["ip", "route", "replace", *route], check=True)


HANGS: dict[str, Callable[[DevCeph], AbstractContextManager[None]]] = {
    "paused": paused,
    "without OSD": without_osd,
    "unreachable": unreachable,
}


def stage_request(bench: Bench, volume_id: str, wanted: Any, *, encrypted: bool) -> Any:
    request = bench.stage_request(volume_id, wanted, **({"encrypted": "true"} if encrypted else {}))
    if encrypted:
        request.secrets["encryptionPassphrase"] = "correct horse"
    return request


def write(target: Path, data: bytes) -> None:
    """Not waited for: it stays in memory while the device hangs."""
    (target / "file").write_bytes(data)


def told_trouble(bench: Bench, request: pb.NodeGetVolumeHealthRequest) -> int:
    """Its status. Each answer comes in bounds; a kernel is served until it has heard that an OSD is down."""
    deadline = time.monotonic() + _HEARD_S
    while True:
        began = time.monotonic()
        found = bench.node.NodeGetVolumeHealth(request).volume_health.health_statuses
        assert time.monotonic() - began < HEALTH_S
        if found:
            (seen,) = found
            return int(seen.status)
        assert began < deadline, "the device is served all the same"
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("hang", "kind", "encrypted"),
    [
        ("paused", "ext4", False),
        ("paused", "block", False),
        ("without OSD", "ext4", True),
        ("unreachable", "xfs", False),
    ],
)
def test_calls_on_a_hung_device_end_in_bounds_and_succeed_later(
    bench: Bench, hang: str, kind: str, encrypted: bool
) -> None:
    """What a pod wrote before and did not sync is there when the volume is staged again."""
    volume_id, wanted = bench.new_volume(), KINDS[kind]
    bench.until_ok(bench.node.NodeStageVolume, stage_request(bench, volume_id, wanted, encrypted=encrypted))
    target = bench.publish(volume_id, wanted)
    data = volume_id.encode() * 1000
    if wanted != BLOCK:
        write(target, data)
    stats = pb.NodeGetVolumeStatsRequest(volume_id=volume_id, volume_path=str(target))
    health = pb.NodeGetVolumeHealthRequest(volume_id=volume_id, staging_target_path=str(bench.staging(volume_id)))
    with HANGS[hang](bench.ceph):
        assert bench.timed_code(bench.node.NodeGetVolumeStats, stats, STATS_S) in (Code.OK, Code.UNAVAILABLE)
        assert told_trouble(bench, health) == pb.INACCESSIBLE
        grow = pb.NodeExpandVolumeRequest(volume_id=volume_id, volume_path=str(target))
        assert bench.timed_code(bench.node.NodeExpandVolume, grow, CALL_S) in UNDER_WAY
        assert bench.timed_code(bench.node.NodeUnpublishVolume, bench.unpublish_request(volume_id), CALL_S) is Code.OK
        for _ in range(2):
            assert bench.timed_code(bench.node.NodeUnstageVolume, bench.unstage_request(volume_id), CALL_S) in UNDER_WAY
    bench.until_ok(bench.node.NodeUnstageVolume, bench.unstage_request(volume_id))
    assert bench.leftovers() == []
    bench.until_ok(bench.node.NodeStageVolume, stage_request(bench, volume_id, wanted, encrypted=encrypted))
    if wanted != BLOCK:
        assert (bench.staging(volume_id) / volume_id / "file").read_bytes() == data


@pytest.mark.parametrize("hang", ["paused", "without OSD"])
def test_a_stage_on_a_cluster_that_hangs_ends_in_bounds_and_succeeds_later(bench: Bench, hang: str) -> None:
    """One mapping, however often it was repeated meanwhile."""
    volume_id = bench.new_volume(size_mib=64)
    with HANGS[hang](bench.ceph):
        for _ in range(2):
            assert bench.timed_code(bench.node.NodeStageVolume, bench.stage_request(volume_id), CALL_S) in UNDER_WAY
    bench.until_ok(bench.node.NodeStageVolume, bench.stage_request(volume_id))
    assert bench.is_whole(1)
