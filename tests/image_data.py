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
        image_id, entry = _move_to_trash(ioctx, image)
        _put_trash_entry(ioctx, image_id, entry[:6] + b"\x03" + entry[7:])  # TRASH_IMAGE_SOURCE_REMOVING


def leave_in_trash(ceph: DevCeph, image: str, pool: str = "rbd") -> str:
    """Nothing but the entry of the trash, of an image that is removed: its id."""
    with rados.Rados(conffile=str(ceph.conf)) as cluster, cluster.open_ioctx(pool) as ioctx:
        image_id, entry = _move_to_trash(ioctx, image)
        rbd.RBD().trash_remove(ioctx, image_id)
        _put_trash_entry(ioctx, image_id, entry)
        return image_id


def _move_to_trash(ioctx: rados.Ioctx, image: str) -> tuple[str, bytes]:
    """Its id, and what stands of it in the trash."""
    with rbd.Image(ioctx, image, read_only=True) as opened_image:
        image_id = opened_image.id()
    rbd.RBD().trash_move(ioctx, image, 0)
    key = f"id_{image_id}"
    read = ioctx.create_read_op()
    found, _ = ioctx.get_omap_vals_by_keys(read, (key,))
    ioctx.operate_read_op(read, "rbd_trash")
    entry = dict(found)[key] or b""
    ioctx.release_read_op(read)
    return image_id, entry


def _put_trash_entry(ioctx: rados.Ioctx, image_id: str, entry: bytes) -> None:
    write = ioctx.create_write_op()
    ioctx.set_omap(write, (f"id_{image_id}",), (entry,))
    ioctx.operate_write_op(write, "rbd_trash")
    ioctx.release_write_op(write)
