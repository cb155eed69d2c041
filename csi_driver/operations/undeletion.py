"""What `rbd-csi volume` does: brings a deleted volume back under its old handle, and lists those that can be.

A volume that is `restoring` belongs to the process that made it so: whoever repeats the command cuts that one off first, so
that nothing of it arrives late, and goes on. Purge, shrink and delete exclude the undelete by their compare on `state`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from csi_driver.ceph.api import ImageExists, ImageMissing
from csi_driver.errors import Busy, Conflict, NotFound
from csi_driver.ids import Handle
from csi_driver.journal import layout
from csi_driver.journal.entries import VolumeEntry
from csi_driver.journal.layout import State
from csi_driver.journal.reading import Reserved
from csi_driver.operations.deletion import release_name
from csi_driver.operations.site import PoolKey, Site, Sites

RESTORABLE = (State.TOMBSTONE, State.TRASHED, State.RESTORING)


class Step(Enum):
    """What an undelete does next."""

    NOTHING = auto()  # the volume lives
    CLAIM = auto()  # deleted, and all of it is there
    TAKE_OVER = auto()  # begun by an undelete that was cut short


@dataclass(frozen=True)
class Undeleted:
    """A volume that lives. was_deleted: until now · is_named: whether its name leads to it, or is another's."""

    name: str
    was_deleted: bool
    is_named: bool


@dataclass(frozen=True)
class DeletedVolume:
    """A volume that can be brought back. kept_until: seconds since the epoch; 0: until the purge comes to it."""

    handle: str
    name: str
    size_bytes: int
    kept_until: float
    is_restoring: bool


_TOO_LATE = {
    State.PURGING: "its time is over, and it is being purged",
    State.SHRUNK: "its time is over: its data is gone, and only its snapshots are left",
}


def decide(handle: Handle, entry: VolumeEntry) -> Step:
    """Raises NotFound when nothing can be brought back, Busy while a delete is under way."""
    if entry.is_usable:
        return Step.NOTHING
    if entry.state in (State.TOMBSTONE, State.TRASHED):
        return Step.CLAIM
    if entry.state is State.RESTORING:
        return Step.TAKE_OVER
    if entry.state is State.DELETING:
        raise Busy(f"volume {handle} is being deleted; when the driver has finished that, it can be brought back")
    reason = _TOO_LATE.get(entry.state, "it was never finished")
    raise NotFound(f"volume {handle} cannot be brought back: {reason}")


class VolumeUndeletion:
    """Brings deleted volumes back."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def undelete(self, handle: Handle) -> Undeleted:
        """Fine when the volume lives. Raises NotFound, Conflict when the image's name is taken, Unfinished."""
        with self._sites.open_of(handle, None) as site:
            entry = site.journal.load(handle.uuid)
            if entry is None:
                raise NotFound(f"volume {handle} cannot be brought back: it was purged, or there never was one")
            step = decide(handle, entry)
            if step is Step.NOTHING:
                return Undeleted(entry.request_name, was_deleted=False, is_named=_is_named(site, entry))
            if step is Step.CLAIM:
                _refuse_lost_image(site, handle, entry)
            elif entry.maker != site.cluster.address:
                site.cluster.blocklist(entry.maker)
            return _bring_back(site, site.journal.take_on(entry, State.RESTORING, site.cluster.address))

    def restorable(self, key: PoolKey) -> Iterator[DeletedVolume]:
        """The volumes of one pool that can be brought back."""
        with self._sites.open(key) as site:
            after = ""
            while uuids := site.journal.list_deleted(after):
                for uuid in uuids:
                    entry = site.journal.load(uuid)
                    if entry is not None and entry.state in RESTORABLE:
                        yield DeletedVolume(
                            str(site.handle(uuid)),
                            entry.request_name,
                            entry.size_bytes,
                            entry.kept_until,
                            entry.state is State.RESTORING,
                        )
                after = uuids[-1]


def _bring_back(site: Site, entry: VolumeEntry) -> Undeleted:
    """From `restoring` on. Every step may have been done before."""
    try:
        site.pool.images.restore_from_trash(entry.image_id, entry.image_name)
    except ImageMissing:
        _refuse_lost_image(site, site.handle(entry.uuid), entry)  # else a tombstone, or out of the trash already
    except ImageExists as error:
        raise Conflict(
            f"volume {site.handle(entry.uuid)} cannot be brought back yet: another image has the name "
            f"{entry.image_name}; rename that one and repeat the command"
        ) from error
    is_named = _return_name(site, entry)
    site.journal.complete(entry, {layout.KEPT_UNTIL: ""})
    return Undeleted(entry.request_name, was_deleted=True, is_named=is_named)


def _is_named(site: Site, entry: VolumeEntry) -> bool:
    if entry.journal_pool_id in (None, site.pool.pool_id):
        return site.journal.find(entry.request_name) == Reserved(entry.uuid)
    with site.cluster.pool(entry.journal_pool_id) as journal_pool:
        found = site.journal.in_pool(journal_pool).find(entry.request_name)
    return found == Reserved(entry.uuid, site.pool.pool_id)


def _return_name(site: Site, entry: VolumeEntry) -> bool:
    """Unless another volume has the name by now: then D stays, so that the entry is found. Whether the name is its own."""
    if entry.journal_pool_id in (None, site.pool.pool_id):
        return site.journal.return_name(entry)
    with site.cluster.pool(entry.journal_pool_id) as journal_pool:
        is_named = site.journal.in_pool(journal_pool).return_foreign_name(entry, site.pool.pool_id)
    if is_named:
        site.journal.forget_deleted(entry.uuid)
    return is_named


def _refuse_lost_image(site: Site, handle: Handle, entry: VolumeEntry) -> None:
    """Purged past the driver. What is left of the entry is cleared away by the purge, as after any other. Raises NotFound."""
    images = site.pool.images
    if images.find_trashed(entry.image_id) or images.find_id(entry.image_name) == entry.image_id:
        return
    if entry.state is State.RESTORING:
        release_name(site, entry)
        site.journal.move(entry, State.TRASHED, {layout.KEPT_UNTIL: ""})
    raise NotFound(f"volume {handle} cannot be brought back: its image {entry.image_name} is not in the trash any more")
