"""Restoring one thing: its entry, exclusively, then its name, by compare.

A volume gets an entry in the Go driver's layout: what its request agreed on is lost, and such an entry promises nothing of
it, so that a repeated create compares the size alone. The volume is used, grown, copied and deleted by it as by any other.
"""

from csi_driver.errors import Busy, Conflict, NotFound
from csi_driver.ids import Handle, uuid_at_end
from csi_driver.journal import layout
from csi_driver.journal.entries import SnapshotEntry, VolumeEntry
from csi_driver.journal.journal import Journal
from csi_driver.journal.layout import GROUPS, SNAPSHOTS, State
from csi_driver.journal.reading import E, Reserved
from csi_driver.operations.rebuild.group_restoring import write_group
from csi_driver.operations.rebuild.restoration import Act, Restoration
from csi_driver.operations.site import Site


def restore(site: Site, wanted: Restoration) -> None:
    """Raises Conflict when another has the name by now, Busy when the image is gone or the entry was written just now,
    NotFound when a volume of a group is missing.
    """
    if wanted.kind is GROUPS:
        if wanted.act is Act.ENTRY:
            write_group(site, wanted)
        _name(site.groups, wanted)
        return
    if wanted.kind is SNAPSHOTS:
        if wanted.act is Act.ENTRY:
            _write_snapshot(site, wanted)
        _name(site.snapshots, wanted)
        return
    journal_pool_id = _journal_pool_id(site, wanted)
    if wanted.act is Act.ENTRY:
        _write_volume(site, wanted, journal_pool_id)
    if journal_pool_id is None:
        _name(site.journal, wanted)
    else:
        _name_elsewhere(site, wanted, journal_pool_id)


def _journal_pool_id(site: Site, wanted: Restoration) -> int | None:
    """None: the name's key stands in the image's pool."""
    pool = wanted.claim.journal_pool if wanted.claim else ""
    if not pool or pool == site.pool.name:
        return None
    ids = site.cluster.pool_ids()
    if pool not in ids:
        raise NotFound(f"volume {wanted.uuid}: there is no pool {pool!r}, in which its name would stand")
    return ids[pool]


def _write_volume(site: Site, wanted: Restoration, journal_pool_id: int | None) -> None:
    keys = {
        layout.VOLUMES.request_name: wanted.request_name,
        layout.IMAGE_NAME: wanted.image,
        layout.IMAGE_ID: _image_id(site, wanted.image),
    }
    if wanted.claim and wanted.claim.owner:
        keys[layout.OWNER] = wanted.claim.owner
    if wanted.claim and wanted.claim.kms_id:
        keys |= {layout.ENCRYPT_KMS: wanted.claim.kms_id, layout.ENCRYPTION_TYPE: "block"}
    if journal_pool_id is not None:
        keys[layout.JOURNAL_POOL] = f"{journal_pool_id:016x}"
    site.journal.restore(wanted.uuid, keys)


def _write_snapshot(site: Site, wanted: Restoration) -> None:
    image_id = _image_id(site, wanted.image)
    if wanted.snap is None:
        keys = {
            SNAPSHOTS.request_name: wanted.request_name,
            layout.SOURCE_IMAGE: wanted.source,
            layout.IMAGE_NAME: wanted.image,
            layout.IMAGE_ID: image_id,
        }
        site.snapshots.restore(wanted.uuid, keys)
        return
    snap = wanted.snap
    entry = SnapshotEntry(
        uuid=wanted.uuid,
        state=State.COMPLETE,
        request_name=wanted.request_name,
        image_name="",
        maker=site.cluster.address,
        size_bytes=snap.size_bytes,
        depth=site.pool.ancestry.count(image_id, snap.snap_id),
        source_handle=str(Handle(site.key.cluster_id, site.pool.pool_id, uuid_at_end(wanted.image))),
        source_image=wanted.image,
        source_image_id=image_id,
        snap_name=snap.name,
        snap_id=snap.snap_id,
    )
    created_at = site.pool.images.get_snap_time(image_id, snap.snap_id)
    known = {layout.SNAP_ID: str(snap.snap_id), layout.CREATED_AT: repr(created_at)}
    site.snapshots.begin_complete(entry, known)


def _image_id(site: Site, image: str) -> str:
    image_id = site.pool.images.find_id(image)
    if image_id is None:
        raise Busy(f"image {image} was there just now, and is gone")
    return image_id


def _load(journal: Journal[E], wanted: Restoration) -> E:
    entry = journal.load(wanted.uuid)
    if entry is None or not entry.is_usable:
        raise Busy(f"{wanted.kind.noun} {wanted.uuid} is being deleted")
    return entry


def _name(journal: Journal[E], wanted: Restoration) -> None:
    entry = _load(journal, wanted)
    if not journal.return_name(entry):
        journal.note_deleted(entry)  # so that it is found
        raise _taken(wanted)


def _name_elsewhere(site: Site, wanted: Restoration, journal_pool_id: int) -> None:
    entry: VolumeEntry = _load(site.journal, wanted)
    reserved = Reserved(wanted.uuid, site.pool.pool_id)
    with site.beside(journal_pool_id) as names:
        if names.journal.claim(wanted.request_name, reserved) != reserved:
            site.journal.note_deleted(entry)
            raise _taken(wanted)
    site.journal.forget_deleted(wanted.uuid)


def _taken(wanted: Restoration) -> Conflict:
    return Conflict(f"{wanted.kind.noun} {wanted.uuid}: another one has the name {wanted.request_name!r} since")
