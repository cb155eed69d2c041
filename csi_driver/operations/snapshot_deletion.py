"""DeleteSnapshot.

A native snapshot is a snap on its source's image: removed by the image's id, since the image may be in the trash by now.
With clones of format 2 the snap moves to the trash namespace and goes with the last of them; with clones of format 1 it
stays until they are gone, and the entry with it, while the name is free and the user is answered. A snapshot of ceph-csi
is an image of its own, which goes the way of a volume's.
"""

from collections.abc import Callable
from contextlib import nullcontext

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import ImageBusy, ImageMissing
from csi_driver.errors import InvalidRequest, NotFound
from csi_driver.ids import Handle
from csi_driver.journal.entries import SnapshotEntry
from csi_driver.journal.layout import State
from csi_driver.locks import KeyedLocks
from csi_driver.operations.refusals import going_on
from csi_driver.operations.site import PoolKey, Site, Sites, snapshot_lock


class SnapshotDeletion:
    """Deletes snapshots. `forget_soon` has the entry of one whose snap and name are gone removed behind the call, and the
    pool looked at; `purge_soon` the last alone.
    """

    def __init__(
        self,
        sites: Sites,
        locks: KeyedLocks,
        purge_soon: Callable[[PoolKey], None],
        forget_soon: Callable[[PoolKey, str], None],
    ) -> None:
        self._sites = sites
        self._locks = locks
        self._purge_soon = purge_soon
        self._forget_soon = forget_soon

    def delete(self, snapshot_id: str, credentials: Credentials | None) -> None:
        """Fine when there is no such snapshot. Raises Busy while a copy of it is being made, Unfinished."""
        handle = Handle.parse(snapshot_id)
        if handle is None:
            return
        try:
            with (
                self._locks.hold(snapshot_lock(handle)),
                self._sites.open_of(handle, credentials, as_maker=True) as site,
            ):
                entry = site.snapshots.load(handle.uuid)
                if entry is None:
                    return
                if entry.group_handle:
                    raise InvalidRequest(
                        f"snapshot_id: {snapshot_id!r} is part of the group snapshot {entry.group_handle!r} and is deleted "
                        "with it alone (DeleteVolumeGroupSnapshot)"
                    )
                with (
                    self._locks.hold(site.snapshot_name_lock(entry.request_name)),
                    going_on(f"snapshot {snapshot_id}"),
                ):
                    is_gone = _release_snapshot(site, entry)
        except NotFound:
            return  # the pool is gone, and all that was in it
        key = PoolKey(handle.cluster_id, credentials, handle.pool_id)
        if is_gone:
            self._forget_soon(key, handle.uuid)
        else:
            self._purge_soon(key)


def delete_snapshot_entry(site: Site, entry: SnapshotEntry) -> None:
    """From any state on. The caller holds the snapshot and its name."""
    if _release_snapshot(site, entry):
        site.snapshots.forget(entry.uuid, State.DELETING)


def _release_snapshot(site: Site, entry: SnapshotEntry) -> bool:
    """Its snap or image, and its name; whether its entry alone is left."""
    if entry.state in (State.TRASHED, State.PURGING):
        return False
    if entry.state is State.MAKING:
        site.fence(entry)
    with site.pool.images.open_ahead(entry.source_image_id) if entry.is_native else nullcontext():
        return _mark_and_release(site, entry)


def _mark_and_release(site: Site, entry: SnapshotEntry) -> bool:
    if entry.state is not State.DELETING:
        image_id = "" if entry.is_native else (site.pool.images.find_id(entry.image_name) or "")
        is_unmade, maker = entry.state is State.MAKING, site.cluster.address
        entry = site.snapshots.mark_deleting(entry, image_id=image_id, unmade=is_unmade, maker=maker)
    return _finish_release(site, entry)


def finish_snapshot_delete(site: Site, entry: SnapshotEntry) -> None:
    """From `deleting` on. Every step may have been done before."""
    if _finish_release(site, entry):
        site.snapshots.forget(entry.uuid, State.DELETING)


def _finish_release(site: Site, entry: SnapshotEntry) -> bool:
    if not entry.is_native:
        _send_image_to_trash(site, entry)
        return False
    # A flatten that is cut short is repaired best while the snap is there: the entry goes behind it, as with format 1.
    is_named = site.flatten_queue.names_snap(entry.source_image_id, entry.snap_id)
    is_gone = not is_named and remove_snap(site, entry.source_image_id, entry.snap_name)
    site.snapshots.release_name(entry)
    return is_gone


def remove_snap(site: Site, image_id: str, snap: str) -> bool:
    """False while clones of format 1 need it, or while a flatten that was cut short keeps the image from being opened."""
    try:
        site.pool.images.remove_snap(image_id, snap)
    except ImageMissing:
        return not site.pool.ancestry.has_header(image_id)  # if the image is gone, its snaps are
    except ImageBusy:
        return False
    return True


def _send_image_to_trash(site: Site, entry: SnapshotEntry) -> None:
    entry = site.take_delete_on(site.snapshots, entry)
    if entry.image_id:
        remove_snap(site, entry.image_id, entry.image_name)
    try:
        site.pool.images.move_to_trash(entry.image_name)
    except ImageMissing:
        pass  # a move that was cut short ends with this answer
    site.snapshots.release_name(entry)
    site.snapshots.move(entry, State.TRASHED)
