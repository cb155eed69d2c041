"""Snaps, clones and flattens. What librbd writes in several steps has its points between them."""

from collections.abc import Callable

from csi_driver.ceph.api import (
    NO_METADATA,
    Cloned,
    CloneSource,
    Extent,
    Extents,
    FlattenStopped,
    ImageBusy,
    ImageExists,
    ImageMissing,
    MetadataWrite,
    ParentSnap,
    Snap,
    SnapKind,
)
from csi_driver.errors import InvalidRequest, NoSpace
from csi_driver.model import CloneFormat, ImageLayout
from tests.memory_ceph.images import ImageCalls
from tests.memory_ceph.seam import seam
from tests.memory_ceph.state import BLOCK, PIN, Place, StoredImage, StoredSnap

_BLOCKS_AT_ONCE = 5


class MemoryImages(ImageCalls):
    """`Images` of one place."""

    # ── snaps ──

    @seam("images.cut")
    def cut(self, image_id: str, snap: str, *, most: int) -> Snap:
        with self.writing(self.opened(image_id)) as image:
            present = image.find_snap(snap)
            if present and not self._is_whole(image, present):
                self._remove(image, present)
                present = None
            if present is None:
                if (there := _count(image)) >= most:
                    raise NoSpace(f"the volume has {there} snapshots and at most {most} are allowed: delete some")
                present = self._make(image, snap)
            return _dated(present)

    def _make(self, image: StoredImage, name: str) -> StoredSnap:
        snap = StoredSnap(
            self.ceph.number(), name, image.size_bytes, dict(image.data), image.overlap_bytes, self.ceph.now()
        )
        image.snaps[snap.snap_id] = snap
        self.link.reach("images.cut:half")
        if "object-map" in image.features:
            self.place.objects[image.object_map(snap.snap_id)] = {}
        return snap

    def _is_whole(self, image: StoredImage, snap: StoredSnap) -> bool:
        has_map = "object-map" not in image.features or image.object_map(snap.snap_id) in image.place.objects
        return has_map and self.ceph.images.can_open(image, snap)

    @seam("images.get_snap")
    def get_snap(self, name: str, snap: str) -> Snap:
        found = self.named(name).find_snap(snap)
        if found is None:
            raise ImageMissing(f"snap {snap}")
        return _dated(found)

    @seam("images.get_snap_time")
    def get_snap_time(self, image_id: str, snap_id: int) -> float:
        found = self.opened(image_id).snaps.get(snap_id)
        if found is None:
            raise ImageMissing(f"snap {snap_id}")
        return found.created_at

    @seam("images.changed")
    def changed(self, image_id: str, snap_id: int, base_id: int | None, *, start: int) -> Extents:
        image = self.opened(image_id)
        if snap_id not in image.snaps or base_id not in (None, *image.snaps):
            raise ImageMissing(f"snap {snap_id} or {base_id}")
        target = self.ceph.images.content(image, image.snaps[snap_id])
        base = () if base_id is None else self.ceph.images.content(image, image.snaps[base_id])
        size_bytes, first = image.snaps[snap_id].size_bytes, start // BLOCK
        last = min(first + _BLOCKS_AT_ONCE, len(target))
        found = [
            Extent(max(number * BLOCK, start), min((number + 1) * BLOCK, size_bytes) - max(number * BLOCK, start))
            for number in range(first, last)
            if target[number] != (base[number] if number < len(base) else 0)
        ]
        return Extents(tuple(one for one in found if one.length > 0), last * BLOCK if last < len(target) else None)

    @seam("images.snap_ids")
    def snap_ids(self, image_id: str) -> tuple[int, ...]:
        image = self.ceph.images.by_id.get(image_id)
        return tuple(image.snaps) if image else ()

    @seam("images.is_snapped")
    def is_snapped(self, image_id: str) -> bool:
        image = self.ceph.images.by_id.get(image_id)
        return image is not None and _count(image) > 0

    @seam("images.protect")
    def protect(self, name: str, snap: str) -> None:
        self._protect(self.named(name), snap)

    def _protect(self, image: StoredImage, snap: str) -> None:
        found = image.find_snap(snap)
        if found is None:
            raise ImageMissing(f"snap {snap}")
        found.is_protected = True

    @seam("images.remove_snap")
    def remove_snap(self, image_id: str, snap: str) -> None:
        with self.writing(self.opened(image_id)) as image:
            for one in list(image.snaps.values()):
                if one.kind is SnapKind.USER and one.name == snap:
                    self._remove(image, one)
                elif one.kind is SnapKind.TRASH and one.original_name == snap and not one.children:
                    self.ceph.images.drop_snap(image, one.snap_id)

    def _remove(self, image: StoredImage, snap: StoredSnap) -> None:
        """Raises ImageBusy while clones of format 1 need it."""
        if snap.is_protected:
            if 1 in snap.children.values():
                raise ImageBusy(snap.name)
            snap.is_protected = False
            self.link.reach("images.remove_snap:unprotected")
        if self.ceph.clones_format_2:
            snap.kind, snap.original_name, snap.name = SnapKind.TRASH, snap.name, f"trashed.{snap.snap_id}"
            self.link.reach("images.remove_snap:trashed")
        if not snap.children:
            self.ceph.images.drop_snap(image, snap.snap_id)

    @seam("images.drop_trashed_snaps")
    def drop_trashed_snaps(self, image_id: str) -> None:
        with self.writing(self.opened(image_id)) as image:
            for one in list(image.snaps.values()):
                if one.kind is SnapKind.TRASH and not one.children:
                    self.ceph.images.drop_snap(image, one.snap_id)
            self._unpin(image)

    # ── clones ──

    @seam("images.clone")
    def clone(
        self,
        source: CloneSource,
        name: str,
        layout: ImageLayout,
        *,
        size_bytes: int = 0,
        metadata: MetadataWrite = NO_METADATA,
    ) -> Cloned:
        image, snap = self._source(source)
        if name in self.place.names:
            raise ImageExists(name)
        if source.format is CloneFormat.TWO and not self.ceph.clones_format_2:
            raise InvalidRequest("parameter cloneFormat is 2, and the cluster allows clones of format 1 alone")
        if self.ceph.clones_format_2 and source.format is not CloneFormat.ONE:
            kept = {name: text for name, text in image.metadata.items() if name not in metadata.drop}
            clone = self.make(name, max(size_bytes, snap.size_bytes), layout, NO_METADATA)
            self._adopt(clone, (image, snap), MetadataWrite({**kept, **metadata.put}, mark=metadata.mark))
            return Cloned(clone.image_id, CloneFormat.TWO)
        if not snap.is_protected:
            self._protect(image, source.snap)
            self.link.reach("images.clone:protected")
        return Cloned(self._clone_by_librbd((image, snap), name, layout, (size_bytes, metadata)), CloneFormat.ONE)

    def _clone_by_librbd(
        self,
        source: tuple[StoredImage, StoredSnap],
        name: str,
        layout: ImageLayout,
        wanted: tuple[int, MetadataWrite],
    ) -> str:
        """It has the clone open, and grows it and writes its metadata afterwards."""
        size_bytes, metadata = wanted
        clone = self.make(name, source[1].size_bytes, layout, NO_METADATA)
        with self.writing(clone):
            self._adopt(clone, source, MetadataWrite(source[0].metadata), clone_format=1)
        self.link.reach("images.clone:made")
        clone.size_bytes = max(size_bytes, clone.size_bytes)
        clone.change(metadata)
        return clone.image_id

    def _adopt(
        self,
        clone: StoredImage,
        source: tuple[StoredImage, StoredSnap],
        metadata: MetadataWrite,
        *,
        clone_format: int = 2,
    ) -> None:
        image, snap = source
        self.link.reach("images.clone:zeros")
        clone.parent = ParentSnap(image.place.pool_id, image.place.namespace, image.image_id, snap.snap_id)
        clone.overlap_bytes = snap.size_bytes
        clone.change(metadata)
        self.link.reach("images.clone:unlisted")
        clone.clone_format = clone_format
        snap.children[clone.image_id] = clone_format

    def _source(self, source: CloneSource) -> tuple[StoredImage, StoredSnap]:
        """Raises ImageMissing, InvalidRequest."""
        there = source.pool.images.raw
        assert isinstance(there, Place)
        image = self.ceph.images.by_id.get(there.names.get(source.image, ""))
        snap = image.snap_of(source) if image else None
        if image is None or snap is None or not self._is_whole(image, snap):
            raise ImageMissing(f"{source.image}@{source.snap}")
        if "layering" not in image.features:
            raise InvalidRequest(f"image {source.image} has not the feature layering and cannot be cloned")
        return image, snap

    @seam("images.flatten")
    def flatten(self, image_id: str, progress: Callable[[float], bool]) -> None:
        with self.writing(self.opened(image_id)) as image:
            if image.parent is not None and image.overlap_bytes:
                self._flatten(image, progress)
            self._unpin(image)

    def _flatten(self, image: StoredImage, progress: Callable[[float], bool]) -> None:
        if "deep-flatten" not in image.features:
            self._pin(image)
            self.link.reach("images.flatten:pinned")
        self._copy_up(image)
        if not progress(0.5):
            self._unpin(image)
            raise FlattenStopped(image.image_id)
        self.link.reach("images.flatten:copying")
        if image.image_id not in self.ceph.images.by_id:  # others may go on meanwhile
            raise ImageMissing(image.image_id)
        self._copy_up(image)
        progress(1.0)
        views = _flattened(image)
        if not any(one.overlap_bytes for one in image.snaps.values() if one not in views):
            self.ceph.images.detach(image, lambda point: self.link.reach(f"images.flatten:{point}"))
        for view in _flattened(image):  # a snap that was cut meanwhile keeps its link
            view.overlap_bytes = 0
        if not any(one.overlap_bytes for one in image.snaps.values()):
            image.parent = None

    @seam("images.unpin")
    def unpin(self, image_id: str) -> None:
        with self.writing(self.opened(image_id)) as image:
            self._unpin(image)

    def _pin(self, image: StoredImage) -> None:
        if image.find_snap(PIN) is None:
            self._make(image, PIN)

    def _unpin(self, image: StoredImage) -> None:
        for one in list(image.snaps.values()):
            if one.is_pin and one.kind is SnapKind.USER:
                self._remove(image, one)
            elif one.is_pin and not one.children:
                self.ceph.images.drop_snap(image, one.snap_id)

    def _copy_up(self, image: StoredImage) -> None:
        for view in _flattened(image):
            self.ceph.images.copy_up(image, view)


def _flattened(image: StoredImage) -> list[StoredImage | StoredSnap]:
    """The head, and with deep-flatten the snaps as well."""
    return [image, *(image.snaps.values() if "deep-flatten" in image.features else ())]


def _count(image: StoredImage) -> int:
    """Snaps of users and groups, the pin aside."""
    return sum(one.kind in (SnapKind.USER, SnapKind.GROUP) and not one.is_pin for one in image.snaps.values())


def _dated(snap: StoredSnap) -> Snap:
    return Snap(snap.snap_id, snap.name, snap.size_bytes, snap.kind, snap.created_at)
