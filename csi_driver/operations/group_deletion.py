"""DeleteVolumeGroupSnapshot: the members' entries are marked, then the group's snap goes from all images, then the rest."""

from collections.abc import Callable, Collection
from contextlib import suppress

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import ImageBusy
from csi_driver.errors import Busy, InvalidRequest, NotFound, PoolMissing
from csi_driver.ids import Handle
from csi_driver.journal.group_entries import GroupEntry, Member
from csi_driver.journal.layout import State
from csi_driver.journal.reading import Reserved
from csi_driver.locks import KeyedLocks
from csi_driver.operations.group_members import member_ids, member_name
from csi_driver.operations.site import PoolKey, Site, Sites, group_lock, snapshot_lock

GROUP_SNAP = "csi-group-snap"
"""Name of the one snap of each RBD group that the driver makes."""


class GroupDeletion:
    """Deletes group snapshots. `purge_soon` has a pool looked at behind the call."""

    def __init__(self, sites: Sites, locks: KeyedLocks, purge_soon: Callable[[PoolKey], None]) -> None:
        self._sites = sites
        self._locks = locks
        self._purge_soon = purge_soon

    def delete(self, group_id: str, snapshot_ids: Collection[str], credentials: Credentials | None) -> None:
        """Fine when there is no such group. Raises InvalidRequest for other snapshots than its own, Unfinished."""
        handle = Handle.parse(group_id)
        if handle is None:
            return
        try:
            with self._locks.hold(group_lock(handle)), self._sites.open_of(handle, credentials, as_maker=True) as site:
                entry = site.groups.load(handle.uuid)
                if entry is None:
                    return
                refuse_other_members(site, entry, snapshot_ids)
                names = [site.group_name_lock(entry.request_name)]
                names += [
                    snapshot_lock(Handle(handle.cluster_id, one.pool_id, one.snapshot_uuid)) for one in entry.members
                ]
                with self._locks.hold(*names):
                    delete_group_entry(site, entry)
        except NotFound:
            return  # the pool is gone, and all that was in it
        for pool_id in {one.pool_id for one in entry.members}:
            self._purge_soon(PoolKey(handle.cluster_id, credentials, pool_id))


def refuse_other_members(site: Site, entry: GroupEntry, snapshot_ids: Collection[str]) -> None:
    """Raises InvalidRequest."""
    own = member_ids(site, entry)
    if set(snapshot_ids) != own:
        raise InvalidRequest(
            f"snapshot_ids are {sorted(snapshot_ids)}; allowed are all members of the group: {', '.join(sorted(own))}"
        )


def delete_group_entry(site: Site, entry: GroupEntry) -> None:
    """From any state on. The caller holds the group, its name and its snapshots."""
    if entry.state is State.MAKING:
        site.fence(entry)
    if entry.state is not State.DELETING:
        entry = site.groups.mark_deleting(entry, unmade=entry.state is State.MAKING)
    finish_group_delete(site, entry)


def finish_group_delete(site: Site, entry: GroupEntry) -> None:
    """From `deleting` on. Every step may have been done before. Raises Busy while a flatten needs a member's snap."""
    for member in entry.members:
        with suppress(PoolMissing):  # its snapshot is gone with it
            _mark(site, member)
    groups = site.pool.groups
    try:
        groups.remove_snap(entry.image_name, GROUP_SNAP)
        groups.remove(entry.image_name)
    except ImageBusy as busy:
        raise Busy(f"group {entry.image_name} cannot be removed yet: {busy}; repeat the call") from busy
    for member in entry.members:
        with suppress(PoolMissing):
            _forget(site, entry, member)
    site.groups.release_name(entry)
    site.groups.forget(entry.uuid, State.DELETING)


def _forget(site: Site, entry: GroupEntry, member: Member) -> None:
    with site.beside(member.pool_id) as there:
        snapshot = there.snapshots.load(member.snapshot_uuid)
        if snapshot is None:
            there.snapshots.drop_name(member_name(entry, member), Reserved(member.snapshot_uuid))
            return
        there.snapshots.release_name(snapshot)
        there.snapshots.forget(snapshot.uuid, State.DELETING)


def _mark(site: Site, member: Member) -> None:
    """The member's snapshot is no longer to be copied, and no flatten that was cut short needs its snap."""
    with site.beside(member.pool_id) as there:
        snapshot = there.snapshots.load(member.snapshot_uuid)
        if snapshot is None:
            return
        if there.flatten_queue.names_snap(snapshot.source_image_id, snapshot.snap_id):
            raise Busy(f"snapshot {there.handle(snapshot.uuid)} waits for the end of a copy's flatten; repeat the call")
        if snapshot.state is not State.DELETING:
            there.snapshots.mark_deleting(snapshot)
