"""Images with their snaps, chains of parents, and groups of images."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from csi_driver.ceph.api.values import (
    NO_METADATA,
    Child,
    Extents,
    ImageInfo,
    MetadataWrite,
    ParentSnap,
    Snap,
    TrashEntry,
    Watcher,
)
from csi_driver.model import CloneFormat, ImageLayout

if TYPE_CHECKING:
    from csi_driver.ceph.api.cluster import Pool


@dataclass(frozen=True)
class CloneSource:
    """A snap to be cloned: of an image by name, in a pool that may be another one than the clone's. format: of the clone.

    snap_id: of a snap that is part of a group's, which no name leads to · at, size_bytes: where the snap is and how large, if
    the caller knows; else the image is opened to see.
    """

    pool: "Pool"
    image: str
    snap: str
    format: CloneFormat = CloneFormat.ALLOWED
    snap_id: int | None = None
    at: ParentSnap | None = None
    size_bytes: int = 0


@dataclass(frozen=True)
class Cloned:
    """A clone that was made."""

    image_id: str
    format: CloneFormat


class Images(Protocol):
    """RBD images of one pool and namespace."""

    @property
    def raw(self) -> object:
        """The library's handle of the pool, for calls that concern two pools."""

    def making(self) -> AbstractContextManager[object]:
        """Likewise, for those that make an image."""

    def clone(
        self,
        source: CloneSource,
        name: str,
        layout: ImageLayout,
        *,
        size_bytes: int = 0,
        metadata: MetadataWrite = NO_METADATA,
    ) -> Cloned:
        """With at least so many bytes, and its source's metadata as `metadata` changes them.

        Format 1 has the snap protected, and needs it; so may the other, of a protected snap.

        Raises ImageMissing (source image or snap), ImageExists; InvalidRequest, of a format that the cluster does not allow
        too: then the clone may have been made, and is removed like one that was cut short.
        """

    def protect(self, name: str, snap: str) -> None:
        """Keeps a snap from being removed, as clones of format 1 need it; fine when it is. Raises ImageMissing."""

    def cut(self, image_id: str, snap: str, *, most: int) -> Snap:
        """Makes a snap, in one open; one that is there already is it, unless a killed client left it half made.

        The caller sees to it that nobody else is making it. Raises ImageMissing; NoSpace when `most` are there, with those of
        groups.
        """

    def get_snap(self, name: str, snap: str) -> Snap:
        """A user snap of an image by name. Raises ImageMissing when either is missing."""

    def get_snap_time(self, image_id: str, snap_id: int) -> float:
        """When a snap of any kind was cut. Raises ImageMissing when either is missing."""

    def changed(self, image_id: str, snap_id: int, base_id: int | None, *, start: int) -> Extents:
        """What differs, or may, between a snap and an older one; without one, what may hold data. From `start` on, so far as
        one call goes; what is in no range is equal, or zero. Raises ImageMissing, CannotCompare.
        """

    def remove_snap(self, image_id: str, snap: str) -> None:
        """Removes a snap, protected or cut short on its way to the trash namespace or not there at all; fine then.

        Works on an image in the trash too. With clones of format 2 the snap moves to the trash namespace.
        Raises ImageMissing, ImageBusy while clones of format 1 need it.
        """

    def watchers(self, image_id: str) -> tuple[Watcher, ...]:
        """The clients that have the image open for writing; none for one that is not there.

        What `inspect` tells may name a client that died while its watch was being written, for as long as the OSD keeps the
        header in memory: nothing times that watch out, and no blocklist ends it. Here the OSD reads the header anew, and
        drops the watch at once when its client is on the blocklist, else after `osd_client_watch_timeout` (30 s).
        """

    def lock_owners(self, image_id: str) -> tuple[Watcher, ...]:
        """The clients that hold the image's exclusive lock; one on the blocklist still does, until another wants it.

        Raises ImageMissing.
        """

    def drop_trashed_snaps(self, image_id: str) -> None:
        """Removes the snaps in the trash namespace that no clone needs: whose removal was cut short.

        And the pin, of an image that nobody flattens any more. Raises ImageMissing.
        """

    def snap_ids(self, image_id: str) -> tuple[int, ...]:
        """Ids of all snaps of all kinds, without opening the image; none for an image that is not there."""

    def is_snapped(self, image_id: str) -> bool:
        """Whether a user's or a group's snap is there, trashed ones and the pin aside, without opening the image."""

    def shrink(self, name: str) -> None:
        """To one byte: its data goes, its snaps keep theirs. Raises ImageMissing."""

    def sparsify(self, image_id: str) -> None:
        """Gives back what holds nothing but zeros; what is read stays as it is. Takes as long as reading all of it.

        Where a client has the image's lock, that one does it, or lends the lock. Raises ImageMissing.
        """

    def create(self, name: str, size_bytes: int, layout: ImageLayout, metadata: MetadataWrite = NO_METADATA) -> str:
        """The image's id. Raises ImageExists; InvalidRequest when librbd refuses the layout.

        Cut short, or refused for want of room, it leaves what `remove` takes away.
        """

    def list_names(self) -> dict[str, str]:
        """The ids of all images by name, without opening them; of half-made ones too."""

    def find_id(self, name: str) -> str | None:
        """The image's internal id, without opening it."""

    def find_size(self, image_id: str) -> int | None:
        """Bytes of the image's head, without opening it; None for an image that is not there."""

    def find_name(self, image_id: str) -> str | None:
        """The image's name, without opening it; None in the trash."""

    def inspect(self, name: str) -> ImageInfo:
        """Opens read-only, which leaves no watch. Raises ImageMissing."""

    def inspect_id(self, image_id: str) -> ImageInfo:
        """As `inspect`, wherever the image is: in the trash too."""

    def flatten(self, image_id: str, progress: Callable[[float], bool]) -> None:
        """Copies what the image still reads of its parent, and cuts it off.

        `progress` is told the part that is done, and answers whether to go on; it may wait, and must ask Ceph nothing. Where
        a client has the image's lock, that one copies and nothing is waited for. What is cut meanwhile can be read. An image
        without deep-flatten is pinned until the end. Raises ImageMissing, FlattenStopped.
        """

    def unpin(self, image_id: str) -> None:
        """Removes the pin of a flatten that was cut short; fine without one. Raises ImageMissing."""

    def open_ahead(self, image_id: str, uses: int = 1) -> AbstractContextManager[None]:
        """Opens the image for writing behind what the caller does until it needs it: a hint, of which nothing can fail.

        It changes nothing but that the image is watched. It is closed behind as many calls that needed it, at the
        latest when the caller leaves, and nobody waits for that.
        """

    def grow(self, name: str, size_bytes: int) -> int:
        """Grows to `size_bytes` unless it is as large already; the size afterwards. Raises ImageMissing. Never shrinks."""

    def remove(self, name: str) -> None:
        """For images never handed out. Raises ImageMissing, ImageBusy, ImageHasSnapshots."""

    def write_metadata(self, image_id: str, write: MetadataWrite) -> None:
        """Without opening the image. Raises ImageMissing, CompareFailed when another mark stands there."""

    def read_mark(self, image_id: str) -> int:
        """The mark of the last `write_metadata`; 0 without one. A clone does not inherit it."""

    def announce(self, image_id: str) -> None:
        """Have clients that have the image open for writing read its header, and so its settings, anew.

        One that does not answer in time does so when it can.
        """

    def get_metadata(self, name: str) -> dict[str, str]:
        """All keys of the image's metadata. Raises ImageMissing."""

    def move_to_trash(self, name: str, *, keep_s: int = 0) -> None:
        """Keeps it there for so many seconds. Does not refuse a watched image: look before.

        Raises ImageMissing; ImageBusy for a member of a group, with librbd from 20.2 on.
        """

    def restore_from_trash(self, image_id: str, name: str) -> None:
        """Gives an image in the trash a name again; one that was cut short is finished.

        Raises ImageMissing (not in the trash), ImageExists (the name is another image's).
        """

    def purge(self, image_id: str) -> None:
        """Removes an image from the trash, data and all; never before its time.

        Raises ImageMissing, ImageBusy, ImageHasSnapshots, ImageKept.
        """

    def remove_nameless(self, image_id: str, name: str) -> None:
        """Removes an image that has a header, or an object map alone, by way of the trash, where it is called `name`.

        The caller sees to it that nobody has it open. Raises ImageHasSnapshots, ImageBusy: it is in the trash then.
        """

    def find_trashed(self, image_id: str) -> TrashEntry | None: ...

    def list_trash(self) -> list[TrashEntry]: ...


class Ancestry(Protocol):
    """Chains of parents, without opening an image: those of this pool and namespace, and wherever their parents lie."""

    def has_header(self, image_id: str) -> bool:
        """Whether there is something of the image, be it that it cannot be opened."""

    def find_parent(self, image_id: str) -> ParentSnap | None:
        """None without a parent, and for an image that is gone."""

    def children(self, image_id: str, snap_id: int) -> list[Child]:
        """The clones of format 2 of a snap, wherever they lie."""

    def is_needed(self, snap: ParentSnap) -> bool:
        """Whether clones of format 1 of this pool and namespace are on a snap's list: it cannot be removed then."""

    def is_listed(self, image_id: str) -> bool:
        """Whether the snap that it names as its parent has the image among its clones.

        What is whole and not listed was taken off the list by a flatten that was cut short after all data was copied.
        """

    def count(self, image_id: str, snap_id: int | None = None) -> int:
        """Ancestors of the image's head, or of one of its snaps."""

    def list_again(self, image_id: str) -> None:
        """Puts the image back on the list of the snap that it names as its parent. Raises ImageMissing: the snap is gone."""

    def unlist_strays(self, snap: ParentSnap) -> int:
        """Takes off a snap's list the clones that do not read through it: such as are gone, or flat with all their snaps.

        One after another, until one is met that does, so that the snap must stay; how many. Those of format 2 wherever they
        lie, those of format 1 of this pool and namespace. Fine when the snap is gone.
        """

    def drop_parent(self, image_id: str) -> None:
        """Removes the head's link to a parent, and with deep-flatten that of the snaps. Raises ImageMissing: it has none.

        Right only where a flatten has copied all data.
        """


class Groups(Protocol):
    """RBD groups of one pool and namespace: their members may lie in other pools of the cluster.

    An image is in one group at a time. A group's snap is a snap of kind GROUP on each member, all of one moment; it stays
    when its image leaves the group.
    """

    def create(self, group: str) -> None:
        """Fine when it is there."""

    def add(self, group: str, pool: "Pool", image: str) -> None:
        """Fine when it is in. Raises ImageMissing, ImageBusy when it is in another group."""

    def take_out(self, group: str, pool: "Pool", image: str) -> None:
        """Fine when it is not in, or there is no such image or group."""

    def leave(self, image: str, image_id: str) -> None:
        """Take an image of this pool out of whatever group of this pool it is in. Raises ImageBusy for another pool's."""

    def cut(self, group: str, snap: str) -> None:
        """One moment in the order of writes over all members, which need exclusive-lock."""

    def has_snap(self, group: str, snap: str) -> bool | None:
        """False for one that was cut short, None where there is none."""

    def remove_snap(self, group: str, snap: str) -> None:
        """On all members; with clones it moves to the trash namespace there. Fine when it is not there."""

    def list_names(self) -> list[str]:
        """Of all groups."""

    def remove(self, group: str) -> None:
        """Its members leave it, also those in the trash. Fine when it is not there. Raises ImageBusy."""
