"""What an open image says of its snaps and its parent."""

import errno
from dataclasses import replace
from datetime import UTC

import rbd

from csi_driver.ceph.api import ImageMissing, Snap, SnapKind


def snaps(image: rbd.Image) -> tuple[Snap, ...]:
    return tuple(_snap(one) for one in image.list_snaps())


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
