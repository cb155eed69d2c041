"""RBD images, through librbd and past it.

librbd answers "image not found" for any ENOENT, also of a pool or snapshot, and for a half-made or half-removed image: it
means that the image cannot be opened, not that nothing of it is there. Only the removing calls' ENOENT says "gone", and on
a full pool not even theirs unless the object `rbd_trash` exists. A pool at its quota takes no new object, so that it is
made before the first image is.
"""

import errno
from dataclasses import replace

import rbd

from csi_driver.ceph.adoption import Adoption
from csi_driver.ceph.api import (
    NO_METADATA,
    Cloned,
    CloneSource,
    ImageInfo,
    ImageMissing,
    MetadataWrite,
    ObjectMissing,
    Watcher,
    Write,
)
from csi_driver.ceph.image_cloning import ImageCloning, WantedClone
from csi_driver.ceph.image_features import FEATURES, SHOWN
from csi_driver.ceph.image_flattening import FlattenCalls
from csi_driver.ceph.image_making import ImageMaker, NewImage
from csi_driver.ceph.image_metadata import MARK, PREFIX, header_keys
from csi_driver.ceph.image_place import Place, PlainObjects, Translate
from csi_driver.ceph.image_snap_calls import SnapCalls
from csi_driver.ceph.image_snaps import has_parent, is_pinned, snaps
from csi_driver.ceph.image_trash_calls import TrashCalls
from csi_driver.errors import InvalidRequest
from csi_driver.model import ImageLayout

_PAGE = 1000
_SPARSE_BYTES = 4096
"""The least run of zeros that is looked for: the least that librbd takes, which is the allocation unit of a file system."""


class RbdImages(SnapCalls, TrashCalls, FlattenCalls):
    """`Images` over one IoCtx."""

    def __init__(
        self, place: Place, objects: PlainObjects, translate: Translate, maker: ImageMaker, adoption: Adoption
    ) -> None:
        super().__init__(place, objects, translate)
        self._maker = maker
        self._cloning = ImageCloning(place, translate, maker, adoption, self._make)

    def create(self, name: str, size_bytes: int, layout: ImageLayout, metadata: MetadataWrite = NO_METADATA) -> str:
        self._ensure_trash()  # while there is room for it
        with self._place.making_turn():
            return self._make(name, size_bytes, layout, metadata)

    def _make(self, name: str, size_bytes: int, layout: ImageLayout, metadata: MetadataWrite = NO_METADATA) -> str:
        """Within a turn of making."""
        with self._doing("images.create", name):
            if self._maker.can_make(size_bytes, layout):
                try:
                    return self._maker.make(NewImage(name, size_bytes, layout, header_keys(metadata)))
                except ObjectMissing as error:
                    raise InvalidRequest(self._missing_place(layout)) from error
            self._create_by_librbd(name, size_bytes, layout)
        return self._finish_made(name, 0, metadata)

    def _create_by_librbd(self, name: str, size_bytes: int, layout: ImageLayout) -> None:
        with self._place.making() as ioctx:
            try:
                self._rbd.create(
                    ioctx,
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

    def _finish_made(self, name: str, size_bytes: int, metadata: MetadataWrite) -> str:
        """What an image that librbd made has to have before anybody sees it. Its id."""
        image_id = self.find_id(name)
        if image_id is None:
            raise ImageMissing(name)
        if size_bytes:
            self.grow(name, size_bytes)
        if metadata != NO_METADATA:
            self.write_metadata(image_id, metadata)
        return image_id

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
            is_pinned=is_pinned(image),
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

    def clone(
        self,
        source: CloneSource,
        name: str,
        layout: ImageLayout,
        *,
        size_bytes: int = 0,
        metadata: MetadataWrite = NO_METADATA,
    ) -> Cloned:
        self._ensure_trash()
        made = self._cloning.clone(source, WantedClone(name, layout, size_bytes, metadata))
        return made if made.image_id else replace(made, image_id=self._finish_made(name, size_bytes, metadata))

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

    def shrink(self, name: str) -> None:
        """Not to 0: with fast-diff, `rbd du` of Ceph 16.2 aborts on such an image."""
        with self._doing("images.shrink", name), self._open_named(name) as image:
            image.resize(1)

    def sparsify(self, image_id: str) -> None:
        with self._doing("images.sparsify", image_id), self._open(image_id) as image:
            image.sparsify(_SPARSE_BYTES)

    def grow(self, name: str, size_bytes: int) -> int:
        with self._doing("images.grow", name), self._open_named(name) as image:
            present = image.size()
            if present < size_bytes:
                # the default of the bindings shrinks when another replica has grown the image in between
                image.resize(size_bytes, allow_shrink=False)
                present = size_bytes
            return present

    def write_metadata(self, image_id: str, write: MetadataWrite) -> None:
        change = Write(
            compare={MARK: str(write.over) if write.over else ""},
            put=header_keys(write),
            drop=tuple(PREFIX + name for name in write.drop),
        )
        with self._doing("images.write_metadata", image_id):
            self._objects.apply(f"rbd_header.{image_id}", change)

    def read_mark(self, image_id: str) -> int:
        with self._doing("images.read_mark", image_id):
            return int(self._objects.read_key(f"rbd_header.{image_id}", MARK) or "0")

    def announce(self, image_id: str) -> None:
        """An empty message is librbd's own for "the header has changed" (Ceph: librbd/ImageWatcher.cc)."""
        with self._doing("images.announce", image_id):
            self._objects.notify(f"rbd_header.{image_id}")

    def get_metadata(self, name: str) -> dict[str, str]:
        with self._doing("images.get_metadata", name), rbd.Image(self._ioctx, name, read_only=True) as image:
            return dict(image.metadata_list())
