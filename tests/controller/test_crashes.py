"""The driver dies by SIGKILL at each of its steps, and at random moments; then the same calls are made again."""

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
import pytest

from csi_driver.ceph.api import Create, Pool, Write
from csi_driver.dev.inventory import Place, inventory, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import kills
from tests.client import Refusal
from tests.controller.calls import Calls, handle_parts
from tests.controller.rows import row_of
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.rpc.valid_requests import GIB

pytestmark = pytest.mark.usefixtures("clean_pool")

CREATE_POINTS = {
    "journal.claim:before": "– – –",
    "journal.claim:after": "K – – M",
    "images.create:before": "K – – M",
    "objects.write_classes:after": "K – I M",
    "images.create:after": "K – I M",
    "journal.complete:before": "K – I M",
    "journal.complete:after": "K O I complete",
}
TAKE_OVER_POINTS = {
    "journal.take_over:before": "K – I M",
    "journal.take_over:after": "K O I making",
    "images.remove:after": "K O – making",
    "journal.complete:before": "K O I making",
    "journal.complete:after": "K O I complete",
}
DELETE_POINTS = {
    "journal.mark_deleting:before": "K O I complete",
    "journal.mark_deleting:after": "K O I deleting",
    "images.move_to_trash:after": "K O T deleting",
    "journal.release_name:after": "– O T deleting D",
    "journal.mark_trashed:after": "– O T trashed D",
}
PURGE_POINTS = {
    "journal.mark_purging:after": "– O T purging D",
    "images.purge:after": "– O – purging D",
    "journal.forget_deleted:before": "– – – D",
}
UNDO_POINTS = {
    "images.remove:after": "K – – M",
    "journal.drop_name:before": "K – – M",
    "journal.drop_name:after": "– – –",
}
TAKEN_UNDO_POINTS = {
    "journal.mark_deleting:after": "K O – deleting unmade",
    "journal.release_name:after": "– O – deleting unmade D",
    "journal.forget_deleted:before": "– – – D",
}
PROMPTLY_S = 10.0
"""A restarted driver takes its predecessor's work over at once, not after the grace time of 30 s."""


@dataclass
class Crashes:
    """A driver that is made to die at one step, and started again without that."""

    driver: DriverProcess
    calls: Calls
    pool: Pool
    reached: Counter[str] = field(default_factory=Counter)

    def arm(self, point: str) -> None:
        self.driver.stop()
        self.driver.restart({"RBD_CSI_FAILPOINTS": f"{point}=kill"})

    def check_row(self, expected: str, name: str, uuid: str | None = None) -> None:
        self.driver.await_death()
        row = row_of(self.pool, name, uuid)
        assert row == expected
        self.reached[row] += 1
        self.driver.restart({})


@pytest.fixture
def crashes(ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool) -> Crashes:
    driver = start_driver("--controller", clusters=ceph_dev.config_json)
    return Crashes(driver, Calls(driver.rpc, ceph_dev.secrets("provisioner")), pool)


def test_every_row_that_a_crash_can_reach_is_finished_by_the_repeated_call(crashes: Crashes, ceph_dev: DevCeph) -> None:
    for point, row in CREATE_POINTS.items():
        crash_in_create(crashes, point, row)
    for point, row in TAKE_OVER_POINTS.items():
        crash_in_take_over(crashes, point, row)
    for point, row in DELETE_POINTS.items():
        crash_in_delete(crashes, point, row)
    for point, row in PURGE_POINTS.items():
        crash_in_purge(crashes, point, row, ceph_dev)
    for point, row in UNDO_POINTS.items():
        crash_in_refused_create(crashes, point, row, ceph_dev)
    for point, row in TAKEN_UNDO_POINTS.items():
        crash_after_claim(crashes)
        crash_in_refused_create(crashes, point, row, ceph_dev)
    print("\nrows of the crash table that were reached:")  # noqa: T201 - the test's report
    for row, times in crashes.reached.items():
        print(f"  {row:24} {times}")  # noqa: T201
    assert set(crashes.reached) == {
        row
        for points in (CREATE_POINTS, TAKE_OVER_POINTS, DELETE_POINTS, PURGE_POINTS, UNDO_POINTS, TAKEN_UNDO_POINTS)
        for row in points.values()
    }


def crash_in_create(crashes: Crashes, point: str, row: str) -> None:
    parameters = {"csi.storage.k8s.io/pv/name": "pv-1"}
    crashes.arm(point)
    assert isinstance(crashes.calls.try_create("crash", parameters=parameters), Refusal)
    crashes.check_row(row, "crash")
    began = time.monotonic()
    volume = crashes.calls.create_until_done("crash", parameters=parameters)
    assert time.monotonic() - began < PROMPTLY_S
    assert crashes.calls.create("crash", parameters=parameters) == volume
    assert crashes.pool.images.get_metadata(volume.volume_context["imageName"]) == parameters
    crashes.calls.delete_until_done(volume.volume_id)


def crash_in_take_over(crashes: Crashes, point: str, row: str) -> None:
    """Twice: the second time while the first one's work is taken over."""
    crashes.arm("journal.complete:before")
    assert isinstance(crashes.calls.try_create("crash"), Refusal)
    crashes.driver.await_death()
    crashes.driver.restart({})
    crashes.arm(point)
    assert isinstance(crashes.calls.try_create("crash"), Refusal)
    crashes.check_row(row, "crash")
    volume = crashes.calls.create_until_done("crash")
    assert crashes.calls.create("crash") == volume
    crashes.calls.delete_until_done(volume.volume_id)


def crash_after_claim(crashes: Crashes) -> None:
    """Of a create that will be refused."""
    crashes.arm("journal.claim:after")
    assert isinstance(crashes.calls.try_create("refused", parameters={"dataPool": "nopool"}), Refusal)
    crashes.driver.await_death()
    crashes.driver.restart({})


def crash_in_delete(crashes: Crashes, point: str, row: str) -> None:
    volume = crashes.calls.create("crash")
    crashes.arm(point)
    assert crashes.calls.delete(volume.volume_id) is not None
    crashes.check_row(row, "crash", handle_parts(volume.volume_id)[2])
    again = crashes.calls.create_until_done("crash")
    if row != "K O I complete":
        assert again.volume_id != volume.volume_id
    crashes.calls.delete_until_done(volume.volume_id)
    crashes.calls.delete_until_done(again.volume_id)


def crash_in_purge(crashes: Crashes, point: str, row: str, ceph: DevCeph) -> None:
    """The answer is out before the purge, so that nothing repeats the call: the restarted driver goes on by itself."""
    assert leftovers(ceph, Place("rbd")) == frozenset()
    volume = crashes.calls.create("crash")
    crashes.arm(point)
    crashes.calls.delete(volume.volume_id)
    crashes.check_row(row, "crash", handle_parts(volume.volume_id)[2])
    crashes.calls.create("wakes-the-pool")
    crashes.calls.delete_until_done(crashes.calls.create("wakes-the-pool").volume_id)
    assert leftovers(ceph, Place("rbd")) == frozenset()


def crash_in_refused_create(crashes: Crashes, point: str, row: str, ceph: DevCeph) -> None:
    crashes.arm(point)
    assert isinstance(crashes.calls.try_create("refused", parameters={"dataPool": "nopool"}), Refusal)
    crashes.check_row(row, "refused")
    answer = crashes.calls.refused_at_last("refused", parameters={"dataPool": "nopool"})
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert leftovers(ceph, Place("rbd")) == frozenset()


def test_a_half_made_image_is_never_handed_out(crashes: Crashes, ceph_dev: DevCeph) -> None:
    """librbd makes an image in several writes: here its header was not written yet, and the name is taken."""
    crashes.arm("images.create:after")
    crashes.calls.try_create("half")
    crashes.driver.await_death()
    uuid = crashes.pool.objects.read_key("csi.volumes.default", "csi.volume.half")
    image_id = crashes.pool.images.find_id(f"csi-vol-{uuid}")
    crashes.pool.objects.apply(f"rbd_header.{image_id}", Write(create=Create.ENSURE, remove_object=True))
    crashes.driver.restart({})
    volume = crashes.calls.create_until_done("half")
    assert crashes.pool.images.inspect(volume.volume_context["imageName"]).size_bytes == GIB
    crashes.calls.delete_until_done(volume.volume_id)


@pytest.mark.timeout(kills.timeout_s(20))
def test_kills_at_random_moments_leave_one_volume_for_each_name(crashes: Crashes, ceph_dev: DevCeph) -> None:
    """Four callers create and delete while the driver is killed 20 times; all of them repeat until they are answered."""
    chance = kills.chance()
    kept: dict[str, pb.Volume] = {}

    def call(caller: int, ended: threading.Event) -> None:
        for number in itertools.count():
            name = f"random-{caller}-{number % 5}"
            kept[name] = crashes.calls.create_until_done(name)
            if ended.is_set():
                return
            crashes.calls.delete_until_done(kept.pop(name).volume_id)

    with kills.callers(4, call):
        for _ in range(kills.kills(20)):
            time.sleep(chance.uniform(0.05, 0.4))
            crashes.driver.kill()
            crashes.driver.restart({})
    assert len(kept) == 4
    for name, volume in kept.items():
        assert crashes.calls.create(name) == volume
    in_pool = leftovers_but(ceph_dev, len(kept))
    assert sum(line.startswith("image ") for line in in_pool) == len(kept), in_pool
    for volume in kept.values():
        kills.delete_after_kills(crashes.calls, volume.volume_id)


def leftovers_but(ceph: DevCeph, volumes: int) -> frozenset[str]:
    """The inventory once the purge has settled to that many entries."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = inventory(ceph, Place("rbd"))
        if sum(line.startswith("object csi.volume.") for line in found) == volumes:
            break
        time.sleep(0.1)
    return found
