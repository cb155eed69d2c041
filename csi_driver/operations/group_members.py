"""The member snapshots of a group: how they are named, told, and known as the driver's own."""

from collections.abc import Iterable

from csi_driver.ceph.api import ImageInfo, Snap, SnapKind
from csi_driver.errors import Busy, NotFound
from csi_driver.ids import Handle, uuid_at_end
from csi_driver.journal import layout
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.group_entries import GroupEntry, Member
from csi_driver.journal.layout import State
from csi_driver.journal.reading import Reserved
from csi_driver.model import GroupSnapshot
from csi_driver.operations.description import describe_snapshot
from csi_driver.operations.site import Site


def member_name(entry: GroupEntry, member: Member) -> str:
    """Of the member's K, by which a listing finds it: nobody asks for a snapshot by this name."""
    return f"{entry.uuid}/{member.snapshot_uuid}"


def write_member(site: Site, group: GroupEntry, member: Member, snap: Snap, source: VolumeEntry) -> float:
    """K and O of one member's snapshot, with its source's depth and topology; when it was cut."""
    with site.beside(member.pool_id) as there:
        entry = SnapshotEntry(
            uuid=member.snapshot_uuid,
            state=State.COMPLETE,
            request_name=member_name(group, member),
            image_name="",
            maker=site.cluster.address,
            size_bytes=snap.size_bytes,
            depth=source.depth,
            source_handle=member.source_handle,
            source_image=member.image_name,
            source_image_id=member.image_id,
            snap_name=snap.name,
            snap_id=snap.snap_id,
            topology=source.topology,
            group_handle=str(site.handle(group.uuid)),
        )
        created_at = there.pool.images.get_snap_time(member.image_id, snap.snap_id)
        there.snapshots.claim(entry.request_name, Reserved(entry.uuid))
        there.snapshots.begin_complete(entry, {layout.SNAP_ID: str(snap.snap_id), layout.CREATED_AT: repr(created_at)})
        return created_at


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
    if snap.kind is not SnapKind.GROUP:
        return False
    try:
        with site.beside(snap.group_pool_id) as there:
            entry = there.groups.load(uuid_at_end(snap.group))
    except NotFound:
        return False
    return entry is not None and entry.image_name == snap.group and entry.member_of(info.image_id) is not None
