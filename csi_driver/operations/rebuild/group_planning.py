"""What a rebuild has to do of group snapshots: pure, as planning.py.

The RBD group and its snap stay when the journal is lost; of which volumes the group was, and which snapshot is whose, its
entry says, or the orchestrator.
"""

from collections.abc import Iterable, Iterator

from csi_driver.claims import GroupClaim, MemberClaim
from csi_driver.ids import Handle
from csi_driver.journal.group_entries import GroupEntry
from csi_driver.journal.layout import GROUPS
from csi_driver.operations.audit.survey import Survey
from csi_driver.operations.group_members import part_of_group
from csi_driver.operations.rebuild.restoration import Act, Restoration


def plan_groups(seen: Survey, claims: Iterable[GroupClaim], cluster_id: str) -> Iterator[Restoration]:
    """claims: of this pool"""
    for entry in seen.groups.entries.values():
        if entry.is_usable and entry.uuid not in seen.groups.of_others and _has_lost_members(seen, entry):
            members = tuple(
                MemberClaim(_handle(one.source_handle), Handle(cluster_id, one.pool_id, one.snapshot_uuid))
                for one in entry.members
            )
            yield Restoration(GROUPS, entry.uuid, entry.request_name, Act.ENTRY, entry.image_name, members=members)
    for claim in claims:
        if claim.handle.uuid not in seen.groups.entries:
            group = next((one for one in seen.rbd_groups if one.endswith(claim.handle.uuid)), "")
            problem = _problem(seen, claim, group)
            act = Act.NOTHING if problem else Act.ENTRY
            uuid, name, members = claim.handle.uuid, claim.request_name, claim.members
            yield Restoration(GROUPS, uuid, name, act, group, members=members, problem=problem)


def _handle(text: str) -> Handle:
    handle = Handle.parse(text)
    assert handle, f"{text!r} was written by this driver"
    return handle


def _has_lost_members(seen: Survey, entry: GroupEntry) -> bool:
    """In this pool: snaps that are there, of snapshots that have no entry."""
    return any(
        one.pool_id == seen.pool_id
        and one.snapshot_uuid not in seen.snapshots.entries
        and _has_snap(seen, one.image_name, entry.image_name)
        for one in entry.members
    )


def _problem(seen: Survey, claim: GroupClaim, group: str) -> str:
    """Why it cannot be restored; empty when it can."""
    uuid, reserved = claim.handle.uuid, seen.groups.names.get(claim.request_name)
    if uuid in seen.groups.unreadable:
        return f"its entry cannot be read: {seen.groups.unreadable[uuid]}"
    if uuid in seen.groups.of_others:
        return "it is another instance's"
    if reserved is not None and reserved.uuid != uuid:
        return f"the name is that of group snapshot {reserved.uuid}"
    if not group:
        return f"there is no RBD group whose name ends in {uuid}"
    return _members_problem(seen, claim, group)


def _members_problem(seen: Survey, claim: GroupClaim, group: str) -> str:
    if not claim.members:
        return "of what volumes it is, nothing tells"
    for member in claim.members:
        image = next((one for one in seen.images if one.endswith(member.source.uuid)), "")
        if member.source.pool_id == seen.pool_id and not _has_snap(seen, image, group):
            return f"volume {member.source} has no snap of RBD group {group}"
    return ""


def _has_snap(seen: Survey, image: str, group: str) -> bool:
    facts = seen.images.get(image)
    return bool(facts and facts.info and part_of_group(facts.info.snaps, group, seen.pool_id))
