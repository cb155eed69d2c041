"""What is done behind the answers to one volume or snapshot that was deleted: bringing its entry to the end.

Every step may have been done before, by this process, a predecessor or another replica: the journal's compares and
librbd's own answers let each end well.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from csi_driver.ceph.api import ImageBusy, ImageHasSnapshots, ImageKept, ImageMissing, ParentSnap
from csi_driver.errors import Busy, ClusterUnavailable, DriverError
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.journal import Journal
from csi_driver.journal.layout import State
from csi_driver.journal.reading import E
from csi_driver.locks import KeyedLocks
from csi_driver.operations.deletion import finish_delete, finish_tombstone, remove_clone_snap
from csi_driver.operations.group_deletion import finish_group_delete
from csi_driver.operations.pool_tasks import Swept
from csi_driver.operations.retention import is_kept
from csi_driver.operations.site import Site, group_lock, snapshot_lock, volume_lock
from csi_driver.operations.snapshot_deletion import finish_snapshot_delete
from csi_driver.operations.strays import free_clone_snap, free_snapshot, free_trashed_snaps
from csi_driver.operations.tombstones import is_held_by_snaps

_CLEARED = Swept(cleared=1)


def clear_volume(site: Site, uuid: str, locks: KeyedLocks) -> Swept:
    """Bring one deleted volume to its end, unless it rests: held by its snapshots, kept for its time, or brought back.

    Raises ImageBusy, ImageHasSnapshots, ImageKept, DriverError when it must wait.
    """
    entry = site.journal.load(uuid)
    if entry is not None and _has_delete_to_end(site, entry):
        with locks.hold(volume_lock(site.handle(uuid)), site.name_lock(entry.request_name)):
            entry = _end_delete(site, uuid)
    if entry is None:
        site.journal.forget_deleted(uuid)
        return _CLEARED
    if entry.state in (State.TOMBSTONE, State.TRASHED) and is_kept(entry):
        return Swept(due_at=entry.kept_until)
    if entry.state in (State.TOMBSTONE, State.SHRUNK):
        _shrink(site, entry)
        return Swept()
    if entry.state in (State.TRASHED, State.PURGING) and site.flatten_queue.names_image(entry.image_id):
        raise Busy(f"image {entry.image_name} waits for the end of a flatten, of its own or of a copy")
    if entry.state in (State.TRASHED, State.PURGING):
        with _claimed(site, site.journal, entry):
            _purge(site, entry)
            if not remove_clone_snap(site, entry):
                free_clone_snap(site, entry)
                raise Busy(f"the snap that image {entry.image_name} was cloned from cannot be removed yet")
            _forget_key(site, entry)
            site.journal.forget(entry.uuid, State.PURGING)
        return _CLEARED
    return Swept()


def _has_delete_to_end(site: Site, entry: VolumeEntry) -> bool:
    """Looked at without the volume's locks: a tombstone that goes on to rest makes no repeated DeleteVolume wait."""
    if entry.state in (State.TOMBSTONE, State.SHRUNK):
        return not is_held_by_snaps(site, entry)
    return entry.state is State.DELETING


def _end_delete(site: Site, uuid: str) -> VolumeEntry | None:
    """Finish a delete, and a tombstone whose last snapshot is gone; the entry afterwards, as it is read under its locks."""
    entry = site.journal.load(uuid)
    if entry is not None and entry.state is State.DELETING:
        finish_delete(site, entry)
    elif entry is not None and entry.state in (State.TOMBSTONE, State.SHRUNK):
        if not finish_tombstone(site, entry):
            return entry
    else:
        return entry
    return site.journal.load(uuid)


def clear_snapshot(site: Site, uuid: str, locks: KeyedLocks) -> Swept:
    """Bring one deleted snapshot to its end. Raises as `clear_volume`."""
    entry = site.snapshots.load(uuid)
    if entry is not None and entry.state is State.DELETING:
        with locks.hold(snapshot_lock(site.handle(uuid))):
            _end_snapshot_delete(site, entry)
        entry = site.snapshots.load(uuid)
    if entry is None:
        site.snapshots.forget_deleted(uuid)
        return _CLEARED
    if entry.state in (State.TRASHED, State.PURGING):
        with _claimed(site, site.snapshots, entry):
            _purge(site, entry)
            _forget_key(site, entry)
            site.snapshots.forget(entry.uuid, State.PURGING)
        return _CLEARED
    free_snapshot(site, entry)
    raise Busy(f"snapshot {uuid} waits for copies of it")


def _end_snapshot_delete(site: Site, entry: SnapshotEntry) -> None:
    """The image is not opened for a snap that clones of format 1 hold: of those there may be many, and they come again."""
    snap = ParentSnap(site.pool.pool_id, site.pool.namespace, entry.source_image_id, entry.snap_id)
    if entry.is_native and site.pool.ancestry.is_needed(snap):
        site.snapshots.release_name(entry)
    else:
        finish_snapshot_delete(site, entry)


def clear_group(site: Site, uuid: str, locks: KeyedLocks) -> Swept:
    """Bring one deleted group snapshot to its end. Raises as `clear_volume`."""
    entry = site.groups.load(uuid)
    if entry is not None and entry.state is State.DELETING:
        with locks.hold(group_lock(site.handle(uuid)), site.group_name_lock(entry.request_name)):
            finish_group_delete(site, entry)
    site.groups.forget_deleted(uuid)
    return _CLEARED


def _shrink(site: Site, entry: VolumeEntry) -> None:
    """The data of a tombstone's own, unless it has a parent: shrinking would first copy the parent's data up."""
    try:
        if entry.state is State.SHRUNK or site.pool.ancestry.find_parent(entry.image_id):
            return
        site.journal.move(entry, State.SHRUNK)
        site.pool.images.shrink(entry.image_name)
    except ImageMissing as error:
        raise Busy(f"image {entry.image_name} goes to the trash just now, or waits for the end of a flatten") from error


@contextmanager
def _claimed(site: Site, journal: Journal[E], entry: E) -> Iterator[None]:
    """The purge of an image, which one process does. One that must wait gives its claim back: it is at nothing that anybody
    had to fence. Raises Busy.
    """
    claimed = _claim(site, journal, entry)
    try:
        yield
    except ClusterUnavailable:
        raise  # some of it may come late: whoever goes on has to fence
    except (ImageBusy, ImageHasSnapshots, ImageKept, DriverError):
        with suppress(DriverError):  # another's by now, or out of reach
            journal.give_up(claimed)
        raise


def _claim(site: Site, journal: Journal[E], entry: E) -> E:
    """Whoever goes on with another's purge fences it: a lock that is asked for late makes the header of an image that was
    removed meanwhile anew (docs/decisions/0040), and of two purges at once librbd 16.2 aborts the one that loses it.

    Raises Busy: within the grace time of another's claim, and as long as somebody has the image open, who may be purging it.
    """
    doing = f"image {entry.image_id} is being purged"
    is_claimed = entry.state is State.PURGING and entry.maker
    if is_claimed:
        site.makers.respect(site.pool, entry.maker, since=entry.made_at, doing=doing)
    if watchers := site.pool.images.watchers(entry.image_id):
        raise Busy(f"image {entry.image_id} is in the trash, and still open at {watchers[0]}")
    if is_claimed:
        site.makers.fence(site.pool, entry.maker, since=entry.made_at, doing=doing)
    return journal.take_on(entry, State.PURGING, site.cluster.address)


def _forget_key(site: Site, entry: VolumeEntry | SnapshotEntry) -> None:
    """While an image is there, its key is: one that the trash does not have may have been taken out past the driver. Raises
    Busy, KmsUnavailable.
    """
    if entry.kms_id and entry.image_id and site.pool.ancestry.has_header(entry.image_id):
        raise Busy(
            f"image {entry.image_id} was taken out of the trash past the driver; its key is kept as long as it is there"
        )
    site.forget_key(entry)


def _purge(site: Site, entry: VolumeEntry | SnapshotEntry) -> None:
    images = site.pool.images
    try:
        try:
            images.purge(entry.image_id)
        except ImageHasSnapshots:
            free_trashed_snaps(site, entry.image_id)  # librbd never comes back to them; what is left, the purge tells
            images.purge(entry.image_id)
    except ImageMissing:
        pass  # purged before
