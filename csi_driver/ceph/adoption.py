"""Clones made past librbd, of snaps that its bindings cannot name: those of groups, before Ceph 20.2."""

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from csi_driver.ceph.api import ImageMissing, ObjectMissing, ParentSnap
from csi_driver.ceph.encoding import packed, versioned
from csi_driver.tracing import step


class Headers(Protocol):
    """Header objects of one pool and namespace."""

    def execute(self, name: str, cls: str, method: str, payload: bytes) -> None:
        """A class call that writes. Raises ObjectMissing."""


Elsewhere = Callable[[int, str], AbstractContextManager[Headers]]


class Adoption:
    """Makes new images clones."""

    def __init__(self, pool_id: int, namespace: str, elsewhere: Elsewhere) -> None:
        """pool_id, namespace: of the new images."""
        self._pool_id = pool_id
        self._namespace = namespace
        self._elsewhere = elsewhere

    def adopt(self, image_id: str, parent: ParentSnap, size_bytes: int) -> None:
        """Make a new image, which nobody has open, a clone of a snap, by the three calls that librbd's own clone makes.

        In its order: the child names its parent, then the parent lists the child, which it refuses for a snap that is gone
        (Ceph: librbd/image/CloneRequest.cc; cls_rbd: parent_attach, op_features_set, child_attach). What is cut short in
        between is half made as a clone of librbd's is. Raises ImageMissing.
        """
        names_parent = struct.pack("<q", parent.pool_id) + packed(parent.namespace) + packed(parent.image_id)
        names_parent = versioned(1, names_parent + struct.pack("<Q", parent.snap_id))
        names_child = versioned(2, struct.pack("<q", self._pool_id) + packed(image_id) + packed(self._namespace))
        with step("images.adopt", image_id):
            try:
                with self._elsewhere(self._pool_id, self._namespace) as headers:
                    header = f"rbd_header.{image_id}"
                    headers.execute(header, "rbd", "parent_attach", names_parent + struct.pack("<QB", size_bytes, 0))
                    headers.execute(header, "rbd", "op_features_set", struct.pack("<QQ", _CLONE_CHILD, _CLONE_CHILD))
                with self._elsewhere(parent.pool_id, parent.namespace) as headers:
                    snap = struct.pack("<Q", parent.snap_id)
                    headers.execute(f"rbd_header.{parent.image_id}", "rbd", "child_attach", snap + names_child)
            except ObjectMissing as error:
                raise ImageMissing(f"image {parent.image_id} or its snap {parent.snap_id}") from error


_CLONE_CHILD = 2  # RBD_OPERATION_FEATURE_CLONE_CHILD
