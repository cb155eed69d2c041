"""Clones made past librbd: a new image is made the child of a snap, of any kind."""

import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from csi_driver.ceph.api import ImageMissing, ObjectMissing, ParentSnap
from csi_driver.ceph.class_writes import ClassWrite
from csi_driver.ceph.encoding import packed, versioned
from csi_driver.ceph.image_metadata import PREFIX
from csi_driver.tracing import step

_HEAD = 2**64 - 2  # CEPH_NOSNAP
_CLONE_CHILD = 2  # RBD_OPERATION_FEATURE_CLONE_CHILD
_LAYERING = 1  # RBD_FEATURE_LAYERING
_PAGE = 1000


class Headers(Protocol):
    """Header objects of one pool and namespace, through a handle that gives no write up (docs/decisions/0034)."""

    def ask(self, name: str, cls: str, method: str, payload: bytes) -> bytes | None:
        """What a class call that reads answers; None when there is no such object."""

    def list_page(self, name: str, *, prefix: str, after: str, limit: int) -> list[tuple[str, str]]:
        """Keys of an object."""

    def write_classes(self, writes: Sequence[ClassWrite]) -> list[Exception | None]:
        """Side by side, each atomic; what came of each."""


Elsewhere = Callable[[int, str], AbstractContextManager[Headers]]


class Adoption:
    """Makes new images clones."""

    def __init__(self, pool_id: int, namespace: str, elsewhere: Elsewhere) -> None:
        """pool_id, namespace: of the new images."""
        self._pool_id = pool_id
        self._namespace = namespace
        self._elsewhere = elsewhere

    def has_layering(self, parent: ParentSnap) -> bool:
        """Whether the parent's image may have clones. Raises ImageMissing."""
        with self._elsewhere(parent.pool_id, parent.namespace) as headers:
            raw = headers.ask(_header(parent.image_id), "rbd", "get_features", struct.pack("<QB", _HEAD, 1))
        if raw is None:
            raise ImageMissing(f"image {parent.image_id}")
        return bool(struct.unpack_from("<Q", raw)[0] & _LAYERING)

    def metadata_of(self, parent: ParentSnap) -> dict[str, str]:
        """What a clone inherits of its parent's image: the metadata of the head (Ceph: librbd/image/CloneRequest.cc)."""
        found: dict[str, str] = {}
        after = ""
        with self._elsewhere(parent.pool_id, parent.namespace) as headers:
            name = _header(parent.image_id)
            while page := headers.list_page(name, prefix=PREFIX, after=after, limit=_PAGE):
                found |= {key.removeprefix(PREFIX): text for key, text in page}
                after = page[-1][0]
        return found

    def adopt(self, image_id: str, parent: ParentSnap, overlap_bytes: int, keys: Mapping[str, str]) -> None:
        """Make a new image, which nobody has open, a clone of a snap of so many bytes, with these keys of its header.

        By the calls that librbd's clone makes, in its order: the child names its parent, then the parent lists the child, and
        refuses to for a snap that is gone (Ceph: librbd/image/CloneRequest.cc; cls_rbd: parent_attach, op_features_set,
        child_attach). What is cut short in between is half made as a clone of librbd's is. The keys come with the parent: an
        image without one that says whose it is would be taken for whole (`rbd-csi rebuild`). Raises ImageMissing.
        """
        names_parent = struct.pack("<q", parent.pool_id) + packed(parent.namespace) + packed(parent.image_id)
        names_parent = versioned(1, names_parent + struct.pack("<Q", parent.snap_id))
        names_child = versioned(2, struct.pack("<q", self._pool_id) + packed(image_id) + packed(self._namespace))
        attached = (
            ("rbd", "parent_attach", names_parent + struct.pack("<QB", overlap_bytes, 0)),
            ("rbd", "op_features_set", struct.pack("<QQ", _CLONE_CHILD, _CLONE_CHILD)),
        )
        listed = (("rbd", "child_attach", struct.pack("<Q", parent.snap_id) + names_child),)
        with step("images.adopt", image_id):
            try:
                self._write_one(self._pool_id, self._namespace, ClassWrite(_header(image_id), attached, keys))
                self._write_one(parent.pool_id, parent.namespace, ClassWrite(_header(parent.image_id), listed))
            except ObjectMissing as error:
                raise ImageMissing(f"image {parent.image_id} or its snap {parent.snap_id}") from error

    def _write_one(self, pool_id: int, namespace: str, write: ClassWrite) -> None:
        with self._elsewhere(pool_id, namespace) as headers:
            (failure,) = headers.write_classes([write])
        if failure:
            raise failure


def _header(image_id: str) -> str:
    return f"rbd_header.{image_id}"
