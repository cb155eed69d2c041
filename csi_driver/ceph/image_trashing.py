"""Moves to the trash, made past librbd: by its own class calls, and without an open.

librbd makes the same calls. Before them it opens the image and takes its exclusive lock, to see to mirroring and migration
(docs/decisions/0044; Ceph: librbd/api/Trash.cc, librbd/trash/MoveRequest.cc; cls_rbd: trash_add, dir_remove_image,
trash_state_set).
"""

import struct
import time
from contextlib import suppress

import rbd

from csi_driver.ceph.api import ObjectMissing, Write
from csi_driver.ceph.encoding import packed, text_at, versioned
from csi_driver.ceph.image_place import PlainObjects

GROUP_KEY = "rbd_group_ref"
"""Of a header, while its image is in a group (cls_rbd: image_group_add)."""

_TRASH, _DIRECTORY, _MIRRORING = "rbd_trash", "rbd_directory", "rbd_mirroring"
_HEAD = 2**64 - 2  # CEPH_NOSNAP
_BY_USER = 0  # cls::rbd::TRASH_IMAGE_SOURCE_USER
_NORMAL, _MOVING = 0, 1  # cls::rbd::TRASH_IMAGE_STATE_…
_LIBRBDS_OWN = rbd.RBD_FEATURE_JOURNALING | rbd.RBD_FEATURE_MIGRATING


def find_movable(objects: PlainObjects, name: str) -> str | None:
    """The id of an image that librbd would move by the calls here. What is not, librbd moves, refuses, or goes on with."""
    image_id = find_in_directory(objects, name)
    if image_id is None:
        return None
    header = f"rbd_header.{image_id}"
    raw = objects.ask(header, "rbd", "get_features", struct.pack("<QB", _HEAD, 0))
    if raw is None or struct.unpack_from("<Q", raw)[0] & _LIBRBDS_OWN:
        return None
    if objects.read_key(_MIRRORING, f"image_{image_id}") is not None:
        return None
    return None if objects.read_key(header, GROUP_KEY) is not None else image_id


def find_in_directory(objects: PlainObjects, name: str) -> str | None:
    raw = objects.ask(_DIRECTORY, "rbd", "dir_get_id", packed(name))
    return text_at(raw, 0)[0] if raw else None


def move(objects: PlainObjects, name: str, image_id: str, keep_s: int) -> None:
    """Raises ObjectExists for an image that the trash has already: such a move librbd goes on with.

    One after another, as librbd: what is cut short here is what it leaves too, and it finds a `moving` entry by its name.
    """
    objects.execute(_TRASH, "rbd", "trash_add", trash_add(image_id, name, keep_s, state=_MOVING))
    with suppress(ObjectMissing):
        objects.apply(f"rbd_id.{name}", Write(remove_object=True))
    with suppress(ObjectMissing):
        objects.execute(_DIRECTORY, "rbd", "dir_remove_image", packed(name) + packed(image_id))
    objects.execute(_TRASH, "rbd", "trash_state_set", packed(image_id) + struct.pack("<BB", _NORMAL, _MOVING))


def trash_add(image_id: str, name: str, keep_s: int = 0, *, state: int = _NORMAL) -> bytes:
    """The id, and a TrashImageSpec (Ceph: cls_rbd, trash_add): version, compatible with, bytes; source, name, the times of
    deletion and of the end of its keeping as seconds and nanoseconds (u32 each), state.
    """
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    times = struct.pack("<IIII", seconds, nanoseconds, seconds + keep_s, nanoseconds)
    return packed(image_id) + versioned(
        2, struct.pack("<B", _BY_USER) + packed(name) + times + struct.pack("<B", state)
    )
