"""What changed on an image between two of its snaps."""

import rbd

from csi_driver.ceph.api import CannotCompare, Extent, Extents, ImageMissing, SnapKind
from csi_driver.ceph.image_snaps import snaps

COMPARES_BY_ID = hasattr(rbd.Image, "encryption_load2")
"""Bindings of Ceph 18.2 and later; older ones take names, which snaps of groups have not."""

_WINDOW, _SLOW_WINDOW = 64 << 30, 2 << 30
"""Of an image, looked through at once: it bounds the memory, and the time."""


def changed(image: rbd.Image, snap_id: int, base_id: int | None, start: int) -> Extents:
    """By whole objects, from the object maps where there is fast-diff. In a clone an object that was made since the base
    hides the parent's data beyond its own end, too: finer ranges would miss that.

    Sets the image to the snap. Raises ImageMissing, CannotCompare.
    """
    found: list[tuple[int, int]] = []
    base = None if base_id is None else _comparable(image, base_id)
    image.set_snap_by_id(snap_id)
    size_bytes = image.size()
    end = min(size_bytes, start - start % (period := _period(image)) + _window(image, period))
    if start < end:
        image.diff_iterate(
            start, end - start, base, lambda at, length, _exists: found.append((at, length)), whole_object=True
        )
    return Extents(_merged(found), end if end < size_bytes else None)


def _comparable(image: rbd.Image, snap_id: int) -> str | int:
    """The older snap as `diff_iterate` takes it. Raises ImageMissing, CannotCompare."""
    snap = next((one for one in snaps(image) if one.snap_id == snap_id), None)
    if snap is None:
        raise ImageMissing(f"snap {snap_id}")
    if COMPARES_BY_ID:
        return snap_id
    if snap.kind is not SnapKind.USER:
        raise CannotCompare(f"snap {snap.name}")
    return snap.name


def _period(image: rbd.Image) -> int:
    """Bytes after which the next objects begin: librbd tells of the objects of one such stretch in any order."""
    return (1 << image.stat()["order"]) * max(image.stripe_count(), 1)


def _window(image: rbd.Image, period: int) -> int:
    """How far one call goes: by the object maps, or asking for each object."""
    wanted = _WINDOW if image.features() & rbd.RBD_FEATURE_FAST_DIFF else _SLOW_WINDOW
    return max(wanted - wanted % period, period)


def _merged(found: list[tuple[int, int]]) -> tuple[Extent, ...]:
    """Neighbours as one range."""
    extents: list[Extent] = []
    for at, length in sorted(found):
        begin = extents.pop().offset if extents and extents[-1].offset + extents[-1].length >= at else at
        extents.append(Extent(begin, at + length - begin))
    return tuple(extents)
