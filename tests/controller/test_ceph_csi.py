"""What the Go driver has left in a pool: its volumes and snapshots are used and deleted in place.

The fixtures are planted in its layout: a snapshot is an image with one snap of the same name, cloned of the source.
"""

import uuid

import grpc
import pytest

from csi_driver.ceph.api import CloneSource, Create, Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.model import ImageLayout
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.client import Refusal
from tests.controller.calls import Calls, handle_parts
from tests.controller.test_copies import image_of
from tests.rpc.valid_requests import GIB

pytestmark = pytest.mark.usefixtures("clean_pool")

LAYERING = ImageLayout(("layering",))


def plant_ceph_csi_volume(pool: Pool, name: str, *, with_image: bool = True, with_id: bool = True) -> str:
    """A volume as the Go driver leaves it: its uuid."""
    volume_uuid = str(uuid.uuid4())
    keys = {"csi.volname": name, "csi.imagename": f"csi-vol-{volume_uuid}", "csi.volume.owner": "shop"}
    pool.objects.apply("csi.volumes.default", Write(create=Create.ENSURE, put={f"csi.volume.{name}": volume_uuid}))
    if with_image:
        pool.images.create(f"csi-vol-{volume_uuid}", GIB, LAYERING)
        if with_id:
            keys["csi.imageid"] = pool.images.find_id(f"csi-vol-{volume_uuid}") or ""
    pool.objects.apply(f"csi.volume.{volume_uuid}", Write(create=Create.EXCLUSIVE, put=keys))
    return volume_uuid


@pytest.mark.parametrize("with_id", [True, False])
def test_a_volume_of_ceph_csi_is_found_grown_and_deleted(calls: Calls, pool: Pool, with_id: bool) -> None:
    """Its handle is the one that the Go driver gave; an entry of an early release has no image id."""
    volume_uuid = plant_ceph_csi_volume(pool, "theirs", with_id=with_id)
    made = calls.create("theirs", GIB)
    assert handle_parts(made.volume_id)[2] == volume_uuid
    assert calls.expand(made.volume_id, 2 * GIB) == 2 * GIB
    assert calls.delete(made.volume_id) is None


def test_what_ceph_csi_never_finished_is_made_anew(calls: Calls, pool: Pool) -> None:
    volume_uuid = plant_ceph_csi_volume(pool, "unfinished", with_image=False)
    made = calls.create("unfinished", GIB)
    assert handle_parts(made.volume_id)[2] == volume_uuid
    assert pool.images.inspect(f"csi-vol-{volume_uuid}").size_bytes == GIB
    assert calls.delete(made.volume_id) is None


def plant_ceph_csi_snapshot(pool: Pool, name: str, source: str) -> str:
    """A snapshot of the image `source` as the Go driver leaves it: its uuid."""
    snap_uuid = str(uuid.uuid4())
    image = f"csi-snap-{snap_uuid}"
    source_id = pool.images.find_id(source) or ""
    pool.images.cut(source_id, image, most=9)
    pool.images.clone(CloneSource(pool, source, image), image, LAYERING)
    pool.images.remove_snap(source_id, image)
    image_id = pool.images.find_id(image) or ""
    pool.images.cut(image_id, image, most=9)
    pool.objects.apply("csi.snaps.default", Write(create=Create.ENSURE, put={f"csi.snap.{name}": snap_uuid}))
    keys = {"csi.snapname": name, "csi.source": source, "csi.imagename": image, "csi.imageid": image_id}
    pool.objects.apply(f"csi.snap.{snap_uuid}", Write(create=Create.EXCLUSIVE, put=keys))
    return snap_uuid


def test_a_snapshot_of_ceph_csi_is_found_restored_and_deleted(calls: Calls, pool: Pool, ceph_dev: DevCeph) -> None:
    """It reads what its source read, also when the source and the snapshot itself are deleted before the copy."""
    source_uuid = plant_ceph_csi_volume(pool, "theirs")
    image_data.write(ceph_dev, f"csi-vol-{source_uuid}", b"old data")
    snap_uuid = plant_ceph_csi_snapshot(pool, "their-snap", f"csi-vol-{source_uuid}")
    image_data.write(ceph_dev, f"csi-vol-{source_uuid}", b"new data")
    source = calls.create("theirs", GIB)
    snapshot = calls.snapshot("their-snap", source.volume_id)
    assert handle_parts(snapshot.snapshot_id)[2] == snap_uuid
    assert (snapshot.size_bytes, snapshot.ready_to_use) == (GIB, True)
    assert snapshot.creation_time.seconds > 0
    restored = calls.create("restored", 0, source=snapshot)
    clone = calls.create("clone", 0, source=source)
    calls.delete_until_done(source.volume_id)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    assert image_data.read(ceph_dev, image_of(restored), 8) == b"old data"
    assert image_data.read(ceph_dev, image_of(clone), 8) == b"new data"
    calls.delete_until_done(restored.volume_id)
    calls.delete_until_done(clone.volume_id)


def test_a_snapshot_name_of_ceph_csi_with_another_source_is_a_conflict(calls: Calls, pool: Pool) -> None:
    source_uuid = plant_ceph_csi_volume(pool, "theirs")
    plant_ceph_csi_snapshot(pool, "their-snap", f"csi-vol-{source_uuid}")
    theirs, other = calls.create("theirs", GIB), calls.create("other", GIB)
    answer = calls.try_snapshot("their-snap", other.volume_id)
    assert isinstance(answer, Refusal)
    assert answer.code is grpc.StatusCode.ALREADY_EXISTS
    calls.delete_snapshot_until_done(calls.snapshot("their-snap", theirs.volume_id).snapshot_id)
    for volume in (theirs, other):
        calls.delete_until_done(volume.volume_id)


def test_a_native_snapshot_says_nothing_that_would_make_ceph_csi_delete_its_source(calls: Calls, pool: Pool) -> None:
    """The Go driver deletes the image that csi.imagename, or without it csi-snap-<uuid>, names: there is none."""
    source = calls.create("source", GIB)
    snapshot: pb.Snapshot = calls.snapshot("snap", source.volume_id)
    snap_uuid = handle_parts(snapshot.snapshot_id)[2]
    keys = pool.objects.read(f"csi.snap.{snap_uuid}") or {}
    assert keys.get("csi.imagename") is None
    assert pool.images.find_id(f"csi-snap-{snap_uuid}") is None
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(source.volume_id)
