"""GetMetadataAllocated and GetMetadataDelta: which blocks a snapshot holds, or in which it differs from an older one.

Nothing is held open between two messages: each part is looked at on its own, and after that the snapshots' entries, since a
delete marks these before it touches a snap. What was found before the mark is right.
"""

from dataclasses import dataclass

from csi_driver.addresses import Credentials
from csi_driver.ceph.api import CannotCompare, Extents, ImageMissing
from csi_driver.errors import ClusterUnavailable, InUse, InvalidRequest, NotFound, OutOfRange, PoolMissing
from csi_driver.ids import Handle
from csi_driver.journal.entries import SnapshotEntry
from csi_driver.operations.origin import load_snapshot
from csi_driver.operations.site import Site, Sites, parse_handle


@dataclass(frozen=True)
class Comparison:
    """A snapshot, and an older one of the same volume; None: what it holds at all. image_id, snap_id: where it is cut."""

    target: Handle
    base: Handle | None
    credentials: Credentials | None
    size_bytes: int
    image_id: str
    snap_id: int
    base_snap_id: int | None


class ChangedBlocks:
    """Looks into snapshots."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def begin(self, target_id: str, base_id: str | None, start: int, credentials: Credentials | None) -> Comparison:
        """Raises NotFound, InvalidRequest for snapshots of two volumes, InUse (no changes are known), OutOfRange."""
        target = parse_handle(target_id, "snapshot")
        base = parse_handle(base_id, "snapshot") if base_id is not None else None
        try:
            with self._sites.open_of(target, credentials) as site:
                found = self._compare(site, target, base, credentials)
        except PoolMissing as error:
            raise NotFound(f"there is no snapshot {target_id!r}: {error}") from error
        if not 0 <= start <= found.size_bytes:
            raise OutOfRange(f"starting_offset is {start}; allowed are 0 to the snapshot's {found.size_bytes} bytes")
        return found

    def _compare(self, site: Site, target: Handle, base: Handle | None, credentials: Credentials | None) -> Comparison:
        entry = load_snapshot(site, target)
        if base is None:
            image_id, snap_id, size_bytes = _place(site, entry)
            return Comparison(target, None, credentials, size_bytes, image_id, snap_id, None)
        older = self._load_base(site, base)
        if older.source_handle != entry.source_handle or older.source_image_id != entry.source_image_id:
            raise InvalidRequest(
                f"base_snapshot_id {str(base)!r} is of volume {older.source_handle!r}, target_snapshot_id {str(target)!r} of "
                f"{entry.source_handle!r}; allowed are two snapshots of one volume"
            )
        if not entry.is_native or not older.is_native:
            raise InUse("snapshots of the Go driver are images of their own: no changes between them are known")
        if older.snap_id > entry.snap_id:
            raise InvalidRequest(f"base_snapshot_id {str(base)!r} is the newer one; it must be the older of the two")
        return Comparison(
            target, base, credentials, entry.size_bytes, entry.source_image_id, entry.snap_id, older.snap_id
        )

    def _load_base(self, site: Site, base: Handle) -> SnapshotEntry:
        if base.cluster_id != site.key.cluster_id:
            raise InvalidRequest(f"base_snapshot_id {str(base)!r} is in another cluster than target_snapshot_id")
        try:
            with site.beside(base.pool_id) as there:
                return load_snapshot(there, base)
        except PoolMissing as error:
            raise NotFound(f"there is no snapshot {str(base)!r}: {error}") from error

    def look(self, at: Comparison, start: int) -> Extents:
        """The next part. Raises NotFound when a snapshot was deleted meanwhile, InUse, Unfinished."""
        if start >= at.size_bytes or at.base_snap_id == at.snap_id:
            return Extents((), None)
        with self._sites.open_of(at.target, at.credentials) as site:
            try:
                found = site.pool.images.changed(at.image_id, at.snap_id, at.base_snap_id, start=start)
            except ImageMissing as error:
                self._still_there(site, at)
                raise ClusterUnavailable(f"snapshot {at.target} cannot be opened just now: {error}") from error
            except CannotCompare as error:
                raise InUse(
                    f"base_snapshot_id {str(at.base)!r} is part of a group snapshot, of which the bindings of this Ceph "
                    "release know no changes; they do from 18.2 on"
                ) from error
            self._still_there(site, at)
            return found

    def _still_there(self, site: Site, at: Comparison) -> None:
        load_snapshot(site, at.target)
        if at.base is not None:
            self._load_base(site, at.base)


def _place(site: Site, entry: SnapshotEntry) -> tuple[str, int, int]:
    """Image, snap and size."""
    if entry.is_native:
        return entry.source_image_id, entry.snap_id, entry.size_bytes
    image_id = entry.image_id or site.pool.images.find_id(entry.image_name)
    try:
        snap = site.pool.images.get_snap(entry.image_name, entry.image_name)
    except ImageMissing:
        image_id = None
    if not image_id:
        raise NotFound(f"snapshot {site.handle(entry.uuid)} was never finished by the driver that began it")
    return image_id, snap.snap_id, snap.size_bytes
