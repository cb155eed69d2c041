"""A pool of a real Ceph as the histories see it: data and clients past the driver, and what is left in the end."""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import rados
import rbd

from csi_driver.ceph.api import ImageMissing, Pool
from csi_driver.dev.inventory import Place, inventory, trim
from csi_driver.dev.layout import DevCeph
from csi_driver.operations.site import PoolKey
from tests.histories.replica import Replica
from tests.simulation.model import Content

_POOL = "rbd"
_AT_MOST_S = 20.0


class RealWorld:
    """`World` of the pool `rbd`. A block is an object; its value stands in its first byte."""

    block_bytes = 4 << 20
    kms = None

    def __init__(self, ceph: DevCeph, pool: Pool, start: Callable[[], Replica]) -> None:
        self.pool = pool
        self.key = PoolKey("dev", None, pool.pool_id)
        self.machine = start
        self._ceph = ceph
        self._stack = ExitStack()
        cluster = self._stack.enter_context(rados.Rados(conffile=str(ceph.conf)))
        self._ioctx = self._stack.enter_context(cluster.open_ioctx(_POOL))
        self._attached: dict[str, rbd.Image] = {}
        self._before = inventory(ceph, Place(_POOL))

    def close(self) -> None:
        for image in list(self._attached):
            self.detach(image)
        self._stack.close()

    @contextmanager
    def _opened(self, image: str) -> Iterator[rbd.Image]:
        """For writing. A client that has it open is the one that writes."""
        if attached := self._attached.get(image):
            yield attached
            attached.flush()
            return
        with rbd.Image(self._ioctx, image) as opened:
            yield opened

    def write(self, image: str, block: int, value: int) -> None:
        with self._opened(image) as opened:
            opened.write(bytes([value]), block * self.block_bytes)

    def read(self, image: str, snap: str = "") -> Content:
        """Raises ImageMissing."""
        try:
            with rbd.Image(self._ioctx, image, snapshot=snap or None, read_only=True) as opened:
                blocks = range(opened.size() // self.block_bytes)
                return tuple(opened.read(block * self.block_bytes, 1)[0] for block in blocks)
        except rbd.Error as error:
            if error.errno == errno.ENOENT:
                raise ImageMissing(f"{image}@{snap}") from error
            raise

    def attach(self, image: str) -> None:
        self._attached[image] = rbd.Image(self._ioctx, image)

    def detach(self, image: str) -> None:
        self._attached.pop(image).close()

    def wait(self, seconds: float) -> None:
        """The drivers work while the history looks at the pool. A long wait ends when nothing is left to wait for."""
        deadline = time.monotonic() + (_AT_MOST_S if seconds > 1 else 0)
        while time.monotonic() < deadline and (left := self.leftovers()):
            trim(self._ceph, left)
            time.sleep(0.1)

    def leftovers(self) -> list[str]:
        return sorted(inventory(self._ceph, Place(_POOL)) - self._before)

    def unexplained(self) -> list[str]:
        """Nothing: the drivers go on while one looks. What nobody knows of stands in the inventory at the end."""
        return []
