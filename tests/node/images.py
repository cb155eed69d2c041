"""The images of a bench, and words to the monitors, by librbd and librados in this process.

The programs of Ceph take seconds to start where the processor is emulated, some of them also to end.
"""

import atexit
import functools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rados
import rbd

from csi_driver.dev.layout import DevCeph

_HEARD_S = 60.0


@dataclass(frozen=True)
class PoolImages:
    """Of one pool and namespace, as the operator."""

    ceph: DevCeph
    pool: str
    rados_namespace: str

    def create(self, image: str, size_bytes: int) -> None:
        with self._opened() as ioctx:
            rbd.RBD().create(ioctx, image, size_bytes, old_format=False)

    def remove(self, image: str) -> None:
        with self._opened() as ioctx:
            rbd.RBD().remove(ioctx, image)

    def resize(self, image: str, size_bytes: int) -> None:
        with self._opened() as ioctx, rbd.Image(ioctx, image) as opened:
            opened.resize(size_bytes)

    def watchers(self, image: str) -> list[str]:
        """Addresses of the clients that have it open for writing."""
        with self._opened() as ioctx, rbd.Image(ioctx, image, read_only=True) as opened:
            return [one["addr"] for one in opened.watchers_list()]

    def cut_off(self, image: str) -> None:
        """Its clients go onto the cluster's blocklist. The OSD knows when this returns: it has dropped their watches."""
        for address in self.watchers(image):
            tell_monitors(self.ceph, "osd blocklist", blocklistop="add", addr=address)
        deadline = time.monotonic() + _HEARD_S
        while left := self.watchers(image):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)

    @contextmanager
    def _opened(self) -> Iterator[rados.Ioctx]:
        with _connection(self.ceph.conf).open_ioctx(self.pool) as ioctx:
            ioctx.set_namespace(self.rados_namespace)
            yield ioctx


def tell_monitors(ceph: DevCeph, prefix: str, **words: Any) -> str:
    """A command of the `ceph` tool, in the monitors' own form (`ceph … -f json-pretty --verbose` shows it)."""
    code, answer, said = _connection(ceph.conf).mon_command(json.dumps({"prefix": prefix, **words}), b"")
    assert not code, said
    return answer.decode()


@functools.cache
def _connection(conf: Path) -> rados.Rados:
    """As the operator; it stays until this process ends. To connect takes seconds as well."""
    connection = rados.Rados(conffile=str(conf))
    connection.connect()
    atexit.register(connection.shutdown)
    return connection
