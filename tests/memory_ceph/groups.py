"""Groups, and the snaps that are cut over all members of one."""

from csi_driver.ceph.api import ImageBusy, ImageMissing, ObjectMissing, Pool, SnapKind
from tests.memory_ceph.images import Ceph, Watching
from tests.memory_ceph.seam import seam
from tests.memory_ceph.state import Place, StoredGroup, StoredImage, StoredSnap


class MemoryGroups:
    """`Groups` of one place."""

    def __init__(self, link: Watching, ceph: Ceph, place: Place) -> None:
        self.link = link
        self._ceph = ceph
        self._place = place

    @seam("groups.create")
    def create(self, group: str) -> None:
        self._place.groups.setdefault(group, StoredGroup(self._place.pool_id, group))

    @seam("groups.add")
    def add(self, group: str, pool: Pool, image: str) -> None:
        found, added = self._group(group), self._image(pool, image)
        if added is None:
            raise ImageMissing(image)
        if added.group not in (None, found):
            raise ImageBusy(image)
        found.members.add(added.image_id)
        self.link.reach("groups.add:one-sided")
        added.group = found

    @seam("groups.take_out")
    def take_out(self, group: str, pool: Pool, image: str) -> None:
        found, gone = self._place.groups.get(group), self._image(pool, image)
        if found and gone:
            self._part(found, gone)

    @seam("groups.leave")
    def leave(self, image: str, image_id: str) -> None:
        leaving = self._ceph.images.by_id.get(image_id)
        if leaving is None or leaving.group is None:
            return
        if leaving.group.pool_id != self._place.pool_id:
            raise ImageBusy(image)
        if image in self._place.names:
            self._part(leaving.group, leaving)

    def _part(self, group: StoredGroup, image: StoredImage) -> None:
        group.members.discard(image.image_id)
        if image.group is group:
            image.group = None

    @seam("groups.cut")
    def cut(self, group: str, snap: str) -> None:
        found = self._group(group)
        found.snaps[snap] = False
        self.link.reach("groups.cut:incomplete")
        for image_id in found.members:
            image = self._ceph.images.by_id[image_id]
            made = StoredSnap(
                self._ceph.number(),
                f".group.{found.pool_id}_{group}_{snap}",
                image.size_bytes,
                dict(image.data),
                image.overlap_bytes,
                self._ceph.now(),
                SnapKind.GROUP,
                group=found,
            )
            image.snaps[made.snap_id] = made
            if "object-map" in image.features:
                image.place.objects[image.object_map(made.snap_id)] = {}
        self.link.reach("groups.cut:uncounted")
        found.snaps[snap] = True

    @seam("groups.has_snap")
    def has_snap(self, group: str, snap: str) -> bool | None:
        found = self._place.groups.get(group)
        return found.snaps.get(snap) if found else None

    @seam("groups.remove_snap")
    def remove_snap(self, group: str, snap: str) -> None:
        if found := self._place.groups.get(group):
            self._remove_snap(found, snap)

    def _remove_snap(self, group: StoredGroup, snap: str) -> None:
        for image in list(self._ceph.images.by_id.values()):
            for one in list(image.snaps.values()):
                if one.group is not group or one.kind is not SnapKind.GROUP:
                    continue
                if one.children:
                    one.kind, one.original_name, one.name = SnapKind.TRASH, one.name, f"trashed.{one.snap_id}"
                else:
                    self._ceph.images.drop_snap(image, one.snap_id)
                self.link.reach("groups.remove_snap:one")
        group.snaps.pop(snap, None)

    @seam("groups.list_names")
    def list_names(self) -> list[str]:
        return list(self._place.groups)

    @seam("groups.remove")
    def remove(self, group: str) -> None:
        found = self._place.groups.get(group)
        if found is None:
            return
        for snap in list(found.snaps):
            self._remove_snap(found, snap)
        for image_id in list(found.members):
            if image := self._ceph.images.by_id.get(image_id):
                self._part(found, image)
            self.link.reach("groups.remove:parted")
        del self._place.groups[group]

    def _group(self, group: str) -> StoredGroup:
        if group not in self._place.groups:
            raise ObjectMissing(group)
        return self._place.groups[group]

    def _image(self, pool: Pool, image: str) -> StoredImage | None:
        there = pool.images.raw
        assert isinstance(there, Place)
        return self._ceph.images.by_id.get(there.names.get(image, ""))
