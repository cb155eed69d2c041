"""What the calls on images have in common: where the images are, and how they are opened."""

import struct
from contextlib import AbstractContextManager

import rbd

from csi_driver.ceph.api import ImageMissing
from csi_driver.ceph.image_place import Place, PlainObjects, Translate, doing

_HEAD = 2**64 - 2  # CEPH_NOSNAP: the image itself, not one of its snaps


class ImageCalls:
    """Over one IoCtx."""

    def __init__(self, place: Place, objects: PlainObjects, translate: Translate) -> None:
        self._place = place
        self._ioctx = place.ioctx
        self._objects = objects
        self._translate = translate
        self._rbd = rbd.RBD()

    @property
    def raw(self) -> object:
        """The pool's handle, for librbd's calls that concern two pools."""
        return self._ioctx

    def making(self) -> AbstractContextManager[object]:
        """The pool's handle for librbd's calls that make an image."""
        return self._place.making()

    def find_id(self, name: str) -> str | None:
        """From the object `rbd_id.<name>`: a length (u32) and the id (Ceph: cls_rbd, get_id)."""
        raw = self._objects.read_data(f"rbd_id.{name}")
        return (raw[4:].decode() or None) if raw else None

    def find_size(self, image_id: str) -> int | None:
        """The class call `get_size`: the object order (u8), and the bytes (Ceph: cls_rbd)."""
        raw = self._objects.ask(f"rbd_header.{image_id}", "rbd", "get_size", struct.pack("<Q", _HEAD))
        return struct.unpack_from("<xQ", raw)[0] if raw else None

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

    def open_ahead(self, image_id: str, uses: int = 1) -> AbstractContextManager[None]:
        place = self._place
        key = (place.pool_id, place.namespace, image_id)
        return place.open_images.ahead(key, lambda: rbd.Image(self._ioctx, image_id=image_id), uses)

    def _doing(self, what: str, name: str) -> AbstractContextManager[None]:
        return doing(self._translate, what, name)
