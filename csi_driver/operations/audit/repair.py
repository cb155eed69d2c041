"""Mending one finding: by the journal's own moves, each of which begins with a compare.

A finding that is no longer so when it is mended is left alone.
"""

import uuid
from contextlib import suppress

from csi_driver.ceph.api import ImageBusy, ImageHasSnapshots, ImageMissing, ObjectMissing, Write
from csi_driver.errors import Busy
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.group_entries import GroupEntry
from csi_driver.journal.journal import Journal
from csi_driver.journal.layout import GROUPS, SNAPSHOTS, VOLUMES, State
from csi_driver.journal.reading import E, Reserved
from csi_driver.operations.audit.findings import Finding
from csi_driver.operations.audit.findings import FindingClass as Class
from csi_driver.operations.deletion import undo
from csi_driver.operations.group_deletion import delete_group_entry
from csi_driver.operations.site import Site
from csi_driver.operations.snapshot_deletion import delete_snapshot_entry


def repair(site: Site, finding: Finding) -> None:
    """Raises DriverError, Busy among them, when it cannot be mended just now."""
    _REPAIRS[finding.what](site, finding)


def _drop_name(site: Site, finding: Finding) -> None:
    journal = _journal(site, finding)
    reserved = journal.find(finding.name)
    if reserved is not None and reserved.uuid == finding.uuid:
        journal.drop_name(finding.name, reserved)


def _give_name(site: Site, finding: Finding) -> None:
    """To the name that the entry has, or to the list of what has none."""
    if finding.kind is SNAPSHOTS:
        _name_or_note(site.snapshots, finding.uuid)
    elif finding.kind is GROUPS:
        _name_or_note(site.groups, finding.uuid)
    else:
        _name_or_note(site.journal, finding.uuid)


def _name_or_note(journal: Journal[E], uuid: str) -> None:
    entry = journal.load(uuid)
    if entry is None:
        return
    if entry.is_usable:
        journal.claim(entry.request_name, Reserved(uuid))
    if journal.find(entry.request_name) != Reserved(uuid):
        journal.note_deleted(entry)


def _undo(site: Site, finding: Finding) -> None:
    if finding.kind is GROUPS:
        group = site.groups.load(finding.uuid)
        if group is not None and group.state is State.MAKING:
            delete_group_entry(site, group)
        return
    if finding.kind is SNAPSHOTS:
        snapshot = site.snapshots.load(finding.uuid)
        if snapshot is not None and snapshot.state is State.MAKING:
            delete_snapshot_entry(site, snapshot)
        return
    volume = site.journal.load(finding.uuid) or site.journal.load_noted(finding.uuid)
    if volume is not None and volume.state is State.MAKING:
        site.fence(volume)
        undo(site, volume)


def _remove_empty(site: Site, finding: Finding) -> None:
    """An entry of the Go driver has no state: the compare is with none."""
    journal = _journal(site, finding)
    entry = journal.load(finding.uuid)
    if entry is not None and site.pool.images.find_id(entry.image_name) is None:
        journal.forget(finding.uuid, State.FOREIGN)


def _drop_note(site: Site, finding: Finding) -> None:
    _journal(site, finding).forget_deleted(finding.uuid)


def _remove_snap(site: Site, finding: Finding) -> None:
    _, _, snap = finding.name.rpartition("@")
    with suppress(ImageMissing):
        try:
            site.pool.images.remove_snap(finding.image_id, snap)
        except ImageBusy as busy:
            raise Busy(f"snap {finding.name}: clones of format 1 need it") from busy


def _record_depth(site: Site, finding: Finding) -> None:
    entry = site.journal.load(finding.uuid)
    if entry is not None and entry.state is State.COMPLETE:
        site.journal.record_depth(entry, site.pool.ancestry.count(finding.image_id))


def _cut_off(site: Site, finding: Finding) -> None:
    entry, ancestry = site.journal.load(finding.uuid), site.pool.ancestry
    if entry is None or entry.state is not State.COMPLETE:
        return  # of a clone that is half made the same is seen
    try:
        site.pool.images.inspect_id(finding.image_id)
    except ImageMissing:
        if ancestry.find_parent(finding.image_id) and not ancestry.is_listed(finding.image_id):
            ancestry.drop_parent(finding.image_id)


def _delete_snapshot(site: Site, finding: Finding) -> None:
    entry = site.snapshots.load(finding.uuid)
    if entry is not None:
        delete_snapshot_entry(site, entry)


def _delete_group(site: Site, finding: Finding) -> None:
    entry = site.groups.load(finding.uuid)
    if entry is not None:
        delete_group_entry(site, entry)


def _remove_group(site: Site, finding: Finding) -> None:
    try:
        site.pool.groups.remove(finding.name)
    except ImageBusy as busy:
        raise Busy(f"group {finding.name} cannot be removed: {busy}") from busy


def _remove_image(site: Site, finding: Finding) -> None:
    with suppress(ImageMissing):
        if watchers := site.pool.images.watchers(finding.image_id):
            raise Busy(f"image {finding.name} is open at {watchers[0]}")
        site.pool.images.move_to_trash(finding.name)
    _purge(site, finding)


def _purge(site: Site, finding: Finding) -> None:
    with suppress(ImageMissing):
        try:
            site.pool.images.purge(finding.image_id)
        except (ImageBusy, ImageHasSnapshots) as held:
            raise Busy(f"image {finding.image_id} stays in the trash: clones or snapshots of it live") from held


def _remove_nameless(site: Site, finding: Finding) -> None:
    images = site.pool.images
    if not site.pool.ancestry.has_header(finding.image_id) or images.find_name(finding.image_id):
        return
    if watchers := images.watchers(finding.image_id):
        raise Busy(f"image {finding.image_id} is open at {watchers[0]}")
    try:
        # Under a name that is told as `unexplained-trash` if this is cut short.
        images.remove_nameless(finding.image_id, f"{VOLUMES.image_prefix}{uuid.uuid4()}")
    except (ImageBusy, ImageHasSnapshots) as held:
        raise Busy(f"image {finding.image_id} is in the trash now: clones or snapshots of it live") from held


def _remove_object_map(site: Site, finding: Finding) -> None:
    if not site.pool.ancestry.has_header(finding.image_id):
        with suppress(ObjectMissing):
            site.pool.objects.apply(f"rbd_object_map.{finding.name}", Write(remove_object=True))


def _journal(site: Site, finding: Finding) -> Journal[VolumeEntry] | Journal[SnapshotEntry] | Journal[GroupEntry]:
    if finding.kind is GROUPS:
        return site.groups
    return site.snapshots if finding.kind is SNAPSHOTS else site.journal


_REPAIRS = {
    Class.NAME_WITHOUT_ENTRY: _drop_name,
    Class.ENTRY_WITHOUT_NAME: _give_name,
    Class.UNFINISHED_CREATE: _undo,
    Class.UNFINISHED_IMAGE: _undo,
    Class.EMPTY_ENTRY: _remove_empty,
    Class.DELETED_WITHOUT_ENTRY: _drop_note,
    Class.TEMPORARY_SNAP: _remove_snap,
    Class.WRONG_DEPTH: _record_depth,
    Class.CUT_OFF_PARENT: _cut_off,
    Class.MISSING_SNAP: _delete_snapshot,
    Class.MISSING_GROUP: _delete_group,
    Class.UNEXPLAINED_IMAGE: _remove_image,
    Class.UNEXPLAINED_SNAP: _remove_snap,
    Class.TRASH_WITHOUT_IMAGE: _purge,
    Class.UNEXPLAINED_TRASH: _purge,
    Class.UNEXPLAINED_GROUP: _remove_group,
    Class.TEMPORARY_IMAGE: _remove_image,
    Class.NAMELESS_HEADER: _remove_nameless,
    Class.STRAY_OBJECT_MAP: _remove_object_map,
}
