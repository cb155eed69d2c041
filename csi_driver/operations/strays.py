"""Clones that a snap lists and that do not read through it any more, so that it would stay for ever.

Of the last two snaps of a flat clone that still read through its parent, each removal leaves the list to the other when both
run at once (docs/decisions/0028). Looked for only where a snap is in the way, behind the answers.
"""

from contextlib import suppress

from csi_driver.ceph.api import ImageMissing, ParentSnap
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.operations.site import Site


def free_trashed_snaps(site: Site, image_id: str) -> None:
    """All that nothing needs: without clones, be it that a crash cut their removal short, or with such as read elsewhere."""
    for snap_id in site.pool.images.snap_ids(image_id):
        _unlist(site, site, image_id, snap_id)
    with suppress(ImageMissing):  # says only that it cannot be opened, as with a parent that is gone
        site.pool.images.drop_trashed_snaps(image_id)


def free_snapshot(site: Site, entry: SnapshotEntry) -> None:
    """The snap of a deleted snapshot, which clones of format 1 hold."""
    if entry.is_native and entry.snap_id:
        _unlist(site, site, entry.source_image_id, entry.snap_id)


def free_clone_snap(site: Site, entry: VolumeEntry) -> None:
    """Likewise the snap that a volume's image was cloned from, which may lie in another pool."""
    snap = entry.cloned_from
    if snap is None:
        return
    with site.beside(snap.pool_id) as there, suppress(ImageMissing):
        for one in there.pool.images.inspect_id(snap.image_id).snaps:
            if one.name == snap.snap_name:
                _unlist(site, there, snap.image_id, one.snap_id)


def _unlist(site: Site, there: Site, image_id: str, snap_id: int) -> None:
    """site: beside whose images the clones of format 1 are looked for · there: of the snap."""
    site.pool.ancestry.unlist_strays(ParentSnap(there.pool.pool_id, there.pool.namespace, image_id, snap_id))
