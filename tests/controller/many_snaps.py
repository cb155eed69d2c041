"""Limits of snapshots on one image: the copies whose snaps fill it up are flattened before it is full.

Named by `make soak`, and not collected with the rest of the tests: it cuts some 450 snaps.
"""

import grpc
import pytest

from csi_driver.ceph.api import Pool, SnapKind
from csi_driver.dev.layout import DevCeph
from csi_driver.operations.origin import MOST_SNAPS
from csi_driver.operations.relief import QUEUED_AT_ONCE, RELIEF_AT
from csi_driver.pb import csi_pb2 as pb
from tests import image_data
from tests.client import Refusal
from tests.controller.calls import Calls
from tests.controller.test_flatten import await_true, image_of, queue_of

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB = 1 << 20
_COPIES = 12
_SOMEBODY_S = "somebody-s-{}"


def kinds(pool: Pool, volume: pb.Volume) -> list[SnapKind]:
    return [snap.kind for snap in pool.images.inspect(image_of(volume)).snaps]


def cut_somebody_s(ceph: DevCeph, volume: pb.Volume, numbers: range) -> None:
    """Snaps that nobody made through the driver; librbd makes one in some milliseconds."""
    with image_data.opened(ceph, image_of(volume)) as image:
        for number in numbers:
            image.create_snap(_SOMEBODY_S.format(number))


def remove_somebody_s(ceph: DevCeph, volume: pb.Volume) -> None:
    with image_data.opened(ceph, image_of(volume)) as image:
        for snap in list(image.list_snaps()):
            if snap["name"].startswith("somebody"):
                image.remove_snap(snap["name"])


def test_copies_of_an_image_with_many_snaps_are_flattened_and_a_full_one_says_so(
    calls: Calls, ceph_dev: DevCeph, pool: Pool
) -> None:
    """Snaps that only copies need go until there is room; at the limit a cut is refused until some are removed."""
    source = calls.create("source", 8 * MIB)
    image_data.write(ceph_dev, image_of(source), b"data")
    cut_somebody_s(ceph_dev, source, range(RELIEF_AT - _COPIES))
    copies = [calls.create(f"copy-{number}", 0, source=source) for number in range(_COPIES)]
    last = calls.create("copy-last", 0, source=source)
    await_true(lambda: not queue_of(pool).entries() and len(kinds(pool, source)) < RELIEF_AT, "there is room again")
    flat = [not pool.images.inspect(image_of(copy)).has_parent for copy in (*copies, last)]
    assert flat == sorted(flat, reverse=True)  # those of the oldest snaps first
    assert sum(flat) >= QUEUED_AT_ONCE
    cut_somebody_s(
        ceph_dev, source, range(RELIEF_AT, RELIEF_AT + MOST_SNAPS - kinds(pool, source).count(SnapKind.USER))
    )
    for refused in (calls.try_snapshot("snap", source.volume_id), calls.try_create("more", 0, source=source)):
        assert isinstance(refused, Refusal)
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"{MOST_SNAPS} snapshots" in refused.message
    remove_somebody_s(ceph_dev, source)
    snapshot = calls.snapshot("snap", source.volume_id)
    assert kinds(pool, source).count(SnapKind.USER) == 1
    for copy in (*copies, last):
        assert image_data.read(ceph_dev, image_of(copy), 4) == b"data"
        calls.delete_until_done(copy.volume_id)
    calls.delete_snapshot_until_done(snapshot.snapshot_id)
    calls.delete_until_done(source.volume_id)
