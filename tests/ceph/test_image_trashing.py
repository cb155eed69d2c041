"""Images moved to the trash past librbd are where librbd would have put them, and what a crash leaves is gone on with."""

import struct
from collections.abc import Callable

import pytest
import rados
import rbd

from csi_driver.ceph.api import ImageMissing, Pool
from csi_driver.ceph.encoding import packed
from csi_driver.dev.layout import DevCeph
from csi_driver.host import commands
from tests.ceph.test_image_making import FULL, MIB, by_librbd, keys

_TIMES_AND_STATE = 17


def names_of(bare: rados.Ioctx, name: str, image_id: str) -> dict[str, bytes | None]:
    """All that leads to an image: the trash's entry, the directory's two keys, and the object with its id."""
    directory = keys(bare, "rbd_directory")
    try:
        trash = keys(bare, "rbd_trash")
    except rados.ObjectNotFound:
        trash = {}  # a pool of which nothing was deleted yet
    try:
        number: bytes | None = bare.read(f"rbd_id.{name}")
    except rados.ObjectNotFound:
        number = None
    return {
        "trash": trash.get(f"id_{image_id}"),
        "name": directory.get(f"name_{name}"),
        "id": directory.get(f"id_{image_id}"),
        "number": number,
    }


def split(entry: bytes) -> tuple[bytes, tuple[int, ...]]:
    """What stands before the times of an entry of the trash; seconds and nanoseconds of both, and the state."""
    return entry[:-_TIMES_AND_STATE], struct.unpack("<IIIIB", entry[-_TIMES_AND_STATE:])


@pytest.mark.parametrize("keep_s", [0, 3600])
def test_a_moved_image_is_where_librbd_would_have_put_it(
    pool: Pool, bare: rados.Ioctx, image: str, keep_s: int
) -> None:
    image_id = by_librbd(bare, image, 8 * MIB, FULL)
    named = names_of(bare, image, image_id)
    rbd.RBD().trash_move(bare, image, keep_s)
    theirs = names_of(bare, image, image_id)
    rbd.RBD().trash_restore(bare, image_id, image)
    assert names_of(bare, image, image_id) == named
    pool.images.move_to_trash(image, keep_s=keep_s)
    ours = names_of(bare, image, image_id)
    assert theirs["trash"]
    assert ours["trash"]
    (before, times), (our_before, our_times) = split(theirs.pop("trash") or b""), split(ours.pop("trash") or b"")
    assert ours == theirs == {"name": None, "id": None, "number": None}
    assert our_before == before
    assert our_times[4] == times[4] == 0, "the state"
    assert our_times[2] - our_times[0] == times[2] - times[0] == keep_s
    assert 0 <= our_times[0] - times[0] < 60
    rbd.RBD().trash_restore(bare, image_id, image)
    assert names_of(bare, image, image_id) == named


def added(bare: rados.Ioctx, name: str, image_id: str) -> None:
    entry = struct.pack("<B", 0) + packed(name) + struct.pack("<IIIIB", 1, 0, 1, 0, 1)
    bare.execute("rbd_trash", "rbd", "trash_add", packed(image_id) + struct.pack("<BBI", 2, 1, len(entry)) + entry)


def without_number(bare: rados.Ioctx, name: str, image_id: str) -> None:
    added(bare, name, image_id)
    bare.remove_object(f"rbd_id.{name}")


def without_names(bare: rados.Ioctx, name: str, image_id: str) -> None:
    without_number(bare, name, image_id)
    bare.execute("rbd_directory", "rbd", "dir_remove_image", packed(name) + packed(image_id))


@pytest.mark.parametrize("cut_short", [added, without_number, without_names])
def test_a_move_that_was_cut_short_is_finished(
    pool: Pool, bare: rados.Ioctx, image: str, cut_short: Callable[[rados.Ioctx, str, str], None]
) -> None:
    image_id = pool.images.create(image, 8 * MIB, FULL)
    cut_short(bare, image, image_id)
    pool.images.move_to_trash(image)
    found = names_of(bare, image, image_id)
    assert split(found.pop("trash") or b"")[1][4] == 0, "the state"
    assert found == {"name": None, "id": None, "number": None}
    with pytest.raises(ImageMissing):
        pool.images.move_to_trash(image)
    pool.images.purge(image_id)


def test_librbd_ends_the_mirroring_of_what_goes_to_the_trash(
    ceph_dev: DevCeph, pool: Pool, bare: rados.Ioctx, image: str
) -> None:
    image_id = pool.images.create(image, 8 * MIB, FULL)
    rbd_tool = ("rbd", "-c", str(ceph_dev.conf))
    commands.run([*rbd_tool, "mirror", "pool", "enable", "rbd", "image"], timeout_s=60)
    try:
        commands.run([*rbd_tool, "mirror", "image", "enable", f"rbd/{image}", "snapshot"], timeout_s=60)
        assert f"image_{image_id}" in keys(bare, "rbd_mirroring")
        pool.images.move_to_trash(image)
        assert f"image_{image_id}" not in keys(bare, "rbd_mirroring")
        assert pool.images.find_trashed(image_id)
    finally:
        commands.run([*rbd_tool, "mirror", "pool", "disable", "rbd"], timeout_s=60)


def test_the_trash_takes_an_image_whose_clients_lock_nobody_gives_back(
    pool: Pool, bare: rados.Ioctx, image: str
) -> None:
    """librbd waits half a minute for the client, which may be dead."""
    image_id = pool.images.create(image, 8 * MIB, FULL)
    with rbd.Image(bare, image) as held:
        held.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
        pool.images.move_to_trash(image)
        assert pool.images.find_trashed(image_id)
