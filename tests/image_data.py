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
