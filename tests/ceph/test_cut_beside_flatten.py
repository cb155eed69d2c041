"""A snap that is cut while its image is being flattened, on real librbd (docs/decisions/0027)."""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import CloneSource, Pool
from csi_driver.ceph.cluster import RadosClusters, Timeouts
from csi_driver.config import read_clusters
from csi_driver.dev.layout import DevCeph
from csi_driver.model import ImageLayout
from tests import image_data
from tests.ceph.conftest import SNAP

MIB = 1 << 20
_ROUNDS = 12
_LONGEST_S = 0.08
"""A flatten of so small an image takes about as long."""
_DATA = b"of the parent"
_LAYOUT = ImageLayout(("layering", "exclusive-lock"))


@pytest.fixture
def other(ceph_dev: DevCeph, provisioner: Credentials) -> Iterator[Pool]:
    """The pool as another process of the driver has it open."""
    clusters = RadosClusters(lambda: read_clusters(ceph_dev.config_json), Timeouts())
    with clusters.connect("dev", provisioner) as cluster, cluster.pool("rbd") as opened:
        yield opened
    clusters.close()


def test_it_can_be_read_and_keeps_nothing_of_the_parent(ceph_dev: DevCeph, pool: Pool, other: Pool, image: str) -> None:
    """Without deep-flatten, of the only copy of a removed snap: of such snaps six of ten could not be opened any more."""
    chance, clone, images = random.Random(1), f"{image}-clone", pool.images
    for _ in range(_ROUNDS):
        parent_id, clone_id = copied(ceph_dev, pool, image)
        with ThreadPoolExecutor(1) as thread:
            flattened = thread.submit(images.flatten, clone_id, lambda _part: True)
            time.sleep(chance.random() * _LONGEST_S)  # any moment of the flatten
            other.images.cut(clone_id, SNAP, most=1)
            flattened.result()
        with image_data.opened(ceph_dev, clone, read_only=True) as opened:
            opened.set_snap(SNAP)
            assert opened.read(0, len(_DATA)) == _DATA
        info = images.inspect(clone)
        assert (info.has_parent, info.is_pinned, [one.name for one in info.snaps]) == (False, False, [SNAP])
        images.remove_snap(clone_id, SNAP)
        assert images.snap_ids(clone_id) == ()
        assert images.snap_ids(parent_id) == (), "with the last snap of the clone it is free"
        for name in (clone, image):
            images.remove(name)


def test_a_pin_that_was_left_goes_with_the_purge_or_the_next_flatten(ceph_dev: DevCeph, pool: Pool, image: str) -> None:
    clone, images = f"{image}-clone", pool.images
    parent_id, clone_id = copied(ceph_dev, pool, image)
    ends: list[Callable[[], None]] = [
        lambda: images.unpin(clone_id),
        lambda: images.drop_trashed_snaps(clone_id),
        lambda: images.flatten(clone_id, lambda _part: True),
    ]
    for end in ends:
        with image_data.opened(ceph_dev, clone) as opened:
            opened.create_snap("csi-flatten")
        info = images.inspect(clone)
        assert (info.is_pinned, info.has_parent, info.snaps) == (True, True, ())
        assert images.snap_ids(clone_id)
        assert not images.is_snapped(clone_id), "the pin is nobody's snapshot"
        end()
        assert not images.inspect(clone).is_pinned
        assert images.snap_ids(clone_id) == ()
    assert images.snap_ids(parent_id) == ()
    images.unpin(clone_id)


def copied(ceph: DevCeph, pool: Pool, image: str) -> tuple[str, str]:
    """An image and a clone of a snap of it that is removed; their ids."""
    images, clone = pool.images, f"{image}-clone"
    images.create(image, 8 * MIB, _LAYOUT)
    image_data.write(ceph, image, _DATA)
    parent_id = images.find_id(image) or ""
    images.cut(parent_id, SNAP, most=1)
    images.clone(CloneSource(pool, image, SNAP), clone, _LAYOUT)
    images.remove_snap(parent_id, SNAP)
    return parent_id, images.find_id(clone) or ""
