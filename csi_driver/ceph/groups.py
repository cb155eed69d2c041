"""RBD groups.

A group's snap is one snap on each member, of a namespace of its own: cut while librbd holds the members' locks, so that no
write falls between two of them. It lives on when its image leaves the group.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import rbd

from csi_driver.ceph.api import ImageBusy, ImageMissing, Pool
from csi_driver.ceph.image_place import Place, PlainObjects, Translate
from csi_driver.ceph.image_trashing import GROUP_KEY
from csi_driver.tracing import step


@dataclass(frozen=True)
class _Membership:
    group: str
    pool_id: int

    def __str__(self) -> str:
        return f"{self.group} in the pool with id {self.pool_id}"


class RbdGroups:
    """`Groups` of one place."""

    def __init__(self, place: Place, objects: PlainObjects, translate: Translate) -> None:
        self._place = place
        self._ioctx = place.ioctx
        self._pool_id = place.pool_id
        self._objects = objects
        self._translate = translate
        self._rbd = rbd.RBD()

    def create(self, group: str) -> None:
        place = self._place
        with self._doing("groups.create", group), place.making_turn(), place.making() as ioctx, _fine(errno.EEXIST):
            self._rbd.group_create(ioctx, group)

    def add(self, group: str, pool: Pool, image: str) -> None:
        with self._doing("groups.add", f"{group} {image}"):
            try:
                # Looked at first: librbd would enter another group's member in this group's list, and then refuse it.
                with rbd.Image(pool.images.raw, image, read_only=True) as opened:
                    found = _membership(opened)
                if found is None:
                    rbd.Group(self._ioctx, group).add_image(pool.images.raw, image)
            except rbd.Error as error:
                if error.errno == errno.ENOENT:
                    raise ImageMissing(image) from error
                if error.errno == errno.EEXIST:
                    raise ImageBusy(f"image {image} was put into another group just now") from error
                raise
        if found not in (None, _Membership(group, self._pool_id)):
            raise ImageBusy(f"image {image} is in another group: {found}")

    def take_out(self, group: str, pool: Pool, image: str) -> None:
        with self._doing("groups.take_out", f"{group} {image}"), _fine(errno.ENOENT, errno.EINVAL, errno.EBADF):
            rbd.Group(self._ioctx, group).remove_image(pool.images.raw, image)

    def leave(self, image: str, image_id: str) -> None:
        if self._objects.read_key(f"rbd_header.{image_id}", GROUP_KEY) is None:
            return
        with self._doing("groups.leave", image), _fine(errno.ENOENT):
            with rbd.Image(self._ioctx, image, read_only=True) as opened:
                found = _membership(opened)
            if found is None:
                return
            if found.pool_id == self._pool_id:
                rbd.Group(self._ioctx, found.group).remove_image(self._ioctx, image)
                return
        raise ImageBusy(f"image {image} is in the group {found.group} of the pool with id {found.pool_id}")

    def cut(self, group: str, snap: str) -> None:
        with self._doing("groups.cut", f"{group}@{snap}"):
            rbd.Group(self._ioctx, group).create_snap(snap)

    def has_snap(self, group: str, snap: str) -> bool | None:
        # The bindings of Ceph 20.2 abort when they are asked for the snaps of a group that is not there.
        if self._objects.read_key("rbd_group_directory", f"name_{group}") is None:
            return None
        with self._doing("groups.has_snap", f"{group}@{snap}"):
            try:
                states = {one["name"]: one["state"] for one in rbd.Group(self._ioctx, group).list_snaps()}
            except rbd.Error as error:
                if error.errno == errno.ENOENT:
                    return None
                raise
        return states[snap] == _COMPLETE if snap in states else None

    def remove_snap(self, group: str, snap: str) -> None:
        with self._doing("groups.remove_snap", f"{group}@{snap}"), _fine(errno.ENOENT):
            rbd.Group(self._ioctx, group).remove_snap(snap)

    def list_names(self) -> list[str]:
        with self._doing("groups.list_names", ""):
            return list(self._rbd.group_list(self._ioctx))

    def remove(self, group: str) -> None:
        with self._doing("groups.remove", group), _fine(errno.ENOENT):
            try:
                self._rbd.group_remove(self._ioctx, group)
            except rbd.Error as error:
                if error.errno == errno.EBADF:  # another group has what was half put into this one
                    raise ImageBusy(f"an image of group {group} is in another group") from error
                raise

    @contextmanager
    def _doing(self, what: str, name: str) -> Iterator[None]:
        with step(what, name), self._translate(f"{what} {name}"):
            yield


_COMPLETE = 1  # RBD_GROUP_SNAP_STATE_COMPLETE


@contextmanager
def _fine(*numbers: int) -> Iterator[None]:
    """What says that it was done before."""
    try:
        yield
    except rbd.Error as error:
        if error.errno not in numbers:
            raise


def _membership(image: rbd.Image) -> _Membership | None:
    found = image.group()
    return _Membership(found["name"], found["pool"]) if found["name"] else None
