"""A lock of an image that is asked for when its header is gone (docs/decisions/0040)."""

from contextlib import suppress

import rbd

from csi_driver.ceph.api import Pool, Write
from csi_driver.dev.layout import DevCeph
from csi_driver.model import ImageLayout
from tests import image_data

LOCKED = ImageLayout(("layering", "exclusive-lock"))


def test_a_late_lock_makes_the_header_anew(ceph_dev: DevCeph, pool: Pool, image: str) -> None:
    """A fact that the fence of purges rests on; where it does not hold any more, the fence does no harm."""
    header = f"rbd_header.{pool.images.create(image, 4 << 20, LOCKED)}"
    with image_data.opened(ceph_dev, image) as late:
        pool.objects.apply(header, Write(remove_object=True))
        with suppress(rbd.Error):
            late.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
    made = header in set(pool.objects.names())
    pool.objects.apply(header, Write(remove_object=True))
    pool.images.remove(image)
    assert made
