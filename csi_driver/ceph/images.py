"""RBD images, through librbd and past it.

librbd answers "image not found" for any ENOENT, also of a pool or snapshot, and for a half-made or half-removed image: it
means that the image cannot be opened, not that nothing of it is there. Only the removing calls' ENOENT says "gone", and on
a full pool not even theirs unless the object `rbd_trash` exists. A pool at its quota takes no new object, so that it is
made before the first image is.
"""

import errno
import struct
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC

import rbd

from csi_driver.ceph.adoption import Adoption
from csi_driver.ceph.api import (
    CloneSource,
    Extents,
    FlattenStopped,
    ImageInfo,
    ImageKept,
    ImageMissing,
    MetadataWrite,
    Snap,
    SnapKind,
    TrashEntry,
    Watcher,
    Write,
)
from csi_driver.ceph.image_cloning import ImageCloning
from csi_driver.ceph.image_diff import changed
from csi_driver.ceph.image_features import FEATURES, SHOWN
from csi_driver.ceph.image_place import Place, PlainObjects, Translate, doing
from csi_driver.ceph.image_snaps import dated, has_parent, remove_trashed_snap, snaps
from csi_driver.errors import InvalidRequest, NoSpace
from csi_driver.model import CloneFormat, ImageLayout

_PAGE = 1000
_HEAD = 2**64 - 2  # CEPH_NOSNAP: the image itself, not one of its snaps
_REMOVING = 3  # cls::rbd::TRASH_IMAGE_SOURCE_REMOVING
_METADATA = "metadata_"
_MARK = "csi.mark"


class RbdImages:
    """`Images` over one IoCtx."""

    def __init__(self, place: Place, objects: PlainObjects, translate: Translate, adoption: Adoption) -> None:
        self._place = place
        self._ioctx = place.ioctx
        self._objects = objects
        self._translate = translate
        self._rbd = rbd.RBD()
        self._adoption = adoption

    def create(self, name: str, size_bytes: int, layout: ImageLayout) -> None:
        self._ensure_trash()  # while there is room for it
        with self._doing("images.create", name):
            try:
                self._rbd.create(
                    self._ioctx,
                    name,
                    size_bytes,
                    order=layout.object_size_bytes.bit_length() - 1,
                    old_format=False,
                    features=sum(FEATURES[feature] for feature in layout.features),
                    stripe_unit=layout.stripe_unit_bytes,
                    stripe_count=layout.stripe_count,
                    data_pool=layout.data_pool or None,
                )
            except rbd.Error as error:
                if error.errno in (errno.EINVAL, errno.EDOM):
                    raise InvalidRequest(
                        f"librbd refuses an image of {size_bytes} bytes as {layout}: {error}"
                    ) from error
                if error.errno == errno.ENOENT:  # of the name there is nothing yet: a place to put it is missing
                    raise InvalidRequest(self._missing_place(layout)) from error
                raise

    def _missing_place(self, layout: ImageLayout) -> str:
        namespace = self._place.namespace
        missing = [f"dataPool {layout.data_pool!r}"] if layout.data_pool else []
        if namespace:
            missing.append(f"rados namespace {namespace!r} of pool {self._place.pool!r} (`rbd namespace create`)")
        return f"cannot create an image: {' or '.join(missing) or 'part of the pool'} does not exist"

    def list_names(self) -> dict[str, str]:
        """From the object `rbd_directory`: keys `name_<name>`, values a length (u32) and the id (Ceph: cls_rbd)."""
        names: dict[str, str] = {}
        after = ""
        while page := self._objects.list_page("rbd_directory", prefix="name_", after=after, limit=_PAGE):
            names |= {key.removeprefix("name_"): value[4:] for key, value in page}
            after = page[-1][0]
        return names

    def find_id(self, name: str) -> str | None:
        """From the object `rbd_id.<name>`: a length (u32) and the id (Ceph: cls_rbd, get_id)."""
        raw = self._objects.read_data(f"rbd_id.{name}")
        return (raw[4:].decode() or None) if raw else None

    def find_size(self, image_id: str) -> int | None:
        """The class call `get_size`: the object order (u8), and the bytes (Ceph: cls_rbd)."""
        raw = self._objects.ask(f"rbd_header.{image_id}", "rbd", "get_size", struct.pack("<Q", _HEAD))
        return struct.unpack_from("<xQ", raw)[0] if raw else None

    def find_name(self, image_id: str) -> str | None:
        """The key `id_<id>` of the pool's directory: a length (u32) and the name (Ceph: cls_rbd, dir_get_name)."""
        page = self._objects.list_page("rbd_directory", prefix=f"id_{image_id}", after="", limit=2)
        return next((text[4:] for key, text in page if key == f"id_{image_id}"), None)

    def inspect(self, name: str) -> ImageInfo:
        with self._doing("images.inspect", name), rbd.Image(self._ioctx, name, read_only=True) as image:
            return self._info(image)

    def inspect_id(self, image_id: str) -> ImageInfo:
        with (
            self._doing("images.inspect", image_id),
            rbd.Image(self._ioctx, image_id=image_id, read_only=True) as image,
        ):
            return self._info(image)

    def _info(self, image: rbd.Image) -> ImageInfo:
        features = image.features()
        return ImageInfo(
            image_id=image.id(),
            size_bytes=image.size(),
            features=tuple(shown for shown, bit in SHOWN.items() if features & bit),
            data_pool=self._place.pool_name(image.data_pool_id()) if features & rbd.RBD_FEATURE_DATA_POOL else "",
            snaps=snaps(image),
            has_parent=has_parent(image),
            watchers=tuple(Watcher(one["addr"], one["id"]) for one in image.watchers_list()),
        )

    def lock_owners(self, image_id: str) -> tuple[Watcher, ...]:
        with (
            self._doing("images.lock_owners", image_id),
            rbd.Image(self._ioctx, image_id=image_id, read_only=True) as image,
        ):
            held = image.list_lockers()
            lockers = held["lockers"] if held else ()
            return tuple(Watcher(address, int(client.rpartition(".")[2])) for client, _, address in lockers)

    def clone(self, source: CloneSource, name: str, layout: ImageLayout) -> CloneFormat:
        self._ensure_trash()
        cloning = ImageCloning(
            self._place,
            self._objects,
            self._translate,
            adoption=self._adoption,
            create=self.create,
            find_id=self.find_id,
        )
        return cloning.clone(source, name, layout)

    def protect(self, name: str, snap: str) -> None:
        with self._doing("images.protect", f"{name}@{snap}"), self._open_named(name) as image:
            if image.is_protected_snap(snap):
                return
            try:
                image.protect_snap(snap)
            except rbd.Error as error:
                if error.errno != errno.EBUSY:  # protected by another copy in this moment
                    raise

    @property
    def raw(self) -> object:
        """The pool's handle, for librbd's calls that concern two pools."""
        return self._ioctx

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

    def changed(self, image_id: str, snap_id: int, base_id: int | None, *, start: int) -> Extents:
        with (
            self._doing("images.changed", f"{image_id}@{snap_id}"),
            rbd.Image(self._ioctx, image_id=image_id, read_only=True) as image,
        ):
            return changed(image, snap_id, base_id, start)

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

    def watchers(self, image_id: str) -> tuple[Watcher, ...]:
        try:
            found = self.inspect_id(image_id).watchers
            if found:
                with self._doing("images.look_anew", image_id):
                    self._objects.push_out(f"rbd_header.{image_id}")
                found = self.inspect_id(image_id).watchers
        except ImageMissing:
            return ()
        return found

    def drop_trashed_snaps(self, image_id: str) -> None:
        with self._doing("images.drop_trashed_snaps", image_id), self._open(image_id) as image:
            for one in snaps(image):
                if one.kind is SnapKind.TRASH:
                    remove_trashed_snap(image, one.snap_id)

    def snap_ids(self, image_id: str) -> tuple[int, ...]:
        """From the header's keys `snapshot_<id, 16 hex>` (Ceph: cls_rbd)."""
        ids: list[int] = []
        after = ""
        while page := self._objects.list_page(f"rbd_header.{image_id}", prefix="snapshot_", after=after, limit=500):
            ids += [int(key.removeprefix("snapshot_"), 16) for key, _ in page]
            after = page[-1][0]
        return tuple(ids)

    def shrink(self, name: str) -> None:
        """Not to 0: with fast-diff, `rbd du` of Ceph 16.2 aborts on such an image."""
        with self._doing("images.shrink", name), self._open_named(name) as image:
            image.resize(1)

    def flatten(self, image_id: str, progress: Callable[[float], bool]) -> None:
        def told(done: int, whole: int) -> int:
            return 0 if progress(done / whole if whole else 1.0) else -errno.ECANCELED

        with self._doing("images.flatten", image_id), self._open(image_id) as image:
            try:
                image.flatten(on_progress=told)
            except rbd.Error as error:
                if error.errno == errno.ECANCELED:
                    raise FlattenStopped(image_id) from error
                if error.errno != errno.EINVAL or has_parent(image):  # EINVAL: it has no parent any more
                    raise

    def grow(self, name: str, size_bytes: int) -> int:
        with self._doing("images.grow", name), self._open_named(name) as image:
            present = image.size()
            if present < size_bytes:
                # the default of the bindings shrinks when another replica has grown the image in between
                image.resize(size_bytes, allow_shrink=False)
                present = size_bytes
            return present

    def remove(self, name: str) -> None:
        self._ensure_trash()
        with self._doing("images.remove", name):
            self._despite_dead_watchers(
                lambda: self._rbd.remove(self._ioctx, name), lambda: self.find_id(name) or self._find_removing(name)
            )

    def _despite_dead_watchers(self, remove: Callable[[], None], find_id: Callable[[], str | None]) -> None:
        """Once more, when an image is said to be watched: perhaps by a client that is gone."""
        try:
            remove()
        except rbd.Error as error:
            image_id = find_id() if error.errno == errno.EBUSY else None
            if image_id is None:
                raise
            self._objects.push_out(f"rbd_header.{image_id}")
            remove()

    def _find_removing(self, name: str) -> str | None:
        """An image whose removal was cut short, in the object `rbd_trash`: keys `id_<id>`, values a version and a length (6
        bytes), the source (u8, 3: removing), the name with its length (u32), … (Ceph: cls::rbd::TrashImageSpec). librbd lists
        it nowhere, and goes on with it when the name is removed again.
        """
        begins = (struct.pack("<BI", _REMOVING, len(name.encode())) + name.encode()).decode(errors="replace")
        after = ""
        while page := self._objects.list_page("rbd_trash", prefix="id_", after=after, limit=_PAGE):
            for key, text in page:
                if text[6:].startswith(begins):
                    return key.removeprefix("id_")
            after = page[-1][0]
        return None

    def write_metadata(self, image_id: str, write: MetadataWrite) -> None:
        """On the header, where the metadata are keys (Ceph: cls_rbd), and the mark is a key that librbd does not know."""
        put = {_METADATA + name: text for name, text in write.put.items()}
        if write.mark:
            put[_MARK] = str(write.mark)
        change = Write(
            compare={_MARK: str(write.over) if write.over else ""},
            put=put,
            drop=tuple(_METADATA + name for name in write.drop),
        )
        with self._doing("images.write_metadata", image_id):
            self._objects.apply(f"rbd_header.{image_id}", change)

    def read_mark(self, image_id: str) -> int:
        with self._doing("images.read_mark", image_id):
            return int(self._objects.read_key(f"rbd_header.{image_id}", _MARK) or "0")

    def announce(self, image_id: str) -> None:
        """An empty message is librbd's own for "the header has changed" (Ceph: librbd/ImageWatcher.cc)."""
        with self._doing("images.announce", image_id):
            self._objects.notify(f"rbd_header.{image_id}")

    def get_metadata(self, name: str) -> dict[str, str]:
        with self._doing("images.get_metadata", name), rbd.Image(self._ioctx, name, read_only=True) as image:
            return dict(image.metadata_list())

    def move_to_trash(self, name: str, *, keep_s: int = 0) -> None:
        self._ensure_trash()
        with self._doing("images.move_to_trash", name):
            self._rbd.trash_move(self._ioctx, name, keep_s)

    def restore_from_trash(self, image_id: str, name: str) -> None:
        with self._doing("images.restore_from_trash", image_id):
            self._rbd.trash_restore(self._ioctx, image_id, name)

    def purge(self, image_id: str) -> None:
        self._ensure_trash()
        with self._doing("images.purge", image_id):
            try:
                self._despite_dead_watchers(lambda: self._rbd.trash_remove(self._ioctx, image_id), lambda: image_id)
            except rbd.Error as error:
                # The answer of a capability that is missing, too.
                if error.errno == errno.EPERM and self._is_kept(image_id):
                    raise ImageKept(image_id) from error
                raise

    def _is_kept(self, image_id: str) -> bool:
        found = self.find_trashed(image_id)
        return found is not None and found.kept_until > time.time()

    def find_trashed(self, image_id: str) -> TrashEntry | None:
        with self._doing("images.find_trashed", image_id):
            try:
                return _trash_entry(self._rbd.trash_get(self._ioctx, image_id))
            except rbd.Error as error:
                if error.errno == errno.ENOENT:
                    return None
                raise

    def list_trash(self) -> list[TrashEntry]:
        with self._doing("images.list_trash", "rbd_trash"):
            return [_trash_entry(one) for one in self._rbd.trash_list(self._ioctx)]

    def _ensure_trash(self) -> None:
        """Without this object a full pool answers "image not found" to every removal, the image being intact."""
        self._objects.ensure("rbd_trash")

    def _open_named(self, name: str) -> AbstractContextManager[rbd.Image]:
        image_id = self.find_id(name)
        if image_id is None:
            raise ImageMissing(name)
        return self._open(image_id)

    def _open(self, image_id: str) -> AbstractContextManager[rbd.Image]:
        """For writing, shared with other calls of this connection."""
        place = self._place
        return place.open_images.share(
            (place.pool_id, place.namespace, image_id), lambda: rbd.Image(self._ioctx, image_id=image_id)
        )

    def _doing(self, what: str, name: str) -> AbstractContextManager[None]:
        return doing(self._translate, what, name)


def _trash_entry(item: "rbd.TrashItem") -> TrashEntry:
    """The bindings cut the time down to whole seconds, and the trash compares the rest too."""
    return TrashEntry(item["id"], item["name"], item["deferment_end_time"].replace(tzinfo=UTC).timestamp() + 1)
