"""What images' headers say of their parents, by class calls: no image is opened, so that it works on one that cannot be.

An image has one parent, whichever of its head and its snaps still overlaps it (Ceph: src/cls/rbd/cls_rbd.cc; parent_get,
parent_overlap_get, remove_parent, children_list, get_children, child_attach, add_child, child_detach, remove_child,
get_snapcontext, snapshot_get, op_features_get).
"""

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from csi_driver.ceph.api import Child, ImageMissing, ObjectExists, ObjectMissing, ParentSnap
from csi_driver.ceph.encoding import packed, text_at, versioned
from csi_driver.tracing import step

_HEAD = 2**64 - 2  # CEPH_NOSNAP
_CLONE_CHILD = 2  # RBD_OPERATION_FEATURE_CLONE_CHILD: the image is a clone of format 2
_LONG = 8 << 20  # bytes of a list of clones: 200,000 of them
_MOST = 256  # no chain is so long: a circle, which only damage can make


class Headers(Protocol):
    """Class calls and keys of header objects."""

    def ask(self, name: str, cls: str, method: str, payload: bytes, *, most: int = ...) -> bytes | None:
        """What a class call that reads answers, of so many bytes; None when there is no such object, or no such key."""

    def execute(self, name: str, cls: str, method: str, payload: bytes) -> None:
        """A class call that writes. Raises ObjectMissing, ObjectExists (what it makes is there)."""


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

    def children(self, image_id: str, snap_id: int) -> list[Child]:
        return sorted(Child(place[0], child) for place, child in _listed(self._headers, image_id, snap_id))

    def is_needed(self, snap: ParentSnap) -> bool:
        return bool(self._listed_beside(snap))

    def is_listed(self, image_id: str) -> bool:
        """A clone of format 2 stands in the parent's header, one of format 1 in an object beside the clone."""
        parent = self.find_parent(image_id)
        if parent is None:
            return False
        with self._elsewhere(parent.pool_id, parent.namespace) as headers:
            if (self._place, image_id) in _listed(headers, parent.image_id, parent.snap_id):
                return True
        return image_id in self._listed_beside(parent)

    def _listed_beside(self, parent: ParentSnap) -> set[str]:
        """The clones of format 1 in this pool and namespace."""
        named = self._headers.ask("rbd_children", "rbd", "get_children", _key(parent), most=_LONG)
        return set() if named is None else _texts(named)

    def list_again(self, image_id: str) -> None:
        with step("ancestry.list_again", image_id):
            parent = self.find_parent(image_id)
            if parent is None:
                raise ImageMissing(image_id)
            snap = struct.pack("<Q", parent.snap_id)
            raw = self._headers.ask(_header(image_id), "rbd", "op_features_get", b"")
            with self._elsewhere(parent.pool_id, parent.namespace) as headers:
                if headers.ask(_header(parent.image_id), "rbd", "snapshot_get", snap) is None:
                    raise ImageMissing(f"snap {parent.snap_id} of {parent.image_id}")
                if raw is not None and struct.unpack("<Q", raw)[0] & _CLONE_CHILD:
                    listed = snap + _spec(self._place, image_id)
                    with suppress(ObjectExists):
                        headers.execute(_header(parent.image_id), "rbd", "child_attach", listed)
                    return
            with suppress(ObjectExists):
                self._headers.execute("rbd_children", "rbd", "add_child", _key(parent) + packed(image_id))

    def unlist_strays(self, snap: ParentSnap) -> int:
        with step("ancestry.unlist_strays", snap.image_id):
            unlisted = 0
            with self._elsewhere(snap.pool_id, snap.namespace) as headers:
                for place, child in sorted(_listed(headers, snap.image_id, snap.snap_id)):
                    if not self._is_stray(place, child, snap):
                        return unlisted
                    gone = struct.pack("<Q", snap.snap_id) + _spec(place, child)
                    with suppress(ObjectMissing):
                        headers.execute(_header(snap.image_id), "rbd", "child_detach", gone)
                    unlisted += 1
            for child in sorted(self._listed_beside(snap)):
                if not self._is_stray(self._place, child, snap):
                    return unlisted
                with suppress(ObjectMissing):
                    self._headers.execute("rbd_children", "rbd", "remove_child", _key(snap) + packed(child))
                unlisted += 1
            return unlisted

    def _is_stray(self, place: Place, image_id: str, snap: ParentSnap) -> bool:
        """Neither the image nor a snap of it reads through `snap`. A snap of before Nautilus may name a parent of its own."""
        with self._elsewhere(*place) as headers:
            if _parent(headers, image_id) == snap:
                return False
            return not any(
                _overlaps(headers, ParentSnap(*place, image_id, one)) for one in _snap_ids(headers, image_id)
            )

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
    namespace, at = text_at(raw, 14)
    parent_id, at = text_at(raw, at)
    (snap_id,) = struct.unpack_from("<Q", raw, at)
    return ParentSnap(pool_id, namespace, parent_id, snap_id) if pool_id >= 0 else None


def _overlaps(headers: Headers, snap: ParentSnap) -> bool:
    """An optional number: whether it is there (u8), and the bytes (u64). A snap that is gone overlaps nothing."""
    raw = headers.ask(_header(snap.image_id), "rbd", "parent_overlap_get", struct.pack("<Q", snap.snap_id))
    return raw is not None and raw[:1] == b"\x01" and struct.unpack_from("<Q", raw, 1) != (0,)


def _texts(raw: bytes) -> set[str]:
    """A set of texts: their number (u32) first."""
    (number,) = struct.unpack_from("<I", raw)
    found: set[str] = set()
    at = 4
    for _ in range(number):
        text, at = text_at(raw, at)
        found.add(text)
    return found


def _key(parent: ParentSnap) -> bytes:
    """Of a snap in the object `rbd_children`, which lies beside its clones of format 1."""
    return struct.pack("<q", parent.pool_id) + packed(parent.image_id) + struct.pack("<Q", parent.snap_id)


def _spec(place: Place, image_id: str) -> bytes:
    """ChildImageSpec: version (2 bytes), length (u32), pool (i64), id, namespace."""
    pool_id, namespace = place
    child = struct.pack("<q", pool_id) + packed(image_id) + packed(namespace)
    return versioned(2, child)


def _listed(headers: Headers, image_id: str, snap_id: int) -> set[tuple[Place, str]]:
    """A number (u32), then each ChildImageSpec, which has no namespace in its first version."""
    raw = headers.ask(_header(image_id), "rbd", "children_list", struct.pack("<Q", snap_id), most=_LONG)
    found: set[tuple[Place, str]] = set()
    if raw is None:
        return found
    (number,) = struct.unpack_from("<I", raw)
    at = 4
    for _ in range(number):
        version, _, length, pool_id = struct.unpack_from("<BBIq", raw, at)
        child, behind = text_at(raw, at + 14)
        found.add(((pool_id, text_at(raw, behind)[0] if version > 1 else ""), child))
        at += 6 + length
    return found


def _snap_ids(headers: Headers, image_id: str) -> tuple[int, ...]:
    """SnapContext: the newest id (u64), the number (u32), each id (u64)."""
    raw = headers.ask(_header(image_id), "rbd", "get_snapcontext", b"", most=_LONG)
    return () if raw is None else struct.unpack_from(f"<{struct.unpack_from('<I', raw, 8)[0]}Q", raw, 12)
