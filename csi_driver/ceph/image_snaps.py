"""What an open image says of its snaps and its parent.

The pin is none of its snaps: a flatten of an image without deep-flatten makes it, and takes it away (image_flattening.py).
"""

import errno
from dataclasses import replace
from datetime import UTC

import rbd

from csi_driver.ceph.api import ImageMissing, Snap, SnapKind

PIN = "csi-flatten"


def snaps(image: rbd.Image) -> tuple[Snap, ...]:
    return tuple(_snap(one) for one in image.list_snaps() if not _is_pin(one))


def pin(image: rbd.Image) -> None:
    """Fine when it is there, also half made: nothing is cloned from it."""
    if not any(one["name"] == PIN for one in image.list_snaps()):
        image.create_snap(PIN)


def unpin(image: rbd.Image) -> None:
    """Fine when it is not there, or its removal was cut short."""
    for one in image.list_snaps():
        if one["name"] == PIN:
            image.remove_snap(PIN)
        elif _is_pin(one):
            remove_trashed_snap(image, one["id"])


def is_pinned(image: rbd.Image) -> bool:
    return any(map(_is_pin, image.list_snaps()))


def _is_pin(item: "rbd.SnapItem") -> bool:
    trash = item.get("trash")
    return PIN in (item["name"], trash and trash["original_name"])


def _snap(item: "rbd.SnapItem") -> Snap:
    kind, group = SnapKind(item["namespace"]), item.get("group")
    found = Snap(item["id"], item["name"], item["size"], kind)
    return (
        replace(found, group=group["name"], group_pool_id=group["pool"]) if kind is SnapKind.GROUP and group else found
    )


def dated(image: rbd.Image, snap: str) -> Snap:
    """The user snap of that name with its time. Raises ImageMissing."""
    for one in snaps(image):
        if one.name == snap and one.kind is SnapKind.USER:
            created_at = image.get_snap_timestamp(one.snap_id).replace(tzinfo=UTC).timestamp()
            return replace(one, created_at=created_at)
    raise ImageMissing(f"snap {snap}")


def has_parent(image: rbd.Image) -> bool:
    try:
        image.parent_info()
    except rbd.Error as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def remove_trashed_snap(image: rbd.Image, snap_id: int) -> None:
    """A snap whose removal was cut short stays in the trash namespace without clones; one with clones stays by right."""
    try:
        image.remove_snap_by_id(snap_id)
    except rbd.Error as error:
        if error.errno != errno.EBUSY:
            raise
