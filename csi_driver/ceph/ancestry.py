"""What images' headers say of their parents, by class calls: no image is opened, so that it works on one that cannot be.

An image has one parent, whichever of its head and its snaps still overlaps it (Ceph: src/cls/rbd/cls_rbd.cc; parent_get,
parent_overlap_get, remove_parent; the key `snapshot_<id, 16 hex>` of each snap).
"""

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from csi_driver.ceph.api import ImageMissing, ObjectMissing, ParentSnap
from csi_driver.tracing import step

_HEAD = 2**64 - 2  # CEPH_NOSNAP
_MOST = 256  # no chain is so long: a circle, which only damage can make


class Headers(Protocol):
    """Class calls and keys of header objects."""

    def ask(self, name: str, cls: str, method: str, payload: bytes) -> bytes | None:
        """What a class call that reads answers; None when there is no such object."""

    def execute(self, name: str, cls: str, method: str, payload: bytes) -> None:
        """A class call that writes. Raises ObjectMissing."""

    def read_key(self, name: str, key: str) -> str | None: ...


Place = tuple[int, str]
"""A pool's id and a namespace."""

Elsewhere = Callable[[int, str], AbstractContextManager[Headers]]


class HeaderAncestry:
    """`Ancestry` over the headers of one pool and namespace, and those where parents lie."""

    def __init__(self, place: Place, headers: Headers, elsewhere: Elsewhere) -> None:
        self._place = place
        self._headers = headers
        self._elsewhere = elsewhere

    def has_header(self, image_id: str) -> bool:
        return self._headers.ask(_header(image_id), "rbd", "parent_get", b"") is not None

    def find_parent(self, image_id: str) -> ParentSnap | None:
        return _parent(self._headers, image_id)

    def has_snap(self, snap: ParentSnap) -> bool:
        with self._elsewhere(snap.pool_id, snap.namespace) as headers:
            return headers.read_key(_header(snap.image_id), f"snapshot_{snap.snap_id:016x}") is not None

    def count(self, image_id: str, snap_id: int | None = None) -> int:
        with step("ancestry.count", image_id):
            here = ParentSnap(*self._place, image_id, _HEAD if snap_id is None else snap_id)
            for depth in range(_MOST):
                with self._elsewhere(here.pool_id, here.namespace) as headers:
                    parent = _parent(headers, here.image_id) if _overlaps(headers, here) else None
                if parent is None:
                    return depth
                here = parent
            return _MOST

    def drop_parent(self, image_id: str) -> None:
        with step("ancestry.drop_parent", image_id):
            try:
                self._headers.execute(_header(image_id), "rbd", "remove_parent", b"")
            except ObjectMissing as error:
                raise ImageMissing(image_id) from error


def _header(image_id: str) -> str:
    return f"rbd_header.{image_id}"


def _parent(headers: Headers, image_id: str) -> ParentSnap | None:
    """ParentImageSpec: version (6 bytes), pool (i64), namespace and image id (each with its length, u32), snap (u64)."""
    raw = headers.ask(_header(image_id), "rbd", "parent_get", b"")
    if raw is None:
        return None
    (pool_id,) = struct.unpack_from("<q", raw, 6)
    namespace, at = _text(raw, 14)
    parent_id, at = _text(raw, at)
    (snap_id,) = struct.unpack_from("<Q", raw, at)
    return ParentSnap(pool_id, namespace, parent_id, snap_id) if pool_id >= 0 else None


def _overlaps(headers: Headers, snap: ParentSnap) -> bool:
    """An optional number: whether it is there (u8), and the bytes (u64). A snap that is gone overlaps nothing."""
    raw = headers.ask(_header(snap.image_id), "rbd", "parent_overlap_get", struct.pack("<Q", snap.snap_id))
    return raw is not None and raw[:1] == b"\x01" and struct.unpack_from("<Q", raw, 1) != (0,)


def _text(raw: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", raw, at)
    return raw[at + 4 : at + 4 + length].decode(), at + 4 + length
