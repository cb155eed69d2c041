"""Chains of copies: how deep they become, what flattens them, and what a crash in a flatten leaves."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import grpc
import pytest

from csi_driver.ceph.api import Create, ImageMissing, Pool, Write
from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.journal.flatten_queue import FlattenQueue
from csi_driver.operations.election import LEASE_S
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.client import Refusal
from tests.controller.calls import Calls, handle_parts
from tests.controller.test_crashes import Crashes
from tests.driver import DriverProcess
from tests.fixtures.driver import StartDriver
from tests.image_client import ImageClient

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB = 1 << 20
TAKEOVER_S = LEASE_S + 15.0
HELD_BACK = {"softCloneDepth": "1", "hardCloneDepth": "1"}
ALWAYS = {"flatten": "always"}


def image_of(volume: pb.Volume) -> str:
    return volume.volume_context["imageName"]


def keys_of(pool: Pool, volume: pb.Volume) -> Mapping[str, str]:
    return pool.objects.read(f"csi.volume.{handle_parts(volume.volume_id)[2]}") or {}


def depth_of(pool: Pool, volume: pb.Volume) -> int:
    return pool.ancestry.count(keys_of(pool, volume)["csi.imageid"])


def queue_of(pool: Pool) -> FlattenQueue:
    return FlattenQueue(pool, "default")


def await_true(is_so: Callable[[], bool], what: str, within_s: float = TAKEOVER_S) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def await_flat(pool: Pool, volume: pb.Volume) -> None:
    await_true(lambda: not queue_of(pool).entries(), "the queue is worked off")
    assert not pool.images.inspect(image_of(volume)).has_parent
    assert (keys_of(pool, volume)["depth"], keys_of(pool, volume)["state"]) == ("0", "complete")


def create_source(calls: Calls, ceph: DevCeph, data: bytes = b"data") -> pb.Volume:
    source = calls.create("source", 8 * MIB)
    image_data.write(ceph, image_of(source), data)
    return source


@contextmanager
def paused_queue(pool: Pool) -> Iterator[None]:
    """Nobody flattens meanwhile: the lease is this test's."""
    await_true(lambda: pool.leases.take_lease("csi.flatten_worker.default", 300), "the lease is free")
    yield
    pool.leases.end_lease("csi.flatten_worker.default")


def test_a_chain_of_20_generations_is_never_deeper_than_the_hard_limit(
    calls: Calls, ceph_dev: DevCeph, pool: Pool
) -> None:
    generations, snapshots = [create_source(calls, ceph_dev, b"00")], []
    for number in range(1, 21):
        snapshots.append(calls.snapshot_until_done(f"snap-{number}", generations[-1].volume_id))
        limits = {"softCloneDepth": "2", "hardCloneDepth": "3"}
        copy = calls.create_until_done(f"generation-{number}", 0, source=snapshots[-1], parameters=limits)
        assert depth_of(pool, copy) < 3
        image_data.write(ceph_dev, image_of(copy), f"{number:02}".encode(), number * MIB // 4)
        generations.append(copy)
    for number, volume in enumerate(generations):
        read = [image_data.read(ceph_dev, image_of(volume), 2, at * MIB // 4) for at in range(21)]
        assert read == [f"{at:02}".encode() if at <= number else bytes(2) for at in range(21)]
    for volume in generations:
        calls.delete_until_done(volume.volume_id)
    for snapshot in snapshots:
        calls.delete_snapshot_until_done(snapshot.snapshot_id)


def test_always_flattens_a_copy_behind_its_answer(calls: Calls, ceph_dev: DevCeph, pool: Pool) -> None:
    source = create_source(calls, ceph_dev)
    copy = calls.create("copy", 0, source=source, parameters=ALWAYS)
    await_flat(pool, copy)
    calls.delete_until_done(source.volume_id)
    assert image_data.read(ceph_dev, image_of(copy), 4) == b"data"
    assert calls.create("copy", 0, source=source, parameters=ALWAYS) == copy
    calls.delete_until_done(copy.volume_id)


def test_a_worker_that_cannot_leave_its_record_flattens_again(
    ceph_dev: DevCeph, pool: Pool, start_driver: StartDriver
) -> None:
    driver = start_driver(
        "--controller",
        clusters=ceph_dev.config_json,
        environment={"RBD_CSI_FAILPOINTS": "queue.record_worker:before:2=error:5"},
    )
    calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
    volumes = [create_source(calls, ceph_dev)]
    for name in ("one", "two"):
        volumes.append(calls.create(name, 0, source=volumes[0], parameters=ALWAYS))
        await_flat(pool, volumes[-1])
        await_true(lambda: "who flattens is not taken off its record" in driver.log_text(), "the leave failed")
    for volume in volumes:
        calls.delete_until_done(volume.volume_id)


def test_a_copy_above_the_soft_depth_is_flattened_behind_its_answer(
    calls: Calls, ceph_dev: DevCeph, pool: Pool
) -> None:
    source = create_source(calls, ceph_dev)
    one = calls.create("one", 0, source=source, parameters={"softCloneDepth": "1"})
    two = calls.create("two", 0, source=one, parameters={"softCloneDepth": "1"})
    await_flat(pool, two)
    assert depth_of(pool, one) == 1
    for volume in (source, one, two):
        calls.delete_until_done(volume.volume_id)


def test_never_refuses_at_the_hard_limit_and_leaves_nothing(calls: Calls, ceph_dev: DevCeph) -> None:
    source = create_source(calls, ceph_dev)
    limits = {"flatten": "never", "hardCloneDepth": "2"}
    one = calls.create("one", 0, source=source, parameters=limits)
    refused = calls.try_create("two", 0, source=one, parameters=limits)
    assert isinstance(refused, Refusal)
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "parameter flatten is never and hardCloneDepth 2" in refused.message
    for volume in (one, source):
        calls.delete_until_done(volume.volume_id)
    assert leftovers(ceph_dev, Place("rbd")) == frozenset()


def test_an_unknown_or_too_high_depth_is_counted_and_corrected(calls: Calls, ceph_dev: DevCeph, pool: Pool) -> None:
    """As after a flatten by hand: the entry still says how deep it was."""
    source = create_source(calls, ceph_dev)
    key = f"csi.volume.{handle_parts(source.volume_id)[2]}"
    pool.objects.apply(key, Write(put={"depth": "7"}))
    limits = {"flatten": "never", "hardCloneDepth": "2"}
    one = calls.create("one", 0, source=source, parameters=limits)
    assert (keys_of(pool, source)["depth"], keys_of(pool, one)["depth"]) == ("0", "1")
    pool.objects.apply(key, Write(drop=("depth",)))
    two = calls.create("two", 0, source=source, parameters=limits)
    assert (keys_of(pool, source)["depth"], keys_of(pool, two)["depth"]) == ("0", "1")
    for volume in (one, two, source):
        calls.delete_until_done(volume.volume_id)


def test_a_create_that_waits_says_so_and_neither_it_nor_another_process_makes_it_anew(
    ceph_dev: DevCeph, start_driver: StartDriver, calls: Calls, pool: Pool
) -> None:
    other = Calls(start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2").rpc, calls.secrets)
    source = create_source(calls, ceph_dev)
    with paused_queue(pool):
        answers = [one.try_create("copy", 0, source=source, parameters=HELD_BACK) for one in (calls, other, calls)]
        (queued,) = queue_of(pool).entries()
    for answer in answers:
        assert isinstance(answer, Refusal)
        assert answer.code is grpc.StatusCode.ABORTED
        assert "hardCloneDepth is 1" in answer.message
    copy = other.create_until_done("copy", 0, source=source, parameters=HELD_BACK)
    assert pool.images.inspect(image_of(copy)).image_id == queued.image_id
    await_flat(pool, copy)
    conflict = calls.try_create("copy", 0, source=source)
    assert isinstance(conflict, Refusal)
    assert "flatten.hard_depth is 1, asked for is 8" in conflict.message
    for volume in (source, copy):
        calls.delete_until_done(volume.volume_id)


def test_a_queued_volume_is_deleted_and_its_source_with_it(calls: Calls, ceph_dev: DevCeph, pool: Pool) -> None:
    """Handed out, or still waiting for its first hand-out; its snapshot's removal ends behind the queue."""
    source = create_source(calls, ceph_dev)
    snapshot = calls.snapshot("snap", source.volume_id)
    with paused_queue(pool):
        handed_out = calls.create("copy", 0, source=snapshot, parameters=ALWAYS)
        calls.try_create("held", 0, source=source, parameters=HELD_BACK)
        held_uuid = pool.objects.read_key("csi.volumes.default", "csi.volume.held")
        held = handed_out.volume_id.replace(handle_parts(handed_out.volume_id)[2], str(held_uuid))
        for volume_id in (handed_out.volume_id, held, source.volume_id):
            assert calls.delete(volume_id) is None
        assert calls.delete_snapshot(snapshot.snapshot_id) is None
        assert pool.images.list_trash()
    assert leftovers(ceph_dev, Place("rbd")) == frozenset()
    assert queue_of(pool).entries() == []


def test_an_image_that_a_client_has_open_is_put_off_and_can_be_deleted_while_it_is_flattened(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool
) -> None:
    driver = start_driver(
        "--controller",
        clusters=ceph_dev.config_json,
        environment={"RBD_CSI_FAILPOINTS": "images.flatten:before=delay:1"},
    )
    calls = Calls(driver.rpc, ceph_dev.secrets("provisioner"))
    source = create_source(calls, ceph_dev)
    with paused_queue(pool):
        used = calls.create("used", 0, source=source, parameters=ALWAYS)
        deleted = calls.create("deleted", 0, source=source, parameters=ALWAYS)
        client = ImageClient(ceph_dev, image_of(used))
    with client:
        await_true(lambda: "flatten begins" in driver.log_text(), "the other one is flattened")
        assert calls.delete(deleted.volume_id) is None
        await_true(lambda: len(queue_of(pool).entries()) == 1, "the deleted one is off the queue")
        assert pool.images.inspect(image_of(used)).has_parent
    for volume in (used, source):
        calls.delete_until_done(volume.volume_id)


@pytest.fixture
def crashes(ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool) -> Crashes:
    driver = start_driver("--controller", clusters=ceph_dev.config_json)
    return Crashes(driver, Calls(driver.rpc, ceph_dev.secrets("provisioner")), pool)


@pytest.mark.parametrize(
    ("point", "state"),
    [
        ("images.flatten:before", "flattening"),
        ("images.flatten:after", "flattening"),
        ("journal.await_flatten:after", "flattening"),
        ("journal.record_depth:after", "complete"),
    ],
)
def test_a_crash_round_a_flatten_is_finished_by_the_repeated_call(
    crashes: Crashes, ceph_dev: DevCeph, pool: Pool, point: str, state: str
) -> None:
    crashes.calls.delete_until_done(create_source(crashes.calls, ceph_dev).volume_id)
    source = create_source(crashes.calls, ceph_dev)
    crashes.arm(point)
    # Once: a repeated call could see the end of the flatten before the process dies, and complete the entry.
    assert isinstance(crashes.calls.try_create("copy", 0, source=source, parameters=HELD_BACK), Refusal)
    crashes.check_row(f"K O I {state}", "copy")
    copy = crashes.calls.create_until_done("copy", 0, source=source, parameters=HELD_BACK)
    crashes.calls.delete_until_done(source.volume_id)
    await_flat(pool, copy)
    assert image_data.read(ceph_dev, image_of(copy), 4) == b"data"
    crashes.calls.delete_until_done(copy.volume_id)


def test_an_image_left_with_a_link_to_a_snap_that_is_gone_is_repaired(
    calls: Calls, ceph_dev: DevCeph, pool: Pool
) -> None:
    """What a flatten cut short leaves: all data copied, the snap removed, the link still there."""
    source = create_source(calls, ceph_dev)
    snapshot = calls.snapshot("snap", source.volume_id)
    with paused_queue(pool):
        copy = calls.create("copy", 0, source=snapshot, parameters=ALWAYS)
        image_data.write(ceph_dev, image_of(copy), bytes(8 * MIB))
        image_data.write(ceph_dev, image_of(copy), b"data")
        (queued,) = queue_of(pool).entries()
        forget_snap(pool, queued.parent.image_id, queued.parent.snap_id)
        with pytest.raises(ImageMissing):
            pool.images.inspect(image_of(copy))
        waiting = calls.delete(copy.volume_id)
        assert waiting is not None
        assert waiting.code is grpc.StatusCode.UNAVAILABLE
    await_flat(pool, copy)
    assert image_data.read(ceph_dev, image_of(copy), 4) == b"data"
    for volume in (copy, source):
        calls.delete_until_done(volume.volume_id)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)


def forget_snap(pool: Pool, image_id: str, snap_id: int) -> None:
    keys = (f"snapshot_{snap_id:016x}", f"snap_children_{snap_id:016x}")
    pool.objects.apply(f"rbd_header.{image_id}", Write(drop=keys))
    pool.objects.apply(f"rbd_object_map.{image_id}.{snap_id:016x}", Write(create=Create.ENSURE, remove_object=True))


def test_one_of_two_drivers_flattens_and_the_other_fences_it_and_goes_on_when_it_falls_silent(
    ceph_dev: DevCeph, start_driver: StartDriver, pool: Pool
) -> None:
    stopped = {"RBD_CSI_FAILPOINTS": "images.flatten:before=stop"}
    one: DriverProcess = start_driver("--controller", clusters=ceph_dev.config_json, environment=stopped)
    two = start_driver("--controller", clusters=ceph_dev.config_json, node_id="node-2")
    calls = Calls(two.rpc, ceph_dev.secrets("provisioner"))
    pausing = Calls(one.rpc, calls.secrets)
    source = create_source(pausing, ceph_dev)
    copy = pausing.create("copy", 0, source=source, parameters=ALWAYS)
    one.await_pause()
    assert calls.create("copy", 0, source=source, parameters=ALWAYS) == copy
    assert queue_of(pool).entries(), "the lease of the paused one is respected"
    await_flat(pool, copy)
    assert "flatten begins" in two.log_text()
    one.resume()
    assert image_data.read(ceph_dev, image_of(copy), 4) == b"data"
    assert pausing.create("copy", 0, source=source, parameters=ALWAYS) == copy
    for volume in (source, copy):
        calls.delete_until_done(volume.volume_id)
