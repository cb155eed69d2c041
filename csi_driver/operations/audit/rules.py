"""What is wrong with a pool, given a survey of it: pure. One function for each side from which it is looked at."""

import re
import time
from collections.abc import Iterator

from csi_driver.ceph.api import SnapKind
from csi_driver.ids import Handle
from csi_driver.journal.entries import Entry, SnapshotEntry, VolumeEntry
from csi_driver.journal.group_entries import GroupEntry
from csi_driver.journal.layout import GROUPS, SNAPSHOTS, VOLUMES, State
from csi_driver.journal.reading import Reserved
from csi_driver.operations.audit.findings import Finding
from csi_driver.operations.audit.findings import FindingClass as Class
from csi_driver.operations.audit.survey import ImageFacts, Records, Survey
from csi_driver.operations.origin import CLONE_PREFIX

AnyRecords = Records[VolumeEntry] | Records[SnapshotEntry] | Records[GroupEntry]

UNFINISHED_S = 3600.0
"""A create that nobody has repeated for so long is given up: the sidecars repeat within minutes."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_TEMPORARY = "-temp"


def findings(seen: Survey) -> Iterator[Finding]:
    yield from _of_names(seen, seen.volumes)
    yield from _of_names(seen, seen.snapshots)
    yield from _of_names(seen, seen.groups)
    for volume in seen.volumes.entries.values():
        if volume.uuid not in seen.volumes.of_others:
            yield from _of_volume(seen, volume)
    for snapshot in seen.snapshots.entries.values():
        if snapshot.uuid not in seen.snapshots.of_others:
            yield from _of_snapshot(seen, snapshot)
    for group in seen.groups.entries.values():
        if group.uuid not in seen.groups.of_others:
            yield from _of_group(seen, group)
    for name, facts in seen.images.items():
        yield from _of_image(seen, name, facts)
    yield from _of_rbd_groups(seen)
    yield from _of_trash(seen)


def _of_names(seen: Survey, records: AnyRecords) -> Iterator[Finding]:
    known = records.entries.keys() | records.unreadable.keys()
    for name, reserved in records.names.items():
        is_elsewhere = reserved.pool_id not in (None, seen.pool_id)
        if name not in records.dangling if is_elsewhere else reserved.uuid in known:
            continue
        subject = f"{records.kind.noun} name {name!r} of {reserved.uuid}"
        yield Finding(Class.NAME_WITHOUT_ENTRY, name, subject, records.kind, reserved.uuid)
    for uuid in records.deleted - known:
        yield Finding(Class.DELETED_WITHOUT_ENTRY, uuid, f"{records.kind.noun} {uuid}", records.kind, uuid)
    for uuid, reason in records.unreadable.items():
        if uuid in records.of_others:
            continue
        yield Finding(Class.UNREADABLE_ENTRY, uuid, f"{records.kind.noun} {uuid}: {reason}", records.kind, uuid)


def _of_entry(seen: Survey, entry: Entry, records: AnyRecords) -> Iterator[Finding]:
    """Whether it is found, and whether it will be finished."""
    kind = records.kind
    subject = f"{kind.noun} {entry.uuid} of name {entry.request_name!r}"
    is_named = records.names.get(entry.request_name) in (
        Reserved(entry.uuid),
        Reserved(entry.uuid, seen.pool_id),
    )
    is_found = is_named or entry.uuid in records.deleted
    is_named_elsewhere = entry.journal_pool_id not in (None, seen.pool_id)
    if not is_found and not is_named_elsewhere:
        has_image = entry.image_name in seen.images or entry.image_id in seen.trash
        # Of the Go driver's group snapshots the entry alone stays, and images of its members' snapshots.
        is_empty = entry.state is State.FOREIGN and not has_image and kind is not GROUPS
        what = Class.EMPTY_ENTRY if is_empty else Class.ENTRY_WITHOUT_NAME
        yield Finding(what, entry.uuid, subject, kind, entry.uuid)
    elif entry.state is State.MAKING and time.time() - entry.made_at > UNFINISHED_S:
        facts = seen.images.get(entry.image_name)
        # Without its object, what stands beside the name cannot tell a create that was cut short from a lost entry.
        may_be_lost = entry.is_noted and facts is not None and facts.info is not None
        what = Class.UNFINISHED_IMAGE if may_be_lost else Class.UNFINISHED_CREATE
        yield Finding(what, entry.uuid, subject, kind, entry.uuid)


def _of_volume(seen: Survey, entry: VolumeEntry) -> Iterator[Finding]:
    yield from _of_entry(seen, entry, seen.volumes)
    if reason := seen.keyless.get(entry.uuid):
        subject = f"volume {entry.uuid} of name {entry.request_name!r}: image {entry.image_name}: {reason}"
        yield Finding(Class.MISSING_KEY, entry.uuid, subject, VOLUMES, entry.uuid)
    if entry.state is not State.COMPLETE:
        return
    facts = seen.images.get(entry.image_name)
    subject = f"volume {entry.uuid} of name {entry.request_name!r}: image {entry.image_name}"
    if facts is None:
        yield Finding(Class.MISSING_IMAGE, entry.uuid, subject, VOLUMES, entry.uuid, entry.image_id)
    elif facts.info is None and facts.parent and not facts.is_listed and facts.image_id not in seen.queued:
        yield Finding(Class.CUT_OFF_PARENT, entry.uuid, subject, VOLUMES, entry.uuid, facts.image_id)
    elif entry.depth is not None and facts.depth > entry.depth:
        yield Finding(
            Class.WRONG_DEPTH,
            entry.uuid,
            f"{subject} has {facts.depth} ancestors, recorded are {entry.depth}",
            VOLUMES,
            entry.uuid,
            facts.image_id,
        )


def _of_snapshot(seen: Survey, entry: SnapshotEntry) -> Iterator[Finding]:
    yield from _of_entry(seen, entry, seen.snapshots)
    if entry.state is not State.COMPLETE or not entry.is_native:
        return
    if entry.group_handle:
        yield from _of_member(seen, entry)
        return
    source = next((facts for facts in seen.images.values() if facts.image_id == entry.source_image_id), None)
    if source is None or source.info is None:
        return  # a kept tombstone in the trash, or an image that cannot be opened: told of that image
    if not any(snap.snap_id == entry.snap_id for snap in source.info.snaps):
        subject = f"snapshot {entry.uuid} of name {entry.request_name!r}: {entry.source_image}@{entry.snap_name}"
        yield Finding(Class.MISSING_SNAP, entry.uuid, subject, SNAPSHOTS, entry.uuid)


def _of_member(seen: Survey, entry: SnapshotEntry) -> Iterator[Finding]:
    """A snapshot of a group in this pool. Whether its snap is there, is told of the group."""
    group = Handle.parse(entry.group_handle)
    if group is None or group.pool_id != seen.pool_id:
        return
    if group.uuid not in seen.groups.entries.keys() | seen.groups.unreadable.keys() | seen.groups.of_others:
        subject = f"snapshot {entry.uuid} of group snapshot {group.uuid}: {entry.source_image}@{entry.snap_name}"
        yield Finding(Class.MEMBER_WITHOUT_GROUP, entry.uuid, subject, SNAPSHOTS, entry.uuid)


def _of_group(seen: Survey, entry: GroupEntry) -> Iterator[Finding]:
    yield from _of_entry(seen, entry, seen.groups)
    if reason := seen.broken_groups.get(entry.uuid):
        subject = f"group snapshot {entry.uuid} of name {entry.request_name!r}: {reason}"
        yield Finding(Class.MISSING_GROUP, entry.uuid, subject, GROUPS, entry.uuid)


def _of_rbd_groups(seen: Survey) -> Iterator[Finding]:
    known = seen.groups.entries.keys() | seen.groups.unreadable.keys() | seen.groups.of_others
    for name in seen.rbd_groups:
        form = _UUID.search(name)
        if form and name.startswith(GROUPS.image_prefix) and form[0] not in known:
            yield Finding(Class.UNEXPLAINED_GROUP, name, f"RBD group {name}")


def _of_image(seen: Survey, name: str, facts: ImageFacts) -> Iterator[Finding]:
    base = name.removesuffix(_TEMPORARY)
    if base != name and _UUID.search(base):
        yield from _of_temporary(seen, name, base, facts)
        return
    records = _records_of(seen, name)
    if records is not None and not _is_explained(seen, name):
        yield Finding(Class.UNEXPLAINED_IMAGE, name, f"image {name}", image_id=facts.image_id)
        return
    for snap in facts.info.snaps if facts.info else ():
        form = _UUID.search(snap.name)
        if snap.kind is not SnapKind.USER or form is None or name.startswith(SNAPSHOTS.image_prefix):
            continue
        if snap.name.startswith(CLONE_PREFIX):
            if not _is_needed(seen, form[0], facts.image_id, snap.snap_id):
                subject = f"{name}@{snap.name}"
                yield Finding(Class.TEMPORARY_SNAP, subject, f"snap {subject}", image_id=facts.image_id)
        elif snap.name.startswith(SNAPSHOTS.image_prefix) and form[0] not in seen.snapshots.entries:
            subject = f"{name}@{snap.name}"
            yield Finding(Class.UNEXPLAINED_SNAP, subject, f"snap {subject}", image_id=facts.image_id)


def _is_needed(seen: Survey, uuid: str, image_id: str, snap_id: int) -> bool:
    """By the copy that it was cut for: while that is made or unmade, and with clone format 1 as long as it stands on it."""
    if uuid in seen.copies_elsewhere:
        return True
    copy = seen.volumes.entries.get(uuid)
    if copy is None or copy.state is not State.COMPLETE:
        return copy is not None
    facts = seen.images.get(copy.image_name)
    parent = facts.parent if facts else None
    return parent is not None and (parent.image_id, parent.snap_id) == (image_id, snap_id)


def _of_temporary(seen: Survey, name: str, base: str, facts: ImageFacts) -> Iterator[Finding]:
    """The Go driver's clone of a volume stands on it until it is flattened."""
    clone = seen.images.get(base)
    if clone is None or clone.parent is None or clone.parent.image_id != facts.image_id:
        yield Finding(Class.TEMPORARY_IMAGE, name, f"image {name}", image_id=facts.image_id)


def _of_trash(seen: Survey) -> Iterator[Finding]:
    for image_id, name in seen.trash.items():
        if _records_of(seen, name.removesuffix(_TEMPORARY)) is not None and not _is_explained(seen, name):
            what = Class.UNEXPLAINED_TRASH if image_id in seen.headers else Class.TRASH_WITHOUT_IMAGE
            yield Finding(what, image_id, f"trash {image_id}, {name}", image_id=image_id)
    named = {facts.image_id for facts in seen.images.values()} | seen.trash.keys()
    for image_id in seen.headers - named:
        yield Finding(Class.NAMELESS_HEADER, image_id, f"header of image {image_id}", image_id=image_id)
    for of in seen.object_maps:
        image_id = of.partition(".")[0]  # a snap's has the snap's id behind
        if image_id not in seen.headers:
            yield Finding(Class.STRAY_OBJECT_MAP, of, f"object map {of}", image_id=image_id)


def _records_of(seen: Survey, image: str) -> AnyRecords | None:
    """Those to which an image of such a name would belong; None for an image that is none of a driver's."""
    if not _UUID.search(image):
        return None
    if image.startswith(SNAPSHOTS.image_prefix):
        return seen.snapshots
    return seen.volumes if image.startswith(VOLUMES.image_prefix) else None


def _is_explained(seen: Survey, image: str) -> bool:
    form = _UUID.search(image.removesuffix(_TEMPORARY))
    if form is None:
        return True
    return any(
        form[0] in records.entries or form[0] in records.unreadable or form[0] in records.of_others
        for records in (seen.volumes, seen.snapshots)
    )
