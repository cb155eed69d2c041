"""Images that the trash keeps for a time, and that come back from it."""

import struct
import time

import pytest
import rados

from csi_driver.ceph.api import ImageExists, ImageKept, ImageMissing, Images, Pool
from csi_driver.dev.layout import DevCeph
from tests.ceph.test_images import MIB, PLAIN, id_of, trashed


@pytest.fixture
def images(pool: Pool) -> Images:
    return pool.images


@pytest.fixture
def made(images: Images, image: str) -> str:
    """The name of an image of 8 MiB."""
    images.create(image, 8 * MIB, PLAIN)
    return image


def test_an_image_that_is_kept_in_the_trash_is_not_purged_before_its_time(images: Images, made: str) -> None:
    image_id = id_of(images, made)
    began = time.time()
    images.move_to_trash(made, keep_s=2)
    entry = images.find_trashed(image_id)
    assert entry is not None
    assert (entry.image_id, entry.name) == (image_id, made)
    assert began + 2 <= entry.kept_until <= time.time() + 3
    with pytest.raises(ImageKept):
        images.purge(image_id)
    assert trashed(images, made) == [image_id]
    time.sleep(max(0.0, entry.kept_until - time.time()))  # the trash's own time: nothing tells of its end
    images.purge(image_id)
    assert images.find_trashed(image_id) is None


def test_an_image_comes_back_from_the_trash_as_it_was_and_under_its_name(images: Images, made: str) -> None:
    before = images.inspect(made)
    images.move_to_trash(made, keep_s=3600)
    images.restore_from_trash(before.image_id, made)
    assert images.inspect(made) == before
    assert trashed(images, made) == []
    with pytest.raises(ImageMissing):
        images.restore_from_trash(before.image_id, made)
    assert images.inspect(made) == before


def test_a_restore_that_was_cut_short_is_finished(ceph_dev: DevCeph, images: Images, made: str) -> None:
    """librbd restores in several writes: here it has made the object that leads from the name to the id."""
    image_id = id_of(images, made)
    images.move_to_trash(made, keep_s=3600)
    with rados.Rados(conffile=str(ceph_dev.conf)) as cluster, cluster.open_ioctx("rbd") as ioctx:
        ioctx.write_full(f"rbd_id.{made}", struct.pack("<I", len(image_id)) + image_id.encode())
    assert images.find_id(made) == image_id
    images.restore_from_trash(image_id, made)
    assert images.inspect(made).size_bytes == 8 * MIB
    assert trashed(images, made) == []


def test_an_image_does_not_come_back_under_a_name_that_another_one_has(images: Images, made: str) -> None:
    image_id = id_of(images, made)
    images.move_to_trash(made)
    images.create(made, 2 * MIB, PLAIN)
    with pytest.raises(ImageExists):
        images.restore_from_trash(image_id, made)
    assert images.inspect(made).size_bytes == 2 * MIB
    assert trashed(images, made) == [image_id]
