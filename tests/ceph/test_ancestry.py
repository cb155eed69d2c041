"""Chains of parents: the contract of `Ancestry` in csi_driver/ceph/api."""

from contextlib import suppress
from dataclasses import replace

import pytest

from csi_driver.ceph.api import Child, CloneSource, FlattenStopped, ImageBusy, ImageMissing, Pool
from csi_driver.model import CloneFormat, ImageLayout
from tests.ceph.conftest import SNAP

MIB = 1 << 20
PLAIN = ImageLayout(("layering",))


@pytest.fixture(params=[CloneFormat.ALLOWED, CloneFormat.ONE], ids=["format 2", "format 1"])
def clone_format(request: pytest.FixtureRequest) -> CloneFormat:
    chosen: CloneFormat = request.param
    return chosen


@pytest.fixture
def clone_id(pool: Pool, image: str, clone_format: CloneFormat) -> str:
    """The id of a clone, named `<image>-clone`, of an image of 8 MiB."""
    pool.images.create(image, 8 * MIB, PLAIN)
    image_id = pool.images.find_id(image)
    assert image_id
    pool.images.cut(image_id, SNAP, most=1)
    made = pool.images.clone(CloneSource(pool, image, SNAP, clone_format), f"{image}-clone", PLAIN)
    assert made.format is (clone_format or CloneFormat.TWO)
    assert made.image_id == pool.images.find_id(f"{image}-clone")
    return made.image_id


def test_a_clone_names_its_parent_and_is_listed_there(pool: Pool, image: str, clone_id: str) -> None:
    parent = pool.ancestry.find_parent(clone_id)
    assert parent
    assert (parent.pool_id, parent.namespace, parent.image_id) == (pool.pool_id, "", pool.images.find_id(image))
    assert parent.snap_id == pool.images.get_snap(image, SNAP).snap_id
    assert pool.ancestry.is_listed(clone_id)
    assert pool.ancestry.count(clone_id) == 1


def test_a_snap_is_needed_by_clones_of_format_1(
    pool: Pool, image: str, clone_id: str, clone_format: CloneFormat
) -> None:
    """By those that it lists: librbd does not look whether they read through it."""
    parent = pool.ancestry.find_parent(clone_id)
    assert parent
    assert pool.ancestry.is_needed(parent) == (clone_format is CloneFormat.ONE)
    assert not pool.ancestry.is_needed(replace(parent, snap_id=parent.snap_id + 1))
    pool.images.remove(f"{image}-clone")
    assert not pool.ancestry.is_needed(parent)


def test_an_image_without_a_parent_is_listed_nowhere(pool: Pool, image: str, clone_id: str) -> None:
    image_id = pool.images.find_id(image)
    assert image_id
    for one in (image_id, "none"):
        assert pool.ancestry.find_parent(one) is None
        assert not pool.ancestry.is_listed(one)
        assert pool.ancestry.count(one) == 0


def test_a_flattened_clone_is_on_no_list(pool: Pool, image: str, clone_id: str) -> None:
    parent = pool.ancestry.find_parent(clone_id)
    pool.images.flatten(clone_id, lambda _part: True)
    assert parent
    assert pool.ancestry.find_parent(clone_id) is None
    assert not pool.ancestry.is_listed(clone_id)
    pool.images.remove_snap(parent.image_id, SNAP)


def test_a_clone_without_deep_flatten_stays_on_the_list_for_its_snaps(pool: Pool, image: str, clone_id: str) -> None:
    """And goes from it with the last of them."""
    snap = pool.images.cut(clone_id, SNAP, most=1)
    pool.images.flatten(clone_id, lambda _part: True)
    assert not pool.images.inspect(f"{image}-clone").has_parent
    assert pool.ancestry.is_listed(clone_id)
    assert (pool.ancestry.count(clone_id), pool.ancestry.count(clone_id, snap.snap_id)) == (0, 1)
    pool.images.remove_snap(clone_id, SNAP)
    assert not pool.ancestry.is_listed(clone_id)


def test_a_clone_of_a_snap_in_the_trash_namespace_is_listed_there(pool: Pool, image: str, clone_id: str) -> None:
    parent = pool.ancestry.find_parent(clone_id)
    assert parent
    try:
        pool.images.remove_snap(parent.image_id, SNAP)
    except ImageBusy:
        assert SNAP in {snap.name for snap in pool.images.inspect(image).snaps}, "format 1 keeps it"
    assert pool.ancestry.is_listed(clone_id)


def test_the_link_of_the_head_alone_is_removed(pool: Pool, image: str, clone_id: str) -> None:
    snap = pool.images.cut(clone_id, SNAP, most=1)
    pool.ancestry.drop_parent(clone_id)
    assert not pool.images.inspect(f"{image}-clone").has_parent
    assert (pool.ancestry.count(clone_id), pool.ancestry.count(clone_id, snap.snap_id)) == (0, 1)
    with pytest.raises(ImageMissing):
        pool.ancestry.drop_parent(clone_id)


def test_what_has_no_parent_cannot_be_listed_again(pool: Pool, image: str, clone_id: str) -> None:
    image_id = pool.images.find_id(image)
    assert image_id
    for one in (image_id, "none"):
        with pytest.raises(ImageMissing):
            pool.ancestry.list_again(one)
        with pytest.raises(ImageMissing):
            pool.ancestry.drop_parent(one)


def test_listing_a_clone_again_that_is_listed_changes_nothing(pool: Pool, image: str, clone_id: str) -> None:
    pool.ancestry.list_again(clone_id)
    assert pool.ancestry.is_listed(clone_id)
    pool.images.remove(f"{image}-clone")
    parent_id = pool.images.find_id(image)
    assert parent_id
    pool.images.remove_snap(parent_id, SNAP)


def test_a_flatten_that_is_stopped_leaves_its_image_as_it_was(pool: Pool, image: str, clone_id: str) -> None:
    parts: list[float] = []

    def stop(part: float) -> bool:
        parts.append(part)
        return False

    with pytest.raises(FlattenStopped):
        pool.images.flatten(clone_id, stop)
    assert len(parts) == 1
    assert pool.images.inspect(f"{image}-clone").has_parent
    assert pool.ancestry.is_listed(clone_id)
    pool.images.flatten(clone_id, lambda _part: True)
    assert pool.ancestry.find_parent(clone_id) is None


def test_the_clones_of_a_snap_are_listed_by_pool_and_id(pool: Pool, clone_id: str, clone_format: CloneFormat) -> None:
    """Those of format 2."""
    parent = pool.ancestry.find_parent(clone_id)
    assert parent
    listed = pool.ancestry.children(parent.image_id, parent.snap_id)
    assert listed == ([Child(pool.pool_id, clone_id)] if clone_format is CloneFormat.ALLOWED else [])
    assert pool.ancestry.children("none", 1) == []


def test_an_image_is_named_by_its_id_unless_it_is_in_the_trash(pool: Pool, image: str, clone_id: str) -> None:
    assert pool.images.find_name(clone_id) == f"{image}-clone"
    assert pool.images.find_name("none") is None
    pool.images.move_to_trash(f"{image}-clone")
    assert pool.images.find_name(clone_id) is None


def test_a_clone_that_lost_its_link_is_taken_off_the_list(pool: Pool, image: str, clone_id: str) -> None:
    """Whether it lives or is gone: librbd itself comes back to neither."""
    parent = pool.ancestry.find_parent(clone_id)
    assert parent
    pool.ancestry.drop_parent(clone_id)
    assert pool.ancestry.unlist_strays(parent) == 1
    assert pool.ancestry.children(parent.image_id, parent.snap_id) == []
    assert pool.ancestry.unlist_strays(parent) == 0
    pool.images.remove_snap(parent.image_id, SNAP)
    assert pool.images.snap_ids(parent.image_id) == ()
    assert pool.ancestry.unlist_strays(parent) == 0


def test_a_clone_that_is_gone_is_taken_off_the_list(pool: Pool, image: str, clone_id: str) -> None:
    parent = pool.ancestry.find_parent(clone_id)
    assert parent
    pool.ancestry.drop_parent(clone_id)
    pool.images.remove(f"{image}-clone")
    with suppress(ImageBusy):  # format 1
        pool.images.remove_snap(parent.image_id, SNAP)
    assert pool.images.snap_ids(parent.image_id) == (parent.snap_id,), "it is held"
    assert pool.ancestry.unlist_strays(parent) == 1
    pool.images.remove_snap(parent.image_id, SNAP)
    assert pool.images.snap_ids(parent.image_id) == ()


def test_a_clone_stays_on_the_list_while_it_or_a_snap_of_it_reads_through(
    pool: Pool, image: str, clone_id: str
) -> None:
    parent = pool.ancestry.find_parent(clone_id)
    assert parent
    assert pool.ancestry.unlist_strays(parent) == 0
    pool.images.cut(clone_id, SNAP, most=1)
    pool.images.flatten(clone_id, lambda _part: True)
    assert pool.ancestry.unlist_strays(parent) == 0
    assert pool.ancestry.is_listed(clone_id)
