"""Data in images, written and read as the operator, past the driver."""

from collections.abc import Iterator
from contextlib import contextmanager

import rados
import rbd

from csi_driver.dev.layout import DevCeph


@contextmanager
def opened(ceph: DevCeph, image: str, pool: str = "rbd", *, read_only: bool = False) -> Iterator[rbd.Image]:
    with (
        rados.Rados(conffile=str(ceph.conf)) as cluster,
        cluster.open_ioctx(pool) as ioctx,
        rbd.Image(ioctx, image, read_only=read_only) as image_opened,
    ):
        yield image_opened


def write(ceph: DevCeph, image: str, data: bytes, offset: int = 0, pool: str = "rbd") -> None:
    with opened(ceph, image, pool) as target:
        target.write(data, offset)


def read(ceph: DevCeph, image: str, length: int, offset: int = 0, pool: str = "rbd") -> bytes:
    with opened(ceph, image, pool, read_only=True) as source:
        return source.read(offset, length)


def begin_removal(ceph: DevCeph, image: str, pool: str = "rbd") -> None:
    """The image as librbd's removal has it when it is killed halfway: in the trash, with `removing` as its source."""
    with rados.Rados(conffile=str(ceph.conf)) as cluster, cluster.open_ioctx(pool) as ioctx:
        with rbd.Image(ioctx, image, read_only=True) as opened_image:
            key = f"id_{opened_image.id()}"
        rbd.RBD().trash_move(ioctx, image, 0)
        read = ioctx.create_read_op()
        found, _ = ioctx.get_omap_vals_by_keys(read, (key,))
        ioctx.operate_read_op(read, "rbd_trash")
        spec = bytearray(dict(found)[key] or b"")
        ioctx.release_read_op(read)
        spec[6] = 3  # TRASH_IMAGE_SOURCE_REMOVING
        write = ioctx.create_write_op()
        ioctx.set_omap(write, (key,), (bytes(spec),))
        ioctx.operate_write_op(write, "rbd_trash")
        ioctx.release_write_op(write)
