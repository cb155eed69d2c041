"""What a snap holds, and what differs between two: the contract of `Images.changed`, as far as it needs no data."""

import pytest

from csi_driver.ceph.api import Extents, ImageMissing, Pool
from csi_driver.model import ImageLayout
from tests.ceph.conftest import SNAP

MIB = 1 << 20
NO_SNAP = 1 << 40


@pytest.fixture
def image_id(pool: Pool, image: str) -> str:
    pool.images.create(image, 8 * MIB, ImageLayout(("layering", "exclusive-lock", "object-map", "fast-diff")))
    found = pool.images.find_id(image)
    assert found
    return found


def test_an_empty_snap_holds_nothing_and_differs_in_nothing(pool: Pool, image_id: str) -> None:
    first, second = (pool.images.cut(image_id, name, most=9).snap_id for name in (SNAP, f"{SNAP}-2"))
    for base in (None, first):
        for start in (0, 5 * MIB, 8 * MIB):
            found, at = list[object](), start
            while isinstance(looked := pool.images.changed(image_id, second, base, start=at), Extents):
                found += looked.found
                if looked.next_start is None:
                    break
                assert looked.next_start > at
                at = looked.next_start
            assert found == []


def test_a_snap_that_is_gone_is_missing(pool: Pool, image_id: str) -> None:
    snap_id = pool.images.cut(image_id, SNAP, most=9).snap_id
    for target, base in ((NO_SNAP, None), (snap_id, NO_SNAP)):
        with pytest.raises(ImageMissing):
            pool.images.changed(image_id, target, base, start=0)
    with pytest.raises(ImageMissing):
        pool.images.changed("none", snap_id, None, start=0)
