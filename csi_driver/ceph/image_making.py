"""New images, made past librbd: by its own class calls, those that do not rest on each other side by side.

librbd makes the same calls one after another (docs/decisions/0039; Ceph: librbd/image/CreateRequest.cc; cls_rbd:
dir_add_image, dir_state_assert, set_id, create, object_map_resize).
"""

import secrets
import struct
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from csi_driver.ceph.api import ImageExists, ObjectExists
from csi_driver.ceph.class_writes import ClassWrite
from csi_driver.ceph.encoding import packed
from csi_driver.ceph.image_features import FEATURES
from csi_driver.ceph.image_place import PlainObjects
from csi_driver.ceph.plain_pools import PlainPools
from csi_driver.model import ImageLayout

_ID_BYTES = 7
"""librbd's ids have up to 14 hexadecimal digits (RBD_MAX_IMAGE_ID_LENGTH)."""
_MOST_MAPPED = 256_000_000
"""Objects that an object map may describe (MAX_OBJECT_MAP_OBJECT_COUNT)."""
_NEEDS = {"object-map": "exclusive-lock", "fast-diff": "object-map"}
_DATA_POOL = 128  # RBD_FEATURE_DATA_POOL
_NOWHERE = -1
_READY = 0  # DIRECTORY_STATE_READY: of a namespace that is there, and is not being removed
_NONEXISTENT = 0  # OBJECT_NONEXISTENT


@dataclass(frozen=True)
class NewImage:
    """An image to be made. keys: of its header, beside those that the class makes."""

    name: str
    size_bytes: int
    layout: ImageLayout
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MakingPlace:
    """Where images are made. objects: the pool, through the handle that gives nothing up · find_pool: its id by name."""

    pool_id: int
    pool: str
    namespace: str
    objects: Callable[[], AbstractContextManager[PlainObjects]]
    find_pool: Callable[[str], int | None]


class ImageMaker:
    """Makes images in one pool and namespace."""

    def __init__(self, place: MakingPlace, pools: PlainPools) -> None:
        self._place = place
        self._pools = pools

    def can_make(self, size_bytes: int, layout: ImageLayout) -> bool:
        """Whether an image is one that librbd would make by the calls here; what is not, librbd makes or refuses."""
        if layout.stripe_unit_bytes or layout.stripe_count or not set(layout.features) <= FEATURES.keys():
            return False
        if "journaling" in layout.features or -(-size_bytes // layout.object_size_bytes) > _MOST_MAPPED:
            return False
        if any(needed not in layout.features for one, needed in _NEEDS.items() if one in layout.features):
            return False
        data_pool_id = self._data_pool_id(layout)
        if data_pool_id is None:
            return False
        here = self._place.pool_id
        return self._pools.is_plain(here, here if data_pool_id == _NOWHERE else data_pool_id, self._place.namespace)

    def _data_pool_id(self, layout: ImageLayout) -> int | None:
        """None for a pool that is not there."""
        if not layout.data_pool or layout.data_pool == self._place.pool:
            return _NOWHERE
        return self._place.find_pool(layout.data_pool)

    def make(self, new: NewImage) -> str:
        """The image's id. Raises ImageExists, and leaves nothing then; cut short, it leaves what `Images.remove` takes away.

        Its names first, each of which leads to the id: what comes after has no other way to be found.
        """
        image_id = secrets.token_hex(_ID_BYTES)
        with self._place.objects() as objects:
            self._name(objects, new.name, image_id)
            for failure in objects.write_classes(self._parts(new, image_id)):
                if failure:
                    raise failure
        return image_id

    def _name(self, objects: PlainObjects, name: str, image_id: str) -> None:
        both = packed(name) + packed(image_id)
        state = (("rbd", "dir_state_assert", struct.pack("<B", _READY)),) if self._place.namespace else ()
        names = (
            ClassWrite("rbd_directory", (*state, ("rbd", "dir_add_image", both))),
            ClassWrite(f"rbd_id.{name}", (("rbd", "set_id", packed(image_id)),), is_new=True),
        )
        undo = (
            ClassWrite("rbd_directory", (("rbd", "dir_remove_image", both),)),
            ClassWrite(f"rbd_id.{name}", is_removal=True),
        )
        failures = objects.write_classes(names)
        if not any(failures):
            return
        if done := [back for back, failure in zip(undo, failures, strict=True) if failure is None]:
            objects.write_classes(done)
        if any(isinstance(failure, ObjectExists) for failure in failures):
            raise ImageExists(name)
        raise next(failure for failure in failures if failure)

    def _parts(self, new: NewImage, image_id: str) -> tuple[ClassWrite, ...]:
        """The header, and the object map where there is one."""
        layout = new.layout
        data_pool_id = self._data_pool_id(layout)
        data_pool_id = _NOWHERE if data_pool_id is None else data_pool_id
        bits = sum(FEATURES[feature] for feature in layout.features)
        prefix = f"rbd_data.{image_id}"
        if data_pool_id != _NOWHERE:
            bits |= _DATA_POOL
            prefix = f"rbd_data.{self._place.pool_id}.{image_id}"
        if "object-map" in layout.features:
            bits |= FEATURES["fast-diff"]
        order = layout.object_size_bytes.bit_length() - 1
        made = struct.pack("<QBQ", new.size_bytes, order, bits) + packed(prefix) + struct.pack("<q", data_pool_id)
        header = ClassWrite(f"rbd_header.{image_id}", (("rbd", "create", made),), new.keys, is_new=True)
        if "object-map" not in layout.features:
            return (header,)
        objects = -(-new.size_bytes // layout.object_size_bytes)
        resized = struct.pack("<QB", objects, _NONEXISTENT)
        name = f"rbd_object_map.{image_id}"
        return header, ClassWrite(name, (("rbd", "object_map_resize", resized),), is_new=True)
