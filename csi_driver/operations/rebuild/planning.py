"""What a rebuild has to do in one pool, given a survey of it and what the orchestrator claims: pure.

A volume is restored because the orchestrator has it: an image alone may be a half made copy, or one that was deleted while
its snapshots live. A snap is whole or absent, so that a name is all that a snapshot lacks; the name's key tells it too.
"""

import re
from collections.abc import Iterator, Mapping

from csi_driver.ceph.api import SnapKind
from csi_driver.claims import Claims, SnapshotClaim, VolumeClaim
from csi_driver.journal.entries import Entry, VolumeEntry
from csi_driver.journal.layout import SNAPSHOTS, VOLUMES
from csi_driver.journal.reading import Reserved
from csi_driver.operations.audit.rules import AnyRecords
from csi_driver.operations.audit.survey import Survey
from csi_driver.operations.origin import CLONE_PREFIX
from csi_driver.operations.rebuild.restoration import Act, Restoration

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def plan(
    seen: Survey, claims: Claims, names_elsewhere: Mapping[str, Reserved], of_groups: frozenset[str]
) -> Iterator[Restoration]:
    """Of volumes and snapshots.

    claims: of this pool · names_elsewhere: those of its volumes whose keys are in another pool · of_groups: uuids of
    snapshots that are restored with a group
    """
    for claim in claims.volumes:
        yield from _volume(seen, claim, {**seen.volumes.names, **names_elsewhere})
    by_uuid = {claim.handle.uuid: claim for claim in claims.snapshots}
    found = {one.uuid: one for one in (*_native_snapshots(seen, by_uuid), *_image_snapshots(seen, by_uuid))}
    for uuid, claimed_snapshot in by_uuid.items():
        if uuid not in found and uuid not in of_groups and not _is_known(seen.snapshots, uuid):
            problem = f"there is neither a snap nor an image of snapshot {uuid}"
            found[uuid] = Restoration(SNAPSHOTS, uuid, claimed_snapshot.request_name, Act.NOTHING, problem=problem)
    yield from found.values()
    claimed = {claim.handle.uuid for claim in claims.volumes}
    yield from (one for one in _unnamed(seen, seen.volumes) if one.uuid not in claimed)
    yield from _unnamed(seen, seen.snapshots)
    yield from _unnamed(seen, seen.groups)


def _volume(seen: Survey, claim: VolumeClaim, names: Mapping[str, Reserved]) -> Iterator[Restoration]:
    uuid, name = claim.handle.uuid, claim.request_name
    image = claim.image_name or next((one for one in seen.images if one.endswith(uuid)), "")
    entry, reserved = seen.volumes.entries.get(uuid), names.get(name)
    if entry is not None and entry.is_noted and entry.request_name == name:
        entry = None  # handed out, and its object lost: what stands beside the name looks like a create that was begun

    if entry is not None and not entry.is_usable:
        return
    if problem := _disagreement(seen, claim, entry, reserved):
        act = Act.NOTHING
    elif entry is not None:
        act, image = Act.NAME, entry.image_name
        if reserved is not None:
            return
    elif image not in seen.images or not image.endswith(uuid):
        act, problem = Act.NOTHING, f"there is no image {image or f'whose name ends in {uuid}'}"
    else:
        act = Act.ENTRY
    yield Restoration(VOLUMES, uuid, name, act, image, claim=claim, problem=problem)


def _disagreement(seen: Survey, claim: VolumeClaim, entry: VolumeEntry | None, reserved: Reserved | None) -> str:
    """Of the journal with the claim; empty without one."""
    uuid = claim.handle.uuid
    if uuid in seen.volumes.unreadable:
        return f"its entry cannot be read: {seen.volumes.unreadable[uuid]}"
    if uuid in seen.volumes.of_others:
        return "it is another instance's"
    if entry is not None and entry.request_name != claim.request_name:
        return f"its entry has the name {entry.request_name!r}"
    if reserved is not None and reserved.uuid != uuid:
        return f"the name is that of volume {reserved.uuid}"
    return ""


def _native_snapshots(seen: Survey, claims: Mapping[str, SnapshotClaim]) -> Iterator[Restoration]:
    for image, facts in seen.images.items():
        for snap in facts.info.snaps if facts.info else ():
            form = _UUID.search(snap.name)
            if (
                snap.kind is not SnapKind.USER
                or form is None
                or snap.name.startswith(CLONE_PREFIX)
                or snap.name == image
            ):
                continue
            uuid = form[0]
            is_ours = uuid in claims or snap.name.startswith(SNAPSHOTS.image_prefix)
            if is_ours and not _is_known(seen.snapshots, uuid) and _UUID.search(image):
                yield _snapshot(seen, claims.get(uuid), Restoration(SNAPSHOTS, uuid, "", Act.ENTRY, image, snap))


def _image_snapshots(seen: Survey, claims: Mapping[str, SnapshotClaim]) -> Iterator[Restoration]:
    """The Go driver's: an image of its own, with one snap of the same name."""
    by_id = {facts.image_id: name for name, facts in seen.images.items()}
    for image, facts in seen.images.items():
        form = _UUID.search(image)
        if form is None or not image.startswith(SNAPSHOTS.image_prefix) or _is_known(seen.snapshots, form[0]):
            continue
        claim, snaps = claims.get(form[0]), facts.info.snaps if facts.info else ()
        parent = by_id.get(facts.parent.image_id, "") if facts.parent else ""
        source_uuid = claim.source.uuid if claim and claim.source else ""
        source = next((one for one in seen.images if source_uuid and one.endswith(source_uuid)), parent)
        wanted = Restoration(SNAPSHOTS, form[0], "", Act.ENTRY, image, source=source)
        if not any(snap.name == image for snap in snaps):
            yield _refused(wanted, f"image {image} has no snap of its name: it was never finished")
        elif not source:
            yield _refused(wanted, f"of what volume image {image} is a snapshot, nothing tells")
        else:
            yield _snapshot(seen, claim, wanted)


def _snapshot(seen: Survey, claim: SnapshotClaim | None, wanted: Restoration) -> Restoration:
    """With the name that the orchestrator or the directory has for it."""
    known = next((name for name, one in seen.snapshots.names.items() if one.uuid == wanted.uuid), "")
    name = claim.request_name if claim else known
    reserved = seen.snapshots.names.get(name)
    if not name:
        return _refused(wanted, f"what name snapshot {wanted.uuid} has, nothing tells")
    named = Restoration(SNAPSHOTS, wanted.uuid, name, wanted.act, wanted.image, wanted.snap, wanted.source)
    if reserved is not None and reserved.uuid != wanted.uuid:
        return _refused(named, f"the name is that of snapshot {reserved.uuid}")
    return named


def _refused(wanted: Restoration, problem: str) -> Restoration:
    return Restoration(SNAPSHOTS, wanted.uuid, wanted.request_name, Act.NOTHING, wanted.image, problem=problem)


def _unnamed(seen: Survey, records: AnyRecords) -> Iterator[Restoration]:
    """Entries that say their name themselves."""
    for entry in records.entries.values():
        if not entry.is_usable or entry.uuid in records.of_others or _is_found(seen, entry, records):
            continue
        holder = records.names.get(entry.request_name)
        act = Act.NAME if holder is None else Act.NOTHING
        problem = f"the name is that of {records.kind.noun} {holder.uuid}" if holder else ""
        yield Restoration(records.kind, entry.uuid, entry.request_name, act, entry.image_name, problem=problem)


def _is_found(seen: Survey, entry: Entry, records: AnyRecords) -> bool:
    is_named = records.names.get(entry.request_name) in (Reserved(entry.uuid), Reserved(entry.uuid, seen.pool_id))
    is_named_elsewhere = entry.journal_pool_id not in (None, seen.pool_id)
    return is_named or entry.uuid in records.deleted or is_named_elsewhere


def _is_known(records: AnyRecords, uuid: str) -> bool:
    return uuid in records.entries or uuid in records.unreadable or uuid in records.of_others
