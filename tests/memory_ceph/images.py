"""Images, their metadata and the trash. What librbd writes in several steps has its points between them."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Protocol

from csi_driver.ceph.api import (
    NO_METADATA,
    CompareFailed,
    ImageBusy,
    ImageExists,
    ImageHasSnapshots,
    ImageInfo,
    ImageKept,
    ImageMissing,
    MetadataWrite,
    Snap,
    SnapKind,
    TrashEntry,
    Watcher,
)
from csi_driver.errors import InvalidRequest
from csi_driver.model import ImageLayout
from tests.memory_ceph.seam import Link, seam
from tests.memory_ceph.state import BLOCK, Images, Place, StoredImage, StoredSnap, head_map

_NEEDS = {"object-map": "exclusive-lock", "fast-diff": "object-map"}


class Watching(Link, Protocol):
    """A connection that can have images open."""

    address: str

    def watching(self, image: StoredImage) -> AbstractContextManager[None]: ...


class Ceph(Protocol):
    """What the calls need of the cluster."""

    pools: dict[int, str]
    clones_format_2: bool
    images: Images

    def number(self) -> int: ...
    def now(self) -> float: ...
    def watchers(self, image: StoredImage) -> tuple[str, ...]: ...


class ImageCalls:
    """The calls of `Images` that concern no snap."""

    def __init__(self, link: Watching, ceph: Ceph, place: Place) -> None:
        self.link = link
        self.ceph = ceph
        self.place = place

    @property
    def raw(self) -> object:
        return self.place

    def making(self) -> AbstractContextManager[object]:
        return nullcontext(self.place)

    @seam("images.create")
    def create(self, name: str, size_bytes: int, layout: ImageLayout, metadata: MetadataWrite = NO_METADATA) -> str:
        return self.make(name, size_bytes, layout, metadata).image_id

    def make(self, name: str, size_bytes: int, layout: ImageLayout, metadata: MetadataWrite) -> StoredImage:
        """Its two names side by side, then its header and its object map: which of them comes first depends on its number."""
        if name in self.place.names:
            raise ImageExists(name)
        features = self.features_of(layout)
        number = self.ceph.number()
        image = StoredImage(f"{number:012x}", self.place, size_bytes, features, layout.data_pool)
        image.metadata, image.mark = dict(metadata.put), metadata.mark
        self.place.names[name] = image.image_id
        missing = (self.place.unlisted, self.place.unnumbered)[number % 2]
        missing.add(name)
        self.link.reach("images.create:half_named")
        missing.discard(name)
        self.link.reach("images.create:named")
        if "object-map" in features and number // 2 % 2:
            self.place.objects[image.head_map] = {}
            self.link.reach("images.create:mapped")
            del self.place.objects[image.head_map]
        self.ceph.images.by_id[image.image_id] = image
        return image

    def open_ahead(self, image_id: str, uses: int = 1) -> AbstractContextManager[None]:
        """The watch is that of the call which needs the image."""
        return nullcontext()

    def features_of(self, layout: ImageLayout) -> tuple[str, ...]:
        """Raises InvalidRequest as librbd refuses."""
        for feature, needed in _NEEDS.items():
            if feature in layout.features and needed not in layout.features:
                raise InvalidRequest(f"librbd refuses {layout}: {feature} needs {needed}")
        unit = layout.stripe_unit_bytes
        if unit and (unit > layout.object_size_bytes or layout.object_size_bytes % unit):
            raise InvalidRequest(f"librbd refuses {layout}: stripe unit")
        if layout.data_pool and layout.data_pool not in self.ceph.pools.values():
            raise InvalidRequest(f"cannot create an image: dataPool {layout.data_pool!r} does not exist")
        return (*layout.features, *(["striping"] if unit else []), *(["data-pool"] if layout.data_pool else []))

    # ── looking ──

    @seam("images.list_names")
    def list_names(self) -> dict[str, str]:
        return {name: image_id for name, image_id in self.place.names.items() if name not in self.place.unlisted}

    @seam("images.find_id")
    def find_id(self, name: str) -> str | None:
        return None if name in self.place.unnumbered else self.place.names.get(name)

    @seam("images.find_size")
    def find_size(self, image_id: str) -> int | None:
        image = self.ceph.images.by_id.get(image_id)
        return image.size_bytes if image else None

    @seam("images.find_name")
    def find_name(self, image_id: str) -> str | None:
        named = (name for name, there in self.place.names.items() if there == image_id)
        return next((name for name in named if name not in self.place.unlisted), None)

    @seam("images.inspect")
    def inspect(self, name: str) -> ImageInfo:
        return self.info(self.named(name))

    @seam("images.inspect_id")
    def inspect_id(self, image_id: str) -> ImageInfo:
        return self.info(self.opened(image_id))

    @seam("images.watchers")
    def watchers(self, image_id: str) -> tuple[Watcher, ...]:
        image = self.ceph.images.by_id.get(image_id)
        return self.watchers_of(image) if image and self.ceph.images.can_open(image) else ()

    @seam("images.lock_owners")
    def lock_owners(self, image_id: str) -> tuple[Watcher, ...]:
        """A lock is taken with the first write: whoever has the image open for writing has it, dead or cut off, too."""
        image = self.ceph.images.by_id.get(image_id)
        if image is None or not self.ceph.images.can_open(image):
            raise ImageMissing(image_id)
        return tuple(Watcher(address, 4000 + number) for number, address in enumerate(image.watches))

    @seam("images.get_metadata")
    def get_metadata(self, name: str) -> dict[str, str]:
        return dict(self.named(name).metadata)

    @seam("images.remove_nameless")
    def remove_nameless(self, image_id: str, name: str) -> None:
        self.ceph.images.by_id.pop(image_id, None)

    @seam("images.list_trash")
    def list_trash(self) -> list[TrashEntry]:
        return [self._trashed(image_id) for image_id in self.place.trash]

    @seam("images.find_trashed")
    def find_trashed(self, image_id: str) -> TrashEntry | None:
        return self._trashed(image_id) if image_id in self.place.trash else None

    def _trashed(self, image_id: str) -> TrashEntry:
        return TrashEntry(image_id, self.place.trash[image_id], self.place.kept_until.get(image_id, 0.0))

    def opened(self, image_id: str) -> StoredImage:
        """Raises ImageMissing for all that cannot be opened."""
        image = self.ceph.images.by_id.get(image_id)
        if image is None or image.place is not self.place or not self.ceph.images.can_open(image):
            raise ImageMissing(image_id)
        return image

    def named(self, name: str) -> StoredImage:
        return self.opened(self.place.names.get(name, f"none of {name}"))

    def info(self, image: StoredImage) -> ImageInfo:
        return ImageInfo(
            image_id=image.image_id,
            size_bytes=image.size_bytes,
            features=image.features,
            data_pool=image.data_pool,
            snaps=tuple(_snap(one) for one in image.snaps.values() if not one.is_pin),
            has_parent=image.parent is not None and image.overlap_bytes > 0,
            is_pinned=any(one.is_pin for one in image.snaps.values()),
            watchers=self.watchers_of(image),
        )

    def watchers_of(self, image: StoredImage) -> tuple[Watcher, ...]:
        return tuple(Watcher(address, 4000 + number) for number, address in enumerate(self.ceph.watchers(image)))

    # ── changing ──

    @contextmanager
    def writing(self, image: StoredImage) -> Iterator[StoredImage]:
        with self.link.watching(image):
            yield image

    @seam("images.grow")
    def grow(self, name: str, size_bytes: int) -> int:
        """librbd may look at an old size: what grows an image beside this one is undone, with what was written beyond."""
        with self.writing(self.named(name)) as image:
            if image.size_bytes < size_bytes:
                self.link.reach("images.grow:looked")
                self.link.refuse_fenced("images.grow")
                self.named(name)  # others may go on meanwhile
                image.is_cut |= image.size_bytes > size_bytes
                self._resize(image, size_bytes)
            return image.size_bytes

    def _resize(self, image: StoredImage, size_bytes: int) -> None:
        image.size_bytes = size_bytes
        image.data = {number: value for number, value in image.data.items() if number * BLOCK < size_bytes}

    @seam("images.shrink")
    def shrink(self, name: str) -> None:
        with self.writing(self.named(name)) as image:
            self._resize(image, 1)
            image.overlap_bytes = min(image.overlap_bytes, 1)

    @seam("images.sparsify")
    def sparsify(self, image_id: str) -> None:
        """What the model holds of an image is what is read of it."""
        self._headed(image_id)

    @seam("images.write_metadata")
    def write_metadata(self, image_id: str, write: MetadataWrite) -> None:
        image = self._headed(image_id)
        if image.mark != write.over:
            raise CompareFailed(image_id)
        image.change(write)

    @seam("images.read_mark")
    def read_mark(self, image_id: str) -> int:
        image = self.ceph.images.by_id.get(image_id)
        return image.mark if image else 0

    @seam("images.announce")
    def announce(self, image_id: str) -> None:
        self._headed(image_id)

    def _headed(self, image_id: str) -> StoredImage:
        image = self.ceph.images.by_id.get(image_id)
        if image is None:
            raise ImageMissing(image_id)
        return image

    # ── removing ──

    @seam("images.remove")
    def remove(self, name: str) -> None:
        if self._finish_half_made(name):
            return
        begun = next((image_id for image_id, was in self.place.removing.items() if was == name), None)
        image_id = self.place.names.get(name, begun)
        if image_id is None:
            raise ImageMissing(name)
        self._refuse_needed(image_id)
        self.place.removing[image_id] = name
        self.link.reach("images.remove:both")
        self.place.names.pop(name, None)
        self.link.reach("images.remove:unnamed")
        self._drop(image_id, "images.remove")
        del self.place.removing[image_id]

    def _finish_half_made(self, name: str) -> bool:
        image_id = self.place.names.get(name)
        if image_id is None or image_id in self.ceph.images.by_id:
            return False
        self.place.objects.pop(head_map(image_id), None)
        self.link.reach("images.remove:mapless")
        missing = (self.place.unlisted, self.place.unnumbered)[len(name) % 2]
        if name not in self.place.unlisted | self.place.unnumbered:
            missing.add(name)
            self.link.reach("images.remove:half_named")
        del self.place.names[name]
        self.place.unlisted.discard(name)
        self.place.unnumbered.discard(name)
        return True

    @seam("images.move_to_trash")
    def move_to_trash(self, name: str, *, keep_s: int = 0) -> None:
        image_id = self.place.names.get(name)
        if image_id not in self.ceph.images.by_id:
            raise ImageMissing(name)
        self.place.trash[image_id] = name
        self.place.kept_until[image_id] = math.ceil(self.ceph.now() + keep_s) if keep_s else 0.0
        self.link.reach("images.move_to_trash:both")
        del self.place.names[name]

    @seam("images.restore_from_trash")
    def restore_from_trash(self, image_id: str, name: str) -> None:
        if image_id not in self.place.trash:
            raise ImageMissing(image_id)
        if self.place.names.get(name, image_id) != image_id:
            raise ImageExists(name)
        self.place.names[name] = image_id
        self.link.reach("images.restore_from_trash:both")
        del self.place.trash[image_id]

    @seam("images.purge")
    def purge(self, image_id: str) -> None:
        if image_id not in self.place.trash:
            raise ImageMissing(image_id)
        if self.place.kept_until.get(image_id, 0.0) > self.ceph.now():
            raise ImageKept(image_id)
        if image := self.ceph.images.by_id.get(image_id):
            with self.link.watching(image):
                self._lock_to_purge(image)
                self._refuse_needed(image_id)
                self.link.reach("images.purge:looked")
                self.link.refuse_fenced("images.purge")
                self._drop(image_id, "images.purge")
        self.place.trash.pop(image_id, None)

    def _lock_to_purge(self, image: StoredImage) -> None:
        """librbd asks for the lock before it looks at anything else. Of a header that went meanwhile, it makes a new one."""
        self.link.reach("images.purge:opened")
        self.link.refuse_fenced("images.purge")
        if image.image_id not in self.ceph.images.by_id:
            self.ceph.images.by_id[image.image_id] = StoredImage(image.image_id, image.place, 0, ())
            raise ImageMissing(image.image_id)

    def _refuse_needed(self, image_id: str) -> None:
        """Raises ImageBusy, ImageHasSnapshots."""
        image = self.ceph.images.by_id.get(image_id)
        if image is None:
            return
        if set(self.ceph.watchers(image)) - {self.link.address}:
            raise ImageBusy(image_id)
        if image.group:
            raise ImageBusy(image_id)
        if image.snaps:
            raise ImageHasSnapshots(image_id)

    def _drop(self, image_id: str, call: str) -> None:
        if image := self.ceph.images.by_id.get(image_id):
            self.ceph.images.detach(image, lambda point: self.link.reach(f"{call}:{point}"))
            image.parent, image.overlap_bytes = None, 0
            self.ceph.images.drop(image)
            self.link.reach(f"{call}:headless")


def _snap(snap: StoredSnap) -> Snap:
    found = Snap(snap.snap_id, snap.name, snap.size_bytes, snap.kind)
    if snap.kind is not SnapKind.GROUP or snap.group is None:
        return found
    return replace(found, group=snap.group.name, group_pool_id=snap.group.pool_id)
