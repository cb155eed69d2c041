"""DeleteVolume, and the undoing of a create that is refused.

A delete answers after a move to the trash; the data goes behind it (purge.py). What is marked `deleting` is finished by
whoever meets it: the repeated delete, a create that wants the name, or the purge.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import ImageBusy, ImageHasSnapshots, ImageInfo, ImageMissing, SnapKind
from csi_driver.errors import Busy, Inconsistent, InUse, NotFound, PoolMissing
from csi_driver.ids import Handle
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.layout import State
from csi_driver.journal.publications import parse_publications
from csi_driver.journal.reading import Reserved
from csi_driver.locks import KeyedLocks
from csi_driver.operations.refusals import going_on
from csi_driver.operations.retention import kept_as_tombstone, kept_in_trash, seconds_to_keep
from csi_driver.operations.site import PoolKey, Site, Sites, unopened, volume_lock
from csi_driver.operations.snapshot_deletion import remove_snap
from csi_driver.operations.tombstones import is_held_by_snaps, is_own_snap

DEFAULT_PREFIX = "csi-vol-"

_OWN_WORK_S = 3.0
_LOOK_AGAIN_S = 0.02


class VolumeDeletion:
    """Deletes volumes. `purge_soon` has a pool's trash looked at behind the call."""

    def __init__(self, sites: Sites, locks: KeyedLocks, purge_soon: Callable[[PoolKey], None]) -> None:
        self._sites = sites
        self._locks = locks
        self._purge_soon = purge_soon

    def delete(self, volume_id: str, credentials: Credentials | None) -> None:
        """Fine when there is no such volume.

        Raises InUse when a node or a client has it, or it has snapshots; Inconsistent; Unfinished.
        """
        handle = Handle.parse(volume_id)
        if handle is None:
            return
        try:
            with self._locks.hold(volume_lock(handle)), self._sites.open_of(handle, credentials, as_maker=True) as site:
                entry = site.journal.load(handle.uuid) or site.journal.load_noted(handle.uuid)
                if entry is None:
                    _refuse_unexplained_image(site, handle)
                    return
                with self._locks.hold(site.name_lock(entry.request_name)), going_on(f"volume {volume_id}"):
                    delete_entry(site, entry)
        except NotFound:
            return  # the pool is gone, and all that was in it
        self._purge_soon(PoolKey(handle.cluster_id, credentials, handle.pool_id))


def delete_entry(site: Site, entry: VolumeEntry) -> None:
    """From any state to `tombstone`, `trashed` or nothing. The caller holds the volume and its name."""
    if entry.state in (State.TOMBSTONE, State.SHRUNK, State.TRASHED, State.PURGING):
        return
    if entry.state is State.DELETING:
        finish_delete(site, entry)
    elif entry.state is State.MAKING:
        site.fence(entry)
        undo(site, entry)
    elif entry.state is State.FLATTENING:  # never handed out, so that nobody can have it open but the flatten
        finish_delete(site, replace(site.journal.mark_deleting(entry, maker=site.cluster.address), retention_s=0))
    elif entry.state is State.RESTORING:
        raise Busy(
            f"volume {site.handle(entry.uuid)} is being brought back (`rbd-csi volume undelete`); repeat the call"
        )
    else:
        _refuse_published(site, entry)
        site.fence_resizer(entry)
        info = _look_until_at_rest(site, entry)
        _refuse_foreign_snaps(site, entry, info)
        finish_delete(site, site.journal.mark_deleting(entry, image_id=info.image_id, maker=site.cluster.address))


def undo(site: Site, entry: VolumeEntry) -> None:
    """Clear away what was never handed out. The maker is this process, or fenced."""
    if entry.is_noted and entry.maker != site.cluster.address:
        entry = site.journal.take_over(entry, site.cluster.address)  # of several that undo it one goes on
    if entry.is_noted:
        remove_unmade(site, entry)
        site.forget_key(entry)  # the name is all that it is found by
        site.journal.drop_name(entry.request_name, Reserved(entry.uuid))
        return
    finish_delete(site, site.journal.mark_deleting(entry, unmade=True, maker=site.cluster.address))


def finish_delete(site: Site, entry: VolumeEntry) -> None:
    """From `deleting` on. Every step may have been done before. Raises Busy."""
    entry = site.take_delete_on(site.journal, entry)
    if entry.is_unmade:
        remove_unmade(site, entry)
        release_name(site, entry)
        site.forget_key(entry)
        site.journal.forget(entry.uuid, State.DELETING)
        return
    if is_held_by_snaps(site, entry):
        release_name(site, entry)
        site.journal.move(entry, State.TOMBSTONE, kept_as_tombstone(entry))
    else:
        _leave_group(site, entry)
        try:
            site.pool.images.move_to_trash(entry.image_name, keep_s=seconds_to_keep(entry))
        except ImageMissing:
            pass  # a move that was cut short ends with this answer
        except ImageBusy as busy:
            raise Busy(
                f"image {entry.image_name} is in a group that is being cut, and the trash does not take it; repeat the call"
            ) from busy
        release_name(site, entry)
        site.journal.move(entry, State.TRASHED, kept_in_trash(site, entry))


def _leave_group(site: Site, entry: VolumeEntry) -> None:
    """The purge refuses a member of an RBD group, and in the trash it can no longer be taken out."""
    try:
        site.pool.groups.leave(entry.image_name, entry.image_id)
    except ImageBusy as busy:
        raise Busy(f"volume {site.handle(entry.uuid)}: {busy}; repeat the call when it is out of it") from busy


def finish_tombstone(site: Site, entry: VolumeEntry) -> bool:
    """Send a deleted volume whose last snapshot is gone to the trash; whether it was."""
    if is_held_by_snaps(site, entry):
        return False
    finish_delete(site, site.journal.take_on(entry, State.DELETING, site.cluster.address))
    return True


def release_name(site: Site, entry: VolumeEntry) -> None:
    """D before a K in another pool goes: the entry is found by one of them, whatever the moment of a crash."""
    site.journal.release_name(entry)
    if entry.journal_pool_id not in (None, site.pool.pool_id):
        with suppress(PoolMissing), site.cluster.pool(entry.journal_pool_id) as journal_pool:
            site.journal.in_pool(journal_pool).release_foreign_name(entry, site.pool.pool_id)


def remove_unmade(site: Site, entry: VolumeEntry) -> None:
    """Remove an image that was never handed out, whole or half made, and the snap it was cloned from. Raises Busy.

    The snap first: a clone that its parent does not list is half made, and goes with the snap or without it. Nothing here
    opens the image with its parent, which hung once in librbd with the snap gone; the removal looks for watchers.
    """
    snap_is_gone = remove_clone_snap(site, entry)
    try:
        site.pool.images.remove(entry.image_name)
    except ImageMissing:
        pass
    except (ImageBusy, ImageHasSnapshots) as error:
        raise Busy(
            f"image {entry.image_name} of an unfinished create cannot be removed yet ({type(error).__name__}); "
            "repeat the call"
        ) from error
    if not snap_is_gone and not remove_clone_snap(site, entry):
        raise Busy(f"the snap that image {entry.image_name} was cloned from is in use; repeat the call")


def remove_clone_snap(site: Site, entry: VolumeEntry) -> bool:
    """Remove the snap that was cut for this clone alone, if there is one; false where it cannot be removed yet."""
    snap = entry.cloned_from
    if snap is None or not snap.is_temporary:
        return True
    try:
        with site.beside(snap.pool_id) as there:
            return remove_snap(there, snap.image_id, snap.snap_name)
    except NotFound:
        return True


def _inspect(site: Site, entry: VolumeEntry) -> ImageInfo:
    try:
        return site.pool.images.inspect(entry.image_name)
    except ImageMissing:
        again = site.journal.load(entry.uuid)
        if again != entry:
            raise Busy(f"volume {entry.uuid} is being worked on by another process; repeat the call") from None
        raise unopened(site, entry) from None


def _look_until_at_rest(site: Site, entry: VolumeEntry) -> ImageInfo:
    """The image once nothing of this driver's own works on it. Raises InUse for a client, Busy when that takes long.

    The purge of a clone may be removing a snap of it: that ends in a moment, and is no reason to refuse. A flatten may
    take hours, and need not be waited for: the trash takes its image, and it goes on to its end.
    """
    ends = time.monotonic() + _OWN_WORK_S
    info = _inspect(site, entry)
    if info.watchers and not site.pool.images.watchers(info.image_id):
        return info
    while info.watchers:
        flattening = site.flatten_workers.addresses()
        watchers = [watcher for watcher in info.watchers if watcher.address not in flattening]
        if not watchers:
            break
        own = site.makers.addresses(site.pool)
        clients = [watcher for watcher in watchers if watcher.address not in own]
        if clients:
            named = ", ".join(map(str, clients))
            raise InUse(f"image {entry.image_name} is in use: a client has it open at {named}; unmap it there first")
        if time.monotonic() > ends:
            raise Busy(f"image {entry.image_name} is being worked on by this driver at {watchers[0].address}")
        time.sleep(_LOOK_AGAIN_S)
        info = _inspect(site, entry)
    return info


def _refuse_published(site: Site, entry: VolumeEntry) -> None:
    """A publication that comes after this makes the mark lose, which compares them."""
    if nodes := sorted(parse_publications(entry.publications)):
        raise InUse(
            f"volume {site.handle(entry.uuid)} is published to node {', '.join(nodes)}: unpublish it there first"
        )


def _refuse_foreign_snaps(site: Site, entry: VolumeEntry, info: ImageInfo) -> None:
    """A snap without an entry may be that of a snapshot deleted just now: then it went before its entry did."""
    unknown = {
        snap.snap_id for snap in info.snaps if snap.kind is not SnapKind.TRASH and not is_own_snap(site, info, snap)
    }
    if not unknown:
        return
    foreign = [
        snap for snap in _inspect(site, entry).snaps if snap.snap_id in unknown and snap.kind is not SnapKind.TRASH
    ]
    if foreign:
        named = ", ".join(snap.name for snap in foreign[:5])
        raise InUse(f"image {entry.image_name} has snapshots that this driver did not make: {named}; remove them first")


def _refuse_unexplained_image(site: Site, handle: Handle) -> None:
    if site.pool.images.find_id(DEFAULT_PREFIX + handle.uuid):
        raise Inconsistent(
            f"image {DEFAULT_PREFIX}{handle.uuid} exists, but no entry of the journal explains it; nothing was touched"
        )
