"""Chains of parents."""

from csi_driver.ceph.api import Child, ImageMissing, ParentSnap
from tests.memory_ceph.seam import Link, seam
from tests.memory_ceph.state import Images, Place


class MemoryAncestry:
    """`Ancestry` over all images of the cluster."""

    def __init__(self, link: Link, images: Images, place: Place) -> None:
        self.link = link
        self._images = images
        self._place = place

    @seam("ancestry.has_header")
    def has_header(self, image_id: str) -> bool:
        return image_id in self._images.by_id

    @seam("ancestry.find_parent")
    def find_parent(self, image_id: str) -> ParentSnap | None:
        image = self._images.by_id.get(image_id)
        return image.parent if image else None

    @seam("ancestry.children")
    def children(self, image_id: str, snap_id: int) -> list[Child]:
        image = self._images.by_id.get(image_id)
        snap = image.snaps.get(snap_id) if image else None
        listed = [child for child, kind in snap.children.items() if kind == 2] if snap else []
        images = self._images.by_id
        return sorted(Child(images[child].place.pool_id, child) for child in listed if child in images)

    @seam("ancestry.is_needed")
    def is_needed(self, snap: ParentSnap) -> bool:
        above = self._images.snap_at(snap)
        return above is not None and any(
            kind == 1 and self._is_here(child) for child, kind in above[1].children.items()
        )

    def _is_here(self, image_id: str) -> bool:
        """Of an image that is gone nobody knows where it was; a list beside it still names it."""
        image = self._images.by_id.get(image_id)
        return image is None or image.place is self._place

    @seam("ancestry.is_listed")
    def is_listed(self, image_id: str) -> bool:
        image = self._images.by_id.get(image_id)
        above = self._images.snap_at(image.parent) if image and image.parent else None
        return above is not None and image_id in above[1].children

    @seam("ancestry.list_again")
    def list_again(self, image_id: str) -> None:
        image = self._images.by_id.get(image_id)
        above = self._images.snap_at(image.parent) if image and image.parent else None
        if image is None or above is None:
            raise ImageMissing(image_id)
        above[1].children[image_id] = image.clone_format

    @seam("ancestry.unlist_strays")
    def unlist_strays(self, snap: ParentSnap) -> int:
        above = self._images.snap_at(snap)
        listed = sorted(above[1].children.items(), key=lambda child: (child[1] == 1, child[0])) if above else []
        unlisted = 0
        for child, kind in listed:
            image = self._images.by_id.get(child)
            if kind == 1 and not self._is_here(child):
                continue
            if image and image.parent == snap:
                break
            assert above
            del above[1].children[child]
            unlisted += 1
        return unlisted

    @seam("ancestry.count")
    def count(self, image_id: str, snap_id: int | None = None) -> int:
        return count(self._images, image_id, snap_id)

    @seam("ancestry.drop_parent")
    def drop_parent(self, image_id: str) -> None:
        image = self._images.by_id.get(image_id)
        if image is None or image.parent is None or not image.overlap_bytes:
            raise ImageMissing(image_id)
        image.overlap_bytes = 0
        if "deep-flatten" in image.features:
            for snap in image.snaps.values():
                snap.overlap_bytes = 0
        if not any(snap.overlap_bytes for snap in image.snaps.values()):
            image.parent = None


def count(images: Images, image_id: str, snap_id: int | None = None) -> int:
    """By the headers alone: of a link to a snap that is gone, too."""
    image = images.by_id.get(image_id)
    view = image if image is None or snap_id is None else image.snaps.get(snap_id)
    if image is None or view is None or not view.overlap_bytes or image.parent is None:
        return 0
    return 1 + count(images, image.parent.image_id, image.parent.snap_id)
