"""A pool at its quota: creates are refused at once and leave nothing, deletes succeed, and make room for the same creates."""

import json
import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from csi_driver.dev import cluster
from csi_driver.dev.inventory import Place, inventory, leftovers
from csi_driver.dev.layout import DevCeph, DevOptions
from csi_driver.host.commands import run
from csi_driver.pb import csi_pb2 as pb
from tests.client import Refusal
from tests.controller.calls import UNFINISHED, Calls
from tests.fixtures.driver import StartDriver

PLACE = Place("rbd")
AT_ONCE_S = 1.0
_TOLD_WITHIN_S = 120.0
"""The monitors look at a pool's numbers every few seconds."""


@pytest.fixture(scope="module")
def small_ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCeph]:
    """A cluster of its own, whose pool is full for a while."""
    directory = tmp_path_factory.mktemp("full") / "ceph"
    try:
        yield cluster.up(DevOptions(directory))
    finally:
        cluster.down(directory, purge=True)


def await_fullness(ceph: DevCeph, *, is_full: bool) -> None:
    deadline = time.monotonic() + _TOLD_WITHIN_S
    while ("POOL_FULL" in json.loads(ceph.ceph("health", "--format", "json"))["checks"]) is not is_full:
        assert time.monotonic() < deadline, ceph.ceph("health", "detail")
        time.sleep(0.2)


def objects_in(ceph: DevCeph) -> int:
    command = ("rados", "-c", str(ceph.conf), "-p", PLACE.pool, "ls", "--all")
    return len(run(command, timeout_s=60).stdout.splitlines())


def set_quota(ceph: DevCeph, objects: int) -> None:
    ceph.ceph("osd", "pool", "set-quota", PLACE.pool, "max_objects", str(objects))


def refused_for_space(call: Callable[[], object]) -> None:
    """At once, in the best of three calls: the machine may do other things as well."""
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        answer = call()
        seconds.append(time.monotonic() - began)
        assert isinstance(answer, Refusal), answer
        assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED, answer
    print(f"{min(seconds) * 1000:.0f} ms: {answer}")  # noqa: T201 - the test's report
    assert min(seconds) < AT_ONCE_S, seconds


def test_a_pool_at_its_quota_takes_deletes_and_refuses_creates(small_ceph: DevCeph, start_driver: StartDriver) -> None:
    driver = start_driver("--controller", clusters=small_ceph.config_json)
    calls = Calls(driver.rpc, small_ceph.secrets("provisioner"))
    volumes = [calls.create(f"kept-{number}") for number in range(8)]
    snapshots = [calls.snapshot(f"cut-{number}", volumes[number].volume_id) for number in range(2)]
    copy = calls.create("copy", source=snapshots[0])
    wanted: dict[str, pb.Volume | pb.Snapshot | None] = {
        "new": None,
        "restored": snapshots[1],
        "cloned": volumes[7],
    }
    set_quota(small_ceph, objects_in(small_ceph))
    await_fullness(small_ceph, is_full=True)
    before = inventory(small_ceph, PLACE)
    for name, source in wanted.items():
        refused_for_space(lambda name=name, source=source: calls.try_create(name, source=source))  # type: ignore[misc]
    assert inventory(small_ceph, PLACE) == before

    calls.delete_snapshot_until_done(snapshots[0].snapshot_id)
    for volume in (*volumes[2:7], copy):
        calls.delete_until_done(volume.volume_id)
    await_fullness(small_ceph, is_full=False)
    made = [made_at_last(calls, name, source) for name, source in wanted.items()]

    set_quota(small_ceph, 0)
    for volume in (*made, volumes[0], volumes[1], volumes[7]):
        calls.delete_until_done(volume.volume_id)
    calls.delete_snapshot_until_done(snapshots[1].snapshot_id)
    assert leftovers(small_ceph, PLACE) == frozenset()


def made_at_last(calls: Calls, name: str, source: pb.Volume | pb.Snapshot | None) -> pb.Volume:
    """The driver's map of the cluster may be a moment older than what the monitors say."""
    deadline = time.monotonic() + _TOLD_WITHIN_S
    while True:
        answer = calls.try_create(name, source=source)
        if isinstance(answer, pb.Volume):
            return answer
        assert answer.code in (*UNFINISHED, grpc.StatusCode.RESOURCE_EXHAUSTED), answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
