"""ControllerExpandVolume: the image grows, online or not; the node grows the file system.

The claim of the resize, the image, then the recorded size, which ends the claim, then limits that follow the size: a crash in
between is mended by the repeated call.

One process at a time: librbd's look whether a size would shrink the image can be older than another client's growth. Then
the image has the lesser size of the two, and what was written beyond it is lost to the object map once it grows again: it
reads as zeros, and stays in the pool when the image is removed (docs/decisions/0021).
"""

from contextlib import nullcontext

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import ImageMissing
from csi_driver.errors import OutOfRange
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.reading import Lost
from csi_driver.locks import KeyedLocks
from csi_driver.model import CapacityRange
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
    wanted = max(size_bytes, entry.size_bytes)
    if entry.size_bytes and not capacity.holds(wanted):
        raise OutOfRange(
            f"capacity_range.limit_bytes: volume {site.handle(entry.uuid)} has {entry.size_bytes} bytes already, "
            f"above the limit of {capacity.limit_bytes}"
        )
    present = _present_size(site, entry) if entry.size_bytes in (0, wanted) else 0
    if present < wanted or entry.resizer:  # a resize that was cut short is ended by the one after it
        entry = _resize(site, entry, wanted)
        present = entry.size_bytes
    elif present != entry.size_bytes:
        entry = site.journal.record_size(entry, present)
    if capacity.limit_bytes and present > capacity.limit_bytes:
        raise OutOfRange(
            f"capacity_range.limit_bytes: image {entry.image_name} has {present} bytes already, "
            f"above the limit of {capacity.limit_bytes}"
        )
    if entry.mutable.follows_size:
        limits.settle(site, entry)
    return present


def _resize(site: Site, entry: VolumeEntry, wanted: int) -> VolumeEntry:
    """The entry afterwards. The image is opened while the claim is on its way, and closed while the size is."""
    site.fence_resizer(entry)
    with site.pool.images.open_ahead(entry.image_id) if entry.image_id else nullcontext():
        entry = site.journal.claim_resize(entry, site.cluster.address)
        try:
            present = site.pool.images.grow(entry.image_name, wanted)
        except ImageMissing:
            raise unopened(site, entry) from None
        return site.journal.record_size(entry, present)


def _present_size(site: Site, entry: VolumeEntry) -> int:
    """As its header says: nothing is opened for a volume that is as large already."""
    images = site.pool.images
    image_id = entry.image_id or images.find_id(entry.image_name)
    size_bytes = images.find_size(image_id) if image_id else None
    if size_bytes is None:
        raise unopened(site, entry)
    return size_bytes
