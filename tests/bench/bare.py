"""The bare calls: what librbd has to do at the least for each operation, with no driver at all."""

import errno
import time
from typing import Self

import rados
import rbd

from csi_driver.ceph.api import SnapKind
from csi_driver.ceph.image_features import FEATURES
from csi_driver.dev.layout import DevCeph
from csi_driver.rpc.parameters import DEFAULT_FEATURES

_BITS = sum(FEATURES[name] for name in DEFAULT_FEATURES)
_PURGE_S = 120.0


class Bare:
    """One pool, through one connection of the user that the driver has too. Images are named `bare-…`."""

    def __init__(self, ceph: DevCeph, pool: str = "rbd") -> None:
        conf = {"mon_host": ceph.address, "key": ceph.keys["provisioner"], "rbd_default_clone_format": "auto"}
        self._cluster = rados.Rados(rados_id="provisioner", conf=conf)
        self._cluster.connect()
        self._ioctx = self._cluster.open_ioctx(pool)
        self._rbd = rbd.RBD()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ioctx.close()
        self._cluster.shutdown()

    def create(self, name: str, size_bytes: int = 1 << 30) -> None:
        self._rbd.create(self._ioctx, name, size_bytes, old_format=False, features=_BITS)

    def expand(self, name: str, size_bytes: int) -> None:
        with rbd.Image(self._ioctx, name) as image:
            image.resize(size_bytes, allow_shrink=False)

    def snapshot(self, name: str, snap: str) -> None:
        with rbd.Image(self._ioctx, name) as image:
            image.create_snap(snap)

    def restore(self, name: str, snap: str, copy: str) -> None:
        self._rbd.clone(self._ioctx, name, snap, self._ioctx, copy, features=_BITS)

    def clone(self, name: str, copy: str) -> None:
        with rbd.Image(self._ioctx, name) as image:
            image.create_snap(copy)
            self._rbd.clone(self._ioctx, name, copy, self._ioctx, copy, features=_BITS)
            image.remove_snap(copy)

    def delete_snapshot(self, name: str, snap: str) -> None:
        with rbd.Image(self._ioctx, name) as image:
            image.remove_snap(snap)

    def delete(self, name: str) -> None:
        """As safe as a delete can be without a journal: only when nobody has the image open."""
        with rbd.Image(self._ioctx, name, read_only=True) as image:
            assert not list(image.watchers_list())
        self._rbd.trash_move(self._ioctx, name, 0)

    # clearing away, not measured

    def purge(self, prefix: str = "bare-") -> None:
        """What the bare calls have left, of names that begin so, copies before what they were made of."""
        for name in self._rbd.list(self._ioctx):
            if name.startswith(prefix):
                self.delete(name)
        deadline = time.monotonic() + _PURGE_S
        while self._purge_trash():
            assert time.monotonic() < deadline, "bare images stay in the trash"
            time.sleep(0.05)

    def is_trash_empty(self) -> bool:
        return not list(self._rbd.trash_list(self._ioctx))

    def _purge_trash(self) -> int:
        """How many images are left: those that others were cloned of go when these are gone."""
        left = [entry["id"] for entry in self._rbd.trash_list(self._ioctx) if entry["name"].startswith("bare-")]
        purged = 0
        for image_id in left:
            try:
                self._purge_one(image_id)
            except rbd.Error as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise
            else:
                purged += 1
        return len(left) - purged

    def _purge_one(self, image_id: str) -> None:
        with rbd.Image(self._ioctx, image_id=image_id) as image:
            for snap in list(image.list_snaps()):
                if snap["namespace"] == SnapKind.USER.value:
                    image.remove_snap(snap["name"])
        self._rbd.trash_remove(self._ioctx, image_id)
