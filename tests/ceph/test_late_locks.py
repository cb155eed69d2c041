"""A lock of an image that arrives when the image is gone (docs/decisions/0040)."""

import rados

from csi_driver.ceph.api import Pool, Write
from csi_driver.model import ImageLayout

LOCKED = ImageLayout(("layering", "exclusive-lock"))


def test_a_late_lock_makes_the_header_anew(bare: rados.Ioctx, pool: Pool, image: str) -> None:
    """A fact that the fence of purges rests on; where it does not hold any more, the fence does no harm.

    The class call alone: librbd, which sends it, may notice before it that its watch is gone, and then waits for ever.
    """
    header = f"rbd_header.{pool.images.create(image, 4 << 20, LOCKED)}"
    pool.images.remove(image)
    assert header not in set(pool.objects.names())
    bare.lock_exclusive(header, "rbd_lock", "auto 1")  # Ceph: librbd/managed_lock/AcquireRequest.cc
    made = header in set(pool.objects.names())
    pool.objects.apply(header, Write(remove_object=True))
    assert made
