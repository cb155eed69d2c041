"""The driver dies by SIGKILL, or pauses and is overtaken, while it copies; then the same calls are made again."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import image_data, kills
from tests.client import Refusal
from tests.controller.calls import UNFINISHED, Calls
from tests.controller.test_copies import image_of
from tests.controller.test_two_processes import let_grace_time_pass
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB = 1 << 20

SNAPSHOT_POINTS = (
    "journal.claim:after",
    "journal.begin:before",
    "journal.begin:after",
    "images.cut:after",
    "journal.complete:before",
    "journal.complete:after",
)
CLONE_POINTS = (
    "journal.claim:after",
    "journal.begin:after",
    "images.cut:after",
    "images.clone:before",
    "images.create:after",
    "images.adopt:before",
    "images.adopt:after",
    "images.clone:after",
    "images.remove_snap:before",
    "images.remove_snap:after",
    "journal.complete:before",
    "journal.complete:after",
)
RESTORE_POINTS = (
    "journal.claim:after",
    "objects.write_classes:after",
    "images.create:after",
    "images.adopt:after",
    "images.clone:after",
    "journal.complete:after",
)
DELETE_SNAPSHOT_POINTS = (
    "journal.mark_deleting:after",
    "images.remove_snap:after",
    "journal.release_name:after",
    "journal.forget_deleted:before",
)
TOMBSTONE_POINTS = (
    "journal.mark_deleting:after",
    "journal.mark_tombstone:after",
    "journal.release_name:after",
    "journal.mark_shrunk:after",
    "images.shrink:after",
)
END_OF_TOMBSTONE_POINTS = ("journal.mark_deleting:after", "images.move_to_trash:after", "journal.mark_purging:after")


@dataclass
class Crashing:
    """A driver that is killed at one step, and a source of copies with known data."""

    driver: DriverProcess
    calls: Calls
    ceph: DevCeph
    hit: Counter[str] = field(default_factory=Counter)

    def at(self, point: str, call: Callable[[], object]) -> None:
        """Arm the point, make the call, and start the driver again."""
        self.driver.stop()
        self.driver.restart({"RBD_CSI_FAILPOINTS": f"{point}=kill"})
        call()
        self.driver.await_death()
        self.driver.restart({})
        self.hit[point] += 1

    def source(self, name: str = "source") -> pb.Volume:
        volume = self.calls.create_until_done(name, 8 * MIB)
        image_data.write(self.ceph, image_of(volume), b"original")
        return volume

    def reads(self, volume: pb.Volume) -> bytes:
        return image_data.read(self.ceph, image_of(volume), 8)


@pytest.fixture
def crashing(ceph_dev: DevCeph, start_driver: StartDriver) -> Crashing:
    driver = start_driver("--controller", clusters=ceph_dev.config_json)
    return Crashing(driver, Calls(driver.rpc, ceph_dev.secrets("provisioner")), ceph_dev)


@pytest.mark.parametrize("point", SNAPSHOT_POINTS)
def test_a_snapshot_cut_short_is_finished_by_the_repeated_call(crashing: Crashing, point: str) -> None:
    calls, source = crashing.calls, crashing.source()
    crashing.at(point, lambda: calls.try_snapshot("snap", source.volume_id))
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    restored = calls.create_until_done("restored", 0, source=snapshot)
    assert crashing.reads(restored) == b"original"
    calls.delete_until_done(source.volume_id)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(restored.volume_id)


@pytest.mark.parametrize("point", CLONE_POINTS)
def test_a_clone_cut_short_is_made_anew_by_the_repeated_call(crashing: Crashing, point: str) -> None:
    """At some of these points the half-made clone can be opened and reads zeros."""
    calls, source = crashing.calls, crashing.source()
    crashing.at(point, lambda: calls.try_create("clone", 16 * MIB, source=source))
    clone = calls.create_until_done("clone", 16 * MIB, source=source)
    assert (clone.capacity_bytes, crashing.reads(clone)) == (16 * MIB, b"original")
    calls.delete_until_done(source.volume_id)
    assert crashing.reads(clone) == b"original"
    calls.delete_until_done(clone.volume_id)


@pytest.mark.parametrize("point", RESTORE_POINTS)
def test_a_restore_cut_short_is_made_anew_by_the_repeated_call(crashing: Crashing, point: str) -> None:
    """What it was begun with stands beside its name, as that of an empty volume."""
    calls, source = crashing.calls, crashing.source()
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    crashing.at(point, lambda: calls.try_create("restored", 16 * MIB, source=snapshot))
    restored = calls.create_until_done("restored", 16 * MIB, source=snapshot)
    assert (restored.capacity_bytes, crashing.reads(restored)) == (16 * MIB, b"original")
    calls.delete_until_done(source.volume_id)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    assert crashing.reads(restored) == b"original"
    calls.delete_until_done(restored.volume_id)


@pytest.mark.parametrize("point", DELETE_SNAPSHOT_POINTS)
def test_a_delete_of_a_snapshot_cut_short_is_finished(crashing: Crashing, point: str) -> None:
    calls, source = crashing.calls, crashing.source()
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    restored = calls.create_until_done("restored", 0, source=snapshot)
    crashing.at(point, lambda: calls.delete_snapshot(snapshot.snapshot_id))
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    again = calls.snapshot_until_done("snap", source.volume_id)
    assert again.snapshot_id != snapshot.snapshot_id
    assert crashing.reads(restored) == b"original"
    for volume in (restored, source):
        calls.delete_until_done(volume.volume_id)
    calls.delete_snapshot_until_done(again.snapshot_id)


@pytest.mark.parametrize("point", TOMBSTONE_POINTS)
def test_a_delete_of_a_volume_with_snapshots_cut_short_is_finished(crashing: Crashing, point: str) -> None:
    calls, source = crashing.calls, crashing.source()
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    crashing.at(point, lambda: calls.delete(source.volume_id))
    calls.delete_until_done(source.volume_id)
    restored = calls.create_until_done("restored", 0, source=snapshot)
    assert crashing.reads(restored) == b"original"
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(restored.volume_id)


@pytest.mark.parametrize("point", END_OF_TOMBSTONE_POINTS)
def test_the_end_of_a_tombstone_cut_short_is_finished(crashing: Crashing, point: str) -> None:
    """Nothing repeats that call: the restarted driver goes on when it meets the pool again."""
    calls, source = crashing.calls, crashing.source()
    snapshot = calls.snapshot_until_done("snap", source.volume_id)
    calls.delete_until_done(source.volume_id)
    crashing.at(point, lambda: calls.delete_snapshot(snapshot.snapshot_id))
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(crashing.source("wakes-the-pool").volume_id)


@pytest.mark.parametrize(
    "point", ["images.cut:after", "images.clone:before", "images.clone:after", "images.remove_snap:after"]
)
def test_a_clone_paused_overtaken_and_let_go_on_harms_nothing(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool, point: str
) -> None:
    secrets = ceph_dev.secrets("provisioner")
    paused_at = {"RBD_CSI_FAILPOINTS": f"{point}=stop"}
    slow = start_driver("--controller", clusters=ceph_dev.config_json, environment=paused_at)
    quick = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    slow_calls, quick_calls = Calls(slow.rpc, secrets), Calls(quick.rpc, secrets)
    source = quick_calls.create("source", 8 * MIB)
    image_data.write(ceph_dev, image_of(source), b"original")
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(slow_calls.try_create, "clone", 0, source=source)
        slow.await_pause()
        let_grace_time_pass(pool, "clone")
        clone = quick_calls.create_until_done("clone", 0, source=source)
        slow.resume()
        answer = late.result(60)
    assert answer.code in UNFINISHED if isinstance(answer, Refusal) else answer.volume_id == clone.volume_id
    assert slow_calls.create_until_done("clone", 0, source=source).volume_id == clone.volume_id
    quick_calls.delete_until_done(source.volume_id)
    assert image_data.read(ceph_dev, image_of(clone), 8) == b"original"
    quick_calls.delete_until_done(clone.volume_id)


@pytest.mark.parametrize("point", ["images.clone:before", "images.clone:after"])
def test_a_restore_paused_overtaken_and_let_go_on_harms_nothing(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool, point: str
) -> None:
    secrets = ceph_dev.secrets("provisioner")
    paused_at = {"RBD_CSI_FAILPOINTS": f"{point}=stop"}
    slow = start_driver("--controller", clusters=ceph_dev.config_json, environment=paused_at)
    quick = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    slow_calls, quick_calls = Calls(slow.rpc, secrets), Calls(quick.rpc, secrets)
    source = quick_calls.create("source", 8 * MIB)
    image_data.write(ceph_dev, image_of(source), b"original")
    snapshot = quick_calls.snapshot("snap", source.volume_id)
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(slow_calls.try_create, "restored", 0, source=snapshot)
        slow.await_pause()
        let_grace_time_pass(pool, "restored")
        restored = quick_calls.create_until_done("restored", 0, source=snapshot)
        slow.resume()
        answer = late.result(60)
    assert answer.code in UNFINISHED if isinstance(answer, Refusal) else answer.volume_id == restored.volume_id
    assert slow_calls.create_until_done("restored", 0, source=snapshot).volume_id == restored.volume_id
    quick_calls.delete_snapshot_until_done(snapshot.snapshot_id)
    assert image_data.read(ceph_dev, image_of(restored), 8) == b"original"
    for volume in (restored, source):
        quick_calls.delete_until_done(volume.volume_id)


@pytest.mark.parametrize("point", ["journal.begin:after", "images.cut:before", "images.cut:after"])
def test_a_snapshot_paused_while_its_volume_is_deleted_goes_with_it(
    ceph_dev: DevCeph, start_driver: StartDriver, point: str
) -> None:
    """The delete marks first and looks for snaps afterwards, the cut looks at the mark after itself: one sees the other."""
    secrets = ceph_dev.secrets("provisioner")
    paused_at = {"RBD_CSI_FAILPOINTS": f"{point}=stop"}
    slow = start_driver("--controller", clusters=ceph_dev.config_json, environment=paused_at)
    quick = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    source = Calls(quick.rpc, secrets).create("source", 8 * MIB)
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(Calls(slow.rpc, secrets).try_snapshot, "snap", source.volume_id)
        slow.await_pause()
        Calls(quick.rpc, secrets).delete_until_done(source.volume_id)
        slow.resume()
        answer = late.result(60)
    assert isinstance(answer, Refusal)
    assert answer.code.name in ("NOT_FOUND", "ABORTED", "UNAVAILABLE"), answer
    slow_calls = Calls(slow.rpc, secrets)
    while isinstance(again := slow_calls.try_snapshot("snap", source.volume_id), Refusal) and again.code in UNFINISHED:
        continue  # the purge has the volume in hand
    assert isinstance(again, Refusal)
    assert again.code.name == "NOT_FOUND"


@pytest.mark.timeout(kills.timeout_s(15))
def test_kills_at_random_moments_while_copying_lose_nothing(crashing: Crashing) -> None:
    """Three callers snapshot, restore, clone and delete while the driver is killed 15 times."""
    chance = kills.chance()
    calls, source = crashing.calls, crashing.source()

    def round_of(name: str) -> None:
        snapshot = calls.snapshot_until_done(f"s-{name}", source.volume_id)
        restored = calls.create_until_done(f"r-{name}", 0, source=snapshot)
        clone = calls.create_until_done(f"c-{name}", 0, source=restored)
        assert crashing.reads(restored) == b"original"
        calls.delete_until_done(restored.volume_id)
        calls.delete_snapshot_until_done(snapshot.snapshot_id)
        assert crashing.reads(clone) == b"original"
        calls.delete_until_done(clone.volume_id)

    def call(caller: int, ended: threading.Event) -> None:
        while not ended.is_set():
            round_of(str(caller))

    with kills.callers(3, call):
        for _ in range(kills.kills(15)):
            time.sleep(chance.uniform(0.05, 0.8))
            crashing.driver.kill()
            crashing.driver.restart({})
    kills.delete_after_kills(calls, source.volume_id)
