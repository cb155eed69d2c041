"""Restoring a group snapshot: the entries of its snapshots, then its own, exclusively, then its name, by compare."""

from dataclasses import replace

from csi_driver.ceph.api import ImageMissing, Snap
from csi_driver.claims import MemberClaim
from csi_driver.errors import Busy, NotFound
from csi_driver.ids import uuid_at_end
from csi_driver.journal import layout
from csi_driver.journal.group_entries import GroupEntry, Member
from csi_driver.journal.layout import State
from csi_driver.operations.group_members import part_of_group, write_member
from csi_driver.operations.rebuild.restoration import Restoration
from csi_driver.operations.site import Site


def write_group(site: Site, wanted: Restoration) -> None:
    """What is there stays as it is. Raises NotFound for a volume or a snap that is gone, Busy when the group is deleted."""
    members = tuple(_member(site, claim) for claim in wanted.members)
    entry = GroupEntry(
        uuid=wanted.uuid,
        state=State.COMPLETE,
        request_name=wanted.request_name,
        image_name=wanted.image,
        maker=site.cluster.address,
        members=members,
    )
    created_at = min(_write_member(site, entry, member) for member in members)
    site.groups.begin_complete(entry, {layout.CREATED_AT: repr(created_at)})


def _member(site: Site, claim: MemberClaim) -> Member:
    with site.beside(claim.source.pool_id) as there:
        source = there.journal.load(claim.source.uuid)
        image_id = there.pool.images.find_id(source.image_name) if source and source.is_usable else None
        if source is None or image_id is None:
            raise NotFound(f"volume {claim.source} of the group is not there, or not restored yet")
        return Member(str(claim.source), claim.source.pool_id, source.image_name, image_id, claim.snapshot.uuid)


def _write_member(site: Site, group: GroupEntry, member: Member) -> float:
    """K and O of its snapshot; when it was cut."""
    with site.beside(member.pool_id) as there:
        if present := there.snapshots.load(member.snapshot_uuid):
            if not present.is_usable:
                raise Busy(f"snapshot {member.snapshot_uuid} of the group is being deleted")
            return present.created_at
        snap = _snap_of(group, site, there, member)
        source = there.journal.load(uuid_at_end(member.source_handle))
        if source is None:
            raise NotFound(f"volume {member.source_handle} of the group is gone")
        depth = there.pool.ancestry.count(member.image_id, snap.snap_id)
        return write_member(site, group, member, snap, replace(source, depth=depth))


def _snap_of(group: GroupEntry, site: Site, there: Site, member: Member) -> Snap:
    try:
        snaps = there.pool.images.inspect_id(member.image_id).snaps
    except ImageMissing as error:
        raise NotFound(f"image {member.image_name} of the group is gone") from error
    snap = part_of_group(snaps, group.image_name, site.pool.pool_id)
    if snap is None:
        raise NotFound(f"image {member.image_name} has no snap of RBD group {group.image_name}")
    return snap
