"""ControllerExpandVolume: the image grows, online or not; the node grows the file system.

Image first, then the recorded size, then limits that follow it: a crash in between is mended by the repeated call.

Two replicas may grow one image at once, and librbd's look whether a size would shrink it can be older than the other's
growth: an image was seen to have the lesser size of two that were answered. So whoever finds the record changed, or larger
than what is asked for, grows the image to what is recorded.
"""

from csi_driver.ceph.api import ImageMissing
from csi_driver.errors import OutOfRange
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.journal import Lost
from csi_driver.locks import KeyedLocks
from csi_driver.model import CapacityRange, Credentials
from csi_driver.operations import limits
from csi_driver.operations.site import Site, Sites, load_usable, parse_handle, unopened, volume_lock

_TRIES = 5
"""While others grow it too."""


class VolumeExpansion:
    """Grows volumes."""

    def __init__(self, sites: Sites, locks: KeyedLocks) -> None:
        self._sites = sites
        self._locks = locks

    def expand(self, volume_id: str, capacity: CapacityRange, size_bytes: int, credentials: Credentials | None) -> int:
        """Grow to `size_bytes` (a size within `capacity`) unless it is as large already; the size afterwards.

        Raises NotFound, OutOfRange when the volume is larger than the limit already, Unfinished.
        """
        handle = parse_handle(volume_id)
        with self._locks.hold(volume_lock(handle)), self._sites.open_of(handle, credentials, as_maker=True) as site:
            for _ in range(_TRIES):
                try:
                    return _grow(site, load_usable(site, handle), capacity, size_bytes)
                except Lost as changed:
                    lost = changed
            raise lost


def _grow(site: Site, entry: VolumeEntry, capacity: CapacityRange, size_bytes: int) -> int:
    if entry.size_bytes and not capacity.holds(max(entry.size_bytes, size_bytes)):
        raise OutOfRange(
            f"capacity_range.limit_bytes: volume {site.handle(entry.uuid)} has {entry.size_bytes} bytes already, "
            f"above the limit of {capacity.limit_bytes}"
        )
    try:
        present = site.pool.images.grow(entry.image_name, max(size_bytes, entry.size_bytes or 0))
    except ImageMissing:
        raise unopened(site, entry) from None
    if capacity.limit_bytes and present > capacity.limit_bytes:
        raise OutOfRange(
            f"capacity_range.limit_bytes: image {entry.image_name} has {present} bytes already, "
            f"above the limit of {capacity.limit_bytes}"
        )
    if present != entry.size_bytes:
        entry = site.journal.record_size(entry, present)
    if entry.mutable.follows_size:
        limits.settle(site, entry)
    return present
