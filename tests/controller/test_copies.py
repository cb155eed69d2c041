"""Snapshots, restores and clones: what they read, and that everything can be deleted in any order."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import pytest

from csi_driver.ceph.api import Pool, SnapKind
from csi_driver.dev.inventory import Place, leftovers
from csi_driver.dev.layout import DevCeph
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.client import Refusal
from tests.controller.calls import Calls, handle_parts
from tests.image_client import ImageClient
from tests.rpc.valid_requests import GIB

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB = 1 << 20


def image_of(volume: pb.Volume) -> str:
    return volume.volume_context["imageName"]


def test_a_snapshot_is_a_snap_on_its_source_and_says_its_time_and_size(calls: Calls, pool: Pool) -> None:
    volume = calls.create("source", GIB)
    before = time.time()
    snapshot = calls.snapshot("snap", volume.volume_id)
    assert calls.snapshot("snap", volume.volume_id) == snapshot
    assert (snapshot.size_bytes, snapshot.source_volume_id, snapshot.ready_to_use) == (GIB, volume.volume_id, True)
    assert abs(snapshot.creation_time.seconds - before) < 5
    (snap,) = pool.images.inspect(image_of(volume)).snaps
    uuid = handle_parts(snapshot.snapshot_id)[2]
    assert (snap.name, snap.kind) == (f"csi-snap-{uuid}", SnapKind.USER)
    keys = pool.objects.read(f"csi.snap.{uuid}") or {}
    assert keys["csi.source"] == image_of(volume)
    assert "csi.imagename" not in keys, "the Go driver would delete the image that stands there"
    assert calls.delete_snapshot(snapshot.snapshot_id) is None
    assert calls.delete_snapshot(snapshot.snapshot_id) is None
    assert pool.images.inspect(image_of(volume)).snaps == ()
    calls.delete_until_done(volume.volume_id)


def test_a_copy_reads_what_its_source_read_at_the_cut(calls: Calls, ceph_dev: DevCeph) -> None:
    """Whatever is written to the source or to other copies later, and whatever is deleted around it."""
    source = calls.create("source", GIB)
    image_data.write(ceph_dev, image_of(source), b"first")
    snapshot = calls.snapshot("snap", source.volume_id)
    image_data.write(ceph_dev, image_of(source), b"later")
    clone = calls.create("clone", 0, source=source)
    restored = calls.create("restored", 2 * GIB, source=snapshot)
    assert restored.content_source.snapshot.snapshot_id == snapshot.snapshot_id
    assert clone.content_source.volume.volume_id == source.volume_id
    assert (clone.capacity_bytes, restored.capacity_bytes) == (GIB, 2 * GIB)
    image_data.write(ceph_dev, image_of(clone), b"other", MIB)
    calls.delete_until_done(source.volume_id)
    late = calls.create("late", 0, source=snapshot)
    assert calls.delete_snapshot(snapshot.snapshot_id) is None
    assert image_data.read(ceph_dev, image_of(restored), 5) == b"first"
    assert image_data.read(ceph_dev, image_of(late), 5) == b"first"
    assert image_data.read(ceph_dev, image_of(clone), 5) == b"later"
    assert image_data.read(ceph_dev, image_of(late), 5, MIB) == bytes(5)
    for volume in (restored, late, clone):
        calls.delete_until_done(volume.volume_id)


def test_copies_go_to_other_pools_and_layouts(calls: Calls, ceph_dev: DevCeph) -> None:
    source = calls.create("source", GIB)
    image_data.write(ceph_dev, image_of(source), b"data")
    snapshot = calls.snapshot("snap", source.volume_id)
    other = calls.create("other", 0, source=snapshot, parameters={"pool": "second"})
    data = calls.create("data", 0, source=source, parameters={"dataPool": "data", "imageFeatures": "layering"})
    assert image_data.read(ceph_dev, image_of(other), 4, pool="second") == b"data"
    assert image_data.read(ceph_dev, image_of(data), 4) == b"data"
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in (source, other, data):
        calls.delete_until_done(volume.volume_id)
    assert leftovers(ceph_dev, Place("second")) == frozenset()


@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (lambda calls, snapshot: calls.create("s", GIB // 2, source=snapshot), "OUT_OF_RANGE", "source"),
        (lambda calls, snapshot: calls.create("s", 0, limit_bytes=MIB, source=snapshot), "OUT_OF_RANGE", "limit_bytes"),
        (lambda calls, _: calls.create("s", source=pb.Snapshot(snapshot_id="nothing")), "NOT_FOUND", "snapshot"),
        (lambda calls, _: calls.create("s", source=pb.Volume(volume_id="nothing")), "NOT_FOUND", "volume"),
        (lambda calls, _: calls.snapshot("s", "nothing"), "NOT_FOUND", "volume"),
        (
            lambda calls, snapshot: calls.create("s", source=pb.Volume(volume_id=snapshot.snapshot_id)),
            "NOT_FOUND",
            "volume",
        ),
    ],
)
def test_a_source_that_cannot_serve_is_refused_and_nothing_is_left(
    calls: Calls, make: Callable[[Calls, pb.Snapshot], object], code: str, said: str
) -> None:
    source = calls.create("source", GIB)
    snapshot = calls.snapshot("snap", source.volume_id)
    with pytest.raises(grpc.RpcError) as refused:
        make(calls, snapshot)
    assert refused.value.code().name == code
    assert said in (refused.value.details() or "")
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(source.volume_id)


def test_a_snapshot_name_taken_by_another_source_is_a_conflict(calls: Calls) -> None:
    one, two = calls.create("one", GIB), calls.create("two", GIB)
    snapshot = calls.snapshot("snap", one.volume_id)
    answer = calls.try_snapshot("snap", two.volume_id)
    assert isinstance(answer, Refusal)
    assert answer.code is grpc.StatusCode.ALREADY_EXISTS
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in (one, two):
        calls.delete_until_done(volume.volume_id)


@pytest.fixture
def parallel() -> int:
    """How many restores, and how many clones, are asked for at once."""
    return 32


def test_restores_and_clones_at_once_all_succeed_without_aborted(
    calls: Calls, ceph_dev: DevCeph, pool: Pool, parallel: int
) -> None:
    source = calls.create("source", GIB)
    image_data.write(ceph_dev, image_of(source), b"parallel")
    snapshot = calls.snapshot("snap", source.volume_id)
    with ThreadPoolExecutor(2 * parallel) as threads:
        copies = list(
            threads.map(
                lambda n: calls.create(f"copy-{n}", 0, source=snapshot if n % 2 else source), range(2 * parallel)
            )
        )
    assert len({copy.volume_id for copy in copies}) == 2 * parallel
    depths = {(pool.objects.read(f"csi.volume.{handle_parts(copy.volume_id)[2]}") or {})["depth"] for copy in copies}
    assert depths == {"1"}
    for copy in random.sample(copies, min(8, len(copies))):
        assert image_data.read(ceph_dev, image_of(copy), 8) == b"parallel"
    calls.delete_until_done(source.volume_id)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda copy: calls.delete_until_done(copy.volume_id), copies))
    calls.delete_snapshot_until_done(snapshot.snapshot_id)


@dataclass
class Family:
    """Volumes and snapshots that descend from each other, with what each must read at its start."""

    calls: Calls
    ceph: DevCeph
    chance: random.Random
    volumes: dict[str, tuple[pb.Volume, bytes]] = field(default_factory=dict)
    snapshots: dict[str, tuple[pb.Snapshot, bytes]] = field(default_factory=dict)

    def add(self, name: str) -> None:
        self.volumes[name] = self.calls.create(name, 8 * MIB), bytes(8)

    def snapshot(self, name: str) -> None:
        volume, data = self.volumes[self.chance.choice(list(self.volumes))]
        self.snapshots[name] = self.calls.snapshot(name, volume.volume_id), data

    def restore(self, name: str) -> None:
        snapshot, data = self.snapshots[self.chance.choice(list(self.snapshots))]
        self.volumes[name] = self.calls.create(name, 0, source=snapshot), data

    def clone(self, name: str) -> None:
        volume, data = self.volumes[self.chance.choice(list(self.volumes))]
        self.volumes[name] = self.calls.create(name, 0, source=volume), data

    def write(self, name: str) -> None:
        chosen = self.chance.choice(list(self.volumes))
        volume, data = self.volumes[chosen][0], name[-8:].rjust(8).encode()
        image_data.write(self.ceph, image_of(volume), data)
        self.volumes[chosen] = volume, data

    def delete(self, _name: str) -> None:
        self.calls.delete_until_done(self.volumes.pop(self.chance.choice(list(self.volumes)))[0].volume_id)

    def delete_snapshot(self, _name: str) -> None:
        chosen = self.chance.choice(list(self.snapshots))
        self.calls.delete_snapshot_until_done(self.snapshots.pop(chosen)[0].snapshot_id)

    def check(self) -> None:
        for volume, data in self.volumes.values():
            assert image_data.read(self.ceph, image_of(volume), 8) == data


def test_a_random_family_is_deleted_in_random_order(calls: Calls, ceph_dev: DevCeph) -> None:
    """Volumes, snapshots of them and copies of both, deleted in any order, while the others go on reading right."""
    seed = random.randrange(1 << 32)
    print(f"\nseed {seed}")  # noqa: T201 - the test's report
    family = Family(calls, ceph_dev, random.Random(seed))
    for number in range(60):
        if not family.volumes:
            family.add(f"family-root-{number}")
        steps = [family.snapshot, family.clone, family.write, family.delete]
        steps += [family.restore, family.restore, family.delete_snapshot] if family.snapshots else []
        family.chance.choice(steps)(f"family-{number}")
        family.check()
    ends = [family.delete] * len(family.volumes) + [family.delete_snapshot] * len(family.snapshots)
    family.chance.shuffle(ends)
    for end in ends:
        end("")
        family.check()


def test_a_snapshot_outlives_its_volume_and_its_data_goes_with_the_last(
    calls: Calls, ceph_dev: DevCeph, pool: Pool
) -> None:
    """A deleted volume with snapshots keeps its image, shrunk; it is no volume for any call."""
    volume = calls.create("source", 64 * MIB)
    image_data.write(ceph_dev, image_of(volume), b"kept")
    one, two = calls.snapshot("one", volume.volume_id), calls.snapshot("two", volume.volume_id)
    assert calls.delete(volume.volume_id) is None
    assert calls.delete(volume.volume_id) is None
    assert isinstance(calls.try_snapshot("three", volume.volume_id), Refusal)
    assert isinstance(calls.expand(volume.volume_id, GIB), Refusal)
    again = calls.create("source", 64 * MIB)
    assert again.volume_id != volume.volume_id, "the name is free"
    calls.delete_snapshot_until_done(one.snapshot_id)
    deadline = time.monotonic() + 30
    while pool.images.inspect(image_of(volume)).size_bytes != 1:
        assert time.monotonic() < deadline, "the tombstone was not shrunk"
        time.sleep(0.05)
    restored = calls.create("restored", 0, source=two)
    assert restored.capacity_bytes == 64 * MIB
    assert image_data.read(ceph_dev, image_of(restored), 4) == b"kept"
    calls.delete_snapshot_until_done(two.snapshot_id)
    for left in (again, restored):
        calls.delete_until_done(left.volume_id)


def test_a_volume_that_a_client_writes_to_is_snapshotted_cloned_and_grown(calls: Calls, ceph_dev: DevCeph) -> None:
    """The client has the image's exclusive lock and keeps its image open; nothing waits for it or takes it away."""
    source = calls.create("source", 64 * MIB)
    with ImageClient(ceph_dev, image_of(source)):
        snapshot = calls.snapshot("snap", source.volume_id)
        clone = calls.create("clone", 0, source=source)
        restored = calls.create("restored", 0, source=snapshot)
        assert calls.expand(source.volume_id, 128 * MIB) == 128 * MIB
    for copy in (clone, restored):
        assert image_data.read(ceph_dev, image_of(copy), 4) == b"held"
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    for volume in (source, clone, restored):
        calls.delete_until_done(volume.volume_id)
