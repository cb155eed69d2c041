"""How long a deleted volume is kept, so that it can be brought back: the class's `trashRetention`.

The time is the trash's own deferment, so that `rbd trash purge` and its schedules respect it too. A volume with snapshots
is a tombstone and not in the trash: what is left of its time goes with it when it gets there.
"""

import math
import time
from collections.abc import Mapping

from csi_driver.journal import layout
from csi_driver.journal.entries import VolumeEntry
from csi_driver.operations.site import Site


def is_kept(entry: VolumeEntry) -> bool:
    """Whether its time is not over."""
    return entry.kept_until > time.time()


def seconds_to_keep(entry: VolumeEntry) -> int:
    """For the move to the trash: all of the time, or what a tombstone has left of it."""
    if entry.kept_until:
        return max(0, math.ceil(entry.kept_until - time.time()))
    return entry.retention_s


def kept_as_tombstone(entry: VolumeEntry) -> Mapping[str, str]:
    """The keys to write with `tombstone`."""
    if not entry.retention_s or entry.kept_until:
        return {}
    return {layout.KEPT_UNTIL: str(math.ceil(time.time() + entry.retention_s))}


def kept_in_trash(site: Site, entry: VolumeEntry) -> Mapping[str, str]:
    """The keys to write with `trashed`: the time that the trash itself has, also when another call made the move."""
    if not seconds_to_keep(entry):
        return {}
    found = site.pool.images.find_trashed(entry.image_id)
    return {layout.KEPT_UNTIL: f"{found.kept_until:.0f}"} if found else {}
