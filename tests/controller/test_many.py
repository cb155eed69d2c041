"""Many snapshots of one volume."""

import random
from functools import partial

import pytest

from csi_driver.ceph.api import Pool
from csi_driver.dev.layout import DevCeph
from tests import image_data
from tests.controller.calls import Calls
from tests.controller.test_copies import image_of

pytestmark = pytest.mark.usefixtures("clean_pool")

MIB = 1 << 20
SNAPSHOTS = 300
RESTORES = 20


def test_300_snapshots_are_restored_from_and_deleted_in_any_order(calls: Calls, ceph_dev: DevCeph, pool: Pool) -> None:
    seed = random.randrange(1 << 32)
    print(f"\nseed {seed}")  # noqa: T201 - the test's report
    chance = random.Random(seed)
    source = calls.create("source", 8 * MIB)
    written, snapshots = [], []
    for number in range(SNAPSHOTS):
        if number % 10 == 0:
            written.append(f"{number:08}".encode())
            image_data.write(ceph_dev, image_of(source), written[-1])
        snapshots.append((calls.snapshot(f"snap-{number}", source.volume_id), written[-1]))
    assert len(pool.images.inspect(image_of(source)).snaps) == SNAPSHOTS
    restored = []
    for number, (snapshot, data) in enumerate(chance.sample(snapshots, RESTORES)):
        restored.append(calls.create(f"restored-{number}", 0, source=snapshot))
        assert image_data.read(ceph_dev, image_of(restored[-1]), 8) == data
    deletes = [partial(calls.delete_snapshot_until_done, snapshot.snapshot_id) for snapshot, _ in snapshots]
    deletes += [partial(calls.delete_until_done, volume.volume_id) for volume in (source, *restored)]
    chance.shuffle(deletes)
    for delete in deletes:
        delete()
