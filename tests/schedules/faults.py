"""What can happen to a call: by kind, by place, and at which calls."""

import errno
from dataclasses import dataclass
from enum import StrEnum

from csi_driver.ceph.api import ImageBusy
from csi_driver.ceph.errnos import RECONNECT, meaning_of


class Kind(StrEnum):
    """A crash, or what Ceph answers."""

    CRASH = "crash"
    CRASH_LATE = "crash, done later"
    TIMEOUT = "timeout"
    TIMEOUT_LATE = "timeout, done later"
    ESHUTDOWN = "ESHUTDOWN"
    EIO = "EIO"
    ENOSPC = "ENOSPC"
    EBUSY = "EBUSY"
    EROFS = "EROFS"


LATE = (Kind.CRASH_LATE, Kind.TIMEOUT_LATE)
_ERRNOS = {
    Kind.TIMEOUT: errno.ETIMEDOUT,
    Kind.TIMEOUT_LATE: errno.ETIMEDOUT,
    Kind.ESHUTDOWN: errno.ESHUTDOWN,
    Kind.EIO: errno.EIO,
    Kind.ENOSPC: errno.ENOSPC,
    Kind.EBUSY: errno.EBUSY,
    Kind.EROFS: errno.EROFS,
}

_READS = frozenset(
    {
        *("objects.read", "objects.read_key", "objects.list_page", "objects.names", "objects.is_leased"),
        *("cluster.pool_names", "cluster.pool_ids", "cluster.rbd_pools", "cluster.health", "cluster.blocklisted"),
        *("cluster.usage", "images.list_names", "images.find_id", "images.find_size", "images.find_name"),
        *("images.inspect", "images.inspect_id", "images.watchers", "images.lock_owners", "images.get_metadata"),
        *("images.list_trash", "images.find_trashed", "images.read_mark", "images.get_snap", "images.get_snap_time"),
        *("images.changed", "images.snap_ids", "images.is_snapped", "ancestry.has_header", "ancestry.find_parent"),
        *("ancestry.children", "ancestry.is_listed", "ancestry.is_needed", "ancestry.count"),
        *("groups.has_snap", "groups.members"),
    }
)
_BUSY = frozenset({"images.remove", "images.purge", "images.remove_snap", "images.move_to_trash", "groups.leave"})
"""Calls that say ImageBusy for EBUSY; of the others it is an error without a meaning of its own."""
_EVERYWHERE = (Kind.CRASH, Kind.TIMEOUT, Kind.ESHUTDOWN, Kind.EIO)
_OF_IMAGES = (Kind.EBUSY, Kind.EROFS)
_WITHIN = (Kind.CRASH, Kind.TIMEOUT, Kind.ESHUTDOWN, Kind.ENOSPC, Kind.EROFS)


@dataclass(frozen=True)
class Fault:
    """`kind` happens at the nth time that an operation comes to the point.

    later: where the call is made all the same, after so many further points of anybody.
    """

    point: str
    nth: int
    kind: Kind
    later: int = 0


def kinds_at(point: str) -> tuple[Kind, ...]:
    """What can happen there."""
    call, _, place = point.rpartition(":")
    if place not in ("before", "after"):
        return _WITHIN
    is_write = call not in _READS
    if place == "after" or not is_write:
        return _EVERYWHERE
    if call.startswith("cluster."):  # the monitors' own, which are never full
        return (*_EVERYWHERE, *LATE)
    return (*_EVERYWHERE, *LATE, Kind.ENOSPC, *(_OF_IMAGES if call.startswith(("images.", "groups.")) else ()))


def answer(kind: Kind, point: str) -> tuple[Exception, bool]:
    """What the driver's seam makes of it, and whether the connection is given up."""
    number = _ERRNOS[kind]
    if kind is Kind.EBUSY and point.rpartition(":")[0] in _BUSY:
        return ImageBusy(point), False
    return meaning_of(OSError(number, "said so"), point), number in RECONNECT
