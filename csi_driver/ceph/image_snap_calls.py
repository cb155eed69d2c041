"""The part of `Images` that concerns snaps."""

import errno
import struct
from datetime import UTC

import rbd

from csi_driver.ceph.api import Extents, Snap, SnapKind
from csi_driver.ceph.encoding import text_at
from csi_driver.ceph.image_calls import ImageCalls
from csi_driver.ceph.image_diff import changed
from csi_driver.ceph.image_snaps import PIN, dated, remove_trashed_snap, snaps, unpin
from csi_driver.errors import NoSpace


class SnapCalls(ImageCalls):
    """Cutting, looking at and removing them."""

    def protect(self, name: str, snap: str) -> None:
        with self._doing("images.protect", f"{name}@{snap}"), self._open_named(name) as image:
            if image.is_protected_snap(snap):
                return
            try:
                image.protect_snap(snap)
            except rbd.Error as error:
                if error.errno != errno.EBUSY:  # protected by another copy in this moment
                    raise

    def cut(self, image_id: str, snap: str, *, most: int) -> Snap:
        with self._doing("images.cut", f"{image_id}@{snap}"), self._open(image_id) as image:
            there = snaps(image)
            present = {one.name for one in there if one.kind is SnapKind.USER}
            of_groups = sum(one.kind is SnapKind.GROUP for one in there)
            if snap in present and not self._is_whole(image_id, snap):
                image.remove_snap(snap)
                present.remove(snap)
            if snap not in present:
                if (count := len(present) + of_groups) >= most:
                    raise NoSpace(f"the volume has {count} snapshots and at most {most} are allowed: delete some")
                image.create_snap(snap)
            return dated(image, snap)

    def _is_whole(self, image_id: str, snap: str) -> bool:
        """A cut that was killed half-way may lack its object map: such a snap can be opened for writing alone, not cloned."""
        try:
            rbd.Image(self._ioctx, image_id=image_id, snapshot=snap, read_only=True).close()
        except rbd.Error as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def get_snap(self, name: str, snap: str) -> Snap:
        with self._doing("images.get_snap", f"{name}@{snap}"), rbd.Image(self._ioctx, name, read_only=True) as image:
            return dated(image, snap)

    def get_snap_time(self, image_id: str, snap_id: int) -> float:
        with (
            self._doing("images.get_snap_time", f"{image_id}@{snap_id}"),
            rbd.Image(self._ioctx, image_id=image_id, read_only=True) as image,
        ):
            return image.get_snap_timestamp(snap_id).replace(tzinfo=UTC).timestamp()

    def remove_snap(self, image_id: str, snap: str) -> None:
        with (
            self._doing("images.remove_snap", f"{image_id}@{snap}"),
            self._open(image_id) as image,
        ):
            for one in snaps(image):
                if one.kind is SnapKind.USER and one.name == snap:
                    if image.is_protected_snap(snap):
                        image.unprotect_snap(snap)
                    image.remove_snap(snap)
                elif (
                    one.kind is SnapKind.TRASH and image.snap_get_trash_namespace(one.snap_id)["original_name"] == snap
                ):
                    remove_trashed_snap(image, one.snap_id)

    def drop_trashed_snaps(self, image_id: str) -> None:
        with self._doing("images.drop_trashed_snaps", image_id), self._open(image_id) as image:
            for one in snaps(image):
                if one.kind is SnapKind.TRASH:
                    remove_trashed_snap(image, one.snap_id)
            unpin(image)

    def snap_ids(self, image_id: str) -> tuple[int, ...]:
        """From the header's keys `snapshot_<id, 16 hex>` (Ceph: cls_rbd)."""
        ids: list[int] = []
        after = ""
        while page := self._objects.list_page(f"rbd_header.{image_id}", prefix="snapshot_", after=after, limit=500):
            ids += [int(key.removeprefix("snapshot_"), 16) for key, _ in page]
            after = page[-1][0]
        return tuple(ids)

    def is_snapped(self, image_id: str) -> bool:
        return any(self._holds(image_id, snap_id) for snap_id in self.snap_ids(image_id))

    def _holds(self, image_id: str, snap_id: int) -> bool:
        """SnapshotInfo: version (6 bytes), id (u64), namespace (version and length: 6 bytes; its kind: u32), name (Ceph:
        cls_rbd, snapshot_get).
        """
        raw = self._objects.ask(f"rbd_header.{image_id}", "rbd", "snapshot_get", struct.pack("<Q", snap_id))
        if raw is None:
            return False
        length, kind = struct.unpack_from("<16xII", raw)
        name, _ = text_at(raw, 20 + length)
        return SnapKind(kind) in (SnapKind.USER, SnapKind.GROUP) and name != PIN

    def changed(self, image_id: str, snap_id: int, base_id: int | None, *, start: int) -> Extents:
        with (
            self._doing("images.changed", f"{image_id}@{snap_id}"),
            rbd.Image(self._ioctx, image_id=image_id, read_only=True) as image,
        ):
            return changed(image, snap_id, base_id, start)
