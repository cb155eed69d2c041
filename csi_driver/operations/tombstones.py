"""Volumes that were deleted while snapshots of them live, and the snapshots that hold them.

Such an image keeps its name, so that its snapshots can still be restored. With the last of them it goes to the trash, by
whoever sees that: the DeleteSnapshot, a CreateSnapshot that undid its cut, or the purge.
"""

from csi_driver.ceph.api import ImageInfo, Snap, SnapKind
from csi_driver.ids import uuid_at_end
from csi_driver.journal.entries import VolumeEntry
from csi_driver.operations.group_members import is_snap_of_own_group
from csi_driver.operations.origin import CLONE_PREFIX
from csi_driver.operations.site import Site


def is_own_snap(site: Site, info: ImageInfo, snap: Snap) -> bool:
    """Whether the journal knows the snap: a snapshot's, or the one that a clone of the volume is made from."""
    if snap.kind is not SnapKind.USER:
        return is_snap_of_own_group(site, info, snap)
    if snap.name.startswith(CLONE_PREFIX):
        return True
    entry = site.snapshots.load(uuid_at_end(snap.name))
    return entry is not None and entry.source_image_id == info.image_id and entry.snap_name == snap.name


def is_held_by_snaps(site: Site, entry: VolumeEntry) -> bool:
    """Whether snaps other than trashed ones are there, and the image not in the trash. The purge asks that again and again:
    nothing is opened. Looked at after the mark: a cut looks at the mark after itself.
    """
    images = site.pool.images
    return images.is_snapped(entry.image_id) and images.find_id(entry.image_name) is not None
