"""Snaps and clones: the contract of `Images` in csi_driver/ceph/api, where the cluster allows clones of format 2."""

import time
from dataclasses import replace

import pytest

from csi_driver.ceph.api import CloneSource, ImageExists, ImageHasSnapshots, ImageMissing, Images, Pool, SnapKind, Write
from csi_driver.errors import InvalidRequest, NoSpace
from csi_driver.model import ImageLayout
from tests.ceph.conftest import SNAP

MIB = 1 << 20
PLAIN = ImageLayout(("layering",))


@pytest.fixture
def images(pool: Pool) -> Images:
    return pool.images


@pytest.fixture
def image_id(images: Images, image: str) -> str:
    """The id of an image of 8 MiB with one snap."""
    images.create(image, 8 * MIB, PLAIN)
    found = images.find_id(image)
    assert found
    images.cut(found, SNAP, most=9)
    return found


def names(images: Images, image: str) -> list[str]:
    return [snap.name for snap in images.inspect(image).snaps if snap.kind is SnapKind.USER]


def test_a_snap_has_the_size_and_the_time_of_its_cut(images: Images, image: str, image_id: str) -> None:
    images.grow(image, 16 * MIB)
    snap = images.get_snap(image, SNAP)
    assert (snap.name, snap.size_bytes, snap.kind) == (SNAP, 8 * MIB, SnapKind.USER)
    assert abs(snap.created_at - time.time()) < 60
    assert images.inspect(image).snaps == (replace(snap, created_at=0.0),)
    assert images.snap_ids(image_id) == (snap.snap_id,)


def test_a_snap_is_cut_once(images: Images, image: str, image_id: str) -> None:
    """A repeated cut answers the first one, also when no more are allowed."""
    first = images.get_snap(image, SNAP)
    images.grow(image, 16 * MIB)
    assert images.cut(image_id, SNAP, most=1) == first
    assert names(images, image) == [SNAP]


def test_a_snap_that_a_killed_client_left_half_made_is_cut_anew(pool: Pool, image: str) -> None:
    """The snap stands in the header, and its object map was not written yet: no clone of it can be made."""
    layout = ImageLayout(("layering", "exclusive-lock", "object-map"))
    pool.images.create(image, 8 * MIB, layout)
    image_id = pool.images.find_id(image)
    assert image_id
    half = pool.images.cut(image_id, SNAP, most=1)
    pool.objects.apply(f"rbd_object_map.{image_id}.{half.snap_id:016x}", Write(remove_object=True))
    with pytest.raises(ImageMissing):
        pool.images.clone(CloneSource(pool, image, SNAP), f"{image}-clone", layout)
    assert pool.images.cut(image_id, SNAP, most=1).snap_id > half.snap_id
    pool.images.clone(CloneSource(pool, image, SNAP), f"{image}-clone", layout)
    assert pool.images.inspect(f"{image}-clone").has_parent


def test_no_more_snaps_are_cut_than_are_allowed(images: Images, image: str, image_id: str) -> None:
    with pytest.raises(NoSpace, match="1 snapshots"):
        images.cut(image_id, f"{SNAP}-2", most=1)
    assert names(images, image) == [SNAP]
    images.cut(image_id, f"{SNAP}-2", most=2)
    assert names(images, image) == [SNAP, f"{SNAP}-2"]


def test_an_image_is_snapped_while_a_snap_of_a_user_is_there(pool: Pool, image: str, image_id: str) -> None:
    """One that a clone alone keeps is in the trash namespace; in an image that is in the trash it still is the user's."""
    assert pool.images.is_snapped(image_id)
    pool.images.clone(CloneSource(pool, image, SNAP), f"{image}-clone", PLAIN)
    pool.images.remove_snap(image_id, SNAP)
    assert pool.images.snap_ids(image_id)
    assert not pool.images.is_snapped(image_id)
    pool.images.cut(image_id, SNAP, most=1)
    pool.images.move_to_trash(image)
    assert pool.images.is_snapped(image_id)
    pool.images.remove_snap(image_id, SNAP)
    assert not pool.images.is_snapped(image_id)
    assert not pool.images.is_snapped("none")


def test_a_removed_snap_is_gone_and_removing_it_again_is_fine(images: Images, image: str, image_id: str) -> None:
    images.remove_snap(image_id, SNAP)
    images.remove_snap(image_id, SNAP)
    assert images.snap_ids(image_id) == ()
    with pytest.raises(ImageMissing):
        images.get_snap(image, SNAP)


def test_snaps_of_an_image_in_the_trash_can_be_removed(images: Images, image: str, image_id: str) -> None:
    images.move_to_trash(image)
    assert len(images.snap_ids(image_id)) == 1
    images.remove_snap(image_id, SNAP)
    assert images.snap_ids(image_id) == ()


def test_a_clone_has_a_parent_and_its_own_layout(pool: Pool, image: str, image_id: str) -> None:
    clone, layout = f"{image}-clone", ImageLayout(("layering", "exclusive-lock"), 8 * MIB)
    pool.images.clone(CloneSource(pool, image, SNAP), clone, layout)
    info = pool.images.inspect(clone)
    assert info.has_parent
    assert info.size_bytes == 8 * MIB
    assert set(info.features) == set(layout.features)
    assert not pool.images.inspect(image).has_parent
    with pytest.raises(ImageExists):
        pool.images.clone(CloneSource(pool, image, SNAP), clone, layout)


@pytest.mark.parametrize(("source", "snap"), [("", "none"), ("-none", SNAP)], ids=["snap", "image"])
def test_what_is_not_there_is_not_cloned(pool: Pool, image: str, image_id: str, source: str, snap: str) -> None:
    with pytest.raises(ImageMissing):
        pool.images.clone(CloneSource(pool, image + source, snap), f"{image}-clone", PLAIN)
    assert pool.images.find_id(f"{image}-clone") is None


def test_an_image_without_layering_is_not_cloned(pool: Pool, image: str) -> None:
    pool.images.create(image, 8 * MIB, ImageLayout(("exclusive-lock",)))
    found = pool.images.find_id(image)
    assert found
    pool.images.cut(found, SNAP, most=1)
    with pytest.raises(InvalidRequest, match=f"{image}.*layering"):
        pool.images.clone(CloneSource(pool, image, SNAP), f"{image}-clone", PLAIN)
    assert pool.images.find_id(f"{image}-clone") is None


def test_a_snap_that_a_clone_needs_loses_its_name_and_goes_with_the_clone(
    pool: Pool, image: str, image_id: str
) -> None:
    """Its name is free at once; the image is not purged before."""
    images = pool.images
    images.clone(CloneSource(pool, image, SNAP), f"{image}-clone", PLAIN)
    images.remove_snap(image_id, SNAP)
    assert [snap.kind for snap in images.inspect(image).snaps] == [SnapKind.TRASH]
    with pytest.raises(ImageMissing):
        images.get_snap(image, SNAP)
    images.remove_snap(image_id, SNAP)
    assert len(images.snap_ids(image_id)) == 1, "a repeated removal leaves what the clone needs"
    images.cut(image_id, SNAP, most=1)
    images.remove_snap(image_id, SNAP)
    images.move_to_trash(image)
    with pytest.raises(ImageHasSnapshots):
        images.purge(image_id)
    images.remove(f"{image}-clone")
    images.purge(image_id)
    assert image_id not in {entry.image_id for entry in images.list_trash()}
