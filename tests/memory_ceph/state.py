"""What survives every client: places with objects, names and trash; images with their data, snaps and parents.

A change that librbd makes in several writes is made by the calls; here are the single ones, and the rules that follow
from the state alone: what can be opened, what is read, which snap goes with its last clone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from csi_driver.ceph.api import CloneSource, MetadataWrite, ParentSnap, SnapKind

BLOCK = 1 << 20
"""Bytes of a block."""
PIN = "csi-flatten"


@dataclass(eq=False)
class StoredSnap:
    """A snap with the data of its own. overlap_bytes: how much of it is read of the image's parent where it has none."""

    snap_id: int
    name: str
    size_bytes: int
    data: dict[int, int]
    overlap_bytes: int
    created_at: float
    kind: SnapKind = SnapKind.USER
    is_protected: bool = False
    original_name: str = ""
    group: "StoredGroup | None" = None
    children: dict[str, int] = field(default_factory=dict)
    """Clone format of each image that is listed as a child, by its id."""

    @property
    def is_pin(self) -> bool:
        return PIN in (self.name, self.original_name)


@dataclass(eq=False)
class StoredGroup:
    """A group: ids of its members, and whether each of its snaps is complete, by name."""

    pool_id: int
    name: str
    members: set[str] = field(default_factory=set)
    snaps: dict[str, bool] = field(default_factory=dict)


@dataclass(eq=False)
class Place:
    """A pool in one namespace."""

    pool_id: int
    namespace: str
    objects: dict[str, dict[str, str]] = field(default_factory=dict)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Address of the holder, and the second at which the lease ends."""
    names: dict[str, str] = field(default_factory=dict)
    """Id of each image by name: also of one whose header is not written yet."""
    unlisted: set[str] = field(default_factory=set)
    unnumbered: set[str] = field(default_factory=set)
    """Names that are not in the pool's directory yet, and such as have no object with the id."""
    groups: dict[str, StoredGroup] = field(default_factory=dict)
    trash: dict[str, str] = field(default_factory=dict)
    kept_until: dict[str, float] = field(default_factory=dict)
    removing: dict[str, str] = field(default_factory=dict)
    """Name by id of the images in the trash, and of those whose removal by name has begun."""


@dataclass(eq=False)
class StoredImage:
    """An image whose header is there. overlap_bytes: as of a snap, for the head."""

    image_id: str
    place: Place
    size_bytes: int
    features: tuple[str, ...]
    data_pool: str = ""
    data: dict[int, int] = field(default_factory=dict)
    parent: ParentSnap | None = None
    overlap_bytes: int = 0
    clone_format: int = 2
    snaps: dict[int, StoredSnap] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    mark: int = 0
    group: StoredGroup | None = None
    is_cut: bool = False
    """A growth has made it smaller, since another client grew it meanwhile."""
    watches: dict[str, float] = field(default_factory=dict)
    """The second at which the watch of each address ends: without end while its client lives."""

    def find_snap(self, name: str) -> StoredSnap | None:
        """A user snap."""
        return next((one for one in self.snaps.values() if one.kind is SnapKind.USER and one.name == name), None)

    def snap_of(self, source: CloneSource) -> StoredSnap | None:
        """A user snap by name, or a group's by id."""
        if source.snap_id is None:
            return self.find_snap(source.snap)
        snap = self.snaps.get(source.snap_id)
        return snap if snap and snap.kind is not SnapKind.TRASH else None

    @property
    def head_map(self) -> str:
        return head_map(self.image_id)

    def change(self, write: MetadataWrite) -> None:
        self.mark = write.mark or self.mark
        merged = {**self.metadata, **write.put}
        self.metadata = {name: text for name, text in merged.items() if name not in write.drop}

    def object_map(self, snap_id: int) -> str:
        return f"rbd_object_map.{self.image_id}.{snap_id:016x}"


def head_map(image_id: str) -> str:
    """Told apart from the header while that is not there; it goes with the header."""
    return f"rbd_object_map.{image_id}"


View = StoredImage | StoredSnap
"""What can be read: an image's head or one of its snaps."""


class Images:
    """All images of the cluster, by id."""

    def __init__(self) -> None:
        self.by_id: dict[str, StoredImage] = {}

    def parent_of(self, image: StoredImage, view: View) -> tuple[StoredImage, StoredSnap] | None:
        """The parent that the view still reads; None without one, and for one that is gone."""
        if not view.overlap_bytes or image.parent is None:
            return None
        return self.snap_at(image.parent)

    def snap_at(self, parent: ParentSnap) -> tuple[StoredImage, StoredSnap] | None:
        above = self.by_id.get(parent.image_id)
        snap = above.snaps.get(parent.snap_id) if above else None
        return (above, snap) if above and snap else None

    def can_open(self, image: StoredImage, view: View | None = None) -> bool:
        """Whether all of the chain above is there."""
        view = view or image
        if not view.overlap_bytes or image.parent is None:
            return True
        above = self.parent_of(image, view)
        return above is not None and self.can_open(*above)

    def block(self, image: StoredImage, view: View, number: int) -> int:
        """What a block reads, through the chain of parents."""
        if number in view.data:
            return view.data[number]
        above = self.parent_of(image, view) if number * BLOCK < view.overlap_bytes else None
        return self.block(*above, number) if above else 0

    def content(self, image: StoredImage, view: View | None = None) -> tuple[int, ...]:
        """What all blocks read."""
        view = view or image
        return tuple(self.block(image, view, number) for number in range(-(-view.size_bytes // BLOCK)))

    def copy_up(self, image: StoredImage, view: View) -> None:
        """What the view still reads of its parent becomes its own data."""
        for number in range(-(-view.overlap_bytes // BLOCK)):
            if number not in view.data and (value := self.block(image, view, number)):
                view.data[number] = value

    def detach(self, child: StoredImage, reach: Callable[[str], None] = lambda _point: None) -> None:
        """Take the child off its parent's list; with the last child a trashed snap goes. The child's link stays."""
        above = self.snap_at(child.parent) if child.parent else None
        if above is None:
            return
        image, snap = above
        snap.children.pop(child.image_id, None)
        reach("delisted")
        if snap.kind is SnapKind.TRASH and not snap.children and snap.snap_id in image.snaps:
            self.drop_snap(image, snap.snap_id)
            reach("unlinked")

    def drop_snap(self, image: StoredImage, snap_id: int) -> None:
        """With the last view that reads it, the link to the image's own parent goes too."""
        del image.snaps[snap_id]
        image.place.objects.pop(image.object_map(snap_id), None)
        if image.parent and not image.overlap_bytes and not any(one.overlap_bytes for one in image.snaps.values()):
            self.detach(image)
            image.parent = None

    def drop(self, image: StoredImage) -> None:
        """The image itself, when it is off its parent's list."""
        for snap_id in image.snaps:
            image.place.objects.pop(image.object_map(snap_id), None)
        self.by_id.pop(image.image_id, None)
