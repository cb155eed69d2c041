"""The member snapshots of a group: how they are named, told, and known as the driver's own."""

from collections.abc import Iterable

from csi_driver.ceph.api import ImageInfo, Snap, SnapKind
from csi_driver.errors import Busy, NotFound
from csi_driver.ids import Handle
from csi_driver.journal.group_entries import GroupEntry, Member
from csi_driver.model import GroupSnapshot
from csi_driver.operations.description import describe_snapshot
from csi_driver.operations.site import Site

_UUID_LENGTH = 36


def member_name(entry: GroupEntry, member: Member) -> str:
    """Of the member's K, by which a listing finds it: nobody asks for a snapshot by this name."""
    return f"{entry.uuid}/{member.snapshot_uuid}"


def describe_group(site: Site, entry: GroupEntry) -> GroupSnapshot:
    """A group that is complete. Raises Busy when it is being deleted."""
    snapshots = []
    for member in entry.members:
        with site.beside(member.pool_id) as there:
            snapshot = there.snapshots.load(member.snapshot_uuid)
            described = describe_snapshot(there, snapshot) if snapshot else None
        if described is None:
            raise Busy(f"group snapshot {site.handle(entry.uuid)} is being deleted; repeat the call")
        snapshots.append(described)
    return GroupSnapshot(str(site.handle(entry.uuid)), entry.created_at, tuple(snapshots))


def member_ids(site: Site, entry: GroupEntry) -> frozenset[str]:
    """Handles of the member snapshots."""
    cluster_id = site.key.cluster_id
    return frozenset(str(Handle(cluster_id, one.pool_id, one.snapshot_uuid)) for one in entry.members)


def part_of_group(snaps: Iterable[Snap], group: str, pool_id: int) -> Snap | None:
    """Of an image's snaps that of the RBD group, which lies in that pool."""
    of_groups = (snap for snap in snaps if snap.kind is SnapKind.GROUP)
    return next((snap for snap in of_groups if (snap.group, snap.group_pool_id) == (group, pool_id)), None)


def is_snap_of_own_group(site: Site, info: ImageInfo, snap: Snap) -> bool:
    """Whether the journal knows the group that a snap is part of."""
    if snap.kind is not SnapKind.GROUP or len(snap.group) < _UUID_LENGTH:
        return False
    try:
        with site.beside(snap.group_pool_id) as there:
            entry = there.groups.load(snap.group[-_UUID_LENGTH:])
    except NotFound:
        return False
    return entry is not None and entry.image_name == snap.group and entry.member_of(info.image_id) is not None
